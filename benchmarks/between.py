"""Write what a benchmark measured into a page, between two marks."""

from __future__ import annotations

from pathlib import Path


def write_between(page: Path, begin: str, end: str, text: str) -> None:
    """Replace what stands between two lines of a page; the rest stays.

    Raises
    ------
    ValueError
        If the page does not hold each of them once, in order.
    """
    held = page.read_text(encoding="utf-8")
    if held.count(begin) != 1 or held.count(end) != 1 or held.index(begin) > held.index(end):
        raise ValueError(f"{page.name} does not hold the line {begin} once, and {end} once after it")
    before, after = held[: held.index(begin)], held[held.index(end) :]
    page.write_text(f"{before}{begin}\n\n{text}\n\n{after}", encoding="utf-8")
