"""A complete file or folder that grows and is revised."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from lindley.arrivals.sources.places import bare, copy, name_of
from lindley.arrivals.sources.protocol import (
    TIMEOUT,
    Deadline,
    Pulled,
    Revisions,
    Vanished,
    check_choices,
    expanded,
    refuse_password,
    unavailable,
)


@dataclass(frozen=True)
class Snapshot:
    """A file, or a folder of files, with all rows so far; new rows are added to it and old ones revised.

    Parameters
    ----------
    uri
        A path (a relative one begins in the working folder), or an address: ``https://...``,
        ``s3://BUCKET/KEY``, ``gs://...``, ``az://...``. A file in any batch format; of a folder all of them.
        Credentials come from the provider's own chain (environment, instance, profile); ``${NAME}`` is the
        value of an environment variable. A password is refused.
    revisions
        What becomes of rows whose values changed: ``correct`` makes one correction of all batches that held
        them, ``report`` names their number, ``refuse`` refuses the pull.
    vanished
        What becomes of rows that are no longer there: ``report`` or ``retract``.
    timeout
        Seconds that reading it may take.
    """

    uri: str = field(repr=False)  # may hold a password
    revisions: Revisions = "correct"
    vanished: Vanished = "report"
    timeout: float = TIMEOUT

    def __post_init__(self) -> None:
        """Check what can be checked without the source."""
        refuse_password(self.address, str(self.uri))
        check_choices(self.address, self.revisions, self.vanished, self.timeout)

    @property
    def kind(self) -> str:
        """Kind of the source, for the record."""
        return "snapshot"

    @property
    def address(self) -> str:
        """The address without user, password, query and fragment."""
        return bare(str(self.uri))

    def read(self, since: dict[str, str] | None, folder: Path, root: Path) -> Pulled | None:
        """Copy it and return its version: the sha256 of its content, and its ETag where there is one."""
        uri = expanded(str(self.uri))
        name = name_of(self.address)
        found = copy(uri, folder, root, Deadline(self.address, self.timeout))
        if not found:
            raise unavailable(self.address, "no file in a batch format")
        lines = "".join(f"{file.name}\n{file.sha256}\n" for file in found)
        single = len(found) == 1 and "/" not in found[0].name
        version = {"sha256": found[0].sha256 if single else hashlib.sha256(lines.encode()).hexdigest()}
        if len(found) == 1 and found[0].etag:
            version["etag"] = found[0].etag
        if since is not None and since.get("sha256") == version["sha256"]:
            return None
        path = folder / found[0].name if single else folder
        return Pulled(version=version, path=path, name=name, complete=True)
