"""Posteriors: that of a method, and the reference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr


@dataclass(frozen=True)
class Reference:
    """The reference posterior.

    Parameters
    ----------
    mean, sd
        Arrays [parameter].
    ess
        Effective number of its draws; infinite for an exact one.
    """

    mean: np.ndarray
    sd: np.ndarray
    ess: float = np.inf


@dataclass(frozen=True)
class Found:
    """The posterior of a method.

    Parameters
    ----------
    draws
        Array [chain, draw, parameter].
    mean
        Array [parameter].
    divergences
        Fraction of divergent draws.
    """

    draws: np.ndarray
    mean: np.ndarray
    divergences: float


def found_in(trace: xr.DataTree, variables: tuple[str, ...]) -> Found:
    """Return the posterior of a trace in ArviZ's schema, with calibrated weights if it has them."""
    posterior = trace["posterior"].dataset
    parts = [posterior[name].transpose("chain", "draw", ...).values for name in variables]
    draws = np.concatenate([part.reshape(*part.shape[:2], -1) for part in parts], axis=-1)
    diverging = trace["sample_stats"].dataset["diverging"].values
    flat = draws.reshape(-1, draws.shape[-1])
    weights = np.full(len(flat), 1 / len(flat))
    if "coordinates" in trace.children and "weight" in trace["coordinates"].dataset:
        weights = trace["coordinates"].dataset["weight"].values.ravel()
    return Found(draws, weights @ flat, float(diverging.mean()))
