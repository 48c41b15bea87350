"""The derivation of reference posteriors from draws, on draws of a known normal."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks.fidelity import references
from benchmarks.fidelity.cases import CASES, Reference, load_reference

MEAN, SD, CORRELATION = np.array([1.0, -3.0]), np.array([2.0, 0.5]), 0.8


def exact() -> Reference:
    reach = stats.norm.ppf(0.95)
    correlation = np.array([[1.0, CORRELATION], [CORRELATION, 1.0]])
    return Reference(("a", "b[1]"), MEAN, SD, MEAN - reach * SD, MEAN + reach * SD, correlation)


def drawn(seed: int, count: int = 10_000) -> pd.DataFrame:
    z = np.random.default_rng(seed).standard_normal((count, 2)) @ np.linalg.cholesky(exact().correlation).T
    return pd.DataFrame(MEAN + SD * z, columns=["a", "b[1]"]).assign(chain=0)


def case(folder: Path, reference: Reference) -> None:
    """Write the reference of a case."""
    columns = zip(reference.mean, reference.sd, reference.q05, reference.q95, strict=True)
    params = [dict(zip(("mean", "sd", "q05", "q95"), column, strict=True)) for column in columns]
    document = {
        "param_order": list(reference.names),
        "params": dict(zip(reference.names, params, strict=True)),
        "corr": reference.correlation.tolist(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "reference.json").write_text(json.dumps(document))


def test_differences_are_in_standard_errors() -> None:
    """The larger error of two parameters has its theoretical distribution over 200 samples."""
    found = []
    for seed in range(200):
        draws = drawn(seed, 2000)
        found.append(references.differences(exact(), references.derive(draws, exact().names), draws))
    for kind, values in pd.DataFrame(found).items():
        # The larger of two absolute standard normals that correlate at 0.64 to 1: median 0.67 to 1.05.
        assert 0.55 < values.median() < 1.15, kind
        assert 2.0 < values.max() < references.MOST, kind


@pytest.mark.parametrize("moved", ["mean", "sd", "q05", "q95", "correlation"])
def test_a_reference_that_disagrees_with_its_draws_is_found(moved: str, tmp_path: Path, capsys) -> None:
    (tmp_path / "draws" / "one").mkdir(parents=True)
    drawn(0).to_parquet(tmp_path / "draws" / "one" / "draws.parquet")
    command = [str(tmp_path / "draws"), "--cases", str(tmp_path / "cases")]
    case(tmp_path / "cases" / "one", exact())
    assert references.main(command) == 0
    values = {name: getattr(exact(), name) for name in ("names", "mean", "sd", "q05", "q95", "correlation")}
    shift = -0.1 if moved == "correlation" else 0.2
    case(tmp_path / "cases" / "one", Reference(**values | {moved: values[moved] + shift}))
    assert references.main(command) == 1
    assert "one: 10,000 draws" in capsys.readouterr().out


def test_a_folder_without_draws_is_refused(tmp_path: Path, capsys) -> None:
    assert references.main([str(tmp_path)]) == 2
    assert "draws.parquet" in capsys.readouterr().err


def test_the_references_hold_what_the_comparison_reads_and_no_draws() -> None:
    for path in sorted(CASES.glob("*/spec.json")):
        reference = load_reference(path.parent)
        assert (reference.sd > 0).all()
        assert (reference.q05 < reference.q95).all()
        assert np.isfinite(reference.correlation).all()
    assert list(CASES.rglob("draws*")) == []
