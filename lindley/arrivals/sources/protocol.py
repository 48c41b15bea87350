"""What every source has in common, and what reading one gives.

A source is read as a whole into a scratch folder before anything is compared or fitted. A source that is
down, slow or changes meanwhile therefore changes nothing, and the rows are compared in bounded memory.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from lindley.errors import DeclarationRefused, SourceUnavailable

#: What becomes of rows whose values changed.
Revisions = Literal["correct", "report", "refuse"]
#: What becomes of rows that are gone.
Vanished = Literal["report", "retract"]
_REVISIONS, _VANISHED = ("correct", "report", "refuse"), ("report", "retract")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_PASSWORD = re.compile(r"://[^/\s@]*:([^/\s]+)@")
#: Seconds that reading a source may take in all.
TIMEOUT = 600.0


@dataclass(frozen=True, kw_only=True)
class Pulled:
    """What was read of a source.

    Parameters
    ----------
    version
        The source's version, by the names that the source gives its parts.
    path
        The file, or the folder of files, that holds the rows, below the scratch folder.
    name
        Name of the source for people, of at most 120 characters.
    complete
        Whether these are all rows of the source, so that a row that is not among them is gone.
    removed
        A folder of Parquet files with the rows that a source states to be gone; None if it states none.
    beside
        Columns about the source, not the rows: left out where the schema does not declare them.
    """

    version: dict[str, str]
    path: Path
    name: str
    complete: bool
    removed: Path | None = None
    beside: tuple[str, ...] = ()


class Source(Protocol):
    """Where the rows of a chain come from."""

    @property
    def kind(self) -> str:
        """Kind of the source, for the record: ``snapshot``, ``sql`` or ``delta``."""

    @property
    def address(self) -> str:
        """Its address for records and messages: without user, password and query."""

    @property
    def revisions(self) -> Revisions:
        """What becomes of rows whose values changed."""

    @property
    def vanished(self) -> Vanished:
        """What becomes of rows that are gone."""

    def read(self, since: dict[str, str] | None, folder: Path, root: Path) -> Pulled | None:
        """Read what may be new.

        Parameters
        ----------
        since
            The version that the chain has in full; None if it has none.
        folder
            An empty scratch folder.
        root
            The working folder, to which relative paths belong.

        Returns
        -------
        Pulled or None
            None where the source still has the version `since`.

        Raises
        ------
        SourceUnavailable
            If it does not answer in time, denies access or changes while it is read.
        BatchRefused
            If what is there is no table.
        """


@dataclass
class Deadline:
    """The time by which a source must have been read.

    Parameters
    ----------
    name
        Name of the source, for messages.
    seconds
        From now on.
    """

    name: str
    seconds: float
    _end: float = field(init=False)

    def __post_init__(self) -> None:
        """Start the clock."""
        self._end = time.monotonic() + self.seconds

    def check(self) -> None:
        """Refuse to go on after the end.

        Raises
        ------
        SourceUnavailable
            If the time is over.
        """
        if time.monotonic() > self._end:
            raise unavailable(self.name, f"it was not read within {self.seconds:g} s")


def unavailable(name: str, found: str) -> SourceUnavailable:
    """Return the error of a source that cannot be read now."""
    return SourceUnavailable(
        f"The source {name} cannot be read",
        expected="a source that answers within its timeout and stays as it is while it is read",
        found=" ".join(found.split())[:300],
        todo="pull again when it answers; the chain is as it was",
    )


def check_choices(what: str, revisions: str, vanished: str, timeout: float) -> None:
    """Refuse policies and timeouts of a source that do not exist.

    Raises
    ------
    DeclarationRefused
        If one of them does not.
    """
    choices = (("revisions", revisions, _REVISIONS), ("vanished", vanished, _VANISHED))
    wrong = [(name, value, known) for name, value, known in choices if value not in known]
    if wrong:
        name, value, known = wrong[0]
        raise DeclarationRefused(
            f"The source {what} was refused",
            expected=f"{name}= one of {', '.join(known)}",
            found=repr(value)[:80],
            todo=f"correct {name}",
        )
    if not 0 < timeout < 1e6:
        raise DeclarationRefused(
            f"The source {what} was refused",
            expected="timeout= a number of seconds above 0",
            found=repr(timeout)[:80],
            todo="correct timeout",
        )


def expanded(address: str) -> str:
    """Return an address with the environment's values in the place of ``${NAME}``.

    Raises
    ------
    SourceUnavailable
        If the environment lacks one; the message names it.
    """

    def value(found: re.Match[str]) -> str:
        name = found.group(1)
        if name not in os.environ:
            raise SourceUnavailable(
                "The address of a source is not complete",
                expected=f"the environment variable {name}",
                found="no such variable",
                todo=f"set {name} where this command or the worker runs",
            )
        return os.environ[name]

    return _VARIABLE.sub(value, address)


def refuse_password(what: str, address: str) -> None:
    """Refuse a password that stands in a declaration: its file is stored with every link.

    Raises
    ------
    DeclarationRefused
        If there is one; the message does not show it.
    """
    found = _PASSWORD.search(_VARIABLE.sub("", address))
    if found is not None:
        raise DeclarationRefused(
            f"The address of the source {what} holds a password",
            expected="an address without one: the model file is stored with every link",
            found="a user with a password",
            todo="write ${NAME} in its place, and set the environment variable NAME",
        )
