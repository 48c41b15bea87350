"""Ed25519 signatures over record digests: in-toto statements in DSSE envelopes.

What is signed and how; `lindley.verification.signature_rules` decides which links must carry a signature.
A private key is read from the environment and is never shown, logged or recorded.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner, Key, SSlibKey

from lindley.atomic import write_new
from lindley.errors import KeyRefused
from lindley.ledger.record import canonical, digest
from lindley.names import KEY_VARIABLE

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
LINK_TYPE = "urn:lindley:link:v1"
HEAD_TYPE = "urn:lindley:head:v1"
KNOWN_TYPE = "urn:lindley:known:v1"
#: A PEM text begins so, a path never does.
_PEM = "-----BEGIN"
#: Bytes of a key file, and of an envelope, that are read at most.
_MOST_KEY_BYTES, MOST_BYTES = 100_000, 16 * 2**20
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Problem(StrEnum):
    """What is wrong with an envelope.

    ``INVALID``: a signature of an accepted key does not fit the payload. ``OTHER_KEY``: only other keys
    signed it.
    """

    UNREADABLE = "unreadable"
    INVALID = "invalid"
    OTHER_KEY = "other key"


@dataclass(frozen=True)
class Opened:
    """An envelope after its signatures were checked.

    Parameters
    ----------
    statement
        The signed statement; None if it cannot be read.
    problem
        None if one of the accepted keys signed it.
    detail
        The problem in words.
    keyid
        Of the accepted key that signed it; empty if none did.
    """

    statement: dict[str, Any] | None
    problem: Problem | None = None
    detail: str = ""
    keyid: str = ""


# -- keys ---------------------------------------------------------------------------------------------


def signer_from_environment(environment: Mapping[str, str] | None = None) -> CryptoSigner | None:
    """Return the signer that ``LINDLEY_SIGNING_KEY`` names; None if it is not set.

    Raises
    ------
    KeyRefused
        If it names no Ed25519 private key without a passphrase, or a file that others can read. The message
        never holds its value.
    """
    given = (os.environ if environment is None else environment).get(KEY_VARIABLE, "").strip()
    if not given:
        return None
    if given.startswith(_PEM):
        # Variables in files and in secret stores often hold the two characters \n for a line's end.
        data = given.replace("\\n", "\n").encode()
    else:
        data = _read(Path(given), f"the file that {KEY_VARIABLE} names", secret=True)
    try:
        key = load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The chain of causes is cut: a parser's message may quote what it was given.
        raise _refused(KEY_VARIABLE, "something else, or a key with a passphrase") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise _refused(KEY_VARIABLE, f"a private key of another kind ({type(key).__name__})")
    return CryptoSigner(key)


def public_key(path: Path) -> SSlibKey:
    """Read an Ed25519 public key from a PEM file.

    Raises
    ------
    KeyRefused
        If it is none; a private key is refused as well, without showing it.
    """
    data = _read(path, f"the key file {path.name!r}")
    if b"PRIVATE KEY" in data:
        raise KeyRefused(
            f"The key file {path.name!r} holds a private key",
            expected="the public key that belongs to it: signatures are checked without the secret",
            found="a private key",
            todo=f"give the file {path.name}.pub or ask the key's owner for it",
        )
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise _refused(f"The key file {path.name!r}", "something else", "public") from None
    if not isinstance(key, Ed25519PublicKey):
        raise _refused(f"The key file {path.name!r}", f"another kind ({type(key).__name__})", "public")
    return SSlibKey.from_crypto(key)


def generate(path: Path) -> str:
    """Write a new key pair, ``path`` (private, readable by its owner alone) and ``path.pub``.

    Returns
    -------
    str
        Id of the key, as it stands in envelopes.

    Raises
    ------
    KeyRefused
        If one of the files exists: a key is never overwritten.
    """
    public = path.with_name(f"{path.name}.pub")
    for each in (path, public):
        if each.exists() or each.is_symlink():
            raise KeyRefused(
                f"The file {each.name!r} exists",
                expected="a path that is free: a key that signed links must never be lost",
                found="a file of that name",
                todo="give another path",
            )
    private = Ed25519PrivateKey.generate()
    signer = CryptoSigner(private)
    text = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Created with these rights: never readable by others, not even for a moment.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(signer.private_bytes)
            file.flush()
            os.fsync(file.fileno())
        write_new(text, public)
    except OSError as error:
        raise KeyRefused(
            f"The key pair cannot be written to {path.parent.name!r}",
            found=error.strerror or str(error),
            todo="give a path in a folder that you may write to",
        ) from error
    return str(signer.public_key.keyid)


def _read(path: Path, what: str, *, secret: bool = False) -> bytes:
    """Read a key file, its size limited; one with a secret only where no other user can read it."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if not (secret and stat.S_ISREG(mode) and mode & _OTHERS):
                return file.read(_MOST_KEY_BYTES)
    except (OSError, ValueError) as error:
        found = error.strerror if isinstance(error, OSError) else None
        raise KeyRefused(
            f"Cannot read {what}",
            expected="an Ed25519 key in PEM",
            found=found or type(error).__name__,
            todo="correct the path; `lindley keygen PATH` makes a key pair",
        ) from None
    raise KeyRefused(
        f"Other users can read {what}",
        expected="a private key that only its owner can read",
        found=f"mode {stat.filemode(mode)}",
        todo="run `chmod 600` on it; if others may have read it, make another key with `lindley keygen PATH`",
    )


