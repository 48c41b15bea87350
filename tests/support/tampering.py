"""Every way to tamper with a chain that the verifier's rules are there to find."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

from lindley.inference.diagnostics.monitor import Observation, watched
from lindley.ledger.netcdf import write_matched_prior
from lindley.ledger.record import Artifact, canonical, digest, genesis_record, parse
from lindley.verification.gather import gather
from tests.support import amendments
from tests.support.fakes import coins
from tests.support.forging import Record, forge, record_of, replaced
from tests.support.tampering_decisions import DECIDED_ON, LAST, DecisionTamper
from tests.support.tampering_tools import NAME

#: Versions of `coins_chain`: the links 1, 2 and 3, the quarantined one, the one that was created twice.
FIRST, SECOND, QUARANTINED, TWICE, HEAD = 1, 2, DECIDED_ON, 4, LAST
#: Place of the last one in the chain.
HEAD_LINK = 3
_SOURCE = {
    "kind": "snapshot",
    "address": "rows.csv",
    "version": {"etag": "b"},
    "since": None,
    "complete": True,
}


class Tamper(DecisionTamper):
    """The changes, one method per rule or more: ``r05_...``. Each returns (rules, version) to be found."""

    def r01_genesis_record_changed(self) -> Any:
        files = self.ledger.runs[self.model.genesis_run].files
        files["genesis.json"] = files["genesis.json"].replace(b"theta", b"gamma")
        return {"R01"}, None

    def r01_genesis_record_is_another_and_the_registry_says_so(self) -> Any:
        record = genesis_record(NAME, parse(self._genesis())["model"] | {"carried": ["gamma"]})
        self._set_genesis(canonical(record))
        # The first link no longer follows it, and so none is left.
        return {"R10", "R19", "R20"}, None

    def r01_genesis_record_is_that_of_another_chain(self) -> Any:
        self._set_genesis(canonical(parse(self._genesis()) | {"chain": "other"}))
        return {"R01", "R10", "R19", "R20"}, None

    def r01_genesis_record_is_no_record(self) -> Any:
        self._set_genesis(b"{}")
        return {"R01", "R10", "R19", "R20"}, None

    def r02_version_deleted(self) -> Any:
        del self.model.versions[QUARANTINED]
        return {"R02"}, QUARANTINED

    def r02_newest_version_deleted(self) -> Any:
        del self.model.versions[HEAD]
        self.model.head = None
        return {"R02", "R19"}, None

    def r26_a_link_joins_again(self) -> Any:
        joined = [self.model.versions[SECOND].tags["lindley.record"]]
        forge(self.ledger, NAME, HEAD, lambda record: record.update(joined=joined))
        return {"R26"}, HEAD

    def r26_a_version_joins_that_does_not_exist(self) -> Any:
        forge(self.ledger, NAME, HEAD, lambda record: record.update(joined=["0" * 64]))
        return {"R26"}, HEAD

    def r21_a_batch_joins_that_was_not_fitted(self) -> Any:
        joined = [self.model.versions[QUARANTINED].tags["lindley.record"]]
        forge(self.ledger, NAME, HEAD, lambda record: record.update(joined=joined))
        return {"R21"}, HEAD

    def r22_an_update_takes_a_link_out(self) -> Any:
        gone = [self.model.versions[SECOND].tags["lindley.record"]]
        forge(self.ledger, NAME, HEAD, lambda record: record.update(retracted=gone))
        return {"R22"}, HEAD

    def r28_a_revised_row_is_not_named(self) -> Any:
        batch = coins(self.declaration, 20, k=5)
        number = amendments.correct(self.ledger, self.declaration, HEAD_LINK, batch).version
        forge(self.ledger, NAME, number, lambda r: r["batch"]["changes"]["added"]["keys"].pop())
        return {"R28"}, number

    def r28_an_update_is_said_to_revise(self) -> Any:
        none = {"rows": 0, "digest": "0" * 64, "keys": []}
        changes = {"revised": none, "added": none, "removed": none}
        forge(self.ledger, NAME, HEAD, lambda record: record["batch"].update(changes=changes))
        return {"R28"}, HEAD

    def r29_a_version_of_the_source_is_left_out(self) -> Any:
        forge(
            self.ledger, NAME, HEAD, lambda record: record.update(source=_SOURCE | {"since": {"etag": "a"}})
        )
        return {"R29"}, HEAD

    def r29_the_address_has_a_password(self) -> Any:
        address = "https://user:word@example.org/rows.csv"
        forge(self.ledger, NAME, HEAD, lambda record: record.update(source=_SOURCE | {"address": address}))
        return {"R29"}, HEAD

    def r29_a_rollback_has_a_source(self) -> Any:
        number = amendments.rollback(self.ledger, self.declaration, 2).version
        forge(self.ledger, NAME, number, lambda record: record.update(source=_SOURCE))
        return {"R29"}, number

    def r03_record_missing(self) -> Any:
        del self._run(HEAD).files[Artifact.RECORD]
        return {"R03"}, HEAD

    def r03_record_not_canonical(self) -> Any:
        data = self._run(HEAD).files[Artifact.RECORD] + b"\n"
        self._run(HEAD).files[Artifact.RECORD] = data
        self.model.versions[HEAD].tags["lindley.record"] = digest(data)
        return {"R03"}, HEAD

    def r03_record_of_a_link_is_a_genesis_record(self) -> Any:
        self._run(HEAD).files[Artifact.RECORD] = self._genesis()
        self.model.versions[HEAD].tags["lindley.record"] = digest(self._genesis())
        return {"R03"}, HEAD

    def r04_record_changed(self) -> Any:
        record = replaced(record_of(self.ledger, NAME, SECOND), ("libraries", "numpy"), "1.0")
        self._run(SECOND).files[Artifact.RECORD] = canonical(record)
        return {"R04"}, SECOND

    def r04_record_is_that_of_another_link(self) -> Any:
        self._run(QUARANTINED).files[Artifact.RECORD] = self._run(SECOND).files[Artifact.RECORD]
        return {"R04", "R05", "R06", "R07", "R08", "R18"}, QUARANTINED

    def r05_version_tag_changed(self) -> Any:
        self.model.versions[SECOND].tags["lindley.origin"] = "other.csv"
        return {"R05"}, SECOND

    def r05_quarantine_lifted(self) -> Any:
        self.model.versions[QUARANTINED].tags["lindley.status"] = "accepted"
        return {"R05", "R15", "R19"}, QUARANTINED  # it takes the place of the link that came after it

    def r05_link_put_into_quarantine(self) -> Any:
        self.model.versions[HEAD].tags["lindley.status"] = "quarantined"
        return {"R05", "R19"}, HEAD

    def r06_artifact_changed(self) -> Any:
        self.ledger.flip(NAME, SECOND, "summary.csv")
        return {"R06"}, SECOND

    def r06_file_of_another_kind_added_to_the_plots(self) -> Any:
        self._run(SECOND).files["plots/payload.html"] = b"<script>"
        return {"R06"}, SECOND

    def r06_file_below_the_plots_added(self) -> Any:
        self._run(SECOND).files["plots/deep/ranks.png"] = b"x"
        return {"R06"}, SECOND

    def r06_file_named_like_the_plots_added(self) -> Any:
        self._run(SECOND).files["plots.png"] = b"x"
        return {"R06"}, SECOND

    def r06_artifact_deleted(self) -> Any:
        del self._run(FIRST).files["summary.csv"]
        return {"R06"}, FIRST

    def r06_artifact_added(self) -> Any:
        self._run(SECOND).files["belief/data/payload.pkl"] = b"x"
        return {"R06"}, SECOND

    def r07_batch_is_another(self) -> Any:
        forge(self.ledger, NAME, HEAD, files={Artifact.BATCH: self._parquet(30, k=6)})
        return {"R07"}, HEAD

    def r07_batch_is_no_table(self) -> Any:
        forge(self.ledger, NAME, HEAD, files={Artifact.BATCH: b"PAR1"})
        return {"R07"}, HEAD

    def r07_batch_has_fewer_rows(self) -> Any:
        forge(self.ledger, NAME, HEAD, lambda record: record["batch"].update(rows=3))
        return {"R07"}, HEAD

    def r07_key_ranges_hide_rows(self) -> Any:
        forge(self.ledger, NAME, HEAD, lambda r: r["batch"]["key_ranges"].update(id=["int:90", "int:99"]))
        return {"R07"}, HEAD

    def r07_row_key_is_another(self) -> Any:
        forge(self.ledger, NAME, HEAD, lambda record: record["batch"].update(row_key=["k"]))
        return {"R07"}, HEAD

    def r07_update_without_a_batch(self) -> Any:
        forge(self.ledger, NAME, HEAD, lambda record: record.update(batch=None))
        return {"R07"}, HEAD

    def r08_draws_are_others(self) -> Any:
        forge(self.ledger, NAME, HEAD, lambda record: record["posterior"].update(draws="0" * 64))
        return {"R08"}, HEAD

    def r08_matched_prior_is_another(self) -> Any:
        forge(self.ledger, NAME, HEAD, lambda record: record["posterior"].update(matched="0" * 64))
        return {"R08"}, HEAD

    def r08_coordinates_are_others(self) -> Any:
        forge(self.ledger, NAME, HEAD, lambda r: r["posterior"]["coordinates"][0].update(transform="log"))
        return {"R08"}, HEAD

    def r08_family_is_another(self) -> Any:
        forge(self.ledger, NAME, HEAD, lambda record: record["posterior"].update(family="cauchy"))
        return {"R08"}, HEAD

    def r08_carried_variables_are_others(self) -> Any:
        forge(self.ledger, NAME, HEAD, lambda record: record["model"].update(carried=["gamma"]))
        return {"R08"}, HEAD

    def r08_matched_prior_cannot_be_read(self) -> Any:
        forge(self.ledger, NAME, HEAD, files={Artifact.MATCHED_PRIOR: b"\x89HDF\r\n\x1a\n"})
        return {"R08"}, HEAD

    def r08_trace_cannot_be_read(self) -> Any:
        forge(self.ledger, NAME, HEAD, files={Artifact.TRACE: b""})
        return {"R08"}, HEAD

    def r09_matched_prior_is_not_that_of_the_draws(self) -> Any:
        held = next(e for e in gather(self.ledger, NAME).versions if e.version.number == HEAD).matched
        assert held is not None
        moved = dataclasses.replace(held, map=dataclasses.replace(held.map, loc=held.map.loc + 1e-6))
        path = self.folder / "matched.nc"
        write_matched_prior(moved, path)
        files = {Artifact.MATCHED_PRIOR: path.read_bytes()}
        forge(self.ledger, NAME, HEAD, lambda r: r["posterior"].update(matched=moved.digest), files=files)
        return {"R09"}, HEAD

    def r21_prior_is_not_the_head(self) -> Any:
        first = record_of(self.ledger, NAME, FIRST)

        def edit(record: Record) -> None:
            record["prior"] = self.model.versions[FIRST].tags["lindley.record"]
            record["prior_belief"] = first["posterior"]["matched"]
            record["metrics"]["budget"] = first["metrics"]["budget"] + 2 / 900

        forge(self.ledger, NAME, HEAD, edit)
        return {"R21"}, HEAD

    def r21_a_batch_was_fitted_twice(self) -> Any:
        def edit(record: Record) -> None:
            record["replayed"] = [self.model.versions[SECOND].tags["lindley.record"]]
            record["metrics"]["replayed"] = 1

        forge(self.ledger, NAME, HEAD, edit)
        return {"R21"}, HEAD

    def r21_started_from_genesis_without_the_batches_since(self) -> Any:
        forge(self.ledger, NAME, HEAD, self._from_genesis([]))
        return {"R21"}, HEAD

    def r21_batches_fitted_again_are_in_another_order(self) -> Any:
        records = [self.model.versions[number].tags["lindley.record"] for number in (SECOND, FIRST)]
        forge(self.ledger, NAME, HEAD, self._from_genesis(records))
        return {"R21"}, HEAD

    def r10_prior_is_no_link(self) -> Any:
        forge(self.ledger, NAME, HEAD, lambda record: record.update(prior="f" * 64))
        return {"R10", "R21"}, HEAD

    def r10_record_is_of_another_chain(self) -> Any:
        forge(self.ledger, NAME, HEAD, lambda record: record.update(chain="other"))
        return {"R05", "R10"}, HEAD

    def r11_prior_belief_is_another(self) -> Any:
        def edit(record: Record) -> None:
            record["prior_belief"] = "f" * 64

        forge(self.ledger, NAME, HEAD, edit)
        return {"R11"}, HEAD

    def r11_prior_belief_left_out(self) -> Any:
        def edit(record: Record) -> None:
            record["prior_belief"] = None

        forge(self.ledger, NAME, HEAD, edit)
        return {"R11"}, HEAD

    def r12_seed_was_chosen(self) -> Any:
        forge(self.ledger, NAME, HEAD, lambda record: record["sampler"].update(seed="42"))
        return {"R12"}, HEAD

    def r13_batch_counted_twice(self) -> Any:
        def edit(record: Record) -> None:
            record["batch"] = record_of(self.ledger, NAME, FIRST)["batch"]
            self._reseed(record)

        forge(self.ledger, NAME, HEAD, edit, files={Artifact.BATCH: self._run(FIRST).files[Artifact.BATCH]})
        return {"R13", "R14"}, HEAD  # the same batch has the same rows

    def r14_row_counted_twice(self) -> Any:
        batch = coins(self.declaration, 13, 3, k=7)

        def edit(record: Record) -> None:
            record["batch"] |= {"digest": batch.digest, "rows": batch.rows, "key_ranges": batch.key_ranges()}
            self._reseed(record)

        forge(self.ledger, NAME, HEAD, edit, files={Artifact.BATCH: self._parquet(13, 3, k=7)})
        return {"R14"}, HEAD

    def r15_gate_was_stricter(self) -> Any:
        forge(self.ledger, NAME, HEAD, lambda record: record["thresholds"].update(r_hat=1.001))
        return {"R15"}, HEAD

    def r15_refused_fit_passed(self) -> Any:
        def edit(record: Record) -> None:
            record["gate"] |= {"passed": True, "reasons": []}

        forge(self.ledger, NAME, QUARANTINED, edit)
        return {"R15", "R19"}, QUARANTINED

    def r15_passed_fit_was_quarantined(self) -> Any:
        forge(self.ledger, NAME, HEAD, lambda r: r["gate"].update(passed=False, reasons=["I said so"]))
        return {"R15", "R19"}, HEAD

    def r15_failed_attempt_was_edited(self) -> Any:
        def edit(record: Record) -> None:
            record["attempts"][0]["figures"]["r_hat_max"] = 1.2

        forge(self.ledger, NAME, HEAD, edit)
        return {"R15"}, HEAD

    def r15_attempts_left_out(self) -> Any:
        forge(self.ledger, NAME, HEAD, lambda record: record["attempts"].clear())
        return {"R15"}, HEAD

    def r15_certificate_beyond_its_limits(self) -> Any:
        def edit(record: Record) -> None:
            certificate = {"k_hat": 0.9, "k_hat_limit": 0.5, "efficiency": 0.9, "efficiency_limit": 0.4}
            record["sampler"] |= {"sampler": "lindley.approximation"} | certificate
            record["policy"]["sampler"] = "auto"

        forge(self.ledger, NAME, HEAD, edit)
        return {"R15"}, HEAD

    def r15_independent_draws_not_asked_for(self) -> Any:
        def edit(record: Record) -> None:
            certificate = {"k_hat": 0.1, "k_hat_limit": 0.5, "efficiency": 0.9, "efficiency_limit": 0.4}
            record["sampler"] |= {"sampler": "lindley.approximation"} | certificate

        forge(self.ledger, NAME, HEAD, edit)
        return {"R15"}, HEAD

    def r15_reason_for_nuts_left_out(self) -> Any:
        forge(self.ledger, NAME, HEAD, lambda record: record["policy"].update(sampler="auto"))
        return {"R15"}, HEAD

    def r16_budget_is_another(self) -> Any:
        forge(self.ledger, NAME, HEAD, lambda record: record["metrics"].update(budget=2 / 900))
        return {"R16"}, HEAD

    def r16_budget_left_out(self) -> Any:
        forge(self.ledger, NAME, HEAD, lambda record: record["metrics"].pop("budget"))
        return {"R16"}, HEAD

    def r16_trust_without_reason(self) -> Any:
        forge(self.ledger, NAME, HEAD, lambda record: record["posterior"].update(doubts=["a bad match"]))
        return {"R16"}, HEAD

    def r16_doubt_forgotten(self) -> Any:
        forge(self.ledger, NAME, HEAD, lambda record: record["metrics"].update(doubt=2))
        return {"R16"}, HEAD

    def r16_modes_lost_too_often(self) -> Any:
        forge(self.ledger, NAME, HEAD, lambda record: record["metrics"].update(modes_lost=2))
        return {"R16"}, HEAD

    def r16_score_improved(self) -> Any:
        forge(self.ledger, NAME, HEAD, lambda record: record["metrics"].update(log_score=-1.0))
        return {"R16"}, HEAD

    def r16_predictive_density_improved(self) -> Any:
        forge(self.ledger, NAME, HEAD, lambda record: record["metrics"].update(log_predictive=-1.0))
        return {"R16"}, HEAD

    def r16_trust_left_out(self) -> Any:
        forge(self.ledger, NAME, HEAD, lambda record: record["metrics"].pop("trusted"))
        return {"R16"}, HEAD

    def r16_number_of_batches_fitted_again_is_another(self) -> Any:
        forge(self.ledger, NAME, HEAD, lambda record: record["metrics"].update(replayed=1))
        return {"R16"}, HEAD

    def r16_more_matches_in_sight_than_there_are(self) -> Any:
        forge(self.ledger, NAME, HEAD, lambda record: record["hindsight"].update(in_sight=9))
        return {"R16"}, HEAD

    def r16_harm_of_other_coordinates(self) -> Any:
        forge(self.ledger, NAME, HEAD, lambda record: record["hindsight"]["unseen"].update(mean={"x": 0.1}))
        return {"R16"}, HEAD

    def r16_stated_error_below_drift(self) -> Any:
        forge(self.ledger, NAME, HEAD, lambda record: record["metrics"].update(drift=0.2, stated_error=0.1))
        return {"R16"}, HEAD

    def r16_unmeasured_matches_are_others(self) -> Any:
        forge(self.ledger, NAME, HEAD, lambda record: record["metrics"].update(unmeasured=2))
        return {"R16"}, HEAD

    def r16_unmeasured_match_has_a_stated_error(self) -> Any:
        forge(self.ledger, NAME, HEAD, lambda record: record["metrics"].update(unmeasured=1))
        return {"R16"}, HEAD

    def r16_audit_that_never_was(self) -> Any:
        audited = {"audited_error": 0.01, "audited_monte_carlo": 0.02, "audited_matches": 1}
        forge(self.ledger, NAME, HEAD, lambda record: record["metrics"].update(audited))
        return {"R16"}, HEAD

    def r16_monte_carlo_error_is_another(self) -> Any:
        forge(self.ledger, NAME, HEAD, lambda record: record["metrics"].update(monte_carlo_error=0.01))
        return {"R16"}, HEAD

    def r25_alarm_is_edited_away(self) -> Any:
        def edit(record: Record) -> None:
            record["monitor"]["state"]["statistics"]["pull of theta"]["wealth"][0]["0"] = -20_000.0

        forge(self.ledger, NAME, HEAD, edit)
        return {"R25"}, HEAD

    def r25_observation_is_another(self) -> Any:
        forge(self.ledger, NAME, HEAD, lambda record: record["monitor"]["observed"].update(conflict=0.1))
        return {"R25"}, HEAD

    def r25_observation_is_none(self) -> Any:
        forge(self.ledger, NAME, HEAD, lambda record: record.update(monitor=None))
        return {"R25"}, HEAD

    def r25_monitor_is_begun_anew(self) -> Any:
        def edit(record: Record) -> None:
            observed = Observation.of(record["monitor"]["observed"])
            record["monitor"] = watched({}, observed)

        forge(self.ledger, NAME, HEAD, edit)
        return {"R25"}, HEAD

    def r25_movement_is_not_said(self) -> Any:
        forge(self.ledger, NAME, HEAD, lambda record: record["metrics"].update(moving=1.0))
        return {"R25"}, HEAD

    def r17_constants_are_not_those_of_genesis(self) -> Any:
        forge(self.ledger, NAME, HEAD, lambda record: record["model"].update(constants={"scale": 2.0}))
        return {"R17"}, HEAD

    def r08_distances_are_of_other_coordinates(self) -> Any:
        forge(self.ledger, NAME, HEAD, lambda record: record["posterior"].update(distances={"gamma": 0.1}))
        return {"R08"}, HEAD

    def r08_moments_are_said_to_be_others(self) -> Any:
        forge(self.ledger, NAME, HEAD, lambda record: record["posterior"].update(moments="stein 3"))
        return {"R08"}, HEAD

    def r17_code_is_another(self) -> Any:
        code = self._run(HEAD).files[Artifact.MODEL].replace(b"Beta", b"Kumaraswamy")
        forge(self.ledger, NAME, HEAD, files={Artifact.MODEL: code})
        return {"R17"}, HEAD

    def r17_a_module_is_said_to_be_imported(self) -> Any:
        forge(
            self.ledger, NAME, HEAD, lambda record: record["model"]["imports"].update(modules={"a": "0" * 64})
        )
        return {"R17"}, HEAD

    def r17_an_archive_of_modules_is_there(self) -> Any:
        forge(self.ledger, NAME, HEAD, files={Artifact.MODULES: b"no archive"})
        return {"R17"}, HEAD

    def r17_code_is_no_python(self) -> Any:
        forge(self.ledger, NAME, HEAD, files={Artifact.MODEL: b"\xff def"})
        return {"R17"}, HEAD

    def r18_run_tag_changed(self) -> Any:
        self._run(FIRST).tags["lindley.batch"] = "0" * 64
        return {"R18"}, FIRST

    def r18_run_figure_changed(self) -> Any:
        self._run(SECOND).metrics["r_hat_max"] = 1.0
        return {"R18"}, SECOND

    def r18_run_figure_deleted(self) -> Any:
        del self._run(SECOND).metrics["k_hat"]
        return {"R18"}, SECOND

    def r27_place_of_the_runs_deleted(self) -> Any:
        self.ledger.homes[NAME] = dataclasses.replace(self.ledger.homes[NAME], deleted=True)
        return {"R27"}, None

    def r27_place_of_the_runs_renamed(self) -> Any:
        self.ledger.homes["another"] = self.ledger.homes.pop(NAME)
        return {"R27"}, None

    def r27_run_deleted(self) -> Any:
        self._run(SECOND).deleted = True
        return {"R27"}, SECOND

    def r19_alias_moved(self) -> Any:
        self.model.head = QUARANTINED
        return {"R19"}, HEAD

    def r20_version_from_nowhere(self) -> Any:
        def edit(record: Record) -> None:
            record.update(kind="import", previous="f" * 64, prior=digest(self._genesis()))
            record.update(prior_belief=None, batch=None)

        run = self._run(HEAD)
        number = self.ledger.register(NAME, self.model.versions[HEAD].run_id, {}, "")
        copied = dataclasses.replace(run, files=dict(run.files), tags=dict(run.tags))
        self.model.versions[number].run_id = "stray"
        self.ledger.runs["stray"] = copied
        forge(self.ledger, NAME, number, edit)
        return {"R20"}, number

    def r22_update_takes_a_batch_out(self) -> Any:
        gone = self.model.versions[FIRST].tags["lindley.record"]
        forge(self.ledger, NAME, HEAD, lambda record: record.update(retracted=[gone]))
        return {"R22"}, HEAD

    def r22_rows_were_left_out_for_a_link_that_is_none(self) -> Any:
        dropped = {"rows": 1, "digest": "0" * 64, "links": ["f" * 64]}
        forge(self.ledger, NAME, HEAD, lambda record: record["batch"].update(dropped=dropped))
        return {"R22"}, HEAD

    def r23_rollback_says_that_its_fit_was_better(self) -> Any:
        number = amendments.rollback(self.ledger, self.declaration, 2).version
        assert number is not None
        forge(self.ledger, NAME, number, lambda record: record["metrics"].update(k_hat=0.0))
        return {"R23"}, number

    def r24_branch_of_nowhere(self) -> Any:
        origin = {"chain": "other", "record": "f" * 64}
        self._set_genesis(canonical(parse(self._genesis()) | {"branch": origin}))
        return {"R10", "R19", "R20", "R24"}, None


#: Names of the cases.
CASES = sorted(name for name, _ in inspect.getmembers(Tamper, inspect.isfunction) if name[:1] == "r")
