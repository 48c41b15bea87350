"""An object store through `obstore`: each request is one step that happens whole or not at all.

Errors state the store's code and HTTP status, never its answer: with a token in the address of a request
(Azure), the answer holds it.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import obstore
from obstore import exceptions, store

from lindley.addresses import Bucket
from lindley.atomic import Replaced
from lindley.errors import FileUnavailable, NameRefused

if TYPE_CHECKING:
    from obstore import UpdateVersion

#: Seconds of a request, of a connection, and of all attempts of one request.
REQUEST_SECONDS, CONNECT_SECONDS, RETRY_SECONDS = 120, 10, 30
#: Attempts after the first one.
RETRIES = 4
#: Bytes of a part in downloads and copies.
_PART = 8 * 2**20
#: Variables that name the store's address, where it is not the provider's own.
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AZURE_STORAGE_ENDPOINT")
_ACCOUNTS = ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT")

#: A request is refused until someone changes a permission or a setting.
_LASTING = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError, exceptions.NotSupportedError)


@dataclass(frozen=True)
class ObjectVersion:
    """An object and its state: equal versions have equal content.

    Parameters
    ----------
    e_tag
        The store's tag of the content.
    version
        Id of the version; None where the bucket keeps no versions.
    size
        In bytes.
    """

    e_tag: str
    version: str | None
    size: int

    def as_dict(self) -> dict[str, str | None]:
        """Return what a record states of it."""
        return {"e_tag": self.e_tag, "version": self.version}


@dataclass(frozen=True)
class Found:
    """An object in a listing: its name below the folder, size in bytes, tag and time of its last change."""

    name: str
    size: int
    e_tag: str
    modified: datetime

    @property
    def modified_ns(self) -> int:
        """Time of its last change, in nanoseconds since the epoch."""
        return round(self.modified.timestamp() * 1e6) * 1000


class NotListed(FileUnavailable):
    """A listing holds a name that cannot be requested again: ``..``, an empty part, a control character."""


class Objects:
    """The objects below an address; see `lindley.addresses.bucket_of`.

    Raises
    ------
    NameRefused
        If a container of Azure has no account.
    """

    def __init__(self, address: Bucket) -> None:
        self._store: Any = _opened(address)
        self._shown = str(address)

    def head(self, key: str) -> ObjectVersion | None:
        """Return the state of an object; None where there is none."""
        with self._asking(f"{key} cannot be inspected"):
            try:
                found = obstore.head(self._store, key)
            except (FileNotFoundError, ValueError):  # the last: a name that no object can have
                return None
            return ObjectVersion(found["e_tag"] or "", found["version"], found["size"])

    def read(self, key: str, seen: ObjectVersion | None = None) -> Iterator[bytes]:
        """Ask for an object at once, and return its bytes in parts.

        Raises
        ------
        FileNotFoundError
            If there is none.
        Replaced
            If it is not the one that was `seen`.
        """
        with self._asking(f"{key} cannot be read"):
            try:
                answer = obstore.get(self._store, key, options={"if_match": seen.e_tag} if seen else None)
            except exceptions.PreconditionError:
                raise Replaced(key) from None
        return self._parts(key, answer)

    def _parts(self, key: str, answer: Any) -> Iterator[bytes]:
        with self._asking(f"{key} cannot be read"):
            for part in answer.stream(min_chunk_size=_PART):
                yield bytes(part)

    def create(self, key: str, data: bytes) -> bool:
        """Write a new object; return False, with nothing changed, when the name is taken."""
        with self._asking(f"{key} cannot be written"):
            try:
                obstore.put(self._store, key, data, mode="create", use_multipart=False)
            except exceptions.AlreadyExistsError:
                return False
            return True

    def replace(self, key: str, data: bytes, seen: ObjectVersion) -> bool:
        """Write an object in place of the one that was seen; return False when that is no longer there."""
        mode: UpdateVersion = {"e_tag": seen.e_tag}
        if seen.version is not None:
            mode["version"] = seen.version
        with self._asking(f"{key} cannot be written"):
            try:
                obstore.put(self._store, key, data, mode=mode, use_multipart=False)
            except (exceptions.PreconditionError, FileNotFoundError):
                return False
            return True

    def write(self, key: str, file: Path) -> None:
        """Write an object of any length, from a file, under a name that the caller has claimed."""
        with self._asking(f"{key} cannot be written"):
            obstore.put(self._store, key, file, chunk_size=_PART, max_concurrency=2)

    def delete(self, key: str) -> None:
        """Delete an object that the caller made."""
        with self._asking(f"{key} cannot be deleted"):
            obstore.delete(self._store, key)

    def folder(self, prefix: str) -> tuple[list[str], list[Found]]:
        """Return the names of the folders and the objects directly below a prefix.

        Raises
        ------
        NotListed
            If one has a name that cannot be requested.
        """
        with self._asking(f"{prefix}/ cannot be listed"):
            try:
                found = obstore.list_with_delimiter(self._store, prefix)
            except exceptions.InvalidPathError:
                raise NotListed(
                    f"{prefix}/ cannot be listed: the name of an object in it is not valid",
                    OSError(errno.EINVAL, "a name with '..', an empty part or a control character"),
                    todo="rename or delete the object with the tools of the store",
                ) from None
        start = len(prefix) + 1
        folders = [path[start:] for path in found["common_prefixes"] if path.startswith(f"{prefix}/")]
        objects = [
            Found(meta["path"][start:], meta["size"], meta["e_tag"] or "", meta["last_modified"])
            for meta in found["objects"]
            if meta["path"].startswith(f"{prefix}/")  # the mark of the folder itself is left out
        ]
        return folders, objects

    @contextmanager
    def _asking(self, happened: str) -> Iterator[None]:
        """Turn what the store refuses in the block into a `FileUnavailable`."""
        try:
            yield
        except exceptions.BaseError as error:
            number = errno.EACCES if isinstance(error, _LASTING) else errno.EIO
            raise FileUnavailable(
                f"{happened} ({self._shown})",
                OSError(number, why(error)),
                todo="check the address and the environment with the store's credentials; what landed stays",
            ) from None


def why(error: exceptions.BaseError) -> str:
    """Return why a request failed: kind of the error, HTTP status and the store's code for it."""
    text = str(error)
    parts = [type(error).__name__.removesuffix("Error")]
    patterns = (r"status code: (\d{3}[A-Za-z ]*)", r"<Code>(\w{1,60})</Code>")
    found = [re.search(pattern, text) for pattern in patterns]
    parts += [match[1].strip() for match in found if match is not None]
    if "error sending request" in text or "onnect" in text:
        parts.append("no answer")
    return ", ".join(parts)


def _opened(address: Bucket) -> Any:
    """Return obstore's store, with the credentials that the environment gives."""
    plain = any(urlsplit(os.environ.get(name, "")).scheme == "http" for name in _ENDPOINTS)
    options: dict[str, Any] = {
        "prefix": address.prefix or None,
        "client_options": {
            "timeout": timedelta(seconds=REQUEST_SECONDS),
            "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
            "allow_http": plain or os.environ.get("AWS_ALLOW_HTTP", "").lower() in {"1", "true"},
        },
        "retry_config": {"max_retries": RETRIES, "retry_timeout": timedelta(seconds=RETRY_SECONDS)},
    }
    if address.scheme == "s3":
        return store.S3Store(address.name, **options)
    if address.scheme == "gs":
        return store.GCSStore(address.name, **options)
    account = address.account or next((os.environ[name] for name in _ACCOUNTS if os.environ.get(name)), "")
    if not account:
        raise NameRefused(
            "A container of Azure was refused",
            expected=f"its account in {_ACCOUNTS[0]}, or abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PREFIX",
            found="no account",
            todo=f"set {_ACCOUNTS[0]}",
        )
    return store.AzureStore(address.name, account_name=account, **options)
