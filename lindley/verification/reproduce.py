"""Reproduce registered links by fitting them again: `lindley verify --reproduce`; rules V01 and V02.

The other rules recompute digests; only another fit shows whether the draws were really sampled. A link is
planned as it was then, on the chain as it was then, with the code that is stored beside it: **that code is
executed**. Nothing is written.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

import xarray as xr

from lindley.errors import FitFailed, LedgerCorrupt, LindleyError, UnknownLink
from lindley.inference.diagnostics.gate import Thresholds
from lindley.inference.sampling import CHANGED, FitSettings, Progress
from lindley.ledger.bundle import libraries
from lindley.ledger.chain import Chain, ChainLink, Version, records_of
from lindley.ledger.lineage import is_copy, maker_of, read_batches
from lindley.ledger.netcdf import draws_digest, read_trace
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import downloaded, fetch_listed, find_chain, read_record
from lindley.ledger.record import WITH_BATCH, Artifact, Kind, require_digest
from lindley.model.declaration import BRANCH_MARK, Declaration, load_stored
from lindley.operations.panel.fit import PanelOutcome, fit_panel
from lindley.operations.plan import Outcome, Plan, fit_plan
from lindley.operations.rebase import plan_rebase
from lindley.operations.retract import plan_correct, plan_retract
from lindley.operations.update import plan_update
from lindley.panel.reading import PanelReader
from lindley.verification.agreement import disagreements
from lindley.verification.rules import Report, Scope, findings, rule, sentences

#: What a view of a ledger must never do.
_WRITES = frozenset(
    {"claim", "package", "open_run", "upload", "close_run", "register", "set_head_hint", "set_challenger"}
)


class Result(StrEnum):
    """What fitting a link again gave.

    ``IDENTICAL``: the same draws, bit by bit. ``WITHIN``: other libraries, the same posterior.
    """

    IDENTICAL = "identical"
    WITHIN = "within Monte Carlo error"
    DIFFERS = "differs"
    NOT_REPRODUCIBLE = "not reproducible"


@dataclass(frozen=True)
class Reproduced:
    """A link that was fitted again, or could not be.

    Parameters
    ----------
    link, version
        Place in the chain and version number.
    detail
        Why it is not reproducible, or where it differs; empty for identical ones.
    failed
        Whether it is not reproducible because something is wrong, rather than by its kind.
    """

    link: int
    version: int
    result: Result
    detail: str = ""
    failed: bool = False


def reproduce_links(
    ledger: Ledger,
    name: str,
    links: Sequence[int] = (),
    *,
    bitwise: bool = True,
    progress: Callable[[int], Progress | None] = lambda _: None,
) -> Iterator[Reproduced]:
    """Fit links of a chain again and compare, one at a time.

    Parameters
    ----------
    ledger
        Where the chain is; only read.
    name
        Name of the chain.
    links
        Numbers of the links; all of them by default.
    bitwise
        Want the same bits where the recorded library versions are those installed. Another processor may
        round differently: without, such links are compared within Monte Carlo error too.
    progress
        Returns the callback of a link's fit by its number.

    Raises
    ------
    UnknownChain, UnknownLink
        If there is no such chain or link.
    """
    chain = find_chain(ledger, name)
    unknown = sorted(set(links) - {link.number for link in chain.links})
    if unknown:
        raise UnknownLink(
            f"{name} has no link {', '.join(map(str, unknown))}",
            expected=f"numbers from 1 to {len(chain.links)}",
            found=", ".join(map(str, unknown)),
            todo=f"run `lindley log {name}`",
        )
    for link in chain.links:
        if not links or link.number in links:
            yield _reproduce(ledger, name, chain, link, bitwise, progress(link.number))


def with_reproduced(report: Report, links: Sequence[Reproduced]) -> Report:
    """Add to a report the links that differ, and those that could not be fitted again."""
    found = [
        finding
        for item in links
        for finding in findings(Scope.REPRODUCE, item, link=item.link, version=item.version)
    ]
    return report.extended(sentences(Scope.REPRODUCE), found)


@rule(
    "V01",
    "the link's fit gives the recorded draws when it is made again",
    "draws, weights or metrics that were not sampled",
)
def same_draws(link: Reproduced) -> Iterator[str]:
    """Section 11.3 states when two fits agree."""
    if link.result == Result.DIFFERS:
        yield link.detail


@rule("V02", "the link can be fitted again", "code that does not load, settings or files that cannot be used")
def can_be_fitted(link: Reproduced) -> Iterator[str]:
    """Imports and copies have no fit of their own, which is no finding."""
    if link.failed:
        yield link.detail


def _reproduce(
    ledger: Ledger, name: str, chain: Chain, link: ChainLink, bitwise: bool, progress: Progress | None
) -> Reproduced:
    """Fit one link again; an error of Lindley on the way becomes the detail."""
    number, version = link.number, link.version.number
    why = _no_fit(chain, link)
    if why:
        return Reproduced(number, version, Result.NOT_REPRODUCIBLE, why)
    try:
        record = read_record(ledger, link)
        with tempfile.TemporaryDirectory(prefix="lindley-") as scratch:
            declaration = _stored_declaration(ledger, name, link, record, Path(scratch))
            view = cast("Ledger", _Before(ledger, name, chain, link))
            plan = _planned(view, declaration, chain, link, record)
            if plan.members is not None:
                result, detail = _compare_members(ledger, chain, link, fit_panel(plan))
            else:
                outcome = cast("Outcome", fit_plan(plan, progress=progress))
                result, detail = _compare(ledger, link, record, outcome, plan, bitwise)
    except LindleyError as error:
        return Reproduced(number, version, Result.NOT_REPRODUCIBLE, str(error), failed=True)
    return Reproduced(number, version, result, detail)


def _compare_members(
    ledger: Ledger, chain: Chain, link: ChainLink, outcome: PanelOutcome
) -> tuple[Result, str]:
    """Compare the leaves of a panel's link with those of its members fitted again."""
    held = PanelReader(ledger, chain).rows(link.number)
    wrong = [row for row in outcome.rows if row.hash != held[row.key.canonical.decode()].hash]
    if not wrong and len(held) == len(outcome.rows):
        return Result.IDENTICAL, ""
    named = ", ".join(f"[{row.key}]" for row in wrong[:3])
    return Result.DIFFERS, f"{len(wrong)} of {len(held)} leaves are others: {named}"


