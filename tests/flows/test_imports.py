"""What the command line imports: nobody waits for a library that a command does not use."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

HEAVY = {"pymc", "pytensor", "nutpie", "numba", "prefect", "mlflow", "matplotlib", "arviz"}
SCRIPT = """
import json, sys
from typer.testing import CliRunner
from flows.cli import app
result = CliRunner().invoke(app, sys.argv[1:])
print(json.dumps({"code": result.exit_code, "out": result.output, "modules": sorted(sys.modules)}))
"""


def run(*arguments: str, home: str) -> tuple[dict, set[str]]:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "MLFLOW"))
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments],
        env=environment | {"LINDLEY_HOME": home},
        capture_output=True,
        text=True,
        check=True,
    )
    document = json.loads(done.stdout.splitlines()[-1])
    return document, HEAVY & set(document["modules"])


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], *([name, "--help"] for name in ("update", "verify", "up", "worker"))],
)
def test_help_imports_nothing_heavy(arguments, tmp_path):
    document, heavy = run(*arguments, home=str(tmp_path))
    assert document["code"] == 0
    assert heavy == set()


@pytest.mark.parametrize("arguments", [["log", "coins"], ["chains"], ["show", "coins"]])
def test_reading_a_chain_does_not_wait_for_the_sampler_or_prefect(arguments, tmp_path):
    document, heavy = run(*arguments, home=str(tmp_path))
    assert document["code"] == (0 if arguments == ["chains"] else 2), document["out"]
    assert heavy <= {"mlflow"}


def test_a_wrong_chain_is_told_before_anything_heavy_starts(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("id\n1\n")
    document, heavy = run("update", "no_such_chain", str(file), home=str(tmp_path))
    assert document["code"] == 2
    assert heavy == set()
