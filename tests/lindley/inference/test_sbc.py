"""Posterior simulation-based calibration: correct chains have uniform ranks, broken ones are detected."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm
import pytest
from scipy import stats

from lindley.batch.batch import Batch, batch_from_frame
from lindley.errors import ModelRefused
from lindley.inference import sbc
from lindley.inference.info import Fit
from lindley.inference.inputs import Data, Options
from lindley.inference.memory_chain import MemoryChain, advance
from lindley.inference.modes import carrying
from lindley.inference.sampling import FitSettings
from lindley.inference.sbc import LEVEL, RANKED, SbcResult, calibrate
from lindley.model.declaration import Declaration
from lindley.model.policy import Policy
from lindley.prior.matched import MatchedPrior
from lindley.prior.triangular import joint_normal

#: Few draws: what is tested is the chain, and a rank needs no precision.
SETTINGS = FitSettings(chains=2, tune=150, draws=250, attempts=1)
#: Enough of them for the gate, and so for hindsight.
PASSING = FitSettings(tune=200, draws=500)
NOISE = 0.1


def trials_model(batch: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        theta = pm.Beta("theta", 2, 3)
        n = pm.Data("n_values", batch["n"].to_numpy())
        pm.Binomial("k", n, theta, observed=pm.Data("k_values", batch["k"].to_numpy()))
    return model


def line_model(batch: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        b = pm.Normal("b", 0, 10, shape=2)
        mean = b[0] + b[1] * pm.Data("x_values", batch["x"].to_numpy())
        pm.Normal("y", mean, NOISE, observed=pm.Data("y_values", batch["y"].to_numpy()))
    return model


def field(name: str, kind: Any) -> pa.Field:
    return pa.field(name, kind, nullable=False)


#: No replay: a match that is no good would not be started from, and the chain would mend itself.
TRIALS = Declaration(
    name="trials",
    build=trials_model,
    schema=pa.schema([field(name, pa.int64()) for name in ("id", "k", "n")]),
    row_key=("id",),
    observed=("k",),
    carried=("theta",),
    policy=Policy(replay=0),
)
LINE = Declaration(
    name="line",
    build=line_model,
    schema=pa.schema([field("id", pa.int64()), field("x", pa.float64()), field("y", pa.float64())]),
    row_key=("id",),
    observed=("y",),
    carried=("b",),
    policy=Policy(replay=0),
)


def trials(k: int = 3) -> Batch:
    return batch_from_frame(pd.DataFrame({"id": [0, 1, 2], "k": k, "n": 10}), TRIALS)


def line() -> Batch:
    """Inputs close together and far from zero: intercept and slope are correlated by -0.999."""
    x = 1 + 0.05 * np.linspace(-1.7, 1.7, 20)
    return batch_from_frame(pd.DataFrame({"id": np.arange(20), "x": x, "y": 0.0}), LINE)


def run(declaration: Declaration, template: Batch, **options: Any) -> SbcResult:
    data = Data(declaration=declaration, batches=(template,), carried=declaration.carried or ())
    given: dict[str, Any] = {"updates": 5, "simulations": 30} | options
    fitting = {"seed": 1, "settings": SETTINGS} | {
        n: given.pop(n) for n in ("seed", "progress") if n in given
    }
    return calibrate(None, data, Options(**fitting), **given)


Match = Callable[..., MatchedPrior]


def halved(match: Match) -> Match:
    """A matcher whose beliefs are half as wide as they should be."""

    def broken(*args: Any, **options: Any) -> MatchedPrior:
        found = match(*args, **options)
        return found.widened(np.full(found.map.size, 0.5))

    return broken


def independent(_: Match) -> Match:
    """A matcher that carries margins forward without their correlations."""

    def broken(draws: np.ndarray, coordinates: Any, **_: Any) -> MatchedPrior:
        found = joint_normal(draws.mean(axis=0), np.diag(draws.std(axis=0)))
        return MatchedPrior(coordinates, found, "independent margins")

    return broken


# -- chains -------------------------------------------------------------------------------------------


def test_a_chain_of_trials_is_calibrated() -> None:
    found = run(TRIALS, trials(), updates=3)
    assert found.uniform, found.p_values
    assert (found.names, found.ranks.shape, found.updates) == (("theta",), (30, 1), 3)
    assert found.level == LEVEL
    # Ranks of one and the same chain would be one number.
    assert len(np.unique(found.ranks)) > 15


def test_a_chain_of_correlated_coefficients_is_calibrated() -> None:
    found = run(LINE, line(), updates=3, seed=2)
    assert found.uniform, found.p_values
    assert (found.names, found.ranks.shape) == (("b[0]", "b[1]"), (30, 2))


def test_too_narrow_beliefs_are_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each update counts its prior fourfold: after five, sds are eight times too small."""
    monkeypatch.setattr(carrying, "match", halved(carrying.match))
    found = run(TRIALS, trials(), simulations=20)
    assert not found.uniform, found.p_values
    # The true value is at the ends of nearly all posteriors.
    assert np.mean((found.ranks < 10) | (found.ranks > 89)) > 0.6


