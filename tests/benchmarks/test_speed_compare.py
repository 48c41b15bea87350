"""The comparison of the speed benchmark's results on two checkouts."""

from pathlib import Path

import pytest

from benchmarks.speed import compare, measure
from benchmarks.speed.measure import Row
from tests.benchmarks.test_speed import NAN, row


def stream(ours: float, rival: float = 8.0) -> list[Row]:
    """Rows of three links, whose times grow with the link."""
    links = range(1, 4)
    return [row("lindley", link, ours * link) for link in links] + [
        row("pymc_rebuilt", link, rival * link) for link in links
    ]


def test_ratios_are_medians_over_common_links_of_the_medians_of_runs() -> None:
    before = [*stream(1.0), *stream(3.0), *stream(2.0), row("gone"), row("quoted", process="quoted")]
    after = [*stream(2.2)[:2], row(link=3, seconds=60.0), row("new"), row("quoted", process="quoted")]
    # Links 1 and 2 have 2.2 times the link by 2 times the link; link 3 has an outlier.
    assert compare.ratios(before, after) == {("warm", "lindley", "warm"): pytest.approx(1.1)}
    assert compare.ratios([row(seconds=NAN)], [row()]) == {}


@pytest.mark.parametrize(
    ("ours", "rival", "code"),
    [
        (1.05, 8.0, 0),
        (1.2, 8.0, 1),
        # The whole machine is slower.
        (1.2, 9.6, 0),
    ],
)
def test_a_slower_lindley_is_reported(ours: float, rival: float, code: int, tmp_path: Path, capsys) -> None:
    for name, rows in (("before", stream(1.0)), ("after", stream(ours, rival))):
        measure.write(tmp_path / f"{name}.csv", rows)
    files = ["--before", str(tmp_path / "before.csv"), "--after", str(tmp_path / "after.csv")]
    assert compare.main(files) == code
    assert f"{ours:.2f}" in capsys.readouterr().out


def test_results_without_common_rows_are_refused(tmp_path: Path, capsys) -> None:
    measure.write(tmp_path / "one.csv", [row()])
    files = ["--before", str(tmp_path / "one.csv"), "--after", str(tmp_path / "none.csv")]
    assert compare.main(files) == 2
    assert "no rows in common" in capsys.readouterr().err
