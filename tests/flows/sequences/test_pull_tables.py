"""Pulls from SQL and Delta tables: rows that come late, out of order, twice, updated and deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from deltalake import DeltaTable, write_deltalake

from flows.sequences.steps import Steps
from lindley import Delta, Sql
from lindley.errors import BatchRefused, DeclarationRefused, SourceUnavailable
from lindley.operations.pulls import plans
from lindley.workspace import Workspace
from tests.support import servers
from tests.support.amendments import NAME, chain_of, is_sound
from tests.support.fakes import MemoryLedger
from tests.support.forging import record_of
from tests.support.pulls import Place, place_on

#: Where a pull of two links dies, and for which time it comes there.
STEPS = (("pull", 1), ("fit", 1), ("log", 1), ("register", 1), ("register", 2))
QUERY = "select id, k, n, updated_at, gone from coins"
MORE = 'overlap=datetime.timedelta(minutes=5), deleted="gone", vanished="retract"'
SQL = f'lindley.Sql("{{url}}", "{QUERY}", {MORE})'


@pytest.fixture(scope="module")
def postgres() -> Iterator[Callable[[str], str]]:
    with servers.postgres() as database:
        yield database


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.e2e)])
def url(request: pytest.FixtureRequest, workspace: Workspace) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{workspace.root / 'rows.db'}"
    make: Callable[[str], str] = request.getfixturevalue("postgres")
    return make(f"coins_{abs(hash(request.node.name)) % 10**8}")


@pytest.fixture
def place(steps: Steps, workspace: Workspace, ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(plans, "_together", lambda *_: True)
    return Place(steps, workspace, ledger)


@pytest.fixture
def table(place: Place, url: str) -> Iterator[sa.Engine]:
    """A table of coins with a row's time of change, and the chain that pulls it."""
    engine = sa.create_engine(url)
    kind = "timestamp" if engine.dialect.name == "postgresql" else "text"
    with engine.begin() as connection:
        connection.execute(
            sa.text(f"create table coins (id integer, k integer, n integer, updated_at {kind}, gone boolean)")
        )
    place.declare_source(SQL.format(url=url))
    yield engine
    engine.dispose()


def put(at: sa.Engine | sa.Connection, minute: int, **rows: int) -> None:
    """Write rows (``i1=3``: id 1, k 3) as they were changed at a minute of an hour."""
    if isinstance(at, sa.Engine):
        with at.begin() as connection:
            put(connection, minute, **rows)
        return
    for name, k in rows.items():
        values = {"id": int(name[1:]), "k": k, "at": f"2026-01-01 10:{minute:02d}:00"}
        found = at.execute(sa.text("update coins set k = :k, updated_at = :at where id = :id"), values)
        if not found.rowcount:
            at.execute(sa.text("insert into coins values (:id, :k, 10, :at, null)"), values)


def test_rows_that_come_late_twice_updated_and_deleted(place: Place, table: sa.Engine) -> None:
    put(table, 10, i1=3, i2=3)
    put(table, 9, i0=3)  # out of order
    place.pull()
    assert place.rows() == {0: 3, 1: 3, 2: 3}
    assert place.pull().status == "unchanged"
    put(table, 20, i3=3)
    place.pull()
    put(table, 17, i4=3)  # committed late, within the overlap
    put(table, 21, i2=7)
    place.pull()
    assert place.rows() == {0: 3, 1: 3, 2: 7, 3: 3, 4: 3}
    with table.begin() as connection:
        connection.execute(
            sa.text("update coins set gone = true, updated_at = '2026-01-01 10:22:00' where id = 1")
        )
        connection.execute(sa.text("insert into coins select * from coins where id = 3"))
        connection.execute(sa.text("update coins set updated_at = '2026-01-01 10:23:00' where id = 3"))
    made = place.pull()  # a row that was touched, and is there twice, is one row as before
    assert (made.pulled["rows"]["repeated"], made.pulled["rows"]["vanished"]) == (1, 1)
    assert place.rows() == {0: 3, 2: 7, 3: 3, 4: 3}
    versions = [record_of(place.ledger, NAME, number)["source"] for number in range(1, 6)]
    assert versions[0]["since"] is None
    assert versions[-1]["since"]["cursor"].endswith("10:21:00")
    assert is_sound(place.ledger)


def test_one_transaction_sees_one_moment(place: Place, table: sa.Engine) -> None:
    """What is not committed is not read; what commits afterwards is read by the next pull."""
    put(table, 10, i1=3)
    with table.connect() as late:
        if table.dialect.name == "postgresql":
            put(late, 11, i2=3)
        place.pull()
        assert place.rows() == {1: 3}
        late.commit()
    put(table, 14, i3=3)
    place.pull()
    assert set(place.rows()) == ({1, 2, 3} if table.dialect.name == "postgresql" else {1, 3})


def test_a_killed_pull_of_a_query_is_continued(place: Place, table: sa.Engine) -> None:
    put(table, 10, i1=3, i2=3)
    place.pull()
    put(table, 20, i1=5, i3=3)
    kept = place.ledger.clone()
    for step, nth in STEPS:
        ledger = kept.clone()
        with pytest.raises(KeyboardInterrupt):
            place_on(place, ledger, step, nth).pull()
        whole = place_on(place, ledger)
        whole.pull()
        assert whole.rows() == {1: 5, 2: 3, 3: 3}
        assert len(chain_of(ledger).links) == 3
    assert is_sound(ledger)