def test_beliefs_without_correlations_are_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Along the weakly identified direction each update counts its prior twofold."""
    monkeypatch.setattr(carrying, "match", independent(carrying.match))
    found = run(LINE, line(), updates=7, simulations=24)
    assert not found.uniform, found.p_values


def test_replay_corrects_too_narrow_beliefs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too narrow beliefs are not trusted, so that no update starts from them."""
    fits = spied(monkeypatch)
    monkeypatch.setattr(carrying, "match", halved(carrying.match))
    run(dataclasses.replace(TRIALS, policy=Policy()), trials(), updates=3, simulations=1)
    assert [found.replayed for found in fits] == [0, 1, 2]
    assert all(found.assessment.doubts for found in fits)


def spied(monkeypatch: pytest.MonkeyPatch) -> list[Fit]:
    """Keep the fits of simulated chains."""
    fits: list[Fit] = []

    def advance_and_keep(chain: MemoryChain, data: Data, options: Options) -> tuple[MemoryChain, Fit]:
        grown, found = advance(chain, data, options)
        fits.append(found)
        return grown, found

    monkeypatch.setattr(sbc, "advance", advance_and_keep)
    return fits


def test_chains_start_from_the_belief_that_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """They never go back before it: the batches that led to it are unknown here."""
    declaration = dataclasses.replace(TRIALS, policy=Policy())
    # A belief that many more rows than the template's have made.
    many = batch_from_frame(pd.DataFrame({"id": range(40), "k": 3, "n": 10}), TRIALS)
    data = Data(declaration=declaration, batches=(many,), carried=("theta",))
    chain, made = advance(MemoryChain(), data, Options(seed=1, settings=PASSING))
    belief = chain.head
    assert belief is not None
    for trusted in (True, False):
        fits = spied(monkeypatch)
        given = dataclasses.replace(belief, trusted=trusted)
        inputs = dataclasses.replace(data, batches=(trials(),))
        calibrate(given, inputs, Options(seed=3, settings=PASSING), updates=1, simulations=2)
        assert [found.start for found in fits] == [given, given]
        assert [found.replayed for found in fits] == [0, 0]
        sds = [found.draws.quantities.values["theta"].std() for found in fits]
        before = made.draws.quantities.values["theta"].std()
        assert all(0.8 * before < sd < 1.05 * before for sd in sds)


