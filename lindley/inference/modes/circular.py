"""Circular variables: their draws are taken within half a turn of their circular mean.

PyMC leaves an angle as it is when it samples: the density has the same value after every full turn, so
that chains may be whole turns apart, and a direction near pi is on both ends of (-pi, pi]. Means, R-hat and
matches are those of draws in one piece (Mardia & Jupp 2000, Directional Statistics, section 2.2).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lindley.inference.sampling import Draws
from lindley.target.problem import Problem

_TURN = 2 * np.pi


def recentred(angles: np.ndarray, near: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return angles [..., element] within half a turn of each element's circular mean, and these means.

    Parameters
    ----------
    angles
        In radians; each changes by whole turns only.
    near
        Array [element]: the circular mean is taken within half a turn of it; of 0 by default.
    """
    draws = tuple(range(angles.ndim - 1))
    center = np.arctan2(np.sin(angles).mean(axis=draws), np.cos(angles).mean(axis=draws))
    if near is not None:
        center = center + _TURN * np.round((near - center) / _TURN)
    return angles - _TURN * np.round((angles - center) / _TURN), center


def in_one_piece(problem: Problem, draws: Draws) -> tuple[Problem, Draws, np.ndarray]:
    """Return draws with their circular variables recentred, and their points [chain, draw, x].

    The problem that comes back counts the density of these variables within one turn only.

    Angles stay near the belief that the fit started from, so that a direction does not jump by a turn
    between links. Natural-scale values of circular variables are those of their coordinates.
    """
    points = problem.points(draws.x)
    of_carried = problem.coordinates.circular
    angles = np.concatenate([of_carried, problem.circular_locals])
    if not angles.any():
        return problem, draws, points
    near = np.zeros(len(angles))
    if problem.prior is not None:
        near[problem.layout.belief_at] = problem.prior.mean()
    folded = points.copy()
    folded[..., angles], center = recentred(points[..., angles], near[angles])
    turns = np.full(len(angles), np.nan)
    turns[angles] = center
    if not problem.genesis:
        turns[problem.layout.belief_at] = np.nan
    quantities, close = draws.quantities, near[: problem.coordinates.size][of_carried]

    def moved(u: np.ndarray) -> np.ndarray:
        found = u.copy()
        found[..., of_carried] = recentred(u[..., of_carried], close)[0]
        return found

    x = draws.x if np.array_equal(folded, points) else problem.vectors(folded)[0]
    place = {name: i for i, name in enumerate(problem.names)}
    values = dict(quantities.values)
    for variable in problem.graph.free:
        if variable.block.circular:
            shape = values[variable.name].shape
            held = folded[..., [place[name] for name in variable.block.names()]]
            values[variable.name] = held.reshape(shape)
    folded_quantities = replace(
        quantities, u=moved(quantities.u), carried=moved(quantities.carried), values=values
    )
    found = replace(draws, x=x, quantities=folded_quantities)
    return replace(problem, turns=turns), found, folded
