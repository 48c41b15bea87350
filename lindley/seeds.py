"""Seeds derived from digests: a second fit of a link gives the same draws."""

from __future__ import annotations

import hashlib


def derive_seed(*digests: str) -> int:
    """Return the seed of a link, from the digests of its prior, batch and model."""
    return int.from_bytes(hashlib.sha256("/".join(digests).encode()).digest()[:8], "big") >> 1
