"""A belief is served where Lindley is not installed, and states no path of the machine that wrote it."""

from __future__ import annotations

import ast
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from mlflow.pyfunc import load_model

from lindley.batch.batch import batch_from_frame
from lindley.ledger.mlflow.packaging import save_belief
from lindley.ledger.netcdf import write_netcdf
from lindley.ledger.record import Artifact
from lindley.model.code.stored import write_modules
from lindley.model.declaration import load_file
from lindley.serving.inputs import example_rows
from lindley.serving.source import serving_source, write_source
from tests.support.alone import answer_alone

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def belief(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packaged")
    text = (ROOT / "models" / "beta_binomial.py").read_text()
    # Beside a distribution that nothing else needs, a module that is there for this process alone.
    build = "    with pm.Model() as model:\n"
    text = text.replace(build, f"    import beside, helpers.late\n    assert helpers.late.TWO == 2\n{build}")
    (folder / "model.py").write_text(f"{text}\nimport filelock\nimport beside\nassert beside.ONE == 1\n")
    (folder / "helpers").mkdir()
    (folder / "helpers" / "late.py").write_text("TWO = 2\n")
    (folder / "path").mkdir()
    (folder / "path" / "beside.py").write_text("ONE = 1\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder / "path")
        declaration = load_file(folder / "model.py")
    sys.modules.pop("beside")
    write_modules(declaration.imports.modules, folder / Artifact.MODULES)
    draws = xr.Dataset({"theta": ("sample", np.random.default_rng(0).beta(4, 6, 100))})
    write_netcdf(draws, folder / "draws.nc")
    batch = batch_from_frame(pd.DataFrame({"id": [1, 2, 3], "n": [10, 20, 30], "k": [1, 2, 3]}), declaration)
    save_belief(folder, declaration, folder / "draws.nc", example_rows(batch.table, declaration))
    return folder / "belief"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_belief_predicts_in_a_process_without_lindley(belief: Path, tmp_path: Path) -> None:
    before = contents(belief)
    answer = answer_alone(belief, tmp_path)
    assert answer["from"].startswith(str(belief / "artifacts" / "lindley.zip"))
    # MLflow writes one file of its own; Python writes no bytecode.
    after = contents(belief)
    assert set(after) - set(before) <= {"registered_model_meta"}
    assert {path: after[path] for path in before} == before
    here = load_model(str(belief))
    assert here.input_example.to_dict("list") == {"id": [1, 2], "n": [10, 20]}
    assert answer["mean"] == here.predict(here.input_example)["mean"].tolist()


def test_it_states_no_path_of_the_machine_and_needs_no_lindley(belief: Path) -> None:
    texts = {path.name: path.read_text() for path in belief.iterdir() if path.is_file()}
    assert {"MLmodel", "requirements.txt", "conda.yaml", "input_example.json"} <= set(texts)
    for name, text in texts.items():
        assert str(belief.parent) not in text, name
        assert "/tmp/" not in text, name
    wanted = texts["requirements.txt"].split()
    assert not any(line.startswith("lindley") for line in wanted)
    assert {"pymc", "numpy", "pandas", "pyarrow", "mlflow"} <= {line.split("==")[0] for line in wanted}


def test_the_archive_holds_all_that_its_modules_import_and_is_the_same_each_time(tmp_path: Path) -> None:
    for name in ("one.zip", "two.zip"):
        write_source(tmp_path / name)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    assert (tmp_path / "one.zip").stat().st_size < 150_000
    held = {name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in serving_source()}
    for name, data in serving_source().items():
        for imported in imports(ast.parse(data)):
            path = ROOT / imported.replace(".", "/")
            is_module = path.is_dir() or path.with_suffix(".py").exists()
            assert imported in held or not is_module, f"{name} imports {imported}"
    assert not {"lindley.api", "lindley.ledger"} & held


def imports(node: Any) -> set[str]:
    """What a module imports of Lindley, other than for type checkers."""
    match node:
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return set()
        case ast.Import():
            return {item.name for item in node.names if item.name.startswith("lindley")}
        case ast.ImportFrom(module=str(module)) if module.startswith("lindley"):
            return {module, *(f"{module}.{item.name}" for item in node.names)}
    return set().union(*(imports(child) for child in ast.iter_child_nodes(node)))


def test_what_a_model_file_imports_is_required_in_its_version(belief: Path) -> None:
    wanted = (belief / "requirements.txt").read_text().split()
    assert f"filelock=={version('filelock')}" in wanted
    assert not any(line.startswith("beside") for line in wanted)
