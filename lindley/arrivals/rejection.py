"""Rejected files: moved out of the landing folder, each with a report."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path, PurePath

from lindley import failpoints
from lindley.atomic import Identity, Replaced, move_new, write_new
from lindley.errors import FileUnavailable, LindleyError
from lindley.names import check_chain_name, shown_name

#: Bytes of a rejected file's name at most: leaves room for ``-N.reason.json`` within the usual 255.
_NAME_BYTES = 200
#: What the name of a report ends in, after that of its file.
REPORT = ".reason.json"


def reject(
    path: Path, rejected: Path, chain: str, error: LindleyError, *, at: str, seen: Identity | None = None
) -> Path:
    """Move an invalid file to ``rejected/CHAIN/`` with a report, and return its new path.

    The name is made safe (no control characters, no leading dash or dot, at most 200 bytes) and gets
    ``-1``, ``-2`` ... when it is taken. The report ``NAME.reason.json`` contains the error, the original
    name and `at`. It is written first: a crash can leave a report without a file, never a file without
    a report.

    Parameters
    ----------
    path
        The file.
    rejected
        Folder of rejected files; created if missing.
    chain
        Name of the chain.
    error
        Why it is rejected.
    at
        Time of the rejection, in ISO 8601.
    seen
        The file that is rejected; None takes any.

    Raises
    ------
    NameRefused
        If `chain` is not a valid chain name.
    FileNotFoundError
        If the file does not exist any more; nothing is left behind.
    Replaced
        If another file has its name; that one stays, and nothing is left behind.
    FileUnavailable
        If it cannot be moved; it stays, and nothing is left behind.
    """
    check_chain_name(chain)
    try:
        return _reject(path, rejected, chain, error, at, seen)
    except FileNotFoundError:
        raise
    except OSError as cause:
        raise FileUnavailable(
            f"{shown_name(path)} cannot be moved to {rejected.name}/ ({error.happened.rstrip('.')})",
            cause,
            todo="remove the file, or make it and both folders writable; each run refuses it until then",
        ) from cause


def _reject(
    path: Path, rejected: Path, chain: str, error: LindleyError, at: str, seen: Identity | None
) -> Path:
    path.lstat()
    folder = rejected / chain
    folder.mkdir(parents=True, exist_ok=True)
    text = report(path, chain, error, at)
    for name in candidates(path.name):
        target, reason = folder / name, folder / f"{name}{REPORT}"
        if target.exists() or not write_new(text, reason):
            continue
        failpoints.reach("reason-written")
        try:
            if move_new(path, target, seen=seen):
                return target
        except (OSError, Replaced):  # removed, replaced or not movable
            with suppress(OSError):
                if path.exists():
                    target.unlink(missing_ok=True)
                if not target.exists():
                    reason.unlink()
            raise
        reason.unlink()
    raise AssertionError("there is always a next name")  # pragma: no cover


def report(path: PurePath, chain: str, error: LindleyError, at: str) -> bytes:
    """Return the report on a rejected file; see `reject`."""
    document = {**error.as_dict(), "original_name": _printable(path.name), "chain": chain, "rejected_at": at}
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    return text.encode(errors="backslashreplace")


def _printable(name: str) -> str:
    """Return the name as valid Unicode, with other bytes escaped."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def candidates(name: str) -> Iterator[str]:
    """Return safe names for a file, the plain one first."""
    safe = "".join(c if c.isprintable() and c not in '/\\:*?"<>|' else "_" for c in _printable(name))
    safe = re.sub(r"^[-.~ ]+", "_", safe) or "_"
    extension = Path(safe).suffix.encode()[:20].decode(errors="ignore")
    stem = Path(safe).stem.encode()[: _NAME_BYTES - len(extension.encode())].decode(errors="ignore")
    yield f"{stem}{extension}"
    yield from (f"{stem}-{number}{extension}" for number in count(1))
