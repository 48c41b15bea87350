"""Invalid files: one paragraph, an exit code, nothing registered, the file kept."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from flows import environment
from flows.cli.__main__ import app
from flows.cli.output import USER_ERROR

MODELS = Path(__file__).parents[2] / "models"
GOOD = pd.DataFrame({"id": [1, 2], "k": [3, 4], "n": [10, 10]})


def parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    return buffer.getvalue()


CASES = {
    "a missing column": ("a.csv", b"id,k\n1,3\n", "'n'"),
    "a column too many": ("a.csv", b"id,k,n,when\n1,3,10,now\n", "'when'"),
    "text for a number": ("a.csv", b"id,k,n\n1,three,10\n", "three"),
    "a null where none is allowed": ("a.csv", b"id,k,n\n1,,10\n", "'k'"),
    "NaN where none is allowed": ("a.parquet", parquet(GOOD.assign(k=[3.0, float("nan")])), "'k'"),
    "the same row twice": ("a.csv", b"id,k,n\n1,3,10\n1,4,10\n", "id=1"),
    "an empty file": ("a.csv", b"", "empty"),
    "no rows": ("a.csv", b"id,k,n\n", "row"),
    "a truncated Parquet file": ("a.parquet", parquet(GOOD)[:-20], "Parquet"),
    "another encoding": ("a.csv", "id,k,n\n1,3,10\n# caf\u00e9\n".encode("latin-1"), "UTF-8"),
    "another kind of file": ("a.xlsx", b"PK\x03\x04", "csv"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_file_is_refused_and_kept(case, tmp_path, monkeypatch):
    name, content, word = CASES[case]
    monkeypatch.setenv("LINDLEY_HOME", str(tmp_path))
    monkeypatch.setenv("LINDLEY_MODELS", str(MODELS))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("LINDLEY_DATA", raising=False)
    # Prefect is imported in this process already; what `prepare` sets is tested in test_running.
    monkeypatch.setattr(environment, "prepare", lambda workspace, **_: workspace)
    path = tmp_path / name
    path.write_bytes(content)
    result = CliRunner().invoke(app, ["update", "beta_binomial", str(path), "--direct"])
    assert result.exit_code == USER_ERROR, result.output
    assert word in result.stderr
    assert "To do:" in result.stderr
    assert "Traceback" not in result.output
    assert path.read_bytes() == content
    assert not (tmp_path / "mlflow.db").exists()


def test_an_unknown_chain_is_refused_with_the_names_of_those_declared(tmp_path, monkeypatch):
    monkeypatch.setenv("LINDLEY_HOME", str(tmp_path))
    monkeypatch.setenv("LINDLEY_MODELS", str(MODELS))
    monkeypatch.setattr(environment, "prepare", lambda workspace, **_: workspace)
    path = tmp_path / "a.csv"
    GOOD.to_csv(path, index=False)
    result = CliRunner().invoke(app, ["update", "beta_bionomial", str(path), "--direct"])
    assert result.exit_code == USER_ERROR
    assert "beta_binomial" in result.stderr
    assert path.exists()
    assert not (tmp_path / "mlflow.db").exists()
