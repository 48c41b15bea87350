"""The prior of a new member against the law of total covariance."""

from dataclasses import replace

import numpy as np
import pytest

from lindley.errors import CoordinatesMismatch
from lindley.inference.members.population import moments, population
from lindley.model.coordinates import Block, Coordinates
from lindley.prior.matched import MatchedPrior
from lindley.prior.mixture import Mixture
from lindley.prior.triangular import joint_normal

COORDINATES = Coordinates((Block("b", (3,), (3,), "identity", ("x",), (("one", "two", "three"),)),))


def normal(mean, covariance, coordinates=COORDINATES) -> MatchedPrior:
    return MatchedPrior(coordinates, joint_normal(np.array(mean), np.linalg.cholesky(covariance)))


@pytest.fixture(scope="module")
def beliefs() -> tuple[list[MatchedPrior], np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    means = 1e6 + rng.standard_normal((7, 3)) * [1.0, 10.0, 0.1]
    roots = rng.standard_normal((7, 3, 3))
    covariances = roots @ roots.transpose(0, 2, 1) + 0.1 * np.eye(3)
    return [normal(m, c) for m, c in zip(means, covariances, strict=True)], means, covariances


def test_total_covariance_is_between_plus_within(beliefs) -> None:
    each, means, covariances = beliefs
    found = population(each)
    mean, covariance = moments(found)
    assert mean == pytest.approx(means.mean(axis=0), rel=1e-12)
    assert covariance == pytest.approx(covariances.mean(axis=0) + np.cov(means, rowvar=False), rel=1e-7)
    assert found.family == "normal"
    assert "7 members" in found.reason


def test_coordinates_are_matched_by_name(beliefs) -> None:
    each, _, _ = beliefs
    turned = Coordinates((replace(COORDINATES.blocks[0], labels=(("three", "one", "two"),)),))
    other = [each[0], *(one.ordered(turned) for one in each[1:])]
    assert population(other).digest == population(each).digest


def test_a_mixture_counts_with_its_own_spread() -> None:
    one = Coordinates((Block("m", (), (), "identity"),))
    parts = tuple(normal([at], np.eye(1) * 0.25, one).map for at in (-2.0, 2.0))
    mixture = MatchedPrior(one, Mixture(np.array([0.5, 0.5]), parts))
    _, covariance = moments(population([mixture, mixture]))
    # 4,000 draws: the variance of 4.25 has a relative standard error below 1.5%.
    assert covariance[0, 0] == pytest.approx(4.25, rel=0.06)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_members_are_refused(beliefs, count: int) -> None:
    with pytest.raises(CoordinatesMismatch, match="at least 2 members"):
        population(beliefs[0][:count])


def test_beliefs_about_other_parameters_are_refused(beliefs) -> None:
    other = normal([0.0], np.eye(1), Coordinates((Block("m", (), (), "identity"),)))
    with pytest.raises(CoordinatesMismatch, match="different parameters"):
        population([beliefs[0][0], other])
