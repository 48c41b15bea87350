"""Seeds: derived from digests, so that a link can be fitted again to the same draws."""

from __future__ import annotations

import hashlib


def derive_seed(*digests: str) -> int:
    """Return the seed of a link, from the digests of its prior, batch and model."""
    return int.from_bytes(hashlib.sha256("/".join(digests).encode()).digest()[:8], "big") >> 1
