"""What a pooled refit measured of matches, and what it says of later links."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lindley.prior.belief import SAFETY, Audited


@pytest.mark.parametrize(
    ("matches", "expected"), [(0, 0.0), (1, 0.2), (4, 0.2), (5, 0.25), (8, 0.4)], ids=str
)
def test_the_error_grows_in_proportion_beyond_what_was_measured(matches: int, expected: float) -> None:
    assert Audited(0.2, 0.1, 4).expected(matches) == pytest.approx(expected)
    assert Audited(0.2, 0.1, 4).harm(matches) == pytest.approx(expected)
    assert Audited(0.2, 0.21, 4).harm(matches) == 0
    # Nothing unmeasured is behind the link: its error is Monte Carlo error.
    assert Audited(0.2, 0.1, 4).bound(0, 0.03) == 0.03


def test_one_small_outcome_is_no_proof() -> None:
    first = Audited.measured(0.2, 0.1, 1, None)
    assert first == Audited(0.2, 0.1, 1)
    # Two matches were expected to do 0.4.
    assert Audited.measured(0.05, 0.08, 2, first) == Audited(0.2, 0.08, 2)
    assert Audited.measured(0.3, 0.08, 2, first) == Audited(0.3, 0.08, 2)
    assert first.bound(2, 0.0) == pytest.approx(SAFETY * 0.4 + 0.2)


def test_metrics_state_it() -> None:
    audited = Audited(0.2, 0.1, 4)
    assert Audited.of(audited.as_metrics() | {"drift": 0.0}) == audited
    assert Audited.of({"drift": 0.0}) is None


@pytest.mark.parametrize("harm", [0.0, 0.02, 0.1, 0.5])
@pytest.mark.parametrize("matches", [1, 2])
def test_the_bound_holds_whatever_monte_carlo_error_hides(harm: float, matches: int) -> None:
    """One quantity; head, refit and a later link with as many matches, or twice, have errors of 0.03."""
    rng, count, se = np.random.default_rng(1), 100_000, 0.03
    head, refit, later = se * rng.standard_normal((3, count))
    limit = stats.norm.isf(0.005) * se
    measured = np.abs(harm + head - refit)
    bounds = np.array([Audited(error, np.hypot(limit, limit), 1).bound(matches, limit) for error in measured])
    held = np.mean(np.abs(matches * harm + later) <= bounds)
    assert held > 0.99 - 3 * np.sqrt(0.99 * 0.01 / count)
