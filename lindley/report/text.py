"""Text for people: on one line, with countable nouns."""

from __future__ import annotations

#: Stands for a name without visible characters.
UNNAMED = "(unnamed)"


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a count with its noun: ``1 row``, ``1,200 rows``; `plural` where that has no plain s."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def one_line(text: object, limit: int = 80) -> str:
    """Return `text` on one line, without invisible characters, cut in the middle to `limit` characters.

    Line breaks, control characters and the format characters that reorder or hide text become spaces,
    so that the text shown is the text given.

    Parameters
    ----------
    text
        Anything; its `str` is used.
    limit
        Number of characters of the result at most, 2 or more.
    """
    shown = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    if len(shown) > limit:
        # The end of a label, such as an index, distinguishes it as often as its beginning.
        tail = (limit - 1) // 3
        shown = shown[: limit - 1 - tail] + "…" + (shown[-tail:] if tail else "")
    return shown or UNNAMED
