"""The benchmark of panels: what it states of members, and when it fails."""

import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.panel import chain, engine, page, rivals, run
from benchmarks.panel.measured import COLUMNS, Measured, coverage_of
from benchmarks.panel.members import DECLARATION, MEANS, ROWS, SPREAD, TERMS, members
from lindley.batch.batch import batch_from_frame
from lindley.model.declaration import load_file
from lindley.panel.members import split

MINE = Measured("engine", "fit_members, auto", 1, 100, 2, 10.0, 20.0, ess=1000.0, match_ess=50_000.0)
CHAIN = replace(MINE, scenario="chain", method=chain.METHOD)
RIVAL = replace(MINE, method="nutpie, compiled once", match_ess=1000.0)


def test_members_are_simulated_from_the_prior_of_their_model_and_by_their_number() -> None:
    truths = np.array([one.truth for one in members(0, 4000)])
    error = SPREAD / np.sqrt(4000)
    assert np.abs(truths.mean(axis=0) - MEANS).max() < 4 * error
    assert np.abs(truths.std(axis=0) - SPREAD).max() < 4 * error / np.sqrt(2)
    (one,), (again,) = members(7, 8), members(7, 8)
    assert one.rows(1).equals(again.rows(1))
    assert not one.rows(1).equals(one.rows(2))
    batches = [batch_from_frame(one.rows(link), DECLARATION) for link in range(2)]
    assert [batch.rows for batch in batches] == [ROWS, ROWS]


def test_rates_follow_from_what_is_measured() -> None:
    row = MINE.as_row()
    assert tuple(row) == COLUMNS
    assert (row["cpu_ms_per_member"], row["members_per_second"]) == ("200", "10")
    assert (row["ess_per_cpu_second"], row["match_ess_per_cpu_second"]) == ("5000", "2.5e+05")


def test_coverage_has_the_error_of_independent_members() -> None:
    inside = np.array([[True] * 4] * 90 + [[False] * 4] * 10)
    share, error = coverage_of(inside)
    assert share == pytest.approx(0.9)
    assert error == pytest.approx(np.sqrt(0.9 * 0.1 / 99))


@pytest.mark.parametrize(
    ("mine", "rival", "code"),
    [
        (MINE, RIVAL, 0),
        (replace(MINE, failed=1), RIVAL, 1),
        (replace(MINE, match_ess=4900.0), RIVAL, 1),
        (replace(CHAIN, calls=61), RIVAL, 1),
        (replace(CHAIN, peak_mb=4000.0), RIVAL, 1),
        (replace(CHAIN, seconds=31.0, note="1% of 100 members"), RIVAL, 1),
        (replace(CHAIN, coverage=0.8, coverage_se=0.01), RIVAL, 1),
    ],
)
def test_a_failed_member_and_a_slow_engine_fail_the_benchmark(
    mine: Measured, rival: Measured, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def members_of(count: int, links: int, jobs: int, method: str) -> list[Measured]:
        asked.append((count, links, jobs, method))
        return [mine]

    whole = mine if mine.scenario == "chain" else CHAIN
    mine = mine if mine.scenario == "engine" else MINE
    monkeypatch.setattr(engine, "run", members_of)
    monkeypatch.setattr(chain, "run", lambda *_: [whole])
    monkeypatch.setattr(rivals, "run", lambda method, count: replace(rival, method=method))
    out = tmp_path / "results.csv"
    assert run.main(["--members", "9", "--jobs", "1", "--out", str(out)]) == code
    assert asked == [(9, run.LINKS, 1, "auto"), (9, run.LINKS, 1, "nuts")]
    with out.open() as file:
        methods = [row["method"] for row in csv.DictReader(file)]
    assert methods == [CHAIN.method, MINE.method, MINE.method, *rivals.METHODS]


def test_methods_that_are_not_run_keep_their_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "run", lambda *_: [MINE])
    monkeypatch.setattr(chain, "run", lambda *_: [CHAIN])
    monkeypatch.setattr(rivals, "run", lambda method, count: replace(RIVAL, method=method, members=count))
    out = tmp_path / "results.csv"
    run.main(["--out", str(out), "--members", "3"])
    run.main(["--out", str(out), "--members", "4", "--only", "pm.sample a key"])
    with out.open() as file:
        rows = {row["method"]: row["members"] for row in csv.DictReader(file)}
    assert rows == {
        CHAIN.method: "100",
        MINE.method: "100",
        "nutpie, compiled once": "3",
        "pm.sample a key": "4",
    }


def test_the_chain_of_the_benchmark_has_the_rows_of_its_members(tmp_path: Path) -> None:
    declaration = load_file(chain.MODEL)
    assert (declaration.by, declaration.policy.sampler) == (("key",), "auto")
    batch = batch_from_frame(chain.rows(3, 1), declaration)
    assert len(split(batch.table, declaration)) == 3
    # The terms and the prior are those of the members that are simulated.
    model = declaration.build(members_rows := chain.rows(1, 0))
    assert members_rows.drop(columns="key").equals(next(members(0, 1)).rows(0))
    assert model.coords["term"] == TERMS
    assert np.array_equal(model["b"].owner.inputs[2].eval(), MEANS)


def test_calls_are_counted_once_from_outside() -> None:
    class Client:
        def one(self) -> str:
            return self.two()

        def two(self) -> str:
            return "done"

    calls: Counter[str] = Counter()
    chain._count(Client, calls)
    assert Client().one() + Client().two() == "donedone"
    assert calls == {"one": 1, "two": 1}


def test_the_page_has_the_tables_of_the_results(tmp_path: Path) -> None:
    readme, results = tmp_path / "README.md", tmp_path / "results.csv"
    readme.write_text(f"# Panel\n{page.FIRST}\nold\n{page.LAST}\nend\n")
    run._write(results, [CHAIN, MINE])
    page.write(readme, results)
    text = readme.read_text()
    assert "old" not in text
    assert text.endswith("\nend\n")
    assert "| 1 | 100 | 10 | 200 |" in text
    assert "| fit_members, auto | 1 | 100 | 200 | 1,000 | 50,000 |" in text
    page.write(readme, results)
    assert readme.read_text() == text
