"""The stated error beside the true one, on streams of counts whose posterior is known at every link."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm
import pytest
from scipy import special, stats

from lindley.batch.batch import batch_from_frame
from lindley.inference.diagnostics.stated import monte_carlo_error, monte_carlo_errors
from lindley.inference.inputs import Data, Options
from lindley.inference.memory_chain import MemoryChain, advance, refit
from lindley.inference.sampling import FitSettings
from lindley.model.declaration import Declaration
from lindley.model.policy import Policy
from lindley.prior.stein import calibrate, equal_weights

SETTINGS = FitSettings(draws=500, tune=300)
BATCHES, ROWS, JUMP = 24, 10, 10
#: Room for six batches: chains of 24 have several matches behind them.
SHORT = 160


def counts(batch):
    with pm.Model() as model:
        rate = pm.Gamma("rate", 1, 2)
        pm.Poisson("y", rate, observed=pm.Data("counts", batch["n"].to_numpy()))
    return model


def declared(**policy):
    schema = pa.schema([pa.field(name, pa.int64(), nullable=False) for name in ("row", "n")])
    return Declaration(
        name="counts",
        build=counts,
        schema=schema,
        row_key=("row",),
        carried=("rate",),
        policy=Policy(**policy),
    )


def frames(high, seed):
    """Counts with a rate of 2 that jumps."""
    rng = np.random.default_rng(seed)
    n = rng.poisson(np.where(np.arange(BATCHES * ROWS) < JUMP * ROWS, 2, high))
    return [
        pd.DataFrame({"row": np.arange(k, k + ROWS), "n": n[k : k + ROWS]}) for k in range(0, len(n), ROWS)
    ]


def true_error(found, seen):
    """Largest error of mean (in exact sds) and log sd, of the rate and its logarithm."""
    shape, scale = 1 + seen["n"].sum(), 2 + len(seen)
    exact = {
        "rate": (shape / scale, np.sqrt(shape) / scale),
        "log": (special.digamma(shape) - np.log(scale), np.sqrt(special.polygamma(1, shape))),
    }
    rate, weights = found.draws.quantities.values["rate"].ravel(), found.sampled.calibration.weights
    errors = []
    for name, (mean, sd) in exact.items():
        values = rate if name == "rate" else np.log(rate)
        own = weights @ values
        errors += [abs(own - mean) / sd, abs(np.log(np.sqrt(weights @ (values - own) ** 2) / sd))]
    return max(errors)


def run(high, seed, refitted=False, **policy):
    """True and stated errors, drift and fits along a chain."""
    declaration, chain, rows = declared(**policy), MemoryChain(), []
    given = frames(high, seed)
    for place, frame in enumerate(given):
        data = Data(
            declaration=declaration, batches=(batch_from_frame(frame, declaration),), carried=("rate",)
        )
        options = Options(seed=1000 * seed + place, settings=SETTINGS)
        chain, found = advance(chain, data, options)
        if refitted and chain.head.drift >= declaration.policy.rebase_at_drift:
            chain, found = refit(chain, data, replace(options, seed=options.seed + 500))
        seen = pd.concat(given[: place + 1])
        rows.append((true_error(found, seen), found.assessment.metrics["stated_error"], found))
    true, stated, fits = zip(*rows, strict=True)
    return chain, np.array(true), np.array(stated), fits


def test_a_chain_within_the_budget_is_the_pooled_fit_at_every_link():
    chain, true, stated, fits = run(4, 2)
    assert chain.replayed == tuple(range(BATCHES))
    assert all(found.start is None and found.belief.drift == 0 for found in fits)
    assert true.max() < 0.01
    # A level of 99%: of 24 links at most two are outside, with probability 0.998.
    assert (true > stated).sum() <= 2
    assert np.median(stated / true) < 10


def test_drift_follows_the_true_error_and_does_not_fall_when_a_match_leaves_sight(monkeypatch):
    """Hindsight with room for two segments: without what left sight, drift would stay near zero."""
    monkeypatch.setattr("lindley.model.policy.SIGHT", 1)
    chain, true, stated, fits = run(5, 2, refit_rows=100, rebase_at_drift=None)
    assert max(chain.replayed) < BATCHES - 1
    assert true[-1] > 1
    assert any(belief.unseen.mean for belief in chain.beliefs)
    drift = np.array([belief.drift for belief in chain.beliefs])
    moved = true > 0.05
    assert moved.sum() > 4
    assert (np.abs(np.log(drift[moved] / true[moved])) < np.log(2)).all(), (drift[moved], true[moved])
    assert ((true <= stated) | (true <= 1.25 * drift + 0.02)).all()
    warned = [any("moved the result" in text for text in found.assessment.gate.warnings) for found in fits]
    assert all(said for said, error in zip(warned, true, strict=True) if error > 0.2)


def test_a_jump_beyond_the_draws_is_doubted_and_stated():
    """The chain ends many sds off, where a weighted mean of the draws stops at three."""
    chain, true, stated, fits = run(20, 1, refit_rows=60, replay=1, rebase_at_drift=None)
    assert true[-1] > 6
    far = true > 4
    assert (stated[far] > true[far]).all()
    assert (stated[far] < 10 * true[far]).all()
    for found in np.array(fits, dtype=object)[far]:
        assert not found.belief.trusted
        assert any("hindsight has too few draws" in doubt for doubt in found.assessment.doubts)
        assert any("moved the result at least" in text for text in found.assessment.gate.warnings)
    assert chain.head.doubt > 0


def test_refits_by_default_keep_the_chain_right():
    chain, true, stated, _ = run(20, 1, refitted=True, refit_rows=SHORT)
    assert true.max() < 0.2
    assert (true <= stated + 0.01).all()
    assert max(chain.replayed) > SHORT / ROWS  # a refit of all batches
    assert all(newer.drift < 0.15 for _, newer in pairwise(chain.beliefs))


@pytest.mark.parametrize("order", [0, 2, 3])
def test_monte_carlo_errors_are_those_of_replicates(order):
    """Draws of a gamma's logarithm with and without calibration, autocorrelated along two chains."""
    shape, replicates, found, errors = 20.0, 200, [], []
    mean, sd = float(special.digamma(shape)), float(np.sqrt(special.polygamma(1, shape)))
    for seed in range(replicates):
        rng = np.random.default_rng(seed)
        noise = rng.standard_normal((2, 1000))
        for i in range(1, 1000):
            noise[:, i] = 0.6 * noise[:, i - 1] + 0.8 * noise[:, i]
        u = np.log(stats.gamma(shape).ppf(stats.norm.cdf(noise))).ravel()[:, None]
        weights = (
            equal_weights(2000) if order == 0 else calibrate(u, shape - np.exp(u), 90 if order == 3 else 25)
        )
        assert weights.order == order
        own = weights.weights @ u[:, 0]
        spread = np.sqrt(weights.weights @ (u[:, 0] - own) ** 2)
        found.append([(own - mean) / sd, np.log(spread / sd)])
        errors.append(np.ravel(monte_carlo_errors(u, weights, 2)))
    ratio = np.std(found, axis=0) / np.mean(errors, axis=0)
    # An sd of 200 replicates is known to 5%; calibration to third degree leaves little that is normal.
    assert (ratio > 0.6).all(), ratio
    assert (ratio < 1.3).all(), ratio
    bounds = [monte_carlo_error(None, (np.array([a]), np.array([b]))) for a, b in errors]
    # 99% with the draws of a fit; few draws calibrated to third degree leave residuals with heavy tails.
    assert np.mean(np.abs(found).max(axis=1) <= bounds) > 0.97


def test_what_does_not_vary_has_no_error():
    values = np.column_stack([np.random.default_rng(1).standard_normal(400), np.full(400, 3.0)])
    mean, log_sd = monte_carlo_errors(values, equal_weights(400), 4)
    assert (mean[1], log_sd[1]) == (0, 0)
    assert mean[0] == pytest.approx(1 / 20, rel=0.3)
    assert monte_carlo_error(None, (np.zeros(1), np.zeros(1))) == 0
