"""Which links of a chain must be signed, and what a witness says of it: findings S01 to S04, W01, W02.

Pure over what was read, like `lindley.verification.verifier`. Only checked on request: a chain without
signatures is whole.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lindley.errors import KeyRefused, LedgerCorrupt, WitnessRefused
from lindley.ledger.artifact_names import SIGNATURE
from lindley.ledger.signer import sign_record

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner, Key

    from lindley.ledger.protocol import Ledger
    from lindley.verification.verifier import Finding, Report

SIGNED_RULES: dict[str, str] = {
    "S01": "every link carries a signature",
    "S02": "the signature is an envelope that can be read, and fits what is signed",
    "S03": "the signature is by one of the keys given",
    "S04": "what is signed is this link's record at this place of this chain",
}
WITNESS_RULES: dict[str, str] = {
    "W01": "the witness is signed by one of the keys given",
    "W02": "the chain still has every link that the witness states, in the same order",
}


# -- what was read ------------------------------------------------------------------------------------


def envelopes(ledger: Ledger, report: Report) -> dict[int, bytes | None]:
    """Read the signature of every link, by its number; None where there is none.

    Not by version: those of a branch and of the chain that it continues have the same numbers.
    """
    runs = _runs(ledger, report.chain)
    found: dict[int, bytes | None] = {}
    for line in report.links:
        with tempfile.TemporaryDirectory(prefix="lindley-") as scratch:
            try:
                path = ledger.download(runs[line["link"]], Path(scratch), SIGNATURE)
                found[line["link"]] = path.read_bytes()
            except (LedgerCorrupt, KeyError, OSError):
                found[line["link"]] = None
    return found


def _runs(ledger: Ledger, chain: str) -> dict[int, str]:
    """Return the run behind each link, by its number."""
    from lindley.ledger.reading import find_chain  # imports the numerical stack

    return {link.number: link.version.run_id for link in find_chain(ledger, chain).links}


def with_signatures(report: Report, held: Mapping[int, bytes | None], keys: Sequence[Key]) -> Report:
    """Add to a report what is wrong with the signatures of its links.

    Parameters
    ----------
    report
        What the rules found; its links are those that must be signed.
    held
        Envelopes by number of the link; see `envelopes`.
    keys
        Public keys, any of which may have signed a link: keys change over the years.
    """
    found = [finding for line in report.links for finding in _signature(line, held, keys)]
    return extended(report, SIGNED_RULES, found)


def with_witness(report: Report, witness: bytes, keys: Sequence[Key]) -> Report:
    """Add to a report whether the chain still has the history that a witness states.

    Parameters
    ----------
    report
        What the rules found.
    witness
        A head statement (`lindley head`), alone or in an envelope.
    keys
        If there are any, one of them must have signed it. Without keys it is taken as it is: whoever
        keeps a witness vouches for it.

    Raises
    ------
    WitnessRefused
        If it is no head statement of this chain.
    """
    predicate, problem = _head(witness, keys, report.chain)
    found = [] if not keys or not problem else [_finding("W01", None, problem)]
    rules = WITNESS_RULES if keys else {"W02": WITNESS_RULES["W02"]}
    return extended(report, rules, [*found, *_history(report, predicate)])


def extended(report: Report, rules: Mapping[str, str], findings: Sequence[Finding]) -> Report:
    """Return a report with further rules and findings, in the report's order."""
    order = sorted([*report.findings, *findings], key=lambda f: (f.version or 0, f.rule))
    return dataclasses.replace(report, findings=tuple(order), rules=report.rules | dict(rules))


def _signature(
    line: Mapping[str, Any], held: Mapping[int, bytes | None], keys: Sequence[Key]
) -> Iterator[Finding]:
    """Check the signature of one link."""
    from lindley.ledger import signing  # as above

    data = held.get(line["link"])
    if data is None:
        yield _finding("S01", line, f"{SIGNATURE} is missing")
        return
    found = signing.opened(data, keys)
    if found.problem:
        yield _finding("S03" if found.problem == "other key" else "S02", line, found.detail)
        return
    names = ("chain", "link", "record", "kind", "previous", "batch")
    wanted = signing.link_statement(**{name: line[name] for name in names})
    if found.statement != wanted:
        yield _finding("S04", line, f"another statement expected, found {_subject(found.statement)}")


def _subject(statement: Any) -> str:
    """Return what a statement is about, for a message."""
    try:
        subject = statement["subject"][0]
        return f"{str(subject['name'])[:80]}, sha256 {str(subject['digest']['sha256'])[:12]}"
    except (LookupError, TypeError):
        return "one without a subject"


def _head(data: bytes, keys: Sequence[Key], chain: str) -> tuple[dict[str, Any], str]:
    """Return the predicate of a witness, and what is wrong with its signature."""
    from lindley.ledger import signing  # as above

    try:
        document = json.loads(data) if len(data) <= signing.MOST_BYTES else None
    except (ValueError, RecursionError):
        document = None
    problem = "the witness is not signed"
    if isinstance(document, dict) and "payload" in document:
        found = signing.opened(data, keys)
        document, problem = found.statement, found.detail
    predicate = document.get("predicate") if isinstance(document, dict) else None
    records = predicate.get("records") if isinstance(predicate, dict) else None
    if (
        not isinstance(document, dict)
        or document.get("predicateType") != signing.HEAD_TYPE
        or not isinstance(predicate, dict)
        or not isinstance(records, list)
        or not all(isinstance(item, str) for item in records)
    ):
        raise WitnessRefused(
            "The witness cannot be used",
            expected="the statement of a head, as `lindley head` prints it",
            found="something else" if predicate is None else "a statement of something else",
            todo="give the file that `lindley head CHAIN` wrote",
        )
    if predicate.get("chain") != chain:
        raise WitnessRefused(
            f"The witness is not of the chain {chain}",
            expected=f"the statement of a head of {chain}",
            found=f"one of {str(predicate.get('chain'))[:80]!r}",
            todo="name the chain that the witness is of",
        )
    return predicate, problem


def _history(report: Report, predicate: Mapping[str, Any]) -> Iterator[Finding]:
    """Say where the chain leaves the witnessed history; every later link follows from the first."""
    stated = [str(predicate.get("genesis", "")), *predicate["records"]]
    first = report.links[0]["previous"] if report.links else stated[0]
    held = [first, *(line["record"] for line in report.links)]
    for number, record in enumerate(stated):
        line = report.links[number - 1] if 0 < number < len(held) else None
        where = f"link {number}" if number else "the genesis record"
        if number >= len(held):
            message = f"{where} was {record[:12]}, found only {len(held) - 1} links: history was cut off"
        elif held[number] != record:
            message = f"{where} was {record[:12]}, found {held[number][:12]}: history was rewritten"
        else:
            continue
        yield _finding("W02", line, message)
        return


def _finding(rule: str, line: Mapping[str, Any] | None, message: str) -> Finding:
    from lindley.verification.verifier import Finding  # imports the numerical stack

    return Finding(rule, line["link"] if line else None, line["version"] if line else None, message)


# -- acts ---------------------------------------------------------------------------------------------


def head_of(ledger: Ledger, chain: str, signer: CryptoSigner | None) -> bytes:
    """Return a statement of a chain's head, to be kept elsewhere; in an envelope if there is a signer.

    Raises
    ------
    LedgerCorrupt
        If the chain is not as recorded: nobody should vouch for it.
    """
    from lindley.ledger import signing  # as above
    from lindley.ledger.record import canonical, digest

    report = _sound(ledger, chain)
    # Of a branch, the genesis of the chain that it continues: that is where its links begin.
    genesis = report.links[0]["previous"] if report.links else digest(ledger.genesis(chain) or b"")
    records = [str(line["record"]) for line in report.links]
    statement = signing.head_statement(chain=chain, genesis=genesis, records=records)
    return canonical(statement) if signer is None else signing.sealed(statement, signer)


def sign_links(ledger: Ledger, chain: str, signer: CryptoSigner | None) -> list[int]:
    """Sign the links of a chain that have no signature yet; return their numbers.

    Signatures that are there stay, whoever made them.

    Raises
    ------
    KeyRefused
        Without a signer.
    LedgerCorrupt
        If the chain is not as recorded.
    """
    if signer is None:
        raise no_key()
    report = _sound(ledger, chain)
    held, runs, signed = envelopes(ledger, report), _runs(ledger, chain), []
    for line in report.links:
        if held[line["link"]] is not None:
            continue
        record = {name: line[name] for name in ("chain", "kind", "previous")}
        record["batch"] = {"digest": line["batch"]} if line["batch"] else None
        with tempfile.TemporaryDirectory(prefix="lindley-") as scratch:
            sign_record(Path(scratch), record, line["record"], line["link"], signer)
            ledger.upload(runs[line["link"]], Path(scratch))
        signed.append(int(line["link"]))
    return signed


def no_key() -> KeyRefused:
    """Return the error of someone who wants to sign without a key."""
    return KeyRefused(
        "There is no key to sign with",
        expected="LINDLEY_SIGNING_KEY: the path of an Ed25519 private key in PEM, or its text",
        found="no such variable",
        todo="make a key pair with `lindley keygen PATH`, and set the variable to the path",
    )


def _sound(ledger: Ledger, chain: str) -> Report:
    """Verify a chain before anything vouches for it."""
    from lindley.verification.gather import verify_chain  # imports the numerical stack

    report = verify_chain(ledger, chain)
    wrong = next((f for f in report.findings if f.severity == "error"), None)
    if wrong is not None:
        raise LedgerCorrupt(
            f"{chain} is not as recorded, so it is not signed",
            expected="a chain without findings",
            found=f"{wrong.rule}: {wrong.message}",
            todo=f"run `lindley verify {chain}`",
        )
    return report
