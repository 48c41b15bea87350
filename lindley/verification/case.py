"""Gathered cases: what was read of a chain, as the rules see it. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa

from lindley.errors import LedgerCorrupt
from lindley.ledger.chain import TAGS, Chain, ChainLink, Version, records_of
from lindley.ledger.protocol import Home
from lindley.ledger.record import PLOTS, Artifact, Kind, digest, is_copied, parse
from lindley.panel.key import MemberKey
from lindley.panel.replay import Members, PanelFiles
from lindley.panel.row import MemberRow
from lindley.prior.matched import MatchedPrior

#: Files that may come after a link was made.
_PLOTS = (f"{Artifact.PLOTS}{name}.png" for name in PLOTS)
_LATER = frozenset({*_PLOTS, Artifact.SIGNATURE, "belief/registered_model_meta"})


@dataclass(frozen=True)
class GatheredVersion:
    """What was read of one version.

    Parameters
    ----------
    record
        Bytes of its record; None if there is none.
    artifacts
        Sha256 of each artifact by path, without the record.
    batch
        The batch's table; None if there is none or it cannot be read.
    batch_digest, key_ranges
        Content digest and key ranges, recomputed from the table.
    matched
        The stored matched prior; None if it cannot be read.
    rematched
        The matched prior recomputed from the draws; None if they cannot be read.
    draws_digest
        Digest of the draws, recomputed.
    source, modules
        Digests of the model's file, and of the stored modules that it imports by name, recomputed; None where
        they cannot be read. Without modules there is no archive of them.
    run_tags, run_metrics, run_params, run_note
        What the run holds; None if there is no run.
    run_models
        Logged models of the run: the record digest that each states.
    parameters, charts
        Parameters and metrics that the run of this record and table of parameters holds beside the record's
        metrics, as the ledger keeps them; None if the table was not read.
    loaded_from
        Address from which the registry loads the belief; empty if it is unknown.
    deleted
        Whether the run was deleted, and can be restored.
    vouched
        Whether a statement vouches for its record, and only record and batch were read.
    panel
        The tables of a panel's link; None for a link with one belief.
    elsewhere
        Whether the run, if there is one, is none of the chain's runs.
    """

    version: Version
    record: bytes | None
    artifacts: dict[str, str]
    batch: pa.Table | None = None
    batch_digest: str | None = None
    key_ranges: dict[str, list[str]] | None = None
    matched: MatchedPrior | None = None
    rematched: MatchedPrior | None = None
    draws_digest: str | None = None
    source: str | None = None
    modules: dict[str, str] | None = None
    run_tags: dict[str, str] | None = None
    run_metrics: dict[str, float] | None = None
    run_params: dict[str, str] | None = None
    run_note: str | None = None
    run_models: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, str] | None = None
    charts: dict[str, float] | None = None
    loaded_from: str = ""
    deleted: bool = False
    elsewhere: bool = False
    vouched: bool = False
    panel: PanelFiles | None = None

    @cached_property
    def _read(self) -> tuple[dict[str, Any] | None, str]:
        if self.record is None:
            return None, "record.json is missing"
        try:
            record = parse(self.record)
        except LedgerCorrupt as error:
            return None, error.found or str(error)
        if record["kind"] == Kind.GENESIS:
            return None, "the record of a link is a genesis record"
        return record, ""

    @cached_property
    def foreign(self) -> bool:
        """Whether it was registered by other means, from elsewhere, with nothing of Lindley's."""
        tags = {**self.version.tags, **(self.run_tags or {})}
        return self.elsewhere and self.record is None and not any(name.startswith(TAGS) for name in tags)

    @cached_property
    def state(self) -> str:
        """Digest of what was read of it. Plots and signatures, which may come later, are left out."""
        files = {path: held for path, held in self.artifacts.items() if path not in _LATER}
        found = self.version
        record = digest(self.record or b"")
        parts: list[object] = [
            found.number,
            found.run_id,
            found.source,
            self.loaded_from,
            self.deleted,
            record,
        ]
        parts += [found.description, self.run_note]
        maps = (found.tags, files, self.run_tags or {}, self.run_metrics or {}, self.run_params or {})
        parts += [sorted(held.items()) for held in maps]
        return digest(repr(parts).encode("utf-8", "backslashreplace"))

    @property
    def parsed(self) -> dict[str, Any] | None:
        """The record as values; None if it cannot be read."""
        return self._read[0]

    @property
    def unreadable(self) -> str:
        """Why the record cannot be read; empty if it can."""
        return self._read[1]


@dataclass(frozen=True)
class GatheredChain:
    """What was read of a chain.

    Parameters
    ----------
    versions
        In number order.
    head_hint
        Version that the alias points at.
    registered_runs
        Runs that became versions.
    home
        Where its runs are kept; None if there is no such place.
    base
        What was read of the chain that this one branched from; None if this is no branch, or there is no
        such chain.
    """

    name: str
    genesis: bytes | None
    genesis_digest: str
    versions: tuple[GatheredVersion, ...]
    head_hint: int | None
    registered_runs: tuple[str, ...] = ()
    home: Home | None = None
    base: GatheredChain | None = None

    def root(self) -> dict[str, Any] | None:
        """Return the genesis record; None if it cannot be read, which R01 reports."""
        try:
            return parse(self.genesis) if self.genesis is not None else None
        except LedgerCorrupt:
            return None

    def branch(self) -> dict[str, str] | None:
        """Return chain and record that a branch starts from; None for a chain that is no branch."""
        root = self.root()
        return root["branch"] if root is not None else None


