"""Acts on a panel fit only the members that they touch; what was fitted again equals a single chain."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from typer.testing import CliRunner

from flows import environment
from flows.cli.__main__ import app
from lindley.batch.batch import Batch, batch_from_frame
from lindley.errors import MemberRefused, OverlapRefused
from lindley.ledger.history import find_link
from lindley.model.declaration import Declaration
from lindley.model.policy import Window
from lindley.operations.panel.diff import diff_members
from lindley.operations.panel.fit import fit_panel
from lindley.operations.panel.refit import MOST_AGAIN, beginning, window_of
from lindley.operations.plan import fit_plan
from lindley.operations.rebase import plan_rebase
from lindley.operations.retract import plan_correct, plan_retract
from lindley.operations.update import plan_update
from lindley.panel.key import MemberKey
from lindley.panel.link import Member, PanelLink, panel_link
from lindley.verification.gather import verify_chain
from lindley.verification.reproduce import reproduce_links
from tests.support import panels
from tests.support.fakes import MemoryLedger, append


def head(ledger: MemoryLedger) -> PanelLink:
    return panel_link(find_link(ledger, panels.NAME))


def near(member: Member, successes: int, failures: int) -> bool:
    """Whether a belief is the closed form within 4 Monte Carlo errors, from enough draws."""
    exact, found = stats.beta(2 + successes, 3 + failures), member.summary().loc["theta"]
    ess = member.metrics["ess_bulk_min"]
    return ess > 400 and abs(found["mean"] - exact.mean()) < 4 * exact.std() / np.sqrt(ess)


def corrected(shops: Declaration) -> Batch:
    """The rows of the first link where `s1` has 5 of 10 each, `s4` is gone, and `x` is new."""
    return panels.batch(shops, {"s0": 0, "s1": 5, "s2": 2, "s3": 3, "x": 6}, 0, "corrected.csv")


@pytest.fixture(scope="module")
def mended(panel: MemoryLedger, shops: Declaration) -> MemoryLedger:
    """The panel after the first link was corrected, and then the second one taken out."""
    ledger = panel.clone()
    panels.done(ledger, plan_correct(ledger, shops, "1", corrected(shops)))
    panels.done(ledger, plan_retract(ledger, shops, ["2"]))
    return ledger


def test_a_correction_fits_the_members_whose_rows_changed(mended: MemoryLedger) -> None:
    link = panel_link(find_link(mended, f"{panels.NAME}@4"))
    assert link.record["panel"]["counts"] == {
        "members": 8, "changed": 3, "accepted": 2, "quarantined": 0, "withdrawn": 1, "new": 1,
    }  # fmt: skip
    assert link.member(store="s4").status == "withdrawn"
    assert link.member(store="s3").row.link == 1  # as it was
    assert near(link.member(store="s1"), 15 + 6 + 6, 15 + 24 + 24)
    assert near(link.member(store="x"), 18, 12)
    assert link.member(store="s1").row.attempt["replayed"] == [2, 3]


def test_what_a_correction_left_counts_in_later_acts(mended: MemoryLedger) -> None:
    """Without link 2, `s2` has the rows of the corrected batch, although that link did not fit it."""
    s2 = head(mended).member(store="s2")
    assert (s2.row.link, s2.row.attempt["replayed"]) == (5, [4])
    assert near(s2, 6, 24)


def test_the_chain_verifies_and_is_fitted_again_bit_by_bit(mended: MemoryLedger) -> None:
    assert verify_chain(mended, panels.NAME).findings == ()
    assert {item.result for item in reproduce_links(mended, panels.NAME)} == {"identical"}


def test_rows_that_other_batches_count_are_refused(panel: MemoryLedger, shops: Declaration) -> None:
    with pytest.raises(OverlapRefused, match="shares 3 row keys"):
        plan_correct(panel, shops, "1", panels.batch(shops, {"s1": 5}, 10))


def test_a_rebase_fits_all_members(panel: MemoryLedger, shops: Declaration) -> None:
    ledger = panel.clone()
    plan = plan_rebase(ledger, shops)
    outcome = fit_panel(plan)
    assert outcome.audit is not None
    assert len(outcome.audit) == len(outcome.rows) == 7
    # All members were the pooled fit already: two fits of one posterior differ by their Monte Carlo errors.
    assert outcome.audit["error"].abs().max() < 4 * np.sqrt(2 / 400)
    panels.done(ledger, plan)
    assert verify_chain(ledger, panels.NAME).findings == ()


def test_an_audit_of_one_member_fits_it_alone(panel: MemoryLedger, shops: Declaration) -> None:
    plan = plan_rebase(panel, shops, whole=True, member=MemberKey.of({"store": "s1"}))
    assert plan.members is not None
    assert [(str(item.key), item.links) for item in plan.members.work] == [("store=s1", (1, 2, 3))]
    with pytest.raises(MemberRefused, match="no rows"):
        plan_rebase(panel, shops, member=MemberKey.of({"store": "nowhere"}))


def test_a_member_equals_the_same_rows_as_a_single_chain(
    panel: MemoryLedger, shops: Declaration, tmp_path: Path
) -> None:
    """The statistics of the last link are those of a chain with the rows of `s1` alone."""
    by_store = {'by=("store",),\n    ': "", 'row_key=("id",)': 'row_key=("store", "id")'}
    alone, ledger = panels.declare(tmp_path, **by_store), MemoryLedger()
    parts = [panels.rows({"s1": k}, start) for k, start in ((1, 0), (2, 10), (2, 20))]
    first = pd.concat(parts[:2], ignore_index=True)
    # Two links are enough: what came before the last one is fitted again.
    append(ledger, alone, batch_from_frame(first, alone, "first.csv"))
    last = plan_update(ledger, alone, batch_from_frame(parts[2], alone, "last.csv"))
    outcome = fit_plan(last)
    assert outcome is not None
    member, single = head(panel).member(store="s1"), outcome.info.summary.loc["theta"]  # type: ignore[union-attr]
    found, metrics = member.summary().loc["theta"], outcome.metrics
    error = 4 * single["sd"] * np.sqrt(1 / member.metrics["ess_bulk_min"] + 1 / metrics["ess_bulk_min"])
    assert abs(found["mean"] - single["mean"]) < error
    for name in ("drift", "unmeasured", "replayed"):
        expected = metrics[name] + (name == "replayed")  # the two first links are one here
        assert member.metrics[name] == expected, name
    assert member.metrics["conflict_p"] == pytest.approx(metrics["conflict_p"], abs=0.1)
    assert member.metrics["stated_error"] == pytest.approx(metrics["stated_error"], rel=0.6)


def test_beyond_the_window_a_member_starts_from_its_belief(panel: MemoryLedger, shops: Declaration) -> None:
    ledger, small = panel.clone(), replace(shops, policy=replace(shops.policy, refit_rows=1))
    before = head(ledger).member(store="s1").row
    panels.append(ledger, small, panels.batch(small, {"s1": 2, "y": 4}, 50))
    row = head(ledger).member(store="s1").row
    assert (row.attempt["began"], row.attempt["replayed"]) == (before.link, [])
    assert row.attempt["started_from"] == before.matched.digest  # type: ignore[union-attr]
    # With a window again, the belief behind it is that of the model's priors: all rows are fitted again.
    reader = head(ledger).reader
    found = beginning(reader, row, 3, Window(5000, 12))
    assert (found.start, found.links) == (None, (1, 2, 3, 4))
    # 3 new rows, and 3 of one batch that costs 10 more.
    found = beginning(reader, row, 3, Window(16, 12))
    assert found.start is not None
    assert (found.start.link, found.links) == (3, (4,))
    assert verify_chain(ledger, panels.NAME).findings == ()


def test_what_a_link_fits_again_has_a_bound(shops: Declaration) -> None:
    assert window_of(shops, 10).rows == shops.policy.refit_rows
    assert window_of(shops, 10_000).rows == MOST_AGAIN // 10_000


def test_two_beliefs_of_a_member_are_compared(mended: MemoryLedger) -> None:
    name = f"{panels.NAME}[store=s1]"
    found = diff_members(mended, f"{name}@2", f"{name}@4")
    assert found.parameters.loc["theta", "shift"] > 0  # 5 of 10 in place of 1 of 10
    assert {key: [item["link"] for item in held] for key, held in found.batches.items()} == {
        "a": [1], "b": [4, 3], "both": [2],
    }  # fmt: skip
    assert [item["rows"] for item in found.batches["both"]] == [3]
    assert found.hellinger is not None
    assert 0 < found.hellinger < 1
    assert diff_members(mended, name, name).hellinger == pytest.approx(0, abs=1e-6)
    assert found.as_dict()["parameters"][0]["distance"] is None
    with pytest.raises(MemberRefused, match="has no belief"):
        diff_members(mended, name, f"{panels.NAME}[store=s4]")


def test_the_commands_take_members(
    shops: Declaration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / f"{panels.NAME}.py").write_text(shops.source_text)
    monkeypatch.setenv("LINDLEY_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    # Prefect may be imported in this process already; what `prepare` sets is tested in test_running.
    monkeypatch.setattr(environment, "prepare", lambda workspace, **_: workspace)
    panels.rows({"s1": 1, "s2": 2}, 0).to_csv(tmp_path / "one.csv", index=False)
    panels.rows({"s1": 1, "s2": 4}, 0).to_csv(tmp_path / "two.csv", index=False)

    def said(*arguments: str) -> str:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == 0, result.output
        return " ".join(result.output.split())

    said("update", panels.NAME, "one.csv", "--direct")
    assert "1 member fitted again" in said("correct", panels.NAME, "1", "two.csv", "--direct")
    audit = said("audit", f"{panels.NAME}[store=s2]", "--direct")
    assert "[store=s2] theta" in audit
    assert "[store=s1]" not in audit
    assert "Hellinger" in said("diff", f"{panels.NAME}[store=s2]@1", f"{panels.NAME}[store=s2]")
