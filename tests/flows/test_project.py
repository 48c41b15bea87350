"""A working folder of one's own, and the wheel that makes it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.__main__ import app
from flows.cli.output import USER_ERROR
from flows.project.create import create_project
from flows.server.up import deployments_file
from lindley.batch.reading import read_batch
from lindley.errors import FolderRefused
from lindley.model.declaration import load_declaration
from lindley.workspace import Workspace

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
    clone, mine = tmp_path / "clone", tmp_path / "mine"
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], check=True, capture_output=True, text=True)
    for name in filter(None, listed.stdout.split("\0")):
        if name.startswith(("lindley/", "flows/", "tasks/")) or "/" not in name:
            target = clone / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target, follow_symlinks=False)
    build = "from setuptools.build_meta import build_wheel; import sys; print(build_wheel(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", build, tmp_path], cwd=clone, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("lindley-*.whl"))) as wheel:
        wheel.extractall(tmp_path / "site")
    assert not (tmp_path / "site" / "tests").exists()

    start = f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})"
    code = f"{start}; from flows.cli.__main__ import main; main()"

    def run(*arguments: str) -> str:
        # -P: as for an installed command, packages are not looked for in the working folder.
        command = [sys.executable, "-P", "-c", code, *arguments]
        return subprocess.run(command, cwd=mine, check=True, capture_output=True, text=True).stdout

    for package in ("flows", "tasks", "lindley"):
        (mine / package).mkdir(parents=True)
        (mine / package / "__init__.py").write_text(
            "raise ImportError('the wrong package')", encoding="utf-8"
        )
    assert "prefect.yaml" in run("init", ".")
    assert (mine / "prefect.yaml").read_bytes() == (ROOT / "prefect.yaml").read_bytes()
    assert "carried" in run("check", "daily_sales", "examples/week1.csv")
    # The page's template is in the wheel.
    assert (tmp_path / "site" / "lindley/report/page/templates/chain.html.j2").is_file()
