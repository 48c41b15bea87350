"""Going back, and what holds for each amendment: interrupted, raced, refused, done twice, tampered with."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from lindley.errors import (
    UnknownLink,
)
from lindley.inference.sampling import FitSettings
from lindley.ledger.chain import version_tags
from lindley.ledger.history import history
from lindley.ledger.record import Artifact
from lindley.ledger.registration import complete, register_link
from lindley.model.declaration import Declaration
from lindley.operations.log import log_plan
from lindley.operations.plan import fit_plan
from lindley.operations.rebase import plan_rebase
from lindley.operations.retract import plan_correct, plan_retract
from lindley.operations.rollback import plan_rollback
from lindley.operations.update import plan_update
from lindley.verification.gather import verify_chain
from tests.support import amendments, fakes, refits
from tests.support.amendments import NAME, chain_of, counts, is_sound
from tests.support.amendments import record_digest as record
from tests.support.fakes import MemoryLedger, append, coins
from tests.support.forging import Record, forge, record_of
from tests.support.refits import import_trace

pytestmark = pytest.mark.usefixtures("read_once")


@pytest.fixture
def ledger(five_chain: MemoryLedger) -> MemoryLedger:
    return five_chain.clone()


class TestRollback:
    def test_the_belief_is_that_of_the_link_and_what_came_after_may_come_again(
        self, ledger: MemoryLedger, declaration: Declaration
    ) -> None:
        assert amendments.rollback(ledger, declaration, 2).link == 6
        made, target = record_of(ledger, NAME, 6), record_of(ledger, NAME, 2)
        assert (made["kind"], made["prior"]) == ("rollback", record(ledger, 2))
        for name in ("posterior", "metrics", "gate", "sampler", "libraries", "policy"):
            assert made[name] == target[name]
        assert counts(ledger) == [1, 2]
        assert is_sound(ledger)
        assert append(ledger, declaration, coins(declaration, 30, k=4)).link == 7
        assert record_of(ledger, NAME, 7)["prior"] == record(ledger, 6)
        assert counts(ledger) == [1, 2, 7]
        assert is_sound(ledger)

    def test_back_and_forth(self, ledger: MemoryLedger, declaration: Declaration) -> None:
        amendments.retract(ledger, declaration, 2)
        amendments.rollback(ledger, declaration, 3)
        assert counts(ledger) == [1, 2, 3]
        amendments.rollback(ledger, declaration, 6)  # the retraction
        assert counts(ledger) == [1, 3, 4, 5]
        amendments.rollback(ledger, declaration, record(ledger, 7)[:9])  # the first rollback
        assert counts(ledger) == [1, 2, 3]
        amendments.retract(ledger, declaration, 1)
        assert record_of(ledger, NAME, 10)["replayed"] == [record(ledger, 2), record(ledger, 3)]
        assert is_sound(ledger)

    def test_to_the_head_itself_is_nothing_to_do(
        self, ledger: MemoryLedger, declaration: Declaration
    ) -> None:
        assert "Link 5 is the head" in str(plan_rollback(ledger, declaration, "head").noop)
        amendments.rollback(ledger, declaration, 2)
        assert "Link 2 has the belief of the head, link 6" in str(
            plan_rollback(ledger, declaration, "2").noop
        )

    def test_a_link_that_is_none_is_told(self, ledger: MemoryLedger, declaration: Declaration) -> None:
        for word in ("6", "0", "abcdef12", "x"):
            with pytest.raises(UnknownLink, match="from 1 to 5"):
                plan_rollback(ledger, declaration, word)

    def test_to_an_import(self, declaration: Declaration, tmp_path: Path) -> None:
        ledger = MemoryLedger()
        import_trace(ledger, declaration, refits.trace(tmp_path / "trace.nc"))
        append(ledger, declaration, coins(declaration, 0))
        amendments.rollback(ledger, declaration, 1)
        append(ledger, declaration, coins(declaration, 0))
        assert counts(ledger) == [4]
        assert [link.number for link in plan_rebase(ledger, declaration).origin.links] == [4]
        assert is_sound(ledger)


#: Each amendment of the chain of five links.
AMENDMENTS: dict[str, Any] = {
    "retract": lambda ledger, declared: plan_retract(ledger, declared, ["3"]),
    "retract the newest": lambda ledger, declared: plan_retract(ledger, declared, ["5"]),
    "correct": lambda ledger, declared: plan_correct(ledger, declared, "3", coins(declared, 20, k=7)),
    "rollback": lambda ledger, declared: plan_rollback(ledger, declared, "2"),
}


@pytest.mark.parametrize("name", AMENDMENTS)
class TestEachAmendment:
    def test_interrupted_before_it_is_registered_nothing_is_seen_and_it_is_done_again(
        self, ledger: MemoryLedger, declaration: Declaration, name: str
    ) -> None:
        before = counts(ledger)
        lost = amendments.logged(ledger, AMENDMENTS[name](ledger, declaration))
        ledger.kill(lost.run_id)
        assert counts(ledger) == before
        assert len(ledger.versions(NAME)) == 5
        assert is_sound(ledger)
        assert fakes.done(ledger, AMENDMENTS[name](ledger, declaration)).link == 6
        assert ledger.runs[lost.run_id].tags["lindley.state"] == "abandoned"
        assert is_sound(ledger)

    def test_killed_between_version_and_alias_it_is_whole(
        self, ledger: MemoryLedger, declaration: Declaration, name: str
    ) -> None:
        made = amendments.logged(ledger, AMENDMENTS[name](ledger, declaration))
        ledger.register(NAME, made.run_id, version_tags(made.record, made.record_digest), made.note)
        ledger.kill(made.run_id)
        after = counts(ledger)
        assert ledger.head_hint(NAME) == 5
        complete(ledger, NAME, chain_of(ledger))
        assert (ledger.head_hint(NAME), counts(ledger)) == (6, after)
        assert is_sound(ledger)

    def test_a_lost_race_changes_nothing(
        self, ledger: MemoryLedger, declaration: Declaration, name: str
    ) -> None:
        late = amendments.logged(ledger, AMENDMENTS[name](ledger, declaration))
        append(ledger, declaration, coins(declaration, 90))
        assert register_link(ledger, late).status == "superseded"
        assert counts(ledger) == [1, 2, 3, 4, 5, 6]
        assert fakes.done(ledger, AMENDMENTS[name](ledger, declaration)).link == 7
        assert is_sound(ledger)

    def test_of_two_at_once_one_is_the_link(
        self, ledger: MemoryLedger, declaration: Declaration, name: str
    ) -> None:
        both = [amendments.logged(ledger, AMENDMENTS[name](ledger, declaration)) for _ in range(2)]
        assert both[0].record_digest == both[1].record_digest  # of a copy in any ledger, here of all acts
        assert [register_link(ledger, one).status for one in both] == ["accepted", "superseded"]
        assert is_sound(ledger)

    def test_a_fit_that_fails_the_gate_is_quarantined_and_not_tried_again_on_this_head(
        self, ledger: MemoryLedger, declaration: Declaration, name: str
    ) -> None:
        plan = AMENDMENTS[name](ledger, declaration)
        if plan.target is not None:
            return  # nothing is fitted
        found = fakes.done(ledger, plan, passed=False)
        assert (found.status, found.version) == ("quarantined", 6)
        assert counts(ledger) == [1, 2, 3, 4, 5]
        again = AMENDMENTS[name](ledger, declaration)
        assert again.tried == "quarantined"
        assert "quarantined as version 6: R-hat" in str(again.noop)
        assert "To do: mend the model and pass --accept-model-change" in str(again.noop)
        append(ledger, declaration, coins(declaration, 90))
        assert AMENDMENTS[name](ledger, declaration).noop is None
        assert is_sound(ledger)

    def test_history_states_what_counts(
        self, ledger: MemoryLedger, declaration: Declaration, name: str
    ) -> None:
        fakes.done(ledger, AMENDMENTS[name](ledger, declaration))
        views = history(ledger, NAME)
        assert [view.number for view in views if view.counted] == sorted(counts(ledger))
        gone = {"retract": (3,), "correct": (3,), "retract the newest": (5,), "rollback": ()}[name]
        assert views[-1].retracted == gone
        for number in gone:
            assert views[number - 1].taken_out_by == 6


class TestTampering:
    """What the rules find on amendments; the cases of updates are in `tests.support.tampering`."""

    @pytest.fixture
    def amended(self, ledger: MemoryLedger, declaration: Declaration) -> MemoryLedger:
        """Links 6 (retract 2), 7 (correct 4), 8 (rollback to 6), 9 (an update)."""
        amendments.retract(ledger, declaration, 2)
        amendments.correct(ledger, declaration, 4, coins(declaration, 30, k=9))
        amendments.rollback(ledger, declaration, 6)
        append(ledger, declaration, coins(declaration, 90))
        assert is_sound(ledger)
        return ledger

    @staticmethod
    def found(ledger: MemoryLedger, number: int, edit: Any = None, **options: Any) -> set[str]:
        # What comes after it no longer follows, and need not.
        for later in [n for n in ledger.models[NAME].versions if n > number]:
            run = ledger.models[NAME].versions.pop(later).run_id
            del ledger.runs[run]
        ledger.models[NAME].head = number
        forge(ledger, NAME, number, edit, **options)
        findings = verify_chain(ledger, NAME).findings
        assert {finding.version for finding in findings} == {number}
        return {finding.rule for finding in findings}

    def test_a_retraction_that_takes_out_something_else(self, amended: MemoryLedger) -> None:
        other = record(amended, 3)
        assert self.found(amended, 6, lambda made: made.update(retracted=[other])) == {"R21"}

    def test_a_retraction_of_nothing(self, amended: MemoryLedger) -> None:
        assert self.found(amended, 6, lambda made: made.update(retracted=[])) == {"R21", "R22"}

    def test_a_retraction_of_what_does_not_count(self, amended: MemoryLedger) -> None:
        def edit(made: Record) -> None:
            made["retracted"].append("f" * 64)

        assert self.found(amended, 6, edit) == {"R22"}

    def test_a_retraction_that_is_named_twice(self, amended: MemoryLedger) -> None:
        assert self.found(amended, 6, lambda made: made.update(retracted=2 * made["retracted"])) == {"R22"}

    def test_a_correction_of_two(self, amended: MemoryLedger) -> None:
        def edit(made: Record) -> None:
            made["retracted"].append(record(amended, 5))
            made["replayed"].pop()
            made["metrics"]["replayed"] -= 1

        assert self.found(amended, 7, edit) == {"R28"}  # its rows do not revise the second one

    def test_a_correction_that_counts_rows_twice(
        self, amended: MemoryLedger, declaration: Declaration
    ) -> None:
        assert "R14" in self.found(
            amended, 7, lambda made: made.update(batch=record_of(amended, NAME, 5)["batch"]),
            files={Artifact.BATCH: amended.run_of(NAME, 5).files[Artifact.BATCH]},
        )  # fmt: skip

    def test_a_retraction_that_starts_from_what_it_takes_out(self, amended: MemoryLedger) -> None:
        second = record_of(amended, NAME, 2)

        def edit(made: Record) -> None:
            made.update(prior=record(amended, 2), prior_belief=second["posterior"]["matched"])
            made["metrics"]["budget"] = second["metrics"]["budget"] + 2 / 900

        assert self.found(amended, 6, edit) == {"R21"}

    def test_a_retraction_tag_alone(self, amended: MemoryLedger) -> None:
        for number in (6, 7):
            amended.models[NAME].versions[number].tags["lindley.retracted"] = "[]"
            rules = {(f.rule, f.link) for f in verify_chain(amended, NAME).findings}
            assert ("R05", number) in rules

    @pytest.mark.parametrize("name", ["metrics", "libraries", "sampler", "thresholds", "policy", "model"])
    def test_a_rollback_that_states_something_else_of_the_fit(self, amended: MemoryLedger, name: str) -> None:
        other = {"metrics": {"k_hat": 0.0}, "policy": {"robust": 0.5}, "thresholds": {"r_hat": 1.5}}
        change = other.get(name, {"graph" if name == "model" else "pymc": "1"})
        assert self.found(amended, 8, lambda made: made[name].update(change)) == {"R23"}

    def test_a_rollback_with_another_belief(self, amended: MemoryLedger) -> None:
        one = record_of(amended, NAME, 1)
        files = {
            name: data for name, data in amended.run_of(NAME, 1).files.items()
            if name not in (Artifact.RECORD, Artifact.BATCH)
        }  # fmt: skip
        assert self.found(amended, 8, lambda made: made.update(posterior=one["posterior"]), files=files) == {
            "R23"
        }

    def test_a_rollback_to_genesis(self, amended: MemoryLedger) -> None:
        def edit(made: Record) -> None:
            made.update(prior=amended.models[NAME].genesis, prior_belief=None)

        assert self.found(amended, 8, edit) == {"R22"}

    def test_a_rollback_to_no_link(self, amended: MemoryLedger) -> None:
        assert self.found(amended, 8, lambda made: made.update(prior="f" * 64)) >= {"R10"}

    def test_a_rollback_with_a_batch(self, amended: MemoryLedger) -> None:
        assert "R07" in self.found(
            amended, 8, lambda made: made.update(batch=record_of(amended, NAME, 2)["batch"]),
            files={Artifact.BATCH: amended.run_of(NAME, 2).files[Artifact.BATCH]},
        )  # fmt: skip

    def test_an_update_that_takes_out(self, amended: MemoryLedger) -> None:
        gone = record(amended, 3)
        assert self.found(amended, 9, lambda made: made.update(retracted=[gone])) == {"R22"}


def test_a_real_fit_after_a_retraction(ledger: MemoryLedger, declaration: Declaration) -> None:
    """With the sampler: plan, fit and log go together."""
    plan = dataclasses.replace(
        plan_retract(ledger, declaration, ["3"]), settings=FitSettings(chains=4, tune=300, draws=300)
    )
    outcome = fit_plan(plan)
    assert outcome is not None
    found = register_link(ledger, log_plan(ledger, plan, outcome))
    assert found.status == "accepted"
    assert is_sound(ledger)
    update = plan_update(ledger, declaration, coins(declaration, 60))
    assert fit_plan(update) is not None
