"""Rules on signatures and witnesses, checked on request: a chain without signatures is sound.

Pure over what was read. `with_signatures` and `with_witness` add their findings to a report.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from securesystemslib.signer import Key

from lindley.errors import AcknowledgementRefused, WitnessRefused
from lindley.ledger import signing
from lindley.ledger.record import Artifact
from lindley.shapes import ANY, misfits
from lindley.verification.rules import At, Finding, Report, Scope, Severity, findings, rule, sentences

#: What makes a finding the one that was acknowledged.
_IDENTITY = ("rule", "link", "version", "message", "state")
_KNOWN_SHAPE = {
    "predicateType": re.compile(re.escape(signing.KNOWN_TYPE)),
    "predicate": {
        "chain": str,
        "who": str,
        "why": str,
        "findings": [{"rule": str, "message": str, ANY: object}],
    },
    ANY: object,
}
_LINE = ("chain", "link", "record", "kind", "previous", "batch")
_HEAD_SHAPE = {
    "predicateType": re.compile(re.escape(signing.HEAD_TYPE)),
    "predicate": {"records": [str], ANY: object},
    ANY: object,
}


@dataclass(frozen=True)
class SignedLink:
    """A link of a report and its opened envelope; None without an envelope."""

    line: Mapping[str, Any]
    envelope: signing.Opened | None


@dataclass(frozen=True)
class WitnessCase:
    """A witness beside the report on its chain.

    Parameters
    ----------
    predicate
        What the witness states: ``genesis`` and ``records``.
    problem
        What is wrong with its signature; empty if nothing is, or if no keys were given.
    """

    report: Report
    predicate: Mapping[str, Any]
    problem: str


def with_signatures(report: Report, held: Mapping[int, bytes | None], keys: Sequence[Key]) -> Report:
    """Add to a report what is wrong with the signatures of its links.

    Parameters
    ----------
    report
        What the rules found; all of its links must be signed.
    held
        Envelopes by number of the link; see `lindley.verification.gather.envelopes`.
    keys
        Public keys, any of which may have signed a link: keys change over the years.
    """
    found = list[Finding]()
    for line in report.links:
        data = held.get(line["link"])
        case = SignedLink(line, None if data is None else signing.opened(data, keys))
        found += findings(Scope.SIGNATURE, case, link=line["link"], version=line["version"])
    return report.extended(sentences(Scope.SIGNATURE), found)


def identity_of(finding: Finding) -> dict[str, Any]:
    """Return what makes a finding the one that was acknowledged."""
    return {name: getattr(finding, name) for name in _IDENTITY}


def with_known(report: Report, data: bytes, keys: Sequence[Key]) -> Report:
    """Return a report whose acknowledged errors are known; all others stay errors.

    Parameters
    ----------
    report
        What was found.
    data
        The statement of a person (`lindley acknowledge`), alone or in an envelope.
    keys
        If there are any, one of them must have signed it.

    Raises
    ------
    AcknowledgementRefused
        If it is no such statement of this chain, or is not signed by one of the keys.
    """
    document, problem = _document(data, keys)
    if document is None or any(misfits(document, _KNOWN_SHAPE)):
        document, problem = None, "something else"
    elif (chain := document["predicate"]["chain"]) != report.chain:
        document, problem = None, f"one on {chain[:80]!r}"
    if document is None or (keys and problem):
        raise AcknowledgementRefused(
            "The acknowledgement cannot be used",
            expected=f"a statement on {report.chain}, as `lindley acknowledge` prints it"
            + (", signed by one of the keys given" if keys else ""),
            found=problem,
            todo="give the file that `lindley acknowledge CHAIN` wrote, with --sign where keys are checked",
        )
    predicate = document["predicate"]

    def known(finding: Finding) -> bool:
        return finding.severity == Severity.ERROR and identity_of(finding) in predicate["findings"]

    by = f" (known to {predicate['who'][:80]}: {predicate['why'][:300]})"
    found = [
        replace(finding, severity=Severity.KNOWN, message=finding.message + by) if known(finding) else finding
        for finding in report.findings
    ]
    return replace(report, findings=tuple(found))


def with_witness(report: Report, witness: bytes, keys: Sequence[Key]) -> Report:
    """Add to a report whether the chain still has the history that a witness states.

    Parameters
    ----------
    report
        What the rules found.
    witness
        A head statement (`lindley head`), alone or in an envelope.
    keys
        If there are any, one of them must have signed it. Without keys it is taken as it is: the person
        who keeps a witness vouches for it.

    Raises
    ------
    WitnessRefused
        If it is no head statement of this chain.
    """
    predicate, problem = head_statement(witness, keys, report.chain)
    case = WitnessCase(report, predicate, problem if keys else "")
    rules = sentences(Scope.WITNESS)
    if not keys:
        del rules["W01"]
    return report.extended(rules, list(findings(Scope.WITNESS, case)))


@rule("S01", "every link carries a signature", "a lost signature")
def is_signed(case: SignedLink) -> Iterator[str]:
    """It is the artifact `signature.dsse.json`."""
    if case.envelope is None:
        yield f"{Artifact.SIGNATURE} is missing"


@rule(
    "S02",
    "the signature is an envelope that can be read, and fits what is signed",
    "a changed signature or statement",
)
def is_valid(case: SignedLink) -> Iterator[str]:
    """No signature of a given key is wrong."""
    if case.envelope and case.envelope.problem in (signing.Problem.UNREADABLE, signing.Problem.INVALID):
        yield case.envelope.detail


@rule("S03", "the signature is by one of the keys given", "a link signed with another key")
def is_by_a_key(case: SignedLink) -> Iterator[str]:
    """Signatures by other keys beside it are no finding."""
    if case.envelope and case.envelope.problem == signing.Problem.OTHER_KEY:
        yield case.envelope.detail


@rule(
    "S04",
    "what is signed is this link's record at this place of this chain",
    "a signature taken from another link",
)
def is_of_the_link(case: SignedLink) -> Iterator[str]:
    """The statement has the record, place, chain, kind, previous and batch of the link."""
    if case.envelope is None or case.envelope.problem:
        return
    if case.envelope.statement != signing.link_statement(**{name: case.line[name] for name in _LINE}):
        yield f"another statement expected, found {_subject(case.envelope.statement)}"


@rule("W01", "the witness is signed by one of the keys given", "a forged witness")
def witness_signature(case: WitnessCase) -> Iterator[str]:
    """Checked only where keys are given."""
    if case.problem:
        yield case.problem


@rule(
    "W02",
    "the chain still has every link that the witness states, in the same order",
    "links rewritten or cut off, a registered model that was deleted and grown again",
)
def witnessed_history(case: WitnessCase) -> Iterator[At]:
    """Genesis and the first links of the chain are compared; the first difference is reported."""
    links, predicate = case.report.links, case.predicate
    stated = [str(predicate.get("genesis", "")), *predicate["records"]]
    first = links[0]["previous"] if links else stated[0]
    held = [first, *(line["record"] for line in links)]
    for number, record in enumerate(stated):
        where = f"link {number}" if number else "the genesis record"
        if number >= len(held):
            yield At(f"{where} was {record[:12]}, found only {len(held) - 1} links: history was cut off")
        elif held[number] != record:
            message = f"{where} was {record[:12]}, found {held[number][:12]}: history was rewritten"
            yield At(message, number, links[number - 1]["version"]) if number else At(message)
        else:
            continue
        return


def _subject(statement: Any) -> str:
    """Return what a statement is about, for a message."""
    try:
        subject = statement["subject"][0]
        return f"{str(subject['name'])[:80]}, sha256 {str(subject['digest']['sha256'])[:12]}"
    except (LookupError, TypeError):
        return "one without a subject"


def _document(data: bytes, keys: Sequence[Key]) -> tuple[dict[str, Any] | None, str]:
    """Return a statement, alone or in an envelope, and what is wrong with its signature."""
    try:
        document = json.loads(data) if len(data) <= signing.MOST_BYTES else None
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict) and "payload" in document:
        found = signing.opened(data, keys)
        return found.statement, found.detail
    return document if isinstance(document, dict) else None, "it is not signed"


def head_statement(data: bytes, keys: Sequence[Key], chain: str) -> tuple[dict[str, Any], str]:
    """Return the predicate of a witness, and what is wrong with its signature.

    Raises
    ------
    WitnessRefused
        If it is no head statement of this chain.
    """
    document, problem = _document(data, keys)
    if document is None or any(misfits(document, _HEAD_SHAPE)):
        is_statement = document is not None and document.get("predicate") is not None
        raise WitnessRefused(
            "The witness cannot be used",
            expected="the statement of a head, as `lindley head` prints it",
            found="a statement of something else" if is_statement else "something else",
            todo="give the file that `lindley head CHAIN` wrote",
        )
    predicate: dict[str, Any] = document["predicate"]
    if predicate.get("chain") != chain:
        raise WitnessRefused(
            f"The witness is not of the chain {chain}",
            expected=f"the statement of a head of {chain}",
            found=f"one of {str(predicate.get('chain'))[:80]!r}",
            todo="name the chain that the witness is of",
        )
    return predicate, problem
