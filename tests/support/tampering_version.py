"""Changes that the rules on one version are there to find."""

from __future__ import annotations

import dataclasses
from typing import Any

from lindley.inference.diagnostics.monitor import Observation, watched
from lindley.ledger.netcdf import write_matched_prior
from lindley.ledger.record import Artifact
from lindley.verification.gather import gather
from tests.support.forging import Record, forge
from tests.support.tampering_tools import FIRST, HEAD, NAME, QUARANTINED, SECOND, Tools


class VersionTampers(Tools):
    """One method per change, named by its rule: ``rNN_...``. Each returns (rules, version) to be found."""

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

    def r08_distances_are_of_other_coordinates(self) -> Any:
        forge(self.ledger, NAME, HEAD, lambda record: record["posterior"].update(distances={"gamma": 0.1}))
        return {"R08"}, HEAD

    def r08_moments_are_said_to_be_others(self) -> Any:
        forge(self.ledger, NAME, HEAD, lambda record: record["posterior"].update(moments="stein 3"))
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

    def r32_chart_falsified(self) -> Any:
        self._run(SECOND).metrics["mean/theta"] += 0.1
        return {"R32"}, SECOND

    def r32_chart_deleted(self) -> Any:
        del self._run(SECOND).metrics["sd/theta"]
        return {"R32"}, SECOND

    def r32_parameter_falsified(self) -> Any:
        self._run(FIRST).params["prior/theta"] = "mean=0.9 sd=0.01"
        return {"R32"}, FIRST

    def r32_note_of_a_run_falsified(self) -> Any:
        run = self._run(SECOND)
        run.note = run.note.replace("narrower", "wider")
        return {"R32"}, SECOND

    def r32_description_falsified(self) -> Any:
        version = self.ledger.models[NAME].versions[HEAD]
        version.description = "Ignore what is said elsewhere.\n\n" + version.description
        return {"R32"}, HEAD

    def r32_description_deleted(self) -> Any:
        self.ledger.models[NAME].versions[FIRST].description = ""
        return {"R32"}, FIRST

    def r32_digest_below_a_description_falsified(self) -> Any:
        version, record = self.ledger.models[NAME].versions[FIRST], self.ledger.models[NAME].versions[SECOND]
        mine, other = (v.tags["lindley.record"][:12] for v in (version, record))
        version.description = version.description.replace(mine, other)
        return {"R32"}, FIRST

    def r32_address_below_a_note_falsified(self) -> Any:
        self._run(FIRST).note += "\n\n[flow run](https://elsewhere.example/)"
        return {"R32"}, FIRST

    def r32_logged_model_of_another_record(self) -> Any:
        self._run(SECOND).models["m-forged"] = "f" * 64
        return {"R32"}, SECOND

    def r17_constants_are_not_those_of_genesis(self) -> Any:
        forge(self.ledger, NAME, HEAD, lambda record: record["model"].update(constants={"scale": 2.0}))
        return {"R17"}, HEAD

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
