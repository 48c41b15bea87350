"""What grows with rows times draws is thinned to a budget, or refused before the fit."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm
import pytest

from lindley.errors import ModelRefused
from lindley.inference.inputs import require_memory
from lindley.inference.sampling import FitSettings
from lindley.inference.trace import PREDICTIVE_NUMBERS, _predicted
from lindley.model.declaration import Declaration
from lindley.model.graph import build, take_apart
from lindley.target.quantities import MOST_ELEMENTS, kept_deterministics


def large(batch: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        slope = pm.Normal("slope")
        mean = pm.Deterministic("mean", slope * pm.Data("x", batch["x"].to_numpy()))
        pm.Deterministic("end", mean[-1])
        pm.Deterministic("doubled", 2 * mean)
        pm.Normal("y", mean, 1, observed=pm.Data("v", batch["x"].to_numpy()))
    return model


def graph_of(rows: int, carry: dict[str, str]) -> Any:
    schema = pa.schema([pa.field("x", pa.float64(), nullable=False)])
    declaration = Declaration(name="large", build=large, schema=schema, row_key=("x",), carry=carry)
    model = build(declaration, pd.DataFrame({"x": np.arange(float(rows))}))
    return take_apart(declaration, model, ("slope",))


def test_large_deterministics_are_not_computed_at_every_draw_unless_they_carry_state() -> None:
    assert [d.name for d in kept_deterministics(graph_of(10, {}))] == ["mean", "end", "doubled"]
    assert [d.name for d in kept_deterministics(graph_of(MOST_ELEMENTS + 1, {}))] == ["end"]
    kept = kept_deterministics(graph_of(MOST_ELEMENTS + 1, {"slope": "doubled"}))
    assert [d.name for d in kept] == ["end", "doubled"]


@pytest.mark.parametrize(("rows", "draws"), [(100, 500), (10_000, 209), (PREDICTIVE_NUMBERS // 9, 0)])
def test_the_posterior_predictive_is_thinned_to_its_budget(rows: int, draws: int) -> None:
    problem: Any = SimpleNamespace(graph=graph_of(rows, {}))
    quantities = SimpleNamespace(values={"slope": np.zeros((4, 200))})
    found = _predicted(problem, SimpleNamespace(quantities=quantities), ["y"], seed=1)  # type: ignore[arg-type]
    assert {name: (v.shape, v.dtype) for name, v in found.items()} == (
        {"y": ((draws, rows), np.dtype("float32"))} if draws else {}
    )


def test_a_model_whose_draws_do_not_fit_is_refused_before_it_is_sampled() -> None:
    require_memory(1_000, FitSettings())
    with pytest.raises(ModelRefused, match=r"at most 4 GiB.*6,000 draws of 100,000 values"):
        require_memory(100_000, FitSettings())
