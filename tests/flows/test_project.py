"""A working folder of one's own, and the wheel that makes it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.__main__ import app
from flows.cli.output import USER_ERROR
from flows.project.create import create_project
from flows.server.prefect_module import command
from flows.server.up import deployments_file
from lindley.batch.reading import read_batch
from lindley.errors import FolderRefused
from lindley.model.declaration import load_declaration
from lindley.workspace import Workspace
from tests.support import wheels

ROOT = Path(__file__).parents[2]


def test_the_example_of_a_new_folder_takes_its_batches(tmp_path: Path) -> None:
    written = create_project(tmp_path / "mine")
    assert tmp_path / "mine" / ".gitignore" in written
    workspace = Workspace.from_environment(tmp_path / "mine")
    declaration = load_declaration("daily_sales", tmp_path / "mine" / "models")
    rows = [read_batch(tmp_path / "mine" / "examples" / f"week{n}.csv", declaration).rows for n in (1, 2)]
    assert rows == [3, 4]
    assert deployments_file(workspace) == tmp_path / "mine" / "prefect.yaml"
    assert deployments_file(workspace).read_bytes() == (ROOT / "prefect.yaml").read_bytes()


def test_a_folder_that_has_such_files_is_refused_whole(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine", encoding="utf-8")
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(FolderRefused, match=r"README\.md"):
        create_project(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "notes.txt"]
    (tmp_path / "README.md").unlink()
    create_project(tmp_path)
    assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "mine"
    with pytest.raises(FolderRefused, match="a file"):
        create_project(tmp_path / "notes.txt")


def test_init_names_its_files(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["init", str(tmp_path / "a")])
    assert result.exit_code == 0
    assert "prefect.yaml" in result.stdout
    assert "lindley check daily_sales" in result.stdout
    assert CliRunner().invoke(app, ["init", str(tmp_path / "a")]).exit_code == USER_ERROR


def test_the_wheel_works_outside_the_clone_beside_packages_of_the_same_names(tmp_path: Path) -> None:
    lindley, mine = wheels.install(wheels.build(tmp_path), tmp_path / "environment"), tmp_path / "mine"
    (site,) = (tmp_path / "environment" / "lib").glob("python*/site-packages")
    assert not (site / "tests").exists()

    def run(*arguments: str) -> str:
        clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            [lindley, *arguments], cwd=mine, env=clean, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    wheels.own_packages(mine)
    assert "prefect.yaml" in run("init", ".")
    assert (mine / "prefect.yaml").read_bytes() == (ROOT / "prefect.yaml").read_bytes()
    assert "carried" in run("check", "daily_sales", "examples/week1.csv")
    # All files of the packages are in the wheel, such as the templates of pages.
    for package in ("lindley", "flows", "tasks"):
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert (site / path.relative_to(ROOT)).is_file(), path


def test_a_module_of_prefects_finds_lindleys_packages_in_any_folder(tmp_path: Path) -> None:
    wheels.own_packages(tmp_path)
    (tmp_path / "found").mkdir()
    (tmp_path / "found" / "probe.py").write_text(
        "from prefect.utilities.importtools import load_module\n"
        "import sys\nprint(sys.argv[1:], load_module('flows.states').__file__)\n", encoding="utf-8"
    )  # fmt: skip
    path = os.pathsep.join([str(ROOT), str(tmp_path / "found")])
    done = subprocess.run(
        command("probe", "a"), cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == f"['a'] {ROOT / 'flows' / 'states.py'}", done.stderr
