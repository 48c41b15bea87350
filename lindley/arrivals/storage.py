"""Where batches come from and go, behind one protocol: a folder or a bucket, as ``LINDLEY_DATA`` says.

A file in a folder is a `Path`. An object is a `PurePosixPath`, its key below the address: it cannot be
opened, only asked for through the storage. A file from elsewhere is a `Path` with both.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import lru_cache
from pathlib import Path, PurePath
from stat import S_ISREG
from typing import TYPE_CHECKING, Protocol

from lindley import atomic
from lindley.arrivals import landing, rejection
from lindley.arrivals.landing import Listing
from lindley.errors import LindleyError
from lindley.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

    from lindley.arrivals.objects import ObjectVersion
    from lindley.batch.batch import Batch

    #: Which file or object a name belonged to when it was looked at.
    type Seen = atomic.Identity | ObjectVersion


class Storage(Protocol):
    """Landing, store, rejected and corrections of a workspace.

    Nothing is overwritten. What landed leaves the landing folder only after its copy is stored, and only if
    it is still what was read; a process that is killed at any point loses nothing.
    """

    @property
    def root(self) -> PurePath:
        """The landing folder."""

    def landed(self, chain: str, name: str) -> PurePath:
        """Return where a file of a name lands."""

    def correction(self, chain: str, name: str) -> PurePath:
        """Return where a correction of a name is."""

    def has_landed(self, chain: str, path: PurePath) -> bool:
        """Return whether the file itself, not a link to it, is in the chain's landing folder."""

    def arrivals(self) -> Listing:
        """List what arrived, in order; see `lindley.arrivals.landing.arrivals`.

        Raises
        ------
        FileUnavailable
            If the landing folder cannot be listed.
        """

    def restore(self) -> None:
        """Give files their names back that a killed process was about to remove."""

    def is_complete(
        self, path: PurePath, *, clock: Callable[[], float], sleep: Callable[[float], None]
    ) -> bool:
        """Return whether a landed file's writer has finished; see `lindley.arrivals.landing.is_complete`."""

    def exists(self, path: PurePath) -> bool:
        """Return whether there is a file or folder."""

    def identity(self, path: PurePath) -> Seen | None:
        """Return what a name belongs to now; None where there is nothing."""

    def reading(self, path: PurePath, seen: Seen | None) -> AbstractContextManager[Path]:
        """Yield a file of this machine with the content of `path`; a private copy of an object.

        Raises
        ------
        BatchRefused
            If an object is too big to be fetched.
        Replaced
            If an object is not the one that was `seen` any more.
        FileUnavailable
            If an object cannot be fetched.
        """

    def archive(self, path: PurePath, chain: str, digest: str, *, keep: bool, seen: Seen | None) -> PurePath:
        """Move an accepted file to the store; see `lindley.arrivals.landing.archive`."""

    def write(self, batch: Batch, chain: str) -> PurePath:
        """Write a batch to the store as Parquet, in place of the file that it was read of."""

    def reject(
        self, path: PurePath, chain: str, error: LindleyError, *, at: str, seen: Seen | None
    ) -> PurePath:
        """Move an invalid file to the rejected ones; see `lindley.arrivals.rejection.reject`."""

    def drop(self, source: pd.DataFrame | Path, chain: str, stem: str) -> PurePath:
        """Let a frame or a file arrive; see `lindley.arrivals.landing.drop`."""

    def rejections(self) -> Iterator[float]:
        """Yield the times of the reports on rejected files, in seconds since the epoch."""

    def shown(self, path: PurePath) -> str:
        """Return a path, or the address of an object, for people."""


def storage_of(workspace: Workspace) -> Storage:
    """Return the storage of a workspace.

    Raises
    ------
    NameRefused
        If its bucket cannot be used as it is addressed.
    """
    if workspace.bucket is None:
        return Folder(workspace)
    return _bucket(workspace, os.getpid())


