"""The chain rule: which registered versions are links, in which order.

The chain is defined by walking the registered versions in number order. A version is a link if its
`previous` is the head so far and it was accepted; everything else is superseded (a lost race, a create
that was sent twice) or quarantined. Version numbers are unique and grow, so every reader comes to the
same chain.

What a link's belief counts follows from the links alone (`Chain.counted`): amendments take batches
out, put others in their place or go back to what an earlier link counted. Nothing is ever deleted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from lindley.ledger.record import MOVES, REGISTERED, Kind, Status, canonical, status_of
from lindley.shapes import ANY, misfits

#: Characters of a tag's value at most: registries cut or refuse longer ones. The record has it all.
TAG_CHARACTERS = 4000
#: How the names of Lindley's tags begin.
TAGS = "lindley."
#: Tags of decisions only.
DECISION_TAGS = tuple(f"{TAGS}{name}" for name in ("candidate", "who", "why"))
#: Fields of a version that its tags hold as they are.
_TEXT_TAGS = ("kind", "record", "previous", "prior", "batch", "origin", "candidate", "who", "why")


@dataclass(frozen=True)
class Version:
    """One registered version, as its tags state it.

    Parameters
    ----------
    number
        The registry's version number.
    record
        Record digest.
    previous, prior
        Record digests of the head it succeeds and of the link whose posterior was its prior.
    batch
        Batch digest; empty where there is none of its own.
    status
        One of `REGISTERED`, as its record states it.
    key_ranges
        Smallest and largest value of each key column (see `Batch.key_ranges`).
    retracted
        Record digests of what it takes out: links whose batches no longer count, and quarantined versions
        whose batches are not to join.
    joined
        Record digests of the quarantined versions whose batches count from this link on.
    metrics
        Scalar results shown in the log.
    reasons, warnings
        Why the gate refused the fit, and what to watch although it passed.
    candidate, who, why
        Of a decision: record digest of the version that it is about, and who decided so and why.
    source
        Address of the servable belief in the registry; empty if the ledger does not state it.
    description
        What the registry shows of it.
    """

    number: int
    kind: str
    record: str
    previous: str
    prior: str
    batch: str
    status: Status
    run_id: str
    origin: str = ""
    rows: int = 0
    created: str = ""
    key_ranges: dict[str, list[str]] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    retracted: tuple[str, ...] = ()
    joined: tuple[str, ...] = ()
    candidate: str = ""
    who: str = ""
    why: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    source: str = ""
    description: str = ""


@dataclass(frozen=True)
class ChainLink:
    """A version that is part of the chain, with its place in it (1 is the first).

    Parameters
    ----------
    joined
        The quarantined versions whose batches count from this link on, before its own batch.
    """

    number: int
    version: Version
    joined: tuple[Version, ...] = ()

    @cached_property
    def brought(self) -> tuple[ChainLink, ...]:
        """What counts from this link on: each batch as the version that holds it, with this link's place."""
        others = tuple(ChainLink(self.number, version) for version in self.joined)
        return (*others, self) if self.version.batch else others


def records_of(links: Iterable[ChainLink]) -> tuple[str, ...]:
    """Return the record digests of links."""
    return tuple(link.version.record for link in links)