def _refused(what: str, found: str, kind: str = "private") -> KeyRefused:
    return KeyRefused(
        f"{what} names no usable {kind} key" if what == KEY_VARIABLE else f"{what} is no {kind} key",
        expected=f"an Ed25519 {kind} key in PEM, without a passphrase",
        found=found,
        todo="make one with `lindley keygen PATH`",
    )


# -- statements ---------------------------------------------------------------------------------------


def link_statement(
    *, chain: str, link: int, record: str, kind: str, previous: str, batch: str
) -> dict[str, Any]:
    """Return the statement of a link: its record's digest as the subject, its place as the predicate."""
    predicate = {"chain": chain, "link": link, "kind": kind, "previous": previous, "batch": batch}
    return _statement(f"{chain}/{link}", record, LINK_TYPE, predicate)


def head_statement(*, chain: str, genesis: str, records: Sequence[str]) -> dict[str, Any]:
    """Return the statement of a head: the record digests of all links so far, oldest first."""
    predicate = {"chain": chain, "link": len(records), "genesis": genesis, "records": list(records)}
    return _statement(f"{chain}/{len(records)}", (records or [genesis])[-1], HEAD_TYPE, predicate)


def known_statement(
    *, chain: str, who: str, why: str, findings: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the statement that a person knows findings: their digest as the subject."""
    held = [dict(finding) for finding in findings]
    predicate = {"chain": chain, "who": who, "why": why, "findings": held}
    return _statement(chain, digest(canonical(held)), KNOWN_TYPE, predicate)


def _statement(name: str, sha256: str, kind: str, predicate: dict[str, Any]) -> dict[str, Any]:
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": sha256}}],
        "predicateType": kind,
        "predicate": predicate,
    }


# -- envelopes ----------------------------------------------------------------------------------------


def sealed(statement: dict[str, Any], signer: CryptoSigner) -> bytes:
    """Return the DSSE envelope of a statement, as JSON."""
    envelope = Envelope(canonical(statement), PAYLOAD_TYPE, {})
    envelope.sign(signer)
    return canonical(envelope.to_dict())


def opened(data: bytes, keys: Sequence[Key]) -> Opened:
    """Read an envelope and check its signatures.

    Parameters
    ----------
    data
        Untrusted bytes.
    keys
        The accepted public keys; one of them must have signed.
    """
    try:
        if len(data) > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES:,} bytes")
        envelope = Envelope.from_dict(json.loads(data))
        statement = json.loads(envelope.payload)
        if envelope.payload_type != PAYLOAD_TYPE or not isinstance(statement, dict):
            raise ValueError(f"a payload of type {str(envelope.payload_type)[:80]!r}")
    except Exception as error:  # hostile bytes make the parsers raise nearly anything
        return Opened(None, Problem.UNREADABLE, f"{type(error).__name__}: {str(error)[:200]}")
    for key in keys:
        try:
            found = envelope.verify([key], 1)
        except (VerificationError, ValueError, TypeError):
            continue
        return Opened(statement, keyid=str(next(iter(found))))
    accepted = {key.keyid for key in keys}
    signed = sorted(map(str, envelope.signatures))
    if accepted & set(signed):
        return Opened(
            statement, Problem.INVALID, "a signature of an accepted key does not fit what is signed"
        )
    names = ", ".join(name[:12] for name in signed[:5])
    return Opened(statement, Problem.OTHER_KEY, f"signed by {names}" if names else "it has no signature")
