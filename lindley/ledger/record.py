"""Records: the canonical JSON documents whose sha256 is a link's identity.

The fields are specified in docs/ledger-format.md. Canonical form is RFC 8785 (JCS).
"""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from typing import Any

import rfc8785

from lindley.errors import LedgerCorrupt
from lindley.ledger.record_schema import GENESIS_SHAPE, LINK_SHAPE, misfits

SCHEMA = "lindley-record/1"


class Kind(StrEnum):
    """What a record records: the start of a chain, or how a link came about."""

    GENESIS = "genesis"
    UPDATE = "update"
    IMPORT = "import"
    REBASE = "rebase"
    RETRACT = "retract"
    CORRECT = "correct"
    ROLLBACK = "rollback"
    BRANCH = "branch"


#: Kinds of links that go to an earlier belief: they count what that one counts.
MOVES = (Kind.ROLLBACK, Kind.BRANCH)
#: Kinds of links that have a batch of their own.
WITH_BATCH = (Kind.UPDATE, Kind.CORRECT)
#: Links at most that one act takes out: their digests must fit into a tag.
MOST_RETRACTED = 50


def canonical(value: Any) -> bytes:
    """Return the canonical bytes of a record or another JSON value (RFC 8785)."""
    return bytes(rfc8785.dumps(value))


def digest(data: bytes) -> str:
    """Return the sha256 of bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def parse(data: bytes) -> dict[str, Any]:
    """Read the bytes of a record.

    Raises
    ------
    LedgerCorrupt
        If the bytes are not the canonical form of a record of this schema and a known kind, with exactly
        the fields and types of `lindley.ledger.record_schema`.
    """
    try:
        record = json.loads(data, parse_int=_number)
    except (ValueError, RecursionError) as error:
        raise _corrupt(f"no JSON ({type(error).__name__})") from error
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise _corrupt(f"schema {record.get('schema')!r}" if isinstance(record, dict) else "no object")
    if record.get("kind") not in list(Kind):
        raise _corrupt(f"kind {record.get('kind')!r}")
    wrong = list(misfits(record, GENESIS_SHAPE if record["kind"] == Kind.GENESIS else LINK_SHAPE))
    if wrong:
        raise _corrupt("; ".join(wrong[:5]))
    try:
        again = canonical(record)
    except (ValueError, RecursionError) as error:  # text that has no UTF-8 form is a plain ValueError
        raise _corrupt(f"values without a canonical form ({error})") from error
    if again != data:
        raise _corrupt("bytes that are not in canonical form")
    return record


def genesis_record(chain: str, model: dict[str, Any], branch: dict[str, str] | None = None) -> dict[str, Any]:
    """Return the root record of a chain: its model, no data, no draws.

    Parameters
    ----------
    chain, model
        Name of the chain, and what is fixed for its life.
    branch
        Of a branch, ``chain`` and ``record`` of the link that it starts from.
    """
    return {
        "schema": SCHEMA,
        "kind": Kind.GENESIS,
        "chain": chain,
        "previous": None,
        "prior": None,
        "model": model,
        "branch": branch,
    }


def _number(text: str) -> int | float:
    """Read an integer; one beyond 2^53 was a float when it was written."""
    return int(text) if len(text) < 16 else float(text)


def _corrupt(found: str) -> LedgerCorrupt:
    return LedgerCorrupt(
        "A record cannot be read",
        expected=f"the canonical JSON of a {SCHEMA} record",
        found=found,
        todo="run `lindley verify` on the chain; restore the artifact from a backup",
    )
