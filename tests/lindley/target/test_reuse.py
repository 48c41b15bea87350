"""Targets of models that were seen before: the same numbers as a target derived anew, or no reuse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest

from lindley.model.declaration import Declaration
from lindley.model.graph import ModelGraph, take_apart
from lindley.target import density, reuse, term
from lindley.target.density import Target, target
from lindley.target.term import Term

Build = Callable[[pd.DataFrame], pm.Model]


@pytest.fixture(autouse=True)
def nothing_known() -> Iterator[None]:
    reuse._known.clear()
    yield
    reuse._known.clear()


def frame(seed: int, rows: int = 12) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"id": range(rows), "x": rng.normal(size=rows), "y": rng.normal(size=rows)})


def with_data(batch: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        b = pm.Normal("b", 0, 2, shape=2)
        s = pm.HalfNormal("s", 1)
        x, y = pm.Data("x", batch["x"].to_numpy()), pm.Data("y_seen", batch["y"].to_numpy())
        pm.Deterministic("twice", 2 * b[1])
        pm.Normal("y", b[0] + b[1] * x, s, observed=y)
    return model


def with_constants(batch: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        b = pm.Normal("b", 0, 2, shape=2)
        pm.Normal("y", b[0] + b[1] * batch["x"].to_numpy(), 1.0, observed=batch["y"].to_numpy())
    return model


def with_bounds_and_local(batch: pd.DataFrame) -> pm.Model:
    with pm.Model(coords={"row": batch["id"]}) as model:
        p = pm.Uniform("p", -3, 3)
        w = pm.Dirichlet("w", np.ones(3))
        local = pm.Normal("local", p, 1, dims="row")
        pm.Normal("y", local + w[0], 1.0, observed=pm.Data("y_seen", batch["y"].to_numpy()))
    return model


def with_potential(batch: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        b = pm.Normal("b", 0, 2)
        pm.Potential("tilt", -0.1 * b**2)
        pm.Normal("y", b, 1.0, observed=pm.Data("y_seen", batch["y"].to_numpy()))
    return model


def declared(build: Build) -> Declaration:
    return Declaration(
        name="tried",
        build=build,
        schema=pa.schema([("id", pa.int64()), ("x", pa.float64()), ("y", pa.float64())]),
        row_key=("id",),
        observed=("y",),
        potentials={"tilt": "prior"} if build is with_potential else {},
    )


def taken(build: Build, batch: pd.DataFrame) -> ModelGraph:
    model = build(batch)
    carried = tuple(rv.name for rv in model.free_RVs if rv.name != "local")
    return take_apart(declared(build), model, carried)


def counted(monkeypatch: pytest.MonkeyPatch, module: Any) -> list[str]:
    """Count derivations."""
    calls, derive = [], module._derived

    def derived(*args: Any, **options: Any) -> Any:
        calls.append("derived")
        return derive(*args, **options)

    monkeypatch.setattr(module, "_derived", derived)
    return calls


def evaluated(made: Target | Term) -> list[np.ndarray]:
    """Evaluate all functions at a point that is not the origin."""
    function = pytensor.function(
        list(made.inputs), made.outputs, mode="FAST_COMPILE", on_unused_input="ignore"
    )
    point = [value + 0.1 if value.dtype.kind == "f" else value for value in made.example]
    return [np.asarray(value) for value in function(*point, *made.data_values)]


BUILDS = [with_data, with_constants, with_bounds_and_local, with_potential]


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("kind", [{"genesis": True}, {"genesis": False}, {"genesis": False, "robust": True}])
def test_a_reused_target_is_the_one_that_would_be_derived(
    build: Build, kind: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = counted(monkeypatch, density)
    target(taken(build, frame(1)), **kind)
    found = target(taken(build, frame(2)), **kind)
    assert len(calls) == 1
    assert (found.inlined > 0) == (build is with_constants)
    reuse._known.clear()
    wanted = target(taken(build, frame(2)), **kind)
    assert len(calls) == 2
    assert (found.digest, found.inlined) == (wanted.digest, wanted.inlined)
    for one, two in zip(found.data_values, wanted.data_values, strict=True):
        np.testing.assert_array_equal(one, two)
    for one, two in zip(evaluated(found), evaluated(wanted), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("build", BUILDS)
def test_a_reused_term_is_the_one_that_would_be_derived(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = counted(monkeypatch, term)
    term.term(taken(build, frame(1)))
    found = term.term(taken(build, frame(2)))
    assert len(calls) == 1
    reuse._known.clear()
    wanted = term.term(taken(build, frame(2)))
    assert found.digest == wanted.digest
    for one, two in zip(evaluated(found), evaluated(wanted), strict=True):
        np.testing.assert_array_equal(one, two)


def test_data_in_pm_data_may_change_their_length(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counted(monkeypatch, density)
    target(taken(with_data, frame(1, 12)), genesis=False)
    found = target(taken(with_data, frame(1, 40)), genesis=False)
    assert len(calls) == 1
    assert [len(value) for value in found.data_values] == [40, 40]


def test_first_links_later_ones_and_mixtures_are_kept_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counted(monkeypatch, density)
    for genesis, robust in ((True, False), (False, False), (False, True)):
        target(taken(with_data, frame(1)), genesis=genesis, robust=robust)
    assert len(calls) == 3


def scaled(sd: float, name: str = "b", transform: Any = None) -> Build:
    def build(batch: pd.DataFrame) -> pm.Model:
        with pm.Model() as model:
            b = pm.Normal(name, 0, sd, default_transform=transform)
            pm.Normal("y", b, 1.0, observed=pm.Data("y_seen", batch["y"].to_numpy()))
        return model

    return build


def rows_as_number(batch: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        b = pm.Normal("b", 0, 1)
        pm.Normal("y", b / len(batch), 1.0, observed=pm.Data("y_seen", batch["y"].to_numpy()))
    return model


def folded(batch: pd.DataFrame) -> pm.Model:
    """The data are summed up before the model sees them."""
    with pm.Model() as model:
        b = pm.Normal("b", 0, 1)
        pm.Normal("y", b, 1.0, observed=np.array([batch["y"].sum()]))
    return model


def hidden(batch: pd.DataFrame) -> pm.Model:
    """The density knows the data from outside of the graph."""
    values = batch["y"].to_numpy()
    with pm.Model() as model:
        b = pm.Normal("b", 0, 1)
        pm.CustomDist("y", b, logp=lambda value, mu: -0.5 * pt.sum((values - mu) ** 2) + 0 * value.sum(),
                      observed=np.zeros(1))  # fmt: skip
    return model


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (scaled(1.0), scaled(2.0)),
        (scaled(1.0), scaled(1.0, name="c")),
        (scaled(1.0), scaled(1.0, transform=pm.distributions.transforms.Interval(-5, 5))),
        (
            scaled(1.0, transform=pm.distributions.transforms.Interval(-5, 5)),
            scaled(1.0, transform=pm.distributions.transforms.Interval(-5, 6)),
        ),
    ],
)
def test_another_model_is_derived_anew(one: Build, two: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counted(monkeypatch, density)
    target(taken(one, frame(1)), genesis=True)
    target(taken(two, frame(1)), genesis=True)
    assert len(calls) == 2


@pytest.mark.parametrize("build", [rows_as_number, folded, hidden])
def test_what_the_batch_changes_beside_data_is_never_taken_from_another_batch(build: Build) -> None:
    target(taken(build, frame(1, 12)), genesis=True)
    found = target(taken(build, frame(2, 13)), genesis=True)
    reuse._known.clear()
    wanted = target(taken(build, frame(2, 13)), genesis=True)
    for one, two in zip(evaluated(found), evaluated(wanted), strict=True):
        np.testing.assert_array_equal(one, two)


def test_what_is_known_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reuse, "_KEEP", 2)
    for sd in (1.0, 2.0, 3.0):
        target(taken(scaled(sd), frame(1)), genesis=True)
    assert len(reuse._known) == 2
