"""Names: checked before they reach paths, the registry, pages or queries, and escaped for messages."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import PurePath

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


def divided(found: Iterable[str]) -> tuple[list[str], list[str]]:
    """Divide names into those that a chain can have, and the others, escaped so that look-alikes show."""
    names = list(found)
    good = [name for name in names if CHAIN_NAME.fullmatch(name)]
    others = [name for name in names if not CHAIN_NAME.fullmatch(name)]
    return good, [printable(name).encode("ascii", "backslashreplace").decode()[:80] for name in others]


def is_text(name: str) -> bool:
    """Return whether a name is Unicode text: a file name of other bytes cannot be sent, stored or shown."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown_name(path: PurePath) -> str:
    """Return a file's name for a message: escaped and shortened, without its folder."""
    name = printable(path.name)
    return name if len(name) <= 80 else name[:60] + "..." + name[-17:]


def for_terminal(text: str) -> str:
    """Return text that a terminal shows and does not obey; spaces, tabs and line breaks stay."""

    def shown(c: str) -> bool:
        return c.isprintable() or c in "\n\t" or unicodedata.category(c) == "Zs"

    return "".join(c if shown(c) else printable(c) for c in text)


def printable(text: str) -> str:
    """Return text for records, pages and terminals, with unprintable characters escaped."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def is_member(text: str) -> bool:
    """Whether a reference names a member of a panel (``sales[store=12]``), not a chain."""
    return "[" in text
