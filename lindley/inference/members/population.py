"""A prior for a new member: the distribution of a parameter vector over the members that are known."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from lindley.errors import CoordinatesMismatch
from lindley.model.coordinates import Coordinates
from lindley.prior.matched import MatchedPrior
from lindley.prior.matching import covariance_factor
from lindley.prior.triangular import TriangularMap, joint_normal

#: Members below which there is no population: one says nothing about how members differ.
FEWEST = 2


def population(beliefs: Iterable[MatchedPrior]) -> MatchedPrior:
    """Return the joint normal with the mean and the total covariance of members' beliefs.

    By the law of total covariance that of a member's parameters is the mean of the members' covariances
    (within) plus the covariance of their means (between; the unbiased estimate). Each member counts alike.

    Parameters
    ----------
    beliefs
        The members' matched priors, with the same coordinates in any order. They are read once, one at a
        time; sums are taken in their order, so that the same order gives the same bits.

    Returns
    -------
    MatchedPrior
        In the order of coordinates of the first one.

    Raises
    ------
    CoordinatesMismatch
        If two of them have other coordinates, or there are fewer than `FEWEST`.
    """
    count, coordinates = 0, None
    origin = sums = np.zeros(0)
    within = squares = np.zeros((0, 0))
    for belief in beliefs:
        if coordinates is None:
            coordinates = belief.coordinates
            mean, covariance = moments(belief)
            # Sums of differences from the first mean keep their digits.
            origin, sums = mean, np.zeros_like(mean)
            within, squares = np.zeros_like(covariance), np.zeros_like(covariance)
        else:
            _require_same(coordinates, belief.coordinates, count + 1)
            mean, covariance = moments(belief.ordered(coordinates))
        count, away = count + 1, mean - origin
        sums, within, squares = sums + away, within + covariance, squares + np.outer(away, away)
    if coordinates is None or count < FEWEST:
        raise CoordinatesMismatch(
            "There is no population to make a new member's prior from",
            expected=f"beliefs of at least {FEWEST} members",
            found=f"{count}",
            todo="start new members from the model's own priors until more members have a belief",
        )
    shift = sums / count
    between = (squares - count * np.outer(shift, shift)) / (count - 1)
    total = within / count + between
    factor = covariance_factor((total + total.T) / 2, coordinates.names)
    return MatchedPrior(
        coordinates,
        joint_normal(origin + shift, factor),
        reason=f"mean and total covariance of the beliefs of {count:,} members",
        moments="population",
    )


def moments(belief: MatchedPrior) -> tuple[np.ndarray, np.ndarray]:
    """Return mean [coordinate] and covariance of a matched prior: exact of a joint normal.

    Of any other map, and of a mixture, they are those of draws with a fixed seed.
    """
    normal = belief.as_joint_normal().map
    if not isinstance(normal, TriangularMap):  # `as_joint_normal` returns no mixture
        raise TypeError(f"{type(normal).__name__} is no joint normal")
    factor = normal.jacobian(np.zeros(normal.size))
    return normal.forward(np.zeros(normal.size)), factor @ factor.T


def _require_same(ours: Coordinates, theirs: Coordinates, number: int) -> None:
    """Refuse a belief about other parameters."""
    missing = sorted(set(ours.names) ^ set(theirs.names))
    if missing:
        raise CoordinatesMismatch(
            "The beliefs of members are about different parameters",
            expected=f"the coordinates of the first one: {', '.join(ours.names[:5])}",
            found=f"{', '.join(missing[:5])} not in both the first one and number {number}",
            todo='give the model the full list of labels, or leave new="population" out',
        )
