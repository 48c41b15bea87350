"""Names of parameters and metrics as MLflow takes them."""

from __future__ import annotations

import posixpath
import re

from lindley.ledger.record import digest

#: Characters of a key at most.
KEY_CHARACTERS = 250
#: Names that stay readable: words, or a variable with the labels of one of its elements.
_READABLE = re.compile(r"[\w\-][\w\- /]*(\[[\w\- ]+(, [\w\- ]+)*\])?")


def key(name: str) -> str:
    """Return a name that MLflow accepts as a key; two names never give the same one.

    ``beta[north, x]`` becomes ``beta.north.x``; any other name that must change ends in a digest.
    """
    if _READABLE.fullmatch(name) and posixpath.normpath(name) == name and len(name) <= KEY_CHARACTERS:
        return name.removesuffix("]").replace("[", ".").replace(", ", ".")
    # MLflow takes keys for paths: no empty, "." or ".." part is allowed.
    parts = [part.strip(". ") for part in re.sub(r"[^\w\-. /]", ".", name).split("/")]
    plain = "/".join(part for part in parts if part)
    return f"{plain[: KEY_CHARACTERS - 50]}.{digest(name.encode('utf-8', 'backslashreplace'))[:16]}"
