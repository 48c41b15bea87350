"""The fidelity benchmark itself: assessments of made-up rows, and a made-up case through the command."""

import csv
import json
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from benchmarks.fidelity import compare, run
from benchmarks.fidelity.cases import Reference
from benchmarks.fidelity.methods import METHODS, Outcome
from benchmarks.fidelity.simulations import row as simulated

NAN = float("nan")
NAMES = ("a", "b")


def rows(
    case: str = "one",
    mean: float = 0.01,
    ratio: float = 1.0,
    correlation: float = 0.01,
    flagged: bool = False,
) -> list[dict]:
    """Rows of Lindley in a case with the parameters `a` and `b`."""
    common = {"case": case, "batches": 2, "method": "lindley", "flagged": flagged}
    good = {"mean_error_sd": 0.0, "sd_ratio": 1.0, "q05_error_sd": 0.0, "q95_error_sd": 0.0}
    return [
        common | good | {"parameter": "a"},
        common | good | {"parameter": "b", "mean_error_sd": mean, "sd_ratio": ratio},
        common | {"parameter": compare.CORRELATION, "mean_error_sd": correlation, "sd_ratio": NAN},
    ]


class TestAssessment:
    @pytest.mark.parametrize(
        ("metrics", "regular", "word"),
        [
            ({}, True, "right"),
            ({"flagged": True}, True, "nuisance"),
            ({"mean": 0.11}, True, "defect"),
            ({"mean": 0.11}, False, "right"),
            ({"mean": 0.21}, False, "defect"),
            ({"mean": 0.21, "flagged": True}, False, "warned"),
            ({"ratio": 0.94}, True, "defect"),
            ({"ratio": 1.06}, True, "defect"),
            ({"ratio": 1.06}, False, "right"),
            ({"ratio": 0.89}, False, "defect"),
            ({"correlation": 0.06}, True, "defect"),
            ({"correlation": 0.06}, False, "right"),
            ({"mean": float("inf")}, False, "defect"),
            # A value that the reference lacks is not compared.
            ({"mean": NAN, "ratio": NAN, "correlation": NAN}, True, "right"),
        ],
    )
    def test_bars(self, metrics: dict, regular: bool, word: str) -> None:
        assert compare.assess(compare.summarise(rows(**metrics)), regular) == word

    def test_a_method_without_a_result_failed(self) -> None:
        summary = compare.summarise([compare.failed_row("one", 2, "lindley")])
        assert compare.assess(summary, True) == "failed"
        assert compare.assess(compare.summarise([]), True) == "failed"

    def test_defects_and_nuisances_are_counted(self) -> None:
        regular = {"fine": True, "wrong": True, "noisy": True, "warned": True, "hard": False, "lost": False}
        found = [
            *rows("fine"),
            *rows("wrong", mean=0.5),
            *rows("noisy", flagged=True),
            *rows("warned", mean=0.5, flagged=True),
            *rows("hard", mean=0.5, flagged=True),
            compare.failed_row("lost", 0, "lindley"),
            # Rows of other methods do not count.
            *(row | {"method": "marginal"} for row in rows("fine", mean=9.0)),
        ]
        counts = compare.count(found, regular)
        assert counts == compare.Counts(cases=6, right=1, defects=2, nuisances=1, warned=2, missed=1)


class TestRows:
    def test_errors_are_in_reference_sds(self) -> None:
        rng = np.random.default_rng(0)
        a = 1 + 2 * rng.standard_normal(200_000)
        draws = {"a": a, "b": 3 + 0.5 * (a - 1) / 2, "other": a}
        reference = Reference(
            names=NAMES,
            mean=np.array([2.0, 3.0]),
            sd=np.array([2.0, 1.0]),
            q05=np.array([-2.29, NAN]),
            q95=np.array([4.29, 3.82]),
            correlation=np.array([[1.0, 0.9], [0.9, 1.0]]),
        )
        case = SimpleNamespace(name="one", batches=(1, 2, 3), reference=reference)
        first, second, last = compare.rows_of(case, "pooled", Outcome(draws, (), 0.0))
        assert tuple(first) == compare.COLUMNS
        assert (first["case"], first["batches"], first["method"], first["flagged"]) == (
            "one",
            3,
            "pooled",
            False,
        )
        assert first["mean_error_sd"] == pytest.approx(0.5, abs=0.01)
        assert first["sd_ratio"] == pytest.approx(1.0, abs=0.01)
        assert first["q05_error_sd"] == pytest.approx(0.0, abs=0.02)
        assert second["sd_ratio"] == pytest.approx(0.5, abs=0.01)
        assert np.isnan(second["q05_error_sd"])
        assert last["parameter"] == "(correlation)"
        assert last["mean_error_sd"] == pytest.approx(0.1, abs=1e-6)

    def test_draws_that_are_not_finite_are_wrong(self) -> None:
        one = np.ones(1)
        reference = Reference(("a",), one, one, one, one, np.eye(1))
        case = SimpleNamespace(name="one", batches=(1,), reference=reference)
        found = compare.rows_of(case, "lindley", Outcome({"a": np.array([1.0, np.nan])}, (), 0.0))
        assert compare.assess(compare.summarise(found), True) == "defect"

    def test_a_parameter_that_the_model_lacks_is_named(self) -> None:
        one = np.ones(1)
        case = SimpleNamespace(
            name="one", batches=(1,), reference=Reference(("gone",), one, one, one, one, np.eye(1))
        )
        with pytest.raises(KeyError, match="gone"):
            compare.rows_of(case, "lindley", Outcome({"a": one}, (), 0.0))


