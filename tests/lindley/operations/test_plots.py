"""Pictures of links: drawn from what is stored, after the link is there; views, not evidence."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from matplotlib.image import imread

from lindley import failpoints
from lindley.errors import LedgerCorrupt
from lindley.ledger.chain import ChainLink
from lindley.ledger.reading import find_chain
from lindley.ledger.registration import register_link
from lindley.model.declaration import Declaration
from lindley.operations.log import log_plan
from lindley.operations.plots import draw_again, draw_into, draw_missing
from lindley.operations.rebase import plan_rebase
from lindley.operations.rollback import plan_rollback
from lindley.verification.gather import verify_chain
from tests.support import amendments, fits
from tests.support.fakes import MemoryLedger, append, coins, declare
from tests.support.forging import record_of

NAME = "coins"
OLD = "plots/prior_posterior.png"


@pytest.fixture
def ledger(coins_chain: MemoryLedger) -> MemoryLedger:
    return coins_chain.clone()


def runs_of(*links: ChainLink) -> dict[str, str]:
    return {link.version.run_id: link.version.record for link in links}


def pictures(ledger: MemoryLedger, link: ChainLink) -> dict[str, bytes]:
    files = ledger.runs[link.version.run_id].files
    return {path: data for path, data in files.items() if path.startswith("plots/")}


def head(ledger: MemoryLedger, name: str = NAME) -> ChainLink:
    return find_chain(ledger, name).links[-1]


class TestDrawing:
    def test_a_link_has_none_until_they_are_drawn_and_its_record_lists_none(
        self, ledger: MemoryLedger, declaration: Declaration
    ) -> None:
        append(ledger, declaration, coins(declaration, 60))
        link = head(ledger)
        assert pictures(ledger, link) == {}
        assert draw_missing(ledger, runs_of(link)) == (link.version.run_id,)
        drawn = pictures(ledger, link)
        assert set(drawn) == {OLD}  # the trace of these links has neither sample statistics nor predictions
        assert imread(io.BytesIO(drawn[OLD])).ndim == 3
        run = ledger.runs[link.version.run_id]
        assert run.metrics["seconds/plots"] > 0
        assert not [
            path for path in record_of(ledger, NAME, link.version.number)["artifacts"] if "plot" in path
        ]
        assert verify_chain(ledger, NAME).findings == ()

    def test_what_is_drawn_is_not_drawn_again(self, ledger: MemoryLedger) -> None:
        runs = runs_of(head(ledger))
        assert len(draw_missing(ledger, runs)) == 1
        pictures(ledger, head(ledger)).clear()
        assert draw_missing(ledger, runs) == ()

    def test_a_kill_between_two_pictures_leaves_none(
        self, ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def die(name: str) -> None:
            raise KeyboardInterrupt(name)

        link = head(ledger)
        with monkeypatch.context() as patched:
            patched.setattr(failpoints, "reach", die)
            with pytest.raises(KeyboardInterrupt, match="drawn"):
                draw_missing(ledger, runs_of(link))
        assert pictures(ledger, link) == {}
        ledger.runs[link.version.run_id].files[OLD] = b"half of it"
        assert len(draw_missing(ledger, runs_of(link))) == 1
        assert pictures(ledger, link)[OLD].startswith(b"\x89PNG")

    def test_only_the_runs_that_are_named_are_looked_at(self, ledger: MemoryLedger) -> None:
        first, *_, last = find_chain(ledger, NAME).links
        draw_missing(ledger, runs_of(last))
        assert pictures(ledger, first) == {}
        assert draw_missing(ledger, {"f" * 32: "0" * 64}) == ()

    def test_they_can_be_drawn_again_the_same(self, ledger: MemoryLedger, tmp_path: Path) -> None:
        link = head(ledger)
        ((run_id, record),) = runs_of(link).items()
        draw_missing(ledger, {run_id: record})
        first = pictures(ledger, link)
        ledger.runs[run_id].files[OLD] = b"forged"
        assert draw_again(ledger, run_id, record) == (OLD,)
        assert pictures(ledger, link) == first
        assert draw_into(ledger, run_id, record, tmp_path) == (OLD,)
        assert (tmp_path / OLD).read_bytes() == first[OLD]

    @pytest.mark.parametrize("path", ["trace.nc", "record.json"])
    def test_nothing_is_drawn_from_what_is_not_the_recorded_evidence(
        self, ledger: MemoryLedger, path: str
    ) -> None:
        link = head(ledger)
        ledger.flip(NAME, link.version.number, path)
        with pytest.raises(LedgerCorrupt):
            draw_missing(ledger, runs_of(link))
        assert pictures(ledger, link) == {}


class TestKinds:
    def test_a_pooled_refit_has_its_audit_drawn(self, ledger: MemoryLedger, declaration: Declaration) -> None:
        plan = plan_rebase(ledger, declaration)
        register_link(ledger, log_plan(ledger, plan, fits.fit_plan(plan)))
        link = head(ledger)
        draw_missing(ledger, runs_of(link))
        assert set(pictures(ledger, link)) == {OLD, "plots/audit.png"}
        ledger.flip(NAME, link.version.number, "audit.csv")
        with pytest.raises(LedgerCorrupt, match=r"audit\.csv"):
            draw_again(ledger, link.version.run_id, link.version.record)

    def test_a_copy_has_the_pictures_of_the_link_that_it_copies(
        self, ledger: MemoryLedger, declaration: Declaration, tmp_path: Path
    ) -> None:
        first = find_chain(ledger, NAME).links[0]
        draw_missing(ledger, runs_of(first))
        plan = plan_rollback(ledger, declaration, "1")
        register_link(ledger, log_plan(ledger, plan, None))
        back = head(ledger)
        assert pictures(ledger, back) == {}
        draw_missing(ledger, runs_of(back))
        assert pictures(ledger, back) == pictures(ledger, first)
        branch = declare(tmp_path, "coins--what-if")
        amendments.branch(ledger, branch, NAME, "1")
        start = head(ledger, "coins--what-if")
        draw_missing(ledger, runs_of(start))
        assert pictures(ledger, start) == pictures(ledger, first)
        assert verify_chain(ledger, NAME).findings == verify_chain(ledger, "coins--what-if").findings == ()


def test_pictures_are_not_covered_where_the_record_lists_none(ledger: MemoryLedger) -> None:
    """As the threat model says; anything beside them is found."""
    ledger.run_of(NAME, 5).files |= {OLD: b"forged", "plots/ranks.png": b"x"}
    assert verify_chain(ledger, NAME).findings == ()
    ledger.run_of(NAME, 5).files["plotsx.png"] = b"x"
    assert [finding.rule for finding in verify_chain(ledger, NAME).findings] == ["R06"]
