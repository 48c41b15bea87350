"""The steps from a plan to a registered link, and their order. Knows neither Prefect nor MLflow.

A flow gives Prefect tasks as steps, a command with ``--direct`` the functions of the core.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate

from flows.sequences import files
from flows.sequences.result import Result, Status
from lindley.errors import LostRace
from lindley.ledger.signer import signer_from_environment
from lindley.model.declaration import load_declaration
from lindley.report.text import counted
from lindley.workspace import Workspace

if TYPE_CHECKING:
    from lindley.arrivals.sources.protocol import Pulled, Source
    from lindley.batch.batch import Batch
    from lindley.ledger.protocol import Ledger
    from lindley.ledger.registration import Registered
    from lindley.ledger.writing import LoggedLink
    from lindley.model.declaration import Declaration
    from lindley.operations.panel.fit import PanelOutcome
    from lindley.operations.plan import Outcome, Plan

#: How often what lost the race for the head is planned and fitted again.
MOST_RACES = 8


def read_source(source: Source, since: dict[str, str] | None, folder: Path, root: Path) -> Pulled | None:
    """Read what may be new at a source; see `lindley.arrivals.sources.protocol.Source.read`."""
    return source.read(since, folder, root)


@dataclass(frozen=True, kw_only=True)
class Steps:
    """The steps of every sequence; see the functions of the same names in `lindley.operations.plan`.

    Parameters
    ----------
    open_ledger
        Opens the ledger of a workspace.
    read
        Reads a file as a batch.
    plan
        Calls a planner of the core (its first argument) with the arguments behind it.
    fit, log, register
        Fit a plan, log what came of it, register what was logged.
    draw
        Draws the plots of links that have none, by run id and record digest; called when everything is
        registered and archived, and never fails.
    announce
        Announces a registered version, with its plan and what was fitted: to automations, and to who decides.
    publish
        Shows a fitted plan to people, and the logged and registered link where there is one; called last.
    notify
        Takes one sentence for the log.
    pull
        Reads a source since a version into a folder; see `lindley.arrivals.sources.protocol.Source.read`.
    """

    open_ledger: Callable[[Workspace], Ledger]
    read: Callable[[Path, Declaration], Batch]
    plan: Callable[..., Plan]
    fit: Callable[[Plan], Outcome | PanelOutcome | None]
    log: Callable[[Ledger, Plan, Outcome | PanelOutcome | None], LoggedLink]
    register: Callable[[Ledger, LoggedLink], Registered]
    draw: Callable[[Ledger, Mapping[str, str]], object]
    announce: Callable[[Plan, Any, Registered], object]
    publish: Callable[[Plan, Outcome | PanelOutcome, LoggedLink | None, Registered | None], object]
    notify: Callable[[str], object]
    pull: Callable[[Source, dict[str, str] | None, Path, Path], Pulled | None] = read_source


def in_turn[**P](
    sequence: Callable[Concatenate[Steps, Workspace, str, P], Result],
) -> Callable[Concatenate[Steps, Workspace, str, P], Result]:
    """Let a sequence wait until no other process on this machine writes to its chain.

    It only saves work: see `flows.sequences.files.turn`.
    """

    @wraps(sequence)
    def run(steps: Steps, workspace: Workspace, chain: str, *given: P.args, **options: P.kwargs) -> Result:
        with files.turn(workspace, chain) as came:
            if not came:
                steps.notify(f"Another run on {chain} takes long; this one goes on beside it")
            return sequence(steps, workspace, chain, *given, **options)

    return run


def declared(workspace: Workspace, chain: str) -> Declaration:
    """Load a chain's declaration.

    Raises
    ------
    LindleyError
        If there is no such chain, or its model file cannot be loaded.
    KeyRefused
        If the environment names a key for signatures that cannot be used: before the fit, not after it.
    """
    found = load_declaration(chain, workspace.models)
    signer_from_environment()
    return found


@dataclass(frozen=True)
class Made:
    """What a plan came to: all is None but ledger and plan where nothing was to be done.

    `seconds` is what it took up to the registration.
    """

    ledger: Ledger
    plan: Plan
    outcome: Outcome | PanelOutcome | None = None
    logged: LoggedLink | None = None
    registered: Registered | None = None
    seconds: float | None = None

    @property
    def accepted(self) -> bool:
        """Whether there is a new head."""
        return self.registered is not None and self.registered.status == Status.ACCEPTED

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the gate refused the fit."""
        return tuple(self.outcome.gate.reasons) if self.outcome is not None else ()

    @property
    def fitted(self) -> int:
        """How many batches were fitted together; 0 where none was, or an earlier belief was taken."""
        return 0 if self.outcome is None else int(self.outcome.metrics.get("replayed", -1)) + 1

    @property
    def place(self) -> str:
        """What was registered, in words that follow "is"; empty where nothing was."""
        if self.registered is None:
            return ""
        chain, version = self.registered.chain, self.registered.version
        if self.accepted:
            return f"link {self.registered.link} of {chain} (version {version})"
        if self.registered.status == Status.CANDIDATE:
            decide = f"`lindley approve {chain} {version} --why TEXT`, or reject"
            return f"a candidate, version {version} of {chain}; the head does not move before {decide}"
        reasons = "; ".join(self.reasons) or "it failed the gate"
        return f"quarantined as version {version} of {chain}, the head did not move: {reasons}"