@dataclass(frozen=True)
class Chain:
    """A chain as every reader sees it.

    Parameters
    ----------
    genesis
        Digest of the genesis record.
    links
        In order; the last one is the head.
    superseded, quarantined
        Versions that are not links, in number order.
    base
        How many of the links are those of the chain that this one branched from; 0 for a chain that is
        no branch.
    candidates, rejections
        Versions that were to be decided on, whatever became of them, and decisions against versions.
    """

    genesis: str
    links: tuple[ChainLink, ...]
    superseded: tuple[Version, ...]
    quarantined: tuple[Version, ...]
    base: int = 0
    candidates: tuple[Version, ...] = ()
    rejections: tuple[Version, ...] = ()

    @property
    def head(self) -> ChainLink | None:
        """The newest link; None before the first."""
        return self.links[-1] if self.links else None

    @property
    def head_digest(self) -> str:
        """Record digest of the head, or of the genesis record."""
        return self.head.version.record if self.head else self.genesis

    @property
    def own(self) -> tuple[ChainLink, ...]:
        """The links that are versions of this chain itself, not of the one that it branched from."""
        return self.links[self.base :]

    @cached_property
    def _by_record(self) -> dict[str, ChainLink]:
        return {link.version.record: link for link in self.links}

    def link_of(self, record: str) -> ChainLink | None:
        """Return the link with a record digest."""
        return self._by_record.get(record)

    @cached_property
    def _numbers(self) -> dict[int, int]:
        return {link.version.number: link.number for link in self.own}

    def number_of(self, version: Version) -> int | None:
        """Return the place in the chain of one of its own versions; None if it is no link."""
        return self._numbers.get(version.number)

    def before(self, link: ChainLink) -> ChainLink | None:
        """Return the link that a link succeeds; None for the first."""
        return self.links[link.number - 2] if link.number > 1 else None

    def prior(self, link: ChainLink) -> ChainLink | None:
        """Return the earlier link whose posterior was a link's prior; None for genesis."""
        found = self.link_of(link.version.prior)
        return found if found is not None and found.number < link.number else None

    def counted(self, link: ChainLink | None) -> tuple[ChainLink, ...]:
        """Return the links whose batches a link's belief counts, in the order in which they count.

        None, which is genesis, counts nothing. A batch that replaces another one counts in its place.
        """
        if link is not None and link.number <= self._only_added:
            return tuple(batch for other in self.links[: link.number] for batch in other.brought)
        path: list[ChainLink] = []
        while link is not None:
            path.append(link)
            if link.version.kind == Kind.IMPORT:
                break
            link = self.prior(link) if link.version.kind in MOVES else self.before(link)
        found: list[ChainLink] = []
        for step in reversed(path):
            _count(found, step)
        return tuple(found)

    @cached_property
    def _only_added(self) -> int:
        """How many links in a row, from the first one, did nothing but count a batch more, or none."""
        special = (*MOVES, Kind.RETRACT, Kind.CORRECT)
        links = (link for link in self.links if link.version.kind in special or
                 (link.version.kind == Kind.IMPORT and link.number > 1))  # fmt: skip
        found = next(links, None)
        return len(self.links) if found is None else found.number - 1

    @cached_property
    def at_head(self) -> tuple[ChainLink, ...]:
        """The links whose batches the head counts."""
        return self.counted(self.head)

    @cached_property
    def brought(self) -> dict[str, ChainLink]:
        """Every batch that ever counted, by the record of the version that holds it."""
        return {batch.version.record: batch for link in self.links for batch in link.brought}

    def with_batch(self, batch: str) -> ChainLink | None:
        """Return the link whose batch of this digest the head counts."""
        return next((link for link in self.at_head if link.version.batch == batch), None)

    @cached_property
    def waiting(self) -> tuple[Version, ...]:
        """Quarantined updates whose batch the chain has not counted since: one for each batch, in order.

        A batch that was counted later waits no longer, also where an amendment took it out again; nor does
        one that a link took out without counting it, or that a person rejected.
        """
        counted = {batch.version.batch: link.version.number for link in self.own for batch in link.brought}
        taken_out = {record for link in self.own for record in link.version.retracted} | self.decided.keys()
        at_head = {link.version.batch for link in self.at_head}
        found = {version.batch: version for version in self.quarantined
                 if version.kind == Kind.UPDATE and version.batch not in at_head | {""}
                 and version.record not in taken_out
                 and counted.get(version.batch, 0) < version.number}  # fmt: skip
        return tuple(found.values())

    @cached_property
    def decided(self) -> dict[str, Version]:
        """The decision on each version that a person approved or rejected, by the version's record."""
        approved = (link.version for link in self.own if link.version.candidate)
        return {version.candidate: version for version in (*approved, *self.rejections)}

    @cached_property
    def undecided(self) -> tuple[Version, ...]:
        """Candidates without a decision: those of `pending`, and on earlier heads those of batches that were
        neither counted nor fitted since, and have to be fitted again.
        """
        last = {batch.version.batch: link.version.number for link in self.own for batch in link.brought}
        for version in (*self.candidates, *self.quarantined, *self.rejections):
            last[version.batch] = max(version.number, last.get(version.batch, 0))
        return tuple(version for version in self.candidates if version.record not in self.decided
                     and (version.previous == self.head_digest
                          or (version.batch and last[version.batch] == version.number)))  # fmt: skip

    @property
    def pending(self) -> tuple[Version, ...]:
        """Candidates that can be approved: they were fitted on the present head."""
        return tuple(version for version in self.undecided if version.previous == self.head_digest)

    def taken_out(self, link: ChainLink) -> ChainLink | None:
        """Return the newest link that took a link's batch out; None where none did."""
        takers = (other for other in reversed(self.links) if link.version.record in other.version.retracted)
        return next(takers, None)


def _count(counted: list[ChainLink], link: ChainLink) -> None:
    """Turn what the link before counts, or for a move the link that it goes to, into what a link counts."""
    version = link.version
    if version.kind not in (Kind.RETRACT, Kind.CORRECT):
        counted += link.brought
        return
    gone = [place for place, other in enumerate(counted) if other.version.record in version.retracted]
    for place in reversed(gone):
        del counted[place]
    if version.batch:
        counted.insert(gone[0] if gone else len(counted), link)