def test_a_bar_is_met_between_its_ends() -> None:
    assert simulated("s", "lindley", 1, "f", 0.9, bar=(0.88, 1.0))["met"] is True
    assert simulated("s", "lindley", 1, "f", 0.87, bar=(0.88, 1.0))["met"] is False
    assert simulated("s", "lindley", 1, "f", float("nan"), bar=(0.88, 1.0))["met"] is False
    assert simulated("s", "lindley", 1, "f", 0.5)["met"] == ""


MODEL = '''
import pyarrow as pa
import pymc as pm
from lindley import Declaration

def build(batch):
    """y ~ Normal(a + b x, 1), a and b ~ Normal(0, 2)."""
    with pm.Model() as model:
        a, b = pm.Normal("a", 0, 2), pm.Normal("b", 0, 2)
        x = pm.Data("x", batch["x"].to_numpy())
        pm.Normal("y", a + b * x, 1, observed=pm.Data("observed", batch["y"].to_numpy()))
    return model

declaration = Declaration(
    name="made_up_line",
    build=build,
    schema=pa.schema([("row", pa.int64()), ("x", pa.float64()), ("y", pa.float64())]),
    row_key=("row",),
    observed=("y",),
)
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one case, whose reference is in closed form."""
    rng = np.random.default_rng(1)
    x = rng.normal(2.0, 1.0, 60)
    y = 1.0 - 0.5 * x + rng.standard_normal(60)
    design = np.column_stack([np.ones(60), x])
    covariance = np.linalg.inv(design.T @ design + np.eye(2) / 4)
    mean, sd = covariance @ design.T @ y, np.sqrt(np.diag(covariance))
    reference = {
        "param_order": list(NAMES),
        "params": {
            name: {"mean": m, "sd": s, "q05": m - 1.6449 * s, "q95": m + 1.6449 * s}
            for name, m, s in zip(NAMES, mean, sd, strict=True)
        },
        "corr": (covariance / np.outer(sd, sd)).tolist(),
    }
    spec = {
        "family": "gaussian linear regression",
        "splits": {"original": {"bounds": [0, 20, 40, 60]}},
    }
    case = tmp_path / "cases" / "line"
    case.mkdir(parents=True)
    pd.DataFrame({"x": x, "y": y}).to_parquet(case / "data.parquet")
    (case / "spec.json").write_text(json.dumps(spec))
    (case / "reference.json").write_text(json.dumps(reference))
    (case / "model.py").write_text(MODEL)
    return case.parent


def arguments(folder: Path, out: Path) -> list[str]:
    return [
        *("--cases", str(folder), "--out", str(out), "--jobs", "1"),
        *("--skip-simulations", "--skip-streams"),
    ]


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


class TestCommand:
    def test_a_case_runs_by_all_methods(self, folder: Path, tmp_path: Path, capsys) -> None:
        out = tmp_path / "results.csv"
        assert run.main(arguments(folder, out)) == 0
        found = read(out)
        assert list(found[0]) == list(compare.COLUMNS)
        assert [(row["method"], row["parameter"]) for row in found] == [
            (method, name) for method in METHODS for name in (*NAMES, "(correlation)")
        ]
        assert {row["batches"] for row in found} == {"3"}
        worst = {
            method: max(float(row["mean_error_sd"]) for row in found if row["method"] == method)
            for method in METHODS
        }
        assert worst["lindley"] < 0.1
        assert worst["prior_from_idata"] < 0.2
        # Intercept and slope correlate at -0.9, which independent marginals lose.
        assert worst["marginal"] > 0.2
        shown = capsys.readouterr().out
        assert "1 right, 0 defects" in shown
        assert "total time" in shown

    def test_a_broken_case_is_a_defect_and_others_go_on(self, folder: Path, tmp_path: Path, capsys) -> None:
        (folder / "line" / "model.py").write_text("declaration = 1\n")
        out = tmp_path / "results.csv"
        assert run.main(arguments(folder, out)) == 1
        assert [row["parameter"] for row in read(out)] == ["(failed)"] * len(METHODS)
        assert "1 defects" in capsys.readouterr().out

    @pytest.mark.parametrize("make", [False, True])
    def test_a_folder_without_cases_is_refused(self, make: bool, tmp_path: Path, capsys) -> None:
        if make:
            (tmp_path / "nowhere").mkdir()
        assert run.main(arguments(tmp_path / "nowhere", tmp_path / "results.csv")) == 2
        assert "nowhere" in capsys.readouterr().err

    def test_an_unknown_name_is_refused(self, folder: Path, tmp_path: Path, capsys) -> None:
        assert run.main([*arguments(folder, tmp_path / "results.csv"), "--only", "circle"]) == 2
        assert "circle" in capsys.readouterr().err


def test_a_quick_run_does_not_replace_the_results_of_a_full_one() -> None:
    assert run._options([]).out == run.RESULTS
    assert run._options(["--quick"]).out == run.QUICK_RESULTS
    assert run.QUICK_RESULTS.parent.name == ".benchmarks"
    assert run._options(["--quick", "--out", "x.csv"]).out == Path("x.csv")


@pytest.mark.parametrize("jobs", [1, 2])
def test_unfinished_work_is_stopped_and_counts_as_failed(jobs: int) -> None:
    lost = run.Part("case", "slow", failed=True)
    (found,) = run._work([(lost, partial(time.sleep, 600))], jobs, deadline=time.perf_counter())
    assert found is lost
    assert found.notes == ["not done in time (--minutes)"]
