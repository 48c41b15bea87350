"""What is carried forward: draws get weights, modes get theirs, and the next prior is matched to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.special import logsumexp

from lindley.inference.diagnostics.convergence import Convergence
from lindley.inference.diagnostics.importance import bridge
from lindley.inference.modes.parts import MOST_CARRIED, Part, Parts, proposal, separate
from lindley.inference.modes.sampled import Modes, Sampled
from lindley.inference.sampling import Draws, Sampling
from lindley.prior.information import information_map
from lindley.prior.matched import MatchedPrior, match, mixed, rematch_modes
from lindley.prior.matching import AUTO, MIXTURE
from lindley.prior.stein import CalibratedWeights, calibrate, equal_weights
from lindley.seeds import derive_seed
from lindley.target.problem import Problem

#: Weight below which a mode is not carried: a batch would have to bring 14 nats for it to matter again.
_NEGLIGIBLE = 1e-6
#: Standard error of the logarithm of a mode's weight beyond which it counts as unknown.
_UNKNOWN = 0.2


def weighted(problem: Problem, parts: Parts, seed: int) -> Sampled:
    """Weight draws so that they fulfil Stein's identities, and modes by their evidence.

    Parameters
    ----------
    problem
        The target; that of a mixture, where the parts have those of its components.
    parts
        The draws, mode by mode.
    seed
        Seed of everything random.
    """
    modes = [_calibrated(part) for part in parts.parts]
    if len(modes) == 1:
        return replace(modes[0], problem=problem if problem.components else modes[0].problem)
    log_weights, errors = _evidence(parts.parts, modes, seed)
    lost = f"more than {MOST_CARRIED} modes were found" if parts.left_out else ""
    if errors.max() > _UNKNOWN:
        lost = "the weights of separated modes cannot be estimated"
    shares = np.exp(log_weights - logsumexp(log_weights))
    kept = np.flatnonzero(shares >= _NEGLIGIBLE)
    modes, shares = [modes[k] for k in kept], shares[kept] / shares[kept].sum()
    groups = _groups(modes) if problem.components else [[k] for k in range(len(modes))]
    whole = problem if problem.components else parts.parts[0].problem
    joined = [
        modes[group[0]]
        if len(group) == 1
        else _together(whole, [modes[k] for k in group], shares[group] / shares[group].sum(), seed).sampled
        for group in groups
    ]
    family = whole.graph.declaration.policy.family
    if len(joined) > 1 and family not in (AUTO, MIXTURE):
        lost = (
            f"{len(joined)} separated modes are carried as one {family} distribution, the family that the "
            "policy asks for: with family auto each has its own"
        )
    of_groups = np.array([shares[group].sum() for group in groups])
    if len(joined) == 1:
        return replace(joined[0], problem=whole, lost=lost)
    mixture = _together(whole, joined, of_groups, seed)
    apart = Modes(tuple(joined), of_groups, mixture.mode_of, _ess(shares, errors[kept]))
    gain = min(mode.calibration.gain for mode in joined)
    calibration = replace(mixture.sampled.calibration, gain=gain)
    return replace(mixture.sampled, calibration=calibration, modes=apart, lost=lost)


def matched_to(sampled: Sampled) -> MatchedPrior:
    """Return the prior matched to the carried draws, of the family that the policy sets.

    Where they lie in separated modes it is a mixture of one match for each, unless the policy asks for a
    single family.
    """
    modes, family = sampled.modes, sampled.graph.declaration.policy.family
    if modes is None or family not in (AUTO, MIXTURE):
        return _matched_to_one(sampled)
    found = mixed([_matched_to_one(mode) for mode in modes.each], modes.shares)
    if found.shrinkage:
        draws = [(mode.carried, mode.calibration.weights) for mode in modes.each]
        found = rematch_modes(draws, modes.shares, found)
    return found


def _matched_to_one(sampled: Sampled) -> MatchedPrior:
    """Return the single map matched to the carried draws."""
    problem, declaration = sampled.problem, sampled.graph.declaration
    family = declaration.policy.family
    single = problem is not None and not problem.components and sampled.modes is None
    prior = problem.prior if single and problem is not None else None
    if family == "information" and prior is not None and problem is not None and sampled.keeps_coordinates:
        x = sampled.draws.x.reshape(len(sampled.carried), -1)
        added = information_map(sampled.carried, problem.scores(x), prior, problem.coordinates.names)
        if added is not None:
            return MatchedPrior(problem.coordinates, added, "information asked for", "information")
    return match(
        sampled.carried,
        sampled.coordinates,
        calibration=sampled.calibration,
        halves=sampled.halves,
        ess=sampled.sampling.convergence.ess_min,
        state=frozenset(declaration.carry),
        family=family,
    )


def _calibrated(part: Part) -> Sampled:
    """Weight draws so that they fulfil Stein's identities; equally where the gate refuses them."""
    problem, sampling = part.problem, part.sampling
    x = sampling.draws.x.reshape(-1, sampling.draws.x.shape[-1])
    half, ess = len(x) // 2, sampling.convergence.ess_min
    spans = ((slice(None), ess), (slice(half), ess / 2), (slice(half, None), ess / 2))
    if sampling.reasons:
        weights = [equal_weights(len(x[span])) for span, _ in spans]
    else:
        points = sampling.points.reshape(len(x), -1)[:, : problem.coordinates.size]
        scores = problem.scores(x)
        weights = [calibrate(points[span], scores[span], of_span) for span, of_span in spans]
    whole, first, second = weights
    return Sampled(
        graph=problem.graph, sampling=sampling, calibration=whole, halves=(first, second), problem=problem
    )


