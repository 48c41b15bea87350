"""Before a model is compiled for the first time, that is said."""

from __future__ import annotations

import pytest

from flows import direct
from lindley.model.declaration import Declaration
from lindley.operations.update import plan_update
from tests.support.fakes import MemoryLedger, append, coins


def test_the_first_update_says_what_is_compiled_and_the_next_one_is_quiet(
    declaration: Declaration, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(direct, "fit_plan", lambda *_, **__: said.append("fitted"))
    steps, ledger = direct.core_steps(notify=said.append), MemoryLedger()
    steps.fit(plan_update(ledger, declaration, coins(declaration, 0)))
    compiling, fitted = said
    assert compiling.startswith("Compiling coins, whose code is new: ")
    assert fitted == "fitted"
    said.clear()
    append(ledger, declaration, coins(declaration, 0))
    steps.fit(plan_update(ledger, declaration, coins(declaration, 10)))
    assert said == ["fitted"]
