"""A panel from its first batch on: what moves, what is kept, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import stats

from lindley.batch.batch import batch_from_frame
from lindley.errors import (
    BatchRefused,
    DeclarationRefused,
    MemberRefused,
    ModelRefused,
    OverlapRefused,
    PanelRefused,
)
from lindley.ledger.history import Link, find_link
from lindley.ledger.reading import find_chain
from lindley.model.declaration import Declaration
from lindley.operations.overlap import DROP
from lindley.operations.panel.fit import fit_panel
from lindley.operations.retract import plan_retract
from lindley.operations.rollback import plan_rollback
from lindley.operations.update import plan_update
from lindley.panel.key import MemberKey
from lindley.panel.link import PanelLink, panel_link
from lindley.panel.members import split
from lindley.panel.proof import read_proof
from lindley.verification.gather import verify_chain
from lindley.verification.reproduce import reproduce_links
from tests.support import panels
from tests.support.fakes import MemoryLedger, append, coins, declare


def link(ledger: MemoryLedger, place: str = "head") -> PanelLink:
    return panel_link(find_link(ledger, f"{panels.NAME}@{place}"))


def test_members_move_by_themselves(panel: MemoryLedger) -> None:
    head = link(panel)
    held = head.members().set_index("store")
    assert held["link"].to_dict() == {"s0": 1, "s1": 3, "s2": 2, "s3": 1, "s4": 1, "new": 2, "bad": 3}
    assert set(held["status"]) == {"accepted"}
    assert head.record["panel"]["counts"] == {
        "members": 7, "changed": 2, "accepted": 2, "quarantined": 0, "withdrawn": 0, "new": 0,
    }  # fmt: skip
    assert [link(panel, "2").record["panel"]["counts"][n] for n in ("changed", "quarantined", "new")] == [
        4,
        1,
        2,
    ]


@pytest.mark.parametrize(("store", "successes", "failures"), [("s1", 15, 75), ("s2", 33, 27)])
def test_a_member_has_the_posterior_of_all_its_rows(
    panel: MemoryLedger, store: str, successes: int, failures: int
) -> None:
    """Its earlier batches are fitted again together with the new one: a closed form, no match between.

    `s1` has three links of 3 x 10 trials; `s2` two that contradict each other.
    """
    row = link(panel).member(store=store).row
    exact = stats.beta(2 + successes, 3 + failures)
    found, metrics = row.state["summary"]["theta"], row.attempt["metrics"]  # type: ignore[index]
    assert metrics["ess_bulk_min"] > 400
    assert abs(found["mean"] - exact.mean()) < 4 * exact.std() / np.sqrt(metrics["ess_bulk_min"])
    assert abs(np.log(found["sd"] / exact.std())) < 4 / np.sqrt(2 * metrics["ess_bulk_min"])
    assert (row.attempt["began"], row.attempt["start"], metrics["drift"]) == (None, "model", 0)


def test_a_member_that_fails_keeps_its_belief_and_the_others_go_on(panel: MemoryLedger) -> None:
    bad = link(panel, "2").member(store="bad")
    assert (bad.status, bad.row.matched, len(bad.summary())) == ("quarantined", None, 0)
    assert "finite log density" in bad.reasons[0]
    with pytest.raises(MemberRefused, match="no belief yet"):
        bad.matched_prior()
    assert "1 member failed" in link(panel, "2").record["gate"]["warnings"][0]
    (failed,) = find_chain(panel, panels.NAME).quarantined
    assert "1 of 2 members failed" in failed.reasons[0]
    assert "[store=s3]" in failed.reasons[0]


def test_history_and_frame(panel: MemoryLedger) -> None:
    history = link(panel).member(store="bad").history()
    assert list(history["status"]) == ["accepted", "quarantined"]
    assert list(link(panel).member({"store": "s1"}).history()["link"]) == [3, 2, 1]
    frame = link(panel).frame()
    assert len(frame) == 7
    assert {"store", "parameter", "mean", "sd", "q05", "q95"} <= set(frame.columns)
    with pytest.raises(MemberRefused, match="no member"):
        link(panel).member(store="nowhere")
    with pytest.raises(MemberRefused, match="other columns"):
        link(panel).member(shop="s1")


def test_a_proof_is_that_of_the_record(panel: MemoryLedger) -> None:
    head = link(panel)
    proof = read_proof(head.prove(MemberKey.of({"store": "s4"})))
    assert (proof.root, proof.record) == (head.record["panel"]["root"], head.view.record_digest)
    assert proof.document["leaf"]["link"] == 1


def test_the_chain_verifies_and_is_fitted_again_bit_by_bit(panel: MemoryLedger) -> None:
    assert verify_chain(panel, panels.NAME).findings == ()
    assert {item.result for item in reproduce_links(panel, panels.NAME)} == {"identical"}


def test_any_number_of_shards_gives_equal_leaves(panel: MemoryLedger, shops: Declaration) -> None:
    plan = panels.planned(panel, shops, panels.batch(shops, {"s0": 1, "s1": 2, "s2": 3, "x": 4}, 50))
    leaves = {tuple(row.hash for row in fit_panel(plan, shards=shards).rows) for shards in (1, 2, 64)}
    assert len(leaves) == 1


def test_a_shard_without_a_result_is_run_again(panel: MemoryLedger, shops: Declaration) -> None:
    from lindley.panel.shards import fit_shard

    plan = panels.planned(panel, shops, panels.batch(shops, {"s0": 1, "s1": 2}, 50))
    ran: list[list[int]] = []

    def dies_once(folder: Any, numbers: list[int]) -> None:
        ran.append(list(numbers))
        for number in numbers if len(ran) > 1 else numbers[:1]:
            fit_shard(folder, number, shops)

    assert len(fit_panel(plan, dies_once, shards=2).rows) == 2
    assert ran == [[0, 1], [1]]
    with pytest.raises(PanelRefused, match="2 shards of 2 left no result"):
        fit_panel(plan, lambda *_: None, shards=2)


def test_rows_that_count_are_refused_or_dropped_and_those_of_a_failed_member_come_again(
    panel: MemoryLedger, shops: Declaration
) -> None:
    again = panels.batch(shops, {"s1": 2}, 10)
    with pytest.raises(OverlapRefused, match="link 2"):
        plan_update(panel, shops, again)
    ledger = panel.clone()  # as it was before the rows of the store that failed came again
    del ledger.models[panels.NAME].versions[4]
    both = panels.batch(shops, {"s1": 2, "bad": 5}, 10)
    left = plan_update(ledger, shops, both, on_overlap=DROP)
    assert left.members is not None
    assert [str(item.key) for item in left.members.work] == ["store=bad"]


def test_going_back_to_an_earlier_link_and_on(panel: MemoryLedger, shops: Declaration) -> None:
    ledger = panel.clone()
    panels.done(ledger, plan_rollback(ledger, shops, "1"))
    assert link(ledger).index.members == 5
    panels.append(ledger, shops, panels.batch(shops, {"s1": 2}, 10))
    assert list(link(ledger).member(store="s1").history()["link"]) == [5, 1]
    assert verify_chain(ledger, panels.NAME).findings == ()


def test_a_retracted_batch_moves_only_its_members(panel: MemoryLedger, shops: Declaration) -> None:
    """Without link 2, `s1` has the rows of links 1 and 3, `s2` those of link 1, and the new store none."""
    ledger = panel.clone()
    plan = plan_retract(ledger, shops, ["2"])
    assert plan.members is not None
    assert {str(item.key): item.links for item in plan.members.work} == {
        "store=s1": (1, 3), "store=s2": (1,),
    }  # fmt: skip
    panels.done(ledger, plan)
    head = link(ledger)
    assert head.record["panel"]["counts"] == {
        "members": 7, "changed": 3, "accepted": 2, "quarantined": 0, "withdrawn": 1, "new": 0,
    }  # fmt: skip
    assert head.member(store="s0").row.link == 1
    assert head.member(store="new").status == "withdrawn"
    exact, found = stats.beta(2 + 3 + 6, 3 + 27 + 24), head.member(store="s1").summary().loc["theta"]
    ess = head.member(store="s1").metrics["ess_bulk_min"]
    assert abs(found["mean"] - exact.mean()) < 4 * exact.std() / np.sqrt(ess)
    assert verify_chain(ledger, panels.NAME).findings == ()
    assert [item.result for item in reproduce_links(ledger, panels.NAME, [4])] == ["identical"]
    panels.append(ledger, shops, panels.batch(shops, {"new": 4, "s2": 5}, 10))
    assert verify_chain(ledger, panels.NAME).findings == ()
    assert list(link(ledger).member(store="new").history()["status"]) == ["accepted", "withdrawn", "accepted"]


@pytest.mark.parametrize("read", ["trace", "matched_prior"])
def test_a_link_of_a_panel_has_no_single_belief(panel: MemoryLedger, read: str) -> None:
    with pytest.raises(PanelRefused, match="no single belief"):
        getattr(link(panel), read)()


def test_a_chain_with_one_belief_is_no_panel(tmp_path: Any) -> None:
    ledger, declaration = MemoryLedger(), declare(tmp_path)
    append(ledger, declaration, coins(declaration, 0))
    with pytest.raises(PanelRefused, match="is no panel"):
        panel_link(Link("coins", find_link(ledger, "coins").view, ledger))


class TestDeclarations:
    def test_the_key_of_a_member_belongs_to_the_row_key(self, shops: Declaration) -> None:
        assert shops.row_key == ("store", "id")
        assert shops.member.by == ()
        assert shops.member.row_key == ("store", "id")

    @pytest.mark.parametrize("more", ["context=2", 'carry={"theta": "y"}', 'by=("store", "store")'])
    def test_what_a_panel_does_not_do_is_refused(self, tmp_path: Any, more: str) -> None:
        old = 'by=("store",),' if more.startswith("by") else 'observed=("k",),'
        new = f"{more}," if more.startswith("by") else f"{old} {more},"
        with pytest.raises(DeclarationRefused, match="cannot be imported"):
            panels.declare(tmp_path, **{old: new})

    def test_other_members_than_those_of_genesis_are_refused(
        self, panel: MemoryLedger, tmp_path: Any
    ) -> None:
        other = panels.declare(tmp_path, **{'by=("store",),': 'by=("store", "n"),'})
        with pytest.raises(ModelRefused, match="members of shops"):
            plan_update(panel, other, panels.batch(other, {"s1": 1}, 90))


class TestKeyColumns:
    def frame(self, **columns: Any) -> pa.Table:
        return pa.table({"store": ["a"], "id": [1], "k": [1], "n": [10]} | columns)

    @pytest.mark.parametrize("values", [[1.5], [b"x"]])
    def test_floats_and_bytes_are_refused(self, shops: Declaration, values: list[Any]) -> None:
        with pytest.raises(DeclarationRefused, match="key columns of text, integers, booleans or dates"):
            split(self.frame(store=values), shops)

    def test_nulls_are_refused(self, shops: Declaration) -> None:
        with pytest.raises(BatchRefused, match="missing values"):
            split(pa.table({"store": ["a", None], "id": [1, 2]}), shops)

    def test_too_many_members_are_refused(self, shops: Declaration, monkeypatch: Any) -> None:
        monkeypatch.setattr("lindley.panel.members.MOST_MEMBERS", 2)
        with pytest.raises(BatchRefused, match="too many members"):
            split(pa.table({"store": ["a", "b", "c"]}), shops)

    def test_a_repeated_row_key_of_a_member_is_refused(self, shops: Declaration) -> None:
        frame = pd.concat([panels.rows({"s1": 1}, 0, 1)] * 2)
        with pytest.raises(BatchRefused, match="repeated"):
            batch_from_frame(frame, shops)

    def test_two_members_may_have_one_row_key(self, shops: Declaration) -> None:
        assert len(split(panels.batch(shops, {"s1": 1, "s2": 2}, 0).table, shops)) == 2
