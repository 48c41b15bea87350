"""The pull of a batch on the belief before it, beside the pulls of batches simulated from that belief."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lindley.inference.diagnostics.conflict import Conflict, normal_scores
from lindley.inference.diagnostics.monitor import Observation
from lindley.prior.matched import MatchedPrior
from lindley.seeds import derive_seed
from lindley.target.prepare import initial_point
from lindley.target.problem import Problem

#: Batches that are simulated: as many as outcomes in all allow, between two limits.
_MOST, _LEAST, _OUTCOMES = 2000, 250, 4_000_000
#: ``f(seed, number)``: outcomes by observed variable, arrays [simulation, ...].
Draw = Callable[[int, int], dict[str, np.ndarray]]
#: Outcomes that are held in memory at a time.
_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class Pulls:
    """What batches say about the parameters, in the middle of the belief before them.

    Parameters
    ----------
    names
        The coordinates that belief and batch both have.
    observed, simulated
        The pull of the observed batch, array [coordinate], and of simulated ones, [simulation, coordinate]:
        the score taken to the belief's scale, which is the posterior's shift where a batch says little
        beside the belief.
    log_density, log_densities
        The log density of the outcomes there, up to the same constant: of the observed ones, and
        [simulation].
    share
        Share of the posterior's information that comes from a batch, expected, array [coordinate].
    """

    names: tuple[str, ...]
    observed: np.ndarray
    simulated: np.ndarray
    log_density: float
    log_densities: np.ndarray
    share: np.ndarray

    def observation(self, found: Conflict, setting: str) -> Observation:
        """Return what the monitor observes of a batch, given its conflict; coordinates that it informs.

        Parameters
        ----------
        found
            The conflict of these pulls.
        setting
            See `Observation`.
        """
        densities = np.append(self.log_density, self.log_densities)
        known = np.isfinite(densities).all() and len(found.pulls) > 0
        rows = self.simulated[np.isfinite(self.simulated).all(axis=1)]
        informed = np.flatnonzero(np.ptp(rows, axis=0) > 0) if len(rows) else ()
        chosen = [int(i) for i in informed] if len(found.pulls) else []
        return Observation(
            pulls={self.names[i]: round(float(found.pulls[i]), 6) for i in chosen},
            share={self.names[i]: round(float(self.share[i]), 6) for i in chosen},
            conflict=found.score,
            fit=round(float(normal_scores(densities)[0]), 6) if known else None,
            setting=setting,
        )


def simulate(problem: Problem, before: MatchedPrior, draw: Draw, seed: int) -> Pulls | str:
    """Simulate batches from a belief, with the inputs of the newest batch; or return why that cannot be.

    Parameters
    ----------
    problem
        The fit's problem, for the newest batch's model.
    before
        The belief before the newest batch.
    draw
        Draws so many batches with the inputs of the newest one from that belief.
    seed
        Seed of the simulation.
    """
    outcomes = problem.outcomes()
    places = outcomes.places()
    if isinstance(places, str):
        return places
    observed = {name: np.array(outcomes.item.data_values[place])[None] for name, place in places.items()}
    size = max(1, sum(value.size for value in observed.values()))
    count = int(np.clip(_OUTCOMES // size, _LEAST, _MOST))
    names, known = problem.graph.coordinates.names, before.coordinates.names
    shared = [name for name in known if name in set(names)]
    here, there = [names.index(name) for name in shared], [known.index(name) for name in shared]
    middle = before.map.forward(np.zeros(len(known)))
    u = np.zeros(len(names)) if len(shared) == len(names) else initial_point(problem.graph)[: len(names)]
    u[here] = middle[there]
    found = [outcomes.scores(u, observed, places)]
    step = max(1, _AT_ONCE // size)
    for start in range(0, count, step):
        own = derive_seed(str(seed), "conflict", str(start)) % 2**31
        try:
            drawn = draw(own, min(step, count - start))
        except Exception as error:  # a user's distribution raises errors of any type
            return f"its outcomes cannot be drawn ({type(error).__name__})"
        if any(drawn[name].shape[1:] != value.shape[1:] for name, value in observed.items()):
            return "its outcomes are drawn in another shape"
        found.append(outcomes.scores(u, drawn, places))
    log_densities = np.concatenate([values for values, _ in found])
    slopes = before.map.jacobian(np.zeros(len(known)))[there]
    pulls, share = _pulls(np.concatenate([scores for _, scores in found])[:, here], slopes)
    return Pulls(tuple(shared), pulls[0], pulls[1:], float(log_densities[0]), log_densities[1:], share)


def _pulls(scores: np.ndarray, slopes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Take scores [batch, coordinate] to pulls, and estimate the expected share of the batch's information.

    In whitened coordinates, where the prior is Normal(0, I), a batch with information J has scores of
    covariance J + J^2 under the prior predictive, and moves the mean by (I + J)^-1 times its score.

    Parameters
    ----------
    slopes
        Slope of the belief's map in its middle, array [coordinate, step].
    """
    with np.errstate(all="ignore"):
        whitened = scores @ slopes
        rest = whitened[1:][np.isfinite(whitened[1:]).all(axis=1)]
        if len(rest) < 2:
            return np.full(scores.shape, np.nan), np.zeros(len(slopes))
        centred = whitened - np.median(rest, axis=0)
        # Half the distance between the quantiles at 16% and 84%: a heavy tail has no variance.
        low, high = np.quantile(rest, [0.16, 0.84], axis=0)
        spread = np.maximum((high - low) / 2, 1e-300)
        bounded = np.clip(centred[1:] / spread, -4, 4)
        bounded = bounded[np.isfinite(bounded).all(axis=1)]
        covariance = np.atleast_2d(bounded.T @ bounded / len(bounded)) * np.outer(spread, spread)
        if not np.isfinite(covariance).all():
            return centred @ slopes.T, np.zeros(len(slopes))
        values, vectors = np.linalg.eigh(covariance)
        information = (np.sqrt(1 + 4 * np.maximum(values, 0.0)) - 1) / 2
        pulls = (centred @ vectors / (1 + information)) @ (slopes @ vectors).T
        # The variance that the batch is expected to take off, as a share of each coordinate's variance.
        turned = (slopes @ vectors) ** 2
        share = (turned * (information / (1 + information))).sum(axis=1) / turned.sum(axis=1)
    return pulls, np.nan_to_num(share)