def _evidence(parts: Sequence[Part], modes: Sequence[Sampled], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the logs of the modes' weights [mode], not normalised, and their standard errors."""
    found = []
    for number, (part, mode) in enumerate(zip(parts, modes, strict=True)):
        points = part.sampling.points.reshape(-1, part.sampling.points.shape[-1])
        near = _matched_to_one(mode).map if mode.assessable else proposal(points, part.sampling.names)
        rng = np.random.default_rng(derive_seed(str(seed), f"evidence {number}"))
        ess = part.sampling.convergence.ess_min
        value, error = bridge(near, part.log_density, points, ess=ess, rng=rng)
        found.append((value + np.log(part.weight), error))
    values, errors = np.array(found).T
    if not np.isfinite(values).all():
        return np.zeros(len(values)), np.full(len(values), np.inf)
    return values, errors


def _groups(modes: Sequence[Sampled]) -> list[list[int]]:
    """Return the modes in groups of those that are not separate: their prior's were, and data joined them."""
    count = len(modes)
    joined = [
        (i, j) for i in range(count) for j in range(i) if not separate(modes[i].carried, modes[j].carried)
    ]
    rows, columns = np.array(joined, dtype=int).reshape(-1, 2).T
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(count, count))
    total, group_of = connected_components(graph, directed=False)
    return [np.flatnonzero(group_of == group).tolist() for group in range(total)]


def _ess(shares: np.ndarray, errors: np.ndarray) -> float:
    """Return how many independent draws of modes [mode] would know their weights as well.

    The standard errors are those of the logarithms of the weights before they are normalised: that of a
    share p is p (1 - p) times that of its log odds, and sqrt(p (1 - p) / n) with n draws.
    """
    others = [max(np.delete(errors, k).max(initial=0.0), 1e-9) for k in range(len(errors))]
    odds = shares * (1 - shares) * (errors**2 + np.square(others))
    return float(max(1 / odds.max(), 1.0)) if len(shares) > 1 else np.inf


class _Together(NamedTuple):
    """Draws of several modes, and the mode of each, array [chain, draw]."""

    sampled: Sampled
    mode_of: np.ndarray


def _together(problem: Problem, modes: Sequence[Sampled], shares: np.ndarray, seed: int) -> _Together:
    """Return as many draws of each mode as its weight asks for, mixed in every chain.

    Parameters
    ----------
    problem
        The target of all modes together.
    modes, shares
        Draws of each mode, and weights [mode] that sum to one.
    seed
        Seed of the order.
    """
    chains = len(modes[0].sampling.points)
    lengths = np.array([mode.sampling.points.shape[1] for mode in modes])
    total = int(min(lengths.max(), (lengths / shares).min()))
    counts = np.maximum(np.round(shares * total).astype(int), 1)
    rng = np.random.default_rng(derive_seed(str(seed), "modes"))
    order = np.repeat(np.arange(len(modes)), counts)
    mode_of = np.array([rng.permutation(order) for _ in range(chains)])
    evenly = [
        np.linspace(0, n - 1, count).round().astype(int) for n, count in zip(lengths, counts, strict=True)
    ]
    at = np.empty_like(mode_of)
    for number, places in enumerate(evenly):
        at[mode_of == number] = np.tile(places, chains)
    chain = np.broadcast_to(np.arange(chains)[:, None], mode_of.shape)

    def joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
        found = np.empty((*mode_of.shape, *arrays[0].shape[2:]), arrays[0].dtype)
        for number, array in enumerate(arrays):
            here = mode_of == number
            found[here] = array[chain[here], at[here]]
        return found

    samplings = [mode.sampling for mode in modes]
    flat = [one.draws.quantities.flat() for one in samplings]
    draws = Draws(
        x=joined([one.draws.x for one in samplings]),
        quantities=samplings[0].draws.quantities.filled(
            [joined(arrays) for arrays in zip(*flat, strict=True)]
        ),
        stats={
            name: joined([one.draws.stats[name] for one in samplings]) for name in samplings[0].draws.stats
        },
    )
    converged = [one.convergence for one in samplings]
    sampling = Sampling(
        draws=draws,
        names=samplings[0].names,
        points=joined([one.points for one in samplings]),
        # Each mode is judged by itself: between them the draws are mixed by construction.
        convergence=Convergence(
            r_hat=np.max([one.r_hat for one in converged], axis=0),
            ess_bulk=np.min([one.ess_bulk for one in converged], axis=0),
            ess_tail=np.min([one.ess_tail for one in converged], axis=0),
        ),
        divergence_rate=float(shares @ [one.divergence_rate for one in samplings]),
        reasons=tuple(f"{reason} (within a mode)" for one in samplings for reason in one.reasons),
    )
    weights = CalibratedWeights((shares / counts / chains)[mode_of].ravel(), 0)
    whole = Sampled(graph=modes[0].graph, sampling=sampling, calibration=weights, problem=problem)
    return _Together(whole, mode_of)
