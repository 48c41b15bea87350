"""Pooled refits: step by step with fakes, and as a flow run."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.sequences import rebase as refit
from flows.sequences.rebase import follow_up
from flows.sequences.result import Result, Status
from flows.sequences.steps import MOST_RACES
from lindley.errors import FitFailed, LedgerUnavailable, LostRace, ModelRefused, UnknownChain, UnknownLink
from lindley.ledger.history import history
from lindley.model.declaration import Declaration
from tests.support import fakes, refits

POLICY = """
import dataclasses
from lindley import Policy

declaration = dataclasses.replace(declaration, policy=Policy(refit_rows=1, {}))
"""


@pytest.fixture
def chain(workspace, ledger) -> Declaration:
    """Three links."""
    return grown(ledger, fakes.declare(workspace.models))


def grown(ledger, declaration: Declaration, links: int = 3) -> Declaration:
    for start in range(1, 1 + 4 * links, 4):
        fakes.append(ledger, declaration, fakes.coins(declaration, start))
    return declaration


def kinds(ledger) -> list[str]:
    return [view.kind for view in history(ledger, "coins")]


# -- the sequence -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("chain")
class TestRefit:
    def test_all_batches_become_the_new_head(self, steps, workspace, ledger, published) -> None:
        result = refit.refit(steps, workspace, "coins")
        assert (result.status, result.link, result.version, result.fitted) == ("accepted", 4, 4, 3)
        assert result.run_id == ledger.versions("coins")[3].run_id
        assert set(result.metrics) == {"audit_error", "audit_sd_ratio_min", "audit_sd_ratio_max"}
        assert "3 batches of coins were fitted together and are link 4 of coins (version 4)" in result.message
        assert f"{result.metrics['audit_error']:.3f} pooled sds (theta)" in result.message
        assert [row["parameter"] for row in result.rows] == ["theta"]
        assert ledger.head_hint("coins") == 4
        assert [plan.kind for plan, *_ in published] == ["rebase"]
        json.dumps(result.as_dict(), allow_nan=False)

    def test_an_audit_compares_and_registers_nothing(self, steps, workspace, ledger, published) -> None:
        before = len(ledger.runs)
        result = refit.refit(steps, workspace, "coins", audit=True)
        assert (result.status, result.link, result.version, result.run_id) == ("audited", None, None, None)
        assert result.message.startswith("3 batches of coins were fitted together; the chain was off by")
        assert len(result.rows) == len(published) == 1
        assert (len(ledger.runs), len(ledger.versions("coins"))) == (before, 3)
        metrics = ledger.runs[ledger.versions("coins")[2].run_id].metrics
        assert metrics["audit/error"] == result.metrics["audit_error"]
        assert {"audit/sd_ratio_min", "audit/sd_ratio_max"} <= set(metrics)

    def test_an_audit_by_somebody_who_may_only_read_says_so(
        self, steps, workspace, ledger, said, monkeypatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise LedgerUnavailable("The metrics were refused", todo="ask for the right to write")

        monkeypatch.setattr(ledger, "log_metrics", refuse)
        assert refit.refit(steps, workspace, "coins", audit=True).status == "audited"
        assert "not among the metrics of the head's run: The metrics were refused" in said[-1]

    def test_an_audit_says_when_its_own_fit_is_no_good(self, steps, workspace, fits) -> None:
        fits.passed = False
        result = refit.refit(steps, workspace, "coins", audit=True)
        assert result.status == "audited"
        assert "would fail the gate: R-hat 1.3100 of theta" in result.message

    def test_a_fit_that_fails_the_gate_is_quarantined(self, steps, workspace, ledger, fits) -> None:
        fits.passed = False
        result = refit.refit(steps, workspace, "coins")
        assert (result.status, result.link, result.version) == ("quarantined", None, 4)
        assert result.reasons == ("R-hat 1.3100 of theta, at most 1.01 allowed",)
        assert "quarantined as version 4 of coins, the head did not move: R-hat" in result.message
        assert ledger.head_hint("coins") == 3

    def test_a_refit_that_lost_the_race_is_made_again_with_the_winner(
        self, steps, workspace, ledger, fits, said, published, chain
    ) -> None:
        starts = iter([20, 30])

        def rival() -> None:
            start = next(starts, None)
            if start is not None:
                fakes.append(ledger, chain, fakes.coins(chain, start))

        fits.during = rival
        result = refit.refit(steps, workspace, "coins")
        assert (result.status, result.link, result.fitted) == ("accepted", 6, 5)
        assert [len(plan.batches) for plan in fits.plans] == [3, 4, 5]
        assert len(said) == 2
        assert len(published) == 1

    def test_a_create_that_was_sent_twice_is_no_lost_race(
        self, steps, workspace, ledger, fits, said, monkeypatch
    ) -> None:
        register = ledger.register
        monkeypatch.setattr(ledger, "register", lambda *given: (register(*given), register(*given))[1])
        result = refit.refit(steps, workspace, "coins")
        assert (result.status, result.link, result.version) == ("accepted", 4, 4)
        assert (len(fits.plans), said) == (1, [])
        assert kinds(ledger) == ["update"] * 3 + ["rebase"]

    def test_the_race_is_not_run_for_ever(self, steps, workspace, fits, ledger, chain) -> None:
        starts = iter(range(20, 200, 4))
        fits.during = lambda: fakes.append(ledger, chain, fakes.coins(chain, next(starts)))
        with pytest.raises(LostRace, match=f"{MOST_RACES} times"):
            refit.refit(steps, workspace, "coins")
        assert len(fits.plans) == MOST_RACES
        assert "rebase" not in kinds(ledger)

    def test_a_change_of_the_model_needs_a_word(self, steps, workspace) -> None:
        fakes.declare(workspace.models, code="\nLATER = 1\n")
        with pytest.raises(ModelRefused, match="--accept-model-change"):
            refit.refit(steps, workspace, "coins")
        assert refit.refit(steps, workspace, "coins", accept_model_change=True).link == 4


def test_a_chain_that_does_not_exist_is_told(steps, workspace, fits) -> None:
    with pytest.raises(UnknownChain):
        refit.refit(steps, workspace, "dice")
    with pytest.raises(UnknownChain):
        refit.refit(steps, workspace, "coins")
    assert fits.plans == []


# -- following an update ------------------------------------------------------------------------------


def result_of(status: str = "accepted") -> Result:
    return Result(status=Status(status), chain="coins", kind="update", message="")


class TestFollowUp:
    @staticmethod
    def declared(workspace, ledger, policy: str, links: int = 3) -> Declaration:
        return grown(ledger, fakes.declare(workspace.models, code=POLICY.format(policy)), links)

    def test_without_a_policy_nothing_is_read_or_fitted(self, steps, workspace, ledger) -> None:
        self.declared(workspace, ledger, "rebase_at_drift=None")

        def fails(_):
            raise AssertionError("the ledger was opened")

        assert follow_up(dataclasses.replace(steps, open_ledger=fails), workspace, result_of()) is None

    def test_a_refit_that_is_due_is_made(self, steps, workspace, ledger, said) -> None:
        self.declared(workspace, ledger, "rebase_every=3")
        found = follow_up(steps, workspace, result_of())
        assert found is not None
        assert (found.status, found.link) == ("accepted", 4)
        assert said == [
            "A pooled refit is due: 3 links since the last pooled refit, the policy allows 3; "
            "it fits 3 batches, 12 rows",
            found.message,
        ]
        assert kinds(ledger) == ["update"] * 3 + ["rebase"]
        # The one that it made is not followed by another.
        assert follow_up(steps, workspace, result_of()) is None

    def test_one_that_is_not_due_is_not(self, steps, workspace, ledger, said, fits) -> None:
        self.declared(workspace, ledger, "rebase_every=4")
        assert follow_up(steps, workspace, result_of()) is None
        assert (said, fits.plans) == ([], [])

    def test_the_budget_asks_for_one_too(self, steps, workspace, ledger, said) -> None:
        self.declared(workspace, ledger, f"rebase_at_budget={3 * 2 / 900 - 1e-6}")
        assert follow_up(steps, workspace, result_of()) is not None
        assert "budget 0.01" in said[0]

    @pytest.mark.parametrize("status", ["quarantined", "unchanged", "gone", "unfinished"])
    def test_only_a_new_link_is_followed(self, steps, workspace, ledger, fits, status) -> None:
        self.declared(workspace, ledger, "rebase_every=1")
        assert follow_up(steps, workspace, result_of(status)) is None
        assert fits.plans == []

    @pytest.mark.parametrize("error", [FitFailed("It failed"), LedgerUnavailable("It is down")])
    def test_an_error_in_it_does_not_undo_the_update(
        self, steps, workspace, ledger, fits, said, error
    ) -> None:
        self.declared(workspace, ledger, "rebase_every=1")
        fits.error = error
        assert follow_up(steps, workspace, result_of()) is None
        assert said[-1] == f"The update stands, but the pooled refit failed: {error}"
        assert kinds(ledger) == ["update"] * 3

    @pytest.mark.parametrize("saved", ["\nLATER = 1\n", "\ndef half_saved("])
    def test_a_model_file_that_was_saved_since_does_not_undo_the_update(
        self, steps, workspace, ledger, fits, said, saved
    ) -> None:
        source = self.declared(workspace, ledger, "rebase_every=1").file
        source.write_text(source.read_text(encoding="utf-8") + saved, encoding="utf-8")
        assert follow_up(steps, workspace, result_of()) is None
        assert said[-1].startswith("The update stands, but the pooled refit failed: ")
        assert (kinds(ledger), fits.plans) == (["update"] * 3, [])

    def test_a_bug_in_it_is_not_hidden(self, steps, workspace, ledger, fits) -> None:
        self.declared(workspace, ledger, "rebase_every=1")
        fits.error = ZeroDivisionError("a bug")
        with pytest.raises(ZeroDivisionError):
            follow_up(steps, workspace, result_of())


# -- the flow -----------------------------------------------------------------------------------------


@pytest.fixture
def flow(prefect_server, monkeypatch, ledger, fits) -> Callable[..., Any]:
    from flows.rebase import rebase
    from flows.states import outcome_of

    monkeypatch.setattr("flows.steps.open_ledger", lambda _: ledger)

    def run(*arguments: Any, **options: Any) -> Any:
        state = rebase(*arguments, return_state=True, **options)
        return state, outcome_of(state)

    return run


def test_a_flow_run_refits_and_shows_the_audit(flow, ledger, chain) -> None:
    from prefect.client.orchestration import get_client

    state, result = flow("coins")
    assert (state.is_completed(), result.status, result.link) == (True, "accepted", 4)
    run_id = state.state_details.flow_run_id
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(run_id).name == "rebase coins"
        wanted = {"artifacts": {"flow_run_id": {"any_": [str(run_id)]}}}
        found = client.request("POST", "/artifacts/filter", json=wanted).json()
    left = {item["key"]: item for item in found}
    assert set(left) == {"coins-audit", "coins-sampler"}
    assert '"theta"' in left["coins-audit"]["data"]
    assert left["coins-sampler"]["data"] == 100.0
    assert ledger.run_of("coins", 4).tags["lindley.flow_run"] == str(run_id)


def test_a_flow_run_that_audits_or_fails_says_so(flow, ledger, chain, fits) -> None:
    state, result = flow("coins", audit=True)
    assert (state.is_completed(), result.status, len(ledger.versions("coins"))) == (True, "audited", 3)
    fits.passed = False
    state, result = flow("coins")
    assert (state.name, result.status) == ("Failed", "quarantined")
    assert state.message.startswith("Quarantined: ")
    state, error = flow("dice")
    assert state.is_failed()
    assert isinstance(error, UnknownChain)
    assert state.message == str(error)


def test_an_imported_chain_has_nothing_to_refit(steps, workspace, ledger, tmp_path: Path) -> None:
    from tests.support.refits import import_trace

    declaration = fakes.declare(workspace.models)
    import_trace(ledger, declaration, refits.trace(tmp_path / "trace.nc"))
    with pytest.raises(UnknownLink, match="no batch"):
        refit.refit(steps, workspace, "coins")


def test_a_refit_is_drawn_when_it_is_registered_and_an_audit_is_not(steps, workspace, chain, ledger, drawn):
    refit.refit(steps, workspace, "coins", audit=True)
    assert drawn == []
    result = refit.refit(steps, workspace, "coins")
    assert [set(runs) for runs in drawn] == [{result.run_id, ledger.versions("coins")[2].run_id}]
    assert "plots/audit.png" in ledger.runs[result.run_id].files
