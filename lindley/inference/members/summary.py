"""A member's carried parameters on their natural scale, from arrays alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lindley.inference.modes.sampled import Sampled
from lindley.inference.trace import weighted_row
from lindley.model.coordinates import Block, element_names, positions
from lindley.model.natural_scale import natural_scale


def natural_draws(sampled: Sampled) -> dict[str, np.ndarray]:
    """Return draws [draw] of each carried element on its natural scale, by its label.

    State is that at the end of the newest batch. Elements that this batch does not have are among them where
    their transform is one of PyMC's own.
    """
    named, carry = sampled.draws.quantities.named, sampled.graph.declaration.carry
    places = {name: i for i, name in enumerate(sampled.coordinates.names)}
    own = {block.name: block for block in sampled.graph.coordinates.blocks}
    found: dict[str, np.ndarray] = {}
    for block in sampled.coordinates.blocks:
        held = named.get(carry.get(block.name, block.name), named[block.name])
        found |= _elements(block, own[block.name], held, sampled.carried, places)
    return found


def _elements(
    block: Block, own: Block, held: np.ndarray, carried: np.ndarray, places: Mapping[str, int]
) -> dict[str, np.ndarray]:
    """Return draws by label of one variable: `own` is what the newest batch has of it."""
    flat = held.reshape(len(carried), -1)
    found = dict(zip(_labels(own), flat.T, strict=True))
    if block.elementwise:
        missing = [name for name in _labels(block) if name not in found]
        natural = natural_scale(block.transform, carried[:, [places[name] for name in missing]])
        if missing and natural is not None:
            found |= dict(zip(missing, natural.T, strict=True))
    return {name: found[name] for name in _labels(block) if name in found}


def _labels(block: Block) -> list[str]:
    """Return one label for each element on the natural scale."""
    axes = block.labels if len(block.labels) == len(block.shape) else [positions(n) for n in block.shape]
    return element_names(block.name, axes)


def summary(draws: Mapping[str, np.ndarray], weights: np.ndarray) -> dict[str, dict[str, float]]:
    """Return mean, sd and quantiles of draws [draw] by label, under the weights [draw] of the match."""
    return {label: weighted_row(values, weights) for label, values in draws.items()}


def thinned(draws: Mapping[str, np.ndarray], most: int) -> dict[str, np.ndarray]:
    """Return at most so many draws of each element, evenly spaced."""
    if not most or not draws:
        return {}
    count = len(next(iter(draws.values())))
    chosen = np.linspace(0, count - 1, min(most, count)).round().astype(int)
    return {label: values[chosen] for label, values in draws.items()}
