"""The structure of a model: the same for other rows, another for other code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest

from lindley.model.structure import structure

ROWS = np.array([0.5, 1.5, 2.5])


def model(
    rows: Any = ROWS,
    *,
    scale: float = 1.0,
    name: str = "b",
    likelihood: Any = pm.Normal,
    swapped: bool = False,
) -> Any:
    """A regression, or a neighbour of it."""
    with pm.Model(coords={"k": ["one", "two"]}) as made:
        data = pm.Data("x", np.asarray(rows))
        b = pm.Normal(name, 0, scale, dims="k")
        s = pm.HalfNormal("s", 2.0)
        first, second = (b[1], b[0]) if swapped else (b[0], b[1])
        mu = pm.Deterministic("mu", first + second * data)
        likelihood("y", mu, s, observed=pm.Data("z", np.asarray(rows) * 2.0))
    return made


def test_other_rows_have_the_same_structure() -> None:
    wanted = structure(model())
    assert structure(model()) == wanted
    assert structure(model([1.0, 2.0])) == wanted
    assert structure(model([9.0])) == wanted
    assert structure(model(np.arange(50.0))) == wanted


@pytest.mark.parametrize(
    "change",
    [
        {"scale": 0.5},
        {"scale": 1.0 + 1e-6},
        {"name": "c"},
        {"likelihood": pm.Laplace},
        {"swapped": True},
        {"rows": np.array([1, 2])},
    ],
    ids=repr,
)
def test_other_code_has_another(change: dict[str, Any]) -> None:
    assert structure(model(**change)) != structure(model())


def test_what_another_processor_rounds_is_no_difference() -> None:
    assert structure(model(scale=0.1 * (1 + 1e-15))) == structure(model(scale=0.1))


def custom(weight: float, inner: float) -> Any:
    """A model with a distribution and a loop of its own, and a potential."""

    def logp(value: Any, mu: Any) -> Any:
        return -weight * (value - mu) ** 2

    import pytensor

    with pm.Model() as made:
        a = pm.Normal("a")
        pm.CustomDist("y", a, logp=logp, observed=ROWS)
        path = pytensor.scan(lambda x, last: last * inner + x, [pt.arange(3.0)], [a], return_updates=False)
        pm.Potential("p", path.sum())
        pm.Mixture("m", [0.5, 0.5], [pm.Normal.dist(a, 1), pm.Normal.dist(0, 1)], observed=ROWS)
    return made


def test_log_densities_and_inner_graphs_count() -> None:
    wanted = structure(custom(1.0, 0.5))
    assert structure(custom(1.0, 0.5)) == wanted
    assert structure(custom(2.0, 0.5)) != wanted
    assert structure(custom(1.0, 0.25)) != wanted
