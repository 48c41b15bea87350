"""What is announced of a registered version: names, ids and payloads of events."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lindley.ledger.registration import register_link
from lindley.model.declaration import Declaration
from lindley.operations.approval.decide import plan_decision
from lindley.operations.log import log_plan
from lindley.operations.update import plan_update
from tasks.announce import event_id, events
from tests.support import fakes
from tests.support.fakes import MemoryLedger, coins, declare

ALWAYS = """
from dataclasses import replace
declaration = replace(declaration, policy=Policy(refit_rows=1, approve="always"))
"""


@pytest.fixture
def always(tmp_path: Path) -> Declaration:
    return declare(tmp_path, code=ALWAYS)


def test_a_candidate_and_its_approval(always: Declaration) -> None:
    ledger = MemoryLedger()
    plan = plan_update(ledger, always, coins(always, 0))
    outcome = fakes.fit(plan)
    registered = register_link(ledger, log_plan(ledger, plan, outcome))
    ((name, payload),) = events(plan, outcome, registered)
    assert name == "lindley.link.candidate"
    assert (payload["version"], payload["link"], payload["who"]) == (1, None, None)
    assert (payload["file"], payload["rows"]) == ("coins-000.csv", 4)
    plan = plan_decision(ledger, always, "", approve=True, who="Ann", why="it is right")
    registered = register_link(ledger, log_plan(ledger, plan, None))
    ((name, payload),) = events(plan, None, registered)
    assert name == "lindley.link.accepted"
    assert (payload["link"], payload["who"], payload["why"]) == (1, "Ann", "it is right")
    assert payload["record"] == registered.record_digest


def test_conflict_and_drift_beyond_their_limits(declaration: Declaration) -> None:
    ledger = MemoryLedger()
    plan = plan_update(ledger, declaration, coins(declaration, 0))
    outcome = fakes.fit(plan)
    surprising = replace(outcome, info=outcome.info.with_findings({"conflict_p": 1e-4, "drift": 0.2}))
    registered = register_link(ledger, log_plan(ledger, plan, outcome))
    found = dict(events(plan, surprising, registered))
    assert list(found) == ["lindley.link.accepted", "lindley.chain.drift", "lindley.chain.conflict"]
    assert found["lindley.chain.drift"]["value"] == 0.2
    assert found["lindley.chain.conflict"]["limit"] == plan.thresholds.conflict_warn


def test_a_refused_fit(declaration: Declaration) -> None:
    ledger = MemoryLedger()
    plan = plan_update(ledger, declaration, coins(declaration, 0))
    outcome = fakes.fit(plan, passed=False)
    registered = register_link(ledger, log_plan(ledger, plan, outcome))
    ((name, payload),) = events(plan, outcome, registered)
    assert name == "lindley.link.quarantined"
    assert payload["reasons"] == ["R-hat 1.3100 of theta, at most 1.01 allowed"]


def test_the_id_is_that_of_the_thing() -> None:
    one = event_id("lindley.link.accepted", "coins", "a" * 64)
    assert one == event_id("lindley.link.accepted", "coins", "a" * 64)
    others = [("lindley.link.candidate", "coins", "a" * 64), ("lindley.link.accepted", "coins", "b" * 64)]
    assert one not in {event_id(*other) for other in others}
