"""Draws of a model's own prior are shared between models whose priors are the same, and only those."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm
import pytest

from lindley.model import graph as graphs
from lindley.model.declaration import Declaration
from lindley.model.graph import take_apart
from lindley.model.priors import prior_coordinates
from lindley.target import problem

SCHEMA = pa.schema([pa.field("id", pa.int64(), nullable=False), pa.field("y", pa.float64(), nullable=False)])


def drawn(build, y, carried=("b",)) -> np.ndarray:
    frame = pd.DataFrame({"id": np.arange(len(y)), "y": np.asarray(y, dtype=float)})
    declaration = Declaration(name="chain", build=build, schema=SCHEMA, row_key=("id",))
    graph = take_apart(declaration, graphs.build(declaration, frame), carried)
    found = problem._drawn(graph)
    # Kept draws are those that would be drawn.
    assert np.array_equal(found, prior_coordinates(graph, size=len(found), seed=0))
    return found


def plain(batch):
    with pm.Model(coords={"term": ["one", "two"]}) as model:
        b = pm.Normal("b", 0, 2, dims="term")
        pm.Normal("y", b.sum(), 1, observed=batch["y"].to_numpy())
    return model


def centred(batch):
    """The prior's middle is that of the rows."""
    with pm.Model() as model:
        b = pm.Normal("b", float(batch["y"].mean()), 2)
        pm.Normal("y", b, 1, observed=batch["y"].to_numpy())
    return model


def scaled(batch):
    """Data of the model are part of its prior."""
    with pm.Model() as model:
        b = pm.Normal("b", 0, pm.Data("scale", batch["y"].to_numpy()).max())
        pm.Normal("y", b, 1, observed=batch["y"].to_numpy())
    return model


def test_other_rows_have_the_same_draws() -> None:
    assert np.array_equal(drawn(plain, [1.0, 2.0, 3.0]), drawn(plain, [4.0]))


def terms(batch):
    """A prior whose length is that of a dimension, beside data."""
    with pm.Model(coords={"term": ["one", "two"]}) as model:
        b = pm.Normal("b", np.array([0.5, -0.5]), pm.Data("sd", [1.0, 2.0]), dims="term")
        pm.Normal("y", pm.math.stack([batch["y"].to_numpy()] * 2, axis=1) @ b, 1, observed=batch["y"])
    return model


def test_a_prior_of_the_same_numbers_is_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A panel draws once for all of its members, also where dimensions and data are in the prior."""
    calls: list[int] = []

    def counted(graph, *, size: int, seed: int):
        calls.append(size)
        return prior_coordinates(graph, size=size, seed=seed)

    monkeypatch.setattr(problem, "prior_coordinates", counted)
    assert np.array_equal(drawn(terms, [1.0, 2.0, 3.0]), drawn(terms, [4.0]))
    assert len(calls) == 1


@pytest.mark.parametrize("build", [centred, scaled])
def test_a_prior_that_depends_on_the_rows_has_its_own(build) -> None:
    one, other = drawn(build, [1.0, 2.0, 3.0]), drawn(build, [4.0, 8.0])
    assert not np.array_equal(one, other)


def test_changing_what_is_returned_changes_no_later_draws() -> None:
    first = drawn(plain, [1.0])
    first[:] = 0.0
    assert drawn(plain, [1.0]).any()


def test_shapes_by_labels_are_those_that_a_model_evaluates() -> None:
    with pm.Model(coords={"group": list("abc"), "term": [0, 1]}) as model:
        pm.HalfNormal("sigma", 1, dims=("group", "term"))
        pm.ZeroSumNormal("effect", dims="group")
        pm.Dirichlet("share", np.ones(3), dims="group")
        pm.Normal("free", 0, 1, shape=4)
    wanted = {name: tuple(int(n) for n in shape) for name, shape in model.eval_rv_shapes().items()}
    assert graphs.shapes_of(model) == wanted
    assert graphs._labelled_shapes(model, model["sigma"])
    assert not graphs._labelled_shapes(model, model["effect"])
