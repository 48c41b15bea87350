"""Posteriors with separated modes: chains for each mode, weighted by the modes' evidence.

Chains rarely cross between separated modes, so that the number of draws in each says nothing of its weight.
Here every mode gets chains of its own, and its weight is the integral of the target over its region, by
bridge sampling (Meng & Wong 1996, Statistica Sinica 6:831). A fit that starts from a mixture needs no
crossing either: with prior sum_k w_k q_k and likelihood L the posterior is

    sum_k w_k Z_k p_k,    p_k = q_k L / Z_k,    Z_k the integral of q_k L,

so that each part is sampled by itself, as after a single matched prior, and gets the weight w_k Z_k. R-hat
and effective sample sizes are those within modes. A mode that no chain and no scout reaches is missed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from lindley.inference.inputs import Options
from lindley.inference.modes.attempts import MIDDLE, MODE, PRIOR, Attempt, settings_after
from lindley.inference.modes.circular import in_one_piece
from lindley.inference.modes.detection import Regions, labels_of
from lindley.inference.modes.scouting import NEGLIGIBLE, ROUGH, tops
from lindley.inference.sampling import FitSettings, Sampling, Start, assess_sampling, picked, sample
from lindley.prior.matching import NORMAL, match_map
from lindley.prior.mixture import Map
from lindley.seeds import derive_seed
from lindley.target.problem import Problem
from lindley.timing import DIAGNOSE, SAMPLE, Phases

#: Modes that are carried at most.
MOST_CARRIED = 4
#: Share of a mode's draws that must lie in its region: chains that leave it show that it is none.
_STAY = 0.9
#: Draws of each chain, and effective draws, of a mode at least where chains that cross are split by mode.
_FEW_DRAWS, _FEW_EFFECTIVE = 100, 100
#: Draws of the prior, for each chain, of which it starts from the one with the highest density.
_CHOICES = 8
#: Draws of the prior from which modes are looked for; fewer of them where a belief is near, whose fit looked
#: for them before.
_SCOUTS, _FEWER = 16, 6
#: Chains, warm-up and draws of the short run from where an ascent ends far from the draws.
_SHORT = FitSettings(chains=2, tune=150, draws=100)
#: Places that get a short run at most.
_MOST_SHORT = 2


@dataclass(frozen=True)
class Part:
    """A mode of a posterior, or all of it.

    Parameters
    ----------
    problem
        The target that was sampled.
    sampling
        The draws in the mode's region.
    weight
        Weight of the target: that of the prior's part, 1 where the prior is no mixture.
    regions, number
        Regions of all modes of this target, and which one is this mode's; None where it is the only one.
    """

    problem: Problem
    sampling: Sampling
    weight: float = 1.0
    regions: Regions | None = None
    number: int = 0

    def log_density(self, points: np.ndarray) -> np.ndarray:
        """Return the log density [point] of the mode, not normalised, at points [point, x]."""
        found = self.problem.log_density(points)
        if self.regions is None:
            return found
        here = self.regions.of_points(points[:, : self.problem.coordinates.size]) == self.number
        return np.where(here, found, -np.inf)


@dataclass(frozen=True)
class Parts:
    """The modes of a posterior as they were sampled.

    Parameters
    ----------
    parts
        Heaviest first by their evidence as it was estimated roughly; one where the posterior has one mode.
    settings, attempt
        Sampler settings of the last attempt of the first part, and its number.
    left_out
        Modes that were found and got no chains because there were too many.
    tried
        All attempts, in their order.
    """

    parts: tuple[Part, ...]
    settings: FitSettings
    attempt: int
    left_out: int = 0
    tried: tuple[Attempt, ...] = ()

    def stated(self, first: FitSettings, seed: int) -> dict[str, Any]:
        """Return the settings of the sampler as a record states them; `first` are those of first attempts."""
        # As text: a 63-bit integer has no exact form in canonical JSON.
        return self.settings.as_dict() | first.as_first() | {"seed": str(seed), "attempt": self.attempt}


def sample_parts(problem: Problem, first: FitSettings, options: Options, phases: Phases) -> Parts:
    """Sample a target mode by mode.

    Parameters
    ----------
    problem
        The target; where its prior is a mixture, each of its components is sampled.
    first
        Settings of the first attempts.
    options, phases
        Of the fit.
    """
    if not problem.components:
        return _Run(problem, first, options, phases, (str(options.seed),)).by_mode()
    found = [
        (weight, _Run(component, first, options, phases, (str(options.seed), f"part {number}")).by_mode())
        for number, (weight, component) in enumerate(problem.components)
    ]
    parts = tuple(replace(part, weight=weight) for weight, of in found for part in of.parts)
    tried = tuple(attempt for _, of in found for attempt in of.tried)
    return replace(found[0][1], parts=parts, left_out=sum(of.left_out for _, of in found), tried=tried)


@dataclass(frozen=True)
class _Candidate:
    """Draws that may be those of a mode.

    Parameters
    ----------
    x, points
        Arrays [draw, x]: for starting points, and as coordinates and local variables.
    evidence
        Log of the integral of the target around them, roughly.
    inside
        Array [chain, draw] of bool: which of the first chains' draws they are; None of a short run's.
    """

    x: np.ndarray
    points: np.ndarray
    evidence: float
    inside: np.ndarray | None = None

    @property
    def everything(self) -> bool:
        """Whether all draws of the first chains are among them."""
        return self.inside is not None and bool(self.inside.all())


@dataclass(frozen=True)
class _Run:
    """One target that is sampled until the gate passes or the attempts are used up."""

    problem: Problem
    first: FitSettings
    options: Options
    phases: Phases
    words: tuple[str, ...]
    tried: list[Attempt] = field(default_factory=list)

    def by_mode(self) -> Parts:
        """Sample; where the draws fall apart into modes, each by chains of its own."""
        chosen, attempt, best = self.first, 1, None
        start: Start = self.problem.starts.dispersed
        while True:
            problem, sampling = self.attempt(chosen, start, str(attempt))
            self.state("", attempt, chosen, start, sampling)
            candidates = self.candidates(problem, sampling)
            # Slow chains look like modes: where the whole was refused, a mode has to pass at once.
            tries = 1 if sampling.reasons and attempt < self.first.attempts else self.first.attempts
            parts = self.separated(problem, sampling, candidates, chosen, tries)
            if parts:
                left_out = max(len(candidates) - MOST_CARRIED, 0)
                return Parts(parts, chosen, attempt, left_out, tuple(self.tried))
            passed, ess = not sampling.reasons, sampling.convergence.ess_min
            here = (Part(problem, sampling),), chosen, attempt
            if best is not None and not passed:
                return Parts(*best, tried=tuple(self.tried))  # more draws were wanted, not needed
            if attempt == self.first.attempts or (passed and ess >= chosen.ess):
                return Parts(*here, tried=tuple(self.tried))
            best = here if passed else None
            attempt, start = attempt + 1, self.problem.starts.central
            if not passed and len(candidates) == 1 and not candidates[0].everything:
                # Other chains ended where there is next to nothing of the posterior.
                start = partial(_one_of, candidates[0].x)
            else:
                chosen = self.again(chosen, attempt, sampling)

    def state(self, of: str, number: int, settings: FitSettings, start: Start, sampling: Sampling) -> None:
        """Keep what was tried."""
        starts = self.problem.starts
        word = PRIOR if start == starts.dispersed else MIDDLE if start == starts.central else MODE
        self.tried.append(
            Attempt.made(" ".join([*self.words[1:], of]).strip(), number, settings, word, sampling)
        )

    def again(self, settings: FitSettings, number: int, sampling: Sampling) -> FitSettings:
        """Return the settings of an attempt after one that was refused, or has too few effective draws."""
        return settings_after(settings, number, sampling, self.options.thresholds, self.problem.bound.size)

    def attempt(self, settings: FitSettings, start: Start, word: str) -> tuple[Problem, Sampling]:
        """Sample once; returns the target and the draws as they are judged."""
        with self.phases(SAMPLE):
            draws = sample(
                self.problem.bound,
                start=start,
                otherwise=self.problem.starts.central,
                choices=_CHOICES if start == self.problem.starts.dispersed else 1,
                settings=settings,
                seed=derive_seed(*self.words, word),
                progress=self.options.progress,
            )
        with self.phases(DIAGNOSE):
            problem, draws, points = in_one_piece(self.problem, draws)
            return problem, assess_sampling(problem.names, points, draws, self.options.thresholds)

    def candidates(self, problem: Problem, sampling: Sampling) -> list[_Candidate]:
        """Return draws that may be those of modes, heaviest first: of the chains, and of short runs."""
        size = problem.coordinates.size
        with self.phases(DIAGNOSE):
            labels = labels_of(sampling.points[..., :size], passed=not sampling.reasons)
            found = [
                _candidate(problem, sampling, labels == mode, inside=True)
                for mode in range(int(labels.max()) + 1)
            ]
        if not np.isfinite(sampling.points).all():
            return found
        found += self.scouted(problem, Regions.of([one.points[:, :size] for one in found]), found[0].x)
        found.sort(key=lambda one: -one.evidence)
        return [one for one in found if not one.evidence < found[0].evidence - NEGLIGIBLE] or found[:1]

    def scouted(self, problem: Problem, known: Regions, x: np.ndarray) -> list[_Candidate]:
        """Look for modes that no chain has reached: climb from draws of the model's own priors.

        Known are the regions of the modes so far, and draws x [draw, x] of one of them.

        Where a climb ends far from all draws, short chains from there show whether it is a mode: those that
        come back to the known ones show that it is none.
        """
        own = problem.starts.own if problem.genesis else None
        if own is None:
            return []
        size, found, tried = problem.coordinates.size, [], 0
        run = replace(self, problem=problem)  # its circular variables lie within one turn
        with self.phases(DIAGNOSE):
            rng = np.random.default_rng(derive_seed(*self.words, "scouts"))
            some = rng.permutation(own)[: _SCOUTS if problem.prior is None else _FEWER]
            found_tops = tops(problem, known, problem.vectors(some)[0], x)
        for top in found_tops:
            if known.near(problem.points(top)[None, :size])[0] or tried == _MOST_SHORT:
                continue
            tried += 1
            there, short = run.attempt(_SHORT, partial(_same, top), f"scout {tried}")
            if known.near(short.points[:, -1, :size]).any():
                continue
            whole = np.ones(short.points.shape[:2], dtype=bool)
            found.append(_candidate(there, short, whole, inside=False))
            known = known.and_of(found[-1].points[:, :size])
        return found

    def separated(
        self,
        problem: Problem,
        sampling: Sampling,
        candidates: list[_Candidate],
        settings: FitSettings,
        tries: int,
    ) -> tuple[Part, ...]:
        """Return the modes with chains of their own; none where the draws are not those of modes.

        Each is tried so many times. Where that is once, modes that do not pass are none.
        """
        if len(candidates) == 1:
            return ()
        size, candidates = problem.coordinates.size, candidates[:MOST_CARRIED]
        regions = Regions.of([one.points[:, :size] for one in candidates])
        split = [self.crossing(sampling, one) for one in candidates]
        crossed = not sampling.reasons and all(one is not None for one in split)
        if crossed:
            found = [one for one in split if one is not None]
        else:
            found = [
                self.within(one, number, settings, sampling, tries) for number, one in enumerate(candidates)
            ]
        if tries == 1 and sampling.reasons and any(one.reasons for one in found):
            return ()
        at_home = [(regions.of_points(one.points[..., :size]) == number) for number, one in enumerate(found)]
        stayed = [number for number, here in enumerate(at_home) if here.mean() >= _STAY]
        # Parts of chains that cross are all of the posterior: none of them may be left out.
        if len(stayed) < len(found) and (crossed or not self.reached(regions, found, stayed, size)):
            return ()
        kept = [found[number] for number in stayed]
        if len(kept) == 1:
            return (Part(problem, kept[0]),)
        inside = Regions.of(
            [one.points[at_home[number]][:, :size] for one, number in zip(kept, stayed, strict=True)]
        )
        return tuple(
            Part(
                problem, self.rectangular(one, inside.of_points(one.points[..., :size]) == k), 1.0, inside, k
            )
            for k, one in enumerate(kept)
        )

    def reached(self, regions: Regions, found: list[Sampling], stayed: list[int], size: int) -> bool:
        """Whether the chains that left their region went to one whose chains stayed."""
        if not stayed:
            return False
        gone = [number for number in range(len(found)) if number not in stayed]
        ends = [regions.of_points(found[number].points[:, -1, :size]) for number in gone]
        return bool(np.isin(np.concatenate(ends), stayed).all())

    def crossing(self, sampling: Sampling, candidate: _Candidate) -> Sampling | None:
        """Return a mode's draws of chains that cross between modes; None where some have too few in it."""
        inside = candidate.inside
        if inside is None or inside.sum(axis=1).min() < _FEW_DRAWS:
            return None
        found = self.rectangular(sampling, inside)
        # The whole has passed the gate: a mode has its share of the effective draws.
        return replace(found, reasons=()) if found.convergence.ess_min >= _FEW_EFFECTIVE else None

    def within(
        self, candidate: _Candidate, number: int, settings: FitSettings, sampling: Sampling, tries: int
    ) -> Sampling:
        """Sample a mode by chains that start in it, unless all of the first chains were in it and passed."""
        if not sampling.reasons and candidate.everything:
            return sampling
        attempt, start, best = 1, partial(_one_of, candidate.x), None
        while True:
            _, found = self.attempt(settings, start, f"mode {number} {attempt}")
            self.state(f"mode {number}", attempt, settings, start, found)
            passed, ess = not found.reasons, found.convergence.ess_min
            if best is not None and not passed:
                return best
            if attempt == tries or (passed and ess >= settings.ess):
                return found
            best, attempt = found if passed else None, attempt + 1
            settings = self.again(settings, attempt, found)

    def rectangular(self, sampling: Sampling, inside: np.ndarray) -> Sampling:
        """Return as many draws of each chain as all have inside [chain, draw], and judge them again."""
        if inside.all():
            return sampling
        count = int(inside.sum(axis=1).min())
        places = [np.flatnonzero(row) for row in inside]
        evenly = [np.linspace(0, len(one) - 1, count).round().astype(int) for one in places]
        at = np.array([one[chosen] for one, chosen in zip(places, evenly, strict=True)])
        chain = np.arange(len(at))[:, None]
        draws = picked(sampling.draws, lambda values: values[chain, at])
        return assess_sampling(sampling.names, sampling.points[chain, at], draws, self.options.thresholds)


