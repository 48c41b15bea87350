"""What-if chains: they continue another one, leave it alone, and verify together with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lindley.errors import (
    AmendmentRefused,
    LedgerCorrupt,
    NameRefused,
    OverlapRefused,
    UnknownChain,
    UnknownLink,
)
from lindley.ledger.history import find_link, history
from lindley.ledger.reading import find_chain
from lindley.ledger.record import canonical, digest, parse
from lindley.ledger.registration import Registered
from lindley.model.declaration import Declaration, load_declaration
from lindley.operations.branch import branch_name, plan_branch
from lindley.operations.checking.changes import refuse_model_change
from lindley.operations.diff import diff
from lindley.operations.rebase import plan_rebase
from lindley.operations.update import plan_update
from lindley.verification.gather import verify_chain
from tests.support import amendments, refits
from tests.support.fakes import MemoryLedger, append, coins, declare
from tests.support.forging import forge, record_of

SOURCE, NAME = "coins", "coins--what-if"
pytestmark = pytest.mark.usefixtures("read_once")


@pytest.fixture
def ledger(five_chain: MemoryLedger) -> MemoryLedger:
    return five_chain.clone()


@pytest.fixture
def declared(declaration: Declaration) -> Declaration:
    """The branch's declaration: that of its source, under its name."""
    assert declaration.file is not None
    return load_declaration(NAME, declaration.file.parent)


def branch(ledger: MemoryLedger, declared: Declaration, link: str = "3", source: str = SOURCE) -> Registered:
    return amendments.branch(ledger, declared, source, link)


def counts(ledger: MemoryLedger, name: str = NAME) -> list[int]:
    return [link.number for link in find_chain(ledger, name).at_head]


def is_sound(ledger: MemoryLedger, *names: str) -> bool:
    for name in names or (SOURCE, NAME):
        assert verify_chain(ledger, name).findings == ()
    return True


