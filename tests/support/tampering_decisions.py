"""Ways to tamper with what persons decided."""

from __future__ import annotations

from typing import Any

from lindley.operations.approval.decide import plan_decision
from tests.support.fakes import append, coins, done
from tests.support.forging import forge
from tests.support.tampering_tools import HEAD, NAME, QUARANTINED, Tools


class DecisionTampers(Tools):
    """Changes of candidates and decisions; see `tests.support.tampering.Tamper`."""

    def _approved(self) -> int:
        """Approve a fit that the gate refused; return the version of the link."""
        append(self.ledger, self.declaration, coins(self.declaration, 60, k=6), passed=False)
        number = max(self.model.versions)
        decided = plan_decision(
            self.ledger, self.declaration, str(number), approve=True, who="Ann", why="it is right"
        )
        version = done(self.ledger, decided).version
        assert version == number + 1
        return version

    def r30_another_approved(self) -> Any:
        number = self._approved()
        forge(self.ledger, NAME, number, lambda record: record["decision"].update(who=" "))
        return {"R30"}, number

    def r30_approval_of_no_candidate(self) -> Any:
        number = self._approved()
        gone = self.model.versions[QUARANTINED].tags["lindley.record"]
        forge(self.ledger, NAME, number, lambda record: record["decision"].update(candidate=gone))
        return {"R30"}, number

    def r30_more_was_approved_than_was_asked(self) -> Any:
        number = self._approved()
        forge(self.ledger, NAME, number, lambda record: record["gate"].update(reasons=["a smaller one"]))
        return {"R30"}, number

    def r30_rejection_of_a_link(self) -> Any:
        """A rejection that names a link has no effect, and is found."""
        number = self._approved()
        named = self.model.versions[HEAD].tags["lindley.record"]
        decision = {"candidate": named, "verdict": "rejected", "who": "Ann", "why": "no"}
        forge(self.ledger, NAME, number, lambda record: record.update(decision=decision))
        return {"R30", "R19"}, number

    def r05_link_is_said_to_be_a_decision(self) -> Any:
        """It then decides on what is no candidate, and loses its place."""
        self.model.versions[HEAD].tags["lindley.candidate"] = "0" * 64
        return {"R05", "R19"}, HEAD

    def r31_candidate_made_a_link(self) -> Any:
        """Its tag says that it was accepted; the record, that a person has to approve it."""
        forge(self.ledger, NAME, HEAD, lambda record: record["policy"].update(approve="always"))
        self.model.versions[HEAD].tags["lindley.status"] = "accepted"
        return {"R05", "R31"}, HEAD
