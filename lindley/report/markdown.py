"""Make untrusted text (names, messages, addresses) safe in Markdown.

Several renderers show the same note: MLflow's (Showdown, GitHub flavour), Prefect's (GitHub flavour) and
the terminal's (CommonMark). Escaped text is literal text in all of them.
"""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

from lindley.report.text import one_line

#: Characters of an address that stay unchanged; all others are percent-encoded, also quotes and brackets.
_URL_SAFE = ":/?#@!$&+,;=%~-._"
#: HTML and mentions become entities, which no renderer reads as structure.
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "@": "&#64;"}
#: A backslash before these is an escape for every renderer; the colon would begin an address or emoji.
_BACKSLASH = frozenset("\\`*_{}[]#!~|:")
_BEGINS_BLOCK = re.compile(r"^([-+=]|\d+(?=[.)]))")
_PLAIN_CODE = re.compile(r"[^`|\\<>&\"@]+")
_WWW = re.compile(r"www\.", re.IGNORECASE)


def escape(text: object, limit: int = 300) -> str:
    """Return `text` as one line of literal Markdown text, cut to `limit` characters before escaping."""
    shown = one_line(text, limit)
    escaped = "".join(_ENTITIES.get(c, f"\\{c}" if c in _BACKSLASH else c) for c in shown)
    escaped = _WWW.sub(lambda match: match.group()[:-1] + "\\.", escaped)
    # A leading hyphen or number must not begin a list, nor a row of = make a heading.
    return _BEGINS_BLOCK.sub(_block_start_escaped, escaped)


def _block_start_escaped(match: re.Match[str]) -> str:
    start = match.group()
    return f"&#{ord(start)};" if not start.isdigit() else f"{start[:-1]}&#{ord(start[-1])};"


def code(text: object, limit: int = 60) -> str:
    """Return a name in monospace where that is safe, as escaped text otherwise.

    A backtick, bar or backslash inside a code span means something else to each renderer.
    """
    shown = one_line(text, limit)
    return f"`{shown}`" if _PLAIN_CODE.fullmatch(shown) else escape(shown, limit)


def link(label: object, address: str, limit: int = 400) -> str:
    """Return a Markdown link, or the label alone if the address is not one of http or https.

    Parameters
    ----------
    label
        The text of the link, escaped.
    address
        The address; percent-encoded where it could end the link early.
    limit
        A longer address is left out, because a cut one would lead elsewhere.
    """
    text = escape(label, 80)
    try:
        parts = urlsplit(address)
    except ValueError:
        return text
    target = quote(address, safe=_URL_SAFE)
    if parts.scheme not in ("http", "https") or not parts.netloc or len(target) > limit:
        return text
    return f"[{text}]({target})"


def table(columns: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table of cells that are already safe."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
