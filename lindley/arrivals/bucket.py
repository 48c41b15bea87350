"""A bucket as landing, store, rejected and corrections: nothing is overwritten, nothing is lost.

Object stores have no rename, and many have no conditional deletion: between a look at an object and its
deletion another one can take its name. So an object is never deleted from the landing folder. It is *taken*:
one conditional write puts a mark of one byte in its place if it is still the object that was read, and only
after its copy is in the store. A mark is no arrival; a new object of its name replaces it.
"""

from __future__ import annotations

import errno
import hashlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING

from lindley import failpoints
from lindley.arrivals.landing import TEMPORARY, Arrival, Ignored, Listing, check_stored_name, taken, to_drop
from lindley.arrivals.objects import Found, NotListed, Objects, ObjectVersion
from lindley.arrivals.rejection import REPORT, candidates, report
from lindley.atomic import Identity, Replaced, identity
from lindley.batch import formats
from lindley.batch.limits import Limits, too_big
from lindley.errors import FileUnavailable, LindleyError
from lindley.model.declaration import declared_chains
from lindley.names import CHAIN_NAME, check_chain_name, shown_name
from lindley.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

    from lindley.arrivals.storage import Seen
    from lindley.batch.batch import Batch

LANDING, STORE, REJECTED, CORRECTIONS = "landing", "store", "rejected", "corrections"
#: What is written in the place of an object that was taken: no batch has a single byte, so that a rule of the
#: bucket can remove marks by their size.
MARK = b"-"
#: The tag of a mark where the store uses MD5, so that a listing needs no further request.
_MARK_TAG = f'"{hashlib.md5(MARK, usedforsecurity=False).hexdigest()}"'


