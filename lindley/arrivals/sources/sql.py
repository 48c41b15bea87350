"""The rows of a query against a database."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lindley.addresses import public
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
from lindley.errors import BatchRefused, DeclarationRefused, SourceUnavailable

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

#: Rows that are fetched and written at once.
_ROWS = 65_536


@dataclass(frozen=True)
class Sql:
    """The rows of a query, new ones found by a cursor: a column that grows with every change of a row.

    Parameters
    ----------
    url
        Address of the database for SQLAlchemy, such as ``postgresql://reader:${PASSWORD}@host/name`` or
        ``sqlite:///rows.db`` (a relative path begins in the working folder). ``${NAME}`` is the value of an
        environment variable; a password in the declaration is refused.
    query
        A SELECT without ORDER BY and without a semicolon.
    cursor
        The column by which new and updated rows are found: a time or a number. None reads all rows at each
        pull; rows that are no longer among them are then gone.
    overlap
        By how much the cursor goes back behind the newest value that was read, for rows that commit late: a
        `timedelta`, or a number where the cursor is one. Rows that were read before are known by their keys.
    deleted
        A column that is neither null nor false nor 0 in rows that count as deleted.
    revisions, vanished
        What becomes of rows whose values changed, and of rows that are gone; see `lindley.Snapshot`.
    timeout
        Seconds that reading it may take.
    """

    url: str = field(repr=False)
    query: str
    cursor: str | None = "updated_at"
    overlap: timedelta | float = timedelta(hours=1)
    deleted: str | None = None
    revisions: Revisions = "correct"
    vanished: Vanished = "report"
    timeout: float = TIMEOUT

    def __post_init__(self) -> None:
        """Check what can be checked without the database."""
        refuse_password("Sql", self.url)
        check_choices("Sql", self.revisions, self.vanished, self.timeout)
        back = self.overlap.total_seconds() if isinstance(self.overlap, timedelta) else self.overlap
        if not self.query.strip() or ";" in self.query or back < 0:
            raise DeclarationRefused(
                "The source Sql was refused",
                expected="a query without a semicolon, and an overlap of 0 or more",
                found=f"query {self.query[:80]!r}, overlap {self.overlap}",
                todo="write one SELECT; the cursor and its overlap are added to it",
            )

    @property
    def kind(self) -> str:
        """Kind of the source, for the record."""
        return "sql"

    @property
    def address(self) -> str:
        """The address without user and password, and a digest of the query, which names the rows."""
        query = hashlib.sha256(f"{self.query}\n{self.cursor}\n{self.deleted}".encode()).hexdigest()
        try:
            address = expanded(self.url)
        except SourceUnavailable:  # reading it states what is missing
            address = self.url
        return f"{public(address).partition('?')[0]}#{query[:12]}"

    def read(self, since: dict[str, str] | None, folder: Path, root: Path) -> Pulled:
        """Read the rows from the cursor on, in one transaction, into Parquet files."""
        from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError  # saves start-up time

        deadline, name = Deadline(self.address, self.timeout), f"query {self.address}"[:120]
        rows, removed = folder / "rows", folder / "removed"
        for made in (rows, removed):
            made.mkdir()
        try:
            engine = _engine(expanded(self.url), root, self.timeout)
            try:
                newest = self._copied(engine, since, (rows, removed), deadline)
            finally:
                engine.dispose()
        except (ArgumentError, NoSuchModuleError) as error:  # their text may hold the address
            raise unavailable(self.address, f"{type(error).__name__}: no such address or driver") from None
        except SQLAlchemyError as error:
            raise unavailable(self.address, _told(error, expanded(self.url))) from None
        except ImportError as error:
            raise unavailable(self.address, f"the driver {error.name} is not installed") from None
        return Pulled(
            version=self._version(newest, since, rows),
            path=rows,
            name=name,
            complete=self.cursor is None,
            removed=removed,
            beside=tuple(each for each in (self.cursor, self.deleted) if each),
        )

    def _version(self, newest: Any, since: dict[str, str] | None, rows: Path) -> dict[str, str]:
        """Return the newest cursor, or what identifies all rows where there is none."""
        if self.cursor is None:
            digest = hashlib.sha256()
            for path in sorted(rows.iterdir()):
                digest.update(path.read_bytes())
            return {"sha256": digest.hexdigest()}
        found = _shown(newest) if newest is not None else {}
        return found or dict(since or {"cursor": "", "type": "none"})

    def _copied(
        self, engine: Engine, since: dict[str, str] | None, folders: tuple[Path, Path], deadline: Deadline
    ) -> Any:
        """Write the rows, and those that are deleted, and return the newest cursor."""
        from sqlalchemy import column, or_, select, text  # saves start-up time

        escaped = self.query.replace(":", "\\:")  # no parameter begins in the query
        statement = select(text("*")).select_from(text(f"({escaped}) AS pulled"))
        start = _back(since, self.overlap) if self.cursor else None
        if self.cursor and start is not None:
            statement = statement.where(or_(column(self.cursor) >= start, column(self.cursor).is_(None)))
        newest: Any = None
        with _reading(engine, self.timeout) as connection:
            result = connection.execution_options(yield_per=_ROWS).execute(statement)
            names = list(result.keys())
            self._refuse_missing(names)
            for number, part in enumerate(result.partitions(_ROWS)):
                deadline.check()
                kept, gone = list[dict[str, Any]](), list[dict[str, Any]]()
                for row in part:
                    values = dict(zip(names, row, strict=True))
                    (gone if self.deleted and _is_deleted(values[self.deleted]) else kept).append(values)
                    at = values[self.cursor] if self.cursor else None
                    newest = at if newest is None or (at is not None and at > newest) else newest
                for folder, found in zip(folders, (kept, gone), strict=True):
                    _write(found, folder / f"{number:08d}.parquet")
        return newest

    def _refuse_missing(self, names: list[str]) -> None:
        missing = [name for name in (self.cursor, self.deleted) if name and name not in names]
        if missing or len(set(names)) < len(names):
            raise BatchRefused(
                f"The query of {self.address} gives other columns than its declaration says",
                expected=", ".join(filter(None, (self.cursor, self.deleted))) or "distinct names",
                found=", ".join(names)[:300],
                todo="select the cursor column, or name another one",
            )


def _engine(url: str, root: Path, timeout: float) -> Engine:
    from sqlalchemy import create_engine, make_url  # saves start-up time

    address, options = make_url(url), dict[str, Any]()
    if address.get_backend_name() == "postgresql":
        options["connect_timeout"] = max(1, int(min(timeout, 30)))
    if address.get_backend_name() == "sqlite":
        options["timeout"] = min(timeout, 30.0)
        if address.database and not address.database.startswith((":memory:", "file:")):
            path = root / address.database
            if not path.is_file():  # SQLite would make an empty one
                raise unavailable(public(url), "no such file")
            address = address.set(database=str(path))
    return create_engine(address, connect_args=options, hide_parameters=True)


@contextmanager
def _reading(engine: Engine, timeout: float) -> Iterator[Connection]:
    """Open one transaction that sees the database as it was at one moment, and writes nothing."""
    from sqlalchemy import text  # saves start-up time

    postgres = engine.dialect.name == "postgresql"
    options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True} if postgres else {}
    with engine.connect().execution_options(**options) as connection:
        if postgres:
            connection.execute(text(f"SET LOCAL statement_timeout = {int(timeout * 1000)}"))
        yield connection


def _write(rows: list[dict[str, Any]], path: Path) -> None:
    import pyarrow as pa  # saves start-up time
    import pyarrow.parquet as pq

    if not rows:
        return
    try:
        pq.write_table(pa.Table.from_pylist(rows), path)
    except (pa.ArrowException, TypeError) as error:
        raise BatchRefused(
            "The rows of a query have values that no column can hold",
            expected="one type in each column: numbers, text, dates, times, booleans",
            found=" ".join(str(error).split())[:300],
            todo="cast the column in the query",
        ) from error


def _is_deleted(value: Any) -> bool:
    return value not in (None, False, 0, "", "0", "f", "false")


def _shown(cursor: Any) -> dict[str, str]:
    """Return a cursor as texts, exactly."""
    if isinstance(cursor, datetime):
        return {"cursor": cursor.isoformat(), "type": "timestamp"}
    if isinstance(cursor, date):
        return {"cursor": cursor.isoformat(), "type": "date"}
    if isinstance(cursor, str):
        return {"cursor": cursor, "type": "text"}
    return {"cursor": repr(cursor) if isinstance(cursor, float) else str(cursor), "type": "number"}


def _back(since: dict[str, str] | None, overlap: timedelta | float) -> Any:
    """Return the value from which on rows are read; None reads all."""
    kind, text = (since or {}).get("type", "none"), (since or {}).get("cursor", "")
    if kind == "none":
        return None
    ago = overlap if isinstance(overlap, timedelta) else timedelta(seconds=overlap)
    if kind == "number":
        step = overlap.total_seconds() if isinstance(overlap, timedelta) else overlap
        number = float(text) if not text.lstrip("-").isdigit() else int(text)
        return number - (int(step) if isinstance(number, int) else step)
    if kind == "date":
        return (datetime.fromisoformat(text) - ago).date()
    if kind == "timestamp":
        return datetime.fromisoformat(text) - ago
    return _text_back(text, ago)


def _text_back(text: str, ago: timedelta) -> str:
    """Return a time that is kept as text (SQLite), earlier, in its own form."""
    try:
        at = datetime.fromisoformat(text) - ago
    except ValueError:
        raise DeclarationRefused(
            "The cursor of a query is neither a number nor a time",
            expected="a number, or a time such as 2024-01-22 10:00:00",
            found=repr(text)[:80],
            todo="name another column as the cursor, or cast it in the query",
        ) from None
    if len(text) == len("2024-01-22"):
        return at.date().isoformat()
    found = at.isoformat(sep=text[10], timespec="microseconds" if "." in text else "seconds")
    return found.replace("+00:00", "Z") if text.endswith("Z") and at.tzinfo in (UTC, None) else found


def _told(error: Exception, url: str) -> str:
    """Return what a driver said, without a password of the address."""
    from sqlalchemy import make_url  # saves start-up time

    cause = getattr(error, "orig", None) or error
    said = (str(cause).strip().splitlines() or [""])[0]
    word = make_url(url).password
    said = public(said).replace(str(word), "***") if word else public(said)
    return f"{type(cause).__name__}: {said}"[:300]
