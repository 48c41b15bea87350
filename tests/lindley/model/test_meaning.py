"""Meaning that moves with the batch is found at the first link, and what moves it is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.link.c import cmodule

from lindley.model.declaration import Declaration
from lindley.model.graph import build, default_carried
from lindley.model.meaning.adding_up import Meaning, meaning

ROWS = 12
FRAME = pd.DataFrame(
    {
        "t": np.linspace(0.0, 11.0, ROWS),
        "x": np.random.default_rng(1).normal(3.0, 2.0, ROWS),
        "day": pd.Timestamp("2026-01-01") + pd.to_timedelta(np.arange(ROWS) ** 2, unit="D"),
        "ward": list("abcdabcdabcd"),
        "y": np.random.default_rng(2).normal(size=ROWS),
    }
)


def meaning_of(function: Any, frame: pd.DataFrame = FRAME, **options: Any) -> Meaning:
    declaration = Declaration(
        name="chain", build=function, schema=pa.schema([("t", pa.float64())]), row_key=("t",), **options
    )
    constants = declaration.frozen_constants(frame)
    carried = declaration.carried or default_carried(
        declaration, build(declaration, frame, constants=constants), frame, constants
    )
    return meaning(declaration, frame, carried, constants)


def regression(x: Any, frame: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        a, b = pm.Normal("a", 0, 5), pm.Normal("b", 0, 1)
        pm.Normal("y", a + b * x, pm.HalfNormal("s", 1), observed=frame["y"].to_numpy())
    return model


def raw(frame: pd.DataFrame) -> pm.Model:
    return regression(frame["x"].to_numpy(), frame)


def frozen(frame: pd.DataFrame, constants: Any) -> pm.Model:
    return regression((frame["x"].to_numpy() - constants["mean"]) / constants["sd"], frame)


def standardised(frame: pd.DataFrame) -> pm.Model:
    return regression(((frame["x"] - frame["x"].mean()) / frame["x"].std()).to_numpy(), frame)


def in_pytensor(frame: pd.DataFrame) -> pm.Model:
    x = pt.as_tensor(frame["x"].to_numpy())
    return regression(x - x.mean(), frame)


def from_first_day(frame: pd.DataFrame) -> pm.Model:
    return regression((frame["day"] - frame["day"].min()).dt.days.to_numpy(), frame)


def centred(frame: pd.DataFrame) -> pm.Model:
    return regression((frame["t"] - frame["t"].mean()).to_numpy(), frame)


def splines(frame: pd.DataFrame) -> pm.Model:
    knots = np.quantile(frame["t"], [0.25, 0.5, 0.75])
    basis = np.maximum(frame["t"].to_numpy()[:, None] - knots, 0.0)
    with pm.Model() as model:
        w = pm.Normal("w", 0, 1, shape=3)
        pm.Normal("y", basis @ w, 1, observed=frame["y"].to_numpy())
    return model


def hsgp(frame: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        gp = pm.gp.HSGP(m=[5], L=[20.0], cov_func=pm.gp.cov.ExpQuad(1, ls=4.0))
        f = gp.prior("f", X=frame[["t"]].to_numpy())
        pm.Normal("y", f, 1, observed=frame["y"].to_numpy())
    return model


def hsgp_frozen(frame: pd.DataFrame) -> pm.Model:
    ends = np.array([[-5.0], [25.0]])  # the middle of the range then is that of the ends
    with pm.Model() as model:
        gp = pm.gp.HSGP(m=[5], L=[20.0], cov_func=pm.gp.cov.ExpQuad(1, ls=4.0))
        f = gp.prior("f", X=np.concatenate([frame[["t"]].to_numpy(), ends]))
        pm.Normal("y", f[:-2], 1, observed=frame["y"].to_numpy())
    return model


def codes(frame: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        w = pm.Normal("w", 0, 1, shape=4)
        pm.Normal("y", w[pd.Categorical(frame["ward"]).codes], 1, observed=frame["y"].to_numpy())
    return model


def labelled(frame: pd.DataFrame) -> pm.Model:
    index, wards = pd.factorize(frame["ward"], sort=True)
    with pm.Model(coords={"ward": wards}) as model:
        w = pm.Normal("w", 0, 1, dims="ward")
        pm.Normal("y", w[index], 1, observed=frame["y"].to_numpy())
    return model


def autoregression(frame: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        rho = pm.Normal("rho", 0, 1, shape=2)
        pm.AR("y", rho, sigma=1, init_dist=pm.Normal.dist(0, 1, shape=2), observed=frame["y"].to_numpy())
    return model


def lags_of(rows: int) -> Any:
    def lagged(frame: pd.DataFrame, context: pd.DataFrame) -> pm.Model:
        y = np.concatenate([np.zeros(rows), context["y"].to_numpy(), frame["y"].to_numpy()])
        with pm.Model() as model:
            b = pm.Normal("b", 0, 1)
            before = y[len(y) - len(frame) - rows : len(y) - rows]
            pm.Normal("y", b * before, 1, observed=frame["y"].to_numpy())
        return model

    return lagged


def marginal_process(frame: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        scale = pm.HalfNormal("scale", 2)
        gp = pm.gp.Marginal(cov_func=pm.gp.cov.ExpQuad(1, ls=scale))
        gp.marginal_likelihood("y", X=frame[["t"]].to_numpy(), y=frame["y"].to_numpy(), sigma=1.0)
    return model


def random_walk(frame: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        tau = pm.HalfNormal("tau", 1)
        start = pm.Normal.dist(0, 1)
        level = pm.GaussianRandomWalk("level", sigma=tau, init_dist=start, shape=len(frame))
        pm.Normal("y", level, 1, observed=frame["y"].to_numpy())
    return model


def row_effects(frame: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        tau = pm.HalfNormal("tau", 1)
        effect = pm.Normal("effect", 0, tau, shape=len(frame))
        pm.Normal("y", effect, 1, observed=frame["y"].to_numpy())
    return model


def batch_effect(frame: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        tau = pm.HalfNormal("tau", 1)
        effect = pm.Normal("effect", 0, tau)
        pm.Normal("y", effect, 1, observed=frame["y"].to_numpy())
    return model


@pytest.mark.parametrize("function", [raw, labelled, row_effects, hsgp_frozen])
def test_independent_batches_add_up(function: Any) -> None:
    found = meaning_of(function)
    assert (found.adds_up, found.why) == (True, ())


@pytest.mark.parametrize(
    ("function", "texts"),
    [
        (standardised, ["y: column x", "centred and scaled", "constants"]),
        (centred, ["y: column t", "minus a number of the batch (5.5 here)", "constants"]),
        (from_first_day, ["y: column day", "counted from a time of the batch", "constants"]),
        (splines, ["y: an array of 12 x 3 in y", "constants"]),
        (hsgp, ["y: column t enters f minus a number of the batch (5.5 here)", "constants"]),
        (codes, ["y: column ward", "codes", "coords"]),
        (autoregression, ["y: its rows are tied", "`context`", "`carry`"]),
        (marginal_process, ["y: its rows are tied", "`context`", "`carry`"]),
        (random_walk, ["level: its rows are tied", "`context`", "`carry`"]),
        (in_pytensor, ["y: its rows are tied"]),
    ],
)
def test_moving_meaning_is_named_with_what_to_freeze(function: Any, texts: list[str]) -> None:
    found = meaning_of(function)
    assert found.adds_up is False, found
    for text in texts:
        assert any(text in sentence for sentence in found.why), found.why
    assert all("rows of two batches do not add up" in sentence for sentence in found.warnings)
    assert Meaning.from_dict(found.as_dict()).warnings == found.warnings


def test_frozen_constants_and_enough_context_mend_it() -> None:
    scales = {"mean": 3.0, "sd": 2.0}
    assert meaning_of(frozen, constants=scales).adds_up is True
    assert meaning_of(lags_of(2), context=2).adds_up is True
    assert meaning_of(lags_of(3), context=2).adds_up is False


def test_what_cannot_be_told_says_why() -> None:
    assert meaning_of(batch_effect, carried=("tau",)).why == (
        "the first half of the rows alone: ValueError: local variables of the batch as a whole",
    )
    assert "too few rows" in meaning_of(raw, FRAME.head(3)).why[0]
    assert "hands over state" in meaning_of(raw, carry={"a": "b"}).why[0]


def test_sizes_that_follow_the_batch_are_refused_later() -> None:
    frame = FRAME.assign(ward=list("abababcdcdcd"))

    def sized(frame: pd.DataFrame) -> pm.Model:
        index, wards = pd.factorize(frame["ward"], sort=True)
        with pm.Model() as model:
            w = pm.Normal("w", 0, 1, shape=len(wards))
            pm.Normal("y", w[index], 1, observed=frame["y"].to_numpy())
        return model

    found = meaning_of(sized, frame)
    assert any("shape of the carried variable 'w' changed" in sentence for sentence in found.later)


def test_a_scan_is_tried_without_a_compiler_of_c(monkeypatch):
    """PyTensor compiles its steps in C in any mode, for a minute where they are many."""

    def build(batch):
        y = batch["y"].to_numpy()
        with pm.Model() as model:
            decay = pm.Normal("decay", 0, 1)
            level = pytensor.scan(
                lambda now, before, decay: 0.7310585 * decay * before + now,
                sequences=[pt.as_tensor(y)],
                outputs_info=[pt.zeros(())],
                non_sequences=[decay],
                return_updates=False,
            )
            pm.Normal("y", level, 1, observed=y)
        return model

    monkeypatch.setattr(cmodule.GCC_compiler, "compile_str", None)
    schema = pa.schema([("t", pa.int64()), ("y", pa.float64())])
    declaration = Declaration(name="scan", build=build, schema=schema, row_key=("t",), observed=("y",))
    frame = pd.DataFrame({"t": range(6), "y": [0.5, 0.1, 0.7, -0.2, 0.3, 0.9]})
    assert meaning(declaration, frame, ("decay",), {}).adds_up is False
