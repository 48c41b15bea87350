"""Diagnostics of a fit, the thresholds that they must reach, and the gate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from arviz_stats.base import array_stats
from scipy import stats
from scipy.special import logsumexp

from lindley.prior.triangular import TriangularMap

#: Points drawn from a map or around it, and how much wider than it the latter lie.
_POINTS, _WIDER = 2000, 1.2
#: Beyond both the integral of the weights is unknown: no estimate of it is reliable with such a tail
#: (Vehtari et al. 2024, JMLR 25:72, section 3.2.4), and few of the points carry it.
_UNKNOWN_K, _UNKNOWN_EFFICIENCY = 0.7, 0.1


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Limits that a fit must keep to become head, and limits of warnings and of trust.

    Parameters
    ----------
    r_hat
        Largest rank-normalised split R-hat (Vehtari et al. 2021, Bayesian Analysis 16:667).
    ess
        Smallest bulk and tail effective sample size, 100 per chain of four (ibid.).
    divergences
        Largest fraction of draws that end in a divergent transition.
    k_hat_warn, efficiency_warn
        Largest Pareto k-hat of the target against the map matched to it (Vehtari et al. 2024, JMLR
        25:72), where the importance weights differ enough to have a tail (efficiency below the second):
        the match is then too coarse to trust the next link's prior unchecked. It flags the link and does
        not refuse it: leaving the batch out would be the larger error.
    efficiency_trust, distance_trust, moment_trust
        Smallest efficiency of the matched prior, largest Wasserstein distance of a margin in sds, and
        (with local variables or state, where the efficiency does not assess the carried draws) largest
        third moment of the whitened draws. No update starts from a match beyond them while the batches
        since the last trusted one can be fitted again (docs/adr/0013-replay-and-hindsight.md).
    shift_trust
        Largest shift, in sds, that the matches behind a fit may have caused together (see
        `lindley.inference.hindsight`) before the batches behind them are fitted again.
    drift_warn
        Largest accumulated shift, in sds.
    budget_warn, budget_rebase
        Accumulated (d+1)/ESS along the chain (docs/adr/0005-budget.md).
    conflict_warn
        Smallest p-value of the batch's pull against the prior it met.
    sd_warn
        Largest Monte Carlo standard error of a posterior sd, as a fraction of it. With heavy tails
        an sd is estimated badly where mean and quantiles are estimated well (Vehtari et al. 2021,
        section 5).
    """

    r_hat: float = 1.01
    ess: float = 400.0
    divergences: float = 0.01
    k_hat_warn: float = 0.7
    efficiency_warn: float = 0.9
    efficiency_trust: float = 0.9
    distance_trust: float = 0.1
    moment_trust: float = 0.5
    shift_trust: float = 0.02
    drift_warn: float = 0.1
    budget_warn: float = 0.25
    budget_rebase: float = 1.0
    conflict_warn: float = 0.001
    sd_warn: float = 0.05

    def as_dict(self) -> dict[str, float]:
        """Return the thresholds as JSON-able values."""
        return {name: float(getattr(self, name)) for name in self.__dataclass_fields__}


@dataclass(frozen=True)
class Gate:
    """Whether a fit passed the gate, or why it is quarantined."""

    passed: bool
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the gate as JSON-able values."""
        return {"passed": self.passed, "reasons": list(self.reasons), "warnings": list(self.warnings)}


@dataclass(frozen=True)
class Convergence:
    """Convergence of draws, per coordinate.

    Parameters
    ----------
    r_hat, ess_bulk, ess_tail
        Arrays [coordinate].
    """

    r_hat: np.ndarray
    ess_bulk: np.ndarray
    ess_tail: np.ndarray

    @property
    def ess_min(self) -> float:
        """Smallest effective sample size of any coordinate, bulk or tail; 1 where it cannot be estimated."""
        ess = float(min(self.ess_bulk.min(), self.ess_tail.min()))
        return max(ess, 1.0) if np.isfinite(ess) else 1.0


def convergence(draws: np.ndarray) -> Convergence:
    """Compute R-hat and effective sample sizes of draws [chain, draw, coordinate]."""
    ary = np.moveaxis(draws, -1, 0)
    return Convergence(
        r_hat=np.atleast_1d(array_stats.rhat(ary)),
        ess_bulk=np.atleast_1d(array_stats.ess(ary, method="bulk")),
        ess_tail=np.atleast_1d(array_stats.ess(ary, method="tail", prob=(0.05, 0.95))),
    )


def sd_errors(draws: np.ndarray) -> np.ndarray:
    """Return each sd's Monte Carlo standard error as a fraction of it [value]; draws [chain, draw, value]."""
    found = np.zeros(draws.shape[-1])
    sd = np.where(np.isfinite(draws).all(axis=(0, 1)), draws, 0.0).std(axis=(0, 1))
    moving = np.isfinite(sd) & (sd > 0)
    if moving.any():
        ary = np.moveaxis(draws[..., moving] / sd[moving], -1, 0)
        found[moving] = np.atleast_1d(array_stats.mcse(ary, method="sd"))
    return found


