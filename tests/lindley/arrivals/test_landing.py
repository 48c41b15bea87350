"""The landing folder: complete files oldest first, nothing overwritten, nothing lost."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pandas as pd
import pytest

from lindley import atomic
from lindley.arrivals import landing
from lindley.arrivals.landing import Arrival, archive, arrivals, drop, is_complete
from lindley.errors import BatchRefused, FileUnavailable, NameRefused

DIGEST = "ab" * 32


def _file(path: Path, data: bytes = b"x", mtime: float | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    if mtime is not None:
        os.utime(path, (mtime, mtime))
    return path


# Arrivals


def test_arrivals_come_oldest_first(tmp_path: Path) -> None:
    _file(tmp_path / "b" / "new.csv", mtime=300)
    _file(tmp_path / "a" / "old.parquet", b"four", mtime=100)
    _file(tmp_path / "b" / "same-1.csv", mtime=200)
    _file(tmp_path / "a" / "same-2.csv", mtime=200)
    listing = arrivals(tmp_path)
    assert [file.path.name for file in listing] == ["old.parquet", "same-2.csv", "same-1.csv", "new.csv"]
    assert listing.files[0] == Arrival("a", tmp_path / "a" / "old.parquet", 4, 100 * 10**9)
    assert (len(listing), listing.ignored) == (4, ())


def test_temporary_and_hidden_files_are_left_alone(tmp_path: Path) -> None:
    names = (".hidden.csv", "a.csv.tmp", "a.csv.PART", "a.partial", "a.crdownload", "a.csv~")
    for name in names:
        _file(tmp_path / "chain" / name)
    _file(tmp_path / ".git" / "a.csv")
    _file(tmp_path / ".gitkeep")
    _file(tmp_path / "chain" / "notes.txt")
    listing = arrivals(tmp_path)
    assert [file.path.name for file in listing] == ["notes.txt"]
    assert listing.ignored == ()


def test_what_is_ignored_is_named_with_its_reason(tmp_path: Path) -> None:
    _file(tmp_path / "Not a chain" / "a.csv")
    _file(tmp_path / "stray.csv")
    _file(tmp_path / "chain" / "folder" / "a.csv")
    secret = _file(tmp_path / "elsewhere.csv")
    (tmp_path / "chain" / "link.csv").symlink_to(secret)
    (tmp_path / "chain" / "broken.csv").symlink_to(tmp_path / "nowhere")
    (tmp_path / "linked").symlink_to(tmp_path / "chain", target_is_directory=True)
    os.mkfifo(tmp_path / "chain" / "pipe.csv")
    listing = arrivals(tmp_path)
    assert len(listing) == 0
    assert {each.path.name: each.why for each in listing.ignored} == {
        "Not a chain": "the folder's name cannot be a chain",
        "stray.csv": "not in the folder of a chain",
        "elsewhere.csv": "not in the folder of a chain",
        "linked": "not in the folder of a chain",
        "folder": "a folder or special file",
        "pipe.csv": "a folder or special file",
        "link.csv": "a symbolic link",
        "broken.csv": "a symbolic link",
    }


def test_a_missing_landing_folder_is_empty(tmp_path: Path) -> None:
    assert len(arrivals(tmp_path / "nowhere")) == 0


def test_a_folder_that_cannot_be_listed_is_ignored_with_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _file(tmp_path / "a" / "x.csv")
    _file(tmp_path / "b" / "x.csv")
    closed, scandir = tmp_path / "a", os.scandir

    def scan(path: Path) -> object:
        if path == closed:
            raise PermissionError(errno.EACCES, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(landing.os, "scandir", scan)
    listing = arrivals(tmp_path)
    assert [file.chain for file in listing] == ["b"]
    (ignored,) = listing.ignored
    assert (ignored.path, ignored.why) == (closed, "the folder cannot be listed")
    assert "Permission denied" in str(ignored.error)
    closed = tmp_path
    with pytest.raises(FileUnavailable, match="Permission denied"):
        arrivals(tmp_path)


# Completeness


class Time:
    """A clock that only sleeping moves, and what happens to files meanwhile."""

    def __init__(self, now: float, meanwhile: object = None) -> None:
        self.now, self.slept, self._meanwhile = now, 0.0, meanwhile

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds
        if callable(self._meanwhile):
            self._meanwhile()


def _complete(path: Path, time: Time) -> bool:
    return is_complete(path, clock=time.clock, sleep=time.sleep)


def test_a_settled_file_is_complete_at_once(tmp_path: Path) -> None:
    time = Time(1_000)
    assert _complete(_file(tmp_path / "a.csv", mtime=990), time)
    assert time.slept == 0


def test_a_fresh_file_is_watched_for_a_moment(tmp_path: Path) -> None:
    path = _file(tmp_path / "a.csv", mtime=999.5)
    time = Time(1_000)
    assert _complete(path, time)
    assert time.slept == 1
    assert not _complete(path, Time(1_000, lambda: _file(path, b"more", mtime=999.5)))
    assert not _complete(path, Time(1_000, lambda: _file(path, b"x", mtime=1_000.5)))
    assert not _complete(path, Time(1_000.2, path.unlink))
    assert not _complete(path, Time(1_000))


def test_parquet_must_end_as_parquet_until_patience_ends(tmp_path: Path) -> None:
    whole = _file(tmp_path / "a.parquet", b"PAR1....PAR1", mtime=100)
    for data in (b"PAR1....", b"PAR1", b""):
        part = _file(tmp_path / "b.PARQUET", data, mtime=100)
        assert not _complete(part, Time(159))
        assert _complete(part, Time(160))
    assert _complete(whole, Time(102))


def test_a_time_in_the_future_does_not_block_for_ever(tmp_path: Path) -> None:
    path = _file(tmp_path / "a.parquet", b"PAR1....")
    now = path.stat().st_mtime
    os.utime(path, (now + 86_400, now + 86_400))
    assert not _complete(path, Time(now + 10))
    assert _complete(path, Time(now + 100))


# The store


def test_archive_moves_by_digest(tmp_path: Path, linking: str) -> None:
    path = _file(tmp_path / "landing" / "Week.CSV", b"data")
    target = archive(path, tmp_path / "store", "chain", DIGEST)
    assert target == tmp_path / "store" / "chain" / f"{DIGEST}.csv"
    assert target.read_bytes() == b"data"
    assert not path.exists()
    assert [each.name for each in target.parent.iterdir()] == [target.name]


def test_archive_can_keep_the_file_and_then_copies(tmp_path: Path, linking: str) -> None:
    path = _file(tmp_path / "week.csv", b"data")
    target = archive(path, tmp_path / "store", "chain", DIGEST, keep=True)
    path.write_bytes(b"edited afterwards")
    assert target.read_bytes() == b"data"


def test_archive_twice_keeps_the_first(tmp_path: Path, linking: str) -> None:
    first = archive(_file(tmp_path / "a.csv", b"first"), tmp_path / "store", "chain", DIGEST)
    for name in ("b.csv", "c.parquet"):
        again = _file(tmp_path / name, b"same content, other bytes")
        assert archive(again, tmp_path / "store", "chain", DIGEST, keep=True) == first
        assert again.exists()
        assert archive(again, tmp_path / "store", "chain", DIGEST) == first
        assert not again.exists()
        assert archive(again, tmp_path / "store", "chain", DIGEST) == first  # after a crash
    assert first.read_bytes() == b"first"
    assert archive(first, tmp_path / "store", "chain", DIGEST) == first
    assert first.exists()


def test_archive_finishes_what_a_crash_interrupted(tmp_path: Path) -> None:
    path = _file(tmp_path / "a.csv", b"data")
    target = tmp_path / "store" / "chain" / f"{DIGEST}.csv"
    target.parent.mkdir(parents=True)
    os.link(path, target)
    assert archive(path, tmp_path / "store", "chain", DIGEST) == target
    assert not path.exists()
    assert target.read_bytes() == b"data"


def test_archive_of_a_symbolic_link_copies_its_target(tmp_path: Path) -> None:
    real = _file(tmp_path / "real.csv", b"data")
    link = tmp_path / "link.csv"
    link.symlink_to(real)
    target = archive(link, tmp_path / "store", "chain", DIGEST)
    assert not target.is_symlink()
    assert not link.is_symlink()
    real.write_bytes(b"changed")
    assert target.read_bytes() == b"data"


@pytest.mark.parametrize(
    ("chain", "digest"), [("../up", DIGEST), ("chain", "../" + DIGEST), ("chain", "AB" * 32)]
)
def test_archive_refuses_names_that_could_leave_the_store(tmp_path: Path, chain: str, digest: str) -> None:
    path = _file(tmp_path / "a.csv")
    with pytest.raises(NameRefused):
        archive(path, tmp_path / "store", chain, digest)
    assert path.exists()


def test_a_failed_copy_leaves_file_and_store_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    path = _file(tmp_path / "a.csv", b"data")
    monkeypatch.setattr(atomic.shutil, "copyfileobj", full)
    with pytest.raises(OSError, match="no space"):
        archive(path, tmp_path / "store", "chain", DIGEST, keep=True)
    assert path.read_bytes() == b"data"
    assert list((tmp_path / "store" / "chain").iterdir()) == []


# Dropping


def test_drop_of_a_frame_is_parquet_and_repeatable(tmp_path: Path, linking: str) -> None:
    frame = pd.DataFrame({"k": [1, 2], "t": pd.to_datetime(["2020-01-01T00:00Z", "2020-01-02T00:00Z"])})
    target = drop(frame, tmp_path / "landing", "chain", "week-1")
    assert target == tmp_path / "landing" / "chain" / "week-1.parquet"
    pd.testing.assert_frame_equal(pd.read_parquet(target), frame, check_dtype=False)
    assert drop(frame, tmp_path / "landing", "chain", "week-1") == target
    before = target.read_bytes()
    with pytest.raises(BatchRefused, match="with other content"):
        drop(frame[::-1], tmp_path / "landing", "chain", "week-1")
    assert target.read_bytes() == before
    assert [file.path for file in arrivals(tmp_path / "landing")] == [target]
    assert len(list(target.parent.iterdir())) == 1


def test_drop_of_a_file_is_a_copy(tmp_path: Path) -> None:
    source = _file(tmp_path / "Source.CSV", b"k\n1\n")
    target = drop(source, tmp_path / "landing", "chain", "week-1")
    assert target.name == "week-1.csv"
    assert target.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("stem", ["", "../a", ".hidden", "-a", "a/b", "a\n", "x" * 101])
def test_drop_refuses_stems_that_are_no_names(tmp_path: Path, stem: str) -> None:
    with pytest.raises(NameRefused):
        drop(pd.DataFrame({"k": [1]}), tmp_path / "landing", "chain", stem)


def test_drop_refuses_frames_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(BatchRefused, match="'k'"):
        drop(pd.DataFrame({"k": [1, "a"]}), tmp_path / "landing", "chain", "week-1")


def test_a_pipe_that_takes_the_name_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "week.parquet")
    os.utime(tmp_path / "week.parquet", (0, 0))
    with pytest.raises(OSError):  # reading it from both ends, or seeking in it
        is_complete(tmp_path / "week.parquet", clock=lambda: 5.0, sleep=lambda _: None)
