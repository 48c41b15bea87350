"""Ascents that look for modes which no chain reached."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from lindley.inference.modes.detection import Regions
from lindley.target.problem import Problem

#: Modes whose roughly estimated evidence is smaller by this many nats get no chains.
NEGLIGIBLE = 30.0
#: Draws at which evidence is estimated roughly.
ROUGH = 200
#: Evaluations of each ascent.
_ASCENT = 60
#: Nats by which a mode may be lower for each dimension, because it may be wider.
_LOWER = 3.0
#: Negative log density where there is none.
_NOWHERE = 1e300


def tops(problem: Problem, known: Regions, starts: np.ndarray, x: np.ndarray) -> list[np.ndarray]:
    """Climb from starting points [start, x]; return where climbs end that do not reach known modes.

    The highest first, and none that still rises, or is so low that little of the posterior can be there.
    Steps are in the units of draws x [draw, x] of a known mode, in which its density is round.
    """
    size, scale = problem.coordinates.size, Regions.of([x]).factors[0]
    some = x[np.linspace(0, len(x) - 1, min(ROUGH, len(x))).astype(int)]
    least = problem.bound.log_densities(some)[0].mean() - NEGLIGIBLE - _LOWER * x.shape[1]

    def downhill(z: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = problem.bound.log_density(scale @ z)
        if not np.isfinite(value) or not np.isfinite(gradient).all():
            return _NOWHERE, np.zeros_like(z)
        return -float(value), -scale.T @ np.array(gradient)

    def arrived(z: np.ndarray) -> bool:
        return bool(known.near(problem.points(scale @ z)[None, :size])[0])

    def stop(z: np.ndarray) -> None:
        if arrived(z):
            raise StopIteration

    ends: list[tuple[float, int, np.ndarray]] = []
    for start in np.linalg.solve(scale, starts.T).T:
        if downhill(start)[0] < _NOWHERE:
            options = {"maxfun": _ASCENT}
            end = minimize(downhill, start, jac=True, method="L-BFGS-B", callback=stop, options=options)
            if end.success and -end.fun >= least and not arrived(end.x):
                ends.append((float(end.fun), len(ends), scale @ end.x))
    return [top for _, _, top in sorted(ends, key=lambda item: item[:2])]
