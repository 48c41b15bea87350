"""Files and folders that the operating system does not let an update read, move or write."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.sequences import files
from flows.sequences.update import in_order, update_one
from lindley.arrivals import landing
from lindley.arrivals.landing import Ignored, Listing
from lindley.batch import reading
from lindley.errors import FileUnavailable, LindleyError, NotSetAside
from lindley.ledger.history import history


@pytest.fixture
def unreadable(monkeypatch) -> Callable[[Path], None]:
    """Return a function after which a file can be neither opened nor linked, as one of another user."""

    def close(path: Path) -> None:
        real, real_reading = Path.open, reading.without_waiting

        def read(name: Path, flags: int) -> int:
            if Path(name) == path:
                raise PermissionError(errno.EACCES, "Permission denied")
            return real_reading(name, flags)

        def opened(self: Path, *mode: object, **options: object) -> object:
            if self == path:
                raise PermissionError(errno.EACCES, "Permission denied")
            return real(self, *mode, **options)

        def link(*_: object) -> None:
            raise PermissionError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(Path, "open", opened)
        monkeypatch.setattr(reading, "without_waiting", read)
        monkeypatch.setattr(landing, "without_waiting", read)
        monkeypatch.setattr("lindley.atomic.os.link", link)

    return close


def test_a_file_that_cannot_be_read_stays_and_blocks_its_chain(steps, workspace, land, unreadable, said):
    path, newest = land("a.csv", minutes=2), land("b.csv", 5, minutes=1)
    unreadable(path)

    def one(older):
        try:
            return update_one(steps, workspace, "coins", older)
        except LindleyError as error:
            return error

    with pytest.raises(FileUnavailable, match="Permission denied"):
        in_order(workspace, "coins", newest, one, said.append)
    assert path.exists()
    assert not (workspace.rejected / "coins").exists()


def test_a_refused_file_that_cannot_be_moved_stays_and_both_causes_are_reported(
    steps, workspace, land, unreadable
):
    path = land("a.txt")
    unreadable(path)
    with pytest.raises(NotSetAside, match=r"rejected/ \(a.txt has an extension.*Permission denied"):
        update_one(steps, workspace, "coins", path)
    assert path.exists()
    assert list((workspace.rejected / "coins").iterdir()) == []


@pytest.fixture
def not_removable(monkeypatch) -> None:
    """Let no file be removed from its folder, as on a disk that is mounted read-only."""

    def refuse(*_: object, **__: object) -> str:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("lindley.atomic._removed", refuse)


@pytest.mark.parametrize("links", [True, False])
def test_files_that_may_not_be_removed_are_counted_once_and_hold_up_nothing(
    steps, workspace, ledger, land, said, monkeypatch, not_removable, links
):
    paths = [land("a.csv", minutes=9), land("bad.csv", minutes=8, text="id\n"), land("b.csv", 5, minutes=7)]
    if not links:
        monkeypatch.setattr("lindley.atomic._linked", lambda *_: None)

    def one(older):
        try:
            return update_one(steps, workspace, "coins", older)
        except LindleyError as error:
            return error

    for _ in range(2):
        in_order(workspace, "coins", paths[-1], one, said.append)
        update_one(steps, workspace, "coins", paths[-1])
    assert [view.origin for view in history(ledger, "coins")] == ["a.csv", "b.csv"]
    assert all(path.exists() for path in paths)
    stored = list((workspace.store / "coins").iterdir())
    assert len(stored) == 2
    # Copies: a later edit of the owner's file does not reach the store.
    assert not {path.stat().st_ino for path in stored} & {path.stat().st_ino for path in paths}
    assert list((workspace.rejected / "coins").iterdir()) == []
    assert any("cannot be removed from the landing folder (Read-only file system)" in text for text in said)


def test_a_store_that_cannot_be_written_leaves_the_file_for_the_next_run(
    steps, workspace, ledger, land, monkeypatch
):
    path = land("a.csv")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("lindley.arrivals.landing.archive", full)
        with pytest.raises(FileUnavailable, match=r"cannot be archived.*No space left"):
            update_one(steps, workspace, "coins", path)
    assert path.exists()
    assert update_one(steps, workspace, "coins", path).status == "unchanged"
    assert (
        path.exists(),
        len(list((workspace.store / "coins").iterdir())),
        len(history(ledger, "coins")),
    ) == (False, 1, 1)


def test_a_file_that_cannot_be_inspected_blocks_its_chain_too(steps, workspace, land, unreadable, said):
    path = land("a.parquet", minutes=0.5, text="PAR1....PAR1")
    unreadable(path)
    with pytest.raises(FileUnavailable, match="Permission denied"):
        update_one(steps, workspace, "coins", path)
    assert said == ["a.parquet cannot be inspected: Permission denied"]
    newest = land("b.csv", 5, minutes=0.1)
    assert files.earlier(workspace, "coins", newest) == [path]


def test_nothing_overtakes_what_cannot_be_listed(workspace, land, monkeypatch):
    newest = land("b.csv")
    lost = FileUnavailable("a.csv cannot be looked at", OSError(errno.EIO, "Input/output error"), todo="wait")
    ignored = Ignored(workspace.landing / "coins" / "a.csv", "cannot be looked at", lost)
    real = landing.arrivals

    def listed(folder: Path) -> Listing:
        return Listing(tuple(real(folder)), (ignored,))

    monkeypatch.setattr(landing, "arrivals", listed)
    with pytest.raises(FileUnavailable, match="Input/output error"):
        files.earlier(workspace, "coins", newest)
    assert files.waiting(workspace, "dice") == []
