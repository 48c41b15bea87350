"""Taking batches out and replacing one: what counts afterwards, what the link says, that a chain goes on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from lindley.errors import (
    AmendmentRefused,
    LedgerCorrupt,
    ModelRefused,
    OverlapRefused,
    UnknownChain,
    UnknownLink,
)
from lindley.ledger.reading import read_belief
from lindley.ledger.record import Artifact
from lindley.model.declaration import Declaration
from lindley.operations.plan import fit_plan
from lindley.operations.rebase import plan_rebase
from lindley.operations.retract import plan_correct, plan_retract
from lindley.operations.rollback import plan_rollback
from lindley.operations.update import plan_update
from lindley.verification.gather import verify_chain
from tests.support import amendments, fakes, refits
from tests.support.amendments import NAME, chain_of, counts, is_sound
from tests.support.amendments import record_digest as record
from tests.support.fakes import MemoryLedger, append, coins, declare
from tests.support.forging import Record, forge, record_of
from tests.support.refits import import_trace

FORGETS = """
import dataclasses
from lindley import Forgetting, Policy
declaration = dataclasses.replace(declaration, policy=Policy({}))
"""


pytestmark = pytest.mark.usefixtures("read_once")


@pytest.fixture
def ledger(five_chain: MemoryLedger) -> MemoryLedger:
    return five_chain.clone()


class TestRetract:
    def test_the_rest_is_fitted_on_the_newest_link_that_has_not_seen_it(
        self, ledger: MemoryLedger, declaration: Declaration
    ) -> None:
        plan = plan_retract(ledger, declaration, ["3"])
        assert plan.origin.prior is not None
        assert (plan.origin.prior.number, [link.number for link in plan.origin.links]) == (2, [4, 5])
        assert [int(batch.frame()["k"].iloc[0]) for batch in plan.batches] == [4, 5]
        assert plan.start.prior is not None
        assert plan.start.prior.matched.digest == record_of(ledger, NAME, 2)["posterior"]["matched"]
        found = fakes.done(ledger, plan)
        assert (found.status, found.link, found.version) == ("accepted", 6, 6)
        assert counts(ledger) == [1, 2, 4, 5]
        made = record_of(ledger, NAME, 6)
        assert (made["kind"], made["batch"], made["retracted"]) == ("retract", None, [record(ledger, 3)])
        assert (made["prior"], made["previous"]) == (record(ledger, 2), record(ledger, 5))
        assert made["replayed"] == [record(ledger, 4), record(ledger, 5)]
        assert "batch.parquet" not in ledger.run_of(NAME, 6).files
        note = ledger.models[NAME].versions[6].description
        assert "Taken out: link 3 (coins-020.csv)" in note
        assert ledger.head_hint(NAME) == 6
        assert is_sound(ledger)

    def test_taking_out_the_newest_gives_the_belief_before_it_bit_for_bit(
        self, ledger: MemoryLedger, declaration: Declaration
    ) -> None:
        plan = plan_retract(ledger, declaration, ["coins-040.csv"])
        assert plan.target is not None
        assert plan.target.number == 4
        assert fit_plan(plan) is None
        assert fakes.done(ledger, plan).link == 6
        made, before = record_of(ledger, NAME, 6), record_of(ledger, NAME, 4)
        assert made["posterior"] == before["posterior"]
        assert made["artifacts"] == {k: v for k, v in before["artifacts"].items() if k != "batch.parquet"}
        head = chain_of(ledger).head
        assert head is not None
        one, two = (read_belief(ledger, link)[1] for link in (head, chain_of(ledger).links[3]))
        assert one.matched.digest == two.matched.digest
        assert dataclasses.replace(one, matched=two.matched) == two
        assert counts(ledger) == [1, 2, 3, 4]
        assert is_sound(ledger)

    def test_several_go_in_one_link(self, ledger: MemoryLedger, declaration: Declaration) -> None:
        plan = plan_retract(ledger, declaration, ["4", "@2", "coins-030.csv"])
        assert [link.number for link in plan.retracted] == [2, 4]
        assert plan.origin.prior is not None
        assert (plan.origin.prior.number, [link.number for link in plan.origin.links]) == (1, [3, 5])
        fakes.done(ledger, plan)
        assert counts(ledger) == [1, 3, 5]
        assert is_sound(ledger)

    def test_the_first_goes_by_a_fit_from_genesis(
        self, ledger: MemoryLedger, declaration: Declaration
    ) -> None:
        plan = plan_retract(ledger, declaration, ["1"])
        assert (plan.start.prior, plan.origin.prior, len(plan.batches)) == (None, None, 4)
        fakes.done(ledger, plan)
        assert record_of(ledger, NAME, 6)["prior"] == ledger.models[NAME].genesis
        assert counts(ledger) == [2, 3, 4, 5]
        assert is_sound(ledger)

    def test_a_belief_whose_match_is_not_trusted_is_not_started_from(
        self, ledger: MemoryLedger, declaration: Declaration
    ) -> None:
        def edit(made: Record) -> None:
            made["posterior"]["doubts"] = ["a bad match"]
            made["metrics"]["trusted"] = 0

        forge(ledger, NAME, 5, edit)  # the newest one: what is before it need not follow
        append(ledger, declaration, coins(declaration, 60))
        plan = plan_retract(ledger, declaration, ["6"])
        assert plan.target is not None  # taken as it is, not started from
        append(ledger, declaration, coins(declaration, 70))
        plan = plan_retract(ledger, declaration, ["6"])
        assert plan.origin.prior is not None
        assert (plan.origin.prior.number, [link.number for link in plan.origin.links]) == (4, [5, 7])

    def test_a_batch_that_was_taken_out_may_come_again(
        self, ledger: MemoryLedger, declaration: Declaration
    ) -> None:
        amendments.retract(ledger, declaration, 3)
        assert append(ledger, declaration, coins(declaration, 20, k=3)).link == 7
        assert counts(ledger) == [1, 2, 4, 5, 7]
        assert "link 7" in str(plan_update(ledger, declaration, coins(declaration, 20, k=3)).noop)
        with pytest.raises(OverlapRefused, match="link 7"):
            plan_update(ledger, declaration, coins(declaration, 22, k=9))
        assert is_sound(ledger)

    def test_what_still_counts_is_still_counted_once(
        self, ledger: MemoryLedger, declaration: Declaration
    ) -> None:
        amendments.retract(ledger, declaration, 3)
        assert "link 4" in str(plan_update(ledger, declaration, coins(declaration, 30, k=4)).noop)
        with pytest.raises(OverlapRefused, match="link 5"):
            plan_update(ledger, declaration, coins(declaration, 41, k=9))

    def test_a_pooled_refit_has_only_what_counts(
        self, ledger: MemoryLedger, declaration: Declaration
    ) -> None:
        amendments.retract(ledger, declaration, 3)
        assert [link.number for link in plan_rebase(ledger, declaration).origin.links] == [1, 2, 4, 5]
        refits.rebase(ledger, declaration)
        amendments.retract(ledger, declaration, 4)
        assert counts(ledger) == [1, 2, 5]
        # The refit has seen batch 4, link 2 has not.
        assert record_of(ledger, NAME, 8)["prior"] == record(ledger, 2)
        assert is_sound(ledger)

    def test_one_after_another(self, ledger: MemoryLedger, declaration: Declaration) -> None:
        for number, left in ((2, [1, 3, 4, 5]), (4, [1, 3, 5]), (5, [1, 3]), (1, [3])):
            amendments.retract(ledger, declaration, number)
            assert counts(ledger) == left
        assert is_sound(ledger)

    @pytest.mark.parametrize("word", ["3", "@3", "coins-020.csv", "digest"])
    def test_done_twice_it_is_done_once(
        self, ledger: MemoryLedger, declaration: Declaration, word: str
    ) -> None:
        word = chain_of(ledger).links[2].version.batch[:10] if word == "digest" else word
        amendments.retract(ledger, declaration, word)
        before = len(ledger.runs)
        plan = plan_retract(ledger, declaration, [word])
        assert plan.noop is not None
        assert "link 3 (coins-020.csv) was taken out by link 6" in plan.noop
        assert len(ledger.runs) == before

    def test_nothing_left_is_refused(self, ledger: MemoryLedger, declaration: Declaration) -> None:
        with pytest.raises(AmendmentRefused, match="Nothing would be left"):
            plan_retract(ledger, declaration, list("12345"))

    def test_back_to_an_import_is_something(self, declaration: Declaration, tmp_path: Path) -> None:
        ledger = MemoryLedger()
        import_trace(ledger, declaration, refits.trace(tmp_path / "trace.nc"))
        append(ledger, declaration, coins(declaration, 0))
        append(ledger, declaration, coins(declaration, 10, k=4))
        plan = plan_retract(ledger, declaration, ["2"])
        assert plan.origin.prior is not None
        assert plan.origin.prior.number == 1
        fakes.done(ledger, plan)
        amendments.retract(ledger, declaration, 3)
        assert counts(ledger) == []
        assert record_of(ledger, NAME, 5)["prior"] == record(ledger, 1)
        assert is_sound(ledger)
        append(ledger, declaration, coins(declaration, 20))
        assert counts(ledger) == [6]
        assert is_sound(ledger)

    @pytest.mark.parametrize(
        ("word", "error"),
        [("9", "No batch is '9'"), ("0", "No batch"), ("abcdef12", "No batch"), ("x.csv", "No")],
    )
    def test_a_batch_that_is_none_is_told(
        self, ledger: MemoryLedger, declaration: Declaration, word: str, error: str
    ) -> None:
        with pytest.raises(UnknownLink, match=error):
            plan_retract(ledger, declaration, [word])

    def test_a_link_without_a_batch_is_told(self, ledger: MemoryLedger, declaration: Declaration) -> None:
        refits.rebase(ledger, declaration)
        with pytest.raises(UnknownLink, match="Link 6 has no batch of its own"):
            plan_retract(ledger, declaration, ["6"])

    def test_a_name_of_two_is_told(self, declaration: Declaration) -> None:
        ledger = MemoryLedger()
        for start in (0, 10):
            append(ledger, declaration, coins(declaration, start, origin="same.csv"))
        with pytest.raises(UnknownLink, match="more than one"):
            plan_retract(ledger, declaration, ["same.csv"])

    @pytest.mark.parametrize(
        ("policy", "word"),
        [("forget={'theta': Forgetting(discount=0.9)}", "forgets old data"), ("robust=0.1", "mixes")],
    )
    def test_what_must_not_be_fitted_together_is_not(
        self, ledger: MemoryLedger, tmp_path: Path, policy: str, word: str
    ) -> None:
        declared = declare(tmp_path, code=FORGETS.format(policy))
        with pytest.raises(AmendmentRefused, match=word) as caught:
            plan_retract(ledger, declared, ["3"], accept_model_change=True)
        assert "lindley rollback coins 2" in caught.value.todo
        assert plan_retract(ledger, declared, ["5"]).target is not None

    def test_a_changed_model_is_refused_only_where_it_would_be_fitted(
        self, ledger: MemoryLedger, tmp_path: Path
    ) -> None:
        changed = declare(tmp_path, code="\nOTHER = 1\n")
        with pytest.raises(ModelRefused, match="changed since link 5"):
            plan_retract(ledger, changed, ["3"])
        assert plan_retract(ledger, changed, ["3"], accept_model_change=True).noop is None
        assert plan_retract(ledger, changed, ["5"]).target is not None

    def test_what_failed_the_gate_may_be_tried_with_a_mended_model(
        self, ledger: MemoryLedger, declaration: Declaration, tmp_path: Path
    ) -> None:
        fakes.done(ledger, plan_retract(ledger, declaration, ["3"]), passed=False)
        mended = declare(tmp_path, code="\nMENDED = 1\n")
        with pytest.raises(ModelRefused, match="--accept-model-change"):
            plan_retract(ledger, mended, ["3"])
        found = fakes.done(ledger, plan_retract(ledger, mended, ["3"], accept_model_change=True))
        assert (found.status, found.link, found.version) == ("accepted", 6, 7)
        assert counts(ledger) == [1, 2, 4, 5]
        assert is_sound(ledger)

    def test_a_chain_without_links_is_told(self, declaration: Declaration) -> None:
        ledger = MemoryLedger()
        with pytest.raises(UnknownChain):
            plan_retract(ledger, declaration, ["1"])
        append(ledger, declaration, coins(declaration, 0), passed=False)
        for plan in (plan_retract, plan_rollback):
            with pytest.raises(UnknownLink, match="no link yet"):
                plan(ledger, declaration, "1")  # type: ignore[operator]

    def test_damage_is_not_built_upon(self, ledger: MemoryLedger, declaration: Declaration) -> None:
        ledger.run_of(NAME, 4).files[Artifact.BATCH] = ledger.run_of(NAME, 3).files["batch.parquet"]
        with pytest.raises(LedgerCorrupt, match="batch of link 4"):
            plan_retract(ledger, declaration, ["3"])
        plan = plan_rollback(ledger, declaration, "4")
        ledger.flip(NAME, 4, "summary.csv")
        before = len(ledger.runs)
        with pytest.raises(LedgerCorrupt, match=r"artifacts of link 4.*summary\.csv"):
            amendments.logged(ledger, plan)
        assert len(ledger.runs) == before


class TestCorrect:
    def test_the_new_batch_counts_where_the_old_one_did(
        self, ledger: MemoryLedger, declaration: Declaration
    ) -> None:
        new = coins(declaration, 20, 5, k=7, origin="revised.csv")  # one row more, on four of the same keys
        plan = plan_correct(ledger, declaration, "3", new)
        assert [int(batch.frame()["k"].iloc[0]) for batch in plan.batches] == [7, 4, 5]
        assert plan.origin.prior is not None
        assert (plan.origin.prior.number, [link.number for link in plan.origin.links]) == (2, [4, 5])
        assert fakes.done(ledger, plan).link == 6
        assert counts(ledger) == [1, 2, 6, 4, 5]
        made = record_of(ledger, NAME, 6)
        assert (made["kind"], made["retracted"]) == ("correct", [record(ledger, 3)])
        assert (made["batch"]["digest"], made["batch"]["origin"]) == (new.digest, "revised.csv")
        assert made["replayed"] == [record(ledger, 4), record(ledger, 5)]
        note = ledger.models[NAME].versions[6].description
        assert "Taken out: link 3" in note
        assert "revised.csv" in note
        assert is_sound(ledger)

    def test_a_chain_goes_on_after_it(self, ledger: MemoryLedger, declaration: Declaration) -> None:
        amendments.correct(ledger, declaration, 3, coins(declaration, 20, k=7))
        append(ledger, declaration, coins(declaration, 60))
        amendments.retract(ledger, declaration, 4)
        assert counts(ledger) == [1, 2, 6, 5, 7]
        amendments.correct(ledger, declaration, 6, coins(declaration, 20, k=8))
        assert counts(ledger) == [1, 2, 9, 5, 7]
        assert [link.number for link in plan_rebase(ledger, declaration).origin.links] == [1, 2, 9, 5, 7]
        # Retracting what replaced it does not bring the first version back.
        amendments.retract(ledger, declaration, 9)
        assert counts(ledger) == [1, 2, 5, 7]
        assert is_sound(ledger)

    def test_the_newest_one(self, ledger: MemoryLedger, declaration: Declaration) -> None:
        amendments.correct(ledger, declaration, 5, coins(declaration, 40, k=7))
        assert counts(ledger) == [1, 2, 3, 4, 6]
        assert record_of(ledger, NAME, 6)["replayed"] == []
        assert is_sound(ledger)

    def test_context_is_what_came_before_in_the_order_in_which_batches_count(self, tmp_path: Path) -> None:
        code = (
            "\nimport dataclasses\nfirst = build\ndef build(batch, context):\n    return first(batch)\n"
            "declaration = dataclasses.replace(declaration, build=build, context=3)\n"
        )
        declared = declare(tmp_path, code=code)
        ledger = MemoryLedger()
        for number in range(1, 5):
            append(ledger, declared, coins(declared, 10 * (number - 1), 2, k=number))
        amendments.correct(ledger, declared, 2, coins(declared, 15, 2, k=9))
        assert is_sound(ledger)
        assert record_of(ledger, NAME, 5)["batch"]["context"]["rows"] == 2
        plan = plan_retract(ledger, declared, ["3"])
        contexts = [list(batch.context_frame()["id"]) for batch in plan.batches]  # type: ignore[index]
        assert contexts == [[0, 1], [1, 15, 16]]
        fakes.done(ledger, plan)
        append(ledger, declared, coins(declared, 50, 2))
        assert is_sound(ledger)
        head = record_of(ledger, NAME, 7)["batch"]["context"]
        forge(ledger, NAME, 7, lambda made: made["batch"].update(context=head | {"digest": "0" * 64}))
        assert {finding.rule for finding in verify_chain(ledger, NAME).findings} == {"R07"}

    def test_the_same_batch_is_nothing_to_do(self, ledger: MemoryLedger, declaration: Declaration) -> None:
        plan = plan_correct(ledger, declaration, "3", coins(declaration, 20, k=3, origin="again.csv"))
        assert plan.noop is not None
        assert "again.csv counts already, in link 3" in plan.noop

    def test_done_twice_it_is_done_once(self, ledger: MemoryLedger, declaration: Declaration) -> None:
        new = coins(declaration, 20, k=7)
        amendments.correct(ledger, declaration, 3, new)
        assert "counts already, in link 6" in str(plan_correct(ledger, declaration, "3", new).noop)

    def test_one_that_does_not_count_is_refused(self, ledger: MemoryLedger, declaration: Declaration) -> None:
        amendments.correct(ledger, declaration, 3, coins(declaration, 20, k=7))
        with pytest.raises(AmendmentRefused, match="taken out by link 6"):
            plan_correct(ledger, declaration, "3", coins(declaration, 20, k=8))

    def test_rows_of_other_batches_are_refused(self, ledger: MemoryLedger, declaration: Declaration) -> None:
        before = len(ledger.runs)
        with pytest.raises(OverlapRefused, match="link 4"):
            plan_correct(ledger, declaration, "3", coins(declaration, 22, 10, k=7))
        with pytest.raises(OverlapRefused, match="link 4"):
            plan_correct(ledger, declaration, "3", coins(declaration, 30, k=4))
        assert len(ledger.runs) == before
