"""A link of a panel and its members, as people read them; everything is checked against its digest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

from lindley.errors import MemberRefused, PanelRefused
from lindley.ledger.history import Link
from lindley.ledger.reading import find_chain
from lindley.model.declaration import Declaration
from lindley.panel.index import Index
from lindley.panel.key import MemberKey, key_from, member_text, read_key
from lindley.panel.proof import proof_of
from lindley.panel.reading import PanelReader
from lindley.panel.row import MemberRow
from lindley.prior.matched import MatchedPrior

if TYPE_CHECKING:
    from lindley.panel.serving.predictor import MemberPredictor


@dataclass(frozen=True)
class Member:
    """A member of a panel as of a link.

    Parameters
    ----------
    chain, row, reader
        The panel, the member's newest row, and what reads further ones.
    """

    chain: str
    row: MemberRow
    reader: PanelReader

    def __str__(self) -> str:
        """Return one line: which member, what became of it, where."""
        return f"{member_text(self.chain, self.row.key)}: {self.row.status} in link {self.row.link}"

    __repr__ = __str__

    @property
    def status(self) -> str:
        """``accepted`` or ``quarantined``: what became of its last rows."""
        return self.row.status

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the gate refused its last rows."""
        return tuple(self.row.attempt["reasons"])

    @property
    def metrics(self) -> dict[str, float]:
        """Scalar results of the fit of its last rows."""
        return dict(self.row.attempt["metrics"])

    def summary(self) -> pd.DataFrame:
        """Return mean, sd and quantiles of its belief by parameter; no rows where it has none."""
        held = self.row.state["summary"] if self.row.state is not None else {}
        return pd.DataFrame.from_dict(held, orient="index").rename_axis("parameter")

    def matched_prior(self) -> MatchedPrior:
        """Return the matched prior of its belief.

        Raises
        ------
        MemberRefused
            If it has no belief yet.
        """
        if self.row.matched is None:
            raise MemberRefused(
                f"{member_text(self.chain, self.row.key)} has no belief yet",
                expected="a member with a fit that passed its gate",
                found="; ".join(self.reasons)[:300],
                todo="update the panel with rows of it that can be fitted",
            )
        return self.row.matched

    def history(self) -> pd.DataFrame:
        """Return a row for each link that changed it and each parameter, the newest first."""
        found: list[dict[str, Any]] = []
        for row in self.reader.history(self.row):
            about = {"link": row.link, "status": row.status, "conflict": row.conflict, "leaf": row.hash.hex()}
            state = row.state["summary"] if row.state is not None else {}
            found += [about | {"parameter": name} | values for name, values in state.items()] or [about]
        return pd.DataFrame(found)


@dataclass(frozen=True)
class PanelLink(Link):
    """A link of a panel: the beliefs of all its members."""

    @cached_property
    def reader(self) -> PanelReader:
        """What reads the files of the panel."""
        return PanelReader(self.ledger, find_chain(self.ledger, self.chain))

    @cached_property
    def index(self) -> Index:
        """All members as of this link."""
        return self.reader.index(self._number)

    @property
    def _number(self) -> int:
        return self.view.number or 0

    @property
    def by(self) -> tuple[str, ...]:
        """The columns of a member's key."""
        return tuple(self.record["panel"]["by"])

    def member(self, key: Mapping[str, Any] | MemberKey | None = None, /, **values: Any) -> Member:
        """Return a member: ``link.member(store=12, sku=88)``.

        Raises
        ------
        MemberRefused
            If there is no such member, or the columns are not those of `by`.
        """
        held = key if isinstance(key, MemberKey) else MemberKey.of({**(key or {}), **values})
        return Member(
            self.chain, self.reader.member(self._number, key_from(held.document, self.by)), self.reader
        )

    def members(self) -> pd.DataFrame:
        """Return a row for each member: its key, what became of its last rows, in which link."""
        found = []
        for text, entry in self.index.entries().items():
            key = read_key(text, self.by)
            about = {"status": entry.status, "link": entry.link, "conflict": entry.conflict}
            found.append(dict(key.values) | about | {"sampler": entry.sampler})
        return pd.DataFrame(found, columns=[*self.by, "status", "link", "conflict", "sampler"])

    def frame(self) -> pd.DataFrame:
        """Return a row for each member and parameter: key, status, mean, sd, quantiles."""
        keys = [read_key(text, self.by) for text in self.index.entries()]
        rows, found = self.reader.find(self.index, keys), list[dict[str, Any]]()
        for key in sorted(rows, key=lambda key: key.canonical):
            row = rows[key]
            about: dict[str, Any] = dict(key.values) | {"status": row.status, "link": row.link}
            state = row.state["summary"] if row.state is not None else {}
            found += [about | {"parameter": name} | values for name, values in state.items()]
        return pd.DataFrame(found)

    @cached_property
    def predictor(self) -> MemberPredictor:  # type: ignore[override]
        """What answers for the members' beliefs: rows are routed by their key."""
        return self.predictor_with(None)

    def predictor_with(self, declaration: Declaration | None) -> MemberPredictor:  # type: ignore[override]
        """Return `predictor` with a declaration that was loaded from the same model code; None loads it."""
        from lindley.panel.serving.predictor import MemberPredictor  # imports PyMC

        constants = self.record["model"]["constants"]
        return MemberPredictor(declaration or self.declaration(), _Members(self), constants)

    def prove(self, key: MemberKey) -> bytes:
        """Return a proof that a member's leaf is in this link: canonical JSON of at most 2 KB."""
        row = self.member(key).row
        found = self.index.proof(row.key)
        return proof_of(row, self.chain, self._number, self.view.record_digest, found, self.index.root)


@dataclass(frozen=True)
class _Members:
    """Reads members as of a link, for predictions."""

    link: PanelLink

    def newest(self, keys: Sequence[MemberKey]) -> dict[MemberKey, MemberRow]:
        """Return the newest rows of members; those that are no members are left out."""
        return self.link.reader.find(self.link.index, keys)

    def everyone(self) -> list[MemberKey]:
        """Return the keys of all members, sorted."""
        return [read_key(text, self.link.by) for text in sorted(self.link.index.entries(), key=str.encode)]


def panel_link(link: Link) -> PanelLink:
    """Return a link as one of a panel.

    Raises
    ------
    PanelRefused
        If it holds one belief.
    """
    if not link.has_members:
        raise PanelRefused(
            f"{link.chain} is no panel",
            expected="a chain whose declaration has `by`",
            found="a chain with one belief",
            todo="leave the member out",
        )
    return PanelLink(link.chain, link.view, link.ledger, link.waiting)
