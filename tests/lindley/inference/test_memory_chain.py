"""Replay and hindsight: where an update starts, and convergence to the pooled answer further back."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from lindley.batch.batch import batch_from_frame
from lindley.inference.diagnostics.gate import Thresholds
from lindley.inference.inputs import Data, Options, Step, steps_back
from lindley.inference.memory_chain import MemoryChain, advance, refit
from lindley.inference.sampling import FitSettings
from lindley.model.declaration import Declaration
from lindley.model.policy import Policy, Window
from tests.support.oracles import beta_binomial

SETTINGS = FitSettings(draws=600, tune=300)
SCHEMA = pa.schema([pa.field(name, pa.int64(), nullable=False) for name in ("id", "k", "n")])
#: Sparse batches: the first ones leave a skewed belief about a small probability.
COUNTS = [(0, 4), (1, 12), (0, 9), (4, 15)]

untrusted = Thresholds(efficiency_trust=1.1, shift_trust=np.inf)


def trials(batch: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        theta = pm.Beta("theta", 2, 3)
        n = pm.Data("n_values", batch["n"].to_numpy())
        pm.Binomial("y", n, theta, observed=pm.Data("k_values", batch["k"].to_numpy()))
    return model


def declared(build, variable, **policy) -> Declaration:
    return Declaration(
        name="chain",
        build=build,
        schema=SCHEMA,
        row_key=("id",),
        carried=(variable,),
        policy=Policy(**policy),
    )


def data(declaration, variable, *batches):
    return Data(declaration=declaration, batches=batches, carried=(variable,))


def run(thresholds, links=4, **policy):
    declaration = declared(trials, "theta", **policy)
    chain, fits = MemoryChain(), []
    for i, (k, n) in enumerate(COUNTS[:links]):
        # Two rows a batch, so that rows pool in one table of another size.
        frame = pd.DataFrame({"id": [2 * i, 2 * i + 1], "k": [0, k], "n": [1, n - 1]})
        options = Options(seed=i, settings=SETTINGS, thresholds=thresholds)
        chain, found = advance(
            chain, data(declaration, "theta", batch_from_frame(frame, declaration)), options
        )
        fits.append(found)
    return chain, fits


def exact_score(links):
    """Closed form of the log probability of the first batches, row by row."""
    a, b, score = 2.0, 3.0, 0.0
    for k, n in COUNTS[:links]:
        for successes, count in ((0, 1), (k, n - 1)):
            score += np.log(special.comb(count, successes))
            score += special.betaln(a + successes, b + count - successes) - special.betaln(a, b)
            a, b = a + successes, b + count - successes
    return score


def holds(found, links):
    """Compare a fit's draws with the exact posterior of the first batches."""
    k, n = np.array(COUNTS[:links]).T
    exact = beta_binomial(k, n)
    theta = found.draws.quantities.values["theta"]
    ess = min(found.sampled.sampling.convergence.ess_bulk[0], found.sampled.sampling.convergence.ess_tail[0])
    assert ess > 400
    assert abs(theta.mean() - exact.mean()) < 5 * exact.std() / np.sqrt(ess)
    kurtosis = float(exact.stats("k")) + 3
    assert abs(theta.std() / exact.std() - 1) < 5 * np.sqrt((kurtosis - 1) / (4 * ess))


STEPS = st.lists(
    st.builds(Step, st.booleans(), st.integers(0, 3), st.integers(1, 40), st.booleans()), max_size=12
)


@given(STEPS, st.integers(1, 40), st.integers(1, 300), st.integers(0, 14))
def test_an_update_starts_from_the_oldest_trusted_belief_that_the_window_holds(steps, rows, most, batches):
    window = Window(most, batches)
    back = steps_back(steps, rows, window)

    def of(taken):
        apart = any(step.apart for step in steps[:taken])
        counts = sum(step.batches for step in steps[:taken])
        return rows + sum(step.rows for step in steps[:taken]), counts, apart

    # What it may go back to: not beyond a belief without a way back.
    reach = next((i for i, step in enumerate(steps) if not step.batches), len(steps))
    assert 0 <= back <= reach
    assert window.stretches_to(*of(back))
    trusted = [i for i in range(reach + 1) if i == len(steps) or steps[i].trusted]
    held = [i for i in trusted if window.holds(*of(i))]
    if held:
        assert back == max(held)
    else:
        reached = [i for i in range(reach + 1) if all(window.stretches_to(*of(j)) for j in range(i + 1))]
        assert back == min(set(trusted) & set(reached), default=max(reached))


