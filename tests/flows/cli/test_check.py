"""`lindley check` on the command line: a real model, no ledger, no sampler."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from flows import environment
from flows.cli.__main__ import app

MODEL = """
import numpy as np
import pyarrow as pa
import pymc as pm

from lindley import Declaration


def build(batch):
    x = batch["x"].to_numpy()
    with pm.Model() as model:
        b = pm.Normal("b", 0, 1)
        pm.Normal("y", b * ((x - x.mean()) / x.std()), 1, observed=batch["y"].to_numpy())
        pm.CustomDist("z", b, logp=lambda v, b: -0.5 * (v - b) ** 2, observed=batch["y"].to_numpy())
    return model


declaration = Declaration(
    name="scaled", build=build, row_key=("id",), observed=("y",),
    schema=pa.schema([("id", pa.int64()), ("x", pa.float64()), ("y", pa.float64())]),
)
"""


@pytest.fixture
def scaled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a model that standardises each batch by its own numbers, and a batch."""
    monkeypatch.setenv("LINDLEY_HOME", str(tmp_path))
    monkeypatch.setattr(environment, "prepare", lambda workspace, quiet=False: workspace)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "scaled.py").write_text(MODEL)
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"id": range(12), "x": rng.normal(3, 2, 12), "y": rng.normal(size=12)})
    frame.to_csv(tmp_path / "b.csv", index=False)
    return tmp_path


def test_check_without_a_ledger(scaled: Path):
    before = sorted(scaled.rglob("*"))
    result = CliRunner().invoke(app, ["check", "scaled", str(scaled / "b.csv"), "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["carried"] == {"b": 1}
    assert found["rows"]["add_up"] is False
    assert found["rows"]["why"][0].startswith(
        "y: column x enters y centred and scaled by the batch's own numbers"
    )
    assert found["not_drawn"] == {"z": "its distribution has no random function"}
    assert found["predicted"] == ["y"]
    assert set(found["ranges"]["y"]) == {"prior predictive", "data"}
    assert sorted(scaled.rglob("*")) == before


def test_check_needs_a_batch(scaled: Path):
    result = CliRunner().invoke(app, ["check", "scaled", "--json"])
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]["happened"] == "There is no batch of scaled to check"