def separate(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two sets of draws [draw, coordinate], as many of each, lie in separated modes."""
    count = min(len(one), len(other))
    both = (draws[np.linspace(0, len(draws) - 1, count).astype(int)] for draws in (one, other))
    return bool(labels_of(np.stack(list(both)), passed=True).max())


def proposal(points: np.ndarray, names: list[str]) -> Map:
    """Return the joint normal with the mean and covariance of points [point, x]."""
    return match_map(points, names, family=NORMAL).map


def _candidate(problem: Problem, sampling: Sampling, which: np.ndarray, *, inside: bool) -> _Candidate:
    """Return the draws of a run that `which` [chain, draw] marks."""
    points = sampling.points[which]
    chosen = points[np.linspace(0, len(points) - 1, min(ROUGH, len(points))).astype(int)]
    evidence = -np.inf
    if len(points) > 2 * points.shape[1] + 2 and (points.std(axis=0) > 0).all():
        normal = proposal(points, sampling.names)
        # Too large by the divergence of the draws from their normal: good enough to leave modes out.
        evidence = float(np.mean(problem.log_density(chosen) - normal.log_density(chosen)))
    return _Candidate(
        sampling.draws.x[which],
        points,
        evidence if np.isfinite(evidence) else -np.inf,
        which if inside else None,
    )


def _same(x: np.ndarray, _rng: np.random.Generator) -> np.ndarray:
    """Return a starting point that is given."""
    return x.copy()


def _one_of(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a starting point from rows [row, x]."""
    return np.array(rows[rng.integers(len(rows))])
