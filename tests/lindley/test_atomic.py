"""Another file takes the name of one that is archived or rejected: it stays, whenever it comes."""

from __future__ import annotations

from pathlib import Path

import pytest

from lindley import atomic
from lindley.arrivals.landing import archive, arrivals
from lindley.arrivals.rejection import reject
from lindley.atomic import Replaced, give_back, identity
from lindley.errors import BatchUnreadable

DIGEST = "ab" * 32
ERROR = BatchUnreadable("week.csv is empty", expected="a table", found="0 bytes", todo="check it")
AT = "2026-01-02T03:04:05Z"


def _file(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _replace(path: Path, data: bytes) -> None:
    """Put another file in the place of one, as a careful writer does."""
    _file(path.with_name("new.tmp"), data).replace(path)


@pytest.mark.parametrize("keep", [True, False])
def test_archive_leaves_another_file_than_the_one_that_was_read(
    tmp_path: Path, linking: str, keep: bool
) -> None:
    path = _file(tmp_path / "landing" / "today.csv", b"A")
    seen = identity(path)
    _replace(path, b"B")
    with pytest.raises(Replaced):
        archive(path, tmp_path / "store", "chain", DIGEST, keep=keep, seen=seen)
    assert path.read_bytes() == b"B"
    assert list((tmp_path / "store" / "chain").iterdir()) == []
    seen = identity(path)
    path.write_bytes(b"C, written over it")
    with pytest.raises(Replaced):
        archive(path, tmp_path / "store", "chain", DIGEST, keep=keep, seen=seen)
    assert path.read_bytes() == b"C, written over it"
    archive(path, tmp_path / "store", "chain", DIGEST, keep=keep, seen=identity(path))
    assert path.exists() == keep


def test_and_does_not_remove_it_when_the_store_has_the_digest(tmp_path: Path) -> None:
    first = archive(_file(tmp_path / "a.csv", b"A"), tmp_path / "store", "chain", DIGEST)
    path = _file(tmp_path / "landing" / "today.csv", b"A")
    seen = identity(path)
    _replace(path, b"B")
    assert archive(path, tmp_path / "store", "chain", DIGEST, seen=seen) == first
    assert path.read_bytes() == b"B"
    assert archive(path, tmp_path / "store", "chain", DIGEST, seen=identity(path)) == first
    assert list(path.parent.iterdir()) == []


def test_a_file_that_comes_between_look_and_removal_is_put_back(
    tmp_path: Path, linking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _file(tmp_path / "landing" / "today.csv", b"A")
    real = atomic.tempfile.mkdtemp

    def late(**options: object) -> str:
        _replace(path, b"B")
        return str(real(**options))

    monkeypatch.setattr(atomic.tempfile, "mkdtemp", late)
    target = archive(path, tmp_path / "store", "chain", DIGEST, seen=identity(path))
    assert target.read_bytes() == b"A"
    assert path.read_bytes() == b"B"
    assert list(path.parent.iterdir()) == [path]


def test_and_beside_a_third_one(tmp_path: Path, linking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _file(tmp_path / "landing" / "today.csv", b"A")
    real = atomic.tempfile.mkdtemp

    def late(**options: object) -> str:
        _replace(path, b"B")
        return str(real(**options))

    def later(name: str) -> None:
        if name == "archive-taken":
            _file(path, b"C")

    monkeypatch.setattr(atomic.tempfile, "mkdtemp", late)
    monkeypatch.setattr(atomic.failpoints, "reach", later)
    assert archive(path, tmp_path / "store", "chain", DIGEST, seen=identity(path)).read_bytes() == b"A"
    found = {each.name: each.read_bytes() for each in path.parent.iterdir()}
    assert found == {"today.csv": b"C", "today-1.csv": b"B"}


@pytest.mark.parametrize("when", ["archive-linked", "archive-taken"])
def test_what_is_written_through_the_old_name_does_not_reach_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    path = _file(tmp_path / "landing" / "today.csv", b"A")
    with path.open("ab", buffering=0) as writer:

        def write(name: str) -> None:
            if name == when:
                writer.write(b" and B")

        monkeypatch.setattr(atomic.failpoints, "reach", write)
        with pytest.raises(Replaced):
            archive(path, tmp_path / "store", "chain", DIGEST, seen=identity(path))
    assert path.read_bytes() == b"A and B"
    assert list(path.parent.iterdir()) == [path]
    assert list((tmp_path / "store" / "chain").iterdir()) == []


def test_what_a_killed_process_took_gets_its_name_again(tmp_path: Path, linking: str) -> None:
    folder = tmp_path / "landing" / "chain"
    _file(folder / ".taken-abc" / "today.csv", b"A")
    _file(folder / ".taken-def" / "week.csv", b"B")
    _file(folder / "week.csv", b"C")
    (folder / ".taken-ghi").mkdir()
    assert len(arrivals(tmp_path / "landing")) == 1
    for _ in range(2):
        give_back(folder)
        found = {each.name: each.read_bytes() for each in folder.iterdir()}
        assert found == {"today.csv": b"A", "week.csv": b"C", "week-1.csv": b"B"}
    give_back(tmp_path / "nowhere")


def test_one_that_two_processes_take_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _file(tmp_path / "landing" / "today.csv", b"A")

    def interfere(name: str) -> None:
        if name == "archive-taken":
            give_back(path.parent)

    monkeypatch.setattr(atomic.failpoints, "reach", interfere)
    target = archive(path, tmp_path / "store", "chain", DIGEST, seen=identity(path))
    assert (target.read_bytes(), path.read_bytes()) == (b"A", b"A")


def test_a_removal_that_another_process_came_into_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _file(tmp_path / "landing" / "today.csv", b"A")
    seen, make, came = identity(path), atomic.tempfile.mkdtemp, []

    def made(**options: object) -> str:
        folder = make(**options)  # type: ignore[call-overload]
        if len(came) < 2:
            came.append(folder)
            give_back(path.parent)  # takes the folder away before the file is in it
        return str(folder)

    monkeypatch.setattr(atomic.tempfile, "mkdtemp", made)
    atomic.remove(path, seen)
    assert (len(came), list(path.parent.iterdir())) == (2, [])


def test_reject_leaves_another_file_than_the_one_that_was_refused(tmp_path: Path, linking: str) -> None:
    path = _file(tmp_path / "today.csv", b"A")
    seen = identity(path)
    _replace(path, b"B")
    with pytest.raises(Replaced):
        reject(path, tmp_path / "rejected", "chain", ERROR, at=AT, seen=seen)
    assert path.read_bytes() == b"B"
    assert list((tmp_path / "rejected" / "chain").iterdir()) == []
    assert reject(path, tmp_path / "rejected", "chain", ERROR, at=AT, seen=identity(path)).name == "today.csv"
    assert not path.exists()
