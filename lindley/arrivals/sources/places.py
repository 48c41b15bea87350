"""Files at an address: copied into a folder, with what identifies their content.

Buckets (``s3://``, ``gs://``, ``az://``, ``abfss://``) are read through obstore, with the provider's own
chain of credentials; ``http(s)://`` through httpx; everything else is a path. A file that changes while it is
copied is refused, so that no mixture of two versions is read.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from lindley.addresses import public
from lindley.arrivals.landing import TEMPORARY, is_complete
from lindley.arrivals.sources.protocol import Deadline, unavailable
from lindley.atomic import identity
from lindley.batch.formats import format_of

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ClientConfig, ObjectStore

#: Bytes that are copied at once.
BLOCK = 2**20
#: Schemes of buckets.
BUCKETS = ("s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "adl")
_HTTP = ("http", "https")
_QUERY = re.compile(r"\?\S+")
#: Seconds without any byte after which a server counts as down.
_SILENCE = 30.0


@dataclass(frozen=True)
class Copied:
    """A file that was copied.

    Parameters
    ----------
    name
        Its path below the address; its own name if the address is a file.
    sha256
        Of its bytes.
    etag
        What the server calls this content; empty where it names none.
    """

    name: str
    sha256: str
    etag: str


def scheme_of(uri: str) -> str:
    """Return the scheme of an address, lower case; empty for a path."""
    head, mark, _ = uri.partition("://")
    return head.lower() if mark else ""


def bare(uri: str) -> str:
    """Return an address without user, password, query and fragment; a path as it is."""
    if not scheme_of(uri):
        return uri
    parts = urlsplit(public(uri))
    return urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))


def name_of(uri: str) -> str:
    """Return the last part of an address, for people."""
    path = unquote(urlsplit(uri).path) if scheme_of(uri) else uri
    return PurePosixPath(path.replace("\\", "/").rstrip("/")).name[:120] or "source"


def copy(uri: str, folder: Path, root: Path, deadline: Deadline) -> list[Copied]:
    """Copy the file at an address, or all files of a folder, below `folder`.

    Raises
    ------
    SourceUnavailable
        If they cannot be read, in time and as they were when they were listed.
    """
    scheme = scheme_of(uri)
    if scheme in _HTTP:
        return [_from_web(uri, folder, deadline)]
    if scheme in BUCKETS:
        return _from_bucket(uri, folder, deadline)
    path = root / (unquote(urlsplit(uri).path) if scheme == "file" else uri)
    return _from_disk(path, folder, deadline)


def _write(parts: Iterable[bytes], target: Path, deadline: Deadline) -> str:
    """Write a file and return the sha256 of its bytes."""
    digest = hashlib.sha256()
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as file:
        for part in parts:
            deadline.check()
            digest.update(part)
            file.write(part)
    return digest.hexdigest()


def _from_disk(path: Path, folder: Path, deadline: Deadline) -> list[Copied]:
    try:
        whole = path.is_dir()
        files = sorted(_below(path)) if whole else [path]
        return [_from_file(file, file.relative_to(path if whole else path.parent), folder, deadline)
                for file in files]  # fmt: skip
    except OSError as error:
        raise unavailable(deadline.name, error.strerror or str(error)) from error


def _below(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_symlink() or not _wanted(path.name):
            continue
        if path.is_dir():
            yield from _below(path)
        elif format_of(path) is not None:
            yield path


def _wanted(name: str) -> bool:
    """Whether a file of a folder is read: not hidden, not metadata of Spark, not unfinished."""
    return not name.startswith((".", "_")) and not name.lower().endswith(TEMPORARY)


def _from_file(path: Path, name: Path, folder: Path, deadline: Deadline) -> Copied:
    if not is_complete(path, clock=time.time, sleep=time.sleep):
        raise unavailable(deadline.name, "it is not there, or it is still being written")
    seen = identity(path)
    with path.open("rb") as file:
        digest = _write(iter(lambda: file.read(BLOCK), b""), folder / name, deadline)
    if seen is None or identity(path) != seen:
        raise unavailable(deadline.name, "it changed while it was read")
    return Copied(name.as_posix(), digest, "")


def _from_web(uri: str, folder: Path, deadline: Deadline) -> Copied:
    import httpx  # saves start-up time: declarations are loaded by every command

    name = name_of(uri)
    try:
        with httpx.stream(
            "GET", uri, timeout=min(_SILENCE, deadline.seconds), follow_redirects=True
        ) as answer:
            if answer.status_code != httpx.codes.OK:
                raise unavailable(deadline.name, f"HTTP status {answer.status_code} {answer.reason_phrase}")
            digest = _write(answer.iter_bytes(BLOCK), folder / name, deadline)
            return Copied(name, digest, answer.headers.get("etag", "")[:200])
    except (httpx.HTTPError, httpx.InvalidURL) as error:  # its text may hold the address with a password
        raise unavailable(deadline.name, type(error).__name__) from None


def _from_bucket(uri: str, folder: Path, deadline: Deadline) -> list[Copied]:
    import obstore  # saves start-up time, as above
    from obstore.exceptions import BaseError
    from obstore.store import from_url

    parts = urlsplit(uri)
    path = unquote(parts.path).lstrip("/")
    options: ClientConfig = {
        "timeout": f"{min(_SILENCE, deadline.seconds):g}s",
        "connect_timeout": "10s",
        "allow_http": True,
    }
    try:
        store = from_url(
            f"{parts.scheme}://{parts.netloc}",
            client_options=options,
            retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=_SILENCE)},
        )
        single = format_of(Path(path)) is not None
        listed = [obstore.head(store, path)] if single else _listed(store, path.rstrip("/"), deadline)
        found = []
        for entry in listed:
            place, etag = entry["path"], entry["e_tag"] or ""
            given = obstore.get(store, place, options={"if_match": etag} if etag else {})
            name = PurePosixPath(place).name if single else place.removeprefix(path.rstrip("/") + "/")
            blocks = (bytes(block) for block in given.stream(min_chunk_size=BLOCK))
            digest = _write(blocks, folder / name, deadline)
            found.append(Copied(name, digest, etag[:200]))
        return found
    except (BaseError, OSError, ValueError) as error:  # its text names the request, not the credentials
        raise unavailable(deadline.name, f"{type(error).__name__}: {_first_line(error)}") from None


def _listed(store: ObjectStore, prefix: str, deadline: Deadline) -> list[ObjectMeta]:
    import obstore  # saves start-up time, as above

    found: list[ObjectMeta] = []
    for page in obstore.list(store, prefix or None):
        deadline.check()
        for entry in page:
            below = entry["path"].removeprefix(prefix).strip("/").split("/")
            if all(_wanted(part) for part in below) and format_of(Path(below[-1])) is not None:
                found.append(entry)
    return sorted(found, key=lambda entry: entry["path"])


def _first_line(error: Exception) -> str:
    """Return the beginning of an error's text, without queries, which may hold a signature."""
    text = str(error).strip().splitlines()
    return _QUERY.sub("", public(text[0]))[:120] if text else ""
