"""The verifier: `verify(evidence) -> findings`, pure, over what was read from a ledger.

It knows no registry: records and artifacts come in as bytes and digests (`lindley.verification.gather`), so
that it can be run by anyone, against anything that kept them. Every rule has a number; the numbers are
specified in docs/ledger-format.md and each has a tamper test.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from lindley.batch.batch import ranges_disjoint
from lindley.batch.digest import content_digest
from lindley.errors import LedgerCorrupt
from lindley.ledger.chain import Chain, ChainLink, walk
from lindley.ledger.record import Kind, digest, parse
from lindley.verification.case import Case, GatheredChain, GatheredVersion
from lindley.verification.version_rules import CHECKS

RULES: dict[str, str] = {
    "R01": "the genesis record is readable and has the digest that the registry states",
    "R02": "no version was deleted: numbers have no gap, and every run that was registered has one",
    "R03": "the record is readable, canonical and complete",
    "R04": "the record has the digest that the version's tag states",
    "R05": "the version's tags are those of its record",
    "R06": "every artifact of the record is there with its digest, and no other but pictures",
    "R07": "the batch has the content digest, rows, key ranges and context of the record",
    "R08": "the draws and the matched prior have the digests of the record",
    "R09": "the matched prior is what its family gives on the draws",
    "R10": "the link's previous is the head before it, and its prior is an earlier link",
    "R11": "the prior that was used is the posterior of the prior link",
    "R12": "the seed is derived from the prior's, the batch's and the model's digests",
    "R13": "no link counts a batch twice",
    "R14": "no link counts two batches with one row key",
    "R15": "the gate's verdict follows from the figures and thresholds, and only passed fits are links",
    "R16": "budget, doubt and log score are those before plus this fit's",
    "R17": "the model's code is the code that is recorded, and its constants are those of genesis",
    "R18": "the run is there, the version is made from it, and its tags and figures are the record's",
    "R19": "the head alias points at the newest link",
    "R20": "every accepted version is a link of the chain or lost a race",
    "R21": "the batches fitted again are those that the link counts and its prior does not",
    "R22": "what a link takes out or leaves out is counted by the head before it",
    "R23": "a belief without a fit of its own is that of its prior",
    "R24": "a branch starts from a link of its source, whose model it has",
}


@dataclass(frozen=True)
class Finding:
    """Something that is not as the rules say.

    Parameters
    ----------
    rule
        Number of the rule.
    link, version
        Place in the chain and version number; None where there is none.
    message
        What was expected and what was found.
    severity
        ``error``: the chain cannot be trusted as it is. ``warning``: the next writer completes it.
    """

    rule: str
    link: int | None
    version: int | None
    message: str
    severity: str = "error"


@dataclass(frozen=True)
class Report:
    """The verifier's result."""

    chain: str
    links: tuple[dict[str, Any], ...]
    findings: tuple[Finding, ...]
    rules: dict[str, str] = field(default_factory=lambda: dict(RULES))

    @property
    def ok(self) -> bool:
        """Whether nothing worse than a warning was found."""
        return all(finding.severity != "error" for finding in self.findings)


def verify(chain: GatheredChain) -> Report:
    """Check every rule on a chain.

    Returns
    -------
    Report
        Findings in version order; an empty tuple when everything is as it should be.
    """
    walked = _walked(chain)
    places = {link.version.number: link for link in walked.own}
    findings = [*_genesis(chain), *_gaps(chain), *_head(chain, walked), *_stray(chain, walked)]
    findings += _branch(chain, walked)
    cases, earlier = _base(chain, walked)
    head = walked.links[walked.base - 1].version.record if walked.base else chain.genesis_digest
    for item in chain.versions:
        link = places.get(item.version.number)
        record, problems = _record(item, link.number if link else None)
        findings += problems
        if record is not None:
            case = _case(item, record, link, walked, head, earlier)
            findings += _checked(case, chain)
            cases += [case] if link else []
        if link:
            head = item.version.record
            earlier[head] = record
    findings += _counted_once(cases)
    findings += _contexts(chain, cases)
    owners = _owners(chain)
    links = tuple(_line(link, owners.get(link.version.run_id, chain.name)) for link in walked.links)
    order = sorted(findings, key=lambda f: (f.version or 0, f.rule))
    return Report(chain=chain.name, links=links, findings=tuple(order))


def _walked(chain: GatheredChain) -> Chain:
    """Walk a chain; a branch after the links that it continues."""
    base, origin = tuple[ChainLink, ...](), chain.branch()
    if origin is not None and chain.base is not None:
        source = _walked(chain.base)
        start = source.link_of(origin["record"])
        base = source.links[: start.number] if start else ()
    return walk(chain.genesis_digest, [item.version for item in chain.versions], base)


