"""A model is built once for the same rows, and only where rows and code have a name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm
import pytest

from lindley.batch.batch import Batch, batch_from_frame
from lindley.model import graph as model_graph
from lindley.model.declaration import Declaration, load_file
from lindley.model.graph import ModelGraph
from lindley.model.policy import Policy
from lindley.prior.matched import MatchedPrior
from lindley.prior.triangular import joint_normal
from lindley.target import engine, prepare, reuse
from lindley.target.problem import NOTHING_KNOWN, Known, Problem
from lindley.timing import Phases
from tests.support import fakes


@pytest.fixture
def declaration(tmp_path: Path) -> Declaration:
    return fakes.declare(tmp_path)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the rows that build functions are called with, from no known model on."""
    reuse._graphs.clear()
    rows: list[int] = []
    build = model_graph.build

    def counted(declaration, frame, **more):
        rows.append(len(frame))
        return build(declaration, frame, **more)

    monkeypatch.setattr(model_graph, "build", counted)
    return rows


def graph(batches: list[Batch], declaration: Declaration) -> ModelGraph:
    return prepare._Setting(None, declaration, ("theta",), Phases(), None, NOTHING_KNOWN).graph(*batches)


def test_the_same_rows_are_built_once(declaration: Declaration, built: list[int]) -> None:
    one, two = fakes.coins(declaration, 10), fakes.coins(declaration, 20)
    first = graph([one], declaration)
    assert graph([one], declaration) is first
    graph([two], declaration)
    together = graph([one, two], declaration)
    assert graph([two, one], declaration) is not together  # the order of rows is the model's to use
    assert built == [one.rows, two.rows, one.rows + two.rows, one.rows + two.rows]


def test_a_known_model_has_the_declaration_that_asks(declaration: Declaration, built: list[int]) -> None:
    """Policy and the like are no part of the model's code."""
    batch = fakes.coins(declaration, 10)
    graph([batch], declaration)
    other = replace(declaration, policy=Policy(family="normal"))
    assert graph([batch], other).declaration is other
    assert len(built) == 1


def test_other_code_is_built_again(declaration: Declaration, built: list[int]) -> None:
    batch = fakes.coins(declaration, 10)
    graph([batch], declaration)
    assert declaration.file is not None
    declaration.file.write_text(declaration.file.read_text().replace("2, 3", "2, 4"))
    graph([batch], load_file(declaration.file))
    assert len(built) == 2


def test_what_has_no_name_is_built_each_time(declaration: Declaration, built: list[int]) -> None:
    batch = fakes.coins(declaration, 10)
    in_memory = replace(declaration, file=None)
    for rows, code in ((batch, in_memory), (replace(batch, digest=""), declaration)):
        graph([rows], code)
        graph([rows], code)
    assert len(built) == 4


def test_rows_with_another_context_are_another_model(declaration: Declaration, built: list[int]) -> None:
    batch = fakes.coins(declaration, 10)
    one, other = (replace(batch, context=batch.table.slice(0, rows)) for rows in (1, 2))
    for rows in (batch, one, other, one):
        graph([rows], declaration)
    assert len(built) == 3


SCALED = """
import pyarrow as pa
import pymc as pm

from lindley import Declaration


def build(batch):
    x = batch["x"].to_numpy()
    with pm.Model() as model:
        b = pm.Normal("b", 0, 1)
        pm.Normal("y", b * (x - x.mean()), 1, observed=batch["y"].to_numpy())
    return model


declaration = Declaration(
    name="scaled", build=build, row_key=("x",), schema=pa.schema([("x", pa.float64()), ("y", pa.float64())])
)
"""


def test_all_rows_are_one_model_although_they_do_not_add_up(tmp_path: Path) -> None:
    (tmp_path / "scaled.py").write_text(SCALED)
    declaration = load_file(tmp_path / "scaled.py")
    frames = [
        pd.DataFrame({"x": [1.0, 2.0], "y": [0.5, 1.0]}),
        pd.DataFrame({"x": [7.0, 9.0], "y": [3.0, 4.0]}),
    ]
    batches = [batch_from_frame(frame, declaration) for frame in frames]
    whole = prepare.prepare_whole(None, batches, declaration, ("b",), Phases())
    assert whole.pooled == "rows"
    x = pd.concat(frames)["x"].to_numpy()
    y = pd.concat(frames)["y"].to_numpy()
    b = np.array([[0.3], [-0.4]])
    exact = -0.5 * np.log(2 * np.pi) * 5 - 0.5 * b[:, 0] ** 2
    exact = exact - 0.5 * ((y - b * (x - x.mean())) ** 2).sum(axis=1)
    np.testing.assert_allclose(whole.bound.log_densities(b)[0], exact, rtol=1e-12)
    assert prepare.prepare(None, batches, declaration, ("b",), Phases()).pooled == "terms"


