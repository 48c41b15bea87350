"""Retract, correct, rollback, branch and diff: step by step with fakes, as commands, and as flow runs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner
from typer.testing import Result as Ran

from flows import environment
from flows.cli.__main__ import app
from flows.cli.output import FAILURE, QUARANTINED, USER_ERROR
from flows.sequences.amend import correct, retract
from flows.sequences.result import Result
from flows.sequences.steps import MOST_RACES
from lindley.batch.reading import read_batch
from lindley.errors import AmendmentRefused, FitFailed, LostRace, NameRefused, OverlapRefused, UnknownChain
from lindley.ledger.reading import find_chain
from lindley.model.declaration import Declaration
from tests.support import fakes

ROOT = Path(__file__).parents[2]


@pytest.fixture
def chain(workspace, ledger) -> Declaration:
    """Four links with the ids 1 to 4, 5 to 8 and so on."""
    declaration = fakes.declare(workspace.models)
    for start in (1, 5, 9, 13):
        fakes.append(ledger, declaration, fakes.coins(declaration, start))
    return declaration


def counts(ledger, name: str = "coins") -> list[int]:
    return [link.number for link in find_chain(ledger, name).at_head]


def retracting(steps, workspace, *batches: str) -> Result:
    return retract(steps, workspace, "coins", list(batches))


# -- the sequence -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("chain")
class TestAmending:
    def test_a_retraction_is_the_new_head(self, steps, workspace, ledger) -> None:
        result = retracting(steps, workspace, "2")
        assert (result.status, result.kind, result.link, result.version) == ("accepted", "retract", 5, 5)
        assert (result.retracted, result.fitted) == ((2,), 2)
        assert result.message == (
            "link 2 (coins-005.csv) no longer counts, 2 batches fitted together: link 5 of coins (version 5)"
        )
        assert result.run_id == ledger.versions("coins")[4].run_id
        assert counts(ledger) == [1, 3, 4]
        json.dumps(result.as_dict(), allow_nan=False)

    def test_the_newest_needs_no_fit(self, steps, workspace, ledger) -> None:
        result = retracting(steps, workspace, "4")
        assert (result.status, result.fitted) == ("accepted", 0)
        assert "the belief is that of link 3" in result.message

    def test_a_lost_race_is_run_again_on_the_new_head(
        self, steps, workspace, ledger, chain, fits, said
    ) -> None:
        starts = iter([30, 40])

        def rival() -> None:
            start = next(starts, None)
            if start is not None:
                fakes.append(ledger, chain, fakes.coins(chain, start))

        fits.during = rival
        result = retracting(steps, workspace, "2")
        assert (result.status, result.link, result.fitted) == ("accepted", 7, 4)
        assert counts(ledger) == [1, 3, 4, 5, 6]
        assert len(said) == 2

    def test_the_race_is_not_run_for_ever(self, steps, workspace, ledger, chain, fits) -> None:
        starts = iter(range(30, 300, 4))
        fits.during = lambda: fakes.append(ledger, chain, fakes.coins(chain, next(starts)))
        with pytest.raises(LostRace, match=f"{MOST_RACES} times"):
            retracting(steps, workspace, "2")
        assert len(fits.plans) == MOST_RACES

    def test_two_that_do_the_same_do_it_once(self, steps, workspace, ledger, fits) -> None:
        def rival() -> None:
            fits.during = lambda: None
            # Another machine does not wait for the turn of this one.
            retract.__wrapped__(steps, workspace, "coins", ["2"])

        fits.during = rival
        result = retracting(steps, workspace, "2")
        assert (result.status, result.link) == ("unchanged", None)
        assert "taken out by link 5" in result.message
        assert len(ledger.versions("coins")) == 5

    def test_a_fit_that_fails_the_gate_is_quarantined(self, steps, workspace, ledger, fits) -> None:
        fits.passed = False
        result = retracting(steps, workspace, "2")
        assert (result.status, result.link, result.version, result.retracted) == ("quarantined", None, 5, ())
        assert "quarantined as version 5 of coins, the head did not move: R-hat" in result.message
        assert retracting(steps, workspace, "2").status == "quarantined"
        assert len(fits.plans) == 1
        assert counts(ledger) == [1, 2, 3, 4]

    def test_a_correction_archives_its_file(self, steps, workspace, ledger, tmp_path) -> None:
        path = tmp_path / "revised.csv"
        path.write_text("id,k,n\n5,9,10\n6,9,10\n")

        result = correct(steps, workspace, "coins", "2", str(path))
        assert (result.status, result.retracted, result.fitted) == ("accepted", (2,), 3)
        assert "revised.csv counts in the place of link 2 (coins-005.csv), 3 batches" in result.message
        assert path.exists()
        assert result.stored is not None
        assert Path(result.stored).read_bytes() == path.read_bytes()
        assert counts(ledger) == [1, 5, 3, 4]
        again = correct(steps, workspace, "coins", "2", str(path))
        assert (again.status, again.stored) == ("unchanged", result.stored)

    def test_a_correction_is_planned_by_what_read_its_batch(
        self, steps, workspace, ledger, land, tmp_path
    ) -> None:
        text = (workspace.models / "coins.py").read_text(encoding="utf-8")
        path = land("revised.csv", text="id,k,n\n5,9,10\n6,9,10\n").rename(tmp_path / "revised.csv")

        def read(path, what):
            batch = read_batch(path, what)
            fakes.declare(workspace.models, code="\nLATER = 1\n")
            return batch

        def plan(planner, at, what, *given, **options):
            assert what.source_text == text
            return planner(at, what, *given, **options)

        steps = dataclasses.replace(steps, read=read, plan=plan)
        result = correct(steps, workspace, "coins", "2", str(path))
        assert (result.status, counts(ledger)) == ("accepted", [1, 5, 3, 4])

    def test_a_correction_that_is_refused_leaves_the_file(
        self, steps, workspace, ledger, land, tmp_path
    ) -> None:
        path = land("revised.csv", 7).rename(tmp_path / "revised.csv")  # ids 7 to 10: of links 2 and 3
        before = len(ledger.runs)
        with pytest.raises(OverlapRefused):
            correct(steps, workspace, "coins", "2", str(path))
        assert path.exists()
        assert len(ledger.runs) == before
        assert not workspace.store.exists()

    def test_a_correction_in_the_landing_folder_is_refused(self, steps, workspace, land, ledger) -> None:
        path = land("revised.csv", 5)
        with pytest.raises(NameRefused, match="data/corrections/coins"):
            correct(steps, workspace, "coins", "2", str(path))
        assert path.exists()
        assert counts(ledger) == [1, 2, 3, 4]

    def test_a_chain_that_does_not_exist_is_told(self, steps, workspace) -> None:
        with pytest.raises(UnknownChain):
            retract(steps, workspace, "dice", ["1"])


# -- commands -----------------------------------------------------------------------------------------


@pytest.fixture
def command(monkeypatch, workspace, ledger, fits) -> Callable[..., Ran]:
    monkeypatch.setattr(environment, "prepare", lambda workspace, **_: workspace)
    for module in ("flows.direct", "lindley.ledger.backend"):
        monkeypatch.setattr(f"{module}.open_ledger", lambda *_, **__: ledger)
    monkeypatch.setattr("flows.direct.fit_plan", fits)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.usefixtures("chain")
class TestCommands:
    def test_retract(self, command, ledger) -> None:
        result = command("retract", "coins", "2", "@3", "--direct")
        assert result.exit_code == 0
        assert "accepted link 2 (coins-005.csv), link 3 (coins-009.csv) no longer count," in result.stdout
        assert "1 batch fitted: link 5 of coins (version 5)" in result.stdout
        assert counts(ledger) == [1, 4]
        again = command("retract", "coins", "3", "--direct", "--json")
        assert again.exit_code == 0
        assert json.loads(again.stdout)["status"] == "unchanged"

    def test_correct(self, command, ledger, tmp_path) -> None:
        path = tmp_path / "revised.csv"
        path.write_text("id,k,n\n5,9,10\n6,9,10\n")
        made = json.loads(command("correct", "coins", "coins-005.csv", path, "--direct", "--json").stdout)
        assert (made["status"], made["kind"], made["link"]) == ("accepted", "correct", 5)
        assert (made["retracted"], made["reasons"]) == ([2], [])
        assert counts(ledger) == [1, 5, 3, 4]

    def test_rollback(self, command, ledger) -> None:
        result = command("rollback", "coins", "2", "--direct")
        assert result.exit_code == 0
        assert "The chain went back, the belief is that of link 2: link 5 of coins" in result.stdout
        assert counts(ledger) == [1, 2]
        assert command("rollback", "coins", "2", "--direct").stdout.startswith("unchanged Link 2 has the")

    def test_branch_and_what_follows(self, command, ledger, land, workspace) -> None:
        result = command("branch", "coins@2", "what-if", "--direct")
        assert result.exit_code == 0
        assert "coins--what-if continues coins from link 2; its own first link is 3" in result.stdout
        assert "is there already" in command("branch", "coins@2", "what-if", "--direct").stdout
        assert command("branch", "coins@3", "what-if", "--direct").exit_code == USER_ERROR
        assert "coins--a--b continues coins from" in command("branch", "coins", "a--b", "--direct").stdout
        path = land("b.csv", 40, chain="coins--what-if")
        assert command("update", "coins--what-if", path, "--direct").exit_code == 0
        assert counts(ledger, "coins--what-if") == [1, 2, 4]
        listed = command("log", "coins--what-if").stdout
        assert listed.index("link 4") < listed.index("link 3") < listed.index("link 1")
        assert command("verify", "coins--what-if").exit_code == 0

    def test_diff(self, command) -> None:
        command("retract", "coins", "2", "--direct")
        result = command("diff", "coins@4", "coins")
        assert result.exit_code == 0
        for words in ("theta", "Hellinger", "only in a: link 2, coins-005.csv, 4 rows", "3 batches in both"):
            assert words in result.stdout
        made = json.loads(command("diff", "coins@4", "coins@5", "--json").stdout)
        assert (made["a"]["link"], made["b"]["kind"]) == (4, "retract")
        assert command("diff", "coins@4", "coins@9").exit_code == USER_ERROR

    def test_the_log_says_what_counts(self, command) -> None:
        command("retract", "coins", "2", "--direct")
        command("rollback", "coins", "1", "--direct")
        listed = command("log", "coins").stdout
        assert "takes out link 2" in listed
        assert "no longer counted, taken out by link 5" in listed
        assert listed.count("no longer counted") == 3
        assert "no longer counted" in command("show", "coins@3").stdout

    def test_wrong_input_is_one_paragraph(self, command, tmp_path, fits) -> None:
        for arguments in (
            ("retract", "coins", "9"),
            ("retract", "dice", "1"),
            ("retract", "coins", "1", "2", "3", "4"),
            ("correct", "coins", "2", tmp_path / "none.csv"),
            ("rollback", "coins", "0"),
            ("branch", "coins@9", "b"),
            ("branch", "coins", "../b"),
        ):
            result = command(*arguments, "--direct")
            assert result.exit_code == USER_ERROR, arguments
            assert "Traceback" not in result.output
            made = json.loads(command(*arguments, "--direct", "--json").stdout)
            assert made["error"]["todo"]
        assert fits.plans == []

    def test_exit_codes_of_fits(self, command, fits) -> None:
        fits.error = FitFailed("It failed")
        assert command("retract", "coins", "2", "--direct").exit_code == FAILURE
        fits.error, fits.passed = None, False
        assert command("retract", "coins", "2", "--direct").exit_code == QUARANTINED

    def test_rows_that_count_are_left_out_on_request(self, command, land, ledger, workspace) -> None:
        path = land("late.csv", 15)  # ids 15 to 18: two of link 4
        assert command("update", "coins", path, "--direct", "--on-overlap", "keep").exit_code == 2
        result = command("update", "coins", path, "--direct", "--on-overlap", "drop")
        assert result.exit_code == 0
        assert "late.csv is link 5 of coins (version 5); 2 rows were left out" in result.stdout
        assert (ledger.versions("coins")[4].rows, path.exists()) == (2, False)
        made = json.loads(
            command(
                "update", "coins", land("again.csv", 15), "--direct", "--on-overlap", "drop", "--json"
            ).stdout
        )
        assert (made["status"], made["dropped"]) == ("unchanged", 0)
        assert "All 4 row keys of again.csv are counted already" in made["message"]
        refused = command("update", "coins", land("more.csv", 17), "--direct")
        assert refused.exit_code == USER_ERROR


# -- flows --------------------------------------------------------------------------------------------


@pytest.fixture
def flow(prefect_server, monkeypatch, ledger, fits) -> Callable[..., Any]:
    from flows import amend
    from flows.states import outcome_of

    monkeypatch.setattr("flows.steps.open_ledger", lambda _: ledger)

    def run(name: str, *arguments: Any) -> Any:
        state = getattr(amend, name)(*arguments, return_state=True)
        return state, outcome_of(state)

    return run


def test_flow_runs_are_named_and_end_as_what_they_came_to(flow, workspace, ledger, chain, land, fits) -> None:
    from prefect.client.orchestration import get_client

    def name(state: Any) -> str:
        with get_client(sync_client=True) as client:
            return str(client.read_flow_run(state.state_details.flow_run_id).name)

    state, result = flow("retract", "coins", ["2"])
    assert (state.is_completed(), result.status, result.link) == (True, "accepted", 5)
    assert name(state) == "retract coins: 2"
    assert ledger.run_of("coins", 5).tags["lindley.flow_run"] == str(state.state_details.flow_run_id)
    state, result = flow("retract", "coins", ["2"])
    assert (state.name, result.status) == ("Unchanged", "unchanged")
    folder = workspace.corrections / "coins"
    folder.mkdir(parents=True)
    revised = land("revised.csv", text="id,k,n\n9,8,10\n10,8,10\n")
    state, error = flow("correct", "coins", "3", "revised.csv")
    assert (state.is_failed(), type(error)) == (True, NameRefused)
    revised = revised.rename(folder / "revised.csv")
    state, result = flow("correct", "coins", "3", "revised.csv")
    assert revised.exists()
    assert (result.status, name(state)) == ("accepted", "correct coins: 3, revised.csv")
    state, result = flow("rollback", "coins", "1")
    assert (result.status, name(state)) == ("accepted", "rollback coins: 1")
    state, result = flow("branch", "coins", "head", "b")
    assert (result.status, result.chain) == ("accepted", "coins--b")
    fits.passed = False
    fakes.append(ledger, chain, fakes.coins(chain, 30))
    fakes.append(ledger, chain, fakes.coins(chain, 40))
    state, result = flow("retract", "coins", ["coins-030.csv"])
    assert (state.is_failed(), state.name) == (True, "Failed")
    assert state.message.startswith("Quarantined: ")
    state, error = flow("retract", "coins", ["1", "coins-030.csv", "coins-040.csv"])
    assert state.is_failed()
    assert isinstance(error, AmendmentRefused)


def test_amendments_are_deployed_with_their_parameters() -> None:
    import flows.amend

    document = (ROOT / "prefect.yaml").read_text(encoding="utf-8")
    for name in ("retract", "correct", "rollback"):
        assert document.count(f"- name: {name}\n") == document.count(f"entrypoint: flows.amend.{name}\n") == 1
        assert getattr(flows.amend, name).name == name


@pytest.mark.usefixtures("chain")
def test_amendments_are_drawn_at_their_end(steps, workspace, ledger, land, drawn, tmp_path) -> None:
    head = ledger.versions("coins")[3].run_id
    result = retracting(steps, workspace, "2")
    assert [set(runs) for runs in drawn] == [{result.run_id, head}]
    stored_before_drawing = []

    def draw(_: object, runs: dict[str, str]) -> None:
        stored_before_drawing.append((len(list(workspace.store.glob("coins/*"))), list(runs)))

    changed = tmp_path / "new.csv"
    changed.write_text("id,k,n\n9,4,10\n10,4,10\n")
    corrected = correct(dataclasses.replace(steps, draw=draw), workspace, "coins", "3", str(changed))
    assert corrected.stored is not None
    assert stored_before_drawing == [(1, [corrected.run_id, result.run_id])]
    assert retracting(steps, workspace, "2").status == "unchanged"
    assert drawn[-1] == (corrected.run_id,)
