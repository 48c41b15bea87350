"""Planning: what a batch does to a chain, and what it must not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lindley.batch.batch import batch_from_frame
from lindley.errors import BatchRefused, LedgerCorrupt, ModelRefused, OverlapRefused
from lindley.inference.diagnostics.gate import Thresholds
from lindley.inference.sampling import FitSettings
from lindley.ledger.reading import find_chain
from lindley.ledger.record import Artifact, digest, parse
from lindley.ledger.registration import register_link
from lindley.model.declaration import Declaration, load_file
from lindley.model.policy import Policy
from lindley.operations import update
from lindley.operations.log import log_plan
from lindley.operations.update import plan_update
from lindley.seeds import derive_seed
from lindley.verification.gather import verify_chain
from tests.support.fakes import MODEL, MemoryLedger, append, coins, declare, logged
from tests.support.fits import fit
from tests.support.forging import record_of

NAME = "coins"


@pytest.fixture
def ledger(coins_chain: MemoryLedger) -> MemoryLedger:
    """Links 1 to 3 with ids from 0, 10 and 30; ids from 20 are in quarantine."""
    return coins_chain.clone()


def writes(ledger: MemoryLedger) -> int:
    return len(ledger.runs) + sum(len(model.versions) for model in ledger.models.values())


class TestFirstPlan:
    def test_it_proposes_a_genesis_record_and_writes_nothing(self, declaration: Declaration) -> None:
        ledger = MemoryLedger()
        batch = coins(declaration, 0)
        plan = plan_update(ledger, declaration, batch)
        assert (plan.fresh, plan.chain.head, plan.start.prior, plan.noop, plan.link) == (
            True,
            None,
            None,
            None,
            1,
        )
        assert plan.previous == digest(plan.genesis)
        assert plan.carried == ("theta",)
        model = parse(plan.genesis)["model"]
        assert model == {
            "digest": declaration.model_digest, "carried": ["theta"], "carry": {}, "observed": ["k"],
            "row_key": ["id"], "constants": {}, "context": 0, "by": [],
        }  # fmt: skip
        assert plan.seed == derive_seed(digest(plan.genesis), batch.digest, declaration.model_digest)
        assert writes(ledger) == 0

    def test_the_default_of_what_is_carried_is_looked_up_in_the_model(self, tmp_path: Path) -> None:
        path = tmp_path / "coins.py"
        path.write_text(MODEL.replace('    carried=("theta",),\n', ""), encoding="utf-8")
        declaration = load_file(path)
        assert declaration.carried is None
        assert plan_update(MemoryLedger(), declaration, coins(declaration, 0)).carried == ("theta",)

    def test_the_same_batch_gives_the_same_genesis_and_seed(self, declaration: Declaration) -> None:
        one, two = (plan_update(MemoryLedger(), declaration, coins(declaration, 0)) for _ in range(2))
        assert (one.genesis, one.seed) == (two.genesis, two.seed)
        other = plan_update(MemoryLedger(), declaration, coins(declaration, 1))
        assert (other.genesis, other.seed != one.seed) == (one.genesis, True)


class TestLaterPlans:
    def test_it_starts_from_the_posterior_of_the_head(
        self, ledger: MemoryLedger, declaration: Declaration
    ) -> None:
        settings, thresholds = FitSettings(draws=200), Thresholds(ess=100)
        batch = coins(declaration, 40)
        before = writes(ledger)
        plan = replace(plan_update(ledger, declaration, batch), settings=settings, thresholds=thresholds)
        head = record_of(ledger, NAME, 5)
        assert plan.chain.head is not None
        assert plan.start.prior is not None
        assert (plan.chain.head.number, plan.link, plan.fresh, plan.noop) == (3, 4, False, None)
        assert plan.previous == ledger.versions(NAME)[4].record
        assert plan.start.prior.matched.digest == head["posterior"]["matched"]
        assert plan.start.prior.budget == pytest.approx(3 * 2 / 900)
        assert plan.seed == derive_seed(
            plan.start.prior.matched.digest, batch.digest, declaration.model_digest
        )
        assert (plan.settings, plan.thresholds) == (settings, thresholds)
        assert plan.genesis == ledger.genesis(NAME)
        assert "fetch" in plan.phases.seconds
        assert writes(ledger) == before

    def test_only_quarantined_versions_leave_the_genesis_prior(self, declaration: Declaration) -> None:
        ledger = MemoryLedger()
        append(ledger, declaration, coins(declaration, 0), passed=False)
        plan = plan_update(ledger, declaration, coins(declaration, 10))
        assert (plan.fresh, plan.chain.head, plan.start.prior, plan.link) == (False, None, None, 1)
        assert plan.previous == ledger.models[NAME].genesis

    def test_what_is_carried_stays_what_genesis_says(
        self, ledger: MemoryLedger, declaration: Declaration, tmp_path: Path
    ) -> None:
        changed = declare(tmp_path, code="\nOTHER = 1\n")
        plan = plan_update(ledger, changed, coins(changed, 40), accept_model_change=True)
        assert plan.carried == ("theta",)


class TestExactlyOnce:
    @pytest.mark.parametrize(("start", "k", "link"), [(0, 3, 1), (10, 4, 2), (30, 5, 3)])
    def test_a_batch_of_any_link_is_a_noop_that_says_so(
        self, ledger: MemoryLedger, declaration: Declaration, start: int, k: int, link: int
    ) -> None:
        before = writes(ledger)
        plan = plan_update(ledger, declaration, coins(declaration, start, k=k, origin="again.parquet"))
        assert plan.noop is not None
        assert f"link {link}" in plan.noop
        assert "again.parquet" in plan.noop
        assert plan.tried is None
        assert writes(ledger) == before

    def test_row_order_and_file_name_do_not_make_another_batch(
        self, ledger: MemoryLedger, declaration: Declaration
    ) -> None:
        frame = coins(declaration, 10, k=4).frame().iloc[::-1]
        assert plan_update(ledger, declaration, batch_from_frame(frame, declaration, "new.csv")).noop

    def test_a_known_batch_is_a_noop_whatever_became_of_the_model(
        self, ledger: MemoryLedger, tmp_path: Path
    ) -> None:
        changed = declare(tmp_path, code="\nOTHER = 1\n")
        assert plan_update(ledger, changed, coins(changed, 0)).noop

    @pytest.mark.parametrize(
        ("start", "rows", "link", "shared"), [(2, 4, 1, 2), (13, 1, 2, 1), (3, 8, 1, 1), (0, 4, 1, 4)]
    )
    def test_rows_that_are_in_the_chain_are_refused(
        self, ledger: MemoryLedger, declaration: Declaration, start: int, rows: int, link: int, shared: int
    ) -> None:
        before = writes(ledger)
        with pytest.raises(OverlapRefused) as caught:
            plan_update(ledger, declaration, coins(declaration, start, rows, k=9))
        assert isinstance(caught.value, BatchRefused)
        assert f"shares {shared} row keys with link {link}" in caught.value.happened
        assert f"id={max(start, 10 * (link - 1))}" in caught.value.found
        assert writes(ledger) == before

    def test_rows_in_quarantine_and_of_lost_races_are_free(
        self, ledger: MemoryLedger, declaration: Declaration
    ) -> None:
        assert plan_update(ledger, declaration, coins(declaration, 21)).noop is None
        late = logged(ledger, declaration, coins(declaration, 50))
        append(ledger, declaration, coins(declaration, 60))
        assert register_link(ledger, late).status == "superseded"
        assert plan_update(ledger, declaration, coins(declaration, 50)).noop is None

    def test_batches_between_others_are_no_overlap(
        self, ledger: MemoryLedger, declaration: Declaration
    ) -> None:
        frame = coins(declaration, 4, 6).frame()
        frame.loc[3:, "id"] += 10
        assert plan_update(ledger, declaration, batch_from_frame(frame, declaration)).noop is None

    @pytest.mark.parametrize(
        "text", ["", "{}", '{"id":["int:x","int:y"]}', '{"id":["float:0","int:3"]}', "["]
    )
    def test_edited_key_ranges_hide_no_rows(
        self, ledger: MemoryLedger, declaration: Declaration, text: str
    ) -> None:
        for version in ledger.models[NAME].versions.values():
            version.tags["lindley.key_ranges"] = text
        with pytest.raises(OverlapRefused, match="link 1"):
            plan_update(ledger, declaration, coins(declaration, 2, k=9))

    @pytest.mark.parametrize("data", [b"", b"PAR1", None])
    def test_a_damaged_batch_of_a_link_is_not_taken_for_the_new_one(
        self, ledger: MemoryLedger, declaration: Declaration, data: bytes | None
    ) -> None:
        files = ledger.run_of(NAME, 1).files
        files[Artifact.BATCH] = ledger.run_of(NAME, 2).files[Artifact.BATCH] if data is None else data
        with pytest.raises(LedgerCorrupt, match="batch of link 1"):
            plan_update(ledger, declaration, coins(declaration, 2, k=9))

    def test_overlap_is_sought_though_the_schema_grew(
        self, ledger: MemoryLedger, declaration: Declaration, tmp_path: Path
    ) -> None:
        path = tmp_path / "coins.py"
        path.write_text(MODEL.replace('("id", "k", "n")', '("id", "k", "n", "site")'), encoding="utf-8")
        grown = load_file(path)
        batch = batch_from_frame(coins(declaration, 2, k=9).frame().assign(site=1), grown)
        with pytest.raises(OverlapRefused, match="link 1"):
            plan_update(ledger, grown, batch, accept_model_change=True)


class TestQuarantine:
    def test_the_same_batch_on_the_same_head_is_not_fitted_again(self, declaration: Declaration) -> None:
        ledger = MemoryLedger()
        append(ledger, declaration, coins(declaration, 0))
        append(ledger, declaration, coins(declaration, 10), passed=False)
        plan = plan_update(ledger, declaration, coins(declaration, 10))
        assert plan.tried == "quarantined"
        assert plan.noop is not None
        assert "version 2" in plan.noop
        assert "R-hat 1.3100 of theta" in plan.noop
        assert "To do: mend the model and pass --accept-model-change" in plan.noop

    @pytest.mark.parametrize("links", [0, 1])
    def test_a_mended_model_may_try_again(self, declaration: Declaration, tmp_path: Path, links: int) -> None:
        ledger = MemoryLedger()
        for number in range(links):
            append(ledger, declaration, coins(declaration, 50 + 10 * number))
        append(ledger, declaration, coins(declaration, 0), passed=False)
        mended = declare(tmp_path, code="\nMENDED = 1\n")
        with pytest.raises(ModelRefused, match="--accept-model-change"):
            plan_update(ledger, mended, coins(mended, 0))
        found = append(ledger, mended, coins(mended, 0), accept=True)
        assert (found.status, found.link) == ("accepted", links + 1)
        assert len(find_chain(ledger, NAME).quarantined) == 1
        assert verify_chain(ledger, NAME).findings == ()
        assert f"link {links + 1}" in str(plan_update(ledger, mended, coins(mended, 0)).noop)

    def test_each_code_is_tried_once(self, declaration: Declaration, tmp_path: Path) -> None:
        ledger = MemoryLedger()
        append(ledger, declaration, coins(declaration, 0), passed=False)
        mended = declare(tmp_path, code="\nMENDED = 1\n")
        append(ledger, mended, coins(mended, 0), passed=False, accept=True)
        for model, version in ((declaration, 1), (mended, 2), (declare(tmp_path, code="\n# mended\n"), 1)):
            plan = plan_update(ledger, model, coins(model, 0), accept_model_change=True)
            assert plan.tried == "quarantined"
            assert f"version {version}:" in str(plan.noop)
        third = declare(tmp_path, code="\nMENDED = 2\n")
        assert append(ledger, third, coins(third, 0), accept=True).link == 1
        assert verify_chain(ledger, NAME).findings == ()

    @pytest.mark.parametrize("declared", ["    carried=('p',),\n", ""])
    @pytest.mark.parametrize("accept", [True, False])
    def test_a_chain_without_links_does_not_begin_with_other_variables(
        self, declaration: Declaration, tmp_path: Path, declared: str, accept: bool
    ) -> None:
        ledger = MemoryLedger()
        append(ledger, declaration, coins(declaration, 0), passed=False)
        path = tmp_path / "coins.py"
        text = MODEL.replace('    carried=("theta",),\n', declared).replace('pm.Beta("theta"', 'pm.Beta("p"')
        path.write_text(text, encoding="utf-8")
        before = writes(ledger)
        other = load_file(path)
        with pytest.raises(ModelRefused) as caught:
            plan_update(ledger, other, coins(other, 0), accept_model_change=accept)
        assert (caught.value.found, writes(ledger)) == ("carried p", before)
        assert caught.value.expected.startswith("carried theta: fixed at genesis")
        assert "save the model file under another name" in caught.value.todo

    def test_on_a_new_head_it_is_fitted_again(self, ledger: MemoryLedger, declaration: Declaration) -> None:
        plan = plan_update(ledger, declaration, coins(declaration, 20, k=9))
        assert (plan.noop, plan.tried) == (None, None)
        found = register_link(ledger, log_plan(ledger, plan, fit(plan)))
        assert (found.status, found.link) == ("accepted", 4)


class TestModelChange:
    def test_changed_code_is_refused_unless_it_is_meant(
        self, ledger: MemoryLedger, declaration: Declaration, tmp_path: Path
    ) -> None:
        changed = declare(tmp_path, code="\nOTHER = 1\n")
        with pytest.raises(ModelRefused) as caught:
            plan_update(ledger, changed, coins(changed, 40))
        assert "link 3" in caught.value.happened
        assert declaration.model_digest[:12] in caught.value.expected
        assert changed.model_digest[:12] in caught.value.found
        assert "--accept-model-change" in caught.value.todo
        assert append(ledger, changed, coins(changed, 40), accept=True).link == 4
        with pytest.raises(ModelRefused, match="link 4"):
            plan_update(ledger, declaration, coins(declaration, 50))

    @pytest.mark.parametrize("saved", ["\nOTHER = 1\n", "\ndef half_saved("])
    def test_a_file_that_is_saved_during_a_fit_is_neither_recorded_nor_accepted(
        self, ledger: MemoryLedger, tmp_path: Path, saved: str
    ) -> None:
        fitted = declare(tmp_path)
        plan = plan_update(ledger, fitted, coins(fitted, 40))
        outcome = fit(plan)
        text = fitted.file.read_text(encoding="utf-8")
        fitted.file.write_text(text + saved, encoding="utf-8")
        found = register_link(ledger, log_plan(ledger, plan, outcome))
        assert (found.status, found.version) == ("accepted", 6)
        assert ledger.run_of(NAME, 6).files[Artifact.MODEL].decode() == text
        assert verify_chain(ledger, NAME).findings == ()
        changed = declare(tmp_path, code="\nOTHER = 1\n")
        with pytest.raises(ModelRefused, match="link 4"):
            plan_update(ledger, changed, coins(changed, 50))

    def test_comments_and_layout_are_no_change(self, ledger: MemoryLedger, tmp_path: Path) -> None:
        changed = declare(tmp_path, code="\n\n# a comment\n")
        assert plan_update(ledger, changed, coins(changed, 40)).noop is None

    def test_a_first_link_has_the_code_of_its_genesis(self, declaration: Declaration, tmp_path: Path) -> None:
        ledger = MemoryLedger()
        append(ledger, declaration, coins(declaration, 0), passed=False)
        changed = declare(tmp_path, code="\nOTHER = 1\n")
        with pytest.raises(ModelRefused, match="the chain's genesis"):
            plan_update(ledger, changed, coins(changed, 10))


class TestLostRaces:
    def test_of_two_plans_on_one_head_the_second_plans_again(
        self, ledger: MemoryLedger, declaration: Declaration
    ) -> None:
        batches = [coins(declaration, 40), coins(declaration, 50)]
        plans = [plan_update(ledger, declaration, batch) for batch in batches]
        assert plans[0].previous == plans[1].previous
        links = [log_plan(ledger, plan, fit(plan)) for plan in plans]
        assert [register_link(ledger, link).status for link in links] == ["accepted", "superseded"]
        again = plan_update(ledger, declaration, batches[1])
        assert (again.noop, again.link) == (None, 5)
        assert again.seed != plans[1].seed
        assert again.start.prior is not None
        assert again.start.prior.matched.digest == links[0].record["posterior"]["matched"]
        found = register_link(ledger, log_plan(ledger, again, fit(again)))
        assert (found.status, found.link) == ("accepted", 5)

    def test_two_plans_of_one_batch_count_it_once(
        self, ledger: MemoryLedger, declaration: Declaration
    ) -> None:
        plans = [plan_update(ledger, declaration, coins(declaration, 40)) for _ in range(2)]
        links = [log_plan(ledger, plan, fit(plan)) for plan in plans]
        assert [register_link(ledger, link).status for link in links] == ["accepted", "superseded"]
        assert "link 4" in str(plan_update(ledger, declaration, coins(declaration, 40)).noop)


class TestCorruption:
    @pytest.mark.parametrize("path", [Artifact.RECORD, Artifact.MATCHED_PRIOR])
    def test_a_changed_head_is_not_built_upon(
        self, ledger: MemoryLedger, declaration: Declaration, path: str
    ) -> None:
        ledger.run_of(NAME, 5).files[path] = ledger.run_of(NAME, 2).files[path]
        with pytest.raises(LedgerCorrupt, match="link 3"):
            plan_update(ledger, declaration, coins(declaration, 40))
        del ledger.run_of(NAME, 5).files[path]
        with pytest.raises(LedgerCorrupt, match="missing"):
            plan_update(ledger, declaration, coins(declaration, 40))

    def test_a_changed_genesis_record_is_not_built_upon(
        self, ledger: MemoryLedger, declaration: Declaration
    ) -> None:
        ledger.runs[ledger.models[NAME].genesis_run].files["genesis.json"] += b" "
        with pytest.raises(LedgerCorrupt):
            plan_update(ledger, declaration, coins(declaration, 40))


def test_a_fit_takes_up_what_the_head_needed_where_it_begins_at_the_same_place(
    five_chain: MemoryLedger, declaration: Declaration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every eighth link does not: what one batch needed need not be needed for good."""
    batch, held = coins(declaration, 60), record_of(five_chain, NAME, 5)
    assert held["prior"] != digest(five_chain.genesis(NAME) or b"")  # from a belief
    ahead = replace(declaration, policy=Policy(refit_rows=1))
    plan = plan_update(five_chain, ahead, batch)
    assert plan.origin.prior is not None
    assert plan.needed == {name: held[name] for name in ("sampler", "attempts")}
    again = plan_update(five_chain, replace(declaration, policy=Policy()), batch)
    assert (again.origin.prior, again.needed) == (None, None)
    monkeypatch.setattr(update, "_AFRESH", 6)
    assert plan_update(five_chain, ahead, batch).needed is None
