"""`lindley check`: everything that can refuse a model or a batch, without a ledger."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from lindley.model.meaning.adding_up import Meaning
from lindley.operations.checking.findings import Findings, range_rows
from lindley.operations.planner import as_known
from lindley.operations.rebase import plan_rebase
from lindley.operations.update import plan_update
from tests.support import fakes


def findings(**given: Any) -> Findings:
    usual: dict[str, Any] = {
        "carried": {"a": 1, "b": 3},
        "local": {},
        "state": {},
        "inlined": (),
        "meaning": Meaning(True),
        "predicted": ("y",),
        "not_drawn": {},
        "left_out": (),
        "prediction": "",
        "seconds": 2.04,
        "attempts": 3,
    }
    return Findings(**usual | given)


def test_findings_are_three_lines():
    assert findings().lines() == (
        "carried a, b (3), 4 coordinates",
        "rows of two batches add up",
        "compiled in 2.0 s; predictive draws of y; sampled at most 3 times, until the gate passes",
    )
    every = findings(
        local={"effect": 12},
        state={"start": "end"},
        inlined=("float64 12 in y",),
        meaning=Meaning(False, ("y: column x",), ("a batch of other labels",)),
        predicted=(),
        not_drawn={"y": "no random function"},
        left_out=("pictures left out: why",),
        prediction="ValueError",
        seconds=0.0,
    )
    variables, rows, functions = every.lines()
    assert variables == (
        "carried a, b (3), 4 coordinates; local effect (12), 12 coordinates; state start from end; "
        "constants of the graph: float64 12 in y"
    )
    assert rows == "rows of two batches do not add up: y: column x"
    for text in (
        "compiled before",
        "none of y: no random function",
        "other labels",
        "cannot predict: ValueError",
    ):
        assert text in functions
    unknown = findings(meaning=Meaning(None, ("too few rows",)))
    assert unknown.lines()[1].endswith("cannot be tried: too few rows")


def test_findings_are_json_able():
    found = findings(ranges={"y": {"data": [0.0, 0.5, 1.0]}})
    assert json.loads(json.dumps(found.as_dict()))["rows"] == {"add_up": True, "why": []}
    assert range_rows(found) == [{"outcome": "y", "data": "0 to 1"}]


def test_the_records_of_a_chain_keep_what_does_not_add_up(coins_chain, declaration):
    ledger = coins_chain.clone()
    plan = plan_update(ledger, declaration, fakes.coins(declaration, 105))
    assert plan.meaning == Meaning(None, ())
    moving = {"add_up": False, "why": ["y: column x"]}
    record = {"kind": "update", "model": {"digest": declaration.model_digest, "rows": moving}}
    assert as_known(plan, record).meaning == Meaning(False, ("y: column x",))
    # Other code, and a trace without rows, have to be tried.
    for other in ({"kind": "import"}, {"model": {"digest": "0" * 64, "rows": moving}}):
        fresh = plan_update(ledger, declaration, fakes.coins(declaration, 105))
        assert as_known(replace(fresh, meaning=None), record | other).meaning is None


def test_an_audit_fits_one_model_of_all_rows(coins_chain, declaration):
    ledger = coins_chain.clone()
    assert plan_rebase(ledger, declaration, whole=True).whole
    assert not plan_rebase(ledger, declaration).whole