def make_link(
    steps: Steps,
    workspace: Workspace,
    declaration: Declaration,
    planner: Callable[..., Plan],
    *given: Any,
    register: bool = True,
    **options: Any,
) -> Made:
    """Open the ledger; plan, fit, log and register a link; again while other writers move the head first.

    Parameters
    ----------
    planner, given, options
        Makes the plan on the head as it is from the ledger, the declaration and these arguments.
    register
        Whether the fit becomes a link; without, it is only fitted.

    Raises
    ------
    LostRace
        After `MOST_RACES` attempts.
    """
    ledger = steps.open_ledger(workspace)
    for _ in range(MOST_RACES):
        plan = steps.plan(planner, ledger, declaration, *given, **options)
        if plan.noop is not None:
            return Made(ledger, plan)
        outcome = steps.fit(plan)
        if plan.joined and not plan.in_order and outcome is not None and not outcome.gate.passed:
            steps.notify(f"With {counted(len(plan.joined), 'quarantined batch', 'quarantined batches')} the "
                         "fit fails the gate; this is fitted without")  # fmt: skip
            plan = steps.plan(planner, ledger, declaration, *given, **options, join=())
            outcome = steps.fit(plan)
        for sentence in outcome.advice if outcome is not None else ():
            steps.notify(sentence)
        if not register:
            return Made(ledger, plan, outcome)
        try:
            logged = steps.log(ledger, plan, outcome)
            registered = steps.register(ledger, logged)
        except LostRace:
            registered = None
        if registered is not None and registered.status != "superseded":
            return Made(ledger, plan, outcome, logged, registered, plan.phases.total())
        steps.notify("Another writer moved the head first; this is planned again on the new head")
    raise LostRace(
        f"The race for the head of {declaration.name} was lost {MOST_RACES} times",
        expected="one writer per chain most of the time",
        found="a head that moved during every fit",
        todo="run it again when fewer writers are at work; nothing is lost",
    )


def finish(steps: Steps, made: Made, message: Callable[[Made], str], **more: Any) -> Result:
    """Return what a plan came to, after drawing the plots and publishing what was fitted.

    The plots are those of a new link, and of the head that it met.

    Parameters
    ----------
    message
        Returns the sentence for people where there was something to do.
    more
        Other fields of the result.
    """
    plan, registered = made.plan, made.registered
    if registered is not None:
        steps.announce(plan, made.outcome, registered)
    runs = {registered.run_id: registered.record_digest} if registered else {}
    if registered is not None or plan.noop is not None:
        # The head has no plots yet if its writer was killed before it drew them.
        runs |= {link.version.run_id: link.version.record for link in plan.chain.own[-1:]}
        steps.draw(made.ledger, runs)
    if made.outcome is not None:
        steps.publish(plan, made.outcome, made.logged, registered)
    return _result(made, message, **more)


def _result(made: Made, message: Callable[[Made], str], **more: Any) -> Result:
    plan, registered = made.plan, made.registered
    about = {"chain": plan.declaration.name, "kind": plan.kind} | more
    if plan.noop is not None:
        status = Status(plan.tried) if plan.tried else Status.HELD if plan.held else Status.UNCHANGED
        return Result(status=status, message=plan.noop, **about)
    notes = made.outcome.notes if made.outcome is not None else ()
    about = {"notes": notes} | about | {"reasons": made.reasons, "fitted": made.fitted}
    if made.outcome is not None:
        about["warnings"] = made.outcome.gate.warnings
        about.setdefault("metrics", dict(made.outcome.metrics))
    if registered is None:
        return Result(status=Status.AUDITED, message=message(made), **about)
    return Result(
        status=Status(registered.status),
        message=message(made),
        link=registered.link,
        version=registered.version,
        run_id=registered.run_id,
        record_digest=registered.record_digest,
        run_url=registered.run_url,
        version_url=registered.version_url,
        retracted=tuple(i.number for i in plan.retracted if i.number) if made.accepted else (),
        joined=tuple(i.version.origin for i in plan.joined) if made.accepted else (),
        **_seen(made),
        **about,
    )


def _seen(made: Made) -> dict[str, Any]:
    """Return what matters of a registered fit: sentences and seconds; nothing where none was made."""
    if made.outcome is None:
        return {}
    return {"highlights": made.outcome.highlights(made.seconds), "seconds": made.seconds}
