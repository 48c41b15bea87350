"""No diagnostic raises, and none passes what it cannot assess: draws that do not move, overlap, overflow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lindley.inference.diagnostics import hindsight
from lindley.inference.diagnostics.conflict import conflict, information_conflict, normal_scores
from lindley.inference.diagnostics.convergence import convergence, sd_errors
from lindley.inference.diagnostics.gate import Thresholds, refusals
from lindley.inference.diagnostics.importance import around, importance
from lindley.inference.diagnostics.match_quality import match_distances, match_doubts
from lindley.inference.diagnostics.pulls import _pulls
from lindley.prior.stein import calibrate
from lindley.prior.triangular import TriangularMap, joint_normal

KINDS = ("normal", "constant", "collinear", "one frozen", "nan", "infinite", "huge", "tiny", "two values")
CHAINS, DRAWS = 4, 40
DEGENERATE = st.tuples(
    st.sampled_from(KINDS),
    st.sampled_from([1, 2, 9]),
    st.integers(0, 2**16),
    st.sampled_from([0.0, -800.0]),
)
quick = settings(deadline=None, max_examples=20)
#: Once with more coordinates than draws of a chain.
WIDE = ("collinear", 200, 0, -800.0)


def draws_of(kind: str, size: int, seed: int) -> np.ndarray:
    """Return draws [chain, draw, coordinate] of a kind."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(CHAINS, DRAWS, size))
    match kind:
        case "constant":
            x[:] = 3.0
        case "collinear":
            x[:] = x[..., :1]
        case "one frozen":
            x[..., 0] = 0.0
        case "nan":
            x[0, 0, -1] = np.nan
        case "infinite":
            x[1, 3, 0] = np.inf
        case "huge":
            x *= 1e300
        case "tiny":
            x *= 1e-300
        case "two values":
            x = np.sign(x)
    return x


def map_of(size: int, log_width: float) -> TriangularMap:
    """Return a map, whose last width underflows where its logarithm is -800."""
    found = joint_normal(np.zeros(size), np.eye(size))
    found.log_width[-1] = log_width
    return found


@given(DEGENERATE)
@example(WIDE)
@quick
def test_convergence_is_refused_where_it_cannot_be_computed(given_: tuple[str, int, int, float]) -> None:
    kind, size, seed, _ = given_
    draws = draws_of(kind, size, seed)
    found = convergence(draws)
    assert found.ess_min >= 1.0
    assert np.isfinite(sd_errors(draws)).all()
    if kind in ("constant", "one frozen", "nan", "infinite"):
        names = [str(i) for i in range(size)]
        assert refusals(names, found, divergences=0.0, thresholds=Thresholds())


@given(DEGENERATE)
@example(WIDE)
@quick
def test_a_match_that_cannot_be_compared_is_not_trusted(given_: tuple[str, int, int, float]) -> None:
    kind, size, seed, log_width = given_
    draws = draws_of(kind, size, seed).reshape(-1, size)
    weights = np.full(len(draws), 1 / len(draws))
    distances, moment = match_distances(draws, weights, map_of(size, log_width), np.random.default_rng(1))
    assert not np.isnan(distances).any()
    assert not np.isnan(moment)
    if kind != "normal" or log_width:
        doubtful = match_doubts(None, distances, moment, Thresholds())
        assert doubtful or kind in ("collinear", "two values")


@given(DEGENERATE)
@example(WIDE)
@quick
def test_importance_and_shift_lead_to_doubt(given_: tuple[str, int, int, float]) -> None:
    kind, size, seed, log_width = given_
    draws, used = draws_of(kind, size, seed).reshape(-1, size), map_of(size, log_width)
    exact = map_of(size, 0.0)
    with np.errstate(all="ignore"):
        found = importance(used, exact.log_density, rng=np.random.default_rng(1), size=200)
        points, proposed = around(used, np.random.default_rng(2))
    assert points.shape[1] == size
    assert len(proposed) == len(points)
    assert 0 <= found.efficiency <= 1 + 1e-9
    with np.errstate(all="ignore"):
        log_ratio = exact.log_density(draws) - used.log_density(draws)
    shift = hindsight.shift(draws, draws, log_ratio)
    parts = (shift.mean, shift.log_sd, shift.mean_error, shift.log_sd_error)
    assert all(np.isfinite(part).all() for part in parts)
    if kind in ("nan", "infinite", "huge"):
        assert shift.largest == hindsight.FARTHEST


@given(DEGENERATE)
@example(WIDE)
@quick
def test_conflict_has_a_p_value_or_a_reason(given_: tuple[str, int, int, float]) -> None:
    kind, size, seed, log_width = given_
    draws = draws_of(kind, size, seed).reshape(-1, size)
    with np.errstate(all="ignore"):
        pulls, share = _pulls(draws, draws[1:], map_of(size, log_width).jacobian(np.zeros(size)))
    assert np.isfinite(share).all()
    for observed, simulated in ((draws[0], draws[1:]), (pulls[0], pulls[1:]), (np.full(size, 1e9), draws)):
        found = conflict(observed, simulated)
        assert found.reason if np.isnan(found.p) else 0 <= found.p <= 1
        assert np.isfinite(found.pulls).all()
    with np.errstate(all="ignore"):
        z = map_of(size, log_width).inverse(draws)[0]
    weights = np.full(len(z), 1 / len(z))
    by_pull = information_conflict(z, weights, 100.0, reason="none can be drawn")
    assert by_pull.reason if np.isnan(by_pull.p) else 0 <= by_pull.p <= 1


@given(DEGENERATE)
@example(WIDE)
@quick
def test_calibration_gives_weights_that_sum_to_one(given_: tuple[str, int, int, float]) -> None:
    kind, size, seed, _ = given_
    draws = draws_of(kind, size, seed).reshape(-1, size)
    with np.errstate(all="ignore"):
        found = calibrate(draws, -draws, 200.0)
    assert found.weights.sum() == pytest.approx(1.0)
    assert found.gain >= 1.0


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=300))
@quick
def test_normal_scores_are_finite_and_in_the_order_of_the_values(values: list[float]) -> None:
    found = normal_scores(np.array(values))
    assert np.isfinite(found).all()
    order = np.argsort(values, kind="stable")
    assert (np.diff(found[order]) >= -1e-9).all()
