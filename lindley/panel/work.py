"""What is done with one member in a link: where it starts, its rows, and the row that comes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lindley.batch.batch import Batch
from lindley.inference.members.result import MemberFit
from lindley.inference.members.task import MemberTask
from lindley.panel.key import MemberKey
from lindley.panel.row import ACCEPTED, QUARANTINED, WITHDRAWN, MemberRow, finite, state_of
from lindley.prior.belief import Belief
from lindley.prior.matched import MatchedPrior
from lindley.seeds import derive_seed

#: Where a fit starts, in words of the results.
MODEL, POPULATION, BELIEF = "model", "population", "belief"


@dataclass(frozen=True, kw_only=True)
class MemberWork:
    """One member that a link fits.

    Parameters
    ----------
    key
        Which member.
    batches
        Its batches that are fitted, oldest first; the last one is the newest.
    before
        Its row before the link; None for a new member.
    start
        The row whose belief the fit starts from; None for the model's own priors, or the population of a
        member that has no belief before. It is `before`, or an older one where batches are fitted again.
    own
        Whether the newest batch is the link's own, and the others are fitted again; in an amendment all are.
    links
        Numbers of the links whose batches these are.
    stated
        Content digest of its rows in the link's batch, where that is not the newest.
    """

    key: MemberKey
    batches: tuple[Batch, ...]
    before: MemberRow | None = None
    start: MemberRow | None = None
    own: bool = True
    links: tuple[int, ...] = ()
    stated: str | None = None

    @property
    def counted(self) -> str | None:
        """Content digest of its rows in the link's own batch; None where it has none there."""
        return self.newest.digest if self.own else self.stated

    @property
    def newest(self) -> Batch:
        """The newest batch."""
        return self.batches[-1]


@dataclass(frozen=True, kw_only=True)
class Common:
    """What all members of a link have in common.

    Parameters
    ----------
    link
        Number of the link.
    genesis, model
        Digests of the genesis record and of the model.
    population
        The prior of new members; None where they start from the model's own.
    """

    link: int
    genesis: str
    model: str
    population: MatchedPrior | None = field(default=None, repr=False)

    def task(self, work: MemberWork) -> MemberTask:
        """Return the task of a member's fit."""
        prior, _ = self._start(work)
        before = work.before.belief() if work.before is not None else None
        return MemberTask(
            key=(work.key.canonical.decode(),),
            batch=work.newest,
            seed=self.seed(work),
            prior=prior,
            earlier=work.batches[:-1],
            head=before if work.own and len(work.batches) > 1 else None,
            near=None if work.own else before,
            fresh=1 if work.own else len(work.batches),
        )

    def seed(self, work: MemberWork) -> int:
        """Return the seed of a member's fit; as in a single chain."""
        prior, _ = self._start(work)
        start = self.genesis if prior is None else _digest(prior)
        return derive_seed(start, work.counted or work.newest.digest, self.model)

    def row(self, work: MemberWork, fit: MemberFit) -> MemberRow:
        """Return a member's row after its fit."""
        before, (prior, start) = work.before, self._start(work)
        attempt = _stated(fit) | {
            "seed": str(self.seed(work)),
            "start": start,
            "started_from": None if prior is None else _digest(prior),
            "began": None if work.start is None else work.start.link,
            "before": None if before is None else before.link,
            "replayed": [number for number in work.links if number != self.link],
            "rows": sum(batch.rows for batch in work.batches),
        }
        passed = fit.passed and fit.belief is not None
        state = self._state(work, fit, start) if passed else (before.state if before is not None else None)
        kept = before.matched if before is not None else None
        return MemberRow(
            key=work.key,
            link=self.link,
            status=ACCEPTED if passed else QUARANTINED,
            prior=None if before is None else before.hash.hex(),
            batch=work.counted,
            matched=fit.matched if passed else kept,
            results=finite({"attempt": attempt, "belief": state}),
        )

    def _start(self, work: MemberWork) -> tuple[Belief | MatchedPrior | None, str]:
        """Return what a member's fit starts from, and a word for it."""
        belief = None if work.start is None else work.start.belief()
        if belief is not None:
            return belief, BELIEF
        without = work.before is None or work.before.matched is None
        if self.population is not None and without:
            return self.population, POPULATION
        return None, MODEL

    def _state(self, work: MemberWork, fit: MemberFit, start: str) -> dict[str, Any]:
        """Return what goes with the matched prior of a fit that passed."""
        if fit.belief is None:
            raise ValueError("a fit that passed has a belief")
        behind = work.start.state if work.start is not None else None
        counted = behind or {"batches": 0, "rows": 0}
        return state_of(fit.belief) | {
            "summary": fit.summary,
            "batches": counted["batches"] + len(work.batches),
            "rows": counted["rows"] + sum(batch.rows for batch in work.batches),
            "origin": {
                "start": None if work.start is None else work.start.link,
                "population": start == POPULATION,
                "links": list(work.links),
            },
        }


def _stated(fit: MemberFit) -> dict[str, Any]:
    """Return what a row states of a fit itself."""
    listed = {name: list(getattr(fit, name)) for name in ("reasons", "warnings", "doubts")}
    plain = (
        "passed", "error", "sampler", "settings", "certificate", "declined", "metrics", "distances",
    )  # fmt: skip
    return listed | {name: getattr(fit, name) for name in plain}


def withdrawn(before: MemberRow, link: int) -> MemberRow:
    """Return the row of a member that has no rows left after a link."""
    nothing = MemberFit(key=(), passed=False, reasons=("none of its rows counts any more",))
    where: dict[str, Any] = {"seed": "", "start": MODEL, "started_from": None, "before": before.link}
    where |= {"began": None, "replayed": [], "rows": 0}
    return MemberRow(
        key=before.key,
        link=link,
        status=WITHDRAWN,
        prior=before.hash.hex(),
        batch=None,
        matched=None,
        results={"attempt": _stated(nothing) | where, "belief": None},
    )


def _digest(prior: Belief | MatchedPrior) -> str:
    return prior.matched.digest if isinstance(prior, Belief) else prior.digest