@dataclass(frozen=True)
class Importance:
    """Importance sampling of a target by the map matched to it.

    Parameters
    ----------
    k_hat
        Pareto shape of the weights' tail; infinite where no weight is left.
    efficiency
        1 / (n sum w^2) of the normalised weights: 1 where the map is the target.
    log_evidence
        Log of the target's integral: the log predictive density of the batch under its prior. NaN where
        the weights do not determine it, as with hundreds of local variables.
    log_evidence_se
        Its Monte Carlo standard error, to first order.
    """

    k_hat: float
    efficiency: float
    log_evidence: float
    log_evidence_se: float


def importance(
    proposal: TriangularMap,
    target: Callable[[np.ndarray], np.ndarray],
    *,
    rng: np.random.Generator,
    size: int = _POINTS,
) -> Importance:
    """Importance-sample a target by the map that was matched to it, and measure the error of the map.

    Parameters
    ----------
    proposal
        The map matched to the target's draws.
    target
        Its log density, normalised up to the evidence, at points [point, coordinate]; returns [point].
    rng, size
        Source and number of the proposal's draws.
    """
    points = proposal.sample(rng, size)
    with np.errstate(all="ignore"):
        log_weights = target(points) - proposal.log_density(points)
    log_weights = np.where(np.isfinite(log_weights), log_weights, -np.inf)
    if not np.isfinite(log_weights).any():
        return Importance(k_hat=np.inf, efficiency=0.0, log_evidence=-np.inf, log_evidence_se=np.inf)
    # Points outside the target's support have weight zero; the smoothing needs finite logs.
    floor = log_weights[np.isfinite(log_weights)].min() - 700.0
    smoothed, k_hat = _smoothed(np.maximum(log_weights, floor))
    weights = np.exp(smoothed - logsumexp(smoothed))
    spread = float((weights**2).sum())
    k_hat, efficiency = k_hat if np.isfinite(k_hat) else np.inf, 1 / (size * spread)
    if k_hat > _UNKNOWN_K and efficiency < _UNKNOWN_EFFICIENCY:
        return Importance(k_hat, efficiency, log_evidence=np.nan, log_evidence_se=np.inf)
    error = float(np.sqrt(max(0.0, spread - 1 / size)))
    return Importance(k_hat, efficiency, log_evidence=log_integral(log_weights), log_evidence_se=error)


