"""Fit members one by one: the result of each depends on its own task only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytensor

from lindley.errors import LindleyError, reason
from lindley.inference import sampling
from lindley.inference.approximation.independent import CERTIFICATE
from lindley.inference.info import Fit
from lindley.inference.members.result import APPROXIMATION, NUTS, MemberFit
from lindley.inference.members.summary import natural_draws, summary, thinned
from lindley.inference.members.task import MemberOptions, MemberTask
from lindley.inference.step import fit
from lindley.model.declaration import Declaration
from lindley.target.native_calls import one_thread


def fit_members(
    declaration: Declaration, tasks: Iterable[MemberTask], options: MemberOptions
) -> Iterator[MemberFit]:
    """Update the beliefs of members, each by itself, as a single chain would be.

    What is compiled serves all members of a process, however many rows each has. Nothing of one member's fit
    enters that of another: the same task gives the same result, bit by bit on the same machine, in whatever
    order and in however many processes members are fitted.

    Parameters
    ----------
    declaration
        The panel's, whose model is that of one member.
    tasks
        Taken one at a time, so that they need not be in memory together.
    options
        How all members are fitted.

    Yields
    ------
    MemberFit
        One for each task, in their order. A member whose fit raises an error has one that did not pass.
    """
    for task in tasks:
        yield fit_member(declaration, task, options)


def fit_member(declaration: Declaration, task: MemberTask, options: MemberOptions) -> MemberFit:
    """Update one member's belief; see `fit_members`."""
    try:
        data, how = options.data(declaration, task), options.options(declaration, task)
        # PyTensor notes at each variable where it was made: an eighth of the time of building a model.
        with one_thread(), pytensor.config.change_flags(traceback__limit=0):
            return _result(task, fit(task.start(), data, how), options)
    except Exception as error:  # a user's model may raise anything: the others go on
        text = str(error) if isinstance(error, LindleyError) else reason(error)
        return MemberFit(key=task.key, passed=False, reasons=(text,), error=type(error).__name__)


def _result(task: MemberTask, found: Fit, options: MemberOptions) -> MemberFit:
    """Return what is kept of a fit."""
    assessment = found.assessment
    natural, settings = natural_draws(found.sampled), found.provenance.sampler
    return MemberFit(
        key=task.key,
        passed=assessment.gate.passed,
        reasons=assessment.gate.reasons,
        warnings=assessment.gate.warnings,
        doubts=assessment.doubts,
        belief=found.belief,
        sampler=APPROXIMATION if settings["sampler"] == sampling.APPROXIMATION else NUTS,
        settings=settings,
        certificate={name: settings[name] for name in CERTIFICATE if name in settings},
        declined=settings.get("declined", ""),
        metrics=assessment.metrics,
        summary=summary(natural, found.sampled.calibration.weights),
        distances=assessment.distances,
        started_from=found.provenance.started_from,
        undone=found.undone,
        draws=thinned(natural, options.draws),
    )
