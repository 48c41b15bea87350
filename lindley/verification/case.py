"""A gathered case: what was read of a chain, as the verifier's rules see it. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from lindley.errors import LedgerCorrupt
from lindley.ledger.chain import Version
from lindley.ledger.record import MOVES, Kind, parse
from lindley.prior.matched import MatchedPrior


@dataclass(frozen=True)
class GatheredVersion:
    """What was read of one version.

    Parameters
    ----------
    record
        Bytes of its record; None if there is none.
    artifacts
        Sha256 of each artifact that is there, the record itself left out.
    batch
        The batch's table; None if there is none or it cannot be read.
    batch_digest
        Its content digest, computed anew.
    key_ranges
        Its key ranges, computed anew.
    matched
        The matched prior that is there; None if it cannot be read.
    rematched
        The matched prior computed anew from the draws; None if there are none.
    draws_digest
        Digest of the draws, computed anew.
    model_digest
        Digest of the model's code, computed anew.
    run_tags, run_metrics
        What the run holds; None if there is no run.
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
    model_digest: str | None = None
    run_tags: dict[str, str] | None = None
    run_metrics: dict[str, float] | None = None


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
    base
        What was read of the chain that this one branched from; None where it is no branch, or there is
        no such chain.
    """

    name: str
    genesis: bytes | None
    genesis_digest: str
    versions: tuple[GatheredVersion, ...]
    head_hint: int | None
    registered_runs: tuple[str, ...] = ()
    base: GatheredChain | None = None

    def root(self) -> dict[str, Any] | None:
        """Return the genesis record; None where R01 says that it cannot be read."""
        try:
            return parse(self.genesis) if self.genesis is not None else None
        except LedgerCorrupt:
            return None

    def branch(self) -> dict[str, str] | None:
        """Return chain and record that a branch starts from; None for a chain that is none."""
        root = self.root()
        return root["branch"] if root is not None else None


@dataclass(frozen=True)
class Case:
    """One version under examination.

    Parameters
    ----------
    evidence, record
        What was read of it, and its record.
    link
        Its place in the chain; None if it is no link.
    previous
        Digest of the head before it; None if it is no link.
    priors
        Records of the earlier links by digest, oldest first; None where one cannot be read.
    counted, counted_before, counted_prior
        Records of the links that it counts, that the head before it counts, and that its prior counts, in
        order; empty if it is no link.
    """

    evidence: GatheredVersion
    record: dict[str, Any]
    link: int | None
    previous: str | None
    priors: Mapping[str, dict[str, Any] | None]
    counted: tuple[str, ...] = ()
    counted_before: tuple[str, ...] = ()
    counted_prior: tuple[str, ...] = ()

    @property
    def copied(self) -> bool:
        """Whether it has its prior's belief, without a fit of its own."""
        kind = self.record["kind"]
        return kind in MOVES or (kind == Kind.RETRACT and not self.record["replayed"])

    @property
    def prior(self) -> dict[str, Any] | None:
        """Record of the link whose posterior was the prior; None for genesis, or if it cannot be read."""
        return self.priors.get(self.record["prior"])

    @property
    def before(self) -> dict[str, Any] | None:
        """Record of the head before it; None for genesis, or if it cannot be read."""
        return self.priors.get(self.record["previous"])

    def prior_is_readable(self, chain: GatheredChain) -> bool:
        """Whether rules can compare with the prior: R10 names one that is no link, R03 one unreadable."""
        return self.record["prior"] == chain.genesis_digest or self.prior is not None
