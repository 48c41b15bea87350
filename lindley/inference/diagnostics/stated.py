"""The stated error of a posterior: what matches moved it by, and the Monte Carlo error of its draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from arviz_stats.base import array_stats
from scipy import stats

from lindley.inference.diagnostics.hindsight import Lineage, View
from lindley.model.coordinates import Coordinates
from lindley.prior.stein import CalibratedWeights

#: Share of links whose error is to be within the stated one.
LEVEL = 0.99
#: Values whose autocorrelation is measured: those with the largest errors. The others have the largest of it.
_MEASURED = 40
#: Factor on the standard errors of draws: they are estimates from the same draws, and calibrated means have a
#: bias of a quarter of them. Of 505 pooled fits with exact posteriors (`make bench-drift`), 97.2% are within
#: the nominal 99%, and 99% within 1.14 times it.
_ESTIMATED = 1.2
#: Smallest standard error, in sds: rounding.
_LEAST = 1e-6


def values_of(coordinates: Coordinates, points: np.ndarray, natural: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the draws whose error is stated: coordinates, then carried variables on their natural scale.

    Parameters
    ----------
    coordinates
        Of the belief after the fit.
    points
        Draws [chain, draw, coordinate] of these coordinates first, then of local variables.
    natural
        Draws [chain, draw, ...] of variables by name.

    Returns
    -------
    numpy.ndarray
        Array [draw, value], chain after chain.
    """
    own = points.reshape(-1, points.shape[-1])[:, : coordinates.size]
    found = [natural[name].reshape(len(own), -1) for name in coordinates.variables if name in natural]
    return np.column_stack([own, *found])


def monte_carlo_errors(
    values: np.ndarray, calibration: CalibratedWeights, chains: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the standard errors of means, in sds, and of logarithms of sds, of calibrated draws.

    They are those of the residuals that the control variates leave (`CalibratedWeights.mean`), times the
    inefficiency of these residuals along the chains.

    Parameters
    ----------
    values
        Array [draw, value], chain after chain.
    calibration
        Weights of the draws.
    chains
        Number of chains.

    Returns
    -------
    tuple
        Two arrays [value]; 0 for values that do not vary.
    """
    sd = values.std(axis=0)
    varies = sd > 1e-12 * np.abs(values).max(axis=0, initial=0.0)
    z = (values - calibration.weights @ values)[:, varies] / sd[varies]
    # The first-order influence of a draw on the logarithm of the sd is half its square.
    parts = np.column_stack([z, 0.5 * z**2])
    left, errors = _residuals(parts, calibration)
    worst = np.argsort(errors)[::-1][:_MEASURED]
    inefficiency = np.ones(len(errors))
    if len(worst):
        found = [_inefficiency(left[:, i].reshape(chains, -1)) for i in worst]
        inefficiency[:] = max(found)
        inefficiency[worst] = found
    errors = np.maximum(errors * np.sqrt(inefficiency), _LEAST)
    mean, log_sd = np.zeros(len(sd)), np.zeros(len(sd))
    mean[varies], log_sd[varies] = np.split(errors, 2)
    return mean, log_sd


def _residuals(parts: np.ndarray, calibration: CalibratedWeights) -> tuple[np.ndarray, np.ndarray]:
    """Return what the variates leave of columns, and the standard errors of their calibrated means."""
    left, leverage = parts - parts.mean(axis=0), np.zeros(len(parts))
    if calibration.order:
        basis = calibration.basis
        left = left - basis @ (basis.T @ left)
        leverage = (basis**2).sum(axis=1)
    # Each residual is what the others, without this draw, would leave of it.
    own = (calibration.weights / np.maximum(1 - leverage, 1e-3))[:, None] * left
    return left, np.sqrt((own**2).sum(axis=0))


def _inefficiency(left: np.ndarray) -> float:
    """Return draws per effective draw of residuals [chain, draw]."""
    ess = float(array_stats.ess(left, method="mean")) if np.ptp(left) > 0 else np.nan
    return left.size / ess if np.isfinite(ess) and ess > 0 else 1.0


def error_metrics(
    lineage: Lineage, monte_carlo: Callable[[], tuple[np.ndarray, np.ndarray]] | None
) -> dict[str, float]:
    """Return drift, what is known of matches that could not be measured, and the stated error where it is.

    Where the newest match cannot be measured, drift stays as it was last measured.

    Parameters
    ----------
    lineage
        The beliefs and matches behind the fit.
    monte_carlo
        Returns the standard errors of the draws, see `monte_carlo_errors`; None for an imported trace.
    """
    start, view, audited, matches = lineage.start, lineage.view, lineage.audited, lineage.matches
    drift = view.drift if view is not None else (start.drift if start is not None else 0.0)
    found = {"drift": drift, "unmeasured": float(matches)}
    if audited is not None:
        found |= audited.as_metrics() | ({"unmeasured_error": audited.expected(matches)} if matches else {})
    if monte_carlo is None:
        return found
    own = monte_carlo_error(view, monte_carlo())
    found["monte_carlo_error"] = own
    # Nothing can be seen, and nothing is unmeasured: an import is behind it, or its belief forgets.
    undefined = start is not None and view is None and not lineage.unmeasured
    if undefined or (matches and audited is None):
        return found
    bound = audited.bound(matches, own) if audited is not None else own
    return found | {"stated_error": drift + bound}


def monte_carlo_error(
    view: View | None, errors: tuple[np.ndarray, np.ndarray], level: float = LEVEL
) -> float:
    """Return the bound on the Monte Carlo error of every mean, in sds, and every log sd, at a level.

    It is a quantile of the largest of the errors, that of hindsight included, as independent normals: as many
    as carry the sum of their variances (the participation ratio), since the coordinates and their natural
    scale have the same error twice.

    Parameters
    ----------
    view
        What hindsight saw of the matches behind the posterior; None where there are none.
    errors
        See `monte_carlo_errors`.
    """
    variances = (_ESTIMATED * np.concatenate(errors)) ** 2
    if view is not None:
        variances = variances + np.concatenate([view.moved.mean_error, view.moved.log_sd_error]) ** 2
    total = float(variances.sum())
    count = max(1.0, total**2 / float((variances**2).sum()) / 2) if total > 0 else 1.0
    quantile = stats.norm.isf(0.5 * (1 - level ** (1 / count)))
    return float(quantile * np.sqrt(variances.max(initial=0.0)))