def _no_fit(chain: Chain, link: ChainLink) -> str:
    """Return why a link's belief comes from no fit of its own; empty where it does."""
    kind = link.version.kind
    if kind == Kind.IMPORT:
        return "its trace was sampled elsewhere"
    if is_copy(chain, link):
        return f"its belief is that of link {maker_of(chain, link).number}"
    return (
        "" if kind in (Kind.UPDATE, Kind.REBASE, Kind.RETRACT, Kind.CORRECT) else f"a link of kind {kind!r}"
    )


class _Before:
    """A ledger as it was before a link, that cannot be written to; see `Ledger` for the methods."""

    def __init__(self, ledger: Ledger, name: str, chain: Chain, link: ChainLink) -> None:
        self._ledger = ledger
        self._name = name
        # Planning takes what was quarantined on this head for something that was tried already, and waits for
        # decisions on candidates on it.
        tried = (link.version.previous, link.version.batch)
        refused = {v.number for v in chain.quarantined if (v.previous, v.batch) == tried}
        refused |= {v.number for v in chain.candidates if v.previous == link.version.previous}
        # What was approved was fitted when it became a candidate.
        fitted = [
            v.number for v in (*chain.candidates, *chain.quarantined) if v.record == link.version.candidate
        ]
        last = min([link.version.number, *fitted])
        self._versions = [
            version
            for version in ledger.versions(name)
            if version.number < last and version.number not in refused
        ]
        self._head = chain.links[link.number - 2].version.number if link.number > 1 else None

    def versions(self, chain: str, *, fresh: bool = True) -> list[Version]:
        return self._versions if chain == self._name else self._ledger.versions(chain, fresh=fresh)

    def head_hint(self, _chain: str) -> int | None:
        return self._head

    def challenger(self, _chain: str) -> int | None:
        return None

    def dead_runs(self, _chain: str) -> list[str]:
        return []

    def __getattr__(self, name: str) -> Any:
        if name in _WRITES:
            raise AttributeError(f"reproducing a link writes nothing, so it does not {name}")
        return getattr(self._ledger, name)


def _stored_declaration(
    ledger: Ledger, name: str, link: ChainLink, record: dict[str, Any], folder: Path
) -> Declaration:
    """Load the declaration from the code that is stored beside a link. Executes it."""
    what = f"The model code of link {link.number}"
    run_id = link.version.run_id
    file = fetch_listed(ledger, run_id, record, Artifact.MODEL, folder, what)
    declaration = load_stored(file, _modules(ledger, link, record, folder))
    require_digest(what, record["model"]["digest"], declaration.model_digest, "model digest")
    if name.startswith(declaration.name + BRANCH_MARK):
        declaration = replace(declaration, name=name)
    if declaration.name != name:
        raise LedgerCorrupt(
            f"The model code of link {link.number} is another chain's", expected=name, found=declaration.name
        )
    return declaration


def _modules(ledger: Ledger, link: ChainLink, record: dict[str, Any], folder: Path) -> Path | None:
    """Fetch the modules that a link's model imports; None where it imports none."""
    if Artifact.MODULES not in record["artifacts"]:
        return None
    what = f"The modules of link {link.number}"
    return fetch_listed(ledger, link.version.run_id, record, Artifact.MODULES, folder, what)