def test_rows_that_are_known_not_to_add_up_are_fitted_one_by_one_from_the_first_batch_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first batch compiles what all later ones use."""
    (tmp_path / "scaled.py").write_text(SCALED)
    declaration = load_file(tmp_path / "scaled.py")
    frames = [
        pd.DataFrame({"x": [1.0, 2.0, 4.0], "y": [0.5, 1.0, 0.0]}),
        pd.DataFrame({"x": [7.0, 9.0], "y": [3.0, 4.0]}),
    ]
    one, two = (batch_from_frame(frame, declaration) for frame in frames)
    apart, b = Known(adds_up=False), np.array([[0.3], [-0.4]])

    def exact(*some: pd.DataFrame) -> np.ndarray:
        found = -0.5 * np.log(2 * np.pi) - 0.5 * b[:, 0] ** 2
        for frame in some:
            x, y = frame["x"].to_numpy(), frame["y"].to_numpy()
            found -= 0.5 * np.log(2 * np.pi) * len(y)
            found -= 0.5 * ((y - b * (x - x.mean())) ** 2).sum(axis=1)
        return found

    first = prepare.prepare(None, [one], declaration, ("b",), Phases(), None, apart)
    assert first.apart
    assert first.pooled == ""
    np.testing.assert_allclose(first.bound.log_densities(b)[0], exact(frames[0]), rtol=1e-12)
    monkeypatch.setattr(engine, "_compile", None)  # nothing more is compiled, nor tried
    monkeypatch.setattr(prepare, "_adds_up", None)
    both = prepare.prepare(None, [one, two], declaration, ("b",), Phases(), None, apart)
    assert both.pooled == "terms"
    assert both.compiled_before
    np.testing.assert_allclose(both.bound.log_densities(b)[0], exact(*frames), rtol=1e-12)
    np.testing.assert_array_equal(both.at(b, np.zeros((2, 0))).values["b"], b[:, 0])


def test_local_variables_of_whole_batches_are_not_those_of_rows() -> None:
    def of(**sizes: int) -> Any:
        local = tuple(SimpleNamespace(name=name, block=SimpleNamespace(size=n)) for name, n in sizes.items())
        return SimpleNamespace(local=local)

    assert prepare._sizes_add_up(of(effect=5), [of(effect=2), of(effect=3)])
    assert prepare._sizes_add_up(of(y_unobserved=1), [of(), of(y_unobserved=1)])
    assert not prepare._sizes_add_up(of(effect=1), [of(effect=1), of(effect=1)])


ONE_SENSOR = """
import pandas as pd, pyarrow as pa, pymc as pm
from lindley import Declaration
from lindley.errors import BatchRefused

def build(batch):
    if batch["sensor"].nunique() > 1:
        raise BatchRefused("The batch mixes sensors", expected="one", found="several", todo="split it")
    with pm.Model() as model:
        b = pm.Normal("b", 0, 1)
        pm.Normal("y", b, 1, observed=pm.Data("values", batch["y"].to_numpy()))
    return model

declaration = Declaration(
    name="one_sensor", build=build, row_key=("sensor",), observed=("y",),
    schema=pa.schema([("sensor", pa.int64()), ("y", pa.float64())]),
)
"""


def test_batches_that_a_build_function_refuses_together_are_fitted_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "one_sensor.py").write_text(ONE_SENSOR)
    declaration = load_file(tmp_path / "one_sensor.py")
    frames = [pd.DataFrame({"sensor": [place], "y": [float(place)]}) for place in (1, 2)]
    batches = [batch_from_frame(frame, declaration) for frame in frames]
    problem = prepare.prepare(None, batches, declaration, ("b",), Phases())
    assert problem.pooled == "terms"
    b = np.array([[0.3], [-0.4]])
    exact = -0.5 * np.log(2 * np.pi) * 3 - 0.5 * b[:, 0] ** 2
    exact = exact - 0.5 * ((np.array([1.0, 2.0]) - b) ** 2).sum(axis=1)
    np.testing.assert_allclose(problem.bound.log_densities(b)[0], exact, rtol=1e-12)


def test_a_refit_is_whitened_only_where_coordinates_correlate() -> None:
    """The function of the genesis fit serves the others; the target is the same either way."""

    def line(batch: pd.DataFrame) -> pm.Model:
        with pm.Model() as model:
            b = pm.Normal("b", 0, 2, shape=2)
            pm.Normal("k", b[0] + b[1] * batch["n"].to_numpy(), 1.0, observed=batch["k"].to_numpy())
        return model

    schema = pa.schema([(name, pa.int64()) for name in ("id", "k", "n")])
    declaration = Declaration(name="line", build=line, schema=schema, row_key=("id",))
    batches = [fakes.coins(declaration, 10), fakes.coins(declaration, 20, k=4)]

    def prepared(*correlations: float) -> Problem:
        near = None
        if correlations:
            factor = 0.5 * np.linalg.cholesky([[1.0, correlations[0]], [correlations[0], 1.0]])
            near = MatchedPrior(first.graph.coordinates, joint_normal(np.array([0.4, -0.3]), factor))
        return prepare.prepare(None, batches, declaration, ("b",), Phases(), known=Known(whitener=near))

    first = prepare.prepare(None, batches[:1], declaration, ("b",), Phases())
    plain, near, correlated = prepared(), prepared(0.5), prepared(0.99)
    assert near.compiled_before
    assert near.digest == plain.digest == first.digest
    assert near.prior is plain.prior is None
    map_ = correlated.prior
    assert map_ is not None
    z = np.random.default_rng(0).normal(size=(5, 2))
    expected = plain.bound.log_densities(map_.forward(z))[0] + np.linalg.slogdet(map_.jacobian(z[0]))[1]
    assert correlated.bound.log_densities(z)[0] == pytest.approx(expected, rel=1e-12)
