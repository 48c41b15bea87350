"""What a target computes for every draw, as a graph and as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pytensor
from pytensor.graph.basic import Variable

from lindley.model.graph import ModelGraph

#: Elements of a deterministic that is computed at every draw: 100 MB at 6,000 draws. Larger ones (a mean for
#: each of 100,000 rows) can be computed from the trace and the batch again.
MOST_ELEMENTS = 2048


def kept_deterministics(graph: ModelGraph) -> list[Variable]:
    """Return the deterministics that are computed at every draw: those of at most `MOST_ELEMENTS` elements.

    What carries state is always among them. Where no data are larger than that, all are.
    """
    model, sources = graph.model, set(graph.declaration.carry.values())
    every = list(model.deterministics)
    if not every or max(*map(_size, model.data_vars), observed_size(model), 0) <= MOST_ELEMENTS:
        return every
    try:
        sizes = pytensor.function([], [d.size for d in every], mode="FAST_COMPILE")()
    except Exception:  # a model that cannot be evaluated here is refused by name later
        return every
    return [d for d, size in zip(every, sizes, strict=True) if size <= MOST_ELEMENTS or d.name in sources]


def observed_size(model: Any) -> int:
    """Return how many values the observed variables have together, as far as their data show it."""
    return sum(_size(model.rvs_to_values[rv]) for rv in model.observed_RVs)


def _size(variable: Any) -> int:
    """Return the number of elements of data; 1 where it has to be computed."""
    held = variable.get_value(borrow=True) if hasattr(variable, "get_value") else getattr(variable, "data", 0)
    return int(np.size(held))


@dataclass(frozen=True, kw_only=True)
class Quantities[T]:
    """What a model computes at a point (symbolic variables), or at many (arrays [..., own shape]).

    Parameters
    ----------
    u
        Coordinates [..., coordinate] of the carried variables, before the newest batch.
    carried
        Coordinates [..., coordinate] that are carried forward: `u` with the state at the batch's end in place
        of the state at its start. The next link's prior is matched to their draws.
    values
        Natural-scale values of the free variables by name: carried ones, then local ones.
    deterministics
        Deterministics by name.
    log_likelihood
        The newest batch's log likelihood [...].
    """

    u: T
    carried: T
    values: dict[str, T]
    deterministics: dict[str, T]
    log_likelihood: T

    @property
    def named(self) -> dict[str, T]:
        """Natural-scale values and deterministics by name."""
        return self.values | self.deterministics

    def essential(self) -> Quantities[T]:
        """Return the same without deterministics: what an update needs, whatever else a model computes."""
        return replace(self, deterministics={})

    def flat(self) -> list[T]:
        """Return all of them in a fixed order, as a compiled function returns them."""
        found: list[T] = []
        for field in fields(self):
            item = getattr(self, field.name)
            found += item.values() if isinstance(item, dict) else [item]
        return found

    def filled[S](self, flat: Sequence[S]) -> Quantities[S]:
        """Return quantities of the same names from what `flat` gives of them."""
        rest = iter(flat)
        filled: dict[str, Any] = {}
        for field in fields(self):
            item = getattr(self, field.name)
            filled[field.name] = {name: next(rest) for name in item} if isinstance(item, dict) else next(rest)
        return Quantities(**filled)
