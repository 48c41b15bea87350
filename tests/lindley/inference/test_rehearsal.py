"""What is for people fails for itself: the link stands, with a sentence. What cannot be drawn is recorded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm
import pymc.dims as pmd
import pytensor.tensor as pt
import pytest
from pytensor import wrap_py

from lindley.batch.batch import batch_from_frame
from lindley.errors import ModelRefused
from lindley.inference.inputs import Data, Options, Start
from lindley.inference.sampling import FitSettings
from lindley.inference.step import step
from lindley.model.declaration import Declaration
from lindley.report.omissions import Omissions

SCHEMA = pa.schema([("id", pa.int64()), ("y", pa.float64())])
FRAME = pd.DataFrame({"id": range(8), "y": np.linspace(-1.0, 2.0, 8)})
#: Enough for a belief; what is tested here does not depend on the draws.
SETTINGS = FitSettings(chains=2, tune=150, draws=200, attempts=1)
pytestmark = pytest.mark.filterwarnings("ignore:Data in .* contains missing values")


class Stop(Exception):
    """Ends a step before it samples."""


def stepped(function: Any, frame: pd.DataFrame = FRAME, carried: tuple[str, ...] = ("mu",)) -> Any:
    declaration = Declaration(name="chain", build=function, schema=SCHEMA, row_key=("id",))
    batch = batch_from_frame(frame, declaration)
    data = Data(declaration=declaration, batches=(batch,), carried=carried)
    return step(Start(), data, Options(seed=1, settings=SETTINGS))[1]


def rehearsed(function: Any, frame: pd.DataFrame = FRAME, carried: tuple[str, ...] = ("mu",)) -> Any:
    """Return what was found out, without sampling."""
    declaration = Declaration(name="chain", build=function, schema=SCHEMA, row_key=("id",))
    batch, found = batch_from_frame(frame, declaration), []

    def stop(rehearsal: Any) -> None:
        found.append(rehearsal)
        raise Stop

    data = Data(declaration=declaration, batches=(batch,), carried=carried)
    with pytest.raises(Stop):
        step(Start(), data, Options(seed=1, settings=SETTINGS, rehearsed=stop))
    return found[0]


@wrap_py(itypes=[pt.dscalar], otypes=[pt.dscalar])
def fails_away_from_zero(x):
    if abs(float(x)) > 1e-9:
        raise ValueError("the description failed")
    return np.array(0.0)


def two_outcomes(frame: pd.DataFrame) -> pm.Model:
    """One outcome that can be drawn and one that cannot, and a deterministic that fails at most points."""
    y = frame["y"].to_numpy()
    with pm.Model(coords={"pair": ["a", "b"]}) as model:
        mu = pm.Normal("mu", 0, 10)
        pm.Deterministic("bad", fails_away_from_zero(mu))
        pm.Deterministic("level", mu + 1)
        pm.Normal("y", mu, 1, observed=y)
        pm.CustomDist("z", mu, logp=lambda value, mu: -0.5 * (value - mu) ** 2, observed=y)
    return model


def test_a_failing_deterministic_and_an_outcome_without_random_function_do_not_undo_the_fit():
    info = stepped(two_outcomes)
    assert list(info.trace["posterior"].data_vars) == ["mu"]
    assert list(info.trace["posterior_predictive"].data_vars) == ["y"]
    assert info.not_drawn == {"z": "its distribution has no random function"}
    assert any("deterministics bad, level left out" in sentence for sentence in info.gate.warnings)
    assert set(info.trace["prior"].data_vars) == {"mu"}
    exact = 2 * FRAME["y"].sum() / (2 * 8 + 0.01)
    assert abs(info.summary.loc["mu", "mean"] - exact) < 6 * info.summary.loc["mu", "mcse_mean"] + 1e-3


def without_prior_draws(frame: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        mu = pm.CustomDist("mu", logp=lambda value: -pt.log1p(value**2))
        pm.Normal("y", mu, 1, observed=frame["y"].to_numpy())
    return model


def test_a_prior_without_random_function_gives_no_prior_draws_and_no_predictive_density():
    info = stepped(without_prior_draws)
    assert "prior" not in info.trace.children
    assert "posterior_predictive" in info.trace.children
    assert info.not_drawn == {"mu": "its distribution has no random function"}
    assert "log_predictive" not in info.metrics
    assert not any("left out" in sentence for sentence in info.gate.warnings)


def imputing(frame: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        mu = pm.Normal("mu", 0, 10)
        pm.Normal("y", mu, 1, observed=frame["y"].to_numpy())
    return model


def test_missing_outcomes_are_rehearsed_and_predicted_as_the_rows_that_have_values():
    frame = FRAME.assign(y=FRAME["y"].where(FRAME["id"] != 3))
    found = rehearsed(imputing, frame)
    assert found.predicted == ("y_observed",)
    assert found.problem.local_names == ("y_unobserved[0]",)
    assert found.not_drawn == {}
    assert found.omissions.sentences == []


def with_dims(frame: pd.DataFrame) -> pm.Model:
    with pm.Model(coords={"row": frame["id"].to_numpy(), "group": ["a", "b"]}) as model:
        values = pmd.Data("values", frame["y"].to_numpy(), dims="row")
        mu = pmd.Normal("mu", 0, 10)
        sd = pmd.HalfNormal("sd", 2)
        share = pmd.Uniform("share", 0, 2)
        effect = pmd.ZeroSumNormal("effect", core_dims="group", dims="group")
        pmd.Deterministic("level", mu + effect)
        pmd.Normal("y", mu + share + effect.sum(), sd, observed=values, dims="row")
    return model


def plain(frame: pd.DataFrame) -> pm.Model:
    with pm.Model(coords={"row": frame["id"].to_numpy(), "group": ["a", "b"]}) as model:
        mu = pm.Normal("mu", 0, 10)
        sd = pm.HalfNormal("sd", 2)
        share = pm.Uniform("share", 0, 2)
        effect = pm.ZeroSumNormal("effect", dims="group")
        pm.Normal("y", mu + share + effect.sum(), sd, observed=frame["y"].to_numpy())
    return model


def test_named_dims_have_the_target_of_the_same_model_without():
    names = ("mu", "sd", "share", "effect")
    named, usual = rehearsed(with_dims, carried=names), rehearsed(plain, carried=names)
    assert [b.dims for b in named.problem.coordinates.blocks] == [(), (), (), ("group",)]
    transforms = [b.transform for b in named.problem.coordinates.blocks]
    assert transforms == ["identity", "log", "interval(0.0, 2.0)", "zerosum"]
    points = np.random.default_rng(1).normal(size=(5, 4))
    ours, gradients = named.problem.bound.log_densities(points)
    theirs, expected = usual.problem.bound.log_densities(points)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    np.testing.assert_allclose(gradients, expected, rtol=1e-9, atol=1e-12)
    assert named.predicted == ("y",)
    assert named.omissions.sentences == []
    assert named.prior is not None
    assert named.prior["level"].shape == (1000, 2)


def unused(frame: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        mu = pm.Normal("mu", 0, 10)
        pm.Flat("nothing")
        pm.Normal("y", mu, 1, observed=frame["y"].to_numpy())
    return model


def test_a_variable_that_the_density_does_not_depend_on_is_refused_by_name():
    with pytest.raises(ModelRefused, match="does not depend on 'nothing'"):
        rehearsed(unused, carried=("mu", "nothing"))


def test_an_omission_is_said_once():
    omissions = Omissions()
    for _ in range(2):
        with omissions.attempt("pictures"):
            raise RuntimeError("no ink\nat all")
    assert omissions.sentences == ["pictures left out: RuntimeError: no ink"]