def _base(chain: GatheredChain, walked: Chain) -> tuple[list[Case], dict[str, dict[str, Any] | None]]:
    """Return cases and records of the links that a branch continues, which are verified there."""
    items, source = dict[str, GatheredVersion](), chain.base
    while source is not None:
        items |= {item.version.run_id: item for item in source.versions}
        source = source.base
    cases, earlier, head = list[Case](), dict[str, dict[str, Any] | None](), ""
    for link in walked.links[: walked.base]:
        item = items[link.version.run_id]
        record, _ = _record(item, link.number)
        if record is not None:
            cases.append(_case(item, record, link, walked, head, earlier))
        head = link.version.record
        earlier[head] = record
    return cases, earlier


def _case(
    item: GatheredVersion,
    record: dict[str, Any],
    link: ChainLink | None,
    walked: Chain,
    head: str,
    earlier: dict[str, dict[str, Any] | None],
) -> Case:
    """Put a version under examination."""
    if link is None:
        return Case(item, record, None, None, earlier)
    return Case(
        evidence=item,
        record=record,
        link=link.number,
        previous=head,
        priors=earlier,
        counted=_records(walked.counted(link)),
        counted_before=_records(walked.counted(walked.before(link))),
        counted_prior=_records(walked.counted(walked.prior(link))),
    )


def _records(links: Iterable[ChainLink]) -> tuple[str, ...]:
    return tuple(link.version.record for link in links)


def _owners(chain: GatheredChain) -> dict[str, str]:
    """Return the chain of each run, those that a branch continues included."""
    found = _owners(chain.base) if chain.base is not None else {}
    return found | {item.version.run_id: chain.name for item in chain.versions}


def _checked(case: Case, chain: GatheredChain) -> Iterator[Finding]:
    """Hold one version against every rule on its own."""
    for rule, check in CHECKS.items():
        for message in check(case, chain):
            yield Finding(rule, case.link, case.evidence.version.number, message)


def _line(link: ChainLink, owner: str) -> dict[str, Any]:
    """Describe a link for the report; `owner` is the chain whose version it is."""
    version = link.version
    return {
        "link": link.number,
        "chain": owner,
        "version": version.number,
        "kind": version.kind,
        "record": version.record,
        "previous": version.previous,
        "prior": version.prior,
        "batch": version.batch,
        "origin": version.origin,
        "rows": version.rows,
    }


def _genesis(chain: GatheredChain) -> Iterator[Finding]:
    if chain.genesis is None or digest(chain.genesis) != chain.genesis_digest:
        found = "none" if chain.genesis is None else digest(chain.genesis)[:12]
        yield Finding(
            "R01", None, None, f"genesis record {chain.genesis_digest[:12]} expected, found {found}"
        )
        return
    try:
        record = parse(chain.genesis)
    except LedgerCorrupt as error:
        yield Finding("R01", None, None, str(error))
        return
    if record["kind"] != Kind.GENESIS or record["chain"] != chain.name:
        found = f"{record['kind']} of {record['chain']}"
        yield Finding("R01", None, None, f"genesis record of {chain.name} expected, found {found}")


def _gaps(chain: GatheredChain) -> Iterator[Finding]:
    numbers = [item.version.number for item in chain.versions]
    for missing in sorted(set(range(1, max(numbers, default=0) + 1)) - set(numbers)):
        yield Finding("R02", None, missing, f"version {missing} is missing: it was deleted")
    held = {item.version.run_id for item in chain.versions}
    for run_id in sorted(set(chain.registered_runs) - held):
        yield Finding("R02", None, None, f"the version of run {run_id} is missing: it was deleted")


def _head(chain: GatheredChain, walked: Chain) -> Iterator[Finding]:
    head = walked.own[-1] if walked.own else None
    wanted = head.version.number if head else None
    if chain.head_hint == wanted:
        return
    # A writer that was killed before it moved the alias leaves it on an earlier link, or nowhere.
    behind = chain.head_hint is None or chain.head_hint in {link.version.number for link in walked.own}
    link = head.number if head else None
    message = f"alias head at version {wanted} expected, found at {chain.head_hint}"
    yield Finding("R19", link, wanted, message, "warning" if behind else "error")


def _stray(chain: GatheredChain, walked: Chain) -> Iterator[Finding]:
    """An accepted version that is no link must have lost a race: its previous is an earlier head."""
    # The one head that a branch is made on is the link that it starts from.
    heads = {walked.links[walked.base - 1].version.record if walked.base else chain.genesis_digest}
    links = {link.version.number for link in walked.own}
    for item in chain.versions:
        version = item.version
        if version.number in links:
            heads.add(version.record)
        elif version.status == "accepted" and version.previous not in heads:
            message = f"previous {version.previous[:12] or 'none'} is no head that was before it"
            yield Finding("R20", None, version.number, message)


