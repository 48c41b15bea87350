"""Where the seconds of a chain's links went."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lindley.batch.reading import read_batch
from lindley.errors import UnknownChain
from lindley.ledger.reading import find_chain
from lindley.ledger.registration import register_link
from lindley.model.declaration import Declaration
from lindley.operations.log import log_plan
from lindley.operations.plots import draw_missing
from lindley.operations.profile import profile
from lindley.operations.rollback import plan_rollback
from lindley.operations.update import plan_update
from lindley.timing import Phases, metric
from tests.support.fakes import MemoryLedger, append, coins
from tests.support.fits import fit

NAME = "coins"


class TestPhases:
    def test_seconds_add_up_and_the_total_holds_what_is_between(self) -> None:
        phases = Phases({"read": 2.0})
        with phases("fetch"):
            pass
        with phases("fetch"):
            pass
        phases.add({"sample": 0.0, "read": 1.0})
        assert list(phases.seconds) == ["read", "fetch", "sample"]
        assert phases.seconds["read"] == 3.0
        assert phases.total() >= 2.0 + phases.seconds["fetch"]
        assert phases.metrics("read", "nothing") == {"seconds/read": 3.0}
        assert set(phases.metrics()) == {"seconds/read", "seconds/fetch", "seconds/sample"}

    def test_a_phase_that_fails_counts(self) -> None:
        phases = Phases()
        with pytest.raises(ValueError, match="no"), phases("fetch"):
            raise ValueError("no")
        assert "fetch" in phases.seconds


class TestWhatRunsHold:
    def test_every_phase_of_an_update_is_there(self, declaration: Declaration, tmp_path: Path) -> None:
        ledger = MemoryLedger()
        append(ledger, declaration, coins(declaration, 0))
        path = tmp_path / "a.csv"
        path.write_text("id,k,n\n10,3,10\n11,4,10\n")
        plan = plan_update(ledger, declaration, read_batch(path, declaration))
        registered = register_link(ledger, log_plan(ledger, plan, fit(plan)))
        draw_missing(ledger, {registered.run_id: registered.record_digest})
        held = ledger.runs[registered.run_id].metrics
        mine = {name.partition("/")[2]: value for name, value in held.items() if name.startswith("seconds/")}
        # The fit of these links is made up, and so is its only phase.
        assert set(mine) == {
            "read", "validate", "fetch", "build", "sample", "write", "log", "register", "plots", "total",
        }  # fmt: skip
        parts = sum(value for name, value in mine.items() if name not in {"sample", "plots", "total"})
        assert 0 < parts <= mine["total"]

    def test_a_first_link_builds_its_model_to_be_planned(self, declaration: Declaration) -> None:
        ledger = MemoryLedger()
        append(ledger, declaration, coins(declaration, 0))
        assert ledger.run_of(NAME, 1).metrics[metric("build")] > 0

    def test_what_is_measured_late_is_not_there_before_the_version(
        self, declaration: Declaration, coins_chain: MemoryLedger
    ) -> None:
        ledger = coins_chain.clone()
        plan = plan_update(ledger, declaration, coins(declaration, 60))
        logged = log_plan(ledger, plan, fit(plan))
        late = {metric(name) for name in ("log", "register", "total")}
        assert not late & set(ledger.runs[logged.run_id].metrics)
        register_link(ledger, logged)
        assert late <= set(ledger.runs[logged.run_id].metrics)


class TestProfile:
    def test_one_line_per_link_and_the_medians(self, coins_chain: MemoryLedger) -> None:
        ledger = coins_chain.clone()
        for number, seconds in ((1, 0.5), (2, 2.0), (5, 1.0)):
            ledger.run_of(NAME, number).metrics |= {metric("sample"): seconds, metric("total"): 10 * seconds}
        found = profile(ledger, NAME)
        assert [(line.link, line.kind, line.total) for line in found.lines] == [
            (1, "update", 5.0), (2, "update", 20.0), (3, "update", 10.0),
        ]  # fmt: skip
        assert [line.ess for line in found.lines] == [900.0] * 3
        assert [line.ess_per_second for line in found.lines] == [1800.0, 450.0, 900.0]
        medians = found.medians()
        assert (medians["seconds"]["sample"], medians["total"], medians["ess_per_second"]) == (
            1.0,
            10.0,
            900.0,
        )
        assert found.phases() == ["fetch", "build", "sample", "write", "log", "register"]
        assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["median"] == medians

    def test_only_the_newest(self, coins_chain: MemoryLedger) -> None:
        assert [line.link for line in profile(coins_chain, NAME, 2).lines] == [2, 3]
        assert [line.link for line in profile(coins_chain, NAME, 9).lines] == [1, 2, 3]

    def test_a_copy_has_seconds_but_no_ess_of_its_own(
        self, coins_chain: MemoryLedger, declaration: Declaration
    ) -> None:
        ledger = coins_chain.clone()
        plan = plan_rollback(ledger, declaration, "1")
        register_link(ledger, log_plan(ledger, plan, None))
        (line,) = profile(ledger, NAME, 1).lines
        assert (line.kind, line.ess, line.ess_per_second) == ("rollback", None, None)
        assert {"fetch", "log", "register"} <= set(line.seconds)

    def test_runs_are_read_together(self, coins_chain: MemoryLedger, monkeypatch: pytest.MonkeyPatch) -> None:
        def alone(*_: object) -> None:
            raise AssertionError("one call per run")

        for name in ("run_state", "download", "artifacts"):
            if name != "download":  # the genesis record is one
                monkeypatch.setattr(coins_chain, name, alone, raising=True)
        assert len(profile(coins_chain, NAME).lines) == len(find_chain(coins_chain, NAME).links)

    def test_a_run_that_says_nothing_is_a_line_of_dashes(self, coins_chain: MemoryLedger) -> None:
        ledger = coins_chain.clone()
        del ledger.runs[ledger.models[NAME].versions[2].run_id]
        line = profile(ledger, NAME).lines[1]
        assert (dict(line.seconds), line.total, line.ess_per_second) == ({}, None, None)

    def test_an_unknown_chain_is_told(self, coins_chain: MemoryLedger) -> None:
        with pytest.raises(UnknownChain):
            profile(coins_chain, "dice")
