"""What the page of a chain shows, as values; `flows.sequences.report` reads them from a ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class LinkContent:
    """One link.

    Parameters
    ----------
    number, version, kind, created, run_id
        Place in the chain, registry's version, kind of link, time of registration, MLflow's run.
    record
        The link's record, checked against its digest.
    digest
        That digest: it identifies the link.
    batch, rows
        File of its own batch and its rows; empty and 0 where it has none.
    counted
        Whether the head counts its own batch.
    sentences
        What it takes out or joins, and what became of its own batch.
    warnings
        What the gate warns of.
    summary
        One row per parameter (see `lindley.inference.trace.summary`).
    change
        Unified difference to the model code of the link before; empty where that is the same.
    """

    number: int
    version: int
    kind: str
    created: str
    run_id: str
    record: Mapping[str, Any]
    digest: str
    batch: str
    rows: int
    counted: bool
    sentences: tuple[str, ...]
    warnings: tuple[str, ...]
    summary: pd.DataFrame
    change: tuple[str, ...] = ()

    @property
    def metrics(self) -> Mapping[str, float]:
        """Scalar results, as the record states them."""
        metrics: Mapping[str, float] = self.record["metrics"]
        return metrics


@dataclass(frozen=True, kw_only=True)
class OtherVersion:
    """A version that is no link: a candidate, a rejection, quarantined or superseded.

    Parameters
    ----------
    waits, joined
        Whether its batch is quarantined and not counted by the head; whether a later link counts it.
    reasons
        Why the gate refused the fit, and what a person decided or has to decide.
    """

    version: int
    status: str
    created: str
    batch: str
    rows: int
    digest: str
    waits: bool
    joined: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What `lindley verify` found.

    Parameters
    ----------
    ok
        Whether no rule is violated.
    message
        The result in one sentence.
    rules
        Sentences of the rules that were checked, by their numbers.
    findings
        Rows of text: severity, rule, link, version, message.
    """

    ok: bool
    message: str
    rules: Mapping[str, str]
    findings: tuple[Mapping[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class PageContent:
    """A chain as its page shows it.

    Parameters
    ----------
    chain
        Name.
    genesis
        Digest of the genesis record.
    links
        In order, without a gap; those that the page shows.
    newest
        The head where `links` ends before it; None where the last of them is the head.
    length
        How many links the chain has; 0 for as many as `links`.
    others
        Versions that are no links, in version order.
    branch_of
        Chain that this one branched from, and the number of the link; None for a chain that is no branch.
    branches
        Chains that branched from this one, with the number of the link.
    code
        The head's model code by file: its own, and of the modules that it imports.
    verification
        None where it was left out.
    plots
        PNG images of the head, by what they show.
    written
        When the page was written, ISO 8601 in UTC.
    lindley
        Version of Lindley that wrote it.
    """

    chain: str
    genesis: str
    links: tuple[LinkContent, ...]
    newest: LinkContent | None = None
    length: int = 0
    others: tuple[OtherVersion, ...] = ()
    branch_of: tuple[str, int] | None = None
    branches: tuple[tuple[str, int], ...] = ()
    code: Mapping[str, str] = field(default_factory=dict)
    verification: Verification | None = None
    plots: Mapping[str, bytes] = field(default_factory=dict)
    written: str
    lindley: str

    @property
    def head(self) -> LinkContent:
        """The newest link of the chain."""
        return self.newest or self.links[-1]

    @property
    def whole(self) -> bool:
        """Whether the page shows all links."""
        return self.length in (0, len(self.links))

    @property
    def waiting(self) -> tuple[OtherVersion, ...]:
        """Quarantined batches that the head does not count."""
        return tuple(other for other in self.others if other.waits)


@dataclass(frozen=True, kw_only=True)
class LinkPage:
    """A link as its own page shows it.

    Parameters
    ----------
    chain
        Name.
    link
        The link, its model's difference to the one before included.
    links
        How many the chain has.
    addresses
        Of its run and version in MLflow's pages and of its flow run in Prefect's, by what they are.
    code
        Its model code by file.
    plots
        PNG images, by what they show.
    """

    chain: str
    link: LinkContent
    links: int
    addresses: Mapping[str, str] = field(default_factory=dict)
    code: Mapping[str, str] = field(default_factory=dict)
    plots: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class IndexRow:
    """A chain among all chains.

    Parameters
    ----------
    chain
        Name.
    facts
        What is shown of it, as text by name.
    scores
        Log predictive density of each link's batch; NaN where there is none.
    warnings, waiting, undecided, files
        How many the head has, how many quarantined batches it does not count, how many candidates a person
        has to decide on, and how many files wait in the landing folder.
    verified, verified_head
        Whether the last verification found no error, None without one; whether it saw the head.
    """

    chain: str
    facts: Mapping[str, str]
    scores: tuple[float, ...] = ()
    warnings: int = 0
    waiting: int = 0
    undecided: int = 0
    files: int = 0
    verified: bool | None = None
    verified_head: bool = False


@dataclass(frozen=True, kw_only=True)
class IndexContent:
    """All chains.

    Parameters
    ----------
    rows
        Those that can be read.
    problems
        What is wrong with the others, by name.
    wanted
        Text that the names of the rows contain.
    written, lindley
        As in `PageContent`.
    """

    rows: tuple[IndexRow, ...]
    problems: Mapping[str, str] = field(default_factory=dict)
    wanted: str = ""
    written: str
    lindley: str