@lru_cache(maxsize=8)
def _bucket(workspace: Workspace, process: int) -> Storage:
    """Return a bucket with its connections, which a forked process does not share."""
    from lindley.arrivals.bucket import BucketStorage  # obstore is imported where there is a bucket

    return BucketStorage(workspace)


class Folder:
    """Landing, store, rejected and corrections as folders; see `Storage`."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    @property
    def root(self) -> Path:
        """The landing folder."""
        return self._workspace.landing

    def landed(self, chain: str, name: str) -> Path:
        """Return where a file of a name lands."""
        return self._workspace.landing / chain / name

    def correction(self, chain: str, name: str) -> Path:
        """Return where a correction of a name is."""
        return self._workspace.corrections / chain / name

    def has_landed(self, chain: str, path: PurePath) -> bool:
        """Return whether the file itself, not a link to it, is in the chain's landing folder."""
        path = Path(path)
        return not path.is_symlink() and path.parent.resolve() == (self._workspace.landing / chain).resolve()

    def arrivals(self) -> Listing:
        """List what arrived."""
        return landing.arrivals(self._workspace.landing)

    def restore(self) -> None:
        """Give files their names back that a killed process was about to remove."""
        with suppress(OSError):  # the listing reports what cannot be inspected
            for folder in self._workspace.landing.glob("*"):
                atomic.give_back(folder)

    def is_complete(
        self, path: PurePath, *, clock: Callable[[], float], sleep: Callable[[float], None]
    ) -> bool:
        """Return whether the writer of a file has finished."""
        return landing.is_complete(Path(path), clock=clock, sleep=sleep)

    def exists(self, path: PurePath) -> bool:
        """Return whether there is a file or folder."""
        return Path(path).exists()

    def identity(self, path: PurePath) -> atomic.Identity | None:
        """Return what a name belongs to now."""
        return atomic.identity(Path(path))

    @contextmanager
    def reading(self, path: PurePath, seen: Seen | None) -> Iterator[Path]:
        """Yield the file itself."""
        yield Path(path)

    def archive(self, path: PurePath, chain: str, digest: str, *, keep: bool, seen: Seen | None) -> Path:
        """Move an accepted file to the store."""
        return landing.archive(
            Path(path), self._workspace.store, chain, digest, keep=keep, seen=of_file(seen)
        )

    def write(self, batch: Batch, chain: str) -> Path:
        """Write a batch to the store as Parquet."""
        from lindley.batch.batch import write_batch  # imports pandas and Arrow

        stored = self._workspace.store / chain / f"{batch.digest}.parquet"
        stored.parent.mkdir(parents=True, exist_ok=True)
        write_batch(batch, stored)
        return stored

    def reject(self, path: PurePath, chain: str, error: LindleyError, *, at: str, seen: Seen | None) -> Path:
        """Move an invalid file to the rejected ones."""
        return rejection.reject(Path(path), self._workspace.rejected, chain, error, at=at, seen=of_file(seen))

    def drop(self, source: pd.DataFrame | Path, chain: str, stem: str) -> Path:
        """Let a frame or a file arrive."""
        return landing.drop(source, self._workspace.landing, chain, stem)

    def rejections(self) -> Iterator[float]:
        """Yield the times of the reports on rejected files."""
        for chain in _scanned(self._workspace.rejected):
            if chain.is_dir(follow_symlinks=False):
                for entry in _scanned(Path(chain.path)):
                    if entry.name.endswith(rejection.REPORT):
                        found = entry.stat(follow_symlinks=False)
                        if S_ISREG(found.st_mode):
                            yield found.st_mtime

    def shown(self, path: PurePath) -> str:
        """Return a path for people."""
        return str(path)


def of_file(seen: Seen | None) -> atomic.Identity | None:
    """Return which file was seen; None where it was no file."""
    return seen if isinstance(seen, atomic.Identity) else None


def _scanned(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []
