"""The thresholds that a fit must reach, its warnings, and the gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lindley.prior.belief import Audited

if TYPE_CHECKING:
    from lindley.inference.diagnostics.convergence import Convergence

#: Efficiency of hindsight's weights below which the shift is a lower bound. A normal moved by s sds has one
#: of exp(-s^2): at 0.1 it is moved by 1.5 sds, and what it is then made of lies within 1.5 + 2 = 3.5 sds,
#: where the farthest of 2,000 draws is. Beyond that the draws do not reach what the weights should favour.
SATURATED = 0.1


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
        `lindley.inference.diagnostics.hindsight`) before the batches behind them are fitted again.
    drift_warn
        Largest accumulated shift, in sds: measured, or expected of matches that cannot be measured.
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
    metrics: Mapping[str, float],
    thresholds: Thresholds,
    *,
    assessable: bool,
    least_known: str,
    conflict_by: str = "",
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
    conflict_by
        Why the batch was not compared with simulated ones; empty where it was.
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
    lost = metrics.get("modes_lost", 0.0)
    if lost > 0:
        warnings.append(
            f"{lost:.0f} match{'' if lost == 1 else 'es'} along the chain could not carry separated modes or "
            "their weights: a pooled refit (rebase) shows them"
        )
    if drift > limits.drift_warn:
        most = "at least" if metrics.get("shift_efficiency", 1.0) < SATURATED else "by up to"
        warnings.append(f"earlier matches moved the result {most} {drift:.2f} sds, above {limits.drift_warn}")
    audited, matches = Audited.of(metrics), int(metrics.get("unmeasured", 0))
    harm = audited.harm(matches) if audited is not None else 0.0
    if audited is not None and harm > limits.drift_warn:
        warnings.append(
            f"earlier matches are expected to have moved the result by {harm:.2f} sds, above "
            f"{limits.drift_warn}: the last pooled refit found {audited.error:.2f} by {audited.matches}, now "
            f"they are {matches}"
        )
    conflict_p, sd_error = metrics.get("conflict_p", 1.0), metrics.get("sd_error", 0.0)
    if conflict_p < limits.conflict_warn:
        by = f", by the posterior's pull, not by simulation: {conflict_by}" if conflict_by else ""
        warnings.append(f"the batch conflicts with its prior (p = {conflict_p:.1e}{by})")
    elif np.isnan(conflict_p):
        warnings.append(f"whether the batch conflicts with its prior could not be computed: {conflict_by}")
    if sd_error > limits.sd_warn:
        warnings.append(
            f"the sd of {least_known} has a Monte Carlo error of {sd_error:.0%}, above "
            f"{limits.sd_warn:.0%}: quote its quantiles, or ask for more draws"
        )
    return tuple(warnings)
