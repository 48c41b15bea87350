"""What the command line imports: no command waits for a library that it does not use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lindley.ledger.mlflow.store import MlflowLedger
from lindley.model.declaration import load_declaration
from tests.support import fakes

#: What only a fit, a flow, a ledger or a plot needs, and what comes with them.
HEAVY = {
    "pymc", "pytensor", "nutpie", "numba", "prefect", "mlflow", "matplotlib", "arviz", "arviz_stats",
    "xarray", "scipy", "sklearn", "pandas", "numpy", "pyarrow", "sqlalchemy",
}  # fmt: skip
#: What `import mlflow` itself imports, whatever is used of it.
OF_MLFLOW = {"mlflow", "scipy", "pandas", "numpy", "pyarrow", "sqlalchemy"}
SCRIPT = """
import json, sys
from typer.testing import CliRunner
from flows.cli.__main__ import app
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
    [
        ["--help"],
        ["--version"],
        *([name, "--help"] for name in ("update", "verify", "up", "worker", "plots", "profile")),
    ],
)
def test_help_imports_nothing_heavy(arguments, tmp_path):
    document, heavy = run(*arguments, home=str(tmp_path))
    assert document["code"] == 0
    assert heavy == set()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A working folder with a chain of one link, in an embedded ledger."""
    root = tmp_path_factory.mktemp("home")
    (root / "models").mkdir()
    declaration = fakes.declare(root / "models")
    fakes.append(
        MlflowLedger(f"sqlite:///{root / 'mlflow.db'}", root), declaration, fakes.coins(declaration, 1)
    )
    return str(root)


@pytest.mark.parametrize("arguments", [["log", "coins"], ["chains"], ["profile", "coins"]])
def test_reading_a_chain_imports_the_registry_and_nothing_else(arguments, home):
    document, heavy = run(*arguments, home=home)
    assert document["code"] == 0, document["out"]
    assert "coins" in document["out"] or "link" in document["out"]
    assert heavy <= OF_MLFLOW
    mine = {name for name in document["modules"] if name.startswith("lindley.")}
    assert not mine & {
        "lindley.ledger.netcdf",
        "lindley.prior.matched",
        "lindley.batch.reading",
        "lindley.batch.parquet_format",
        "lindley.operations.plots",
    }


def test_the_list_of_what_mlflow_imports_is_true(home):
    """The list hides no import of a command's own behind those of MLflow."""
    code = "import json, sys, mlflow; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert HEAVY & set(json.loads(done.stdout)) <= OF_MLFLOW


def test_a_belief_is_shown_without_the_sampler(home):
    document, heavy = run("show", "coins", home=home)
    assert document["code"] == 0, document["out"]
    assert not heavy & {"pymc", "pytensor", "nutpie", "numba", "prefect", "matplotlib", "arviz"}


def test_a_batch_that_is_known_imports_no_sampler(home, tmp_path):
    file = tmp_path / "again.csv"
    fakes.coins(load_declaration("coins", Path(home) / "models"), 1).frame().to_csv(file, index=False)
    document, heavy = run("update", "coins", str(file), "--direct", "--no-plots", home=home)
    assert document["code"] == 0, document["out"]
    assert "nothing was done" in document["out"]
    assert not heavy & {"nutpie", "numba", "arviz_stats", "prefect", "matplotlib", "arviz"}
    assert "scipy.stats" not in document["modules"]


def test_an_update_imports_no_plotting_library_before_it_draws():
    """Nor what shrinks covariances, which few fits need."""
    unused = "matplotlib", "arviz", "arviz_plots", "sklearn", "lindley.report.figures"
    modules = "sys, flows.direct, lindley.operations.plots"
    code = f"import {modules}; print([m for m in {unused} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_wrong_chain_is_reported_before_heavy_imports(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("id\n1\n")
    document, heavy = run("update", "no_such_chain", str(file), home=str(tmp_path))
    assert document["code"] == 2
    assert heavy == set()
