"""Names: checked before they reach paths, the registry, pages or queries, and escaped for messages."""

from __future__ import annotations

import re
from pathlib import Path

from lindley.errors import NameRefused

#: Environment variable with the private key that links are signed with: a PEM file's path, or the PEM text.
KEY_VARIABLE = "LINDLEY_SIGNING_KEY"
#: Chain names: lower case, digits, `_` and `-`; starts with a letter; 63 characters at most.
CHAIN_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")


def check_chain_name(name: str) -> str:
    """Return `name` if it can be a chain name.

    Raises
    ------
    NameRefused
        If it has other characters than a-z, 0-9, `_`, `-`, does not start with a letter, or is
        longer than 63 characters.
    """
    if not isinstance(name, str) or not CHAIN_NAME.fullmatch(name):
        raise NameRefused(
            "A chain name was refused",
            expected="a lower-case letter, then up to 62 of a-z, 0-9, _ and -",
            found=repr(name)[:80],
            todo="rename the chain in its declaration, or correct the name you typed",
        )
    return name


def shown_name(path: Path) -> str:
    """Return a file's name for a message: escaped and shortened, without its folder."""
    name = printable(path.name)
    return name if len(name) <= 80 else name[:60] + "..." + name[-17:]


def printable(text: str) -> str:
    """Return text for records, pages and terminals, with unprintable characters escaped."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