@dataclass(frozen=True)
class Case:
    """One version under examination.

    Parameters
    ----------
    gathered, record
        What was read of it, and its record.
    place
        The link that it is; None if it is no link.
    walked
        The chain.
    earlier
        The earlier links by record digest, oldest first; None where a record cannot be read.
    refused
        The quarantined versions whose batches a link up to this one counts, by record digest, likewise.
    decidable
        The candidates and quarantined versions before it, on which a person may have decided, likewise.
    """

    gathered: GatheredVersion
    record: dict[str, Any]
    place: ChainLink | None
    walked: Chain
    earlier: Mapping[str, Case | None]
    refused: Mapping[str, Case | None]
    decidable: Mapping[str, Case | None]

    @property
    def link(self) -> int | None:
        """Its place in the chain; None if it is no link."""
        return self.place.number if self.place else None

    @cached_property
    def counted(self) -> tuple[str, ...]:
        """Record digests of the links that it counts, in order; empty if it is no link."""
        return records_of(self.walked.counted(self.place))

    @cached_property
    def counted_before(self) -> tuple[str, ...]:
        """Those that the head before it counts."""
        return records_of(self.walked.counted(self.place and self.walked.before(self.place)))

    @cached_property
    def counted_prior(self) -> tuple[str, ...]:
        """Those that its prior counts."""
        return records_of(self.walked.counted(self.place and self.walked.prior(self.place)))

    @cached_property
    def waiting_before(self) -> frozenset[str]:
        """Records of the quarantined updates with lower numbers that the head before it does not count."""
        number, counted = self.gathered.version.number, set(self.counted_before)
        refused = (v for v in self.walked.quarantined if v.number < number and v.kind == Kind.UPDATE)
        return frozenset(v.record for v in refused if v.record not in counted)

    @property
    def copied(self) -> bool:
        """Whether it has its prior's belief, without a fit of its own."""
        return is_copied(self.record)

    @property
    def panel(self) -> bool:
        """Whether it is a link of a panel."""
        return "panel" in self.record

    @property
    def number(self) -> int:
        """Its place in the chain, or the one that it would have had."""
        if self.link is not None:
            return self.link
        before = self.walked.link_of(self.record["previous"])
        return before.number + 1 if before else 1

    @cached_property
    def members_before(self) -> Members | None:
        """All members of a panel at the head before it; None where that cannot be read."""
        if self.record["previous"] == self.walked.genesis:
            return Members()
        found = self.earlier.get(self.record["previous"])
        return found.members if found is not None and found.panel else None

    @cached_property
    def members(self) -> Members | None:
        """All members of a panel after it; None where its rows, or those before it, cannot be read."""
        if self.copied:
            prior = self.earlier.get(self.record["prior"])
            return prior.members if prior is not None and prior.panel else None
        before, files = self.members_before, self.gathered.panel
        if before is None or files is None or files.rows is None:
            return None
        return before.after(files.rows, self.number)

    def row_of(self, link: int, key: MemberKey) -> MemberRow | None:
        """Return what an earlier link wrote of a member of a panel; None where it wrote nothing."""
        links = self.walked.links
        found = self.earlier.get(links[link - 1].version.record) if 0 < link <= len(links) else None
        files = found.gathered.panel if found is not None else None
        return files.by_key.get(key) if files is not None else None

    @property
    def fitted(self) -> bool:
        """Whether Lindley fitted it: it is no import and no copy."""
        return self.record["kind"] != Kind.IMPORT and not self.copied

    @property
    def prior(self) -> dict[str, Any] | None:
        """Record of the link whose posterior was the prior; None for genesis, or if it cannot be read."""
        found = self.earlier.get(self.record["prior"])
        return found.record if found else None

    @property
    def before(self) -> dict[str, Any] | None:
        """Record of the head before it; None for genesis, or if it cannot be read."""
        found = self.earlier.get(self.record["previous"])
        return found.record if found else None

    def known(self, record: str) -> Case | None:
        """Return the earlier link, or the version that joined, of a record; None if unreadable."""
        return self.earlier.get(record) or self.refused.get(record)

    def brought(self) -> list[Case]:
        """Return what counts from this link on and can be read: versions that joined, then itself."""
        joined = self.place.joined if self.place else ()
        found = [self.known(version.record) for version in joined]
        own = [self] if self.record["batch"] else []
        return [case for case in found if case is not None] + own

    def others(self) -> list[Case]:
        """Return what it counts beside that and can be read."""
        mine = {case.gathered.version.record for case in self.brought()}
        found = (self.known(digest) for digest in self.counted if digest not in mine)
        return [other for other in found if other is not None]

    def prior_is_readable(self, chain: GatheredChain) -> bool:
        """Whether the prior can be compared with: R10 reports one that is no link, R03 an unreadable one."""
        return self.record["prior"] == chain.genesis_digest or self.prior is not None
