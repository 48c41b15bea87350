"""Pulls as flow runs and commands, and one whose process is killed between two links."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows import environment
from flows.cli.__main__ import app
from flows.cli.output import USER_ERROR
from lindley.ledger.reading import find_chain
from lindley.verification.gather import verify_chain
from lindley.workspace import Workspace
from tests.support import fakes
from tests.support.fakes import MemoryLedger
from tests.support.pulls import SOURCE

ROOT = Path(__file__).parents[2]
NAME = "coins"
#: A process that pulls with everything real but the sampler.
PROGRAM = """
import dataclasses
from flows.direct import core_steps
from flows.sequences.pull import pull
from lindley.workspace import Workspace
from tests.support import fakes
steps = dataclasses.replace(core_steps(plots=False), fit=fakes.fit_plan)
print(pull(steps, Workspace.from_environment(), "coins").status)
"""


def declare(workspace: Workspace) -> None:
    fakes.declare(workspace.models, code=SOURCE.format(options="", more=""))


def write(workspace: Workspace, rows: dict[int, int]) -> None:
    path = workspace.root / "rows.csv"
    path.write_text("id,k,n\n" + "".join(f"{i},{k},10\n" for i, k in rows.items()))
    os.utime(path, (1, 1))  # long finished


@pytest.mark.usefixtures("prefect_server", "fits")
def test_flow_runs_pull_one_chain_or_every_chain_with_a_source(
    workspace: Workspace, ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.states import outcome_of
    from flows.update import pull, pull_all

    monkeypatch.setattr("flows.steps.open_ledger", lambda _: ledger)
    state = pull(NAME, return_state=True)
    assert "has no source" in str(state.message)
    declare(workspace)
    fakes.declare(workspace.models, "plain")
    (workspace.models / "broken.py").write_text("1 / 0")
    write(workspace, {0: 3, 1: 3})
    result: Any = outcome_of(pull(NAME, return_state=True))
    assert (result.status, result.link, result.pulled["rows"]["new"]) == ("accepted", 1, 2)
    write(workspace, {0: 4, 1: 3, 2: 3})
    state = pull_all(return_state=True)
    assert state.is_completed()
    assert "1 row new, 1 row revised" in str(state.message)
    assert "plain" not in str(state.message)
    assert [link.version.kind for link in find_chain(ledger, NAME).links] == ["update", "correct", "update"]
    (workspace.root / "rows.csv").write_text("id,k\n0,3\n")
    state = pull_all(return_state=True)
    assert state.is_failed()
    assert "missing: 'n'" in str(state.message)


def test_the_command_states_what_it_pulled(
    workspace: Workspace, steps: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "prepare", lambda *_, **__: workspace)
    monkeypatch.setattr("flows.direct.core_steps", lambda *_, **__: steps)
    refused = CliRunner().invoke(app, ["pull", NAME, "--direct"])
    assert (refused.exit_code, "has no source" in refused.stderr) == (USER_ERROR, True)
    declare(workspace)
    write(workspace, {0: 3, 1: 3})
    shown = json.loads(CliRunner().invoke(app, ["pull", NAME, "--direct", "--json"]).stdout)
    assert (shown["status"], shown["pulled"]["links"], shown["pulled"]["since"]) == ("accepted", [1], None)
    assert "as it was" in CliRunner().invoke(app, ["pull", NAME, "--direct"]).stdout


def test_the_deployments_of_pulls_have_their_flows() -> None:
    import flows.update

    document = (ROOT / "prefect.yaml").read_text(encoding="utf-8")
    for name in ("pull", "pull_all"):
        assert document.count(f"entrypoint: flows.update.{name}\n") == 1
        assert getattr(flows.update, name).name == name.replace("_", "-")


@pytest.mark.e2e
@pytest.mark.faults  # by default the same kill without Prefect: tests/flows/sequences/test_pull.py
def test_a_pull_that_is_killed_after_its_correction_is_continued(workspace: Workspace) -> None:
    """SIGKILL with the correction registered and the new batch not begun, on a registry on disk."""
    from lindley.ledger.backend import open_ledger

    declare(workspace)

    def pulled(failpoint: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False,
            env=os.environ | {"LINDLEY_FAILPOINT": failpoint, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    write(workspace, {0: 3, 1: 3})
    assert pulled().stdout.strip() == "accepted"
    write(workspace, {0: 4, 1: 3, 2: 3})
    assert pulled("closed").returncode == -signal.SIGKILL
    assert pulled().stdout.strip() == "accepted"
    assert pulled().stdout.strip() == "unchanged"
    ledger = open_ledger(workspace, create=False)
    assert [link.version.kind for link in find_chain(ledger, NAME).links] == ["update", "correct", "update"]
    assert verify_chain(ledger, NAME).findings == ()