def test_simulated_batches_have_the_inputs_of_the_template(monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[Batch] = []
    original = sbc._simulated

    def keep(*args: Any) -> tuple[Batch, dict[str, np.ndarray]]:
        batch, ends = original(*args)
        batches.append(batch)
        return batch, ends

    monkeypatch.setattr(sbc, "_simulated", keep)
    steps: list[tuple[int, int]] = []
    run(TRIALS, trials(), updates=3, simulations=1, progress=lambda *step: steps.append(step))
    assert steps == [(1, 3), (2, 3), (3, 3)]
    for batch in batches:
        assert batch.frame()[["id", "n"]].equals(trials().frame()[["id", "n"]])
        assert batch.frame()["k"].between(0, 10).all()
    assert len({batch.digest for batch in batches}) > 1


def test_the_same_seed_gives_the_same_ranks() -> None:
    options: dict[str, Any] = {"updates": 1, "simulations": 2}
    one, two, other = (run(TRIALS, trials(), seed=seed, **options) for seed in (1, 1, 2))
    assert one.ranks.tolist() == two.ranks.tolist() != other.ranks.tolist()


# -- what cannot be calibrated ------------------------------------------------------------------------


def test_improper_priors_need_a_belief_to_start_from() -> None:
    def flat(batch: pd.DataFrame) -> pm.Model:
        with pm.Model() as model:
            mu = pm.Flat("mu")
            pm.Normal("y", mu, 1, observed=batch["y"].to_numpy())
        return model

    declaration = dataclasses.replace(LINE, build=flat, carried=("mu",))
    with pytest.raises(ModelRefused, match="improper priors") as caught:
        run(declaration, line())
    assert "after the first link" in caught.value.todo


def outcomes(*names: str, total: bool = False) -> Callable[[pd.DataFrame], pm.Model]:
    """A model with observed variables of these names."""

    def build(batch: pd.DataFrame) -> pm.Model:
        y = batch["y"].to_numpy()
        with pm.Model() as model:
            mu = pm.Normal("mu", 0, 1)
            for name in names:
                pm.Normal(name, mu, 1, observed=y.sum() if total else y)
        return model

    return build


@pytest.mark.parametrize(
    ("build", "observed", "found"),
    [
        (outcomes("one", "two"), ("y",), "variables one, two; columns y"),
        (outcomes("one"), (), "none declared"),
        (outcomes("one"), ("x", "y"), "columns x, y"),
        (outcomes("y", total=True), ("y",), "for 20 rows"),
    ],
)
def test_unidentifiable_outcomes_are_refused(
    build: Callable[..., pm.Model], observed: tuple[str, ...], found: str
) -> None:
    declaration = dataclasses.replace(LINE, build=build, carried=("mu",), observed=observed)
    with pytest.raises(ModelRefused, match="cannot be simulated") as caught:
        run(declaration, line())
    assert found in caught.value.found


# -- the test of uniformity ---------------------------------------------------------------------------


def made_of(ranks: np.ndarray, level: float = LEVEL) -> SbcResult:
    return SbcResult(tuple(f"c{i}" for i in range(ranks.shape[1])), ranks, 5, level)


@pytest.mark.parametrize(("level", "coordinates"), [(0.01, 1), (0.2, 1), (0.2, 4)])
def test_uniform_ranks_are_rejected_at_the_level(level: float, coordinates: int) -> None:
    rng, replicates = np.random.default_rng(17), 400
    calls = [
        made_of(rng.integers(0, RANKED + 1, (60, coordinates)), level).uniform for _ in range(replicates)
    ]
    # Independent coordinates, each held against its share of the level.
    alarm = 1 - (1 - level / coordinates) ** coordinates
    low, high = stats.binom.ppf([1e-5, 1 - 1e-5], replicates, alarm)
    assert low <= replicates - sum(calls) <= high


@pytest.mark.parametrize(
    ("a", "b"),
    [(2.0, 1.0), (1.0, 2.0), (0.3, 0.3), (4.0, 4.0)],
    ids=["too low", "too high", "too narrow", "too wide"],
)
def test_skewed_ranks_are_rejected(a: float, b: float) -> None:
    rng = np.random.default_rng(18)
    for _ in range(20):
        skewed = (rng.beta(a, b, 100) * (RANKED + 1)).astype(int)
        fair = rng.integers(0, RANKED + 1, (100, 3))
        found = made_of(np.column_stack([fair, skewed]))
        assert not found.uniform
        assert min(found.p_values, key=lambda name: found.p_values[name]) == "c3"


def test_p_values_are_those_of_midpoints() -> None:
    even = made_of(np.arange(RANKED + 1)[:, None])
    assert even.p_values["c0"] == pytest.approx(1)
    assert even.uniform
    low = made_of(np.zeros((20, 1), dtype=int))
    assert low.p_values["c0"] == pytest.approx(stats.kstest(np.full(20, 0.005), "uniform").pvalue)
    assert not low.uniform


def test_a_result_is_json() -> None:
    found = made_of(np.arange(40).reshape(20, 2) % (RANKED + 1))
    text = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert (text["simulations"], text["updates"], text["level"]) == (20, 5, LEVEL)
    assert text["ranks"]["c1"] == found.ranks[:, 1].tolist()
    assert text["p_values"] == found.p_values
    assert text["uniform"] is bool(found.uniform)