def _record(item: GatheredVersion, link: int | None) -> tuple[dict[str, Any] | None, list[Finding]]:
    """Parse a version's record; R03 and R04."""
    number = item.version.number
    if item.record is None:
        return None, [Finding("R03", link, number, "record.json is missing")]
    findings = []
    if digest(item.record) != item.version.record:
        message = f"sha256 {item.version.record[:12]} expected, found {digest(item.record)[:12]}"
        findings.append(Finding("R04", link, number, message))
    try:
        record = parse(item.record)
    except LedgerCorrupt as error:
        return None, [*findings, Finding("R03", link, number, error.found or str(error))]
    if record["kind"] == Kind.GENESIS:
        return None, [*findings, Finding("R03", link, number, "the record of a link is a genesis record")]
    return record, findings


def _branch(chain: GatheredChain, walked: Chain) -> Iterator[Finding]:
    """R24, and what is wrong with the links that a branch continues."""
    origin = chain.branch()
    if origin is None:
        return
    if chain.base is None or not walked.base:
        message = f"a link of {origin['chain']} with the record {origin['record'][:12]} expected, found none"
        yield Finding("R24", None, None, message)
        return
    root, source = chain.root(), chain.base.root()
    if root is not None and source is not None and root["model"] != source["model"]:
        yield Finding("R24", None, None, f"the model of genesis is not that of {origin['chain']}")
    for finding in verify(chain.base).findings:
        if finding.rule == "R01" or (finding.link is not None and finding.link <= walked.base):
            named = (
                finding.message
                if finding.message.startswith("in ")
                else f"in {origin['chain']}: {finding.message}"
            )
            yield replace(finding, message=named, version=None)


def _counted_once(cases: list[Case]) -> Iterator[Finding]:
    """R13 and R14: each batch against those that its link counts beside it.

    Batches that some link counts together are also counted together by the link that brought the later one.
    """
    by_record = {case.evidence.version.record: case for case in cases}
    for case in cases:
        if not case.record["batch"]:
            continue
        number, mine = case.evidence.version.number, case.record["batch"]["digest"]
        for record in case.counted:
            other = by_record.get(record)
            if other is None or other is case or not other.record["batch"]:
                continue
            if other.record["batch"]["digest"] == mine:
                message = f"batch {mine[:12]} is already counted in link {other.link}"
                yield Finding("R13", case.link, number, message)
            shared = _shared(other, case)
            if shared:
                message = f"{shared} row keys are also in link {other.link}"
                yield Finding("R14", case.link, number, message)


def _contexts(chain: GatheredChain, cases: list[Case]) -> Iterator[Finding]:
    """R07: the context of each batch are the last rows before it, as many as genesis says."""
    root = chain.root()
    if root is None:
        return  # R01 says so
    wanted = root["model"]["context"]
    by_record = {case.evidence.version.record: case.evidence.batch for case in cases}
    for case in cases:
        batch, table = case.record["batch"], case.evidence.batch
        if batch is None or table is None:
            continue  # R07 names it
        own = case.evidence.version.record
        place = case.counted.index(own) if own in case.counted else len(case.counted)
        before = [by_record.get(record) for record in case.counted[:place]]
        if wanted and None in before:
            continue  # R03 or R07 names the one that cannot be read
        stated = _stated_context([held for held in before if held is not None], table, wanted)
        if batch["context"] != stated:
            found = batch["context"] and batch["context"]["rows"]
            message = f"context of {stated and stated['rows']} rows expected, found {found} or other ones"
            yield Finding("R07", case.link, case.evidence.version.number, message)


def _stated_context(before: list[pa.Table], table: pa.Table, wanted: int) -> dict[str, Any] | None:
    """Return what a record says of the context: the last rows of the tables before a batch."""
    if not wanted:
        return None
    kept, missing = list[pa.Table](), wanted
    for held in reversed(before):
        if missing <= 0:
            break
        kept.insert(0, held.slice(max(0, held.num_rows - missing)))
        missing -= kept[0].num_rows
    rows = pa.concat_tables(kept) if kept else table.slice(0, 0)
    return {"rows": rows.num_rows, "digest": content_digest(rows)}


def _shared(one: Case, two: Case) -> int:
    """Return how many row keys two links share."""
    if ranges_disjoint(one.evidence.key_ranges or {}, two.evidence.key_ranges or {}):
        return 0
    key = one.record["batch"]["row_key"]
    tables = [case.evidence.batch for case in (one, two)]
    if any(table is None or not set(key) <= set(table.column_names) for table in tables):
        return 0
    sets = [{json.dumps(row, default=str) for row in table.select(key).to_pylist()} for table in tables
            if table is not None]  # fmt: skip
    return len(sets[0] & sets[1])
