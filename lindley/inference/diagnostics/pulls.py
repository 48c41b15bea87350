"""The pull of a batch on the belief before it, beside the pulls of batches simulated from that belief."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from lindley.inference.diagnostics.conflict import Conflict, normal_scores
from lindley.inference.diagnostics.monitor import Observation
from lindley.prior.matched import MatchedPrior
from lindley.seeds import derive_seed
from lindley.target.problem import Outcomes, Problem, initial_point

#: Batches that are simulated: as many as outcomes in all allow, between two limits.
_MOST, _LEAST, _OUTCOMES = 2000, 250, 4_000_000
#: ``f(belief, seed, number)``: outcomes by observed variable, arrays [simulation, ...].
Draw = Callable[[MatchedPrior, int, int], dict[str, np.ndarray]]
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

    Where the belief is a mixture, batches come from all of it, and the pull of each one is that on the part
    that it is nearest to, in sds of the pulls of batches from that part: what is nearest is decided by the
    batch alone, so that observed and simulated ones are alike. How heavy the part is does not enter.

    Parameters
    ----------
    problem
        The fit's problem, for the newest batch's model.
    before
        The belief before the newest batch.
    draw
        Draws so many batches with the inputs of the newest one from a belief.
    seed
        Seed of the simulation.
    """
    outcomes = problem.outcomes()
    places = outcomes.places()
    if isinstance(places, str):
        return places
    observed = {name: np.array(outcomes.item.data_values[place])[None] for name, place in places.items()}
    size = max(1, sum(value.size for value in observed.values()))
    count, step = int(np.clip(_OUTCOMES // size, _LEAST, _MOST)), max(1, _AT_ONCE // size)
    middles = [_Middle.of(problem, part, weight, places) for weight, part in before.components]
    found = [[middle.scores(observed)] for middle in middles]
    own: list[list[Scores]] = [[] for _ in middles]
    wanted = [(before, start, min(step, count - start), found, middles) for start in range(0, count, step)]
    if len(middles) > 1:
        parts = enumerate(zip(before.components, middles, strict=True), start=1)
        wanted += [(part, -k, _LEAST, [own[k - 1]], [middle]) for k, ((_, part), middle) in parts]
    for belief, word, rows, kept, where in wanted:
        drawn_seed = derive_seed(str(seed), "conflict", str(word)) % 2**31
        try:
            drawn = draw(belief, drawn_seed, rows)
        except Exception as error:  # a user's distribution raises errors of any type
            return f"its outcomes cannot be drawn ({type(error).__name__})"
        if any(drawn[name].shape[1:] != value.shape[1:] for name, value in observed.items()):
            return "its outcomes are drawn in another shape"
        for of_middle, middle in zip(kept, where, strict=True):
            of_middle.append(middle.scores(drawn))
    whole = [_joined(of_middle) for of_middle in found]
    if len(middles) == 1:
        densities, scores = whole[0]
        pulls, share = _pulls(scores, scores[1:], middles[0].slopes)
    else:
        densities, pulls, share = _nearest(middles, whole, [_joined(of_middle) for of_middle in own])
    return Pulls(middles[0].names, pulls[0], pulls[1:], float(densities[0]), densities[1:], share)


#: Log densities [batch] and scores [batch, coordinate].
type Scores = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class _Middle:
    """The middle of a belief, or of a part of it, where batches have their scores.

    Parameters
    ----------
    names
        The coordinates that belief and batch both have.
    here
        Array [coordinate] of their places in the batch's model.
    u
        The point, array [coordinate of the model].
    slopes
        Slope of the belief's map there, array [coordinate, step].
    outcomes, places
        The batch's target as a function of its outcomes.
    log_weight
        Log of the part's weight.
    """

    names: tuple[str, ...]
    here: np.ndarray
    u: np.ndarray
    slopes: np.ndarray
    outcomes: Outcomes
    places: dict[str, int]
    log_weight: float

    @classmethod
    def of(cls, problem: Problem, part: MatchedPrior, weight: float, places: dict[str, int]) -> _Middle:
        """Return the middle of a belief that is one map."""
        names, known = problem.graph.coordinates.names, part.coordinates.names
        shared = [name for name in known if name in set(names)]
        here, there = [names.index(name) for name in shared], [known.index(name) for name in shared]
        middle = np.zeros(len(known))
        u = np.zeros(len(names)) if len(shared) == len(names) else initial_point(problem.graph)[: len(names)]
        u[here] = part.first.forward(middle)[there]
        outcomes = _target_at(problem, u)
        slopes = part.first.jacobian(middle)[there]
        return cls(
            tuple(shared), np.array(here, dtype=int), u, slopes, outcomes, places, float(np.log(weight))
        )

    def scores(self, outcomes: Mapping[str, np.ndarray]) -> Scores:
        """Return log densities and scores of batches."""
        values, scores = self.outcomes.scores(self.u, outcomes, self.places)
        return values, scores[:, self.here]


def _target_at(problem: Problem, u: np.ndarray) -> Outcomes:
    """Return the newest batch's target in the whitened space of the prior's part nearest to a point.

    The maps of the others may overflow there.
    """
    found = [one.outcomes() for _, one in problem.components] or [problem.outcomes()]

    def distance(one: Outcomes) -> float:
        with np.errstate(all="ignore"):
            z = one.whitener.inverse(u)[0] if one.whitener is not None else np.zeros(0)
        return float(np.nan_to_num((z**2).sum(), nan=np.inf))

    return min(found, key=distance) if len(found) > 1 else found[0]


def _joined(scores: Sequence[Scores]) -> Scores:
    return np.concatenate([values for values, _ in scores]), np.concatenate([rows for _, rows in scores])


def _nearest(
    middles: Sequence[_Middle], whole: Sequence[Scores], own: Sequence[Scores]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return log densities, pulls on the nearest part of a mixture, and the expected share of information.

    Parameters
    ----------
    middles
        Of the parts.
    whole, own
        By part: of the observed batch and batches from the mixture, and of batches from the part.
    """
    pulls, distances, shares = [], [], []
    for middle, (_, scores), (_, reference) in zip(middles, whole, own, strict=True):
        both = np.concatenate([reference, scores])
        found, share = _pulls(both, reference, middle.slopes)
        with np.errstate(all="ignore"):
            known = found[: len(reference)]
            known = known[np.isfinite(known).all(axis=1)]
            low, high = np.quantile(known, [0.16, 0.84], axis=0) if len(known) else np.zeros((2, len(share)))
            z = found[len(reference) :] / np.where(high > low, (high - low) / 2, 1.0)
            covariance = _bounded_covariance(known / np.where(high > low, (high - low) / 2, 1.0))
            far = np.einsum("ij,jk,ik->i", z, np.linalg.pinv(covariance, rcond=1e-6), z)
        pulls.append(z)
        distances.append(np.where(np.isfinite(far), far, np.inf) / 2 - middle.log_weight)
        shares.append(share)
    weights = np.exp([middle.log_weight for middle in middles])
    nearest = np.argmin(distances, axis=0)
    densities = logsumexp(
        [values + m.log_weight for m, (values, _) in zip(middles, whole, strict=True)], axis=0
    )
    return densities, np.array(pulls)[nearest, np.arange(len(nearest))], weights @ np.array(shares)


def _bounded_covariance(z: np.ndarray) -> np.ndarray:
    """Return the covariance of standardised rows [row, coordinate], in which no row counts for many."""
    if not len(z):
        return np.eye(z.shape[1])
    bounded = np.clip(z, -4, 4)
    return np.atleast_2d(bounded.T @ bounded / len(bounded))


def _pulls(scores: np.ndarray, reference: np.ndarray, slopes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Take scores [batch, coordinate] to pulls, and estimate the expected share of the batch's information.

    In whitened coordinates, where the prior is Normal(0, I), a batch with information J has scores of
    covariance J + J^2 under the prior predictive, and moves the mean by (I + J)^-1 times its score.

    Parameters
    ----------
    reference
        Scores of simulated batches, by which the others are centred and scaled.
    slopes
        Slope of the belief's map in its middle, array [coordinate, step].
    """
    with np.errstate(all="ignore"):
        whitened, rest = scores @ slopes, reference @ slopes
        rest = rest[np.isfinite(rest).all(axis=1)]
        if len(rest) < 2:
            return np.full(scores.shape, np.nan), np.zeros(len(slopes))
        middle = np.median(rest, axis=0)
        centred = whitened - middle
        # Half the distance between the quantiles at 16% and 84%: a heavy tail has no variance.
        low, high = np.quantile(rest, [0.16, 0.84], axis=0)
        spread = np.maximum((high - low) / 2, 1e-300)
        bounded = (rest - middle) / spread
        covariance = _bounded_covariance(bounded[np.isfinite(bounded).all(axis=1)]) * np.outer(spread, spread)
        if not np.isfinite(covariance).all():
            return centred @ slopes.T, np.zeros(len(slopes))
        values, vectors = np.linalg.eigh(covariance)
        information = (np.sqrt(1 + 4 * np.maximum(values, 0.0)) - 1) / 2
        pulls = (centred @ vectors / (1 + information)) @ (slopes @ vectors).T
        # The variance that the batch is expected to take off, as a share of each coordinate's variance.
        turned = (slopes @ vectors) ** 2
        share = (turned * (information / (1 + information))).sum(axis=1) / turned.sum(axis=1)
    return pulls, np.nan_to_num(share)