def test_inlined_constants_are_fitted_again_only_behind_a_match_that_is_not_trusted():
    trusted, poor = Step(True, 1, 5, inlined=True), Step(False, 1, 5, inlined=True)
    assert steps_back([trusted, trusted], 5, Window(5000, 12)) == 0
    assert steps_back([poor, poor, trusted], 5, Window(5000, 12)) == 2


def test_what_lies_behind_the_start_is_not_read():
    def newest_first():
        yield Step(True, 1, 10)
        raise AssertionError("read too far")

    assert steps_back(newest_first(), 1, Window(15, 12)) == 0


@given(st.lists(st.integers(0, 3), min_size=1, max_size=8))
def test_segments_behind_a_belief_cover_every_batch_once(replays):
    replays = tuple(min(count, place) for place, count in enumerate(replays))
    names = tuple(range(len(replays)))
    batches = tuple(SimpleNamespace(rows=1, name=name) for name in names)
    chain = MemoryChain(names, batches, replays)
    for place in names:
        behind = chain.behind(place)
        covered = [batch.name for segment in reversed(behind) for batch in segment.batches()]
        # What a segment starts from is what the one before it ends with.
        assert covered == list(range(place + 1))
        for newer, older in pairwise(behind):
            assert newer.start() == older.batches()[-1].name
        assert behind[-1].start() is None
        assert all(segment.count == segment.rows == len(segment.batches()) for segment in behind)


@pytest.fixture(scope="module")
def replayed():
    return run(untrusted)


def test_a_chain_without_a_good_match_equals_the_pooled_answer(replayed):
    chain, fits = replayed
    assert chain.replayed == (0, 1, 2, 3)
    assert not any(belief.trusted for belief in chain.beliefs)
    for links, (belief, found) in enumerate(zip(chain.beliefs, fits, strict=True), 1):
        holds(found, links)
        assert found.start is None
        assert found.problem.pooled == ("rows" if links > 1 else "")
        assert belief.covered == links
        # No match led here, so there is none to doubt.
        assert belief.doubt == 0
        assert belief.drift == 0


def test_log_predictive_densities_along_a_replayed_chain_add_up_to_the_marginal_likelihood(replayed):
    chain, fits = replayed
    total = 0.0
    for links, (belief, found) in enumerate(zip(chain.beliefs, fits, strict=True), 1):
        metrics = found.assessment.metrics
        total += metrics["log_predictive"]
        assert belief.log_score == pytest.approx(total)
        # Differences of evidences seen from genesis: only the newest one's error is left.
        assert abs(total - exact_score(links)) < 5 * metrics["log_predictive_se"] + 1e-3
        assert metrics["log_predictive_se"] < 0.05


def test_the_window_bounds_replays_and_doubts_count_earlier_matches():
    chain, fits = run(untrusted, refit_rows=1, replay=1)
    # The third link would have to fit two batches again: it starts from a match that is not trusted.
    assert chain.replayed == (0, 1, 0, 1)
    assert [found.start and chain.beliefs.index(found.start) for found in fits] == [None, None, 1, 1]
    assert [belief.doubt for belief in chain.beliefs] == [0, 0, 1, 1]
    warnings = fits[-1].assessment.gate.warnings
    assert any(warning.startswith("1 earlier match could not be trusted") for warning in warnings)


def test_a_refit_in_memory_is_the_pooled_answer_and_the_chain_goes_on_from_it():
    chain, _ = run(untrusted, replay=0)
    assert chain.head.doubt == 3
    declaration = declared(trials, "theta", replay=0)
    grown, found = refit(chain, data(declaration, "theta"), Options(seed=9, settings=SETTINGS))
    holds(found, 4)
    assert (len(grown.beliefs), grown.batches, grown.replayed) == (4, chain.batches, (0, 0, 0, 3))
    assert (grown.head.doubt, grown.head.drift, grown.beliefs[:3]) == (0, 0.0, chain.beliefs[:3])
    (segment,) = grown.behind(3)
    assert (segment.start(), segment.batches()) == (None, chain.batches)


def test_an_update_starts_from_a_good_match():
    trusting = Thresholds(efficiency_trust=0.0, distance_trust=np.inf, shift_trust=np.inf)
    chain, fits = run(trusting, links=3, refit_rows=1)
    assert chain.replayed == (0, 0, 0)
    assert [found.start for found in fits] == [None, *chain.beliefs[:2]]
    assert all(found.assessment.metrics["shift"] > 0 for found in fits[1:])
    assert chain.beliefs[-1].drift > 0


