"""Which file is meant, which are waiting, and whose turn it is."""

from __future__ import annotations

import subprocess
import sys

import pytest

from flows.sequences import files
from lindley.errors import NameRefused


def test_a_plain_name_lies_in_the_chains_landing_folder(workspace, tmp_path):
    assert files.locate(workspace, "coins", "a.csv") == workspace.landing / "coins" / "a.csv"
    assert files.locate(workspace, "coins", str(tmp_path / "a.csv")) == tmp_path / "a.csv"


@pytest.mark.parametrize("name", ["../a.csv", "dice/a.csv", "..", ".", "", "a/"])
def test_a_relative_path_is_refused(workspace, name):
    with pytest.raises(NameRefused):
        files.locate(workspace, "coins", name)


def test_a_correction_lies_in_a_folder_of_its_own(workspace, tmp_path):
    assert workspace.corrections == tmp_path / "data" / "corrections"
    assert files.locate_correction(workspace, "coins", "a.csv") == workspace.corrections / "coins" / "a.csv"
    assert files.locate_correction(workspace, "coins", str(tmp_path / "a.csv")) == tmp_path / "a.csv"
    for name in ("../a.csv", "dice/a.csv", "..", ""):
        with pytest.raises(NameRefused, match="corrections folder"):
            files.locate_correction(workspace, "coins", name)


def test_a_correction_in_the_landing_folder_is_refused_and_told_where_to_go(workspace, land, tmp_path):
    path = land("a.csv")
    link = tmp_path / "link.csv"
    link.symlink_to(path)
    inside = path.with_name("link.csv")
    inside.symlink_to(tmp_path / "elsewhere.csv")
    beside = workspace.corrections / "coins" / ".." / ".." / "landing" / "coins" / "a.csv"
    (workspace.corrections / "coins").mkdir(parents=True)
    for each in (path, link, inside, beside):
        with pytest.raises(NameRefused, match=str(workspace.corrections / "coins")):
            files.check_correction(workspace, "coins", each)
    files.check_correction(workspace, "coins", tmp_path / "a.csv")
    with pytest.raises(NameRefused, match="landing folder"):
        files.locate_correction(workspace, "coins", "a.csv")
    (workspace.corrections / "coins" / "a.csv").write_text("id,k,n\n")
    assert files.locate_correction(workspace, "coins", "a.csv").parent.parent == workspace.corrections


@pytest.mark.parametrize("chain", ["../coins", "Coins", ""])
def test_so_is_a_chain_that_is_no_name(workspace, chain):
    with pytest.raises(NameRefused):
        files.locate(workspace, chain, "a.csv")
    with pytest.raises(NameRefused):
        files.locate_correction(workspace, chain, "a.csv")
    with pytest.raises(NameRefused), files.turn(workspace, chain):
        pass


def test_waiting_lists_the_finished_files_of_one_chain_oldest_first(workspace, land):
    land("b.csv", minutes=2)
    land("a.csv", minutes=1)
    land("x.csv", minutes=3, chain="dice")
    land("u.parquet", minutes=0.5, text="PAR1 and then nothing")
    assert [arrival.path.name for arrival in files.waiting(workspace, "coins")] == ["b.csv", "a.csv"]


def test_what_a_killed_process_was_about_to_remove_waits_again(workspace, land):
    path = land("a.csv")
    hidden = path.parent / ".taken-abc"
    hidden.mkdir()
    path.rename(hidden / "a.csv")
    assert [arrival.path.name for arrival in files.waiting(workspace, "coins")] == ["a.csv"]
    assert list(path.parent.iterdir()) == [path]


def test_nothing_is_before_a_file_that_is_not_there(workspace, land):
    land("b.csv")
    assert files.earlier(workspace, "coins", workspace.landing / "coins" / "gone.csv") == []


HOLD = """
import sys, time
from flows.sequences import files
from lindley.workspace import Workspace
from pathlib import Path
with files.turn(Workspace.from_environment(Path(sys.argv[1])), "coins"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(workspace):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(workspace.root)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "held"
        yield process
        process.kill()


def test_a_turn_that_does_not_come_is_gone_without(workspace, holder):
    with files.turn(workspace, "coins", seconds=0.2) as came:
        assert not came
    with files.turn(workspace, "dice", seconds=0.2) as came:
        assert came


def test_a_killed_holder_frees_the_turn(workspace, holder):
    holder.kill()
    holder.wait()
    with files.turn(workspace, "coins", seconds=5) as came:
        assert came
