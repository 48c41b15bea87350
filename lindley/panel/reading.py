"""Read members of a panel from a ledger; every file is checked against its digest."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lindley.errors import LedgerCorrupt, MemberRefused, PanelRefused
from lindley.ledger.chain import Chain, ChainLink
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import fetch_listed, read_record
from lindley.ledger.record import Artifact, require_digest
from lindley.panel.index import ENTRIES, Index, bucket_of, conformed, empty, roots_from
from lindley.panel.key import MemberKey
from lindley.panel.members import split_by
from lindley.panel.row import QUARANTINED, MemberRow, read_table, rows_by_key, rows_of


class PanelReader:
    """Reads the files of a panel's links; each at most once.

    Parameters
    ----------
    ledger, chain
        Where, and the panel's chain.
    """

    def __init__(self, ledger: Ledger, chain: Chain) -> None:
        self._ledger, self._chain = ledger, chain
        self._records: dict[int, dict[str, Any]] = {}
        self._places: dict[int, dict[str, int]] = {}
        self._tables: dict[tuple[int, str], pa.Table] = {}

    def record(self, link: int) -> dict[str, Any]:
        """Return the record of a link."""
        if link not in self._records:
            record = read_record(self._ledger, self._link(link))
            if not is_panel(record):
                raise PanelRefused(
                    f"Link {link} of {record['chain']} is no link of a panel",
                    expected="a chain whose declaration has `by`",
                    found="a chain with one belief",
                    todo="leave the member out",
                )
            self._records[link] = record
        return self._records[link]

    def index(self, link: int) -> Index:
        """Return the index of all members after a link; empty for link 0.

        Raises
        ------
        LedgerCorrupt
            If a file is missing, unreadable, or not the one that its record lists.
        """
        if not link:
            return empty()
        panel = self.record(link)["panel"]
        own = conformed(self.table(link, Artifact.INDEX), ENTRIES, "members")
        roots = roots_from(self.table(link, Artifact.ROOTS))
        at = int(panel["checkpoint"])
        if panel["written"] == 0:
            checkpoint, recent = own, ENTRIES.empty_table()
        else:
            checkpoint, recent = conformed(self.table(at, Artifact.INDEX), ENTRIES, "members"), own
        sha256 = self.record(at if panel["written"] else link)["artifacts"][Artifact.INDEX]
        index = Index(
            checkpoint,
            recent,
            roots,
            members=int(panel["counts"]["members"]),
            checkpoint_link=at,
            written=int(panel["written"]),
            checkpoint_digest=sha256,
        )
        require_digest(f"The root of link {link}", panel["root"], index.root.hex(), "root")
        return index

    def rows(self, link: int, keys: Iterable[MemberKey] | None = None) -> dict[str, MemberRow]:
        """Return the rows that a link wrote, of all or some members, by canonical key."""
        table, by = self.table(link, Artifact.MEMBERS), tuple(self.record(link)["panel"]["by"])
        return rows_by_key(table, by, keys)

    def row(self, link: int, key: MemberKey) -> MemberRow | None:
        """Return the row that a link wrote of a member; None where it wrote none."""
        if link not in self._places:
            keys = self.table(link, Artifact.MEMBERS)["key"].to_pylist()
            self._places[link] = {text: place for place, text in enumerate(keys)}
        place = self._places[link].get(key.canonical.decode())
        if place is None:
            return None
        by = tuple(self.record(link)["panel"]["by"])
        return next(rows_of(self.table(link, Artifact.MEMBERS).slice(place, 1), by))

    def find(self, index: Index, keys: Iterable[MemberKey]) -> dict[MemberKey, MemberRow]:
        """Return the newest rows of members; those that are no members are left out.

        Raises
        ------
        LedgerCorrupt
            If a row is not where the index says, or has another leaf.
        """
        return index.newest(keys, self.rows)

    def member(self, link: int, key: MemberKey) -> MemberRow:
        """Return the newest row of a member as of a link, checked against the root.

        Raises
        ------
        MemberRefused
            If it is no member of the panel.
        """
        index = self.index(link)
        found = self.find(index, [key]).get(key)
        if found is None:
            raise MemberRefused(
                f"There is no member [{key}] at link {link}",
                expected=f"one of {index.members:,} members by {', '.join(self.record(link)['panel']['by'])}",
                found=f"[{key}]",
                todo="correct the key; `lindley members CHAIN` lists the members",
            )
        leaves = index.in_buckets([bucket_of(key.canonical)])[bucket_of(key.canonical)]
        held = leaves[key.canonical.decode()]
        require_digest(f"The leaf of [{key}]", held.hex(), found.hash.hex())
        return found

    def history(self, row: MemberRow) -> list[MemberRow]:
        """Return a member's rows, the newest one first.

        Raises
        ------
        LedgerCorrupt
            If one of them is not the one that the next names.
        """
        found = [row]
        while found[-1].prior is not None:
            before = found[-1].attempt["before"]
            if before is None or not 0 < before < found[-1].link:
                raise LedgerCorrupt(f"The history of [{row.key}] is broken", found=f"link {before} before it")
            older = self.rows(before, [row.key]).get(row.key.canonical.decode())
            stated, held = found[-1].prior, older.hash.hex() if older else "none"
            require_digest(f"The leaf of [{row.key}] in link {before}", stated, held)
            if older is not None:
                found.append(older)
        return found

    def table(self, link: int, name: str) -> pa.Table:
        """Return a table of a link, checked against the digest in its record."""
        if (link, name) not in self._tables:
            record, what = self.record(link), f"The artifact {name} of link {link}"
            with tempfile.TemporaryDirectory(prefix="lindley-") as scratch:
                run_id = self._link(link).version.run_id
                path = fetch_listed(self._ledger, run_id, record, name, Path(scratch), what)
                self._tables[link, name] = read_table(path)
        return self._tables[link, name]

    def _link(self, number: int) -> ChainLink:
        if not 0 < number <= len(self._chain.links):
            raise LedgerCorrupt(
                "A panel points to a link that is not there",
                expected=f"a link from 1 to {len(self._chain.links)}",
                found=str(number),
            )
        return self._chain.links[number - 1]


def is_panel(record: dict[str, Any]) -> bool:
    """Whether a record is that of a panel's link."""
    return "panel" in record


def counted_rows(ledger: Ledger, link: ChainLink, rows: pa.Table) -> pa.Table:
    """Return the rows of a link's batch whose members it did not quarantine."""
    record = read_record(ledger, link)
    with tempfile.TemporaryDirectory(prefix="lindley-") as scratch:
        what = f"The members of link {link.number}"
        path = fetch_listed(ledger, link.version.run_id, record, Artifact.MEMBERS, Path(scratch), what)
        table, by = read_table(path), tuple(record["panel"]["by"])
    table = table.filter(pc.equal(table["status"], QUARANTINED))
    refused = {row.key for row in rows_of(table, by)}
    kept = [own for key, own in split_by(rows, by).items() if key not in refused]
    return pa.concat_tables(kept) if kept else rows.slice(0, 0)
