"""Show files from outside `docs/` as pages, and keep the links between both working.

Sources link by relative paths, as a repository browser follows them. Where a link leaves `docs/`, it goes to
the page that shows its target; a target that no page shows (the licence) becomes plain text.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
#: Page of the site -> file of the repository that it shows. Each page exists as a one-line stub.
PAGES = {
    "changelog": "CHANGELOG.md",
    "contributing": "CONTRIBUTING.md",
    "reference/benchmark-drift": "benchmarks/drift/README.md",
    "reference/benchmark-fidelity": "benchmarks/fidelity/README.md",
    "reference/benchmark-panel": "benchmarks/panel/README.md",
    "reference/benchmark-serving": "benchmarks/serving/README.md",
    "reference/benchmark-speed": "benchmarks/speed/README.md",
    "reference/benchmark-vintages": "benchmarks/vintages/README.md",
    "reference/data": "data/README.md",
    "reference/faults": "tests/faults/README.md",
}
_LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]+)\]\((?P<path>[^)#:\s]+)(?P<anchor>#[^)\s]+)?\)")


def _on_site(target: Path) -> str | None:
    """Return the page that shows a file of the repository, by its path below `docs/`; None: no page does."""
    shown = {ROOT / source: f"{page}.md" for page, source in PAGES.items()} | {ROOT / "README.md": "index.md"}
    if target in shown:
        return shown[target]
    return target.relative_to(DOCS).as_posix() if target.is_relative_to(DOCS) else None


def rewrite(text: str, source: Path, page: Path) -> str:
    """Return `text` with its relative links changed from those of the file `source` to those of `page`."""

    def replace(match: re.Match[str]) -> str:
        target = Path(os.path.normpath(source.parent / match["path"]))
        if not target.exists():
            return match[0]  # Sphinx reports it
        inside = _on_site(target)
        if inside is None:
            return match["text"]
        return f"[{match['text']}]({os.path.relpath(DOCS / inside, page.parent)}{match['anchor'] or ''})"

    return _LINK.sub(replace, text)


def _read(app: Sphinx, docname: str, content: list[str]) -> None:
    page = DOCS / f"{docname}.md"
    if not page.exists():
        return
    source = page
    if docname in PAGES:
        source = ROOT / PAGES[docname]
        app.env.note_dependency(source)
        content[0] = source.read_text(encoding="utf-8")
    content[0] = rewrite(content[0], source, page)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.connect("source-read", _read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
