"""Changes that the rules on what a link counts are there to find."""

from __future__ import annotations

from typing import Any

from lindley.ledger.record import Artifact
from tests.support import amendments
from tests.support.fakes import coins
from tests.support.forging import Record, forge, record_of
from tests.support.tampering_tools import FIRST, HEAD, NAME, QUARANTINED, SECOND, Tools

#: Place of the head in the chain.
HEAD_LINK = 3
_SOURCE = {
    "kind": "snapshot",
    "address": "rows.csv",
    "version": {"etag": "b"},
    "since": None,
    "complete": True,
}


class CountingTampers(Tools):
    """One method per change, named by its rule: ``rNN_...``. Each returns (rules, version) to be found."""

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

    def r21_a_batch_joins_that_was_not_fitted(self) -> Any:
        joined = [self.model.versions[QUARANTINED].tags["lindley.record"]]
        forge(self.ledger, NAME, HEAD, lambda record: record.update(joined=joined))
        return {"R21"}, HEAD

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

    def r22_an_update_takes_a_link_out(self) -> Any:
        gone = [self.model.versions[SECOND].tags["lindley.record"]]
        forge(self.ledger, NAME, HEAD, lambda record: record.update(retracted=gone))
        return {"R22"}, HEAD

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

    def r26_a_link_joins_again(self) -> Any:
        joined = [self.model.versions[SECOND].tags["lindley.record"]]
        forge(self.ledger, NAME, HEAD, lambda record: record.update(joined=joined))
        return {"R26"}, HEAD

    def r26_a_version_joins_that_does_not_exist(self) -> Any:
        forge(self.ledger, NAME, HEAD, lambda record: record.update(joined=["0" * 64]))
        return {"R26"}, HEAD

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
