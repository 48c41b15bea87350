"""Keys of Prefect artifacts."""

from __future__ import annotations

import re


def artifact_key(chain: str, what: str) -> str:
    """Return the key of a chain's artifact.

    Prefect admits lower-case letters, digits and dashes; a chain's name may hold underscores, and
    ``a_b`` and ``a-b`` share their keys.
    """
    return re.sub(r"[^a-z0-9]+", "-", f"{chain}-{what}".lower()).strip("-")
