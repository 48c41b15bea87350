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
from lindley.errors import FileUnavailable, LindleyError
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
    with pytest.raises(FileUnavailable, match=r"rejected/ \(a.txt has an extension.*Permission denied"):
        update_one(steps, workspace, "coins", path)
    assert path.exists()
    assert list((workspace.rejected / "coins").iterdir()) == []


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
