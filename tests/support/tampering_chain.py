"""Changes that the rules on a chain as a whole are there to find."""

from __future__ import annotations

import dataclasses
from typing import Any

from lindley.ledger.record import Artifact, canonical, digest, genesis_record, parse
from tests.support.forging import Record, forge, record_of, replaced
from tests.support.tampering_tools import HEAD, NAME, QUARANTINED, SECOND, Tools


class ChainTampers(Tools):
    """One method per change, named by its rule: ``rNN_...``. Each returns (rules, version) to be found."""

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
        return {"R04", "R05", "R06", "R07", "R08", "R18", "R32"}, QUARANTINED

    def r19_alias_moved(self) -> Any:
        self.model.head = QUARANTINED
        return {"R19"}, HEAD

    def r20_version_from_nowhere(self) -> Any:
        def edit(record: Record) -> None:
            record.update(kind="import", previous="f" * 64, prior=digest(self._genesis()))
            record.update(prior_belief=None, batch=None)

        run = self._run(HEAD)
        head = self.model.versions[HEAD]
        number = self.ledger.register(NAME, head.run_id, {}, head.description)
        copied = dataclasses.replace(run, files=dict(run.files), tags=dict(run.tags))
        self.model.versions[number].run_id = "stray"
        self.ledger.runs["stray"] = copied
        forge(self.ledger, NAME, number, edit)
        return {"R20"}, number

    def r24_branch_of_nowhere(self) -> Any:
        origin = {"chain": "other", "record": "f" * 64}
        self._set_genesis(canonical(parse(self._genesis()) | {"branch": origin}))
        return {"R10", "R19", "R20", "R24"}, None

    def r27_place_of_the_runs_deleted(self) -> Any:
        self.ledger.homes[NAME] = dataclasses.replace(self.ledger.homes[NAME], deleted=True)
        return {"R27"}, None

    def r27_place_of_the_runs_renamed(self) -> Any:
        self.ledger.homes["another"] = self.ledger.homes.pop(NAME)
        return {"R27"}, None

    def r27_run_deleted(self) -> Any:
        self._run(SECOND).deleted = True
        return {"R27"}, SECOND
