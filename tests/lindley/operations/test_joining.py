"""Quarantined batches join the fit of a later update, once; with state or context in their place."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest

from lindley.batch.batch import Batch
from lindley.errors import BatchRefused, GapRefused, OverlapRefused
from lindley.ledger.chain import Chain
from lindley.ledger.reading import find_chain
from lindley.model.declaration import Declaration
from lindley.operations import overlap
from lindley.operations.rebase import plan_rebase
from lindley.operations.retract import plan_correct, plan_retract
from lindley.operations.rollback import plan_rollback
from lindley.operations.update import plan_update
from lindley.verification.gather import verify_chain
from tests.support.fakes import MemoryLedger, append, coins, declare, done
from tests.support.forging import forge, record_of

POLICY = (
    "\nfrom dataclasses import replace\ndeclaration = replace(declaration, policy=Policy(refit_rows=1, {}))\n"
)
IN_ORDER = """
from dataclasses import replace

def with_context(batch, context):
    return build(batch)

policy = Policy(refit_rows=1, {})
declaration = replace(declaration, policy=policy, build=with_context, context=2, order_by=("id",))
"""


@pytest.fixture(scope="module")
def joining(tmp_path_factory: pytest.TempPathFactory) -> Declaration:
    return declare(tmp_path_factory.mktemp("joining"), code=POLICY.format(""))


@pytest.fixture(scope="module")
def ordered(tmp_path_factory: pytest.TempPathFactory) -> Declaration:
    return declare(tmp_path_factory.mktemp("ordered"), code=IN_ORDER.format(""))


def one_waiting(declaration: Declaration) -> MemoryLedger:
    made = MemoryLedger()
    append(made, declaration, coins(declaration, 0))
    append(made, declaration, coins(declaration, 10), passed=False)
    return made


@pytest.fixture
def ledger(joining: Declaration) -> MemoryLedger:
    """Link 1 with the ids from 0, and a quarantined version with those from 10."""
    return one_waiting(joining)


def chain_of(ledger: MemoryLedger) -> Chain:
    return find_chain(ledger, "coins")


def counted(ledger: MemoryLedger) -> list[str]:
    return [link.version.origin for link in chain_of(ledger).at_head]


def names(plan) -> list[str]:
    return [link.version.origin for link in plan.joined]


def ok(ledger: MemoryLedger) -> bool:
    report = verify_chain(ledger, "coins")
    assert report.findings == ()
    return report.ok


# -- counted once -------------------------------------------------------------------------------------


def test_it_is_fitted_with_the_next_batch_and_counts_before_it(ledger, joining):
    plan = plan_update(ledger, joining, coins(joining, 20))
    assert names(plan) == ["coins-010.csv"]
    assert [batch.origin for batch in plan.batches] == ["coins-010.csv", "coins-020.csv"]
    assert plan.waiting == ()
    assert done(ledger, plan).link == 2
    assert counted(ledger) == ["coins-000.csv", "coins-010.csv", "coins-020.csv"]
    record, joined = record_of(ledger, "coins", 3), chain_of(ledger).quarantined[0].record
    assert record["joined"] == record["replayed"] == [joined]
    assert record["metrics"]["quarantined"] == 0
    assert chain_of(ledger).waiting == ()
    assert ok(ledger)


def test_the_same_file_again_changes_nothing_and_others_go_on(ledger, joining):
    append(ledger, joining, coins(joining, 20))
    again = plan_update(ledger, joining, coins(joining, 10))
    assert again.noop is not None
    assert "is already in coins as link 2" in again.noop
    with pytest.raises(OverlapRefused, match="link 2"):
        plan_update(ledger, joining, coins(joining, 12))
    append(ledger, joining, coins(joining, 30))
    assert len(counted(ledger)) == 4
    assert ok(ledger)


def test_the_batch_itself_does_not_join_its_own_update(ledger, joining):
    append(ledger, joining, coins(joining, 20), passed=False)
    assert plan_update(ledger, joining, coins(joining, 10)).noop is not None  # on this head, with this code
    done(ledger, plan_update(ledger, joining, coins(joining, 30), join=()))
    plan = plan_update(ledger, joining, coins(joining, 10))
    assert names(plan) == ["coins-020.csv"]
    done(ledger, plan)
    assert len(counted(ledger)) == 4
    assert ok(ledger)


def test_several_join_one_link_and_one_may_be_the_first(joining):
    ledger = MemoryLedger()
    for start in (0, 10):
        append(ledger, joining, coins(joining, start), passed=False)
    append(ledger, joining, coins(joining, 20))
    assert counted(ledger) == ["coins-000.csv", "coins-010.csv", "coins-020.csv"]
    assert record_of(ledger, "coins", 3)["prior_belief"] is None
    assert ok(ledger)


def test_a_later_fit_from_an_earlier_belief_has_them_too(ledger, joining):
    append(ledger, joining, coins(joining, 20))

    def untrusted(record):
        record["metrics"]["trusted"], record["posterior"]["doubts"] = 0, ["x"]

    forge(ledger, "coins", 3, untrusted)
    plan = plan_update(ledger, joining, coins(joining, 30))
    assert plan.joined == ()
    assert [batch.origin for batch in plan.batches] == ["coins-010.csv", "coins-020.csv", "coins-030.csv"]


def test_one_that_joined_can_be_retracted_and_corrected_and_its_link_stays(ledger, joining):
    append(ledger, joining, coins(joining, 20))
    other = ledger.clone()
    done(ledger, plan_retract(ledger, joining, ["coins-010.csv"]))
    assert counted(ledger) == ["coins-000.csv", "coins-020.csv"]
    assert chain_of(ledger).waiting == ()
    assert ok(ledger)
    done(other, plan_correct(other, joining, "coins-010.csv", coins(joining, 10, k=8, origin="new.csv")))
    assert counted(other) == ["coins-000.csv", "new.csv", "coins-020.csv"]
    assert ok(other)


def test_the_links_own_batch_can_go_alone_and_a_rollback_takes_both(ledger, joining):
    append(ledger, joining, coins(joining, 20))
    other = ledger.clone()
    done(ledger, plan_retract(ledger, joining, ["2"]))
    assert counted(ledger) == ["coins-000.csv", "coins-010.csv"]
    assert ok(ledger)
    done(other, plan_rollback(other, joining, "1"))
    assert counted(other) == ["coins-000.csv"]
    assert chain_of(other).waiting == ()
    assert ok(other)


# -- what joins ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["join_quarantined=False", "replay=0"])
def test_none_joins_against_the_policy(tmp_path: Path, policy):
    declaration, ledger = declare(tmp_path, code=POLICY.format(policy)), MemoryLedger()
    append(ledger, declaration, coins(declaration, 0))
    append(ledger, declaration, coins(declaration, 10), passed=False)
    plan = plan_update(ledger, declaration, coins(declaration, 20))
    assert plan.joined == ()
    assert [version.origin for version in plan.waiting] == ["coins-010.csv"]


def test_one_that_conflicts_does_not_join_by_itself(ledger, joining):
    def conflicts(record):
        record["policy"]["conflict"], record["metrics"]["conflict_p"] = "quarantine", 1e-9
        record["thresholds"]["conflict_warn"] = 1e-3

    forge(ledger, "coins", 2, conflicts)
    assert plan_update(ledger, joining, coins(joining, 20)).joined == ()


def test_one_that_does_not_fit_is_tried_less_and_less(ledger, joining):
    tried = []
    for version in range(3, 20):
        batch = coins(joining, 10 * version)
        if plan_update(ledger, joining, batch).joined:
            tried.append(version - 2)
        done(ledger, plan_update(ledger, joining, batch, join=()))
    assert tried == [1, 2, 4, 8, 16]
    assert ok(ledger)


def test_pooled_refits_between_updates_use_up_no_attempt(ledger, joining):
    tried = []
    for number in range(1, 6):
        batch = coins(joining, 10 * (number + 2))
        tried.append(bool(plan_update(ledger, joining, batch).joined))
        done(ledger, plan_update(ledger, joining, batch, join=()))
        done(ledger, plan_rebase(ledger, joining))
    assert tried == [True, True, True, False, True]  # 1, 3, 5, 7 and 9 versions after it
    assert ok(ledger)


def test_a_batch_with_all_its_rows_takes_its_place(ledger, joining):
    plan = plan_update(ledger, joining, coins(joining, 10, k=5, origin="mended.csv"))
    assert (plan.joined, [link.version.origin for link in plan.retracted]) == ((), ["coins-010.csv"])
    done(ledger, plan)
    assert counted(ledger) == ["coins-000.csv", "mended.csv"]
    assert chain_of(ledger).waiting == ()
    assert ok(ledger)


def test_a_batch_with_some_of_its_rows_is_refused(ledger, joining):
    with pytest.raises(OverlapRefused, match=r"2 row keys with quarantined version 2 \(coins-010.csv\)"):
        plan_update(ledger, joining, coins(joining, 12))


def test_one_that_is_taken_out_does_not_join(ledger, joining):
    registered = done(ledger, plan_retract(ledger, joining, ["coins-010.csv"]))
    assert registered.link == 2
    assert chain_of(ledger).waiting == ()
    assert plan_update(ledger, joining, coins(joining, 20)).joined == ()
    assert counted(ledger) == ["coins-000.csv"]
    assert ok(ledger)


# -- in order -----------------------------------------------------------------------------------------


@pytest.fixture
def gap(ordered: Declaration) -> MemoryLedger:
    """Link 1 with the ids from 0, and a quarantined version with those from 10: each batch has context."""
    return one_waiting(ordered)


def test_with_context_one_joins_in_its_place(gap, ordered):
    plan = plan_update(gap, ordered, coins(ordered, 20))
    assert names(plan) == ["coins-010.csv"]
    assert [list(batch.context_frame()["id"]) for batch in plan.batches] == [[2, 3], [12, 13]]
    done(gap, plan, passed=False)
    plan = plan_update(gap, ordered, coins(ordered, 30))
    assert names(plan) == ["coins-010.csv", "coins-020.csv"]
    done(gap, plan)
    assert counted(gap) == [f"coins-0{i}0.csv" for i in range(4)]
    assert ok(gap)


def test_with_context_the_next_is_refused_until_the_gap_is_said(gap, tmp_path):
    strict = declare(tmp_path, code=IN_ORDER.format("join_quarantined=False"))
    with pytest.raises(GapRefused, match=r"cannot follow quarantined version 2 \(coins-010.csv\)") as caught:
        plan_update(gap, strict, coins(strict, 20), accept_model_change=True)
    assert "lindley retract coins coins-010.csv" in str(caught.value)
    done(gap, plan_retract(gap, strict, ["coins-010.csv"]))
    plan = plan_update(gap, strict, coins(strict, 20), accept_model_change=True)
    assert list(plan.batches[-1].context_frame()["id"]) == [2, 3]


def test_with_context_a_late_batch_is_not_taken_for_the_newest(gap, ordered):
    append(gap, ordered, coins(ordered, 20))
    with pytest.raises(BatchRefused, match="comes late") as caught:
        plan_update(gap, ordered, coins(ordered, 5))
    assert "id of 23 or later, after coins-020.csv" in str(caught.value)


@pytest.mark.parametrize(
    ("order", "key", "expected"),
    [
        (None, ("day",), "day"),
        (None, ("day", "place"), "day"),
        (None, ("place",), None),
        (None, ("id",), "id"),
        (None, ("id", "place"), None),
        (("place", "day"), ("id",), "day"),
        (("id",), ("day", "place"), "id"),
        (("place", "id"), ("day", "place"), "day"),
        (None, ("day", "seen"), None),
        (None, ("(content)",), None),
    ],
)
def test_the_time_that_orders_batches(joining, order, key, expected):
    columns = {"id": [1], "place": ["x"], "day": [date(2026, 1, 1)], "seen": [date(2026, 1, 2)]}
    batch = Batch(table=pa.table(columns), digest="", key=key, origin="x.csv")
    declaration = replace(joining, order_by=order, row_key=key)
    assert overlap._time_column(batch, declaration) == expected


# -- tampering ----------------------------------------------------------------------------------------


def rules(ledger: MemoryLedger, version: int) -> set[str]:
    found = verify_chain(ledger, "coins").findings
    assert {finding.version for finding in found} == {version}
    return {finding.rule for finding in found}


@pytest.fixture
def joined(ledger: MemoryLedger, joining: Declaration) -> MemoryLedger:
    append(ledger, joining, coins(joining, 20))
    append(ledger, joining, coins(joining, 30))
    return ledger


def test_what_joins_was_quarantined_before(joined):
    link = chain_of(joined).links[0].version.record
    forge(joined, "coins", 4, lambda record: record.update(joined=[link]))
    assert rules(joined, 4) == {"R26"}


def test_no_batch_joins_twice(joined):
    quarantined = chain_of(joined).quarantined[0].record
    forge(joined, "coins", 4, lambda record: record.update(joined=[quarantined]))
    assert rules(joined, 4) == {"R21", "R26"}


def test_a_batch_that_counts_by_itself_does_not_join(ledger, joining):
    quarantined = chain_of(ledger).quarantined[0].record
    done(ledger, plan_update(ledger, joining, coins(joining, 20), join=()))
    append(ledger, joining, coins(joining, 10, origin="again.csv"))
    append(ledger, joining, coins(joining, 30))

    def joins(record):
        record.update(joined=[quarantined], replayed=[quarantined])
        record["metrics"]["replayed"] = 1

    forge(ledger, "coins", 5, joins)
    assert rules(ledger, 5) == {"R13", "R14"}


def test_what_joined_was_fitted(ledger, joining):
    append(ledger, joining, coins(joining, 20))
    forge(ledger, "coins", 3, lambda record: record.update(joined=[]))
    assert rules(ledger, 3) == {"R21"}
    assert chain_of(ledger).waiting != ()


def test_the_file_of_what_joined_is_checked_at_its_version(joined):
    joined.flip("coins", 2, "batch.parquet")
    assert rules(joined, 2) == {"R06"}


def test_only_what_waits_is_taken_out_by_an_update(joined):
    link = chain_of(joined).links[0].version.record
    forge(joined, "coins", 4, lambda record: record.update(retracted=[link]))
    assert rules(joined, 4) == {"R22"}
