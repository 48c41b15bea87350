"""One member in one link: its leaf, its belief, its results; and tables of them, as Parquet.

A leaf is the canonical JSON of what identifies a member's state (docs/ledger-format.md, section 12). Its hash
is that of RFC 6962. What it names by digest is in the other columns of the row.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lindley.atomic import write_over
from lindley.errors import LedgerCorrupt
from lindley.ledger.record import canonical, digest
from lindley.model.coordinates import Coordinates
from lindley.panel.key import MemberKey, read_key
from lindley.panel.merkle import leaf_hash
from lindley.prior.belief import Audited, Belief, Harm
from lindley.prior.matched import MatchedPrior
from lindley.prior.mixture import map_of

LEAF = "lindley-leaf/1"
#: What became of a member in a link.
ACCEPTED, QUARANTINED, WITHDRAWN = "accepted", "quarantined", "withdrawn"

_ARRAY = pa.struct(
    [("name", pa.string()), ("shape", pa.list_(pa.int64())), ("values", pa.list_(pa.float64()))]
)
SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("link", pa.int64(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("prior", pa.string()),
        pa.field("batch", pa.string()),
        pa.field("coordinates", pa.string()),
        pa.field("map", pa.string()),
        pa.field("arrays", pa.list_(_ARRAY)),
        pa.field("results", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True, kw_only=True)
class MemberRow:
    """A member as a link left it.

    Parameters
    ----------
    key
        Which member.
    link
        Number of the link.
    status
        `ACCEPTED`; `QUARANTINED`: its fit failed the gate, and the belief is the one that it had;
        `WITHDRAWN`: none of its rows counts any more, and it has no belief.
    prior
        Hash of its leaf before, in hexadecimal; None for a new member.
    batch
        Content digest of its rows in this link.
    matched
        Its belief's matched prior; None for a member that has no belief yet.
    results
        JSON values without missing numbers: `attempt` is what the fit of this link gave, `belief` what goes
        with the matched prior.
    """

    key: MemberKey
    link: int
    status: str
    prior: str | None
    batch: str | None
    matched: MatchedPrior | None
    results: dict[str, Any] = field(default_factory=dict)

    @property
    def leaf(self) -> dict[str, Any]:
        """The leaf as JSON values."""
        return {
            "schema": LEAF,
            "key": self.key.document,
            "link": self.link,
            "status": self.status,
            "prior": self.prior,
            "batch": self.batch,
            "matched": None if self.matched is None else self.matched.digest,
            "results": digest(self.text),
        }

    @cached_property
    def text(self) -> bytes:
        """The results as canonical JSON: most of the time that a row takes beside its fit."""
        return canonical(self.results)

    @cached_property
    def hash(self) -> bytes:
        """Hash of the leaf."""
        return leaf_hash(canonical(self.leaf))

    @property
    def attempt(self) -> dict[str, Any]:
        """What the fit of this link gave."""
        return dict(self.results["attempt"])

    @property
    def state(self) -> dict[str, Any] | None:
        """What goes with the matched prior: what accumulates, summary, counts; None without one."""
        found: dict[str, Any] | None = self.results["belief"]
        return found

    @property
    def conflict(self) -> float | None:
        """Conflict of its rows with its prior, as a p-value; None where it was not measured."""
        found = self.attempt["metrics"].get("conflict_p")
        return None if found is None else float(found)

    def belief(self) -> Belief | None:
        """Return the belief that the member has after the link; None where it has none."""
        if self.matched is None or self.state is None:
            return None
        return belief_of(self.matched, self.state)


def belief_of(matched: MatchedPrior, state: dict[str, Any]) -> Belief:
    """Return the belief that a matched prior and the state beside it make."""
    kept = dict(state["kept"])
    audited = kept.pop("audited")
    return Belief(
        matched=matched,
        unseen=Harm(**kept.pop("unseen")),
        audited=None if audited is None else Audited(**audited),
        **kept,
    )


def state_of(belief: Belief) -> dict[str, Any]:
    """Return what a belief holds beside its matched prior, as JSON values."""
    plain = ("budget", "trusted", "doubt", "modes_lost", "drift", "sight", "unmeasured", "apart", "inlined")
    kept: dict[str, Any] = {name: getattr(belief, name) for name in plain}
    kept |= {"log_evidence": belief.log_evidence, "covered": belief.covered, "log_score": belief.log_score}
    kept |= {"forgetting": belief.forgetting, "monitor": belief.monitor, "unseen": vars(belief.unseen)}
    kept["audited"] = None if belief.audited is None else vars(belief.audited)
    return {"kept": finite(kept)}


def finite(value: Any) -> Any:
    """Return JSON values without numbers that JSON has no form for: infinite ones and NaN are left out."""
    if isinstance(value, dict):
        items = ((str(name), finite(item)) for name, item in value.items() if not _unwritable(item))
        return dict(items)
    if isinstance(value, list | tuple):
        return [finite(item) for item in value if not _unwritable(item)]
    if isinstance(value, np.generic):
        return finite(value.item())
    return value


def _unwritable(value: Any) -> bool:
    return isinstance(value, float | np.floating) and not math.isfinite(value)


def table_of(rows: Iterable[MemberRow]) -> pa.Table:
    """Return rows as a table, in the order of their keys."""
    ordered = sorted(rows, key=lambda row: row.key.canonical)
    return pa.Table.from_pylist([_columns(row) for row in ordered], SCHEMA)


def _columns(row: MemberRow) -> dict[str, Any]:
    """Return one row as the values of a table."""
    found: dict[str, Any] = {
        "key": row.key.canonical.decode(),
        "link": row.link,
        "status": row.status,
        "prior": row.prior,
        "batch": row.batch,
        "results": row.text.decode(),
    }
    if row.matched is not None:
        matched = row.matched
        found["coordinates"] = json.dumps(matched.coordinates.as_list())
        found["map"] = json.dumps([matched.reason, matched.moments, matched.shrinkage])
        found["arrays"] = [
            {"name": name, "shape": list(array.shape), "values": np.asarray(array, float).ravel()}
            for name, array in matched.arrays().items()
        ]
    return found


def rows_by_key(
    table: pa.Table, by: tuple[str, ...], keys: Iterable[MemberKey] | None = None
) -> dict[str, MemberRow]:
    """Return the rows of a table, of all or some members, by canonical key; see `rows_of`."""
    if keys is not None:
        chosen = pa.array([key.canonical.decode() for key in keys], pa.string())
        table = table.filter(pc.is_in(table["key"], chosen))
    return {row.key.canonical.decode(): row for row in rows_of(table, by)}


def rows_of(table: pa.Table, by: tuple[str, ...] = ()) -> Iterator[MemberRow]:
    """Give the rows of a table.

    Raises
    ------
    LedgerCorrupt
        If it is no table of members.
    """
    try:
        for values in table.cast(SCHEMA).to_pylist():
            yield MemberRow(
                key=read_key(values["key"], by),
                link=values["link"],
                status=values["status"],
                prior=values["prior"],
                batch=values["batch"],
                matched=_matched(values),
                results=json.loads(values["results"]),
            )
    except Exception as error:  # damaged tables make the readers raise nearly anything
        raise LedgerCorrupt(
            "A table of members cannot be read",
            expected="the columns and values of docs/ledger-format.md",
            found=f"{type(error).__name__}: {str(error)[:200]}",
        ) from error


def _matched(values: dict[str, Any]) -> MatchedPrior | None:
    """Return the matched prior of one row."""
    if values["arrays"] is None:
        return None
    arrays = {
        item["name"]: np.array(item["values"], int if item["name"].startswith("order") else float).reshape(
            item["shape"]
        )
        for item in values["arrays"]
    }
    reason, moments, shrinkage = json.loads(values["map"])
    coordinates = _coordinates(values["coordinates"])
    return MatchedPrior(coordinates, map_of(arrays), reason, moments, float(shrinkage))


@lru_cache(64)
def _coordinates(text: str) -> Coordinates:
    """Return coordinates from their text; nearly all members of a panel have the same."""
    return Coordinates.from_list(json.loads(text))


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table as Parquet, whole or not at all; equal tables give equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = pa.BufferOutputStream()
    pq.write_table(
        table, buffer, compression="zstd", version="2.6", row_group_size=2**14, write_page_checksum=True
    )
    write_over(buffer.getvalue().to_pybytes(), path)


def read_table(path: Path) -> pa.Table:
    """Read a Parquet file of Lindley's own.

    Raises
    ------
    LedgerCorrupt
        If it cannot be read.
    """
    try:
        return pq.read_table(path, page_checksum_verification=True)
    except Exception as error:  # see `rows_of`
        raise LedgerCorrupt(
            f"The artifact {path.name} cannot be read",
            expected="the Parquet file that the link's record lists",
            found=f"{type(error).__name__}: {str(error)[:200]}",
        ) from error
