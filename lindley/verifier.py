"""The verifier: `verify(evidence) -> findings`, pure, over what was read from a ledger.

It knows no registry: records and artifacts come in as bytes and digests (see `lindley.evidence`), so
that it can be run by anyone, against anything that kept them. Every rule has a number; the numbers are
specified in docs/ledger-format.md and each has a tamper test.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from lindley.batch import ranges_disjoint
from lindley.chain import Chain, Version, walk
from lindley.content_digest import content_digest
from lindley.errors import LedgerCorrupt
from lindley.record import GENESIS, digest, parse
from lindley.rules import CHECKS, Case, ChainEvidence, Evidence

RULES: dict[str, str] = {
    "R01": "the genesis record is readable and has the digest that the registry states",
    "R02": "no version was deleted: numbers have no gap, and every run that was registered has one",
    "R03": "the record is readable, canonical and complete",
    "R04": "the record has the digest that the version's tag states",
    "R05": "the version's tags are those of its record",
    "R06": "every artifact of the record is there with its digest, and no other",
    "R07": "the batch has the content digest, rows, key ranges and context of the record",
    "R08": "the draws and the matched prior have the digests of the record",
    "R09": "the matched prior is what its family gives on the draws",
    "R10": "the link's previous is the head before it, and its prior is an earlier link",
    "R11": "the prior that was used is the posterior of the prior link",
    "R12": "the seed is derived from the prior's, the batch's and the model's digests",
    "R13": "no batch is counted twice",
    "R14": "no row key is in two batches",
    "R15": "the gate's verdict follows from the figures and thresholds, and only passed fits are links",
    "R16": "budget, doubt and log score are those before plus this fit's",
    "R17": "the model's code is the code that is recorded, and its constants are those of genesis",
    "R18": "the run is there, the version is made from it, and its tags and figures are the record's",
    "R19": "the head alias points at the newest link",
    "R20": "every accepted version is a link of the chain or lost a race",
    "R21": "the batches fitted again are those of the links since the prior, and a pooled refit has all",
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


def verify(chain: ChainEvidence) -> Report:
    """Check every rule on a chain.

    Returns
    -------
    Report
        Findings in version order; an empty tuple when everything is as it should be.
    """
    walked = walk(chain.genesis_digest, [item.version for item in chain.versions])
    places = {link.version.number: link.number for link in walked.links}
    findings = [*_genesis(chain), *_gaps(chain), *_head(chain, walked), *_stray(chain, walked)]
    head, earlier = chain.genesis_digest, dict[str, dict[str, Any] | None]()
    cases = []
    for item in chain.versions:
        link = places.get(item.version.number)
        record, problems = _record(item, link)
        findings += problems
        if record is not None:
            cases.append(Case(item, record, link, head if link else None, earlier))
            findings += _checked(cases[-1], chain)
        if link:
            head = item.version.record
            earlier[head] = record
    findings += _counted_once([case for case in cases if case.link])
    findings += _contexts(chain, [case for case in cases if case.link])
    links = tuple(_line(item.version, places[item.version.number]) for item in chain.versions
                  if item.version.number in places)  # fmt: skip
    order = sorted(findings, key=lambda f: (f.version or 0, f.rule))
    return Report(chain=chain.name, links=links, findings=tuple(order))


def _checked(case: Case, chain: ChainEvidence) -> Iterator[Finding]:
    """Hold one version against every rule on its own."""
    for rule, check in CHECKS.items():
        for message in check(case, chain):
            yield Finding(rule, case.link, case.evidence.version.number, message)


def _line(version: Version, link: int) -> dict[str, Any]:
    """Describe a link for the report."""
    return {
        "link": link,
        "version": version.number,
        "kind": version.kind,
        "record": version.record,
        "previous": version.previous,
        "prior": version.prior,
        "batch": version.batch,
        "origin": version.origin,
        "rows": version.rows,
    }


def _genesis(chain: ChainEvidence) -> Iterator[Finding]:
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
    if record["kind"] != GENESIS or record["chain"] != chain.name:
        found = f"{record['kind']} of {record['chain']}"
        yield Finding("R01", None, None, f"genesis record of {chain.name} expected, found {found}")


def _gaps(chain: ChainEvidence) -> Iterator[Finding]:
    numbers = [item.version.number for item in chain.versions]
    for missing in sorted(set(range(1, max(numbers, default=0) + 1)) - set(numbers)):
        yield Finding("R02", None, missing, f"version {missing} is missing: it was deleted")
    held = {item.version.run_id for item in chain.versions}
    for run_id in sorted(set(chain.registered_runs) - held):
        yield Finding("R02", None, None, f"the version of run {run_id} is missing: it was deleted")


def _head(chain: ChainEvidence, walked: Chain) -> Iterator[Finding]:
    head = walked.head
    wanted = head.version.number if head else None
    if chain.head_hint == wanted:
        return
    # A writer that was killed before it moved the alias leaves it on an earlier link, or nowhere.
    behind = chain.head_hint is None or chain.head_hint in {link.version.number for link in walked.links}
    link = head.number if head else None
    message = f"alias head at version {wanted} expected, found at {chain.head_hint}"
    yield Finding("R19", link, wanted, message, "warning" if behind else "error")


def _stray(chain: ChainEvidence, walked: Chain) -> Iterator[Finding]:
    """An accepted version that is no link must have lost a race: its previous is an earlier head."""
    heads = {chain.genesis_digest}
    links = {link.version.number for link in walked.links}
    for item in chain.versions:
        version = item.version
        if version.number in links:
            heads.add(version.record)
        elif version.status == "accepted" and version.previous not in heads:
            message = f"previous {version.previous[:12] or 'none'} is no head that was before it"
            yield Finding("R20", None, version.number, message)


def _record(item: Evidence, link: int | None) -> tuple[dict[str, Any] | None, list[Finding]]:
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
    if record["kind"] == GENESIS:
        return None, [*findings, Finding("R03", link, number, "the record of a link is a genesis record")]
    return record, findings


def _counted_once(cases: list[Case]) -> Iterator[Finding]:
    """R13 and R14: every pair of links."""
    seen: dict[str, int | None] = {}
    for case in cases:
        batch = (case.record["batch"] or {}).get("digest")
        if batch in seen:
            message = f"batch {batch[:12]} is already counted in link {seen[batch]}"
            yield Finding("R13", case.link, case.evidence.version.number, message)
        elif batch:
            seen[batch] = case.link
    counted = [case for case in cases if case.record["batch"] and case.evidence.batch is not None]
    for one, two in itertools.combinations(counted, 2):
        shared = _shared(one, two)
        if shared:
            message = f"{shared} row keys are also in link {one.link}"
            yield Finding("R14", two.link, two.evidence.version.number, message)


def _contexts(chain: ChainEvidence, cases: list[Case]) -> Iterator[Finding]:
    """R07: the context of each batch are the last rows of the links before it, as many as genesis says."""
    try:
        wanted = parse(chain.genesis)["model"]["context"] if chain.genesis is not None else 0
    except LedgerCorrupt:
        return  # R01 says so
    before: list[pa.Table] = []
    for case in cases:
        batch, table = case.record["batch"], case.evidence.batch
        if batch is None:
            continue
        if table is None:
            return  # R07 names it; what follows cannot be told
        rows = pa.concat_tables(before) if before else table.slice(0, 0)
        rows = rows.slice(max(0, rows.num_rows - wanted))
        stated = {"rows": rows.num_rows, "digest": content_digest(rows)} if wanted else None
        if batch["context"] != stated:
            found = batch["context"] and batch["context"]["rows"]
            message = f"context of {stated and stated['rows']} rows expected, found {found} or other ones"
            yield Finding("R07", case.link, case.evidence.version.number, message)
        before.append(table)


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
