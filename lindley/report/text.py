"""Names and sentences made safe to show on one line."""

from __future__ import annotations

#: What stands for a name of which nothing can be shown.
UNNAMED = "(unnamed)"


def one_line(text: object, limit: int = 80) -> str:
    """Return `text` on one line, without invisible characters, cut in the middle to `limit` characters.

    Line breaks, control characters and the format characters that reorder or hide text become
    spaces, so that what is shown is what is there.

    Parameters
    ----------
    text
        Anything; its `str` is used.
    limit
        Number of characters of the result at most, 2 or more.
    """
    shown = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    if len(shown) > limit:
        # The end of a label, such as an index, tells it apart as often as its beginning does.
        tail = (limit - 1) // 3
        shown = shown[: limit - 1 - tail] + "…" + (shown[-tail:] if tail else "")
    return shown or UNNAMED
