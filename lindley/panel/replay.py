"""All members after each link, as they follow from the rows that the links wrote: for the verifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa

from lindley.panel.index import Index, empty
from lindley.panel.key import MemberKey
from lindley.panel.row import MemberRow


@dataclass(frozen=True)
class PanelFiles:
    """What was read of the files of a panel's link; None where one cannot be read.

    Parameters
    ----------
    rows
        The members that changed.
    entries
        Its index.
    roots
        Its roots of buckets.
    pointers
        Where its registered model finds the members that it did not change.
    """

    rows: tuple[MemberRow, ...] | None = None
    entries: pa.Table | None = None
    roots: pa.Table | None = None
    pointers: dict[str, Any] | None = None

    @cached_property
    def by_key(self) -> dict[MemberKey, MemberRow]:
        """The rows by key; none where they cannot be read."""
        return {row.key: row for row in self.rows or ()}


@dataclass(frozen=True)
class Members:
    """All members after a link.

    Parameters
    ----------
    rows
        The newest row of each member by canonical key.
    index
        What the index of the link must be.
    """

    rows: Mapping[str, MemberRow] = field(default_factory=dict)
    index: Index = field(default_factory=empty)

    def after(self, rows: Sequence[MemberRow], link: int) -> Members:
        """Return all members after another link that wrote these rows."""
        newest = {row.key.canonical.decode(): row for row in rows}
        return Members({**self.rows, **newest}, self.index.changed(rows, link))