@pytest.mark.parametrize("window", [12, 1])
def test_a_match_that_moved_the_result_is_undone_within_the_window(window):
    tiny = Thresholds(efficiency_trust=0.0, distance_trust=np.inf, shift_trust=0.0)
    chain, fits = run(tiny, links=3, refit_rows=1, replay=window, family="normal")
    assert [found.undone for found in fits] == [0, 1, 1 if window == 12 else 0]
    assert chain.replayed == (0, 1, 2 if window == 12 else 0)
    holds(fits[1], 2)
    assert chain.beliefs[1].log_score == pytest.approx(
        exact_score(2), abs=5 * fits[1].assessment.metrics["log_predictive_se"] + 1e-3
    )
    if window == 12:
        holds(fits[2], 3)
        assert "shift" not in fits[2].assessment.metrics
    else:
        # Two batches are behind the belief, one too many: it stands, and what it did is told.
        assert fits[2].start is chain.beliefs[1]
        assert fits[2].assessment.metrics["shift"] > 0
        assert chain.beliefs[2].drift == pytest.approx(fits[2].assessment.metrics["shift"])


def test_the_exact_score_is_that_of_beta_binomials():
    """Of the oracle itself: the first row is a Bernoulli, the second a beta-binomial given it."""
    first = stats.betabinom(1, 2, 3).logpmf(0) + stats.betabinom(3, 2, 4).logpmf(0)
    assert exact_score(1) == pytest.approx(first)


def with_effects(batch: pd.DataFrame) -> pm.Model:
    """A mean under local effects: values with noise of variance 1 + 0.5^2 around it."""
    with pm.Model(coords={"row": batch["id"].to_numpy()}) as model:
        mu = pm.Normal("mu", 0, 2)
        effect = pm.Normal("effect", 0, 0.5, dims="row")
        pm.Normal("y", mu + effect, 1.0, observed=pm.Data("values", batch["k"].to_numpy().astype(float)))
    return model


def test_batches_that_are_fitted_one_by_one_are_together_until_the_window_is_full() -> None:
    declaration = declared(with_effects, "mu", replay=2)
    chain, fits = MemoryChain(), []
    values = [[3, 4], [-2, 6], [1, 1], [8, 0], [2, 5]]
    for i, pair in enumerate(values):
        frame = pd.DataFrame({"id": [2 * i, 2 * i + 1], "k": pair, "n": [1, 1]})
        batch = batch_from_frame(frame, declaration)
        chain, found = advance(chain, data(declaration, "mu", batch), Options(seed=i, settings=SETTINGS))
        fits.append(found)
    # Three batches are together at most: the third link's match is the first one that is started from.
    assert chain.replayed == (0, 1, 2, 0, 1)
    assert all(belief.apart for belief in chain.beliefs)
    assert [fit.belief.doubt for fit in fits] == [0] * 5
    # An error is stated where no match is behind the fit.
    assert ["stated_error" in fit.assessment.metrics for fit in fits] == [True, True, True, False, False]
    assert not any("is unknown" in text for text in fits[2].assessment.gate.warnings)
    unknown = (
        "the error by the earlier match is unknown (local variables: effect): a pooled refit measures it"
    )
    assert [unknown in fit.assessment.gate.warnings for fit in fits] == [False] * 3 + [True] * 2
    assert [fit.belief.unmeasured for fit in fits] == [0, 0, 0, 1, 1]
    for fit, count in zip(fits, range(1, 6), strict=True):
        seen = np.concatenate(values[:count])
        precision = 1 / 4 + len(seen) / 1.25
        mu = fit.draws.quantities.values["mu"]
        ess = fit.sampled.sampling.convergence.ess_min
        assert ess > 400
        assert abs(mu.mean() - seen.sum() / 1.25 / precision) < 5 / np.sqrt(precision * ess)
        assert abs(mu.std() * np.sqrt(precision) - 1) < 5 / np.sqrt(2 * ess)


def test_a_chain_that_is_not_replayed_takes_every_match_as_it_is() -> None:
    declaration = declared(with_effects, "mu", replay=0)
    frame = pd.DataFrame({"id": [0, 1], "k": [3, 4], "n": [1, 1]})
    batch = batch_from_frame(frame, declaration)
    options = Options(seed=1, settings=SETTINGS)
    chain, _ = advance(MemoryChain(), data(declaration, "mu", batch), options)
    assert chain.head.trusted
