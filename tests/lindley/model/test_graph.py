"""Which models are taken, what is carried by default, and what is refused by name."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm
import pytest

from lindley.errors import ModelRefused
from lindley.model import priors
from lindley.model.declaration import Declaration
from lindley.model.graph import build, default_carried, take_apart
from lindley.model.priors import prior_coordinates

SCHEMA = pa.schema([pa.field("id", pa.int64()), pa.field("y", pa.float64())])
FRAME = pd.DataFrame({"id": [1, 2, 3], "y": [0.1, -0.2, 0.3]})


def declared(function, **options) -> Declaration:
    return Declaration(name="chain", build=function, schema=SCHEMA, row_key=("id",), **options)


def graph_of(function, **options):
    declaration = declared(function, **options)
    model = build(declaration, FRAME)
    carried = options.get("carried") or default_carried(declaration, model, FRAME)
    return take_apart(declaration, model, carried)


def every_support(batch: pd.DataFrame) -> pm.Model:
    """One free variable of every kind of support, and one that grows with the rows."""
    coords = {"group": ["a", "b", "c"], "row": batch["id"].to_numpy()}
    with pm.Model(coords=coords) as model:
        real = pm.Normal("real", dims="group")
        pm.HalfNormal("positive")
        pm.Uniform("interval", -1, 4)
        pm.Dirichlet("simplex", np.ones(4))
        pm.Normal("ordered", np.arange(3), shape=3, transform=pm.distributions.transforms.ordered)
        pm.LKJCholeskyCov("cholesky", n=2, eta=2, sd_dist=pm.Exponential.dist(1))
        pm.ZeroSumNormal("zerosum", dims="group")
        pm.TruncatedNormal("truncated", 2, 1, lower=0)
        local = pm.Normal("local", 0, 1, dims="row")
        pm.Normal("y", real.sum() + local, 1, observed=batch["y"].to_numpy(), dims="row")
    return model


def test_carries_every_support_by_default_and_leaves_what_grows_with_the_rows_local():
    graph = graph_of(every_support)
    sizes = {block.name: (block.shape, block.value_shape) for block in graph.coordinates.blocks}
    assert sizes == {
        "real": ((3,), (3,)),
        "positive": ((), ()),
        "interval": ((), ()),
        "simplex": ((4,), (3,)),
        "ordered": ((3,), (3,)),
        "cholesky": ((3,), (3,)),
        "zerosum": ((3,), (2,)),
        "truncated": ((), ()),
    }
    assert [variable.name for variable in graph.local] == ["local"]
    assert graph.coordinates.names[:3] == ["real[a]", "real[b]", "real[c]"]
    assert "simplex[2]" in graph.coordinates.names


def test_names_the_bounds_of_an_interval():
    blocks = {block.name: block.transform for block in graph_of(every_support).coordinates.blocks}
    assert blocks["interval"] == "interval(-1.0, 4.0)"
    assert blocks["truncated"] == "interval(0.0, none)"


def test_one_row_is_enough_to_tell_what_grows_with_the_rows():
    declaration = declared(every_support)
    frame = FRAME.iloc[:1]
    names = default_carried(declaration, build(declaration, frame), frame)
    assert "local" not in names
    assert "real" in names


def discrete(batch: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        switch = pm.Bernoulli("switch", 0.5)
        pm.Normal("y", switch, 1, observed=batch["y"].to_numpy())
    return model


def nothing_free(batch: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        pm.Normal("y", 0, 1, observed=batch["y"].to_numpy())
    return model


def nothing_observed(_batch: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        pm.Normal("mu")
    return model


def with_potential(batch: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        mu = pm.Normal("mu")
        pm.Potential("soft", -(mu**2))
        pm.Normal("y", mu, 1, observed=batch["y"].to_numpy())
    return model


def bounds_from_batch(batch: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        y = pm.Data("values", batch["y"].to_numpy())
        top = pm.Uniform("top", y.max(), 10)
        pm.Normal("y", top, 1, observed=y)
    return model


def repeated_labels(batch: pd.DataFrame) -> pm.Model:
    with pm.Model(coords={"group": ["a", "a"]}) as model:
        mu = pm.Normal("mu", dims="group")
        pm.Normal("y", mu.sum(), 1, observed=batch["y"].to_numpy())
    return model


def raising(_batch: pd.DataFrame) -> pm.Model:
    raise KeyError("no such column")


@pytest.mark.parametrize(
    ("function", "options", "words"),
    [
        (discrete, {}, ["discrete free variable 'switch'", "sum it out"]),
        (nothing_free, {}, ["no free variable"]),
        (nothing_observed, {}, ["no observed variable"]),
        (with_potential, {}, ["potential 'soft'", "potentials="]),
        (bounds_from_batch, {}, ["'top'", "depends on the batch"]),
        (repeated_labels, {}, ["'group'", "same label twice"]),
        (raising, {}, ["KeyError", "build function"]),
        (lambda batch: batch, {}, ["did not return a model", "DataFrame"]),
        (every_support, {"carried": ("nowhere",)}, ["'nowhere'", "does not have"]),
        (every_support, {"carry": {"positive": "nowhere"}}, ["'nowhere'"]),
        (every_support, {"carry": {"local": "positive"}}, ["'local'", "not carried"]),
    ],
)
def test_refuses_by_name_and_says_what_to_do(function, options, words):
    with pytest.raises(ModelRefused) as refused:
        graph_of(function, **options)
    message = str(refused.value)
    assert all(word in message for word in words), message
    assert "To do:" in message


def test_a_model_that_only_builds_once_asks_for_carried():
    def once(batch):
        if batch["id"].duplicated().any():
            raise ValueError("ids must be unique")
        return every_support(batch)

    with pytest.raises(ModelRefused, match="declare carried"):
        graph_of(once)


def test_declared_potentials_stay_in_the_likelihood_or_leave_with_the_prior():
    prior = graph_of(with_potential, potentials={"soft": "prior"})
    likelihood = graph_of(with_potential, potentials={"soft": "likelihood"})
    assert [v.name for v in prior.prior_variables()] == ["mu", "soft"]
    assert [v.name for v in prior.likelihood_variables()] == ["y"]
    assert [v.name for v in likelihood.likelihood_variables()] == ["y", "soft"]


def test_the_digest_of_a_model_ignores_comments_and_layout(tmp_path: Path):
    from lindley.model.code.digests import source_digest

    one = 'x = 1  # why\ndef f(a):\n    """Say."""\n    return a\n'
    same = "x = 1\n\n\ndef f( a ):\n    '''Say otherwise.'''\n    return a\n"
    other = "x = 2\ndef f(a):\n    return a\n"
    assert source_digest(one) == source_digest(same)
    assert source_digest(one) != source_digest(other)


def test_a_prior_that_its_transform_confines_is_drawn_from_within() -> None:
    def ordered(batch: pd.DataFrame) -> pm.Model:
        with pm.Model() as model:
            transform = pm.distributions.transforms.ordered
            mu = pm.Normal("mu", 0, 2, shape=2, transform=transform, initval=np.array([-1.0, 1.0]))
            pm.Normal("y", mu[0], 1, observed=batch["y"].to_numpy())
        return model

    drawn = prior_coordinates(graph_of(ordered), size=4000, seed=1)
    assert drawn is not None
    assert drawn.shape == (4000, 2)
    # Two standard normals in order: the gap is |N(0, 2)|, of mean 2/sqrt(pi), here times the sd of 2.
    gap = np.exp(drawn[:, 1])
    error = gap.std() / np.sqrt(len(gap))
    assert abs(gap.mean() - 4 / np.sqrt(np.pi)) < 5 * error
    assert abs(drawn[:, 0].mean() + 2 / np.sqrt(np.pi)) < 5 * drawn[:, 0].std() / np.sqrt(len(gap))


def test_a_prior_that_lies_outside_of_its_transform_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def falling(batch: pd.DataFrame) -> pm.Model:
        with pm.Model() as model:
            transform = pm.distributions.transforms.ordered
            start = np.array([-1.0, 1.0])
            mu = pm.Normal("mu", [1e6, -1e6], 1, shape=2, transform=transform, initval=start)
            pm.Normal("y", mu[0], 1, observed=batch["y"].to_numpy())
        return model

    monkeypatch.setattr(priors, "_PRIOR_ROUNDS", 2)
    assert prior_coordinates(graph_of(falling), size=10, seed=1) is None


def test_a_total_size_is_refused():
    def scaled(batch: pd.DataFrame) -> pm.Model:
        with pm.Model() as model:
            mu = pm.Normal("mu")
            pm.Normal("y", mu, 1, observed=batch["y"].to_numpy(), total_size=1000)
        return model

    with pytest.raises(ModelRefused, match="gives y a total_size"):
        graph_of(scaled)
