"""A pull: what is new, revised or gone at a chain's source becomes links."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain as chained
from typing import TYPE_CHECKING, Any

from flows.sequences.rebase import follow_up
from flows.sequences.result import Result, Status
from flows.sequences.steps import Steps, declared, finish, in_turn, make_link
from lindley.arrivals.sources.scratch import scratch_folder
from lindley.errors import DeclarationRefused
from lindley.report.text import counted
from lindley.workspace import Workspace

if TYPE_CHECKING:
    from lindley.arrivals.sources.protocol import Pulled, Source
    from lindley.ledger.chain import Chain
    from lindley.ledger.protocol import Ledger
    from lindley.model.declaration import Declaration
    from lindley.operations.pulls.plans import Item


@in_turn
def pull(
    steps: Steps,
    workspace: Workspace,
    chain: str,
    accept_model_change: bool = False,
    again: bool = False,
    rejected: bool = False,
) -> Result:
    """Turn what is new at a chain's source into links: one correction of revised batches, then new batches.

    The rows that the chain counts decide what is new: the next pull continues one that was killed.

    Parameters
    ----------
    accept_model_change
        Go on although the model's code is not the head's.
    again
        Compare all rows, also where the source still has the version that was pulled last.
    rejected
        Bring back the rows that a person rejected, which stay out otherwise while they are as they were; all
        rows are compared.

    Raises
    ------
    DeclarationRefused
        If the chain has no source.
    SourceUnavailable
        If the source does not answer in time, or changes while it is read; nothing is changed.
    LindleyError
        If what is there does not fit the declaration, or it cannot be fitted or logged.
    """
    declaration = declared(workspace, chain)
    source = declaration.source
    if source is None:
        raise DeclarationRefused(
            f"The chain {chain} has no source",
            expected="a declaration with source=",
            found="none",
            todo='declare source=lindley.Snapshot("PATH or URL"), or update the chain with files',
        )
    from lindley.operations.pulls.compare import last_version  # imports the numerical stack

    ledger = steps.open_ledger(workspace)
    with scratch_folder() as scratch:
        found = _chain(ledger, chain)
        since = None if again or rejected else last_version(ledger, found, source.address)
        pulled = steps.pull(source, since, scratch, workspace.root)
        if pulled is None:
            message = f"{source.address} is as it was when it was pulled last"
            return Result(status=Status.UNCHANGED, chain=chain, kind="pull", message=message)
        made = _Made(steps, workspace, declaration, source, pulled, since, accept_model_change)
        return made.links(ledger, found, rejected=rejected)


def _chain(ledger: Ledger, name: str) -> Chain | None:
    from lindley.ledger.reading import read_chain  # with the ledger's libraries

    genesis = ledger.genesis(name)
    return None if genesis is None else read_chain(ledger, name, genesis)


@dataclass
class _Made:
    """A pull, and what came of it so far."""

    steps: Steps
    workspace: Workspace
    declaration: Declaration
    source: Source
    pulled: Pulled
    since: dict[str, str] | None
    accept: bool
    results: list[Result] = field(default_factory=list)

    def links(self, ledger: Ledger, chain: Chain | None, *, rejected: bool = False) -> Result:
        """Compare what was pulled with the chain and make the links."""
        from lindley.operations.pulls.compare import Fate  # imports the numerical stack
        from lindley.operations.pulls.plans import amendments, comparison_of, new_batches, refuse_revisions

        found = comparison_of(ledger, self.declaration, chain, self.pulled, rejected=rejected)
        refuse_revisions(self.source, found)
        origin = f"{self.pulled.name}@{next(iter(self.pulled.version.values()))[:12]}"
        counts = {
            "new": found.count(Fate.NEW),
            "revised": sum(found.revised.values()),
            "vanished": found.vanished,
            "repeated": found.repeated,
            "waiting": found.count(Fate.WAITING),
            "kept_out": found.count(Fate.KEPT_OUT),
            "rejected": found.count(Fate.REJECTED),
        }
        found = replace(
            found,
            revised=found.revised if self.source.revisions == "correct" else {},
            gone=found.gone if self.source.vanished == "retract" else {},
        )
        items: Iterator[Item] = new_batches(ledger, self.declaration, chain, found, origin)
        if chain is not None:
            revisions = amendments(ledger, self.declaration, chain, found, f"{origin} (revisions)")
            items = chained(revisions, items)
        head = chain.head.version.record if chain is not None and chain.head is not None else None
        for item, last in _with_last(items):
            head = self._link(item, head, last)
        return self._result(counts)

    def _link(self, item: Item, head: str | None, last: bool) -> str | None:
        """Make the link of an item; return the record digest of the head after it."""
        from lindley.operations.pulls.plans import plan_pulled  # imports the numerical stack

        done = (Status.ACCEPTED, Status.UNCHANGED)
        source = {
            "kind": self.source.kind,
            "address": self.source.address,
            "version": self.pulled.version,
            "since": self.since,
            "complete": last and all(result.status in done for result in self.results),
        }
        made = make_link(
            self.steps, self.workspace, self.declaration, plan_pulled, item, source, head,
            accept_model_change=self.accept,
        )  # fmt: skip

        def message(made: Any) -> str:
            what = "retraction" if item.batch is None else item.batch.origin
            return f"{what}: {made.place}"

        result = finish(self.steps, made, message, file=item.batch.origin if item.batch is not None else None)
        follow_up(self.steps, self.workspace, result)
        self.results.append(result)
        if result.status != Status.ACCEPTED:
            return head
        # A refit by policy may have moved the head as well.
        chain = _chain(made.ledger, self.declaration.name)
        return chain.head.version.record if chain is not None and chain.head is not None else head

    def _result(self, counts: dict[str, int]) -> Result:
        """Return one result for all links."""
        made = self.results
        statuses = [result.status for result in made]
        order = (Status.QUARANTINED, Status.CANDIDATE, Status.HELD, Status.REJECTED, Status.ACCEPTED)
        status = next((status for status in order if status in statuses), Status.UNCHANGED)
        newest = next((result for result in reversed(made) if result.link is not None), None)
        base = newest or Result(status=status, chain=self.declaration.name, kind="pull", message="")
        return replace(
            base,
            status=status,
            kind="pull",
            message=self._message(counts),
            file=None,
            reasons=tuple(reason for result in made for reason in result.reasons),
            warnings=tuple(dict.fromkeys(w for result in made for w in result.warnings)),
            retracted=tuple(number for result in made for number in result.retracted),
            joined=tuple(name for result in made for name in result.joined),
            pulled={
                "address": self.source.address,
                "version": self.pulled.version,
                "since": self.since,
                "rows": counts,
                "links": [result.link for result in made if result.link is not None],
            },
        )

    def _message(self, counts: dict[str, int]) -> str:
        words = {
            "new": "new",
            "revised": "revised",
            "vanished": "no longer there",
            "repeated": "repeated",
            "waiting": "in quarantined batches that wait",
            "kept_out": "kept out, as they were retracted",
            "rejected": "kept out, as a person rejected them (--rejected brings them back)",
        }
        rows = [f"{counted(counts[name], 'row')} {word}" for name, word in words.items() if counts[name]]
        notes = []
        if counts["revised"] and self.source.revisions == "report":
            notes.append("the chain keeps the rows as they were before their revision")
        if counts["vanished"] and self.source.vanished == "report":
            notes.append("rows that are gone still count")
        found = f"{self.source.address}: {', '.join(rows) or 'no row is new or revised'}"
        return "; ".join([found, *(result.message for result in self.results), *notes])


def _with_last(items: Iterator[Item]) -> Iterator[tuple[Item, bool]]:
    """Yield each item, and whether it is the last one."""
    held = next(items, None)
    while held is not None:
        following = next(items, None)
        yield held, following is None
        held = following
