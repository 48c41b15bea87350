"""What a target computes for every draw, as a graph and as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any


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
