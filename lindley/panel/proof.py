"""Proofs that a member's leaf is in a panel: at most 2 KB, checked without the panel."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

from lindley.errors import ProofRefused
from lindley.ledger.record import DIGEST, canonical
from lindley.panel.index import BITS, BUCKETS, bucket_of
from lindley.panel.key import key_from, member_text
from lindley.panel.merkle import leaf_hash, root_from
from lindley.panel.row import LEAF, MemberRow
from lindley.shapes import misfits

PROOF = "lindley-proof/1"
#: Bytes of a proof at most.
MOST_BYTES = 2048
_DIGEST_OR_NONE = (DIGEST, None)
SHAPE = {
    "schema": str,
    "chain": str,
    "link": int,
    "record": DIGEST,
    "root": DIGEST,
    "place": int,
    "size": int,
    "path": str,
    "leaf": {
        "schema": str,
        "key": dict,
        "link": int,
        "status": str,
        "prior": _DIGEST_OR_NONE,
        "batch": _DIGEST_OR_NONE,
        "matched": _DIGEST_OR_NONE,
        "results": DIGEST,
    },
}


@dataclass(frozen=True)
class Proof:
    """A proof that was read and leads to the root that it states.

    Parameters
    ----------
    document
        Its JSON values.
    """

    document: dict[str, Any]

    @property
    def member(self) -> str:
        """The member in text form."""
        return member_text(self.document["chain"], key_from(self.document["leaf"]["key"]))

    @property
    def root(self) -> str:
        """Root of the panel."""
        return str(self.document["root"])

    @property
    def record(self) -> str:
        """Digest of the record that states the root."""
        return str(self.document["record"])


def proof_of(
    row: MemberRow, chain: str, link: int, record: str, found: tuple[int, int, list[bytes]], root: bytes
) -> bytes:
    """Return the proof of a member's leaf; `found` is what `Index.proof` returned."""
    place, size, path = found
    document = {
        "schema": PROOF,
        "chain": chain,
        "link": link,
        "record": record,
        "root": root.hex(),
        "place": place,
        "size": size,
        "path": base64.b64encode(b"".join(path)).decode(),
        "leaf": row.leaf,
    }
    return canonical(document)


def read_proof(data: bytes) -> Proof:
    """Read a proof and follow it from its leaf to its root.

    Raises
    ------
    ProofRefused
        If it is none, or does not lead to the root that it states.
    """
    document = _document(data)
    wrong = list(misfits(document, SHAPE))
    if not wrong and (document["schema"] != PROOF or document["leaf"]["schema"] != LEAF):
        wrong = [f"schema {document['schema'][:40]!r} with {document['leaf']['schema'][:40]!r}"]
    if wrong:
        raise _refused("; ".join(wrong[:3]))
    try:
        joined = base64.b64decode(document["path"], validate=True)
    except binascii.Error as error:
        raise _refused(f"a path that is not base64 ({error})") from error
    path = [joined[i : i + 32] for i in range(0, len(joined), 32)]
    found = _root(document, path)
    if found != bytes.fromhex(document["root"]):
        raise ProofRefused(
            "The proof does not lead to the root that it states",
            expected=f"root {document['root']}",
            found="a path that ends nowhere" if found is None else f"root {found.hex()}",
            todo="ask for the proof again: leaf, path, place or root was changed",
        )
    return Proof(document)


def _root(document: dict[str, Any], path: list[bytes]) -> bytes | None:
    """Return the root to which a path leads through the bucket of its key; None where it leads to none."""
    leaf, key = document["leaf"], key_from(document["leaf"]["key"]).canonical
    inside, above = path[:-BITS], path[-BITS:]
    bucket = root_from(leaf_hash(canonical(leaf)), document["place"], document["size"], inside)
    return None if bucket is None else root_from(leaf_hash(bucket), bucket_of(key), BUCKETS, above)


def _document(data: bytes) -> dict[str, Any]:
    if len(data) > MOST_BYTES:
        raise _refused(f"{len(data):,} bytes")
    try:
        document = json.loads(data)
        if isinstance(document, dict) and canonical(document) == data.strip():
            return document
    except (ValueError, RecursionError) as error:
        raise _refused(f"no JSON ({type(error).__name__})") from error
    raise _refused("JSON that is no object in canonical form")


def _refused(found: str) -> ProofRefused:
    return ProofRefused(
        "The file is no proof of a member",
        expected=f"what `lindley prove` wrote: canonical JSON of at most {MOST_BYTES} bytes",
        found=found,
        todo="ask for the proof again",
    )
