"""Pooled refits: what is fitted together, what the link says, and that the chain goes on from it."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lindley.batch.batch import batch_from_frame
from lindley.errors import LedgerCorrupt, ModelRefused, OverlapRefused, UnknownChain, UnknownLink
from lindley.inference.sampling import FitSettings
from lindley.ledger.reading import find_chain, read_belief
from lindley.ledger.record import Artifact, digest
from lindley.ledger.registration import register_link
from lindley.model.declaration import Declaration, load_declaration
from lindley.operations.audit import audit_metrics, audit_table
from lindley.operations.log import log_plan
from lindley.operations.plan import fit_plan
from lindley.operations.rebase import plan_rebase
from lindley.operations.update import plan_update
from lindley.report.tables import json_rows
from lindley.seeds import derive_seed
from lindley.verification.gather import verify_chain
from tests.support import amendments, refits
from tests.support.fakes import MemoryLedger, append, coins, declare
from tests.support.forging import Record, forge, record_of
from tests.support.oracles import beta_binomial
from tests.support.refits import import_trace

NAME = "coins"
MODELS = Path(__file__).parents[3] / "models"
#: The three links of `coins_chain`, and the version of a refit of them.
LINKS, REFIT = (1, 2, 5), 6
AUDITED = ("audited_error", "audited_monte_carlo", "audited_matches")
ORIGINS = ("coins-000.csv", "coins-010.csv", "coins-030.csv")


@pytest.fixture
def ledger(coins_chain: MemoryLedger) -> MemoryLedger:
    return coins_chain.clone()


@pytest.fixture
def refitted(ledger: MemoryLedger, declaration: Declaration) -> MemoryLedger:
    """The three links and a refit of them."""
    assert refits.rebase(ledger, declaration).link == 4
    return ledger


def records(ledger: MemoryLedger, *numbers: int) -> list[str]:
    return [ledger.models[NAME].versions[number].tags["lindley.record"] for number in numbers]


def imported(declaration: Declaration, folder: Path) -> MemoryLedger:
    """A chain that starts from a trace and has two batches."""
    ledger = MemoryLedger()
    import_trace(ledger, declaration, refits.trace(folder / "trace.nc"))
    append(ledger, declaration, coins(declaration, 0))
    append(ledger, declaration, coins(declaration, 10, k=4))
    return ledger


class TestPlans:
    def test_all_batches_of_the_chain_are_taken_in_its_order(
        self, ledger: MemoryLedger, declaration: Declaration
    ) -> None:
        before = len(ledger.runs)
        plan = plan_rebase(ledger, declaration)
        assert tuple(batch.origin for batch in plan.batches) == ORIGINS
        assert [batch.frame()["id"].min() for batch in plan.batches] == [0, 10, 30]
        assert (plan.start.prior, plan.origin.prior, plan.chain.links[-1].number) == (None, None, 3)
        assert [link.version.number for link in plan.origin.links] == [1, 2, 5]
        assert plan.start.near is not None
        assert plan.start.near.matched.digest == record_of(ledger, NAME, 5)["posterior"]["matched"]
        assert plan.seed == derive_seed(plan.start.near.matched.digest, "rebase", declaration.model_digest)
        stated = pd.read_csv(io.BytesIO(ledger.run_of(NAME, 5).files["summary.csv"]), index_col="parameter")
        pd.testing.assert_frame_equal(plan.compared, stated)
        assert len(ledger.runs) == before

    def test_an_imported_link_is_where_it_starts(self, declaration: Declaration, tmp_path: Path) -> None:
        ledger = imported(declaration, tmp_path)
        plan = plan_rebase(ledger, declaration)
        assert plan.origin.prior is not None
        assert plan.start.prior is not None
        assert (plan.origin.prior.number, plan.origin.prior.version.kind) == (1, "import")
        assert plan.start.prior.matched.digest == record_of(ledger, NAME, 1)["posterior"]["matched"]
        assert [batch.origin for batch in plan.batches] == list(ORIGINS[:2])

    def test_a_chain_without_batches_is_refused(self, declaration: Declaration, tmp_path: Path) -> None:
        ledger = MemoryLedger()
        with pytest.raises(UnknownChain):
            plan_rebase(ledger, declaration)
        append(ledger, declaration, coins(declaration, 0), passed=False)
        with pytest.raises(UnknownLink, match="no link yet"):
            plan_rebase(ledger, declaration)
        only = MemoryLedger()
        import_trace(only, declaration, refits.trace(tmp_path / "trace.nc"))
        with pytest.raises(UnknownLink, match="1 links without one"):
            plan_rebase(only, declaration)

    def test_a_chain_that_forgets_is_refused(self, ledger: MemoryLedger, tmp_path: Path) -> None:
        code = (
            "\nimport dataclasses\nfrom lindley import Forgetting, Policy\ndeclaration = "
            "dataclasses.replace(declaration, policy=Policy(forget={'theta': Forgetting(discount=0.9)}))\n"
        )
        forgetful = declare(tmp_path, code=code)
        with pytest.raises(ModelRefused, match="forgets old data on purpose"):
            plan_rebase(ledger, forgetful, accept_model_change=True)

    def test_a_changed_model_is_refused_unless_it_is_meant(
        self, ledger: MemoryLedger, tmp_path: Path
    ) -> None:
        changed = declare(tmp_path, code="\nOTHER = 1\n")
        with pytest.raises(ModelRefused, match="changed since link 3"):
            plan_rebase(ledger, changed)
        assert len(plan_rebase(ledger, changed, accept_model_change=True).batches) == 3

    @pytest.mark.parametrize("name", [Artifact.BATCH, Artifact.SUMMARY])
    def test_a_damaged_chain_is_not_fitted(
        self, ledger: MemoryLedger, declaration: Declaration, name: str
    ) -> None:
        ledger.run_of(NAME, 5).files[name] = ledger.run_of(NAME, 2).files[name]
        with pytest.raises(LedgerCorrupt, match="link 3"):
            plan_rebase(ledger, declaration)


class TestLinks:
    def test_the_link_states_everything_that_was_fitted(
        self, refitted: MemoryLedger, declaration: Declaration
    ) -> None:
        record = record_of(refitted, NAME, REFIT)
        genesis = refitted.genesis(NAME)
        assert genesis is not None
        assert (record["kind"], record["batch"], record["prior_belief"]) == ("rebase", None, None)
        assert [record["previous"]] == records(refitted, 5)
        assert record["prior"] == digest(genesis)
        assert record["replayed"] == records(refitted, *LINKS)
        assert "audit.csv" in record["artifacts"]
        assert {"audit_error", "audit_sd_ratio_min", "audit_sd_ratio_max"} <= set(record["metrics"])
        files = refitted.run_of(NAME, REFIT).files
        table = pd.read_csv(io.BytesIO(files["audit.csv"]), index_col="parameter")
        assert table.loc["theta", "error"] == pytest.approx(
            (table.loc["theta", "sequential_mean"] - table.loc["theta", "pooled_mean"])
            / table.loc["theta", "pooled_sd"]
        )
        assert abs(table.loc["theta", "error"]) == pytest.approx(record["metrics"]["audit_error"])
        assert "batch.parquet" not in files
        assert refitted.head_hint(NAME) == REFIT
        assert verify_chain(refitted, NAME).findings == ()

    def test_one_that_starts_from_an_import_says_so(self, declaration: Declaration, tmp_path: Path) -> None:
        ledger = imported(declaration, tmp_path)
        assert refits.rebase(ledger, declaration).status == "accepted"
        record, start = record_of(ledger, NAME, 4), record_of(ledger, NAME, 1)
        assert [record["prior"]] == records(ledger, 1)
        assert record["prior_belief"] == start["posterior"]["matched"]
        assert record["replayed"] == records(ledger, 2, 3)
        assert record["metrics"]["budget"] == pytest.approx(start["metrics"]["budget"] + 2 / 900)
        assert verify_chain(ledger, NAME).findings == ()

    def test_the_next_update_starts_from_it(self, refitted: MemoryLedger, declaration: Declaration) -> None:
        assert append(refitted, declaration, coins(declaration, 40, k=6)).link == 5
        record = record_of(refitted, NAME, 7)
        assert [record["prior"], record["previous"]] == records(refitted, REFIT, REFIT)
        refit = record_of(refitted, NAME, REFIT)
        assert record["prior_belief"] == refit["posterior"]["matched"]
        assert record["metrics"]["budget"] == pytest.approx(refit["metrics"]["budget"] + 2 / 900)
        assert record["replayed"] == []
        assert verify_chain(refitted, NAME).findings == ()

    def test_a_second_refit_starts_from_genesis_as_well(
        self, refitted: MemoryLedger, declaration: Declaration
    ) -> None:
        append(refitted, declaration, coins(declaration, 40, k=6))
        assert refits.rebase(refitted, declaration).link == 6
        record = record_of(refitted, NAME, 8)
        assert record["replayed"] == records(refitted, *LINKS, 7)
        assert record["prior"] == refitted.models[NAME].genesis
        assert verify_chain(refitted, NAME).findings == ()

    def test_it_measures_matches_that_could_not_be_measured(
        self, ledger: MemoryLedger, declaration: Declaration
    ) -> None:
        """One such match is behind the head; what the refit finds is stated of the links after it."""

        def unknown(record: Record) -> None:
            record["metrics"].update(unmeasured=1)
            del record["metrics"]["stated_error"]

        forge(ledger, NAME, 5, unknown)
        del ledger.run_of(NAME, 5).metrics["stated_error"]
        refits.rebase(ledger, declaration)
        metrics = record_of(ledger, NAME, REFIT)["metrics"]
        assert (metrics["unmeasured"], metrics["audited_matches"]) == (0, 1)
        ratios = [abs(np.log(metrics[f"audit_sd_ratio_{end}"])) for end in ("min", "max")]
        assert metrics["audited_error"] == pytest.approx(max(metrics["audit_error"], *ratios))
        # Both fits have one of 0.05.
        assert metrics["audited_monte_carlo"] == pytest.approx(0.05 * np.sqrt(2))
        assert metrics["stated_error"] == metrics["monte_carlo_error"]
        append(ledger, declaration, coins(declaration, 40, k=6))
        after = record_of(ledger, NAME, REFIT + 1)["metrics"]
        assert {name: after[name] for name in AUDITED} == {name: metrics[name] for name in AUDITED}
        assert verify_chain(ledger, NAME).findings == ()

    def test_batches_are_still_counted_once(self, refitted: MemoryLedger, declaration: Declaration) -> None:
        plan = plan_update(refitted, declaration, coins(declaration, 10, k=4))
        assert "link 2" in str(plan.noop)
        with pytest.raises(OverlapRefused, match="link 3"):
            plan_update(refitted, declaration, coins(declaration, 32, k=1))

    def test_a_refused_fit_leaves_the_head(self, ledger: MemoryLedger, declaration: Declaration) -> None:
        found = refits.rebase(ledger, declaration, passed=False)
        assert (found.status, found.link, found.version) == ("quarantined", None, REFIT)
        assert ledger.head_hint(NAME) == 5
        assert verify_chain(ledger, NAME).findings == ()

    def test_of_two_writers_the_second_is_superseded(
        self, ledger: MemoryLedger, declaration: Declaration
    ) -> None:
        late = amendments.logged(ledger, plan_rebase(ledger, declaration))
        append(ledger, declaration, coins(declaration, 40))
        assert register_link(ledger, late).status == "superseded"
        assert len(plan_rebase(ledger, declaration).batches) == 4
        assert verify_chain(ledger, NAME).findings == ()

    def test_a_belief_that_was_read_back_covers_every_batch(
        self, refitted: MemoryLedger, declaration: Declaration
    ) -> None:
        head = find_chain(refitted, NAME).head
        assert head is not None
        assert read_belief(refitted, head)[1].covered == 3


class TestTampering:
    """What the rules find on a refit; the cases of updates are in `tests.support.tampering`."""

    @staticmethod
    def found(ledger: MemoryLedger, edit: Any) -> tuple[set[str], str]:
        forge(ledger, NAME, REFIT, edit)
        findings = verify_chain(ledger, NAME).findings
        assert {finding.link for finding in findings} == {4}
        return {finding.rule for finding in findings}, "; ".join(f.message for f in findings)

    @pytest.mark.parametrize("place", [0, 1, 2])
    def test_a_refit_that_leaves_a_batch_out(self, refitted: MemoryLedger, place: int) -> None:
        def edit(record: Record) -> None:
            del record["replayed"][place]
            record["metrics"]["replayed"] -= 1

        rules, said = self.found(refitted, edit)
        assert rules == {"R21"}
        assert "3 links" in said

    def test_a_refit_that_starts_from_an_update(self, refitted: MemoryLedger) -> None:
        first = record_of(refitted, NAME, 1)

        def edit(record: Record) -> None:
            record.update(prior=records(refitted, 1)[0], prior_belief=first["posterior"]["matched"])
            record["replayed"] = record["replayed"][1:]
            record["metrics"].update(replayed=1, budget=first["metrics"]["budget"] + 2 / 900)

        rules, said = self.found(refitted, edit)
        assert rules == {"R21"}
        assert "not from a link of kind update" in said

    def test_a_refit_with_a_batch_of_its_own(self, refitted: MemoryLedger) -> None:
        files = {Artifact.BATCH: refitted.run_of(NAME, 2).files[Artifact.BATCH]}
        forge(refitted, NAME, REFIT, lambda r: r.update(batch=record_of(refitted, NAME, 2)["batch"]),
              files=files)  # fmt: skip
        assert {"R07", "R13", "R14"} <= {finding.rule for finding in verify_chain(refitted, NAME).findings}

    def test_a_refit_whose_seed_was_chosen(self, refitted: MemoryLedger) -> None:
        assert self.found(refitted, lambda r: r["sampler"].update(seed="42"))[0] == {"R12"}

    def test_a_changed_audit(self, refitted: MemoryLedger) -> None:
        refitted.flip(NAME, REFIT, "audit.csv")
        assert [(f.rule, f.link) for f in verify_chain(refitted, NAME).findings] == [("R06", 4)]


# -- audits -------------------------------------------------------------------------------------------


def summary(**rows: tuple[float, float]) -> pd.DataFrame:
    """A summary of normal margins by parameter: (mean, sd)."""
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["mean", "sd"])
    return table.assign(q05=table["mean"] - 1.5 * table["sd"], q95=table["mean"] + 1.5 * table["sd"])


class TestAudits:
    sequential = summary(a=(1.0, 2.0), b=(5.0, 1.0), gone=(0.0, 1.0))
    pooled = summary(b=(4.0, 2.0), a=(2.0, 4.0), new=(7.0, 1.0))

    def test_errors_are_in_pooled_sds_by_shared_parameter(self) -> None:
        table = audit_table(self.sequential, self.pooled)
        assert list(table.index) == ["b", "a"]
        assert table.index.name == "parameter"
        assert table["error"].to_dict() == {"b": 0.5, "a": -0.25}
        assert table["sd_ratio"].to_dict() == {"b": 0.5, "a": 0.5}
        assert table["error_q05"].to_dict() == {"b": 1.25, "a": 0.5}
        assert table["error_q95"].to_dict() == {"b": -0.25, "a": -1.0}
        assert table.loc["b", ["sequential_mean", "sequential_sd", "pooled_mean", "pooled_sd"]].tolist() == [
            5, 1, 4, 2,
        ]  # fmt: skip
        assert audit_metrics(table) == {
            "audit_error": 0.5, "audit_sd_ratio_min": 0.5, "audit_sd_ratio_max": 0.5,
        }  # fmt: skip

    def test_what_does_not_vary_has_no_error(self) -> None:
        table = audit_table(summary(a=(1.0, 0.0), b=(1.0, 1.0)), summary(a=(1.0, 0.0), b=(1.0, 2.0)))
        assert np.isnan(table.loc["a", ["error", "sd_ratio", "error_q05", "error_q95"]].astype(float)).all()
        assert audit_metrics(table) == {
            "audit_error": 0.0, "audit_sd_ratio_min": 0.5, "audit_sd_ratio_max": 0.5,
        }  # fmt: skip
        rows = json_rows(table)
        assert [row["parameter"] for row in rows] == ["a", "b"]
        assert rows[0]["error"] is None
        assert rows[1]["sd_ratio"] == 0.5
        json.dumps(rows, allow_nan=False)

    def test_nothing_in_common_gives_no_figures(self) -> None:
        table = audit_table(summary(a=(1.0, 1.0)), summary(b=(1.0, 1.0)))
        assert table.empty
        assert audit_metrics(table) == {}
        assert json_rows(table) == []


# -- with the sampler ---------------------------------------------------------------------------------


def test_a_sampled_refit_is_the_pooled_answer_and_the_chain_goes_on_from_it() -> None:
    declaration = load_declaration("beta_binomial", MODELS)
    ledger, settings = MemoryLedger(), FitSettings(draws=500, tune=300)
    counts = [(7, 40), (12, 40), (9, 40), (15, 40)]

    def add(place: int) -> None:
        k, n = counts[place]
        frame = pd.DataFrame({"id": [2 * place, 2 * place + 1], "k": [k // 2, k - k // 2], "n": n // 2})
        plan = replace(
            plan_update(ledger, declaration, batch_from_frame(frame, declaration)), settings=settings
        )
        link = log_plan(ledger, plan, fit_plan(plan))
        assert register_link(ledger, link).link == place + 1 + (place == 3)

    for place in range(3):
        add(place)
    plan = replace(plan_rebase(ledger, declaration), settings=settings)
    outcome = fit_plan(plan)
    registered = register_link(ledger, log_plan(ledger, plan, outcome))
    assert registered.link == 4
    add(3)
    for number, links in ((4, 3), (5, 4)):
        row = pd.read_csv(io.BytesIO(ledger.run_of("beta_binomial", number).files["summary.csv"])).iloc[0]
        exact = beta_binomial(*np.array(counts[:links]).T)
        ess = min(row["ess_bulk"], row["ess_tail"])
        assert ess > 400
        # The last link adds its own error to that of the refit's match.
        error = exact.std() * np.sqrt((1 + (links == 4)) / ess)
        assert abs(row["mean"] - exact.mean()) < 5 * error
        assert abs(row["sd"] / exact.std() - 1) < 5 * np.sqrt((1 + (links == 4)) / (2 * ess))
    record = record_of(ledger, "beta_binomial", 4)
    assert record["posterior"]["pooled"] == "rows"
    assert record["metrics"]["replayed"] == 2
    assert outcome.audit is not None
    assert list(outcome.audit.index) == ["theta"]
    assert verify_chain(ledger, "beta_binomial").findings == ()
