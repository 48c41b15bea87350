"""The verifier against tampering with a panel: one change, and the rule that is there to find it."""

from __future__ import annotations

import inspect
import io
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lindley.inference.diagnostics.gate import Thresholds
from lindley.ledger.record import Artifact, canonical, digest
from lindley.panel.index import Index, empty, roots_table
from lindley.panel.row import MemberRow, rows_of, table_of
from lindley.panel.summary import metrics_of
from lindley.verification.gather import verify_chain
from lindley.verification.rules import Scope, rules_of
from tests.support import panels
from tests.support.fakes import MemoryLedger
from tests.support.forging import Record, forge

#: Versions: links 1 and 2, a link that failed, and link 3.
FIRST, SECOND, HEAD = 1, 2, 4
LINKS = {FIRST: 1, SECOND: 2, HEAD: 3}
#: Cases that change the second link.
OF_SECOND = ("p04_a_failed_member_with_another_belief", "p05_a_failed_member_passes")


def parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


class Tamper:
    """The changes, one method per rule or more. Each returns the rules that find it."""

    def __init__(self, ledger: MemoryLedger) -> None:
        self.ledger = ledger

    def rows(self, version: int) -> list[MemberRow]:
        data = self.ledger.run_of(panels.NAME, version).files[Artifact.MEMBERS]
        return list(rows_of(pq.read_table(io.BytesIO(data)), ("store",)))

    def index(self, version: int, changed: dict[int, list[MemberRow]]) -> Index:
        """Return the index after a version, with the rows of some versions replaced."""
        found = empty()
        for number, link in LINKS.items():
            if number <= version:
                found = found.changed(changed.get(number, self.rows(number)), link)
        return found

    def write(
        self, version: int, rows: list[MemberRow], edit: Callable[[Record], None] = lambda _: None
    ) -> None:
        """Replace the rows of a version, and everything that follows from them there: leaves, index, root."""
        index = self.index(version, {version: rows})

        def whole(record: Record) -> None:
            panel = record["panel"]
            panel |= {"root": index.root.hex(), "checkpoint": index.checkpoint_link, "written": index.written}
            edit(record)

        tables = {Artifact.MEMBERS: table_of(rows), Artifact.INDEX: index.own}
        tables[Artifact.ROOTS] = roots_table(index.roots)
        forge(self.ledger, panels.NAME, version, whole, files={n: parquet(t) for n, t in tables.items()})

    def changed(self, version: int, store: str, edit: Callable[[MemberRow], MemberRow]) -> None:
        rows = [edit(row) if str(row.key) == f"store={store}" else row for row in self.rows(version)]
        self.write(version, rows)

    def p01_rows_cannot_be_read(self) -> Any:
        forge(self.ledger, panels.NAME, HEAD, files={Artifact.MEMBERS: b"x"})
        return {"P01"}

    def p01_a_member_is_there_twice(self) -> Any:
        table = table_of(self.rows(HEAD))
        twice = pa.concat_tables([table, table.slice(0, 1)])
        forge(self.ledger, panels.NAME, HEAD, files={Artifact.MEMBERS: parquet(twice)})
        return {"P01"}

    def p02_a_member_was_changed_and_not_the_root(self) -> Any:
        rows = self.rows(HEAD)
        rows[0] = replace(rows[0], results=rows[0].results | {"belief": rows[0].state | {"rows": 1000}})
        forge(self.ledger, panels.NAME, HEAD, files={Artifact.MEMBERS: parquet(table_of(rows))})
        return {"P02", "P03"}

    def p02_a_root_was_changed(self) -> Any:
        forge(self.ledger, panels.NAME, HEAD, lambda record: record["panel"].update(root="0" * 64))
        return {"P02"}

    def p02_a_root_of_a_bucket_was_changed(self) -> Any:
        roots = {**self.index(HEAD, {}).roots, 5: b"\x00" * 32}
        forge(self.ledger, panels.NAME, HEAD, files={Artifact.ROOTS: parquet(roots_table(roots))})
        return {"P02"}

    def p03_a_pointer_was_changed(self) -> Any:
        own = self.index(HEAD, {}).own
        link = pa.array([1] * own.num_rows, pa.int64())
        table = own.set_column(own.column_names.index("link"), own.schema.field("link"), link)
        forge(self.ledger, panels.NAME, HEAD, files={Artifact.INDEX: parquet(table)})
        return {"P03"}

    def p03_a_leaf_was_changed_in_the_index(self) -> Any:
        own = self.index(HEAD, {}).own
        leaf = pa.array([b"\x00" * 32] * own.num_rows, pa.binary(32))
        table = own.set_column(own.column_names.index("leaf"), own.schema.field("leaf"), leaf)
        forge(self.ledger, panels.NAME, HEAD, files={Artifact.INDEX: parquet(table)})
        return {"P03"}

    def p04_a_prior_leaf_that_the_member_never_had(self) -> Any:
        self.changed(HEAD, "s1", lambda row: replace(row, prior="0" * 64))
        return {"P04"}

    def p04_a_failed_member_with_another_belief(self) -> Any:
        other = self.rows(SECOND)
        matched = next(row for row in other if str(row.key) == "store=new").matched
        self.changed(SECOND, "bad", lambda row: replace(row, matched=matched))
        return {"P04"}

    def p04_a_start_that_leaves_batches_out(self) -> Any:
        def edit(row: MemberRow) -> MemberRow:
            state = row.state or {}
            origin = state["origin"] | {"links": [1, 3]}
            results = {
                "attempt": row.attempt | {"replayed": [1]},
                "belief": state | {"origin": origin, "batches": 2},
            }
            return replace(row, results=results)

        self.changed(HEAD, "s1", edit)
        return {"P04"}

    def p04_an_origin_that_is_not_that_of_the_fit(self) -> Any:
        def edit(row: MemberRow) -> MemberRow:
            state = row.state or {}
            origin = state["origin"] | {"links": [2, 3]}
            return replace(row, results=row.results | {"belief": state | {"origin": origin}})

        self.changed(HEAD, "s1", edit)
        return {"P04"}

    def p05_a_count_was_edited(self) -> Any:
        forge(self.ledger, panels.NAME, HEAD, lambda record: record["panel"]["counts"].update(new=9))
        return {"P05"}

    def p05_independent_draws_beyond_their_certificate(self) -> Any:
        def edit(row: MemberRow) -> MemberRow:
            settings = row.attempt["settings"] | {"sampler": "lindley.approximation", "k_hat": 0.9}
            return replace(row, results=row.results | {"attempt": row.attempt | {"settings": settings}})

        self.changed(HEAD, "s1", edit)
        return {"P05"}

    def p05_a_policy_that_asks_for_other_draws(self) -> Any:
        forge(self.ledger, panels.NAME, HEAD, lambda record: record["policy"].update(sampler="nuts"))
        return {"P05"}

    def p05_a_failed_member_passes(self) -> Any:
        good = next(row for row in self.rows(SECOND) if str(row.key) == "store=new")

        def passes(row: MemberRow) -> MemberRow:
            attempt = row.attempt | {"passed": False}
            results = {"attempt": attempt, "belief": good.state}
            return replace(row, status="accepted", matched=good.matched, results=results)

        def edit(record: Record) -> None:
            record["panel"]["counts"] |= {"accepted": 4, "quarantined": 0}
            record["metrics"] |= {"members_accepted": 4.0, "members_quarantined": 0.0}
            record["metrics"].pop("log_predictive")
            record["gate"]["warnings"] = []

        rows = [passes(row) if str(row.key) == "store=bad" else row for row in self.rows(SECOND)]
        self.write(SECOND, rows, edit)
        return {"P05"}

    def p07_rows_count_twice(self) -> Any:
        """The rows of the store that failed come again in the next link; here they count in both."""
        self.p05_a_failed_member_passes()
        before = digest(self.ledger.run_of(panels.NAME, SECOND).files[Artifact.RECORD])
        forge(self.ledger, panels.NAME, HEAD, lambda record: record.update(previous=before, prior=before))
        return {"P07"}

    def p06_rows_of_another_member(self) -> Any:
        other = next(row.batch for row in self.rows(HEAD) if str(row.key) == "store=bad")
        self.changed(HEAD, "s1", lambda row: replace(row, batch=other))
        return {"P06", "P08"}

    def p06_a_member_was_left_out(self) -> Any:
        rows = [row for row in self.rows(HEAD) if str(row.key) != "store=bad"]

        def edit(record: Record) -> None:
            record["panel"]["counts"] |= {"changed": 1, "accepted": 1}
            record["panel"]["samplers"] = {"nuts": 1}
            record["metrics"] = metrics_of(rows, 7, Thresholds(**record["thresholds"]))

        self.write(HEAD, rows, edit)
        return {"P06"}

    def p08_a_seed_was_chosen(self) -> Any:
        def edit(row: MemberRow) -> MemberRow:
            return replace(row, results=row.results | {"attempt": row.attempt | {"seed": "1"}})

        self.changed(HEAD, "s1", edit)
        return {"P08"}

    def p09_a_member_is_read_from_another_run(self) -> Any:
        data = json.loads(self.ledger.run_of(panels.NAME, HEAD).files[Artifact.POINTERS])
        data["runs"] = dict.fromkeys(data["runs"], "0" * 32)
        forge(self.ledger, panels.NAME, HEAD, files={Artifact.POINTERS: canonical(data)})
        return {"P09"}

    def p09_other_constants(self) -> Any:
        data = json.loads(self.ledger.run_of(panels.NAME, HEAD).files[Artifact.POINTERS])
        data["constants"] = {"scale": 2.0}
        forge(self.ledger, panels.NAME, HEAD, files={Artifact.POINTERS: canonical(data)})
        return {"P09"}

    def p09_pointers_cannot_be_read(self) -> Any:
        forge(self.ledger, panels.NAME, HEAD, files={Artifact.POINTERS: b"{"})
        return {"P09"}


CASES = sorted(name for name, _ in inspect.getmembers(Tamper, inspect.isfunction) if name[:2] == "p0")


def test_every_rule_has_a_case() -> None:
    assert {name[:3].upper() for name in CASES} == {item.number for item in rules_of(Scope.PANEL)}


@pytest.mark.parametrize("case", CASES)
def test_one_change_is_found_by_its_rule(panel: MemoryLedger, case: str) -> None:
    tamper = Tamper(panel.clone())
    wanted = getattr(tamper, case)()
    report = verify_chain(tamper.ledger, panels.NAME)
    version = SECOND if case in OF_SECOND else HEAD
    own = {item.rule for item in report.findings if item.version == version and item.rule[0] == "P"}
    assert wanted <= own
    assert case[:3].upper() in own
    assert not report.ok


def test_any_byte_of_a_table_is_found(panel: MemoryLedger) -> None:
    for name in (Artifact.MEMBERS, Artifact.INDEX, Artifact.ROOTS, Artifact.POINTERS):
        ledger = panel.clone()
        ledger.flip(panels.NAME, HEAD, name)
        assert "R06" in {finding.rule for finding in verify_chain(ledger, panels.NAME).findings}
