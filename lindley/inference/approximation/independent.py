"""Draws of a density by independent proposals, with the certificate that they are accepted by.

An ascent finds mode and curvature; a t distribution there is fitted again to its own weighted draws (adaptive
importance sampling, Cappé et al. 2008, Statistics and Computing 18:447); then chains take independent
proposals from it (independence sampler, Tierney 1994, Annals of Statistics 22:1701). Their draws have equal
weights and the density as their exact stationary distribution; where the importance weights of the proposals
are nearly equal, nearly every proposal is taken and draws are nearly independent. R-hat and effective sample
sizes are computed from them as from any chains.

What that cannot show is what no proposal reaches. The Pareto shape k of the weights' tail does: below 0.5
their variance is finite (Vehtari et al. 2024, JMLR 25:72). So do ascents from different starting points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from lindley.inference.approximation.ascent import LogDensities, Mode, find_mode
from lindley.inference.approximation.proposal import Proposal
from lindley.inference.diagnostics.importance import smoothed

#: Largest Pareto k-hat: the variance of the weights is finite below.
K_HAT = 0.5
#: Smallest efficiency 1/(n sum w^2): below it chains stay in one place for long, and the threshold of k-hat
#: is reached by densities that are far from the proposal.
EFFICIENCY = 0.4
#: Proposals of each round of fitting, for each dimension and at least; and rounds.
_PILOT, _PILOT_LEAST, _ROUNDS = 40, 400, 2
#: Efficiency of a round below which the next one cannot repair it.
_HOPELESS = 0.02
#: Steps of each chain before the draws that are kept: it forgets where it starts.
_FORGET = 50
#: Steps for each draw that is kept: a proposal costs a hundredth of what is computed from a draw later.
_THIN = 3
#: Dimensions at most: the curvature takes twice as many gradients for each step of an ascent.
MOST_DIMENSIONS = 50


#: Far points overflow: they have no density then, and warnings would reach users.
_QUIET = np.errstate(over="ignore", invalid="ignore", divide="ignore")
#: What a record states of a certificate.
CERTIFICATE = ("k_hat", "k_hat_limit", "efficiency", "efficiency_limit", "proposals", "taken", "ascents")


@dataclass(frozen=True)
class Certificate:
    """What the draws of an approximation are accepted by.

    Parameters
    ----------
    k_hat, efficiency
        Pareto shape of the tail of the proposals' importance weights, and 1/(n sum w^2).
    proposals
        Number n of the proposals.
    taken
        Fraction of the proposals that chains took.
    ascents
        Ascents that ended in the one mode.
    """

    k_hat: float
    efficiency: float
    proposals: int
    taken: float
    ascents: int

    @property
    def k_hat_limit(self) -> float:
        """The limit of k-hat: `K_HAT`, or less for few proposals (Vehtari et al. 2024, section 3.2.4)."""
        return k_hat_limit(self.proposals)

    def as_dict(self) -> dict[str, float]:
        """Return the certificate as a record states it."""
        return {
            "k_hat": round(self.k_hat, 6) if np.isfinite(self.k_hat) else 1e9,
            "k_hat_limit": round(self.k_hat_limit, 6),
            "efficiency": round(self.efficiency, 6),
            "efficiency_limit": EFFICIENCY,
            "proposals": float(self.proposals),
            "taken": round(self.taken, 6),
            "ascents": float(self.ascents),
        }

    @property
    def refusal(self) -> str:
        """Why the draws are not accepted; empty where they are."""
        if not self.k_hat < self.k_hat_limit:
            return f"k-hat {self.k_hat:.2f} of the proposals' weights, {self.k_hat_limit:.2f} or more"
        if not self.efficiency >= EFFICIENCY:
            return f"efficiency {self.efficiency:.2f} of the proposals' weights, below {EFFICIENCY}"
        return ""


@dataclass(frozen=True)
class Independent:
    """Draws of an independence sampler.

    Parameters
    ----------
    x
        Array [chain, draw, x].
    log_density
        Array [chain, draw] of the density at them.
    certificate
        What they are accepted by.
    """

    x: np.ndarray
    log_density: np.ndarray
    certificate: Certificate


def k_hat_limit(proposals: int) -> float:
    """Return the largest k-hat that is accepted with so many proposals."""
    return min(K_HAT, 1 - 1 / np.log10(max(proposals, 11)))


@_QUIET
def fitted_proposal(
    log_densities: LogDensities, mode: Mode, rng: np.random.Generator
) -> tuple[Proposal, str]:
    """Return the proposal for a density with this mode, and why there is no use in it; empty otherwise."""
    size = len(mode.x)
    found, count = Proposal.of(mode.x, mode.factor @ mode.factor.T), max(_PILOT_LEAST, _PILOT * size)
    for _ in range(_ROUNDS):
        points, proposed = found.sample(rng, count)
        weights, _, efficiency = _weights(_finite(log_densities(points)[0]) - proposed)
        if efficiency < _HOPELESS:
            return found, f"efficiency {efficiency:.3f} of the weights around its mode, below {_HOPELESS}"
        found = found.refitted(points, weights)
    return found, ""


@_QUIET
def draw(
    log_densities: LogDensities,
    proposal: Proposal,
    chains: int,
    draws: int,
    rng: np.random.Generator,
    ascents: int = 1,
) -> Independent:
    """Run chains of an independence sampler.

    Parameters
    ----------
    log_densities, proposal
        The density, not normalised, and what is proposed.
    chains, draws
        Number of chains, and of draws that each keeps.
    rng
        Source of randomness.
    ascents
        For the certificate.
    """
    length = _FORGET + _THIN * draws
    points, proposed = proposal.sample(rng, chains * length)
    values = _finite(log_densities(points)[0])
    log_weights = values - proposed
    _, k_hat, efficiency = _weights(log_weights)
    thresholds = np.log(rng.uniform(size=(chains, length)))
    at = np.array([_taken(*one) for one in zip(log_weights.reshape(chains, -1), thresholds, strict=True)])
    taken = float((np.diff(at, axis=1) > 0).mean())
    kept = at[:, _FORGET + _THIN - 1 :: _THIN] + length * np.arange(chains)[:, None]
    certificate = Certificate(k_hat, efficiency, len(points), taken, ascents)
    return Independent(points[kept], values[kept], certificate)


@_QUIET
def locate(log_densities: LogDensities, starts: np.ndarray, scale: np.ndarray) -> Mode | str:
    """Return the one mode that all ascents from starting points [start, x] end in, or why there is none."""
    if starts.shape[1] > MOST_DIMENSIONS:
        return f"{starts.shape[1]} dimensions, more than {MOST_DIMENSIONS}"
    return find_mode(log_densities, starts, scale)


def _finite(values: np.ndarray) -> np.ndarray:
    """Return log densities with none where they are undefined."""
    return np.where(np.isfinite(values), values, -np.inf)


def _taken(log_weights: np.ndarray, log_uniform: np.ndarray) -> list[int]:
    """Return the place of the proposal that one chain is at, for each of its steps."""
    weights, limits = log_weights.tolist(), log_uniform.tolist()
    at, here, own = [0], 0, weights[0]
    for place in range(1, len(weights)):
        if weights[place] - own > limits[place] or own == -np.inf:
            here, own = place, weights[place]
        at.append(here)
    return at


def _weights(log_weights: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Return Pareto-smoothed weights [point] that sum to one, k-hat, and their efficiency."""
    if not np.isfinite(log_weights).any():
        return np.full(len(log_weights), 1 / len(log_weights)), np.inf, 0.0
    # Points outside the density's support have weight zero; the smoothing needs finite logs.
    floor = log_weights[np.isfinite(log_weights)].min() - 700.0
    smooth, k_hat = smoothed(np.maximum(log_weights, floor))
    weights = np.exp(smooth - logsumexp(smooth))
    efficiency = float(1 / (len(weights) * (weights**2).sum()))
    return weights, float(k_hat) if np.isfinite(k_hat) else np.inf, efficiency