class TestBranches:
    def test_it_starts_with_the_belief_of_the_link(self, ledger: MemoryLedger, declared: Declaration) -> None:
        made = branch(ledger, declared)
        assert (made.status, made.link, made.version) == ("accepted", 4, 1)
        record, start = record_of(ledger, NAME, 1), record_of(ledger, SOURCE, 3)
        assert record["posterior"] == start["posterior"]
        assert (record["kind"], record["chain"], record["batch"]) == ("branch", NAME, None)
        begun = ledger.models[SOURCE].versions[3].tags["lindley.record"]
        assert (record["previous"], record["prior"]) == (begun, begun)
        root = parse(ledger.genesis(NAME) or b"")
        assert root["branch"] == {"chain": SOURCE, "record": begun}
        assert root["model"] == parse(ledger.genesis(SOURCE) or b"")["model"]
        assert counts(ledger) == [1, 2, 3]
        assert ledger.head_hint(NAME) == 1
        assert is_sound(ledger)

    def test_it_goes_on_by_itself_and_leaves_its_source_alone(
        self, ledger: MemoryLedger, declared: Declaration, declaration: Declaration
    ) -> None:
        branch(ledger, declared)
        append(ledger, declared, coins(declared, 30, k=9))
        assert counts(ledger) == [1, 2, 3, 5]
        assert counts(ledger, SOURCE) == [1, 2, 3, 4, 5]
        assert ledger.head_hint(SOURCE) == 5
        append(ledger, declaration, coins(declaration, 70))
        assert counts(ledger) == [1, 2, 3, 5]
        assert is_sound(ledger)
        assert [batch["link"] for batch in diff(ledger, SOURCE, NAME).batches["b"]] == [5]

    def test_what_its_source_counted_is_counted_once(
        self, ledger: MemoryLedger, declared: Declaration
    ) -> None:
        branch(ledger, declared)
        assert "link 2" in str(plan_update(ledger, declared, coins(declared, 10, k=2)).noop)
        with pytest.raises(OverlapRefused, match="link 3"):
            plan_update(ledger, declared, coins(declared, 22, k=9))

    def test_amendments_reach_over_the_point_where_it_starts(
        self, ledger: MemoryLedger, declared: Declaration
    ) -> None:
        branch(ledger, declared)
        append(ledger, declared, coins(declared, 90))
        amendments.retract(ledger, declared, 2)
        assert counts(ledger) == [1, 3, 5]
        start = ledger.models[SOURCE].versions[1].tags["lindley.record"]
        assert record_of(ledger, NAME, 3)["prior"] == start
        amendments.correct(ledger, declared, 3, coins(declared, 20, k=9))
        refits.rebase(ledger, declared)
        assert [link.number for link in plan_rebase(ledger, declared).origin.links] == [1, 7, 5]
        assert record_of(ledger, NAME, 5)["prior"] == ledger.models[NAME].genesis
        amendments.rollback(ledger, declared, 2)
        assert counts(ledger) == [1, 2]
        assert counts(ledger, SOURCE) == [1, 2, 3, 4, 5]
        assert is_sound(ledger)

    def test_a_branch_of_a_branch(
        self, ledger: MemoryLedger, declared: Declaration, declaration: Declaration
    ) -> None:
        branch(ledger, declared)
        append(ledger, declared, coins(declared, 90))
        assert declaration.file is not None
        other = load_declaration(f"{NAME}--b", declaration.file.parent)
        assert branch(ledger, other, "head", NAME).link == 6
        append(ledger, other, coins(other, 100))
        assert counts(ledger, other.name) == [1, 2, 3, 5, 7]
        amendments.retract(ledger, other, 1)
        assert is_sound(ledger, SOURCE, NAME, other.name)
        links = verify_chain(ledger, other.name).links
        assert [line["chain"] for line in links] == [SOURCE] * 3 + [NAME] * 2 + [other.name] * 3

    def test_made_twice_it_is_there_once(self, ledger: MemoryLedger, declared: Declaration) -> None:
        branch(ledger, declared)
        before = len(ledger.runs)
        plan = plan_branch(ledger, declared, SOURCE, "3")
        assert plan.noop == f"{NAME} is there already and continues coins from link 3; nothing was done"
        assert len(ledger.runs) == before

    def test_interrupted_after_the_claim_it_is_completed(
        self, ledger: MemoryLedger, declared: Declaration, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def dies(*_: object, **__: object) -> None:
            raise LedgerCorrupt("It died")

        with monkeypatch.context() as patch:
            patch.setattr("lindley.operations.log._log_copy", dies)
            with pytest.raises(LedgerCorrupt):
                branch(ledger, declared)
        # It can be used and read as it is.
        assert counts(ledger) == [1, 2, 3]
        assert is_sound(ledger)
        assert plan_update(ledger, declared, coins(declared, 90)).link == 4
        assert branch(ledger, declared).link == 4
        assert is_sound(ledger)

    def test_a_name_that_is_taken_is_refused(self, ledger: MemoryLedger, declared: Declaration) -> None:
        branch(ledger, declared)
        with pytest.raises(AmendmentRefused, match="There is a chain coins--what-if already"):
            branch(ledger, declared, "2")

    def test_a_start_that_is_none_is_told(self, ledger: MemoryLedger, declared: Declaration) -> None:
        with pytest.raises(UnknownLink, match="from 1 to 5"):
            branch(ledger, declared, "6")
        with pytest.raises(UnknownChain):
            branch(ledger, declared, "1", "dice")
        assert NAME not in ledger.chains()

    def test_every_link_is_read_where_it_is(self, ledger: MemoryLedger, declared: Declaration) -> None:
        branch(ledger, declared)
        append(ledger, declared, coins(declared, 90, k=1))
        append(ledger, declared, coins(declared, 95, k=1), passed=False)
        views = history(ledger, NAME, every=True)
        assert [(view.number, view.version) for view in views] == [
            (1, 1), (2, 2), (3, 3), (4, 1), (5, 2), (None, 3),
        ]  # fmt: skip
        for number in range(1, 6):
            link = find_link(ledger, f"{NAME}@{number}")
            assert digest(canonical(link.record)) == link.view.record_digest
            assert link.summary().loc["theta", "mean"] > 0

    def test_dead_runs_are_closed_in_their_own_chain(
        self, ledger: MemoryLedger, declared: Declaration, declaration: Declaration
    ) -> None:
        branch(ledger, declared)
        ledger.runs[ledger.models[NAME].versions[1].run_id].status = "running"
        ledger.kill(ledger.models[NAME].versions[1].run_id)
        plan_update(ledger, declaration, coins(declaration, 70))
        run = ledger.runs[ledger.models[NAME].versions[1].run_id]
        assert run.status == "running"
        plan_update(ledger, declared, coins(declared, 70))
        assert (run.status, run.tags["lindley.state"]) == ("finished", "accepted")


class TestNames:
    def test_the_full_name_has_its_sources(self) -> None:
        assert branch_name("coins", "what-if") == NAME
        assert branch_name("coins", NAME) == NAME
        assert branch_name(NAME, "b") == f"{NAME}--b"
        for name in ("What", "a/b", "x" * 60, "../x"):
            with pytest.raises(NameRefused):
                branch_name("coins", name)

    def test_it_has_its_sources_declaration_unless_it_has_one(self, tmp_path: Path) -> None:
        source = declare(tmp_path)
        found = load_declaration(NAME, tmp_path)
        assert (found.name, found.source, found.model_digest) == (NAME, source.source, source.model_digest)
        declare(tmp_path, NAME, code="\nOTHER = 1\n")
        own = load_declaration(NAME, tmp_path)
        assert own.model_digest != source.model_digest
        assert load_declaration(f"{NAME}--b", tmp_path).model_digest == own.model_digest
        with pytest.raises(UnknownChain):
            load_declaration("dice--what-if", tmp_path)

    def test_a_branch_with_other_code_says_so(
        self, ledger: MemoryLedger, declared: Declaration, tmp_path: Path
    ) -> None:
        branch(ledger, declared)
        other = declare(tmp_path, NAME, code="\nOTHER = 1\n")
        assert append(ledger, other, coins(other, 90), accept=True).link == 5
        refuse_model_change(other, record_of(ledger, NAME, 2), find_chain(ledger, NAME))
        assert is_sound(ledger)


class TestTampering:
    def found(self, ledger: MemoryLedger) -> set[tuple[str, int | None]]:
        return {(finding.rule, finding.link) for finding in verify_chain(ledger, NAME).findings}

    def test_what_is_wrong_with_its_source_is_said_with_its_name(
        self, ledger: MemoryLedger, declared: Declaration
    ) -> None:
        branch(ledger, declared)
        ledger.flip(SOURCE, 2, "summary.csv")
        findings = verify_chain(ledger, NAME).findings
        assert [(f.rule, f.link, f.version) for f in findings] == [("R06", 2, None)]
        assert findings[0].message.startswith("in coins: ")

    def test_what_came_after_its_start_is_not_its_own(
        self, ledger: MemoryLedger, declared: Declaration
    ) -> None:
        branch(ledger, declared)
        ledger.flip(SOURCE, 5, "summary.csv")
        assert is_sound(ledger, NAME)
        assert not verify_chain(ledger, SOURCE).ok

    def test_a_source_that_is_gone(self, ledger: MemoryLedger, declared: Declaration) -> None:
        branch(ledger, declared)
        del ledger.models[SOURCE]
        assert {"R20", "R24"} <= {rule for rule, _ in self.found(ledger)}
        with pytest.raises(LedgerCorrupt, match="starts from a link that is not there"):
            find_chain(ledger, NAME)

    def test_a_branch_that_continues_itself_ends(self, ledger: MemoryLedger, declared: Declaration) -> None:
        branch(ledger, declared)
        self.change_genesis(ledger, {"chain": NAME, "record": "f" * 64})
        assert "R24" in {rule for rule, _ in self.found(ledger)}
        with pytest.raises(LedgerCorrupt):
            find_chain(ledger, NAME)

    def test_a_genesis_with_another_model(self, ledger: MemoryLedger, declared: Declaration) -> None:
        branch(ledger, declared)
        self.change_genesis(ledger, None, {"row_key": ["k"]})
        assert self.found(ledger) == {("R24", None)}

    def test_a_first_link_with_another_belief(self, ledger: MemoryLedger, declared: Declaration) -> None:
        branch(ledger, declared)
        forge(ledger, NAME, 1, lambda made: made["metrics"].update(k_hat=0.0))
        assert self.found(ledger) == {("R23", 4)}

    @staticmethod
    def change_genesis(
        ledger: MemoryLedger, origin: dict[str, str] | None, model: dict[str, object] | None = None
    ) -> None:
        stored = ledger.models[NAME]
        files = ledger.runs[stored.genesis_run].files
        root = parse(files["genesis.json"])
        root["model"] |= model or {}
        root["branch"] = origin or root["branch"]
        files["genesis.json"] = canonical(root)
        stored.genesis = digest(files["genesis.json"])
