"""The mode of a density and the curvature there, by ascents from several starting points.

Newton's method with the absolute values of the Hessian's eigenvalues, so that it leaves saddles (Dauphin et
al. 2014, NeurIPS 27). The Hessian is that of differences of the gradient. All ascents take their steps
together: a call of the compiled density takes many points at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

#: ``f(points [point, x])``: log densities [point] and gradients [point, x].
type LogDensities = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

#: Steps of an ascent at most, and the lengths of a step that are tried, in Newton steps.
_STEPS, _LENGTHS = 60, np.array([1.0, 2.0, 0.5, 0.25, 0.1, 0.03, 0.01, 1e-3, 1e-4])
#: Gradient, in the mode's own sds, at which an ascent has arrived.
_ARRIVED = 1e-4
#: Distance in sds from which on two ascents have arrived in different places.
_APART = 0.1
#: Step of a difference of gradients: in units of the scale on the way, and in sds of the mode at its end.
_FAR, _NEAR = 1e-4, 1e-2
#: Smallest eigenvalue of the curvature beside the largest one: below it the mode is flat.
_FLAT = 1e-12
#: Nats below the highest place found at which another one holds next to nothing of the density, and nats more
#: for each dimension, because it may be wider (see `lindley.inference.modes.scouting`).
_NEGLIGIBLE, _WIDER = 30.0, 3.0


@dataclass(frozen=True)
class Mode:
    """The place of the highest density, and the curvature there.

    Parameters
    ----------
    x
        Array [x].
    factor
        Lower Cholesky factor [x, x] of the inverse of minus the Hessian.
    ascents
        Number of ascents that ended there.
    """

    x: np.ndarray
    factor: np.ndarray
    ascents: int


def find_mode(log_densities: LogDensities, starts: np.ndarray, scale: np.ndarray) -> Mode | str:
    """Climb from starting points; return the one mode where all ascents end, or why there is none.

    Parameters
    ----------
    log_densities
        The density, not normalised.
    starts
        Array [start, x].
    scale
        Array [x]: how far starting points are from each other, roughly.
    """
    values, slopes = log_densities(starts)
    usable = np.isfinite(values) & np.isfinite(slopes).all(axis=1)
    if usable.sum() < 2:
        return "fewer than two starting points have a finite density"
    ends, heights, curvatures, arrived = _climb(log_densities, starts[usable], scale)
    best = int(np.argmax(heights))
    low = heights < heights[best] - _NEGLIGIBLE - _WIDER * starts.shape[1]
    if not arrived[~low].all():
        return f"{int((~arrived & ~low).sum())} of {len(ends)} ascents did not arrive at a mode"
    factor = _inverse_factor(curvatures[best])
    if factor is None:
        return "the density has no curvature at its mode"
    apart = np.linalg.solve(factor, (ends[~low] - ends[best]).T)
    if not (np.abs(apart) < _APART).all():
        return "ascents from different starting points end in different modes"
    # The Hessian anew, with steps that fit the mode.
    curvature = _curvature(log_densities, ends[[best]], factor, _NEAR)[0]
    inside = _inverse_factor(curvature)
    if inside is None:
        return "the density has no curvature at its mode"
    return Mode(
        ends[best], np.linalg.cholesky(_symmetric(factor @ inside @ inside.T @ factor.T)), len(apart.T)
    )


def _climb(
    log_densities: LogDensities, starts: np.ndarray, scale: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Climb; return the ends [start, x], heights, curvatures there, and whether they are modes."""
    count, size = starts.shape
    x, arrived = starts.copy(), np.zeros(count, dtype=bool)
    curvatures, stuck = np.zeros((count, size, size)), np.zeros(count, dtype=bool)
    heights, slopes = log_densities(x)
    factor = np.diag(scale)
    for _ in range(_STEPS):
        here = np.flatnonzero(~(arrived | stuck))
        if not len(here):
            break
        hessians = _curvature(log_densities, x[here], factor, _FAR)
        sound = np.isfinite(hessians).all(axis=(1, 2))
        stuck[here[~sound]] = True
        here, hessians = here[sound], hessians[sound]
        if not len(here):
            continue
        g = slopes[here] * scale
        steps, gain, concave = _newton(hessians, g)
        curvatures[here] = hessians / np.outer(scale, scale)
        done = concave & (gain < _ARRIVED**2)
        arrived[here[done]] = True
        here, steps = here[~done], steps[~done] * scale
        if not len(here):
            continue
        tried = x[here][:, None, :] + _LENGTHS[None, :, None] * steps[:, None, :]
        values, gradients = log_densities(tried.reshape(-1, size))
        values = np.where(np.isfinite(gradients).all(axis=1), values, -np.inf).reshape(len(here), -1)
        values = np.where(np.isfinite(values), values, -np.inf)
        chosen = values.argmax(axis=1)
        rows = np.arange(len(here))
        better = values[rows, chosen] > heights[here]
        # A step that gains nothing in floating point: as near as it gets.
        stuck[here[~better]] = True
        here, rows = here[better], rows[better]
        x[here], heights[here] = tried[rows, chosen[rows]], values[rows, chosen[rows]]
        slopes[here] = gradients.reshape(*values.shape, size)[rows, chosen[rows]]
    arrived |= _as_near_as_it_gets(stuck, slopes, curvatures)
    return x, heights, curvatures, arrived


