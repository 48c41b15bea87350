"""A Delta table: the files that two versions do not share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lindley.addresses import public
from lindley.arrivals.sources.places import BUCKETS, bare, name_of, scheme_of
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
from lindley.errors import DeclarationRefused

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from pyarrow.dataset import Fragment

#: Rows that are copied at once.
_ROWS = 65_536


@dataclass(frozen=True)
class Delta:
    """A Delta table: rows that were added, updated or deleted between the last version read and the newest.

    Only files that one of the two versions lacks are read; where the older one has been vacuumed, the whole
    table is. Needs the extra ``lindley[delta]``.

    Parameters
    ----------
    uri
        A path (a relative one begins in the working folder), ``s3://BUCKET/TABLE``, ``gs://...`` or ``az://...``.
        Credentials come from the environment; ``${NAME}`` is the value of an environment variable.
    revisions, vanished
        What becomes of rows whose values changed, and of rows that were deleted; see `lindley.Snapshot`.
    timeout
        Seconds that reading it may take.
    """

    uri: str = field(repr=False)
    revisions: Revisions = "correct"
    vanished: Vanished = "retract"
    timeout: float = TIMEOUT

    def __post_init__(self) -> None:
        """Check what can be checked without the table."""
        refuse_password(self.address, str(self.uri))
        check_choices(self.address, self.revisions, self.vanished, self.timeout)

    @property
    def kind(self) -> str:
        """Kind of the source, for the record."""
        return "delta"

    @property
    def address(self) -> str:
        """The address without user, password, query and fragment."""
        return bare(str(self.uri))

    def read(self, since: dict[str, str] | None, folder: Path, root: Path) -> Pulled | None:
        """Copy the rows of the files that changed since a version; None where the version is that one."""
        delta, arrow_errors = _library()
        deadline = Deadline(self.address, self.timeout)
        try:
            table = delta(_location(expanded(str(self.uri)), root), storage_options=_options(self.uri))
            version = {"version": str(table.version()), "table": str(table.metadata().id)}
            if since == version:
                return None
            new = _fragments(table)
            old = self._before(delta, table, since, version)
            rows, removed = folder / "rows", folder / "removed"
            _copy((new[path] for path in sorted(new.keys() - (old or {}).keys())), table, rows, deadline)
            if old is not None:
                _copy((old[path] for path in sorted(old.keys() - new.keys())), table, removed, deadline)
        except arrow_errors as error:
            raise unavailable(self.address, f"{type(error).__name__}: {public(str(error))[:200]}") from None
        return Pulled(
            version=version,
            path=rows,
            name=name_of(self.address),
            complete=old is None,
            removed=removed if old is not None else None,
        )

    def _before(
        self,
        delta: type[DeltaTable],
        table: DeltaTable,
        since: dict[str, str] | None,
        version: dict[str, str],
    ) -> dict[str, Fragment] | None:
        """Return the files of the version that was read last; None where it cannot be read any more."""
        if since is None or since.get("table") != version["table"]:
            return None
        number = int(since["version"])
        if number > int(version["version"]):  # the table was restored from a backup
            return None
        try:
            before = delta(table.table_uri, version=number, storage_options=_options(self.uri))
            found = _fragments(before)
            for path in found.keys() - _fragments(table).keys():
                found[path].ensure_complete_metadata()  # a file that was vacuumed is gone
        except Exception:  # whatever the library raises for what is not there any more: all rows are compared
            return None
        return found


def _library() -> tuple[type[DeltaTable], tuple[type[Exception], ...]]:
    try:
        import pyarrow as pa  # saves start-up time, as the next one
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError
    except ImportError as error:
        raise DeclarationRefused(
            "A Delta table cannot be read",
            expected="the package deltalake",
            found=f"no module {error.name}",
            todo="install it: pip install 'lindley[delta]'",
        ) from error
    return DeltaTable, (DeltaError, OSError, pa.ArrowException)


def _location(uri: str, root: Path) -> str:
    return uri if scheme_of(uri) in (*BUCKETS, "file") else str(root / uri)


def _options(uri: str) -> dict[str, str] | None:
    """Return how long an object store may be silent; a local table needs nothing."""
    return {"timeout": "30s", "connect_timeout": "10s"} if scheme_of(uri) in BUCKETS else None


def _fragments(table: DeltaTable) -> dict[str, Fragment]:
    """Return the files of a version of a table by their paths."""
    data: Any = table.to_pyarrow_dataset()
    return {fragment.path: fragment for fragment in data.get_fragments()}


def _copy(fragments: Iterable[Fragment], table: DeltaTable, folder: Path, deadline: Deadline) -> None:
    """Write the rows of files, with the columns of their partitions, as Parquet files."""
    import pyarrow as pa  # saves start-up time, as the next one
    import pyarrow.parquet as pq

    folder.mkdir()
    schema: Any = table.to_pyarrow_dataset().schema
    number = 0
    for fragment in fragments:
        for batch in fragment.to_batches(schema=schema, batch_size=_ROWS):
            deadline.check()
            if batch.num_rows:
                pq.write_table(pa.Table.from_batches([batch]), folder / f"{number:08d}.parquet")
                number += 1
