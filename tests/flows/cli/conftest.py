"""The commands in this process, with a ledger in memory and no sampler."""

from __future__ import annotations

import pytest

from flows import environment
from tests.support import fakes


@pytest.fixture
def in_memory(monkeypatch, workspace, ledger, fits) -> None:
    """Let every command use the ledger in memory and fits without a sampler."""
    # Prefect is imported in this process already; what `prepare` sets is tested in test_running.
    monkeypatch.setattr(environment, "prepare", lambda workspace, **_: workspace)
    monkeypatch.setattr("flows.direct.open_ledger", lambda _: ledger)
    monkeypatch.setattr("flows.direct.fit_plan", fits)
    monkeypatch.setattr("lindley.ledger.backend.open_ledger", lambda *_, **__: ledger)
    monkeypatch.setattr("lindley.ledger.backend.has_ledger", lambda _: True)


@pytest.fixture
def three_links(workspace, ledger) -> None:
    """Three links and a quarantined fit."""
    declaration = fakes.declare(workspace.models)
    for start in (1, 5, 9):
        fakes.append(ledger, declaration, fakes.coins(declaration, start))
    fakes.append(ledger, declaration, fakes.coins(declaration, 13), passed=False)