def walk(genesis: str, versions: Iterable[Version], base: Sequence[ChainLink] = ()) -> Chain:
    """Walk versions in number order and return the chain they define.

    Parameters
    ----------
    genesis
        Digest of the genesis record.
    versions
        The registered versions.
    base
        Of a branch, the links that it continues.
    """
    head = base[-1].version.record if base else genesis
    links = list(base)
    known = {link.version.record for link in links}
    apart: dict[Status, list[Version]] = {status: [] for status in Status}
    open_ = set[str]()  # records that can be decided on
    for version in sorted(versions, key=lambda v: v.number):
        status, other = version.status, version.candidate
        if status == Status.QUARANTINED or (status == Status.CANDIDATE and version.record not in known):
            open_.add(version.record)
        elif status == Status.REJECTED and other in open_:
            open_.discard(other)
        elif (
            status == Status.ACCEPTED
            and version.previous == head
            and version.record not in known
            and (other in open_ or not other)
        ):
            links.append(ChainLink(len(links) + 1, version, _joined(version, apart[Status.QUARANTINED])))
            head = version.record
            open_.discard(other)
        else:
            status = Status.SUPERSEDED
        apart[status].append(version)
        known |= {version.record} if status in (Status.ACCEPTED, Status.CANDIDATE) else set()
    held = (tuple(apart[status]) for status in (Status.SUPERSEDED, *REGISTERED[1:]))
    superseded, quarantined, candidates, rejections = held
    return Chain(genesis, tuple(links), superseded, quarantined, len(base), candidates, rejections)


def _joined(version: Version, quarantined: Iterable[Version]) -> tuple[Version, ...]:
    """Return the quarantined updates that a version names; what else it names is reported by the verifier."""
    if not version.joined or version.kind != Kind.UPDATE:
        return ()
    held = {other.record: other for other in quarantined if other.kind == Kind.UPDATE and other.batch}
    return tuple(held[record] for record in dict.fromkeys(version.joined) if record in held)


def version_tags(record: dict[str, Any], record_digest: str) -> dict[str, str]:
    """Return the tags that a version of this record is created with, in the one call that creates it.

    The first one is for people: MLflow's list of versions shows the first tags by name, and cuts them off.
    """
    batch, decision = record["batch"] or {}, record["decision"] or {}
    return {
        "lindley": f"{status_of(record)}: {record['kind']}",
        **{f"lindley.{name}": record[name] for name in ("chain", "kind", "previous", "prior")},
        "lindley.record": record_digest,
        "lindley.batch": batch.get("digest", ""),
        "lindley.origin": batch.get("origin", ""),
        "lindley.rows": str(batch.get("rows", 0)),
        "lindley.key_ranges": _text(batch.get("key_ranges", {})),
        "lindley.retracted": _text(record["retracted"]),
        "lindley.joined": _text(record["joined"]),
        "lindley.status": status_of(record),
        **{tag: decision[tag.removeprefix(TAGS)] for tag in DECISION_TAGS if decision},
        "lindley.reasons": _text(record["gate"]["reasons"]),
        "lindley.warnings": _text(record["gate"]["warnings"]),
        "lindley.metrics": _text(record["metrics"]),
    }


def read_version(number: int, run_id: str, created: str, tags: Mapping[str, str]) -> Version:
    """Read a registered version by its tags; foreign or broken tags make a version that is no link."""
    rows, status = tags.get("lindley.rows", ""), tags.get("lindley.status")
    return Version(
        number=number,
        **{name: tags.get(f"lindley.{name}", "") for name in _TEXT_TAGS},
        status=Status(status) if status in REGISTERED else Status.QUARANTINED,
        run_id=run_id,
        rows=int(rows) if rows.isdecimal() and rows.isascii() and len(rows) < 20 else 0,
        created=created,
        key_ranges=_pairs(_read(tags, "lindley.key_ranges", {})),
        metrics={k: v for k, v in _read(tags, "lindley.metrics", {}).items() if isinstance(v, int | float)},
        reasons=tuple(map(str, _read(tags, "lindley.reasons", []))),
        warnings=tuple(map(str, _read(tags, "lindley.warnings", []))),
        retracted=tuple(map(str, _read(tags, "lindley.retracted", []))),
        joined=tuple(map(str, _read(tags, "lindley.joined", []))),
        tags=dict(tags),
    )


def _text(value: Any) -> str:
    """Write a value as canonical JSON, so that a record that was read back gives the same tag.

    What is too long for a tag is left out whole: half a JSON text is none.
    """
    text = canonical(value).decode()
    return text if len(text) <= TAG_CHARACTERS else canonical(type(value)()).decode()


def _read(tags: Mapping[str, str], name: str, default: Any) -> Any:
    """Read a JSON tag; a broken one reads as empty here and is found by the verifier."""
    try:
        value = json.loads(tags.get(name, "null"))
    except (ValueError, RecursionError):
        return default
    return value if isinstance(value, type(default)) else default


def _pairs(ranges: dict[str, Any]) -> dict[str, list[str]]:
    """Return key ranges, or none of them when one is not a pair of texts."""
    good = not any(misfits(ranges, {ANY: [str]})) and all(len(ends) == 2 for ends in ranges.values())
    return ranges if good else {}
