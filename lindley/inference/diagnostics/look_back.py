"""Look back from a fit on the matches behind it: what they changed, and which batches to fit again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lindley.batch.batch import Batch
from lindley.inference.diagnostics.hindsight import View, chosen, kept_in_sight, shift, to_undo, view
from lindley.model.declaration import Declaration
from lindley.prior.belief import Belief
from lindley.target.prepare import prepare
from lindley.target.problem import Known, Problem
from lindley.timing import Phases


@dataclass(frozen=True)
class Segment:
    """How a belief came about: the belief that its fit started from, and the batches that it was fitted on.

    Parameters
    ----------
    start
        Returns the belief that the fit started from; None for genesis.
    batches
        Returns its batches, oldest first.
    count, rows
        Number of these batches, and of their rows.
    """

    start: Callable[[], Belief | None]
    batches: Callable[[], tuple[Batch, ...]]
    count: int
    rows: int


def look_back(
    problem: Problem,
    values: np.ndarray,
    widened: Belief,
    behind: Sequence[Segment],
    declaration: Declaration,
    batches: Sequence[Batch],
    constants: dict[str, float] | None,
    limit: float,
) -> tuple[int, View | None, str]:
    """Return how many segments behind a fit to fit again, and what hindsight sees of the matches there.

    With local variables or state the density of the carried draws is unknown: what the match did that the fit
    started from cannot be measured, nor where nothing may be fitted again. In a mixture with the genesis
    prior it has no meaning, and an imported trace has no batches behind it.

    Parameters
    ----------
    problem, values
        The target that was sampled, and its draws as `lindley.inference.diagnostics.stated.values_of` gives
        them.
    widened, behind
        The belief that the fit started from, widened by forgetting; and how it came about, newest first.
    declaration, constants
        The chain's.
    batches
        What was fitted.
    limit
        The largest shift that is accepted, in sds.

    Returns
    -------
    tuple
        Number of segments, newest first; the view, None where there is nothing to see or it cannot be seen;
        and why it cannot be, empty otherwise.
    """
    policy, behind = declaration.policy, behind[: widened.sight + 1]
    unknown = _unknown(problem) if behind else "no earlier batches are kept" * (policy.replay == 0)
    if policy.robust or unknown or not behind:
        return 0, None, "" if policy.robust else unknown
    values = values[chosen(len(values))]
    points = values[:, : problem.coordinates.size]
    ratios = _ratios(problem, widened, behind, declaration, constants, points)
    if ratios is None:
        return 0, None, "the rows of its batches do not add up, or their labels differ"
    window, rows = policy.window, [segment.rows for segment in behind]

    def holds(again: int) -> bool:
        count = sum(segment.count for segment in behind[:again]) + len(batches) - 1
        fitted = sum(rows[:again]) + sum(batch.rows for batch in batches)
        return window.stretches_to(fitted, count, apart=False)

    undo = to_undo(lambda m: shift(points, values, ratios[m:].sum(axis=0)), len(behind), holds, limit)
    if undo:
        return undo, None, ""
    kept = kept_in_sight(rows, window.sight)
    return 0, view(points, values, ratios, problem.coordinates.names, widened, kept), ""


def _unknown(problem: Problem) -> str:
    """Return what leaves the density of the carried draws unknown; empty where nothing does."""
    declaration, new = problem.graph.declaration, problem.layout.new_at
    if problem.local_names:
        names = [variable.name for variable in problem.graph.local] or ["those of earlier batches"]
        return f"local variables: {', '.join(names)}"
    if declaration.carry:
        return f"state: {', '.join(declaration.carry)}"
    names = [problem.coordinates.names[place] for place in new]
    return f"new labels: {', '.join(names[:3])}{' and others' if len(names) > 3 else ''}" if names else ""


def _ratios(
    problem: Problem,
    widened: Belief,
    behind: Sequence[Segment],
    declaration: Declaration,
    constants: dict[str, float] | None,
    points: np.ndarray,
) -> np.ndarray | None:
    """Return the log ratios [segment, draw] of what each match approximates to the match.

    None where one of them cannot be evaluated at the coordinates of this fit.
    """
    upper, found = widened, []
    for segment in behind:
        oldest = segment.start()
        older = prepare(
            oldest.matched if oldest is not None else None,
            segment.batches(),
            declaration,
            problem.coordinates.variables,
            Phases(),
            constants,
            Known(seen=widened.matched, adds_up=False if problem.apart else None),
        )
        apart = older.pooled == "terms" or bool(older.local_names)  # missing values of an earlier batch
        if apart or older.coordinates != problem.coordinates:
            return None
        with np.errstate(all="ignore"):
            used = upper.matched.ordered(problem.coordinates).map
            found.append(older.log_density(points) - used.log_density(points))
        if oldest is None:
            break
        upper = oldest
    return np.array(found)
