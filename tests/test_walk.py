"""The walk of one batch in CONTRIBUTING.md is the one that a real update takes."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from flows.direct import core_steps
from flows.sequences.update import update
from lindley.workspace import Workspace

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
#: The stations of the walk: file and function.
WALK = re.findall(r"^\d+\. `([\w/]+\.py)`, `(\w+)`", PAGE, flags=re.MULTILINE)
FILES = [file for file, _ in WALK]


class Walk:
    """Calls that lead from a station to a later one, while the batch is on its way."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.under_way = False

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        here = station(frame)
        if here is None:
            return
        call = FILES[here], frame.f_code.co_qualname
        if event == "call":
            # The walk begins where the file is read: the model is loaded before.
            self.under_way |= call == WALK[1]
            # Methods and closures work where the value that they belong to is used; imports are no calls.
            if self.under_way and call[1].isidentifier() and came_from(frame) < here:
                self.calls.append(call)
        elif event == "return" and call == WALK[-1]:
            self.under_way = False


def station(frame: FrameType) -> int | None:
    name = frame.f_code.co_filename
    file = name.removeprefix(f"{ROOT}{os.sep}")
    return FILES.index(file) if file in FILES and file != name else None


def came_from(frame: FrameType) -> int:
    """Return the station that a call comes from, also through files that are none."""
    caller = frame.f_back
    while caller is not None:
        found = station(caller)
        if found is not None:
            return found
        caller = caller.f_back
    return -1


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The calls of a direct update, with a real fit and a real ledger."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("LINDLEY_MODELS", str(ROOT / "models"))
    monkeypatch.setenv("LINDLEY_DATA", str(tmp_path / "data"))
    (tmp_path / "batch.csv").write_text("id,k,n\n1,3,10\n2,5,10\n3,4,10\n", encoding="utf-8")
    workspace, walk = Workspace.from_environment(tmp_path), Walk()
    before = sys.getprofile()
    sys.setprofile(walk)
    try:
        result = update(core_steps(plots=False), workspace, "beta_binomial", str(tmp_path / "batch.csv"))
    finally:
        sys.setprofile(before)
    assert result.status == "accepted"
    return walk.calls


def test_a_batch_takes_the_walk_and_enters_no_file_twice(calls: list[tuple[str, str]]) -> None:
    assert len(set(FILES)) == len(FILES) >= 15
    entered = [
        call for call, before in zip(calls, [("", ""), *calls[:-1]], strict=True) if call[0] != before[0]
    ]
    assert entered == WALK[1:]
