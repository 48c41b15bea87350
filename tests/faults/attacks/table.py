"""What a try is, and the table of all tries that the runner writes: tests/faults/attacks.csv."""

from __future__ import annotations

import csv
import re
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lindley.errors import LindleyError
from lindley.ledger.protocol import Ledger
from lindley.verification.gather import verify_chain

#: Where the threat model stands; a try that is listed there quotes it.
PAGE = Path(__file__).parents[3] / "docs" / "ledger-format.md"
#: Seconds after which a try counts as hung.
PATIENCE = 60
FIELDS = ("id", "surface", "tried", "expected", "measured", "reference")
#: Errors are one paragraph that people read in a terminal.
_LONGEST = 2000


@dataclass(frozen=True)
class Try:
    """One try.

    Parameters
    ----------
    id
        Its name, from that of the function that makes it.
    surface
        What is attacked.
    tried
        What is done.
    expected
        How the measured outcome begins: ``refused``, ``found`` and the rule, ``harmless`` (it is taken, and
        does what it should), or ``threat model``.
    make
        Does it on the surface's ground and returns the outcome.
    reference
        Of a try that is in the threat model: words of that section.
    costly
        Whether it takes many seconds: it is made on request only.
    """

    id: str
    surface: str
    tried: str
    expected: str
    make: Callable[[Any], str]
    reference: str = ""
    costly: bool = False

    def measured(self, ground: Any) -> str:
        """Make the try and return its outcome; an error that Lindley does not explain is one, too."""
        try:
            with patience():
                return self.make(ground)
        except AssertionError:
            raise
        except Exception as error:  # whatever it is, it was not foreseen
            return f"unforeseen {type(error).__name__}: {str(error)[:200]}"

    def as_expected(self, outcome: str) -> bool:
        """Return whether an outcome is the expected one."""
        wanted, got = self.expected.replace(":", " ").split(), outcome.replace(":", " ").split()
        return bool(got) and got[0] == wanted[0] and set(wanted[1:]) <= set(got[1:])


@dataclass
class Surface:
    """Collects the tries on one surface, in the order in which they are written."""

    name: str
    short: str
    tries: list[Try] = field(default_factory=list)

    def attempt(
        self, tried: str, expected: str, reference: str = "", *, costly: bool = False
    ) -> Callable[[Callable[[Any], str]], Callable[[Any], str]]:
        """Return a decorator that lists a function as a try."""

        def add(function: Callable[[Any], str]) -> Callable[[Any], str]:
            listed = Try(
                f"{self.short}_{function.__name__}", self.name, tried, expected, function, reference, costly
            )
            self.tries.append(listed)
            return function

        return add

    def each(
        self, prefix: str, cases: dict[str, Any], expected: str, *, costly: bool = False
    ) -> Callable[[Callable[[Any, Any], str]], None]:
        """Return a decorator that lists a function as one try per case: its words, and its argument."""

        def add(function: Callable[[Any, Any], str]) -> None:
            for words, given in cases.items():
                tried = f"{prefix} {words}".strip()
                name = (
                    f"{self.short}_{function.__name__}_{re.sub('[^a-z0-9]+', '_', words.lower()).strip('_')}"
                )
                same = sum(one.id.startswith(name) for one in self.tries)
                listed = f"{name}_{same + 1}" if same else name
                made = partial(_with, function, given)
                self.tries.append(Try(listed, self.name, tried, expected, made, costly=costly))

        return add


def _with(function: Callable[[Any, Any], str], given: Any, ground: Any) -> str:
    return function(ground, given)


# -- outcomes -----------------------------------------------------------------------------------------


def refused(call: Callable[[], Any]) -> str:
    """Return ``refused`` and the error of a call, or what it did instead."""
    try:
        did = call()
    except LindleyError as error:
        text = str(error)
        assert len(text) < _LONGEST, text
        assert text.isprintable(), ascii(text)
        return f"refused: {type(error).__name__}"
    return f"done: {str(did)[:100]}"


def verdict(ledger: Ledger, chain: str) -> str:
    """Return the rules that report something: ``found R04 R18``, ``warned R19`` or ``nothing``."""
    try:
        report = verify_chain(ledger, chain)
    except LindleyError as error:
        return f"refused: {type(error).__name__}"
    errors = sorted({finding.rule for finding in report.findings if finding.severity == "error"})
    if errors:
        return " ".join(["found", *errors])
    rules = sorted({finding.rule for finding in report.findings})
    return " ".join(["warned", *rules]) if rules else "nothing"


@contextmanager
def patience() -> Iterator[None]:
    """Interrupt what takes too long; only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def hung(*_: object) -> None:
        raise TimeoutError(f"hung for {PATIENCE} s")

    before = signal.signal(signal.SIGALRM, hung)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# -- the tests ---------------------------------------------------------------------------------------


def marked(surface: Surface) -> list[Any]:
    """Return the tries on a surface as parameters; those that take long are made on request."""
    return [
        pytest.param(one, id=one.id, marks=[pytest.mark.faults] if one.costly else [])
        for one in surface.tries
    ]


# -- the table ----------------------------------------------------------------------------------------


def threat_model() -> str:
    """Return the section of the threat model, with single spaces."""
    text = PAGE.read_text(encoding="utf-8")
    section = text[text.index("## 10. Threat model") : text.index("## 11.")]
    return " ".join(section.split())


def line(one: Try, outcome: str) -> dict[str, str]:
    """Return a line of the table."""
    values = (one.id, one.surface, one.tried, one.expected, outcome, one.reference)
    return dict(zip(FIELDS, values, strict=True))


def write(lines: Iterable[dict[str, str]], path: Path) -> None:
    """Write the table; lines of tries that are not among these stay."""
    held = {entry["id"]: entry for entry in read(path)}
    held |= {entry["id"]: entry for entry in lines}
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(held.values())


def read(path: Path) -> list[dict[str, str]]:
    """Return the lines of an earlier run."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
