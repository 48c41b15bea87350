"""Attempts to sample a target: what was tried, how well it went, and the same in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lindley.inference.diagnostics.gate import Thresholds
from lindley.inference.inputs import most_draws
from lindley.inference.sampling import CHANGED, NUTS, FitSettings, Sampling

#: Where chains start: at draws of the prior (the belief, or the model's own), near its middle or the model's
#: own starting point, or at draws of a mode that was found.
PRIOR, MIDDLE, MODE = "prior", "middle", "mode"
_WORDS = {PRIOR: "draws of the prior", MIDDLE: "near its middle", MODE: "draws of a mode"}
#: R-hat from which chains are in different places rather than slow (see `diagnostics.remedies`).
_APART = 1.1
#: More draws than the gate needs by the last estimate: the next effective sample size is an estimate too.
_MORE = 1.2
#: Names of the figures that are effective sample sizes.
_ESS = ("ess_bulk_min", "ess_tail_min")
#: What is said of a figure that is not finite.
_UNDEFINED = "undefined"


@dataclass(frozen=True)
class Attempt:
    """One attempt to sample a target, or a mode of it.

    Parameters
    ----------
    of
        What was sampled: empty for a whole posterior, otherwise the prior's part and the mode.
    number
        Of the attempt, from 1 on.
    settings, start
        The sampler's settings, and where its chains started.
    figures
        What the gate goes by, by the name of the metric; only finite ones.
    passed
        Whether the gate passes it.
    """

    of: str
    number: int
    settings: FitSettings
    start: str
    figures: dict[str, float]
    passed: bool

    @classmethod
    def made(cls, of: str, number: int, settings: FitSettings, start: str, sampling: Sampling) -> Attempt:
        """Return an attempt with these draws."""
        return cls(of, number, settings, start, sampling.figures, not sampling.reasons)

    def as_dict(self) -> dict[str, Any]:
        """Return the attempt as a record states it."""
        changed = {name: getattr(self.settings, name) for name in CHANGED}
        return (
            {"of": self.of, "number": self.number, "start": self.start}
            | changed
            | {
                "figures": self.figures,
                "passed": self.passed,
            }
        )


def settings_after(
    settings: FitSettings, number: int, sampling: Sampling, limits: Thresholds, size: int
) -> FitSettings:
    """Return the settings of an attempt after one that was refused, or has too few effective draws.

    Parameters
    ----------
    settings, sampling
        Of the attempt before.
    number
        Of the attempt, from 2 on.
    limits
        Of the gate.
    size
        Length of x: its draws have to fit into memory.
    """
    converged = sampling.convergence
    if sampling.reasons:
        # Of chains that are in different places, the effective sample size states nothing.
        mixing = bool((converged.r_hat < _APART).all())
        missing = _MORE * limits.ess / converged.ess_min if mixing else 1.0
        diverged = sampling.divergence_rate > limits.divergences
        chosen = settings.retried(number, diverged=diverged, missing=missing)
    else:
        chosen = settings.longer(converged.ess_min)
    return chosen.at_most(most_draws(size, settings))


def _ess(figures: Mapping[str, float]) -> float | None:
    """Return the smallest effective sample size of an attempt; None where it is not known."""
    return min(figures[name] for name in _ESS) if figures.keys() >= set(_ESS) else None


def resumed(first: FitSettings, record: Mapping[str, Any], limits: Thresholds) -> FitSettings:
    """Return the first settings of a fit of nearly the same target as that of a record.

    Where that fit needed further attempts, or began with what one before it had needed, they are those of
    the attempt that was kept, with the draws that its effective sample size asks for.

    Parameters
    ----------
    first
        The policy's settings.
    record
        Of the fit: its ``sampler`` and ``attempts``.
    limits
        Of the gate.
    """
    sampler = record["sampler"]
    kept = [one for one in record["attempts"] if one["number"] == sampler.get("attempt") and one["passed"]]
    whole = [one for one in kept if not one["of"] and _ess(one["figures"]) is not None]
    if sampler.get("sampler") != NUTS or not whole:
        return first
    last = replace(first, **{name: whole[0][name] for name in CHANGED})
    if last == first:
        return first
    ess = _ess(whole[0]["figures"]) or 0.0
    wanted = int(np.ceil(_MORE * max(first.ess, limits.ess) / max(ess, 1.0) * last.draws))
    return replace(last, draws=int(np.clip(wanted, first.draws, max(first.draws, last.draws))))


def tried(attempts: Sequence[Attempt]) -> str:
    """Return what was tried, as one sentence; empty without attempts."""
    if not attempts:
        return ""
    count = f"{len(attempts)} attempts" if len(attempts) > 1 else "1 attempt"
    return f"{count}: {'; '.join(_told(one) for one in attempts)}"


def _told(attempt: Attempt) -> str:
    """Return an attempt in words: its settings, then how it went."""
    settings, figures = attempt.settings, attempt.figures
    smallest = _ess(figures)
    ess = _UNDEFINED if smallest is None else f"{smallest:.0f}"
    r_hat = f"{figures['r_hat_max']:.3f}" if "r_hat_max" in figures else _UNDEFINED
    of = f"{attempt.of}: " if attempt.of else ""
    return (
        f"{of}{settings.tune:,} warm-up steps and {settings.draws:,} draws, "
        f"acceptance {settings.target_accept:.4g}, from {_WORDS[attempt.start]} "
        f"(R-hat {r_hat}, ESS {ess}, {figures['divergence_rate']:.2%} diverged)"
    )