def around(matched: TriangularMap, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return points [point, coordinate] around a posterior and the log density [point] they are drawn from.

    They are somewhat wider than the map that was matched to it, so that they cover other targets nearby.
    """
    wide = matched.stretched(np.full(matched.size, _WIDER))
    points = wide.sample(rng, _POINTS)
    return points, wide.log_density(points)


def log_integral(log_ratio: np.ndarray) -> float:
    """Return the log of a target's integral from log target - log proposal [point]."""
    finite = np.where(np.isfinite(log_ratio), log_ratio, -np.inf)
    return float(logsumexp(finite) - np.log(len(finite)))


def _smoothed(log_weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Return Pareto-smoothed log weights [point] and the shape of their tail."""
    if np.ptp(np.sort(log_weights)[len(log_weights) // 2 :]) < 1e-12:
        return log_weights, -1.0  # Weights that do not differ have no tail.
    # psislw is made for leave-one-out: it takes the logarithm of one over the weights.
    # An extreme tail overflows on the way: its shape is then infinite.
    with np.errstate(over="ignore"):
        smoothed, k_hat = array_stats.psislw(-log_weights)
    return smoothed, float(k_hat)


def conflict(z: np.ndarray, weights: np.ndarray, ess: float) -> float:
    """Return the p-value of the batch's pull against the prior it met.

    In whitened coordinates the prior is Normal(0, I). For a normal likelihood the posterior mean m with
    posterior covariance C is, under the prior predictive, Normal(0, I - C), so m' (I - C)^-1 m is
    chi-squared (Evans & Moshonov 2006, Bayesian Analysis 1:893, with the sufficient statistic's normal
    approximation). Where I - C is smaller than the draws can distinguish from zero, as in a long chain, twice
    that limit replaces it: the p-value is then too large and never too small. Such directions are a test of
    their own beside the others, by Bonferroni, so that many of them do not hide one pull. A posterior wider
    than the prior (a mixture that abandoned the prior) counts with variance 1.

    Parameters
    ----------
    z, weights
        Whitened posterior draws, array [draw, coordinate], and their weights [draw].
    ess
        Effective sample size of the weighted draws.
    """
    mean = weights @ z
    covariance = np.atleast_2d((weights * (z - mean).T) @ (z - mean))
    values, vectors = np.linalg.eigh(covariance)
    limit = min(5 * np.sqrt(2 / ess), 0.5)
    pull, variance = (vectors.T @ mean) ** 2, 1 - values
    resolved = variance > limit
    variance = np.where(resolved, variance, np.where(variance < -limit, 1.0, 2 * limit))
    parts = [part for part in (resolved, ~resolved) if part.any()]
    found = [stats.chi2.sf((pull / variance)[part].sum(), int(part.sum())) for part in parts]
    return float(min(1.0, len(parts) * min(found)))


def refusals(
    names: list[str], result: Convergence, *, divergences: float, thresholds: Thresholds
) -> tuple[str, ...]:
    """Return why a fit is refused; each reason names the worst coordinate and its value."""
    reasons = []
    worst = int(np.argmax(np.where(np.isfinite(result.r_hat), result.r_hat, np.inf)))
    if not result.r_hat[worst] <= thresholds.r_hat:
        reasons.append(
            f"R-hat {result.r_hat[worst]:.4f} of {names[worst]}, at most {thresholds.r_hat} allowed"
        )
    for label, ess in (("bulk", result.ess_bulk), ("tail", result.ess_tail)):
        low = int(np.argmin(np.where(np.isfinite(ess), ess, -np.inf)))
        if not ess[low] >= thresholds.ess:
            reasons.append(
                f"{label} ESS {ess[low]:.0f} of {names[low]}, at least {thresholds.ess:.0f} needed"
            )
    if divergences > thresholds.divergences:
        reasons.append(f"{divergences:.2%} of draws diverged, at most {thresholds.divergences:.2%} allowed")
    return tuple(reasons)


def cautions(
    metrics: Mapping[str, float], thresholds: Thresholds, *, assessable: bool, least_known: str
) -> tuple[str, ...]:
    """Return the warnings of a fit, which do not refuse it.

    Parameters
    ----------
    metrics, thresholds
        Scalar results by name (see `lindley.inference.assessment.assess`), and their limits.
    assessable
        Whether importance weights assess the match.
    least_known
        The variable whose sd is known least.
    """
    limits, warnings = thresholds, []
    divergences, budget = metrics.get("divergence_rate", 0.0), metrics.get("budget", 0.0)
    if 0 < divergences <= limits.divergences:
        warnings.append(f"{divergences:.3%} of draws diverged")
    k_hat, efficiency = metrics.get("k_hat", 0.0), metrics.get("match_efficiency", 1.0)
    if assessable and efficiency < limits.efficiency_warn and not k_hat <= limits.k_hat_warn:
        warnings.append(
            f"k-hat {k_hat:.2f} of the matched prior, above {limits.k_hat_warn} (efficiency {efficiency:.2f})"
        )
    if budget > limits.budget_rebase:
        warnings.append(f"budget {budget:.2f} is spent: a pooled refit (rebase) is due")
    elif budget > limits.budget_warn:
        warnings.append(f"budget {budget:.2f}, above {limits.budget_warn}")
    doubt, drift = metrics.get("doubt", 0.0), metrics.get("drift", 0.0)
    if doubt > 0:
        warnings.append(
            f"{doubt:.0f} earlier match{'' if doubt == 1 else 'es'} could not be trusted: a pooled refit "
            "(rebase) measures the error"
        )
    if drift > limits.drift_warn:
        warnings.append(
            f"earlier matches moved the result by up to {drift:.2f} sds, above {limits.drift_warn}"
        )
    conflict_p, sd_error = metrics.get("conflict_p", 1.0), metrics.get("sd_error", 0.0)
    if conflict_p < limits.conflict_warn:
        warnings.append(f"the batch conflicts with its prior (p = {conflict_p:.1e})")
    if sd_error > limits.sd_warn:
        warnings.append(
            f"the sd of {least_known} has a Monte Carlo error of {sd_error:.0%}, above "
            f"{limits.sd_warn:.0%}: quote its quantiles, or ask for more draws"
        )
    return tuple(warnings)