def _planned(
    view: Ledger, declaration: Declaration, chain: Chain, link: ChainLink, record: dict[str, Any]
) -> Plan:
    """Plan a link as it was planned then."""
    kind, thresholds = link.version.kind, _thresholds(record)
    settings = None if "panel" in record else _settings(record)
    batches = read_batches(view, declaration, [link] if kind in WITH_BATCH else [])
    gone = [chain.brought[taken].version.batch for taken in record["retracted"] if taken in chain.brought]
    if kind == Kind.REBASE:
        plan = plan_rebase(view, declaration, accept_model_change=True)
    elif kind == Kind.UPDATE:
        plan = plan_update(view, declaration, *batches, accept_model_change=True, join=record["joined"])
    elif kind == Kind.RETRACT:
        plan = plan_retract(view, declaration, gone, accept_model_change=True)
    else:
        plan = plan_correct(view, declaration, gone, *batches, accept_model_change=True)
    if plan.noop is not None or plan.previous != record["previous"] or not plan.fits:
        raise LedgerCorrupt(
            f"Link {link.number} cannot be planned again",
            expected=record["previous"],
            found=plan.noop or f"head {plan.previous[:12]}",
        )
    return replace(plan, settings=settings, thresholds=thresholds)


def _settings(record: dict[str, Any]) -> FitSettings:
    """Return the settings of the first attempt: the record has those of the attempt that was kept too."""
    places = {name: name for name in ("chains", "attempts", "ess")}
    places |= {name: f"first_{name}" for name in CHANGED}
    try:
        return FitSettings(**{name: record["sampler"][place] for name, place in places.items()})
    except (KeyError, TypeError, ValueError, FitFailed) as error:
        found = type(error).__name__
        raise LedgerCorrupt("The sampler settings cannot be read", expected="numbers", found=found) from error


def _thresholds(record: dict[str, Any]) -> Thresholds:
    try:
        return Thresholds(**record["thresholds"])
    except TypeError as error:
        wanted, found = "those of this version", str(error)[:200]
        raise LedgerCorrupt("The thresholds cannot be read", expected=wanted, found=found) from error


def _compare(
    ledger: Ledger,
    link: ChainLink,
    record: dict[str, Any],
    outcome: Outcome,
    plan: Plan,
    bitwise: bool,
) -> tuple[Result, str]:
    """Compare a fit with the recorded one."""
    held = _recorded_trace(ledger, link, record)
    others = {name for name, version in libraries().items() if record["libraries"].get(name) != version}
    if draws_digest(outcome.info.trace) == record["posterior"]["draws"]:
        wrong = [] if others else list(_other_results(record, outcome, plan))
        if wrong:
            return Result.DIFFERS, "the same draws, but another " + ", ".join(wrong)
        return Result.IDENTICAL, ""
    wrong = disagreements(held, outcome.info.trace)
    if wrong:
        return Result.DIFFERS, "; ".join(wrong[:5])
    if not others and bitwise:
        return Result.DIFFERS, (
            "the draws are not the recorded ones bit by bit, with the same libraries; they agree within "
            "Monte Carlo error, as they would on another processor"
        )
    if others:
        return Result.WITHIN, f"fitted with other versions of {', '.join(sorted(others))}"
    return Result.WITHIN, "not bit by bit"


def _recorded_trace(ledger: Ledger, link: ChainLink, record: dict[str, Any]) -> xr.DataTree:
    """Read a link's draws and check that they are the recorded ones."""
    with downloaded(ledger, link.version.run_id, Artifact.TRACE) as path:
        tree = read_trace(path)
    try:
        found = draws_digest(tree)
    except (KeyError, ValueError, TypeError) as error:
        found = type(error).__name__
    require_digest(f"The trace of link {link.number}", record["posterior"]["draws"], found)
    return tree


def _other_results(record: dict[str, Any], outcome: Outcome, plan: Plan) -> Iterator[str]:
    """Name what differs from the record although it follows from the same draws."""
    if outcome.belief.matched.digest != record["posterior"]["matched"]:
        yield "matched prior"
    if list(records_of(plan.settled(outcome.info.fit.undone).links)) != record["replayed"]:
        yield "list of batches fitted again"
    if outcome.gate.as_dict() != record["gate"]:
        yield "assessment of the gate"
    differing = sorted({name for name, _ in outcome.metrics.items() ^ record["metrics"].items()})
    if differing:
        yield f"value of {', '.join(differing[:5])}"
    if plan.structure != record["model"]["structure"]:
        yield "structure of the model"
    if outcome.info.not_drawn != record["model"]["not_drawn"]:
        yield "list of what cannot be drawn"
    if outcome.info.meaning.as_dict() != record["model"]["rows"]:
        yield "statement of whether rows add up"
