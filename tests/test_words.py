"""The prose of code and documentation is plain and uses the glossary's words (docs/glossary.md)."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROSE = {".py", ".md", ".ipynb", ".yaml", ".toml"}
#: Words that hide the subject of a sentence, and how many may remain in the whole repository.
EVASIVE = r"\b(nobody|whoever|tells?|what (it|they) (was|were|is|are) made of)\b"
MOST = 9
#: Retired names of concepts, each with the one that took its place.
RETIRED = {
    r"\bresidents\b|\bresident (worker|process)": "warm worker, warm process",
    r"\bbaked\b": "inlined",
    r"\bceilings\b": "prior sd caps",
    r"\bstraightened\b|\bbent (map|triangular|margin)": "joint normal, triangular map, warped margins",
    r"\bput off\b": "deferred",
    r"\bholds? (it|them|the chain|a chain|chains) against\b": "compare",
    r"as far as that was seen": "a lower bound where not assessable",
    r"refitted by drift": "refitted when drift exceeds its budget",
    r"nobody can judge": "unassessable",
    r"what it promises, and what not": "guarantees and limitations",
    r"hindsight is blind": "hindsight cannot assess",
    r"with its reason beside it": "with a report",
    r"what the matches behind a fit did": "the error that earlier matched priors caused",
    r"someone means by a word": "references to links or batches",
}


def texts() -> list[Path]:
    """Return the tracked files with prose, this one left out."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    found = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in found if path.suffix in PROSE and path.is_file() and path != Path(__file__)]


def places(pattern: str) -> list[str]:
    """Return each line of the repository that a pattern matches, with where it is."""
    expression = re.compile(pattern, re.IGNORECASE)
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in texts()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if expression.search(line)
    ]


def test_evasive_words_are_rare() -> None:
    found = places(EVASIVE)
    assert len(found) <= MOST, "\n".join(found)


@pytest.mark.parametrize("retired", RETIRED)
def test_retired_names_are_gone(retired: str) -> None:
    assert not places(retired), f"write {RETIRED[retired]!r}:\n" + "\n".join(places(retired))


def test_the_search_finds_what_it_searches() -> None:
    assert re.search(EVASIVE, "nobody tells whoever asks")
    assert not re.search(EVASIVE, "the verifier reports it")
    assert places(r"sequential Bayesian updating")
    assert len(texts()) > 300
