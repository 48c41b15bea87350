"""The errors Lindley raises: each says what happened, what was expected, what was found, what to do.

Every error a user can cause derives from `LindleyError`, so a caller at the edge (command line, flow)
catches one type, prints one paragraph and exits with a code that is not 0.
"""

from __future__ import annotations

import errno

#: What the operating system says that does not pass by itself.
_LASTING = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG}


class LindleyError(Exception):
    """Base of every error that Lindley raises on purpose.

    Parameters
    ----------
    happened
        What happened, one sentence.
    expected
        What Lindley expected instead.
    found
        What it found.
    todo
        What the reader can do next.
    """

    def __init__(self, happened: str, *, expected: str = "", found: str = "", todo: str = "") -> None:
        self.happened, self.expected, self.found, self.todo = happened, expected, found, todo
        parts = [happened.rstrip(".") + "."]
        if expected:
            parts.append(f"Expected: {expected.rstrip('.')}.")
        if found:
            parts.append(f"Found: {found.rstrip('.')}.")
        if todo:
            parts.append(f"To do: {todo.rstrip('.')}.")
        super().__init__(" ".join(parts))

    def as_dict(self) -> dict[str, str]:
        """Return the error as plain strings, for `.reason.json` files and `--json` output."""
        return {
            "error": type(self).__name__,
            "happened": self.happened,
            "expected": self.expected,
            "found": self.found,
            "todo": self.todo,
        }

    @property
    def transient(self) -> bool:
        """Whether the same call may succeed when it is simply tried again."""
        return False


class NameRefused(LindleyError):
    """A chain or file name that must not reach a path, a registry or a page."""


class BatchRefused(LindleyError):
    """A file or table that cannot become a batch: unreadable, wrong schema, empty, duplicate keys."""


class BatchUnreadable(BatchRefused):
    """The bytes of a file cannot be read as a table at all."""


class FileUnavailable(LindleyError):
    """A file or folder that the operating system did not let Lindley read, write or move.

    That is not the fault of a batch: its file stays where it is, and its chain waits for it.

    Parameters
    ----------
    happened
        What happened, one sentence.
    cause
        What the operating system said.
    todo
        What the reader can do next.
    """

    def __init__(self, happened: str, cause: OSError, *, todo: str) -> None:
        super().__init__(
            happened,
            expected="files and folders that this user may read and write, on a disk that answers",
            found=cause.strerror or str(cause),
            todo=todo,
        )
        self._lasts = cause.errno in _LASTING

    @property
    def transient(self) -> bool:
        """A disk may answer again; a permission must be given."""
        return not self._lasts


class OverlapRefused(BatchRefused):
    """Rows of the batch are already in the chain under the same row key."""


class DeclarationRefused(LindleyError):
    """A model declaration that is missing, ambiguous or inconsistent."""


class UnknownChain(LindleyError):
    """No chain or declaration of that name exists."""


class UnknownLink(LindleyError):
    """The chain has no link of that number or digest."""


class AmendmentRefused(LindleyError):
    """A retraction, correction, rollback or branch that the chain cannot take."""


class KeyRefused(LindleyError):
    """A key for signatures that cannot be used: missing, of another kind, with a passphrase."""


class WitnessRefused(LindleyError):
    """A file that is no statement of a chain's head."""


class NotAsRecorded(LindleyError):
    """A chain that the verifier found something in."""


class ModelRefused(LindleyError):
    """A PyMC model that cannot be updated sequentially as declared."""


class CoordinatesMismatch(ModelRefused):
    """The model's carried variables cannot be matched with the prior's coordinates."""


class FitFailed(LindleyError):
    """The sampler could not produce draws at all (as against draws that fail the gate)."""


class LedgerCorrupt(LindleyError):
    """Something read from the ledger does not have the digest that its record states."""


class LedgerUnavailable(LindleyError):
    """The tracking server, registry or artifact store did not answer."""

    @property
    def transient(self) -> bool:
        """A store that is down may be up again."""
        return True


class AccessRefused(LedgerUnavailable):
    """The tracking server, registry or artifact store knows who asks, and does not let them."""

    @property
    def transient(self) -> bool:
        """Trying again does not give a permission."""
        return False


class LostRace(LindleyError):
    """Another writer moved the head first; the batch must be fitted again on the new head."""

    @property
    def transient(self) -> bool:
        """The same batch fitted on the new head can win."""
        return True
