"""Distributions in words, whatever made them; and what cannot be drawn from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm
import pymc.dims as pmd
import pytensor.tensor as pt
import pytest

from lindley.model.declaration import Declaration
from lindley.model.graph import build, take_apart
from lindley.model.priors import improper, prior_coordinates, undrawable, why_not_drawn
from lindley.model.words import genesis_text, likelihood_text, words

Y = np.array([0.1, -0.2, 0.3])
pytestmark = pytest.mark.filterwarnings("ignore:Data in .* contains missing values")
FRAME = pd.DataFrame({"id": [1, 2, 3], "y": Y})


def graph_of(model: pm.Model, *carried: str) -> Any:
    declaration = Declaration(
        name="chain", build=lambda frame: model, schema=pa.schema([("id", pa.int64())]), row_key=("id",)
    )
    return take_apart(declaration, build(declaration, FRAME), carried)


def test_ordinary_models_keep_their_words():
    with pm.Model() as model:
        mu = pm.Normal("mu", 0, 10)
        effect = pm.Normal("effect", mu, 1)
        pm.Normal("y", effect, 1, observed=Y)
    assert likelihood_text(model) == {"y": "Normal(effect, 1)"}
    assert genesis_text(graph_of(model, "mu", "effect")) == {
        "genesis_prior": {"effect": "Normal(mu, 1)"},
        "genesis_hyperprior": {"mu": "Normal(0, 10)"},
    }


def test_outcomes_made_by_observe_have_words():
    with pm.Model() as generative:
        mu = pm.Normal("mu", 0, 10)
        pm.Normal("y", mu, 1, shape=(3,))
    assert likelihood_text(pm.observe(generative, {"y": Y})) == {"y": "Normal(mu, 1)"}


def test_imputed_outcomes_have_words():
    with pm.Model() as model:
        mu = pm.Normal("mu", 0, 10)
        pm.Normal("y", mu, 1, observed=np.ma.masked_invalid([0.1, np.nan, 0.3]))
    assert likelihood_text(model)["y_observed"].startswith("Normal(")
    assert genesis_text(graph_of(model, "mu"))["genesis_prior"]["y_unobserved"].startswith("Normal(")


def test_partly_observed_multivariate_outcomes_have_words():
    with pm.Model() as model:
        mu = pm.Normal("mu", 0, 10, shape=2)
        pm.MvNormal("y", mu, np.eye(2), observed=np.ma.masked_invalid([[0.1, np.nan], [0.3, 0.2]]))
    assert likelihood_text(model)["y_observed"].startswith("PartialObservedRV(")


def test_named_dims_have_words():
    with pm.Model(coords={"row": range(3)}) as model:
        mu = pmd.Normal("mu", 0, 10)
        pmd.Normal("y", mu, 1, observed=pmd.Data("data", Y, dims="row"), dims="row")
    assert "y" in likelihood_text(model)


def test_an_operation_that_cannot_describe_itself_is_left_out():
    class Mute:
        name = "mute"

        @property
        def owner(self) -> Any:
            raise AttributeError("no owner")

    mute: Any = Mute()
    assert words(mute) == ""


def test_distributions_without_random_functions_and_improper_ones_are_not_drawn():
    with pm.Model() as model:
        custom = pm.CustomDist("custom", logp=lambda value: -pt.log1p(value**2))
        random = pm.CustomDist("random", logp=lambda v: -(v**2), random=lambda rng, size: rng.normal())
        phi = pm.ICAR("phi", W=np.array([[0, 1], [1, 0]]))
        flat = pm.Flat("flat")
        pm.Normal("y", custom + phi.sum() + flat + random, 1, observed=Y)
    graph = graph_of(model, "custom", "random", "phi", "flat")
    assert undrawable(graph) == {
        "custom": "its distribution has no random function",
        "phi": "its prior is improper",
        "flat": "its prior is improper",
    }
    assert [improper(v.rv) for v in graph.carried] == [False, False, True, True]
    assert prior_coordinates(graph, size=5, seed=1) is None


def test_a_random_function_that_fails_is_named():
    def broken(rng: Any = None, size: Any = None) -> Any:
        raise ZeroDivisionError("no draws today")

    with pm.Model() as model:
        mu = pm.CustomDist("mu", logp=lambda value: -(value**2), random=broken)
        pm.Normal("y", mu, 1, observed=Y)
    graph = graph_of(model, "mu")
    assert why_not_drawn(graph) == {"mu": "ZeroDivisionError: no draws today"}
