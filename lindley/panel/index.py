"""Where each member's newest row is, and the root over all members.

A member belongs to one of `BUCKETS` buckets, by the first bits of the sha256 of its key. The root of a bucket
is that of the tree of its members' leaves, sorted by key; the root of the panel is that of the tree of all
buckets' roots. A link computes the buckets anew in which a member changed, and writes an index of the members
that changed since the last checkpoint: an index of all members. Whenever the indexes since the last one have
as many entries together as there are members, the next index is a checkpoint
(docs/adr/0059-panels-merkle-buckets.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from lindley.errors import LedgerCorrupt
from lindley.ledger.record import require_digest
from lindley.panel.key import MemberKey
from lindley.panel.merkle import EMPTY, leaf_hash, path_of, root_of
from lindley.panel.row import MemberRow

#: Bits of a key's digest that name its bucket.
BITS = 12
BUCKETS = 2**BITS
ENTRIES = pa.schema(
    [
        pa.field("bucket", pa.int32(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("leaf", pa.binary(32), nullable=False),
        pa.field("link", pa.int64(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("conflict", pa.float64()),
        pa.field("sampler", pa.string(), nullable=False),
    ]
)
ROOTS = pa.schema(
    [pa.field("bucket", pa.int32(), nullable=False), pa.field("root", pa.binary(32), nullable=False)]
)


@dataclass(frozen=True)
class Entry:
    """One member in the index.

    Parameters
    ----------
    key
        Its canonical key.
    leaf
        Hash of its leaf.
    link
        Number of the link that wrote its row last.
    status, conflict, sampler
        As the row states them.
    """

    key: str
    leaf: bytes
    link: int
    status: str
    conflict: float | None
    sampler: str

    @classmethod
    def of(cls, row: MemberRow) -> Entry:
        """Return the entry of a row."""
        sampler = str(row.attempt.get("sampler", ""))
        return cls(row.key.canonical.decode(), row.hash, row.link, row.status, row.conflict, sampler)


@dataclass(frozen=True)
class Index:
    """All members of a panel after a link.

    Parameters
    ----------
    checkpoint
        Entries of all members at the last checkpoint.
    recent
        Entries of the members that changed since; at a checkpoint there are none.
    roots
        Roots of the buckets by number; of an empty one there is none.
    members
        Number of members.
    checkpoint_link
        Number of the link that wrote the checkpoint.
    written
        Entries that were written since the checkpoint, all links together.
    checkpoint_digest
        Sha256 of the checkpoint's file; empty where it is not written yet, or was not read from one.
    """

    checkpoint: pa.Table
    recent: pa.Table
    roots: dict[int, bytes]
    members: int = 0
    checkpoint_link: int = 0
    written: int = 0
    checkpoint_digest: str = ""

    @property
    def root(self) -> bytes:
        """The root over all members."""
        return root_of(_tops(self.roots))

    @property
    def own(self) -> pa.Table:
        """The entries that the newest link writes."""
        return self.recent if self.recent.num_rows else self.checkpoint

    def links(self) -> list[int]:
        """Return the numbers of the links that wrote the newest rows of members."""
        newest = _merged(self.checkpoint, list(entries_of(self.recent))) if self.recent.num_rows else self.own
        return sorted(pc.unique(newest["link"]).to_pylist())

    def find(self, keys: Iterable[str]) -> dict[str, Entry]:
        """Return the entries of members by canonical key; those that are no members are left out."""
        wanted = set(keys)
        if len(wanted) <= 16:
            chosen = pa.array(sorted(wanted), pa.string())
            tables = [
                table.filter(pc.is_in(table["key"], chosen)) for table in (self.checkpoint, self.recent)
            ]
        else:
            tables = [self.checkpoint, self.recent]
        return {entry.key: entry for table in tables for entry in entries_of(table) if entry.key in wanted}

    def entries(self) -> dict[str, Entry]:
        """Return the entries of all members by canonical key."""
        return {entry.key: entry for table in (self.checkpoint, self.recent) for entry in entries_of(table)}

    def newest(
        self,
        keys: Iterable[MemberKey],
        rows: Callable[[int, list[MemberKey]], dict[str, MemberRow]],
    ) -> dict[MemberKey, MemberRow]:
        """Return the newest rows of members; those that are no members are left out.

        Parameters
        ----------
        rows
            Reads rows that a link wrote, by canonical key.

        Raises
        ------
        LedgerCorrupt
            If a row is not where the index says, or has another leaf.
        """
        wanted = {key.canonical.decode(): key for key in keys}
        entries = self.find(wanted)
        by_link: dict[int, list[MemberKey]] = {}
        for text, entry in entries.items():
            by_link.setdefault(entry.link, []).append(wanted[text])
        found: dict[MemberKey, MemberRow] = {}
        for link, members in sorted(by_link.items()):
            held = rows(link, members)
            for key in members:
                text = key.canonical.decode()
                row, stated = held.get(text), entries[text].leaf.hex()
                require_digest(
                    f"The leaf of [{key}] in link {link}", stated, row.hash.hex() if row else "none"
                )
                found[key] = held[text]
        return found

    def in_buckets(self, buckets: Iterable[int]) -> dict[int, dict[str, bytes]]:
        """Return the hashes of leaves by canonical key of whole buckets."""
        found: dict[int, dict[str, bytes]] = {bucket: {} for bucket in buckets}
        chosen = pa.array(sorted(found), pa.int32())
        for table in (self.checkpoint, self.recent):
            held = table.filter(pc.is_in(table["bucket"], chosen))
            columns = (held[name].to_pylist() for name in ("bucket", "key", "leaf"))
            for bucket, key, leaf in zip(*columns, strict=True):
                found[bucket][key] = leaf
        return found

    def proof(self, key: MemberKey) -> tuple[int, int, list[bytes]]:
        """Return a member's place in its bucket, the number of leaves there, and the path from leaf to root.

        Raises
        ------
        KeyError
            If there is no such member.
        """
        text, bucket = key.canonical.decode(), bucket_of(key.canonical)
        leaves = self.in_buckets([bucket])[bucket]
        ordered = sorted(leaves, key=str.encode)
        place = {name: i for i, name in enumerate(ordered)}[text]
        inside = path_of([leaves[name] for name in ordered], place)
        return place, len(ordered), inside + path_of(_tops(self.roots), bucket)

    def changed(self, rows: Sequence[MemberRow], link: int) -> Index:
        """Return the index after a link that wrote these rows."""
        new = [Entry.of(row) for row in rows]
        touched = self.in_buckets({bucket_of(entry.key.encode()) for entry in new})
        before = sum(map(len, touched.values()))
        for entry in new:
            touched[bucket_of(entry.key.encode())][entry.key] = entry.leaf
        members = self.members + sum(map(len, touched.values())) - before
        roots = self.roots | {bucket: bucket_root(leaves) for bucket, leaves in touched.items() if leaves}
        recent = _merged(self.recent, new)
        written = self.written + recent.num_rows
        if written < members:
            return replace(self, recent=recent, roots=roots, members=members, written=written)
        every = _merged(self.checkpoint, list(entries_of(recent)))
        return Index(every, ENTRIES.empty_table(), roots, members, link, 0)


def empty() -> Index:
    """Return the index of a panel without members."""
    return Index(ENTRIES.empty_table(), ENTRIES.empty_table(), {})


def bucket_of(key: bytes) -> int:
    """Return the bucket of a canonical key."""
    return int.from_bytes(hashlib.sha256(key).digest()[:2], "big") >> (16 - BITS)


def bucket_root(leaves: dict[str, bytes]) -> bytes:
    """Return the root of a bucket from the hashes of its leaves by canonical key."""
    return root_of([leaves[key] for key in sorted(leaves, key=str.encode)])


def entries_of(table: pa.Table) -> Iterable[Entry]:
    """Give the entries of a table."""
    names = ("key", "leaf", "link", "status", "conflict", "sampler")
    columns = (table[name].to_pylist() for name in names)
    return (Entry(*values) for values in zip(*columns, strict=True))


def roots_table(roots: dict[int, bytes]) -> pa.Table:
    """Return the roots of buckets as a table."""
    return pa.table({"bucket": sorted(roots), "root": [roots[i] for i in sorted(roots)]}, ROOTS)


def roots_from(table: pa.Table) -> dict[int, bytes]:
    """Return the roots of buckets that a table holds.

    Raises
    ------
    LedgerCorrupt
        If it is no such table.
    """
    held = conformed(table, ROOTS, "roots of buckets")
    return dict(zip(held["bucket"].to_pylist(), held["root"].to_pylist(), strict=True))


def conformed(table: pa.Table, schema: pa.Schema, what: str) -> pa.Table:
    """Return a table that was read from a ledger, with the columns of a schema.

    Raises
    ------
    LedgerCorrupt
        If it has others.
    """
    try:
        return table.cast(schema)
    except (pa.ArrowException, ValueError) as error:
        raise LedgerCorrupt(
            f"A table of {what} cannot be read", expected=", ".join(schema.names), found=str(error)[:200]
        ) from error


def _merged(table: pa.Table, new: Sequence[Entry]) -> pa.Table:
    """Return a table with new entries in the place of those with their keys, by bucket and key."""
    keys = pa.array([entry.key for entry in new], pa.string())
    kept = table.filter(pc.invert(pc.is_in(table["key"], keys))) if table.num_rows else table
    rows = [{"bucket": bucket_of(entry.key.encode()), **vars(entry)} for entry in new]
    found = pa.concat_tables([kept, pa.Table.from_pylist(rows, ENTRIES)])
    return found.sort_by([("bucket", "ascending"), ("key", "ascending")]).combine_chunks()


def _tops(roots: dict[int, bytes]) -> list[bytes]:
    """Return the leaves of the upper tree: one for each bucket."""
    nothing = leaf_hash(EMPTY)
    return [leaf_hash(roots[i]) if i in roots else nothing for i in range(BUCKETS)]
