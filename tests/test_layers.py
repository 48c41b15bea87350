"""The architecture as a failing check: import contracts, sizes of packages and modules, no exceptions."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("lindley", "tasks", "flows")
#: Limits that no comment may switch off: arguments, complexity, branches, statements.
LIMITS = ("PLR0913", "C901", "PLR0912", "PLR0915")
MODULES, LINES = 15, 400


def folders() -> list[Path]:
    return [folder for name in PACKAGES for folder in (ROOT / name).rglob("[a-z]*") if folder.is_dir()] + [
        ROOT / name for name in PACKAGES
    ]


def lint_imports(folder: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    """Check the contracts of pyproject.toml on the packages in a folder."""
    script = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [script, "--no-logo", "--cache-dir", cache],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the packages, whose modules the test may change."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_the_repository_keeps_every_contract(cache: Path) -> None:
    done = lint_imports(ROOT, cache)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Contracts: \d+ kept, 0 broken", done.stdout)


@pytest.mark.parametrize(
    ("module", "imported", "contract", "reported"),
    [
        (
            "lindley/prior/matched.py",
            "lindley.ledger.record",
            "the layers of lindley",
            "lindley.prior.matched -> lindley.ledger.record",
        ),
        (
            "flows/sweep.py",
            "lindley.ledger.mlflow.store",
            "backends hide behind the protocol",
            "flows.sweep -> lindley.ledger.mlflow.store",
        ),
        (
            "lindley/api.py",
            "lindley.ledger.mlflow.store",
            "backends hide behind the protocol",
            "lindley.api -> lindley.ledger.mlflow.store",
        ),
        ("lindley/serving/__init__.py", "mlflow", "MLflow is imported in one package", "serving -> mlflow"),
        ("lindley/model/declaration.py", "prefect", "no Prefect in the core", "declaration -> prefect"),
        ("tasks/__init__.py", "flows.update", "flows -> tasks -> lindley", "tasks -> flows.update"),
        ("lindley/errors.py", "lindley.names", "the layers of lindley", "lindley.errors -> lindley.names"),
        ("lindley/annex/__init__.py", "", "the layers of lindley", "annex"),
        ("lindley/batch/batch.py", "lindley.batch.frames_again", "no circular imports", "frames_again"),
    ],
)
def test_a_forbidden_import_is_reported(
    copy: Path, cache: Path, module: str, imported: str, contract: str, reported: str
) -> None:
    """One import more, or one sub-package that chose no layer, breaks a contract by name."""
    path = copy / module
    path.parent.mkdir(exist_ok=True)
    text = path.read_text() if path.exists() else ""
    path.write_text(f"{text}\nimport {imported}\n" if imported else text)
    if imported.endswith("frames_again"):
        (copy / "lindley/batch/frames_again.py").write_text("import lindley.batch.batch\n")
    done = lint_imports(copy, cache)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{contract} BROKEN" in done.stdout
    assert reported in done.stdout


@pytest.mark.parametrize("folder", folders(), ids=lambda folder: str(folder.relative_to(ROOT)))
def test_a_package_has_few_modules(folder: Path) -> None:
    modules = sorted(path.name for path in folder.glob("*.py"))
    assert len(modules) <= MODULES, f"{len(modules)} modules in {folder.relative_to(ROOT)}: {modules}"


def test_every_module_is_short() -> None:
    files = [path for folder in folders() for path in folder.glob("*.py")]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in files}
    assert len(files) > 100
    assert {name: length for name, length in lengths.items() if length >= LINES} == {}


def test_no_comment_switches_a_limit_off() -> None:
    found = []
    for name in (*PACKAGES, "models", "benchmarks", "tests"):
        for path in (ROOT / name).rglob("*.py"):
            for number, line in enumerate(path.read_text().splitlines(), start=1):
                codes = re.search(r"#\s*(?:ruff:\s*)?noqa\b(.*)", line)
                if codes and any(code in codes.group(1) for code in LIMITS):
                    found.append(f"{path.relative_to(ROOT)}:{number}")
    assert found == []


def test_no_setting_switches_a_limit_off() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    assert {"C90", "PL"} <= set(settings["select"])
    assert (settings["pylint"]["max-args"], settings["mccabe"]["max-complexity"]) == (8, 12)
    assert not set(LIMITS) & set(settings["ignore"])
    exempt = {
        name
        for name, codes in settings["per-file-ignores"].items()
        if {*LIMITS, "PL", "PLR", "C90"} & {*codes}
    }
    assert all(name.startswith(("tests/", "docs/")) for name in exempt), exempt
