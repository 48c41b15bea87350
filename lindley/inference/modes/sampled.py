"""Draws of a posterior, with their weights, of one mode or several."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lindley.inference.modes.attempts import Attempt
from lindley.inference.sampling import Draws, Sampling
from lindley.model.coordinates import Coordinates
from lindley.model.graph import ModelGraph
from lindley.prior.stein import CalibratedWeights
from lindley.target.problem import Problem


@dataclass(frozen=True)
class Modes:
    """Separated modes of a posterior.

    Parameters
    ----------
    each
        Draws of each mode, by chains of its own.
    shares
        Array [mode] of their weights, which sum to one.
    mode_of
        Array [chain, draw]: the mode of each of the draws that are mixed by these weights.
    ess
        Effective sample size of the weights: as many independent draws of modes would leave their error.
    """

    each: tuple[Sampled, ...]
    shares: np.ndarray
    mode_of: np.ndarray
    ess: float = np.inf


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """Draws of a posterior with their model and diagnostics: of a fit, or of a trace sampled elsewhere.

    Parameters
    ----------
    graph
        Model of the newest batch.
    sampling
        The draws, and how well the sampler did.
    calibration, halves
        Weights of the draws, chain after chain, and those of their first and second half by themselves.
    problem
        The target that was sampled; None for a trace from elsewhere, whose target cannot be evaluated.
    modes
        The separated modes that the draws are mixed from; None where there is one.
    lost
        Why the match cannot carry modes or their weights; empty where it can.
    tried
        The attempts to sample it, in their order.
    """

    graph: ModelGraph
    sampling: Sampling
    calibration: CalibratedWeights
    halves: tuple[CalibratedWeights, CalibratedWeights] | None = None
    problem: Problem | None = None
    modes: Modes | None = None
    lost: str = ""
    tried: tuple[Attempt, ...] = ()

    @property
    def draws(self) -> Draws:
        """The draws, with every quantity of the model."""
        return self.sampling.draws

    @property
    def coordinates(self) -> Coordinates:
        """Coordinates of the belief after."""
        return self.problem.coordinates if self.problem else self.graph.coordinates

    @property
    def carried(self) -> np.ndarray:
        """Draws [draw, coordinate] that the next link's prior is matched to, chain after chain."""
        return self.draws.quantities.carried.reshape(-1, self.coordinates.size)

    @property
    def keeps_coordinates(self) -> bool:
        """Whether the carried draws are of the coordinates that the fit started from."""
        new = self.problem is not None and len(self.problem.layout.new_at)
        return not self.graph.declaration.carry and not new

    @property
    def assessable(self) -> bool:
        """Whether importance weights assess the match.

        With local variables or state they assess mostly those, and without a target there are none.
        """
        return self.problem is not None and not self.problem.local_names and not self.graph.declaration.carry

    def ess(self, moment: float) -> float:
        """Return the effective sample size of the calibrated draws, of the coordinate that has the smallest.

        Where draws have a third moment that their match lacks, it moves a mean by about a sixth of it, in
        sds: calibration cannot make the match better than as many draws as have that error.
        """
        plain = self.sampling.convergence.ess_min
        found = min(plain * self.calibration.gain, max(plain, (6 / max(moment, 1e-6)) ** 2))
        return found if self.modes is None else min(found, self.modes.ess)
