"""Candidates: what a person approves becomes the head as it was fitted; what is rejected never counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from lindley.errors import DecisionRefused, OverlapRefused, UnknownLink
from lindley.ledger.chain import Chain, version_tags
from lindley.ledger.reading import find_chain
from lindley.ledger.registration import Registered, complete, register_link
from lindley.ledger.writing import LoggedLink
from lindley.model.declaration import Declaration
from lindley.operations.approval.decide import plan_decision
from lindley.operations.log import log_plan
from lindley.operations.plan import Plan
from lindley.operations.rebase import plan_rebase
from lindley.operations.update import plan_update
from lindley.verification import reproduce
from lindley.verification.gather import verify_chain
from tests.support import amendments, fakes
from tests.support.fakes import MemoryLedger, append, coins, declare, done
from tests.support.forging import record_of

NAME = "coins"
POLICY = """
from dataclasses import replace
declaration = replace(declaration, policy=Policy(refit_rows=1, {}))
"""
IN_ORDER = """
from dataclasses import replace

def with_context(batch, context):
    return build(batch)

policy = Policy(refit_rows=1, approve="always", approve_next="continue")
declaration = replace(declaration, policy=policy, build=with_context, context=2, order_by=("id",))
"""


@pytest.fixture(scope="module")
def always(tmp_path_factory: pytest.TempPathFactory) -> Declaration:
    return declare(tmp_path_factory.mktemp("always"), code=POLICY.format('approve="always"'))


@pytest.fixture(scope="module")
def going_on(tmp_path_factory: pytest.TempPathFactory) -> Declaration:
    code = POLICY.format('approve="always", approve_next="continue"')
    return declare(tmp_path_factory.mktemp("going_on"), code=code)


@pytest.fixture(scope="module")
def never(tmp_path_factory: pytest.TempPathFactory) -> Declaration:
    return declare(tmp_path_factory.mktemp("never"), code=POLICY.format("join_quarantined=True"))


@pytest.fixture
def ledger(always: Declaration) -> MemoryLedger:
    """One candidate, version 1: the ids from 0."""
    made = MemoryLedger()
    assert append(made, always, coins(always, 0)).status == "candidate"
    return made


def deciding(
    ledger: MemoryLedger,
    declaration: Declaration,
    version: str = "",
    *,
    approve: bool = True,
    who: str = "Ann",
    why: str = "looks right",
) -> Plan:
    return plan_decision(ledger, declaration, version, approve=approve, who=who, why=why)


def logged(ledger: MemoryLedger, plan: Plan) -> LoggedLink:
    return log_plan(ledger, plan, None)


def decided(ledger: MemoryLedger, declaration: Declaration, version: str = "", **given) -> Registered:
    return done(ledger, deciding(ledger, declaration, version, **given))


def chain_of(ledger: MemoryLedger) -> Chain:
    return find_chain(ledger, NAME)


def counted(ledger: MemoryLedger) -> list[str]:
    return [link.version.origin for link in chain_of(ledger).at_head]


def sound(ledger: MemoryLedger) -> bool:
    assert verify_chain(ledger, NAME).findings == ()
    return True


class TestCandidates:
    def test_a_candidate_is_no_link_and_has_the_alias(self, ledger, always) -> None:
        chain = chain_of(ledger)
        assert (chain.links, chain.head_digest) == ((), chain.genesis)
        assert [version.number for version in chain.pending] == [1]
        assert (ledger.models[NAME].challenger, ledger.models[NAME].head) == (1, None)
        assert ledger.runs[chain.pending[0].run_id].tags["lindley.state"] == "candidate"
        assert record_of(ledger, NAME, 1)["decision"] is None
        assert "is a candidate" in ledger.models[NAME].versions[1].description
        assert sound(ledger)

    def test_the_same_batch_again_is_not_fitted_again(self, ledger, always) -> None:
        plan = plan_update(ledger, always, coins(always, 0))
        assert (plan.tried, plan.held) == ("candidate", None)
        assert "`lindley approve coins 1 --why TEXT`" in str(plan.noop)

    def test_the_next_batch_waits(self, ledger, always) -> None:
        plan = plan_update(ledger, always, coins(always, 10))
        assert plan.held is not None
        assert (plan.held.number, plan.tried) == (1, None)
        assert "coins-010.csv waits" in str(plan.noop)

    def test_or_goes_on_as_the_policy_says(self, ledger, going_on) -> None:
        assert plan_update(ledger, going_on, coins(going_on, 10), accept_model_change=True).noop is None

    def test_it_waits_where_batches_continue_from_one_another(self, tmp_path: Path) -> None:
        ordered, made = declare(tmp_path, code=IN_ORDER), MemoryLedger()
        append(made, ordered, coins(ordered, 0))
        assert plan_update(made, ordered, coins(ordered, 10)).held is not None

    def test_only_what_conflicts_with_that_policy(self, tmp_path: Path) -> None:
        conflict, made = declare(tmp_path, code=POLICY.format('approve="conflict"')), MemoryLedger()
        assert append(made, conflict, coins(conflict, 0)).status == "accepted"
        plan = plan_update(made, conflict, coins(conflict, 10))
        outcome = fakes.fit(plan)
        surprising = outcome.info.with_findings({"conflict_p": 1e-4})
        found = log_plan(made, plan, type(outcome)(outcome.belief, surprising))
        assert register_link(made, found).status == "candidate"
        assert counted(made) == ["coins-000.csv"]
        assert sound(made)

    def test_the_gate_comes_first(self, always) -> None:
        made = MemoryLedger()
        assert append(made, always, coins(always, 0), passed=False).status == "quarantined"
        assert sound(made)

    def test_moves_need_no_approval(self, ledger, always) -> None:
        decided(ledger, always)
        append(ledger, always, coins(always, 10))
        decided(ledger, always)
        assert amendments.rollback(ledger, always, 1).status == "accepted"
        assert amendments.branch(ledger, declare_branch(always), NAME, 1).status == "accepted"
        assert sound(ledger)

    def test_a_pooled_refit_is_a_candidate_once(self, ledger, always) -> None:
        decided(ledger, always)
        append(ledger, always, coins(always, 10))
        decided(ledger, always)
        assert done(ledger, plan_rebase(ledger, always)).status == "candidate"
        assert plan_rebase(ledger, always).tried == "candidate"
        assert plan_rebase(ledger, always, whole=True).noop is None
        assert decided(ledger, always).link == 3
        assert chain_of(ledger).links[-1].version.kind == "rebase"
        assert sound(ledger)


def declare_branch(declaration: Declaration) -> Declaration:
    from dataclasses import replace

    return replace(declaration, name=f"{declaration.name}--what-if")


class TestApproving:
    def test_the_link_is_the_candidate_with_the_approval(self, ledger, always) -> None:
        registered = decided(ledger, always)
        assert (registered.status, registered.link, registered.version) == ("accepted", 1, 2)
        candidate, approved = record_of(ledger, NAME, 1), record_of(ledger, NAME, 2)
        decision = approved["decision"]
        assert decision == {
            "candidate": chain_of(ledger).candidates[0].record,
            "verdict": "approved",
            "who": "Ann",
            "why": "looks right",
        }
        assert approved | {"decision": None, "note": candidate["note"]} == candidate
        assert counted(ledger) == ["coins-000.csv"]
        assert (ledger.models[NAME].head, ledger.models[NAME].challenger) == (2, None)
        assert "was approved by Ann" in ledger.models[NAME].versions[2].description
        assert sound(ledger)

    def test_the_chain_goes_on_from_it(self, ledger, always, never) -> None:
        decided(ledger, always)
        append(ledger, never, coins(never, 10), accept=True)
        amendments.retract(ledger, never, 1)
        assert counted(ledger) == ["coins-010.csv"]
        assert done(ledger, plan_rebase(ledger, never)).status == "accepted"
        assert sound(ledger)

    def test_again_is_nothing_and_the_opposite_is_refused(self, ledger, always) -> None:
        decided(ledger, always)
        again = deciding(ledger, always, "1", who="Bob")
        assert again.noop == "Version 1 was approved by Ann as link 1: looks right; nothing was done"
        with pytest.raises(DecisionRefused, match="approved by Ann"):
            deciding(ledger, always, "1", approve=False)

    def test_a_head_that_moved_refuses_with_the_next_step(self, going_on) -> None:
        made = MemoryLedger()
        append(made, going_on, coins(going_on, 0))
        append(made, going_on, coins(going_on, 10))
        assert [version.number for version in chain_of(made).pending] == [1, 2]
        decided(made, going_on, "2")
        assert made.models[NAME].challenger is None
        assert [version.number for version in chain_of(made).undecided] == [1]
        with pytest.raises(DecisionRefused, match=r"`lindley update coins FILE` with coins-000\.csv"):
            deciding(made, going_on, "1")
        assert append(made, going_on, coins(going_on, 0)).version == 4
        assert [version.number for version in chain_of(made).undecided] == [4]
        assert decided(made, going_on, "4").link == 2
        assert counted(made) == ["coins-010.csv", "coins-000.csv"]
        assert sound(made)

    def test_a_quarantined_version_on_a_persons_word(self, never) -> None:
        made = MemoryLedger()
        append(made, never, coins(never, 0))
        append(made, never, coins(never, 10), passed=False)
        registered = decided(made, never, "2", why="the sampler is fine")
        assert (registered.status, registered.link) == ("accepted", 2)
        record = record_of(made, NAME, 3)
        assert record["gate"]["reasons"] == ["R-hat 1.3100 of theta, at most 1.01 allowed"]
        assert record["decision"]["who"] == "Ann"
        assert (counted(made), chain_of(made).waiting) == (["coins-000.csv", "coins-010.csv"], ())
        append(made, never, coins(never, 20))
        assert sound(made)

    def test_without_a_name_only_one_candidate(self, going_on) -> None:
        made = MemoryLedger()
        append(made, going_on, coins(going_on, 0))
        append(made, going_on, coins(going_on, 10))
        with pytest.raises(UnknownLink, match="More than one candidate"):
            deciding(made, going_on)
        record = chain_of(made).candidates[1].record
        assert deciding(made, going_on, record[:12]).decision.version.number == 2
        for word in ("9", "abc", record[:4], "x" * 30):
            with pytest.raises(UnknownLink, match="There is no version"):
                deciding(made, going_on, word)

    @pytest.mark.parametrize("given", [{"who": " "}, {"why": ""}, {"why": "x" * 2001}])
    def test_it_needs_a_name_and_a_reason(self, ledger, always, given) -> None:
        with pytest.raises(DecisionRefused, match="a name and a reason"):
            deciding(ledger, always, **given)

    def test_hostile_reasons_are_shown_as_text(self, ledger, always) -> None:
        decided(ledger, always, why="\x1b[31m<b>|yes|</b>\nno")
        assert "\x1b" not in record_of(ledger, NAME, 2)["decision"]["why"]
        assert "<b>" not in ledger.models[NAME].versions[2].description
        assert sound(ledger)


class TestRejecting:
    def test_it_is_recorded_and_never_counts(self, ledger, always, never) -> None:
        registered = decided(ledger, always, approve=False, why="a test file")
        assert (registered.status, registered.link, registered.version) == ("rejected", None, 2)
        chain = chain_of(ledger)
        assert (chain.links, chain.undecided, chain.waiting) == ((), (), ())
        assert chain.decided[chain.candidates[0].record].why == "a test file"
        assert ledger.models[NAME].challenger is None
        plan = plan_update(ledger, always, coins(always, 0))
        assert plan.tried == "rejected"
        assert "by Ann: a test file" in str(plan.noop)
        assert append(ledger, always, coins(always, 10)).status == "candidate"
        with pytest.raises(DecisionRefused, match="rejected by Ann"):
            deciding(ledger, always, "1")
        assert sound(ledger)

    def test_a_quarantined_batch_joins_no_more(self, never) -> None:
        made = MemoryLedger()
        append(made, never, coins(never, 0))
        append(made, never, coins(never, 10), passed=False)
        assert plan_update(made, never, coins(never, 20)).joined
        decided(made, never, "2", approve=False)
        assert not plan_update(made, never, coins(never, 20)).joined
        append(made, never, coins(never, 20))
        assert counted(made) == ["coins-000.csv", "coins-020.csv"]
        assert append(made, never, coins(never, 10)).status == "accepted"  # sent again on another head
        assert sound(made)

    def test_what_counts_cannot_be_rejected(self, never) -> None:
        made = MemoryLedger()
        append(made, never, coins(never, 0))
        append(made, never, coins(never, 10), passed=False)
        append(made, never, coins(never, 20))
        with pytest.raises(DecisionRefused, match="counts already"):
            deciding(made, never, "2", approve=False)

    def test_a_fit_with_a_batch_that_was_rejected_since_is_refused(self, never, tmp_path: Path) -> None:
        made = MemoryLedger()
        append(made, never, coins(never, 0))
        append(made, never, coins(never, 10), passed=False)
        joining = declare(tmp_path, code=POLICY.format('approve="always"'))
        append(made, joining, coins(joining, 20), accept=True)
        decided(made, never, "2", approve=False)
        with pytest.raises(DecisionRefused, match="decided on since"):
            deciding(made, joining, "3")


class TestAtOnce:
    def test_of_two_approvals_one_holds(self, ledger, always) -> None:
        one, two = (logged(ledger, deciding(ledger, always, who=who)) for who in ("Ann", "Bob"))
        assert register_link(ledger, one).status == "accepted"
        assert register_link(ledger, two).status == "superseded"
        assert chain_of(ledger).links[0].version.who == "Ann"
        assert sound(ledger)

    @pytest.mark.parametrize("first", [True, False])
    def test_of_approval_and_rejection_the_first_holds(self, ledger, always, first: bool) -> None:
        """Both looked at the chain before either of them was registered."""
        one = logged(ledger, deciding(ledger, always, approve=first))
        two = logged(ledger, deciding(ledger, always, approve=not first))
        for made in (one, two):
            ledger.register(NAME, made.run_id, version_tags(made.record, made.record_digest), made.note)
        outcomes = [register_link(ledger, made).status for made in (one, two)]
        assert outcomes == ["accepted" if first else "rejected", "superseded"]
        assert len(chain_of(ledger).links) == first
        assert sound(ledger)

    def test_a_decision_that_was_cut_off_is_completed_by_the_next_writer(self, ledger, always) -> None:
        made = logged(ledger, deciding(ledger, always))
        ledger.register(NAME, made.run_id, version_tags(made.record, made.record_digest), made.note)
        ledger.kill(made.run_id)
        complete(ledger, NAME, chain_of(ledger))
        assert (ledger.models[NAME].head, ledger.models[NAME].challenger) == (2, None)
        assert ledger.runs[made.run_id].tags["lindley.state"] == "accepted"

    def test_one_that_was_cut_off_before_leaves_a_candidate(self, ledger, always) -> None:
        ledger.kill(logged(ledger, deciding(ledger, always)).run_id)
        assert deciding(ledger, always).noop is None
        assert [version.number for version in chain_of(ledger).pending] == [1]

    def test_a_candidate_that_was_created_twice_is_one(self, ledger, always) -> None:
        twice = ledger.models[NAME].versions[1]
        ledger.register(NAME, twice.run_id, twice.tags, twice.description)
        chain = chain_of(ledger)
        assert ([v.number for v in chain.candidates], [v.number for v in chain.superseded]) == ([1], [2])
        assert sound(ledger)


def test_an_approved_link_is_planned_again_as_its_candidate_was(going_on, monkeypatch) -> None:
    """A batch that was quarantined between fit and approval is not what the candidate met."""
    made = MemoryLedger()
    append(made, going_on, coins(going_on, 0))
    decided(made, going_on)
    append(made, going_on, coins(going_on, 10))
    append(made, going_on, coins(going_on, 20), passed=False)
    append(made, going_on, coins(going_on, 30))
    decided(made, going_on, "3")
    planned: list[Plan] = []

    def fit(plan: Plan, **_given: object) -> object:
        planned.append(plan)
        return fakes.fit(plan)

    monkeypatch.setattr(reproduce, "fit_plan", fit)
    found = list(reproduce.reproduce_links(made, NAME))
    assert [(item.link, item.result) for item in found] == [(1, "identical"), (2, "identical")]
    assert [len(plan.waiting) for plan in planned] == [0, 0]


def test_rows_of_a_candidate_are_no_overlap_before_it_is_approved(going_on) -> None:
    made = MemoryLedger()
    append(made, going_on, coins(going_on, 0))
    append(made, going_on, coins(going_on, 2))
    decided(made, going_on, "1")
    with pytest.raises(OverlapRefused):
        plan_update(made, going_on, coins(going_on, 2))
