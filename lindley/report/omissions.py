"""What is for people and could not be made: a sentence each, instead of a failure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from lindley.errors import reason


@dataclass
class Omissions:
    """Sentences on descriptions that were left out.

    A fit is worth more than its words, pictures and predictive draws: these fail for themselves.
    """

    sentences: list[str] = field(default_factory=list)

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """Run the block; where it fails, a sentence says that `what` was left out, and why."""
        try:
            yield
        except Exception as error:  # a model's own code may fail in any way
            self.add(what, reason(error))

    def add(self, what: str, why: str) -> None:
        """Note that something was left out."""
        sentence = f"{what} left out: {why}"
        if sentence not in self.sentences:
            self.sentences.append(sentence)
