"""Sign records with the key that the environment names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lindley.ledger.record import Artifact
from lindley.names import KEY_VARIABLE

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner


def signer_from_environment() -> CryptoSigner | None:
    """Return the signer that the environment names; see `lindley.ledger.signing.signer_from_environment`."""
    if not os.environ.get(KEY_VARIABLE, "").strip():
        return None
    from lindley.ledger import signing  # only signing waits for the cryptography

    return signing.signer_from_environment()


def sign_record(
    folder: Path, record: dict[str, Any], record_digest: str, link: int, signer: CryptoSigner | None
) -> None:
    """Write the signature of a record beside it; nothing without a signer.

    It is among the files of the link before its version is created: a version that exists is signed.
    """
    if signer is None:
        return
    from lindley.ledger import signing  # as above

    statement = signing.link_statement(
        chain=record["chain"],
        link=link,
        record=record_digest,
        kind=record["kind"],
        previous=record["previous"],
        batch=(record["batch"] or {}).get("digest", ""),
    )
    (folder / Artifact.SIGNATURE).write_bytes(signing.sealed(statement, signer))
