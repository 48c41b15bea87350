"""The folder for the copy of a source: removed at the end of a pull, and by the next one after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from lindley.arrivals.sources.scratch import scratch_folder

KILLED = """
import os, signal
from lindley.arrivals.sources.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "large.csv").write_text("id")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_pull_left_is_removed_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "lindley-pull-just-made").mkdir()
    (tmp_path / "lindley-pull-link").symlink_to(tmp_path / "lindley-pull-just-made")
    done = subprocess.run(
        [sys.executable, "-c", KILLED], env=os.environ | {"TMPDIR": str(tmp_path)}, check=False
    )
    assert done.returncode == -signal.SIGKILL
    (left,) = {path.parents[1] for path in tmp_path.glob("*/source/large.csv")}
    with scratch_folder() as one, scratch_folder() as other:
        assert not left.exists()
        assert one.is_dir()  # of a process that lives
        assert other.is_dir()
        assert list(other.iterdir()) == []
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"lindley-pull-just-made", "lindley-pull-link"}
