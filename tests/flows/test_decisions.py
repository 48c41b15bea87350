"""Approve and reject: files wait for a decision, commands and flow runs make it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner
from typer.testing import Result as Ran

from flows import environment
from flows.cli.__main__ import app
from flows.cli.output import QUARANTINED, USER_ERROR
from flows.sequences.amend import approve, reject
from flows.sequences.result import Result
from flows.sequences.update import update
from lindley.ledger.reading import find_chain
from lindley.verification.gather import verify_chain
from tests.support import fakes

ALWAYS = """
from dataclasses import replace
declaration = replace(declaration, policy=Policy(refit_rows=1, approve="always", {}))
"""


@pytest.fixture(autouse=True)
def always(workspace) -> None:
    fakes.declare(workspace.models, code=ALWAYS.format(""))


def counts(ledger) -> list[str]:
    return [link.version.origin for link in find_chain(ledger, "coins").at_head]


def updating(steps, workspace, path: Path) -> Result:
    return update(steps, workspace, "coins", str(path))


class TestSequences:
    def test_files_wait_until_a_person_decided(self, steps, workspace, ledger, land, fits) -> None:
        first, second = land("a.csv", 1, minutes=9), land("b.csv", 11)
        result = updating(steps, workspace, first)
        assert (result.status, result.version, result.link) == ("candidate", 1, None)
        assert (
            "a candidate, version 1 of coins; the head does not move before `lindley approve"
            in result.message
        )
        assert (first.exists(), Path(str(result.stored)).exists()) == (False, True)
        held = updating(steps, workspace, second)
        assert (held.status, held.stored, second.exists()) == ("held", None, True)
        assert len(fits.plans) == 1
        approved = approve(steps, workspace, "coins", "", "Ann", "it is right")
        assert (approved.status, approved.link, approved.fitted) == ("accepted", 1, 0)
        assert approved.message == "a.csv, version 1, was approved by Ann and is link 1 of coins (version 2)"
        assert approve(steps, workspace, "coins", "1", "Bob", "so do I").status == "unchanged"
        candidate = updating(steps, workspace, second)
        assert candidate.status == "candidate"
        rejected = reject(steps, workspace, "coins", "3", "Bob", "a test file")
        assert rejected.status == "rejected"
        assert rejected.message == "b.csv, version 3, was rejected by Bob; the head did not move"
        assert updating(steps, workspace, Path(str(candidate.stored))).status == "rejected"
        assert counts(ledger) == ["a.csv"]
        assert verify_chain(ledger, "coins").findings == ()
        json.dumps(approved.as_dict(), allow_nan=False)

    def test_a_refit_that_is_due_follows_an_approval(self, steps, workspace, ledger, land, said) -> None:
        fakes.declare(workspace.models, code=ALWAYS.format("rebase_every=2"))
        for number in (1, 2):
            updating(steps, workspace, land(f"{number}.csv", 10 * number))
            approve(steps, workspace, "coins", "", "Ann", "it is right")
        assert any(sentence.startswith("A pooled refit is due") for sentence in said)
        pending = find_chain(ledger, "coins").pending
        assert [version.kind for version in pending] == ["rebase"]
        approve(steps, workspace, "coins", "", "Ann", "it is right")
        assert find_chain(ledger, "coins").links[-1].version.kind == "rebase"


@pytest.fixture
def command(monkeypatch, workspace, ledger, fits) -> Callable[..., Ran]:
    monkeypatch.setattr(environment, "prepare", lambda workspace, **_: workspace)
    for module in ("flows.direct", "lindley.ledger.backend", "flows.monitoring.status"):
        monkeypatch.setattr(f"{module}.open_ledger", lambda *_, **__: ledger)
    for module in ("lindley.ledger.backend", "flows.monitoring.status"):
        monkeypatch.setattr(f"{module}.has_ledger", lambda *_: True)
    monkeypatch.setattr("flows.direct.fit_plan", fits)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


class TestCommands:
    def test_candidates_are_shown_and_decided(self, command, land, ledger) -> None:
        made = command("update", "coins", land("a.csv", 1), "--direct")
        assert made.exit_code == QUARANTINED
        assert made.stdout.startswith("candidate a.csv is a candidate, version 1 of coins")
        listed = command("log", "coins").stdout
        assert "version 1 (a.csv) is a candidate: lindley approve coins 1 --why TEXT, or reject" in listed
        assert json.loads(command("chains", "--json").stdout)["chains"][0]["candidates"] == 1
        status = json.loads(command("status", "--json").stdout)
        assert status["chains"][0]["candidates"] == 1
        assert any("1 candidate waits for a decision" in finding["message"] for finding in status["findings"])
        assert command("approve", "coins", "--direct").exit_code == 2  # without a reason
        assert command("approve", "coins", "9", "--why", "x", "--direct").exit_code == USER_ERROR
        approved = command(
            "approve", "coins", "1", "--why", "it is right", "--who", "Ann", "--direct", "--json"
        )
        assert json.loads(approved.stdout)["link"] == 1
        shown = command("show", "coins").stdout
        assert "approved by Ann: it is right" in shown
        assert command("update", "coins", land("b.csv", 11), "--direct").exit_code == QUARANTINED
        refused = command("reject", "coins", "--why", "a test file", "--direct")
        assert (refused.exit_code, refused.stdout[:8]) == (0, "rejected")
        every = command("log", "coins", "--all").stdout
        assert "rejected by" in every
        assert "a test file" in every
        assert "approved by Ann: it is right" in every
        assert "is a candidate" not in command("log", "coins").stdout
        assert command("verify", "coins").exit_code == 0


def test_flow_runs_of_decisions(prefect_server, monkeypatch, workspace, ledger, land, fits) -> None:
    from prefect.client.orchestration import get_client

    from flows import amend
    from flows.states import outcome_of
    from flows.update import update as update_flow

    monkeypatch.setattr("flows.steps.open_ledger", lambda _: ledger)
    path = land("a.csv", 1)
    state = update_flow("coins", path.name, return_state=True)
    assert (state.name, outcome_of(state).status, state.is_completed()) == ("Candidate", "candidate", True)
    state = update_flow("coins", land("b.csv", 11).name, return_state=True)
    assert (state.name, outcome_of(state).status) == ("Held", "held")
    state = amend.approve("coins", "1", "Ann", "it is right", return_state=True)
    assert outcome_of(state).status == "accepted"
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(state.state_details.flow_run_id).name == "approve coins: 1"


def test_a_suspended_run_asks_and_its_answer_decides(
    prefect_server, monkeypatch, workspace, ledger, land, fits
) -> None:
    """Each start of the run is one of a worker: the answer finds it without the process that asked."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
    from prefect.exceptions import Pause
    from prefect.flow_engine import run_flow

    from flows import amend
    from flows.approval.ask import decide
    from flows.update import update as update_flow

    for module in ("flows.steps", "flows.approval.ask", "flows.approval.questions"):
        monkeypatch.setattr(f"{module}.open_ledger", lambda *_: ledger)

    def started(run: Any) -> Any:
        given = {"chain": "coins", "version": run.parameters["version"]}
        return run_flow(decide, flow_run=run, parameters=given, return_type="state")

    with get_client(sync_client=True) as client:
        client.create_deployment(client.create_flow(decide), name="decide")

        def asking(record: str) -> Any:
            tags = FlowRunFilterTags(all_=[f"candidate:{record[:16]}"])
            (found,) = client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=tags))
            return found

        update_flow("coins", land("a.csv", 1).name, return_state=True)
        run = asking(ledger.versions("coins")[0].record)
        with pytest.raises(Pause):
            started(run)
        assert client.read_flow_run(run.id).state.name == "Suspended"
        form = {"verdict": "approve", "who": "Ann", "why": "it is right"}
        client.resume_flow_run(run.id, run_input=form)
        assert started(client.read_flow_run(run.id)).is_completed()
        assert [link.version.who for link in find_chain(ledger, "coins").links] == ["Ann"]

        update_flow("coins", land("b.csv", 11).name, return_state=True)
        run = asking(ledger.versions("coins")[2].record)
        with pytest.raises(Pause):
            started(run)
        amend.reject("coins", "3", "Bob", "a test file", return_state=True)
        closed = client.read_flow_run(run.id).state
        assert (closed.type, closed.message) == ("CANCELLED", "Version 3 was rejected by Bob: a test file")
