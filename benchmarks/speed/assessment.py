"""Assess whether a measured time counts: the posterior must be the same, and the gate must pass."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.speed.measure import PASSED, REFUSED
from benchmarks.speed.posterior import Found, Reference
from lindley.inference.diagnostics.convergence import convergence
from lindley.inference.diagnostics.gate import Thresholds

#: Largest error of a mean in Monte Carlo standard errors, and in sds of the reference: a regular case of
#: the fidelity benchmark allows 0.1, a hard one 0.2.
MOST_MCSE, MOST_SD = 4.0, 0.2


def assess(found: Found, reference: Reference | None, links: int, lowest: float = np.inf) -> dict[str, Any]:
    """Return the columns of a row that state the quality of the posterior.

    The error of a mean is in Monte Carlo standard errors. After several links they are those of a chain of
    matched moments of plain draws: with d parameters each earlier link adds (d + 1)/4 of a link's own squared
    error (docs/adr/0005-budget.md).

    Parameters
    ----------
    found, reference
        The method's posterior, and the reference posterior; None if unknown.
    links
        Number of updates behind the posterior; 1 for a fit of all data at once.
    lowest
        Smallest effective sample size of the links before.
    """
    converged = convergence(found.draws)
    limits = Thresholds()
    passed = (
        float(converged.r_hat.max()) <= limits.r_hat
        and converged.ess_min >= limits.ess
        and found.divergences <= limits.divergences
    )
    row: dict[str, Any] = {"ess_min": converged.ess_min, "gate": PASSED if passed else REFUSED}
    if reference is None:
        return row
    error = np.abs(found.mean - reference.mean) / reference.sd
    inherited = (links - 1) * (error.size + 1) / 4 / min(lowest, converged.ess_min)
    standard_error = np.sqrt(1 / converged.ess_bulk + inherited + 1 / reference.ess)
    return row | {
        "mean_error_sd": float(error.max()),
        "mean_error_mcse": float((error / standard_error).max()),
    }


def same_posterior(mean_error_sd: float, mean_error_mcse: float) -> bool:
    """Return whether errors are within the bars; unknown ones are not."""
    return bool(mean_error_mcse <= MOST_MCSE and mean_error_sd <= MOST_SD)
