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
from lindley.target.term import term

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


def walk(b: pd.DataFrame) -> None:
    begin = pm.Normal.dist(0, 1)
    each = pm.GaussianRandomWalk("each", sigma=pm.HalfNormal("sd", 1), init_dist=begin, steps=len(b) - 1)
    pm.Normal("y", each, 1.0, observed=b["y"].to_numpy())


def lags(b: pd.DataFrame) -> None:
    rho = pm.Normal("rho", 0, 0.5, shape=1)
    each = pm.AR("each", rho=rho, sigma=1, init_dist=pm.Normal.dist(0, 1), steps=len(b) - 1)
    pm.Normal("y", each, 1.0, observed=b["y"].to_numpy())


def inner_graphs(b: pd.DataFrame) -> None:
    """PyTensor's `logaddexp` and `diag` are operations with a graph of their own."""
    rate = pm.Normal("rate", 0, 1)
    wide = pt.diag(pt.exp(b["x"].to_numpy() * 0.1 * rate)).sum(axis=0)
    pm.Potential("waiting", pt.logaddexp(pm.logp(pm.Normal.dist(rate, wide), b["y"].to_numpy()), -9.0).sum())


def loop(b: pd.DataFrame) -> None:
    slope = pm.Normal("slope", 0, 1)
    for i, y in enumerate(b["y"]):
        pm.Normal(f"y{i}", slope, 1.0, observed=np.array([y]))


def strict(b: pd.DataFrame) -> None:
    if b["id"].duplicated().any():
        raise ValueError("a row twice")
    line(b)


def carried_rows(b: pd.DataFrame) -> None:
    each = pm.Normal("levels", pm.Normal("mean", 0, 1), 1, shape=len(b))
    pm.Normal("y", each, 1.0, observed=b["y"].to_numpy())


def local(b: pd.DataFrame) -> None:
    each = pm.Normal("each", pm.Normal("mean", 0, 1), 1, shape=len(b))
    pm.Normal("y", each, 1.0, observed=b["y"].to_numpy())


def hurdle(b: pd.DataFrame) -> None:
    counts = np.maximum(np.rint(b["y"].to_numpy()), 0).astype(int)
    pm.HurdlePoisson("y", psi=pm.Beta("psi", 2, 2), mu=pm.Gamma("mu", 2, 1), observed=counts)


def ordered(b: pd.DataFrame) -> None:
    transform = pm.distributions.transforms.ordered
    cuts = pm.Normal("cuts", 0, 2, shape=2, transform=transform, initval=np.array([-1.0, 1.0]))
    answer = np.digitize(b["y"], [0.0, 2.0])
    pm.OrderedLogistic("y", eta=pm.Normal("b", 0, 1) * b["x"].to_numpy(), cutpoints=cuts, observed=answer)


def own_numbers(b: pd.DataFrame) -> None:
    """Its prior's scale and the number of its steps are no array's length."""
    sd = pm.HalfNormal("sd", 1.5 * len(b))
    each = pm.Normal("each", 0, sd, shape=len(b) + 1)
    pm.Normal("y", pt.cumsum(each)[:-1], 1.0, observed=b["y"].to_numpy())


def missing(b: pd.DataFrame) -> None:
    y = b["y"].to_numpy().copy()
    y[1::3] = np.nan
    pm.Normal("y", pm.Normal("mean", 0, 1) + b["x"].to_numpy(), 1.0, observed=y)


def rows_of_groups(b: pd.DataFrame) -> None:
    each = pm.Dirichlet("each", np.ones(3), shape=(len(b), 3))
    pm.Categorical("y", each, observed=b["g"].to_numpy())


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
        potentials={"waiting": "likelihood"} if body in (potential, inner_graphs) else {},
    )


def taken(declaration: Declaration, rows: int) -> ModelGraph:
    table = frame(rows)
    model = build(declaration, table)
    carried = tuple(rv.name for rv in model.free_RVs if rv.name not in ("each", "y_unobserved"))
    return freed(take_apart(declaration, model, carried), table, None, None)


@pytest.mark.filterwarnings("ignore::pymc.exceptions.ImputationWarning")
@pytest.mark.parametrize(
    "body",
    [
        *(line, groups, design, fixed_array, censored, both, mixture, potential, hurdle),
        *(inner_graphs, ordered, walk, lags, local, own_numbers, missing, rows_of_groups),
    ],
)
def test_one_graph_serves_all_lengths_with_the_same_density(body: Callable[[pd.DataFrame], None]) -> None:
    declaration, digests = declared(body), set()
    few = 2 if body in (missing, walk) else 1  # one row alone has another graph, or no density in PyMC
    for rows in (5, 12, few, 30):
        graph = taken(declaration, rows)
        assert graph.sized == ""
        assert graph.unsized is not None
        digests.add((term(graph) if graph.local else target(graph, genesis=True)).digest)
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
        (carried_rows, "a carried variable grows with the rows"),
    ],
)
def test_what_cannot_be_freed_says_why(body: Callable[[pd.DataFrame], None], why: str) -> None:
    graph = taken(declared(body), 12)
    assert graph.unsized is None
    assert graph.compilable is graph
    assert graph.sized == why


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the functions that are compiled from now on."""
    found: list[str] = []
    real = engine._compile

    def counted(graph: engine.Graph, name: str) -> engine.Function:
        found.append(name)
        return real(graph, name)

    monkeypatch.setattr(engine, "_compile", counted)
    monkeypatch.setattr(engine, "_compiled", [])
    return found


def test_ten_batches_of_ten_lengths_compile_once(compilations: list[str]) -> None:
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


def test_batches_with_local_variables_compile_once_alone_and_together(compilations: list[str]) -> None:
    declaration = declared(local)
    batches = [batch_from_frame(frame(rows), declaration) for rows in (4, 7, 1)]
    for fitted in ([batches[0]], batches[:2], batches):
        problem = prepare(None, fitted, declaration, ("mean",), lambda _: nullcontext())
        assert problem.pooled == ("terms" if len(fitted) > 1 else "")
        x = np.linspace(-1, 1, problem.bound.size)
        y = np.concatenate([batch.frame()["y"].to_numpy() for batch in fitted])
        normal = [(x[0], 0.0), *((value, x[0]) for value in x[1:]), *zip(y, x[1:], strict=True)]
        exact = sum(-0.5 * (a - b) ** 2 - 0.5 * np.log(2 * np.pi) for a, b in normal)
        value, gradient = problem.bound.log_densities(np.array([x, x]))
        assert value == pytest.approx([exact, exact], rel=1e-12)
        np.testing.assert_allclose(gradient[0, 1:], x[0] - x[1:] + y - x[1:], rtol=1e-10)
        found = problem.bound.evaluate(np.array([x, x]))
        newest = len(fitted[-1].frame())
        np.testing.assert_array_equal(found.values["each"], [x[-newest:]] * 2)
    assert sorted(compilations) == ["quantities", "term"]
