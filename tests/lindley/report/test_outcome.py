"""What an update prints: what moved, conflict, error, time; and which batches are not counted."""

import pytest

from lindley.report.tables import highlights, marked, not_counted


def test_every_measured_figure_is_a_sentence(make_summary):
    summary = make_summary(["a", "b"], shift=[0.1, -2.5])
    metrics = {"conflict_p": 0.0412, "drift": 0.0123, "stated_error": 0.02}
    moved, conflict, error, time = highlights(metrics, summary, 3.21)
    assert moved.startswith("moved most: b by -2.50 sd, ")
    assert conflict == "conflict with the belief before: p = 0.041"
    assert error == "error: drift 0.012 sds, stated error 0.020 sds"
    assert time == "took 3.2 s; expect about as much for the next one"


def test_compilation_is_not_expected_again(make_summary):
    (time,) = highlights({}, make_summary(["a"], shift=[float("nan")]), 28.0, 25.5)
    assert time.startswith("took 28 s, 26 s of it to compile the model; expect about 2.5 s for the next one")
    (time,) = highlights({}, make_summary(["a"], shift=[float("nan")]), 28.0, 0.5)
    assert time == "took 28 s; expect about as much for the next one"


def test_what_is_not_measured_is_left_out(make_summary):
    assert highlights({}, make_summary(["a"], shift=[float("nan")])) == ()


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        (["a.csv"], "1 quarantined batch is not counted: a.csv"),
        (["a.csv", "b\n.csv"], "2 quarantined batches are not counted: a.csv, b .csv"),
        ([f"{i}" for i in range(7)], "7 quarantined batches are not counted: 0, 1, 2, 3, 4 and 2 more"),
    ],
)
def test_batches_that_do_not_count_are_named(files, wanted):
    assert not_counted(files) == wanted


def test_links_with_warnings_are_marked():
    assert marked("gate passed", 0) == "gate passed"
    assert marked("gate passed", 2) == "gate passed, 2 warnings"
