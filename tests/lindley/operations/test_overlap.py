"""Rows that are counted already, dropped on request: what is left, what the record says, late rows."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pytest

from lindley.batch.batch import Batch, batch_from_frame
from lindley.batch.digest import content_digest
from lindley.batch.row_keys import split_by_keys
from lindley.errors import OverlapRefused
from lindley.ledger.registration import register_link
from lindley.model.declaration import Declaration, load_file
from lindley.operations.log import log_plan
from lindley.operations.plan import Plan
from lindley.operations.update import plan_update
from tests.support import amendments
from tests.support.amendments import counts, is_sound
from tests.support.amendments import record_digest as record
from tests.support.fakes import MODEL, MemoryLedger, append, coins
from tests.support.fits import fit
from tests.support.forging import record_of

NAME = "coins"
pytestmark = pytest.mark.usefixtures("read_once")


@pytest.fixture
def ledger(five_chain: MemoryLedger) -> MemoryLedger:
    """Five links with the ids 0 to 3, 10 to 13 and so on."""
    return five_chain.clone()


def rows(declaration: Declaration, *ids: int, k: int = 2) -> Batch:
    return batch_from_frame(pd.DataFrame({"id": ids, "k": k, "n": 10}), declaration, "late.csv")


def dropping(ledger: MemoryLedger, declaration: Declaration, batch: Batch) -> Plan:
    return plan_update(ledger, declaration, batch, on_overlap="drop")


class TestDropping:
    def test_what_is_left_is_the_batch_and_the_record_says_what_was_not(
        self, ledger: MemoryLedger, declaration: Declaration
    ) -> None:
        batch = rows(declaration, 2, 3, 4, 12, 50, 51)
        with pytest.raises(OverlapRefused, match="--on-overlap drop"):
            plan_update(ledger, declaration, batch)
        plan = dropping(ledger, declaration, batch)
        assert list(plan.batch.frame()["id"]) == [4, 50, 51]
        assert plan.batch.digest == rows(declaration, 4, 50, 51).digest
        logged = log_plan(ledger, plan, fit(plan))
        assert register_link(ledger, logged).link == 6
        made = record_of(ledger, NAME, 6)["batch"]
        assert (made["rows"], made["digest"]) == (3, plan.batch.digest)
        assert made["dropped"] == {
            "rows": 3,
            "digest": rows(declaration, 2, 3, 12).digest,
            "links": [record(ledger, 1), record(ledger, 2)],
        }
        assert "3 rows of the file were already counted and left out" in logged.note
        assert is_sound(ledger)

    def test_the_same_file_again_has_nothing_left(
        self, ledger: MemoryLedger, declaration: Declaration
    ) -> None:
        batch = rows(declaration, 2, 3, 4, 12, 50, 51)
        plan = dropping(ledger, declaration, batch)
        register_link(ledger, log_plan(ledger, plan, fit(plan)))
        before = len(ledger.runs)
        again = dropping(ledger, declaration, batch)
        assert again.noop == "All 6 row keys of late.csv are counted already; nothing was done"
        assert len(ledger.runs) == before

    def test_a_file_without_overlap_is_taken_whole(
        self, ledger: MemoryLedger, declaration: Declaration
    ) -> None:
        plan = dropping(ledger, declaration, rows(declaration, 50, 51))
        assert (plan.batch.dropped, plan.batch.rows, plan.noop) == (None, 2, None)
        register_link(ledger, log_plan(ledger, plan, fit(plan)))
        assert record_of(ledger, NAME, 6)["batch"]["dropped"] is None

    def test_only_what_counts_is_an_overlap(self, ledger: MemoryLedger, declaration: Declaration) -> None:
        amendments.retract(ledger, declaration, 5)
        plan = dropping(ledger, declaration, rows(declaration, 40, 30))
        assert list(plan.batch.frame()["id"]) == [40]

    def test_the_default_is_to_refuse(self, ledger: MemoryLedger, declaration: Declaration) -> None:
        with pytest.raises(OverlapRefused):
            plan_update(ledger, declaration, rows(declaration, 3, 50))

    def test_what_is_left_after_a_quarantine_is_not_fitted_again(
        self, ledger: MemoryLedger, declaration: Declaration
    ) -> None:
        plan = dropping(ledger, declaration, rows(declaration, 3, 50))
        register_link(ledger, log_plan(ledger, plan, fit(plan, passed=False)))
        assert dropping(ledger, declaration, rows(declaration, 3, 50)).tried == "quarantined"

    def test_a_lost_race_drops_what_the_winner_counts_too(
        self, ledger: MemoryLedger, declaration: Declaration
    ) -> None:
        batch = rows(declaration, 3, 50, 51)
        late = dropping(ledger, declaration, batch)
        logged = log_plan(ledger, late, fit(late))
        append(ledger, declaration, rows(declaration, 50, 55))
        assert register_link(ledger, logged).status == "superseded"
        again = dropping(ledger, declaration, batch)
        assert list(again.batch.frame()["id"]) == [51]
        register_link(ledger, log_plan(ledger, again, fit(again)))
        assert is_sound(ledger)


class TestLateRows:
    def test_older_keys_that_never_counted_are_just_rows(
        self, ledger: MemoryLedger, declaration: Declaration
    ) -> None:
        assert append(ledger, declaration, rows(declaration, -5, 7, 8, 25)).link == 6
        assert counts(ledger) == [1, 2, 3, 4, 5, 6]
        assert is_sound(ledger)


class TestSplitting:
    def test_the_order_of_the_batch_is_kept(self, declaration: Declaration) -> None:
        batch = coins(declaration, 0, 50)
        keys = pa.table({"id": pa.array([49, 7, 7, 20], pa.int64())})
        kept, dropped = split_by_keys(batch.table, batch.key, keys)
        assert dropped.column("id").to_pylist() == [7, 20, 49]
        assert kept.column("id").to_pylist() == [n for n in range(50) if n not in (7, 20, 49)]
        whole = pa.concat_tables([kept, dropped])
        assert content_digest(whole) == batch.digest

    def test_a_key_of_several_columns_is_compared_as_a_whole(self, tmp_path) -> None:
        path = tmp_path / "coins.py"
        path.write_text(MODEL.replace('row_key=("id",)', 'row_key=("id", "n")'), encoding="utf-8")
        declared = load_file(path)
        frame = pd.DataFrame({"id": [1, 1, 2], "k": 1, "n": [10, 20, 10]})
        batch = batch_from_frame(frame, declared)
        keys = pa.table({"id": [1, 2], "n": [20, 20]})
        kept, dropped = split_by_keys(batch.table, batch.key, keys)
        assert dropped.to_pydict() == {"id": [1], "k": [1], "n": [20]}
        assert kept.num_rows == 2
