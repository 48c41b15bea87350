"""Write what was measured into README.md, between the marks of a section."""

from __future__ import annotations

from pathlib import Path

README = Path(__file__).with_name("README.md")


def write(section: str, text: str, page: Path = README) -> None:
    """Replace a section of the page.

    Raises
    ------
    ValueError
        If the page has no such section.
    """
    held = page.read_text(encoding="utf-8")
    begin, end = (
        f"<!-- written by benchmarks.serving.{section}: {place} -->\n" for place in ("begin", "end")
    )
    before, found, rest = held.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{page.name} has no section {section}")
    page.write_text(f"{before}{begin}\n{text.strip()}\n\n{end}{after}", encoding="utf-8")
