"""Write what was measured into README.md, between the marks of a section."""

from __future__ import annotations

from pathlib import Path

from benchmarks.between import write_between

README = Path(__file__).with_name("README.md")


def write(section: str, text: str, page: Path = README) -> None:
    """Replace a section of the page.

    Raises
    ------
    ValueError
        If the page has no such section.
    """
    begin, end = (f"<!-- written by benchmarks.serving.{section}: {place} -->" for place in ("begin", "end"))
    write_between(page, begin, end, text.strip())
