"""A writer of a panel that dies at each point of the write order: nothing is lost or doubled."""

from __future__ import annotations

from typing import Any

import pytest

from lindley import failpoints
from lindley.ledger.reading import find_chain
from lindley.ledger.registration import register_link
from lindley.model.declaration import Declaration
from lindley.operations.log import log_plan
from lindley.operations.panel.fit import PanelOutcome, fit_panel
from lindley.operations.update import plan_update
from lindley.verification.gather import verify_chain
from tests.support import panels
from tests.support.fakes import MemoryLedger

POINTS = (
    "files-written", "run-opened", "uploaded", "read-back", "head-checked", "versioned", "aliased", "closed",
)  # fmt: skip


class Died(BaseException):
    """Stands for the end of the process: nothing catches it."""


@pytest.fixture(scope="module")
def outcome(panel: MemoryLedger, shops: Declaration) -> PanelOutcome:
    """The update that every case writes, fitted once."""
    return fit_panel(panels.planned(panel, shops, panels.batch(shops, {"s0": 1, "x": 4}, 50)))


@pytest.mark.parametrize("point", POINTS)
def test_a_writer_that_died_is_continued(
    panel: MemoryLedger, shops: Declaration, outcome: PanelOutcome, monkeypatch: Any, point: str
) -> None:
    ledger, batch = panel.clone(), panels.batch(shops, {"s0": 1, "x": 4}, 50)
    reached: list[str] = []

    def reach(name: str) -> None:
        reached.append(name)
        if name == point and reached.count(name) == 1:
            raise Died

    monkeypatch.setattr(failpoints, "reach", reach)
    with pytest.raises(Died):
        register_link(ledger, log_plan(ledger, plan_update(ledger, shops, batch), outcome))
    for run_id, run in ledger.runs.items():
        if run.status == "running":
            ledger.kill(run_id)
    again = plan_update(ledger, shops, batch)
    assert (again.noop is not None) == (point in POINTS[5:])
    if again.noop is None:
        register_link(ledger, log_plan(ledger, again, outcome))
    assert [link.version.origin for link in find_chain(ledger, panels.NAME).links][-1] == batch.origin
    assert len(find_chain(ledger, panels.NAME).links) == 4
    assert verify_chain(ledger, panels.NAME).findings == ()