def test_columns_that_changed_and_a_cursor_that_is_not_there(
    place: Place, table: sa.Engine, url: str
) -> None:
    put(table, 10, i1=3)
    place.pull()
    place.declare_source(f'lindley.Sql("{url}", "select id, k, n as m, updated_at from coins")')
    with pytest.raises(BatchRefused, match="missing: 'n'; unexpected: 'm'"):
        place.pull()
    place.declare_source(f'lindley.Sql("{url}", "select id, k, n from coins")')
    with pytest.raises((SourceUnavailable, BatchRefused)):
        place.pull()
    assert place.rows() == {1: 3}


def test_all_rows_without_a_cursor(place: Place, table: sa.Engine, url: str) -> None:
    put(table, 10, i1=3, i2=3)
    place.declare_source(
        f'lindley.Sql("{url}", "select id, k, n from coins", cursor=None, vanished="retract")'
    )
    place.pull()
    assert place.pull().status == "unchanged"
    with table.begin() as connection:
        connection.execute(sa.text("delete from coins where id = 1"))
    place.pull()
    assert place.rows() == {2: 3}


def test_a_database_that_is_down_or_slow_changes_nothing(
    place: Place, postgres: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORD", "hush-hush")
    place.declare_source('lindley.Sql("postgresql://me:${WORD}@127.0.0.1:1/none", "select 1", timeout=2)')
    with pytest.raises(SourceUnavailable, match="OperationalError") as down:
        place.pull()
    url = postgres("slow").replace("lindley@", "lindley:${WORD}@")
    query = "select 1 as id, 3 as k, 10 as n, now() as updated_at, pg_sleep(9)"
    place.declare_source(f'lindley.Sql("{url}", "{query}", timeout=0.3)')
    with pytest.raises(SourceUnavailable, match="timeout") as slow:
        place.pull()
    for error in (down.value, slow.value):
        assert "hush" not in f"{error} {error.__cause__} {error.as_dict()}"


def test_what_a_declaration_of_a_query_must_not_hold() -> None:
    with pytest.raises(DeclarationRefused, match="holds a password"):
        Sql("postgresql://me:hush@host/rows", "select 1")
    with pytest.raises(DeclarationRefused, match="semicolon"):
        Sql("sqlite:///rows.db", "select 1; drop table coins")
    assert "host/rows" in Sql("postgresql://me:${WORD}@host/rows?x=1", "select 1").address
    assert "me" not in Sql("postgresql://me:${WORD}@host/rows?x=1", "select 1").address.split("//")[1]


# -- Delta ----------------------------------------------------------------------------------------------


def frame(rows: dict[int, int]) -> pa.Table:
    return pa.table({"id": list(rows), "k": list(rows.values()), "n": [10] * len(rows)})


@pytest.fixture
def delta(place: Place) -> str:
    place.declare_source('lindley.Delta("lake")')
    return str(place.workspace.root / "lake")


def test_a_delta_table_that_is_appended_updated_and_deleted(place: Place, delta: str) -> None:
    write_deltalake(delta, frame(dict.fromkeys(range(4), 3)), partition_by=["n"])
    place.pull()
    assert place.pull().status == "unchanged"
    write_deltalake(delta, frame({4: 3, 5: 3}), mode="append")
    write_deltalake(delta, frame({4: 3, 5: 3}), mode="append")  # a writer that tried again
    made = place.pull()
    assert (made.pulled["rows"]["new"], made.pulled["rows"]["repeated"]) == (2, 2)
    DeltaTable(delta).update(updates={"k": "7"}, predicate="id = 1")
    DeltaTable(delta).delete("id = 3")
    DeltaTable(delta).optimize.compact()
    place.pull()
    assert place.rows() == {0: 3, 1: 7, 2: 3, 4: 3, 5: 3}
    sources = [record_of(place.ledger, NAME, number)["source"] for number in (1, 2, 3)]
    assert [source["version"]["version"] for source in sources] == ["0", "2", "5"]
    assert [source["since"] and source["since"]["version"] for source in sources] == [None, "0", "2"]
    assert is_sound(place.ledger)


def test_only_files_that_changed_are_read(place: Place, delta: str) -> None:
    write_deltalake(delta, frame({0: 3, 1: 3}))
    place.pull()
    write_deltalake(delta, frame({2: 3}), mode="append")
    made = place.pull()
    assert sum(made.pulled["rows"].values()) == made.pulled["rows"]["new"] == 1
    DeltaTable(delta).delete("id = 0")
    DeltaTable(delta).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    place.pull()  # files of the version before are gone: all rows are compared
    assert place.rows() == {1: 3, 2: 3}
    assert is_sound(place.ledger)


def test_a_killed_pull_of_a_delta_table_is_continued(place: Place, delta: str) -> None:
    write_deltalake(delta, frame({0: 3, 1: 3}))
    place.pull()
    write_deltalake(delta, frame({2: 3}), mode="append")
    DeltaTable(delta).update(updates={"k": "7"}, predicate="id = 1")
    for step, nth in STEPS:
        ledger = place.ledger.clone()
        with pytest.raises(KeyboardInterrupt):
            place_on(place, ledger, step, nth).pull()
        whole = place_on(place, ledger)
        whole.pull()
        assert whole.rows() == {0: 3, 1: 7, 2: 3}
        assert len(chain_of(ledger).links) == 3


def test_a_delta_table_that_is_not_there_or_has_other_columns(place: Place, delta: str) -> None:
    with pytest.raises(SourceUnavailable, match="TableNotFound"):
        place.pull()
    write_deltalake(delta, frame({0: 3}).append_column("m", pa.array([1])))
    with pytest.raises(BatchRefused, match="unexpected: 'm'"):
        place.pull()


def test_a_delta_table_needs_its_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setitem(__import__("sys").modules, "deltalake", None)
    with pytest.raises(DeclarationRefused, match=r"lindley\[delta\]"):
        Delta("lake").read(None, tmp_path, tmp_path)
