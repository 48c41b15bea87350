"""The verifier against tampering: one change, and the rule that is there to find it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from lindley.ledger.chain import version_tags
from lindley.model.declaration import Declaration
from lindley.verification import table
from lindley.verification.gather import gather, verify_chain
from lindley.verification.rules import ALWAYS, Finding, Report, Scope, rule, rules_of
from lindley.verification.verifier import RULES, verify
from tests.support.fakes import MemoryLedger, append, coins, logged
from tests.support.forging import Record, forge
from tests.support.tampering import CASES, Tamper
from tests.support.tampering_tools import FIRST, HEAD, NAME, QUARANTINED, SECOND

pytestmark = pytest.mark.usefixtures("read_once")


@pytest.fixture
def tamper(coins_chain: MemoryLedger, declaration: Declaration, tmp_path: Any) -> Tamper:
    return Tamper(coins_chain.clone(), declaration, tmp_path)


class TestCleanChains:
    def test_nothing_is_found(self, coins_chain: MemoryLedger) -> None:
        report = verify_chain(coins_chain, NAME)
        assert report.findings == ()
        assert report.ok
        assert report.rules == RULES
        assert [(line["link"], line["version"]) for line in report.links] == [(1, 1), (2, 2), (3, 5)]
        assert [line["origin"] for line in report.links] == [
            "coins-000.csv", "coins-010.csv", "coins-030.csv",
        ]  # fmt: skip

    def test_a_chain_without_links_is_clean(self, coins_chain: MemoryLedger) -> None:
        ledger = coins_chain.clone()
        ledger.models[NAME].versions.clear()
        ledger.models[NAME].head = None
        for run in ledger.runs.values():
            run.tags.pop("lindley.state", None)
        assert verify_chain(ledger, NAME).findings == ()

    def test_a_lost_race_is_clean(self, coins_chain: MemoryLedger, declaration: Declaration) -> None:
        ledger = coins_chain.clone()
        lost = logged(ledger, declaration, coins(declaration, 40))
        append(ledger, declaration, coins(declaration, 50))
        ledger.register(NAME, lost.run_id, version_tags(lost.record, lost.record_digest), lost.note)
        assert len(ledger.versions(NAME)) == 7
        assert verify_chain(ledger, NAME).findings == ()

    def test_an_alias_left_behind_is_a_warning(self, coins_chain: MemoryLedger) -> None:
        found = gather(coins_chain, NAME)
        for hint in (None, FIRST, SECOND):
            report = verify(dataclasses.replace(found, head_hint=hint))
            assert [(f.rule, f.severity, f.version) for f in report.findings] == [("R19", "warning", HEAD)]
            assert report.ok


class TestRules:
    def test_every_rule_is_checked_and_has_a_tamper_case(self) -> None:
        assert list(RULES) == sorted(RULES)
        # Those of panels have theirs in tests/lindley/panel/test_rules.py.
        own = {number for number in RULES if not number.startswith("P")}
        assert {name[:3].upper() for name in CASES} == own
        assert [item.number for item in rules_of(*ALWAYS)] == sorted(RULES)

    def test_a_number_is_given_once(self) -> None:
        with pytest.raises(ValueError, match="R05"):
            rule("R05", "another")(lambda case, chain: iter(()))

    def test_the_tables_of_the_documentation_are_those_of_the_registry(self) -> None:
        """`python -m lindley.verification.table` writes them."""
        page = table.PAGE.read_text(encoding="utf-8")
        assert table.with_tables(page) == page
        registered = {item.number: item for item in rules_of(*Scope)}
        assert all(f"| {number} | " in page for number in registered)
        assert all(item.details and item.broken_by for item in registered.values())
        with pytest.raises(ValueError, match="'rules' are missing"):
            table.with_tables(page.replace("<!-- rules: end -->", ""))

    @pytest.mark.parametrize("case", CASES)
    def test_one_change_is_found_by_its_rule(self, tamper: Tamper, case: str) -> None:
        wanted, version = getattr(tamper, case)()
        report = verify_chain(tamper.ledger, NAME)
        assert errors(report) == wanted
        rule = case[:3].upper()
        if rule in wanted and version is not None:
            assert version in {f.version for f in report.findings if f.rule == rule}
        assert report.ok == (wanted == {"R32"})  # what is only shown is a warning
        assert all(finding.message for finding in report.findings)
        assert all(f.link == link_of(report, f) for f in report.findings if f.version != QUARANTINED)

    def test_findings_come_in_the_order_of_versions(self, tamper: Tamper) -> None:
        tamper.r18_run_tag_changed()
        tamper.r12_seed_was_chosen()
        tamper.r06_artifact_deleted()
        report = verify_chain(tamper.ledger, NAME)
        assert [(f.rule, f.version) for f in report.findings] == [("R06", 1), ("R18", 1), ("R12", 5)]


def link_of(report: Report, finding: Finding) -> int | None:
    return next((line["link"] for line in report.links if line["version"] == finding.version), None)


def errors(report: Report) -> set[str]:
    return {finding.rule for finding in report.findings}


class TestFitsThatDidNotMove:
    def test_a_quarantined_fit_without_figures_is_clean(self, coins_chain: MemoryLedger) -> None:
        """R-hat and ESS of draws that did not move are not defined, and are left out."""
        ledger = coins_chain.clone()

        def edit(record: Record) -> None:
            for name in ("r_hat_max", "ess_bulk_min", "ess_tail_min", "budget"):
                del record["metrics"][name]
                record["attempts"][0]["figures"].pop(name, None)

        forge(ledger, NAME, QUARANTINED, edit)
        assert verify_chain(ledger, NAME).findings == ()
