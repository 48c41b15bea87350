"""Models with plain arrays have one graph for batches of all lengths, and the same density."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm
import pytensor.tensor as pt
import pytest

from lindley.batch.batch import Batch, batch_from_frame
from lindley.model.declaration import Declaration
from lindley.model.free_lengths import freed
from lindley.model.graph import ModelGraph, build, take_apart
from lindley.target import engine
from lindley.target.density import target
from lindley.target.prepare import prepare

SCHEMA = pa.schema([("id", pa.int64()), ("g", pa.int64()), ("x", pa.float64()), ("y", pa.float64())])
KNOTS = np.linspace(-2, 2, 9)


def frame(rows: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng([seed, rows])
    x = rng.normal(size=rows)
    return pd.DataFrame({"id": range(rows), "g": rng.integers(0, 3, rows), "x": x, "y": x + 1})


def line(b: pd.DataFrame) -> None:
    slope, sd = pm.Normal("slope", 0, 1), pm.HalfNormal("sd", 1)
    mean = pm.Deterministic("mean", slope * b["x"].to_numpy())
    pm.Normal("y", mean, sd, observed=b["y"].to_numpy())


def groups(b: pd.DataFrame) -> None:
    level = pm.Normal("level", 0, 1, dims="group")
    pm.Normal("y", level[b["g"].to_numpy()], 1.0, observed=b["y"].to_numpy(), dims="row")


def design(b: pd.DataFrame) -> None:
    weights = pm.Normal("weights", 0, 1, shape=2)
    matrix = np.column_stack([np.ones(len(b)), b["x"]])
    pm.Normal("y", matrix @ weights, 1.0, observed=b["y"].to_numpy())


def fixed_array(b: pd.DataFrame) -> None:
    bend = pm.Normal("bend", 0, 1, shape=len(KNOTS))
    basis = pt.maximum(pt.as_tensor(b["x"].to_numpy())[:, None] - KNOTS[None, :], 0)
    pm.Normal("y", basis @ bend, 1.0, observed=b["y"].to_numpy())


def censored(b: pd.DataFrame) -> None:
    mean = pm.Normal("mean", 0, 1)
    pm.Censored("y", pm.Normal.dist(mean, 1), lower=None, upper=2.0, observed=b["y"].clip(upper=2).to_numpy())


def both(b: pd.DataFrame) -> None:
    corr = pm.Uniform("corr", -0.9, 0.9)
    cov = pt.stacklists([[1.0, corr], [corr, 1.0]])
    pm.MvNormal("xy", np.zeros(2), cov, observed=b[["x", "y"]].to_numpy())


def mixture(b: pd.DataFrame) -> None:
    weights, means = pm.Dirichlet("weights", np.ones(2)), pm.Normal("means", [-1, 1], 1)
    pm.NormalMixture("y", weights, means, 1.0, observed=b["y"].to_numpy())


def potential(b: pd.DataFrame) -> None:
    rate = pm.Exponential("rate", 1)
    pm.Potential("waiting", pm.logp(pm.Exponential.dist(rate), np.abs(b["y"].to_numpy())).sum())


def loop(b: pd.DataFrame) -> None:
    slope = pm.Normal("slope", 0, 1)
    for i, y in enumerate(b["y"]):
        pm.Normal(f"y{i}", slope, 1.0, observed=np.array([y]))


def strict(b: pd.DataFrame) -> None:
    if b["id"].duplicated().any():
        raise ValueError("a row twice")
    line(b)


def local(b: pd.DataFrame) -> None:
    each = pm.Normal("each", pm.Normal("mean", 0, 1), 1, shape=len(b))
    pm.Normal("y", each, 1.0, observed=b["y"].to_numpy())


def declared(body: Callable[[pd.DataFrame], None]) -> Declaration:
    def built(batch: pd.DataFrame) -> pm.Model:
        with pm.Model(coords={"group": list("abc"), "row": batch.index}) as model:
            body(batch)
        return model

    return Declaration(
        name="arrays",
        build=built,
        schema=SCHEMA,
        row_key=("id",),
        potentials={"waiting": "likelihood"} if body is potential else {},
    )


def taken(declaration: Declaration, rows: int) -> ModelGraph:
    table = frame(rows)
    model = build(declaration, table)
    carried = tuple(rv.name for rv in model.free_RVs if rv.name != "each")
    return freed(take_apart(declaration, model, carried), table, None, None)


@pytest.mark.parametrize("body", [line, groups, design, fixed_array, censored, both, mixture, potential])
def test_one_graph_serves_all_lengths_with_the_same_density(body: Callable[[pd.DataFrame], None]) -> None:
    declaration, digests = declared(body), set()
    for rows in (5, 12, 1, 30):
        graph = taken(declaration, rows)
        assert graph.sized == ""
        assert graph.unsized is not None
        digests.add(target(graph, genesis=True).digest)
        own, free = graph.model, graph.unsized.model
        point = own.initial_point(random_seed=1)
        densities = [
            model.compile_logp(mode="FAST_COMPILE", sum=False)({name: point[name] + 0.1 for name in point})
            for model in (own, free)
        ]
        totals = [sum(float(np.sum(term)) for term in terms) for terms in densities]
        assert totals[0] == pytest.approx(totals[1], rel=1e-12)
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (loop, "its graph depends on the number of rows"),
        (strict, "it cannot be built from its rows twice over (ValueError)"),
        (local, "free variables grow with the rows"),
    ],
)
def test_what_cannot_be_freed_says_why(body: Callable[[pd.DataFrame], None], why: str) -> None:
    graph = taken(declared(body), 12)
    assert graph.unsized is None
    assert graph.compilable is graph
    assert graph.sized == why


def test_ten_batches_of_ten_lengths_compile_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compilations: list[str] = []
    real = engine._compile

    def counted(graph: engine.Graph, name: str) -> engine.Function:
        compilations.append(name)
        return real(graph, name)

    monkeypatch.setattr(engine, "_compile", counted)
    monkeypatch.setattr(engine, "_compiled", [])
    declaration = declared(line)
    for rows in (3, 5, 8, 1, 13, 21, 34, 55, 89, 144):
        batch: Batch = batch_from_frame(frame(rows), declaration)
        problem = prepare(None, [batch], declaration, ("slope", "sd"), lambda _: nullcontext())
        assert problem.inlined == 0
        x = np.array([[0.3, -0.2]])
        value = problem.bound.log_densities(x)[0][0]
        sd, table = np.exp(-0.2), batch.frame()
        exact = pm.logp(pm.Normal.dist(0.3 * table["x"].to_numpy(), sd), table["y"].to_numpy()).sum().eval()
        exact += (pm.logp(pm.Normal.dist(0, 1), 0.3) + pm.logp(pm.HalfNormal.dist(1), sd)).eval() - 0.2
        assert value == pytest.approx(exact, rel=1e-12)
    assert sorted(compilations) == ["log_density", "quantities"]
