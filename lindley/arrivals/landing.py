"""The landing folder: list arrivals, detect complete files, archive accepted ones.

Files arrive in ``landing/CHAIN/``; accepted ones move to ``store/CHAIN/DIGEST.EXT``, rejected ones to
``rejected/CHAIN/`` with a report ``.reason.json``. Files are never overwritten, and a file appears
under its final name whole or not at all. This module handles files and parses nothing.

The folders may be on different file systems. A file that moves within one keeps its inode, so a writer
that still has it open could change it afterwards; its digest reveals that.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from stat import S_ISREG
from typing import TYPE_CHECKING

from lindley.atomic import Identity, move_new, remove, without_waiting, write_new
from lindley.batch import formats
from lindley.errors import BatchRefused, FileUnavailable, NameRefused
from lindley.names import CHAIN_NAME, check_chain_name, shown_name

if TYPE_CHECKING:
    import pandas as pd

#: Endings of files that their writers have not finished.
TEMPORARY = (".tmp", ".part", ".partial", ".crdownload", "~")
#: A file is complete when it has not changed for this long, in seconds.
SETTLE_SECONDS = 1.0
#: A file that lacks the end of its format counts as complete, to be rejected, after this long, in seconds.
PATIENCE_SECONDS = 60.0

_DIGEST = re.compile(r"[0-9a-f]{64}")
_STEM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Arrival:
    """A file in the landing folder, or an object of a bucket.

    Parameters
    ----------
    chain
        Name of its sub-folder.
    path
        The file; of an object its key, which is no `Path` and so is opened by no mistake.
    size
        In bytes.
    mtime_ns
        Time of its last change, in nanoseconds since the epoch.
    e_tag
        The tag of an object's content; empty for files.
    """

    chain: str
    path: PurePath
    size: int
    mtime_ns: int
    e_tag: str = ""


@dataclass(frozen=True)
class Ignored:
    """An entry of the landing folder that is not an arrival, and why; `error` if it cannot be read."""

    path: PurePath
    why: str
    error: FileUnavailable | None = None


@dataclass(frozen=True)
class Listing:
    """The content of the landing folder at one moment; iterating gives the arrivals, oldest first."""

    files: tuple[Arrival, ...]
    ignored: tuple[Ignored, ...]

    def __iter__(self) -> Iterator[Arrival]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)


def arrivals(landing: Path) -> Listing:
    """List the files that arrived, oldest first (by time of last change, then chain and name).

    Files of any extension count, so that a wrong one is rejected with a report. Hidden files and those
    with a temporary ending are skipped. Symbolic links are never followed. A missing folder counts as
    empty; a chain's folder that cannot be listed is ignored, with the error.

    Raises
    ------
    FileUnavailable
        If the landing folder itself cannot be listed.
    """
    files: list[Arrival] = []
    ignored: list[Ignored] = []
    try:
        folders = _entries(landing)
    except OSError as error:
        raise _unseen(landing, error) from error
    for folder in folders:
        if folder.name.startswith("."):
            continue
        if not folder.is_dir(follow_symlinks=False):
            ignored.append(Ignored(Path(folder.path), "not in the folder of a chain"))
        elif not CHAIN_NAME.fullmatch(folder.name):
            ignored.append(Ignored(Path(folder.path), "the folder's name cannot be a chain"))
        else:
            _scan(folder, files, ignored)
    files.sort(key=lambda file: (file.mtime_ns, file.chain, file.path.name))
    return Listing(tuple(files), tuple(ignored))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        return []


def _unseen(path: PurePath, error: OSError) -> FileUnavailable:
    return FileUnavailable(
        f"{shown_name(path)} in the landing folder cannot be read",
        error,
        todo="check its permissions and its disk; the files there stay and are processed afterwards",
    )


def _scan(folder: os.DirEntry[str], files: list[Arrival], ignored: list[Ignored]) -> None:
    try:
        entries = _entries(Path(folder.path))
    except OSError as error:
        path = Path(folder.path)
        ignored.append(Ignored(path, "the folder cannot be listed", _unseen(path, error)))
        return
    for entry in entries:
        if entry.name.startswith(".") or entry.name.lower().endswith(TEMPORARY):
            continue
        path = Path(entry.path)
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue  # Removed since the folder was listed.
        except OSError as error:
            ignored.append(Ignored(path, "cannot be read", _unseen(path, error)))
            continue
        if entry.is_symlink():
            ignored.append(Ignored(path, "a symbolic link"))
        elif not S_ISREG(status.st_mode):
            ignored.append(Ignored(path, "a folder or special file"))
        else:
            files.append(Arrival(folder.name, path, status.st_size, status.st_mtime_ns))


def is_complete(
    path: Path,
    *,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    settle_seconds: float = SETTLE_SECONDS,
    patience_seconds: float = PATIENCE_SECONDS,
) -> bool:
    """Return whether the file's writer has finished with it.

    It has when the file did not change for `settle_seconds`; this function waits for that. A file whose
    format has an end (see `lindley.batch.formats.Format.complete`) must also have it; without it the file
    counts as complete only after `patience_seconds` without a change, so that it is rejected in the end.
    A slow writer of another format must write elsewhere, or under a temporary name, and rename.

    Parameters
    ----------
    path
        The file. One that vanishes is not complete.
    clock
        Returns seconds since the epoch, as file times.
    sleep
        Waits for a number of seconds.
    settle_seconds, patience_seconds
        In seconds.

    Raises
    ------
    OSError
        If the file exists but its status or content cannot be read.
    """
    try:
        before = path.stat()
        age = _age(before, clock())
        if age < settle_seconds:
            sleep(settle_seconds)
            after = path.stat()
            if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                return False
            age = _age(after, clock())
        form = formats.format_of(path)
        if form is None or form.complete is None or age >= patience_seconds:
            return True
        with open(path, "rb", opener=without_waiting) as file:
            return form.complete(file)
    except FileNotFoundError:
        return False


def _age(status: os.stat_result, now: float) -> float:
    """Return the seconds since the last change; a time in the future comes from a wrong clock."""
    changed = status.st_mtime if status.st_mtime <= now else status.st_ctime
    return now - changed


def check_stored_name(chain: str, digest: str) -> None:
    """Refuse what cannot name a file of the store.

    Raises
    ------
    NameRefused
        If chain or digest is not valid.
    """
    check_chain_name(chain)
    if not _DIGEST.fullmatch(digest):
        raise NameRefused(
            "A digest was refused", expected="64 lower-case hexadecimal digits", found=repr(digest)[:80]
        )


def archive(
    path: Path, store: Path, chain: str, digest: str, *, keep: bool = False, seen: Identity | None = None
) -> Path:
    """Move an accepted file to ``store/CHAIN/DIGEST.EXT`` and return that path.

    Idempotent: when the store has the digest already, under any extension, the first file stays and
    `path` is removed, because its content is stored.

    Parameters
    ----------
    path
        The file.
    store
        The store's folder; created if missing.
    chain, digest
        Name of the chain and content digest of the batch.
    keep
        Copy `path` and leave it where it is.
    seen
        The file that was read. Another one that has taken its name stays where it is. None takes any.

    Raises
    ------
    NameRefused
        If chain or digest is not valid.
    Replaced
        If another file has taken the name of the one that was read, and the store has no file of that
        digest.
    FileNotFoundError
        If there is no file, and the store has none of that digest.
    """
    check_stored_name(chain, digest)
    folder = store / chain
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{digest}{formats.extension_of(path)}"
    names = (folder / f"{digest}{form.extension}" for form in formats.FORMATS)
    stored = next((name for name in names if name.exists()), None)
    if stored is None and move_new(path, target, keep=keep, seen=seen):
        return target
    stored = stored or target
    if not keep and path.exists() and path.resolve() != stored.resolve():
        remove(path, seen)
    return stored


def drop(source: pd.DataFrame | Path, landing: Path, chain: str, stem: str) -> Path:
    """Put a frame (as Parquet) or a copy of a file into the landing folder, whole or not at all.

    Parameters
    ----------
    source
        A frame, written without its index, or the path of a file.
    landing
        The landing folder; created if missing.
    chain
        Name of the chain.
    stem
        File name without extension.

    Returns
    -------
    Path
        The file in the landing folder; the existing one when its bytes are the same.

    Raises
    ------
    NameRefused
        If chain or stem is not a valid name.
    BatchRefused
        If another file has that name, or the frame cannot be written.
    """
    name, data = to_drop(source, chain, stem)
    folder = landing / chain
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / name
    if not write_new(data, target) and target.read_bytes() != data:
        raise taken(target, target.stat().st_size, len(data))
    return target


def to_drop(source: pd.DataFrame | Path, chain: str, stem: str) -> tuple[str, bytes]:
    """Return name and bytes of what is dropped; see `drop`."""
    check_chain_name(chain)
    if not _STEM.fullmatch(stem):
        raise NameRefused(
            "A file name was refused",
            expected="a letter or digit, then up to 99 of A-Z, a-z, 0-9, '.', '_' and '-'",
            found=repr(stem)[:80],
        )
    data, extension = _content(source)
    return f"{stem}{extension}", data


def taken(path: PurePath, there: int, wanted: int) -> BatchRefused:
    """Return the refusal of a name that another file has, by the bytes of both."""
    return BatchRefused(
        f"{shown_name(path)} is already in the landing folder, with other content",
        expected="a free name, or the same file",
        found=f"{there:,} bytes there, {wanted:,} bytes to drop",
        todo="wait until it is processed, or use another name",
    )


def _content(source: pd.DataFrame | Path) -> tuple[bytes, str]:
    if isinstance(source, Path):
        return source.read_bytes(), formats.extension_of(source)
    import pyarrow as pa  # imported on use, to save start-up time
    import pyarrow.parquet as pq

    from lindley.batch.frames import table_from_frame

    buffer = pa.BufferOutputStream()
    pq.write_table(table_from_frame(source), buffer, write_page_checksum=True)
    return buffer.getvalue().to_pybytes(), ".parquet"
