"""A model whose code changes beside its file, or which depends on something else, is refused as changed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lindley.errors import ModelRefused
from lindley.ledger.record import Artifact
from lindley.model.code import distributions
from lindley.model.declaration import Declaration, load_file
from lindley.operations.plan import Plan
from lindley.operations.planner import with_structure
from lindley.operations.rebase import plan_rebase
from lindley.operations.update import plan_update
from lindley.target.reuse import _graphs
from lindley.verification.gather import verify_chain
from tests.lindley.model.code.test_imports import install, path  # noqa: F401
from tests.support.fakes import MODEL, MemoryLedger, append, coins, done
from tests.support.forging import record_of

SCALED = MODEL.replace("theta, observed", "theta * SCALE, observed")


def declared(tmp_path: Path, line: str) -> Declaration:
    """The chain of coins, with one line before its build function that gives a scale."""
    file = tmp_path / "coins.py"
    file.write_text(SCALED.replace("def build", f"{line}\n\n\ndef build"))
    return load_file(file)


@pytest.fixture(autouse=True)
def built_anew() -> Iterator[None]:
    """Models are built again, as in another process."""
    _graphs.clear()
    yield
    _graphs.clear()


def test_a_helper_that_changed_is_refused_and_may_be_accepted(tmp_path: Path, path: Path) -> None:  # noqa: F811
    (path / "a_helper.py").write_text("SCALE = 1.0\n")
    ledger, line = MemoryLedger(), "from a_helper import SCALE"
    first = declared(tmp_path, line)
    append(ledger, first, coins(first, 0))
    (path / "a_helper.py").write_text("SCALE = 0.5\n")
    other = declared(tmp_path, line)
    with pytest.raises(ModelRefused, match="module a_helper changed") as refused:
        plan_update(ledger, other, coins(other, 10))
    assert "--accept-model-change" in str(refused.value)
    append(ledger, other, coins(other, 10), accept=True)
    stated = [record_of(ledger, "coins", number)["model"] for number in (1, 2)]
    assert stated[0]["imports"]["modules"] == first.imports.digests
    assert stated[1]["imports"]["modules"] == other.imports.digests
    assert stated[0]["structure"] != stated[1]["structure"]
    files = ledger.runs[ledger.models["coins"].versions[1].run_id].files
    assert Artifact.MODULES in files
    assert verify_chain(ledger, "coins").findings == ()


def test_a_distribution_that_was_installed_again_under_its_version_is_refused(
    tmp_path: Path,
    path: Path,  # noqa: F811
) -> None:
    ledger, line = MemoryLedger(), "from a_dist import SCALE"
    install(path, "SCALE = 1.0\n")
    first = declared(tmp_path, line)
    append(ledger, first, coins(first, 0))
    install(path, "SCALE = 0.5\n")
    sys.modules.pop("a_dist")
    other = declared(tmp_path, line)
    with pytest.raises(ModelRefused, match=r"same version of a-dist-maker 1\.0"):
        plan_update(ledger, other, coins(other, 10))
    # Another version is no refusal of the code; that the graph is another one is a warning.
    (path / "a_dist_maker-1.0.dist-info").rename(path / "a_dist_maker-2.0.dist-info")
    install(path, "SCALE = 0.5\n", "2.0")
    _graphs.clear()
    plan = plan_update(ledger, other, coins(other, 10))
    assert "a-dist-maker 2.0 (then 1.0)" in plan.warnings[0]
    assert plan.warnings[0] in record_after(ledger, plan)["gate"]["warnings"]
    distributions._version.cache_clear()


def record_after(ledger: MemoryLedger, plan: Plan) -> dict[str, Any]:
    done(ledger, plan)
    return record_of(ledger, "coins", 2)


def test_a_model_that_depends_on_the_environment_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = MemoryLedger()
    made = declared(tmp_path, "import os")
    code = (tmp_path / "coins.py").read_text().replace("* SCALE", "* float(os.environ['A_SCALE'])")
    (tmp_path / "coins.py").write_text(code)
    made = load_file(tmp_path / "coins.py")
    monkeypatch.setenv("A_SCALE", "1.0")
    append(ledger, made, coins(made, 0))
    append(ledger, made, coins(made, 10, rows=6))  # other rows make no other model
    _graphs.clear()
    monkeypatch.setenv("A_SCALE", "0.5")
    for planned in (
        lambda: plan_update(ledger, made, coins(made, 20)),
        lambda: plan_rebase(ledger, made),
    ):
        with pytest.raises(ModelRefused, match="another one than at link 2, although its code is the same"):
            planned()
    monkeypatch.delenv("A_SCALE")
    with pytest.raises(ModelRefused):
        plan_update(ledger, made, coins(made, 20))
    monkeypatch.setenv("A_SCALE", "0.5")
    _graphs.clear()
    append(ledger, made, coins(made, 20), accept=True)
    append(ledger, made, coins(made, 30))


def test_rows_that_shape_the_graph_are_no_change(tmp_path: Path) -> None:
    """A loop over the rows, or a number from them, is another graph for each batch, and the same model."""
    ledger = MemoryLedger()
    made = declared(tmp_path, "SCALE = 1.0")
    code = (tmp_path / "coins.py").read_text()
    code = code.replace("with pm.Model()", "shift = batch['k'].mean() * 1e-3\n    with pm.Model()")
    loop = "for i in range(len(batch)):\n            pm.Deterministic(f'd{i}', theta * i + shift)\n        "
    (tmp_path / "coins.py").write_text(code.replace("pm.Binomial", f"{loop}pm.Binomial"))
    made = load_file(tmp_path / "coins.py")
    append(ledger, made, coins(made, 0))
    append(ledger, made, coins(made, 10, rows=6, k=4))
    one, two = (record_of(ledger, "coins", number)["model"]["structure"] for number in (1, 2))
    assert one != two
    assert verify_chain(ledger, "coins").findings == ()
    plan = plan_update(ledger, made, coins(made, 20, rows=2, k=5))
    assert with_structure(ledger, plan).structure == plan.structure
    assert plan.warnings == ()
