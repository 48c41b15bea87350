"""Links between the files of the repository, and the pages that the code names, exist.

`make docs` checks the pages of the site; this covers what is read outside it, and takes no build.
"""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"(?<!`)\[[^\]]*\]\((?P<path>[^)#:\s]*)(?:#(?P<anchor>[^)\s]+))?\)")
FENCE = re.compile(r"^(```|:::).*?^\1", flags=re.MULTILINE | re.DOTALL)


def tracked(pattern: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", pattern], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()]


def generated(path: Path) -> bool:
    """Whether `make docs` writes a page: it checks the links to such pages itself."""
    return (
        path.is_relative_to(ROOT / "docs/reference/generated") or path == ROOT / "docs/reference/commands.md"
    )


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as repository browsers and MyST make them."""
    headings = re.findall(
        r"^#{1,6} (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), flags=re.MULTILINE
    )
    return {
        re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize("page", tracked("*.md"), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    for link in LINK.finditer(FENCE.sub("", page.read_text(encoding="utf-8"))):
        target = (page.parent / link["path"]).resolve() if link["path"] else page
        if generated(target):
            continue
        assert target.exists(), link[0]
        if link["anchor"] and target.suffix == ".md":
            assert link["anchor"] in anchors(target), link[0]


def test_pages_that_the_code_names_exist():
    for source in [*tracked("*.py"), *tracked("*.yaml"), *tracked("Makefile")]:
        for name in re.findall(r"\bdocs/[\w/.-]+\.md\b", source.read_text(encoding="utf-8")):
            assert generated(ROOT / name) or (ROOT / name).exists(), (
                f"{source.relative_to(ROOT)} names {name}"
            )