def _newton(hessians: np.ndarray, gradients: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return steps [start, x], the squared gradients in sds, and whether the density is concave there."""
    values, vectors = np.linalg.eigh(hessians)
    largest = np.abs(values).max(axis=1, keepdims=True)
    floor = np.maximum(_FLAT * largest, np.finfo(float).tiny)
    inverse = 1 / np.maximum(np.abs(values), floor)
    inside = np.einsum("sij,si->sj", vectors, gradients)
    steps = np.einsum("sij,sj->si", vectors, inverse * inside)
    concave = (values > _FLAT * largest).all(axis=1)
    return steps, (inverse * inside**2).sum(axis=1), concave


def _as_near_as_it_gets(stuck: np.ndarray, slopes: np.ndarray, curvatures: np.ndarray) -> np.ndarray:
    """Return which ascents that gain nothing more are within a hundredth of an sd of a mode."""
    found = np.zeros(len(stuck), dtype=bool)
    for place in np.flatnonzero(stuck):
        factor = _inverse_factor(curvatures[place])
        if factor is not None and np.isfinite(slopes[place]).all():
            found[place] = bool(np.abs(factor.T @ slopes[place]).max() < 100 * _ARRIVED)
    return found


def _curvature(
    log_densities: LogDensities, points: np.ndarray, factor: np.ndarray, step: float
) -> np.ndarray:
    """Return minus the Hessians [point, x, x] of y with x = point + factor y, by central differences."""
    count, size = points.shape
    moves = step * np.concatenate([factor.T, -factor.T])
    _, gradients = log_densities((points[:, None, :] + moves[None]).reshape(-1, size))
    inside = gradients.reshape(count, 2, size, size) @ factor
    return _symmetric((inside[:, 1] - inside[:, 0]) / (2 * step))


def _symmetric(matrices: np.ndarray) -> np.ndarray:
    return (matrices + np.swapaxes(matrices, -1, -2)) / 2


def _inverse_factor(curvature: np.ndarray) -> np.ndarray | None:
    """Return a factor F with F F' the inverse of a curvature; None where that is not positive definite."""
    if not np.isfinite(curvature).all():
        return None
    # Scaled to a unit diagonal first: coordinates may have very different units.
    diagonal = np.diag(curvature)
    if not (diagonal > 0).all():
        return None
    scale = 1 / np.sqrt(diagonal)
    values, vectors = np.linalg.eigh(curvature * np.outer(scale, scale))
    if not values.min() > _FLAT * values.max():
        return None
    root = scale[:, None] * (vectors / np.sqrt(values))
    return np.linalg.cholesky(_symmetric(root @ root.T))
