"""Merkle trees and inclusion proofs as in RFC 6962, section 2.1, over SHA-256.

A hash of a leaf is ``sha256(0x00 || data)``, that of a node ``sha256(0x01 || left || right)``; without leaves
it is that of no bytes. A tree of n leaves is split at the largest power of two below n.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

EMPTY = hashlib.sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node above two."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def levels_of(leaves: Sequence[bytes]) -> list[list[bytes]]:
    """Return the hashes of every level of a tree, those of its leaves first, its root alone last.

    The last of an odd number of hashes rises unchanged, which gives the tree of the RFC.
    """
    levels = [list(leaves)]
    while len(levels[-1]) > 1:
        below = levels[-1]
        above = [node_hash(below[i], below[i + 1]) for i in range(0, len(below) - 1, 2)]
        levels.append(above + below[len(above) * 2 :])
    return levels


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Return the root of a tree, from the hashes of its leaves in order."""
    return levels_of(leaves)[-1][0] if leaves else EMPTY


def path_of(leaves: Sequence[bytes], place: int) -> list[bytes]:
    """Return the inclusion proof of the leaf at `place` (from 0): hashes from the lowest to the highest."""
    path = []
    for level in levels_of(leaves)[:-1]:
        beside = place ^ 1
        if beside < len(level):
            path.append(level[beside])
        place >>= 1
    return path


def root_from(leaf: bytes, place: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """Return the root to which an inclusion proof leads (RFC 9162, section 2.1.3.2); None if it is none.

    Parameters
    ----------
    leaf
        Hash of the leaf.
    place, size
        Place of the leaf (from 0), and number of leaves.
    path
        The proof.
    """
    if not 0 <= place < size:
        return None
    last, found = size - 1, leaf
    for beside in path:
        if last == 0:
            return None
        if place & 1 or place == last:
            found = node_hash(beside, found)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, beside)
        place, last = place >> 1, last >> 1
    return found if last == 0 else None
