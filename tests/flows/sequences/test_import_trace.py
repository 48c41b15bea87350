"""Imports, step by step with the ledger in memory."""

from __future__ import annotations

import dataclasses

import pytest

from flows.sequences.import_trace import import_trace
from lindley.errors import KeyRefused, ModelRefused
from lindley.operations.plan import fit_plan
from tests.support import refits


@pytest.fixture
def trace(tmp_path):
    return refits.trace(tmp_path / "trace.nc")


@pytest.fixture
def adopting(steps):
    """The steps with the real `fit_plan`, which samples nothing for an import."""
    return dataclasses.replace(steps, fit=fit_plan)


def test_an_import_is_the_first_link_and_fits_no_batch(adopting, workspace, ledger, trace, drawn, published):
    result = import_trace(adopting, workspace, "coins", trace)
    assert (result.status, result.kind, result.link, result.version) == ("accepted", "import", 1, 1)
    assert (result.fitted, result.file, result.message) == (
        0,
        "trace.nc",
        "trace.nc is link 1 of coins (version 1)",
    )
    assert drawn == [(result.run_id,)]
    assert [plan.kind for plan, *_ in published] == ["import"]
    with pytest.raises(ModelRefused, match="exists already"):
        import_trace(adopting, workspace, "coins", trace)
    assert len(ledger.versions("coins")) == 1


def test_a_key_that_cannot_be_used_is_reported_before_the_chain_is_claimed(
    adopting, workspace, ledger, trace, monkeypatch
) -> None:
    monkeypatch.setenv("LINDLEY_SIGNING_KEY", str(workspace.root / "missing.pem"))
    with pytest.raises(KeyRefused):
        import_trace(adopting, workspace, "coins", trace)
    assert ledger.genesis("coins") is None
