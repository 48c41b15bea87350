"""The errors Lindley raises: what happened, what was expected, what was found, what to do.

Every error a user can cause derives from `LindleyError`, so a caller at the edge (command line, flow)
catches one type, prints one paragraph and exits with a code that is not 0.
"""

from __future__ import annotations

import errno

#: Error numbers of the operating system that do not pass by themselves.
LASTING = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG}


class LindleyError(Exception):
    """Base of every error that Lindley raises on purpose.

    The class attribute `transient` states whether the same call may succeed when it is tried again;
    `usual_todo` is what the reader can do next where an error does not state it.

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

    transient: bool = False
    usual_todo: str = ""

    def __init__(self, happened: str, *, expected: str = "", found: str = "", todo: str = "") -> None:
        self.happened, self.expected, self.found = happened, expected, found
        self.todo = todo or self.usual_todo
        parts = {"": happened, "Expected: ": expected, "Found: ": found, "To do: ": self.todo}
        texts = (f"{label}{text.rstrip('.')}." for label, text in parts.items() if text or not label)
        super().__init__(" ".join(texts))

    def as_dict(self) -> dict[str, str]:
        """Return the error as plain strings, for `.reason.json` files and `--json` output."""
        parts = {name: getattr(self, name) for name in ("happened", "expected", "found", "todo")}
        return {"error": type(self).__name__} | parts


def reason(error: BaseException) -> str:
    """Return the first line of an error that other code raised, with its type where the text says little."""
    text = str(error).strip().splitlines()
    if isinstance(error, NotImplementedError) and text:
        return text[0].rstrip(".")[:200]
    return f"{type(error).__name__}: {text[0] if text else ''}".rstrip(": ")[:200]


class NameRefused(LindleyError):
    """A chain or file name that must not reach a path, a registry or a page."""


class BatchRefused(LindleyError):
    """A file or table that cannot become a batch: unreadable, wrong schema, empty, duplicate keys."""


class BatchUnreadable(BatchRefused):
    """The bytes of a file cannot be read as a table at all."""


class FileUnavailable(LindleyError):
    """A file or folder that the operating system did not let Lindley read, write or move.

    The batch is not at fault: its file stays where it is, and its chain waits for it. Transient unless
    a permission is missing: a disk may answer again.

    Parameters
    ----------
    happened, todo
        As in `LindleyError`.
    cause
        The operating system's error.
    """

    def __init__(self, happened: str, cause: OSError, *, todo: str) -> None:
        super().__init__(
            happened,
            expected="files and folders that this user may read and write, on a disk that answers",
            found=cause.strerror or str(cause),
            todo=todo,
        )
        self.transient = cause.errno not in LASTING


class NotSetAside(BatchRefused):
    """A batch that was refused, and whose file may not be moved to ``rejected/``.

    The file stays where it is. No batch of its chain waits for it; each run refuses it again.
    """


class OverlapRefused(BatchRefused):
    """Rows of the batch are already in the chain under the same row key."""


class GapRefused(LindleyError):
    """A batch that continues from another one, which does not count yet."""


class DeclarationRefused(LindleyError):
    """A model declaration that is missing, ambiguous or inconsistent."""


class UnknownChain(LindleyError):
    """No chain or declaration of that name exists."""


class UnknownLink(LindleyError):
    """The chain has no link of that number or digest."""


class DecisionRefused(LindleyError):
    """A version cannot be approved or rejected so."""


class AmendmentRefused(LindleyError):
    """A retraction, correction, rollback or branch that the chain cannot take."""


class KeyRefused(LindleyError):
    """A key for signatures that cannot be used: missing, of another kind, with a passphrase."""


class WitnessRefused(LindleyError):
    """A file that does not state a chain's head."""


class AcknowledgementRefused(LindleyError):
    """A file that does not state which findings of a chain a person knows."""


class NotAsRecorded(LindleyError):
    """A chain with findings of the verifier."""


class MemberRefused(LindleyError):
    """A member of a panel that is named wrongly, is not there, or has a key that cannot be one."""


class ProofRefused(LindleyError):
    """A proof of a member that cannot be read, or does not lead to its root."""


class PanelRefused(LindleyError):
    """What cannot be done with a panel, whose link holds the beliefs of many members."""


def not_of_panels(name: str, what: str, todo: str = "") -> PanelRefused:
    """Return the refusal of something that a panel does not do; nothing was written."""
    return PanelRefused(
        f"{name} is a panel: {what}",
        expected="a chain with one belief",
        found="a chain whose declaration has `by`; its links hold the beliefs of many members",
        todo=todo or "see the guide on panels for what they do; nothing was written",
    )


class ModelRefused(LindleyError):
    """A PyMC model that cannot be updated sequentially as declared."""


class CoordinatesMismatch(ModelRefused):
    """The model's carried variables cannot be matched with the prior's coordinates."""


class FitFailed(LindleyError):
    """The sampler could not produce draws at all (as against draws that fail the gate)."""


class LedgerCorrupt(LindleyError):
    """Something read from the ledger is missing, unreadable, or not what was registered."""

    usual_todo = "run `lindley verify` on the chain; restore what it names from a backup"


class LedgerMoved(LindleyError):
    """A ledger in another folder than the one that its addresses name, which no server can serve."""


class FolderRefused(LindleyError):
    """A folder cannot become a working folder, because it has files of the same names."""


class HomeRefused(LindleyError):
    """The place of a chain's runs must not take another one: it was deleted, or its files go elsewhere."""


class LedgerUnavailable(LindleyError):
    """The tracking server, registry or artifact store did not answer; it may answer again."""

    transient = True


class AccessRefused(LedgerUnavailable):
    """The tracking server, registry or artifact store denies access; a new attempt gives no permission."""

    transient = False


class SourceUnavailable(LindleyError):
    """A source that is pulled does not answer, denies access, or changed while it was read."""

    transient = True


class RevisionRefused(LindleyError):
    """Rows of a source were revised, and the declaration refuses that."""


class LostRace(LindleyError):
    """Another writer moved the head first; the same batch, fitted again on the new head, may succeed."""

    transient = True
