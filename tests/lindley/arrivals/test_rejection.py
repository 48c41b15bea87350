"""Rejected files: a reason beside each, nothing overwritten, nothing lost, hostile names."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lindley import atomic
from lindley.arrivals.rejection import reject
from lindley.atomic import identity
from lindley.errors import BatchUnreadable, FileUnavailable, NameRefused

ERROR = BatchUnreadable("week.csv is empty", expected="a table", found="0 bytes", todo="check it")
AT = "2026-01-02T03:04:05Z"


def _file(path: Path, data: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_reject_moves_and_gives_the_reason(tmp_path: Path, linking: str) -> None:
    path = _file(tmp_path / "week.csv", b"bad")
    target = reject(path, tmp_path / "rejected", "chain", ERROR, at=AT)
    assert target == tmp_path / "rejected" / "chain" / "week.csv"
    assert target.read_bytes() == b"bad"
    assert not path.exists()
    reason = json.loads((target.parent / "week.csv.reason.json").read_text("utf-8"))
    assert reason == {
        "error": "BatchUnreadable",
        "happened": "week.csv is empty",
        "expected": "a table",
        "found": "0 bytes",
        "todo": "check it",
        "original_name": "week.csv",
        "chain": "chain",
        "rejected_at": AT,
    }
    assert len(list(target.parent.iterdir())) == 2


def test_reject_never_overwrites(tmp_path: Path, linking: str) -> None:
    names = []
    for number in range(3):
        path = _file(tmp_path / "week.csv", b"%d" % number)
        names.append(reject(path, tmp_path / "rejected", "chain", ERROR, at=AT).name)
    assert names == ["week.csv", "week-1.csv", "week-2.csv"]
    folder = tmp_path / "rejected" / "chain"
    assert [(folder / name).read_bytes() for name in names] == [b"0", b"1", b"2"]
    assert all((folder / f"{name}.reason.json").exists() for name in names)
    _file(folder / "other.csv.reason.json", b"kept")
    assert (
        reject(_file(tmp_path / "other.csv"), tmp_path / "rejected", "chain", ERROR, at=AT).name
        == "other-1.csv"
    )
    assert (folder / "other.csv.reason.json").read_bytes() == b"kept"


def test_reject_of_a_file_that_is_gone_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileNotFoundError):
        reject(tmp_path / "gone.csv", tmp_path / "rejected", "chain", ERROR, at=AT)
    path = _file(tmp_path / "week.csv")
    real = atomic.os.link

    def taken(source: os.PathLike[str], target: os.PathLike[str]) -> None:
        if Path(source) == path:
            path.unlink()
        real(source, target)

    monkeypatch.setattr(atomic.os, "link", taken)
    with pytest.raises(FileNotFoundError):
        reject(path, tmp_path / "rejected", "chain", ERROR, at=AT)
    assert list((tmp_path / "rejected" / "chain").iterdir()) == []


HOSTILE = [
    "-rf.csv",
    "--help.csv",
    "two\nlines.csv",
    "tab\tand\x1b[31mcolour.csv",
    "x" * 251 + ".csv",
    "é" * 125 + ".csv",
    "a." + "b" * 250,
    "snow ☃ наука.csv",
    "a\u202egpj.csv",
    "con:stream?.csv",
    os.fsdecode(b"latin-\xe9.csv"),
    "~root.csv",
    "no extension",
    "...",
    "week.csv.reason.json",
]


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_hostile_names_are_made_safe(tmp_path: Path, name: str) -> None:
    for _ in range(2):
        path = _file(tmp_path / "landing" / name, b"bad")
        target = reject(path, tmp_path / "rejected", "chain", ERROR, at=AT)
        assert target.parent == tmp_path / "rejected" / "chain"
        assert target.read_bytes() == b"bad"
        assert target.name.isprintable()
        assert target.name[0] not in "-.~"
        assert len(os.fsencode(target.name)) <= 210
        reason = json.loads((target.parent / f"{target.name}.reason.json").read_text("utf-8"))
        assert reason["original_name"] == os.fsencode(name).decode("utf-8", "backslashreplace")
        assert list((tmp_path / "landing").iterdir()) == []


@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=60))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_name_can_be_rejected(tmp_path: Path, name: str) -> None:
    if name in (".", ".."):
        return
    path = _file(tmp_path / "landing" / name, b"bad")
    target = reject(path, tmp_path / "rejected", "chain", ERROR, at=AT)
    assert target.parent == tmp_path / "rejected" / "chain"
    assert target.read_bytes() == b"bad"


def test_reject_refuses_a_chain_name_that_could_leave_the_folder(tmp_path: Path) -> None:
    path = _file(tmp_path / "a.csv")
    with pytest.raises(NameRefused):
        reject(path, tmp_path / "rejected", "..", ERROR, at=AT)
    assert path.exists()


def test_concurrent_rejections_lose_nothing(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    paths = [_file(tmp_path / f"{number}" / "week.csv", b"%d" % number) for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        targets = list(
            pool.map(lambda path: reject(path, tmp_path / "rejected", "chain", ERROR, at=AT), paths)
        )
    assert len(set(targets)) == 16
    assert [target.read_bytes() for target in targets] == [b"%d" % number for number in range(16)]


@pytest.mark.parametrize("stuck", ["not read", "not removed", "no space"])
def test_a_file_that_cannot_be_moved_stays_and_has_no_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stuck: str
) -> None:
    path = _file(tmp_path / "landing" / "week.csv", b"bad")

    def refuse(number: int) -> Callable[..., None]:
        def raising(*_: object, **__: object) -> None:
            raise OSError(number, os.strerror(number))

        return raising

    if stuck == "not read":  # of another user: it can neither be linked nor copied
        monkeypatch.setattr(atomic.os, "link", refuse(errno.EPERM))
        monkeypatch.setattr(Path, "open", refuse(errno.EACCES))
    elif stuck == "not removed":  # in a folder of another user
        monkeypatch.setattr(atomic.tempfile, "mkdtemp", refuse(errno.EACCES))
    else:
        monkeypatch.setattr(atomic.shutil, "copyfileobj", refuse(errno.ENOSPC))
    for _ in range(2):
        with pytest.raises(FileUnavailable, match=r"moved to rejected/ \(week.csv is empty\)") as caught:
            reject(path, tmp_path / "rejected", "chain", ERROR, at=AT, seen=identity(path))
        assert caught.value.transient == (stuck == "no space")
        assert list((tmp_path / "rejected" / "chain").iterdir()) == []
        assert list(path.parent.iterdir()) == [path]