class BucketStorage:
    """Landing, store, rejected and corrections below one address; see `lindley.arrivals.storage.Storage`.

    Parameters
    ----------
    workspace
        Whose bucket.
    """

    def __init__(self, workspace: Workspace) -> None:
        assert workspace.bucket is not None  # noqa: S101  (for mypy: `storage_of` asked)
        self._address, self._models = str(workspace.bucket), workspace.models
        self._objects = Objects(workspace.bucket)
        self._marks: dict[tuple[str, str], bool] = {}

    @property
    def root(self) -> PurePosixPath:
        """The landing folder."""
        return PurePosixPath(LANDING)

    def landed(self, chain: str, name: str) -> PurePosixPath:
        """Return where an object of a name lands."""
        return PurePosixPath(LANDING, chain, name)

    def correction(self, chain: str, name: str) -> PurePosixPath:
        """Return where a correction of a name is."""
        return PurePosixPath(CORRECTIONS, chain, name)

    def has_landed(self, chain: str, path: PurePath) -> bool:
        """Return whether it is an object in the chain's landing folder."""
        return not isinstance(path, Path) and path.parent == PurePosixPath(LANDING, chain)

    def shown(self, path: PurePath) -> str:
        """Return the address of an object, or the path of a file."""
        return str(path) if isinstance(path, Path) else f"{self._address}/{path}"

    # -- what arrived --------------------------------------------------------------------------------

    def arrivals(self) -> Listing:
        """List the objects that arrived, by time of last change, then chain and name.

        An object with a name that no request can hold hides the others of its chain: the chain is ignored
        with the error. Such a name beside the chains' folders hides undeclared chains only.

        Raises
        ------
        FileUnavailable
            If the bucket cannot be listed.
        """
        files, ignored = list[Arrival](), list[Ignored]()
        for chain in self._chains(ignored):
            folder = PurePosixPath(LANDING, chain)
            try:
                inner, objects = self._objects.folder(str(folder))
            except NotListed as error:
                ignored.append(Ignored(folder, "the folder cannot be listed", error))
                continue
            ignored += [Ignored(folder / name, "a folder or special file") for name in inner]
            for found in objects:
                hidden = found.name.startswith(".") or found.name.lower().endswith(TEMPORARY)
                if not hidden and not self._is_mark(f"{folder}/{found.name}", found.size, found.e_tag):
                    files.append(_arrival(chain, folder, found))
        files.sort(key=lambda file: (file.mtime_ns, file.chain, file.path.name))
        return Listing(tuple(files), tuple(ignored))

    def _chains(self, ignored: list[Ignored]) -> list[str]:
        """Return the names of the folders that can be chains."""
        try:
            folders, objects = self._objects.folder(LANDING)
        except NotListed as error:
            ignored.append(Ignored(PurePosixPath(LANDING, "-"), "the folder cannot be listed", error))
            return [name for name in declared_chains(self._models) if CHAIN_NAME.fullmatch(name)]
        folders = [name for name in folders if not name.startswith(".")]
        stray = [found.name for found in objects if not found.name.startswith(".")]
        ignored += [Ignored(PurePosixPath(LANDING, name), "not in the folder of a chain") for name in stray]
        others = [name for name in folders if not CHAIN_NAME.fullmatch(name)]
        ignored += [
            Ignored(PurePosixPath(LANDING, name), "the folder's name cannot be a chain") for name in others
        ]
        return [name for name in folders if CHAIN_NAME.fullmatch(name)]

    def restore(self) -> None:
        """Nothing to do: an object is at one name until it is taken."""

    def is_complete(
        self, path: PurePath, *, clock: Callable[[], float], sleep: Callable[[float], None]
    ) -> bool:
        """Return whether there is anything: an object appears whole or not at all."""
        return True

    def exists(self, path: PurePath) -> bool:
        """Return whether there is an object that was not taken, or a file or folder."""
        return path.exists() if isinstance(path, Path) else self._version(path) is not None

    def identity(self, path: PurePath) -> Seen | None:
        """Return what a name belongs to now; None where there is nothing, or only the mark of an object."""
        return identity(path) if isinstance(path, Path) else self._version(path)

    def _version(self, path: PurePath) -> ObjectVersion | None:
        found = self._objects.head(str(path))
        if found is None or self._is_mark(str(path), found.size, found.e_tag):
            return None
        return found

    def _is_mark(self, key: str, size: int, e_tag: str) -> bool:
        """Return whether an object is the mark of one that was taken."""
        if size != len(MARK):
            return False
        if e_tag == _MARK_TAG:
            return True
        if (key, e_tag) not in self._marks:  # a tag of another kind: look once
            try:
                self._marks[key, e_tag] = b"".join(self._objects.read(key)) == MARK
            except FileNotFoundError:
                return False
        return self._marks[key, e_tag]

    # -- what becomes of it --------------------------------------------------------------------------

    @contextmanager
    def reading(self, path: PurePath, seen: Seen | None) -> Iterator[Path]:
        """Yield a private copy of an object, removed afterwards; a file is yielded itself."""
        if isinstance(path, Path):
            yield path
            return
        version = _of_object(seen) or self._version(path)
        if version is None:
            raise Replaced(path)
        limit = Limits().file_bytes
        if version.size > limit:
            raise too_big(shown_name(path), "bytes in the file", limit, version.size)
        with self._fetched(path, version, path.name) as local:
            yield local

    @contextmanager
    def _fetched(self, path: PurePath, version: ObjectVersion, name: str) -> Iterator[Path]:
        """Yield a private copy of an object of any length, removed afterwards."""
        with tempfile.TemporaryDirectory(prefix="lindley-") as folder:
            local = Path(folder) / name
            try:
                with local.open("wb") as file:
                    for part in self._objects.read(str(path), version):
                        file.write(part)
            except FileNotFoundError:
                raise Replaced(path) from None
            except OSError as error:
                raise FileUnavailable(
                    f"{shown_name(path)} cannot be fetched",
                    error,
                    todo="make room in the folder for temporary files",
                ) from error
            yield local

    def archive(
        self, path: PurePath, chain: str, digest: str, *, keep: bool, seen: Seen | None
    ) -> PurePosixPath:
        """Copy an accepted object to the store, read the copy back, and take the object.

        Idempotent: when the store has the digest already, under any extension, the first copy stays, and
        the object is taken, because its content is stored.

        Raises
        ------
        NameRefused
            If chain or digest is not valid.
        Replaced, FileNotFoundError
            If the object is not the one that was seen, and the store has none of that digest.
        FileUnavailable
            If the copy is not what was written; the object stays.
        """
        check_stored_name(chain, digest)
        folder = PurePosixPath(STORE, chain)
        names = [folder / f"{digest}{form.extension}" for form in formats.FORMATS]
        stored = next((name for name in names if self._objects.head(str(name)) is not None), None)
        if stored is None:
            stored = folder / f"{digest}{formats.extension_of(path)}"
            self._store(stored, self._content(path, seen))
        if not keep and not isinstance(path, Path):
            self._take(path, _of_object(seen))
        return stored

    def write(self, batch: Batch, chain: str) -> PurePosixPath:
        """Write a batch to the store as Parquet, unless it is there."""
        from lindley.batch.batch import write_batch  # imports pandas and Arrow

        check_stored_name(chain, batch.digest)
        stored = PurePosixPath(STORE, chain, f"{batch.digest}.parquet")
        with tempfile.TemporaryDirectory(prefix="lindley-") as folder:
            local = Path(folder) / stored.name
            write_batch(batch, local)
            self._store(stored, local.read_bytes())
        return stored

    def _content(self, path: PurePath, seen: Seen | None) -> bytes:
        """Return the bytes of what was seen."""
        if not isinstance(path, Path):
            version = _of_object(seen) or self._version(path)
            if version is None:
                raise FileNotFoundError(errno.ENOENT, "no such object", str(path))
            return b"".join(self._objects.read(str(path), version))
        data = path.read_bytes()
        if isinstance(seen, Identity) and identity(path) != seen:
            raise Replaced(path)
        return data

    def _store(self, stored: PurePath, data: bytes) -> None:
        """Write an object of the store and read it back; one of its name, which has its digest, stays."""
        if self._objects.create(str(stored), data) and b"".join(self._objects.read(str(stored))) != data:
            raise FileUnavailable(
                f"{stored.name[:12]} in the store is not what was written",
                OSError(errno.EIO, "other bytes came back"),
                todo="look at what else writes to the store; what landed stays",
            )
        failpoints.reach("object-stored")

    def _take(self, path: PurePath, seen: ObjectVersion | None) -> None:
        """Put a mark in the place of an object that was copied, if it is still the one that was seen."""
        if seen is not None and self._objects.replace(str(path), MARK, seen):
            failpoints.reach("object-taken")

    def reject(
        self, path: PurePath, chain: str, error: LindleyError, *, at: str, seen: Seen | None
    ) -> PurePosixPath:
        """Copy an invalid object to the rejected ones, after its report, and take it.

        The name is chosen as by `lindley.arrivals.rejection.reject`. A copy that a killed process made is
        used.

        Raises
        ------
        NameRefused
            If `chain` is not a valid chain name.
        FileNotFoundError, Replaced
            If the object is not there any more, or not the one that was seen; nothing is left behind.
        FileUnavailable
            If the bucket does not take it; it stays.
        """
        check_chain_name(chain)
        version, now = _of_object(seen), self._version(path)
        if now is None:
            raise FileNotFoundError(errno.ENOENT, "no such object", str(path))
        if version not in (None, now):
            raise Replaced(path)
        target = self._copied(path, chain, report(path, chain, error, at), now)
        self._take(path, now)
        return target

    def _copied(self, path: PurePath, chain: str, text: bytes, seen: ObjectVersion) -> PurePosixPath:
        """Return the copy of an object among the rejected ones, made now or by a process that was killed."""
        for name in candidates(path.name):
            target = PurePosixPath(REJECTED, chain, name)
            there = self._objects.head(str(target))
            if there is not None and there.size == seen.size and self._same(target, path, seen):
                return target
            # The report is the claim on the name.
            if there is not None or not self._objects.create(f"{target}{REPORT}", text):
                continue
            failpoints.reach("object-reported")
            try:
                with self._fetched(path, seen, "object") as local:
                    self._objects.write(str(target), local)
                copy = self._objects.head(str(target))
                if copy is None or copy.size != seen.size:
                    raise Replaced(path)
            except (FileNotFoundError, Replaced):
                for made in (target, PurePosixPath(f"{target}{REPORT}")):
                    with suppress(FileNotFoundError):
                        self._objects.delete(str(made))
                raise
            failpoints.reach("object-copied")
            return target
        raise AssertionError("there is always a next name")  # pragma: no cover

    def _same(self, one: PurePath, other: PurePath, seen: ObjectVersion) -> bool:
        """Return whether two objects have the same bytes."""
        sums = [hashlib.sha256(), hashlib.sha256()]
        for hashed, parts in zip(
            sums, (self._objects.read(str(one)), self._objects.read(str(other), seen)), strict=True
        ):
            for part in parts:
                hashed.update(part)
        return sums[0].digest() == sums[1].digest()

    def drop(self, source: pd.DataFrame | Path, chain: str, stem: str) -> PurePosixPath:
        """Let a frame or a file arrive, whole or not at all.

        Raises
        ------
        NameRefused
            If chain or stem is not a valid name.
        BatchRefused
            If another object has that name, or the frame cannot be written.
        """
        name, data = to_drop(source, chain, stem)
        target = self.landed(chain, name)
        while not self._objects.create(str(target), data):
            there = self._objects.head(str(target))
            if there is None:
                continue  # it was deleted since
            if self._is_mark(str(target), there.size, there.e_tag):
                if self._objects.replace(str(target), data, there):
                    break
                continue
            if there.size != len(data) or b"".join(self._objects.read(str(target))) != data:
                raise taken(target, there.size, len(data))
            break
        return target

    def rejections(self) -> Iterator[float]:
        """Yield the times of the reports on rejected objects; none where the bucket does not answer."""
        with suppress(FileUnavailable):
            for chain in self._objects.folder(REJECTED)[0]:
                for found in self._objects.folder(f"{REJECTED}/{chain}")[1]:
                    if found.name.endswith(REPORT):
                        yield found.modified.timestamp()


def _arrival(chain: str, folder: PurePosixPath, found: Found) -> Arrival:
    return Arrival(chain, folder / found.name, found.size, found.modified_ns, found.e_tag)


def _of_object(seen: Seen | None) -> ObjectVersion | None:
    """Return which object was seen; None where it was none."""
    return seen if isinstance(seen, ObjectVersion) else None
