"""Verify a chain, then state its head or sign its links."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lindley.errors import AcknowledgementRefused, KeyRefused, LedgerCorrupt
from lindley.ledger.reading import find_chain
from lindley.ledger.signer import sign_record
from lindley.names import KEY_VARIABLE
from lindley.verification.check import Checks, check
from lindley.verification.rules import Severity

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner

    from lindley.ledger.protocol import Ledger
    from lindley.verification.rules import Report


def head_of(ledger: Ledger, chain: str, signer: CryptoSigner | None, known: Sequence[Path] = ()) -> bytes:
    """Return a statement of a chain's head, to be kept elsewhere; in an envelope if there is a signer.

    Parameters
    ----------
    ledger, chain, signer
        Which chain, and who signs.
    known
        Files of acknowledgements; the findings in them are no errors.

    Raises
    ------
    LedgerCorrupt
        If the chain is not as recorded: no statement is made of such a chain.
    """
    from lindley.ledger import signing  # imports the cryptography
    from lindley.ledger.record import canonical, digest

    report = _sound(ledger, chain, known)
    # Of a branch, the genesis of the chain that it continues: that is where its links begin.
    genesis = report.links[0]["previous"] if report.links else digest(ledger.genesis(chain) or b"")
    records = [str(line["record"]) for line in report.links]
    statement = signing.head_statement(chain=chain, genesis=genesis, records=records)
    return canonical(statement) if signer is None else signing.sealed(statement, signer)


def known_of(ledger: Ledger, chain: str, *, who: str, why: str, signer: CryptoSigner | None) -> bytes:
    """Return the statement that a person knows the errors of a chain; in an envelope if there is a signer.

    Raises
    ------
    AcknowledgementRefused
        If there is no reason, or no error.
    """
    from lindley.ledger import signing  # imports the cryptography
    from lindley.ledger.record import canonical
    from lindley.verification.gather import verify_chain  # imports the numerical stack
    from lindley.verification.signature_rules import identity_of

    report = verify_chain(ledger, chain)
    found = [identity_of(finding) for finding in report.findings if finding.severity == Severity.ERROR]
    reason = bool(why.strip())
    if not found or not reason:
        raise AcknowledgementRefused(
            f"There is nothing to acknowledge in {chain}" if reason else "An acknowledgement states why",
            expected="a chain with findings of severity error, and why they are no reason for alarm",
            found="no such finding" if reason else "an empty reason",
            todo=f"run `lindley verify {chain}`",
        )
    statement = signing.known_statement(chain=chain, who=who, why=why, findings=found)
    return canonical(statement) if signer is None else signing.sealed(statement, signer)


def sign_links(
    ledger: Ledger, chain: str, signer: CryptoSigner | None, known: Sequence[Path] = ()
) -> list[int]:
    """Sign the links of a chain that have no signature yet; return their numbers.

    Uploads one file per link. Existing signatures stay, by whichever key. For `known` see `head_of`.

    Raises
    ------
    KeyRefused
        Without a signer.
    LedgerCorrupt
        If the chain is not as recorded.
    """
    from lindley.verification.gather import envelopes  # imports the numerical stack

    if signer is None:
        raise no_key()
    report = _sound(ledger, chain, known)
    held, signed = envelopes(ledger, chain), list[int]()
    # Links that another writer added meanwhile have no line, and are not signed.
    for line, link in zip(report.links, find_chain(ledger, chain).links, strict=False):
        if held[link.number] is None:
            record = line | {"batch": {"digest": line["batch"]}}
            with tempfile.TemporaryDirectory(prefix="lindley-") as scratch:
                sign_record(Path(scratch), record, line["record"], link.number, signer)
                ledger.upload(link.version.run_id, Path(scratch))
            signed.append(link.number)
    return signed


def no_key() -> KeyRefused:
    """Return the error of signing without a key."""
    return KeyRefused(
        "There is no key to sign with",
        expected=f"{KEY_VARIABLE}: the path of an Ed25519 private key in PEM, or its text",
        found="no such variable",
        todo="make a key pair with `lindley keygen PATH`, and set the variable to the path",
    )


def _sound(ledger: Ledger, chain: str, known: Sequence[Path]) -> Report:
    """Verify a chain before its head is stated or its links are signed."""
    report = check(ledger, chain, Checks(known=tuple(known))).report
    wrong = report.first_error
    if wrong is not None:
        raise LedgerCorrupt(
            f"{chain} is not as recorded, so it is not signed",
            expected="a chain without findings, or with acknowledged ones only",
            found=f"{wrong.rule}: {wrong.message}",
            todo=f"run `lindley verify {chain}`; name what `lindley acknowledge` wrote with --known",
        )
    return report
