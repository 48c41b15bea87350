"""Forgetting: how much a belief is widened before each batch, and how that is chosen.

The discount of a group is fixed, follows from the elapsed time, or is the value of a grid under which the
earlier batches were predicted best: by the sum of their log predictive densities, each scored before the
batch was learned (Dawid 1984, JRSS A 147:278; West & Harrison 1997, section 6.3).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from lindley.batch.batch import Batch
from lindley.errors import DeclarationRefused
from lindley.inference.diagnostics.importance import around, log_integral
from lindley.model.declaration import Declaration
from lindley.model.graph import ModelGraph
from lindley.model.policy import REST, Forgetting
from lindley.model.priors import prior_coordinates
from lindley.prior.belief import Belief
from lindley.prior.matched import MatchedPrior
from lindley.target.problem import Problem

#: Draws of the model's own prior from which its sds are estimated.
_PRIOR_DRAWS = 2000


def discounts(declaration: Declaration, belief: Belief, batch: Batch) -> dict[str, float]:
    """Return the discount of each group that the policy forgets, before `belief` is updated with `batch`.

    Raises
    ------
    DeclarationRefused
        If the policy names a variable that is not carried, or a column without times.
    """
    known = (REST, *belief.matched.coordinates.variables)
    unknown = [name for name in declaration.policy.forget if name not in known]
    if unknown:
        raise DeclarationRefused(
            f"The policy of {declaration.name} forgets variables that are not carried",
            expected=f"some of {', '.join(known)}",
            found=", ".join(unknown),
            todo="correct the names in `policy.forget`",
        )
    return {name: _discount(group, name, belief, batch) for name, group in declaration.policy.forget.items()}


def _discount(group: Forgetting, name: str, belief: Belief, batch: Batch) -> float:
    if group.discount is not None:
        return group.discount
    if group.half_life is not None and group.time is not None:
        before = belief.forgetting.get("times", {}).get(group.time)
        if before is None:
            return 1.0
        elapsed = pd.Timestamp(newest(batch, group.time)) - pd.Timestamp(before)
        # For a batch that comes late the belief is not widened.
        return float(2.0 ** -max(elapsed / pd.Timedelta(group.half_life), 0.0))
    totals = _comparable(belief.forgetting.get("totals", {}).get(name, {}), group)
    # Without a score yet, and among equals, the discount that forgets least.
    return max(group.grid, key=lambda value: (totals.get(repr(value), 0.0), value))


def _comparable(totals: Mapping[str, float], group: Forgetting) -> Mapping[str, float]:
    """Return totals of a grid; none after a change of the grid: sums over other batches do not compare."""
    return totals if set(totals) == {repr(value) for value in group.grid} else {}


def newest(batch: Batch, column: str) -> str:
    """Return the newest time of a column, as text.

    Raises
    ------
    DeclarationRefused
        If the batch has no such column, or no time in it.
    """
    try:
        times = batch.frame()[column]
        if pd.api.types.is_numeric_dtype(times):
            # Pandas would read them as nanoseconds, and almost nothing would ever be forgotten.
            raise TypeError(f"numbers ({times.dtype}) without a unit")
        latest = pd.Timestamp(pd.to_datetime(times).max())
        if pd.isna(latest):
            raise ValueError("no time in it")
        return str(latest.isoformat())
    except (KeyError, ValueError, TypeError) as error:
        raise DeclarationRefused(
            f"The half-life cannot be measured by the column {column!r}",
            expected="a column of dates or times",
            found=f"{type(error).__name__}: {error}",
            todo="name another column in the policy's Forgetting, or give a fixed discount",
        ) from error


def widened(
    matched: MatchedPrior, found: Mapping[str, float], prior_sd_caps: Mapping[str, float] | None = None
) -> MatchedPrior:
    """Return a matched prior whose groups' covariances are divided by their discounts.

    Parameters
    ----------
    matched, found
        The belief, and discounts by group.
    prior_sd_caps
        Sd of the model's own prior by coordinate, in its units: no belief is widened beyond it. Where the
        batches hold no information about a coordinate, its belief would widen without end otherwise.
    """
    rest = found.get(REST, 1.0)
    by_coordinate = [found.get(b.name, rest) for b in matched.coordinates.blocks for _ in range(b.size)]
    factors = 1 / np.sqrt(np.array(by_coordinate))
    if prior_sd_caps and not np.all(factors == 1):
        sds = np.linalg.norm(matched.as_joint_normal().first.jacobian(np.zeros(len(factors))), axis=-1)
        caps = np.array([prior_sd_caps.get(name, np.inf) for name in matched.coordinates.names])
        factors = np.minimum(factors, np.maximum(caps / sds, 1.0))
    return matched if np.all(factors == 1) else matched.widened(factors)


def prior_sd_caps(graph: ModelGraph, belief: Belief | None, seed: int) -> dict[str, Any]:
    """Return the sd of the model's own prior for each coordinate that the chain has had so far.

    It is half the distance between the quantiles at 16% and 84%: the sd of a normal prior, and finite
    whatever the tails. Improper priors have none.

    Returns
    -------
    dict
        ``prior_sd_caps`` by coordinate, and ``prior_sd_caps_of``, the digest of the model that they belong
        to; empty where there are none.
    """
    before = belief.forgetting if belief else {}
    known: dict[str, float] = dict(before.get("prior_sd_caps", {}))
    names = graph.coordinates.names
    code = "" if graph.declaration.in_memory else graph.declaration.model_digest
    if set(names) <= set(known) and before.get("prior_sd_caps_of") == code:
        return {"prior_sd_caps": known, "prior_sd_caps_of": code}
    drawn = prior_coordinates(graph, size=_PRIOR_DRAWS, seed=seed)
    if drawn is not None:
        low, high = np.quantile(drawn[:, : len(names)], [0.16, 0.84], axis=0)
        known |= dict(zip(names, ((high - low) / 2).tolist(), strict=True))
    return {"prior_sd_caps": known, "prior_sd_caps_of": code} if known else {}


def kept_for_next(
    declaration: Declaration,
    belief: Belief | None,
    batch: Batch,
    scores: Mapping[str, Mapping[str, float]],
) -> dict[str, Any]:
    """Return what the next link's discounts depend on: newest times, and the grid's accumulated scores."""
    groups = declaration.policy.forget
    columns = {group.time for group in groups.values() if group.time is not None}
    known = belief.forgetting if belief else {}
    # A batch that comes late does not set the clock back.
    times = {c: max(newest(batch, c), known.get("times", {}).get(c, "")) for c in sorted(columns)}
    # A batch that cannot be scored leaves the totals as they were.
    totals = dict(known.get("totals", {}))
    for name, of_batch in scores.items():
        before = _comparable(totals.get(name, {}), groups[name])
        totals[name] = {value: before.get(value, 0.0) + score for value, score in of_batch.items()}
    return {name: kept for name, kept in (("times", times), ("totals", totals)) if kept}


def grid_scores(
    prior: Belief,
    widened_prior: MatchedPrior,
    found: Mapping[str, float],
    problem: Problem,
    matched: MatchedPrior,
    rng: np.random.Generator,
) -> dict[str, dict[str, float]]:
    """Return the log predictive density of the batch under each discount of each grid.

    Parameters
    ----------
    prior, widened_prior, found
        The belief before it was widened, the prior that was used, and the discounts that were.
    problem, matched
        The target that was sampled, and the prior matched to its draws.
    rng
        Source of the points.

    Notes
    -----
    The likelihood is evaluated once at points around the posterior; only the matched prior's density there
    differs between discounts. The prediction of a mixture's other component is the same for all: the whole
    target's integral less that of the matched component.
    """
    policy = problem.graph.declaration.policy
    grids = {name: group.grid for name, group in policy.forget.items() if group.grid}
    if not grids:
        return {}
    points, proposed = around(matched.map, rng)
    batch = problem.log_likelihood(points) - proposed
    before, caps = prior.matched.ordered(problem.coordinates), prior.forgetting.get("prior_sd_caps", {})

    def under(one: MatchedPrior) -> float:
        return log_integral(batch + one.map.log_density(points)) + float(np.log1p(-policy.robust))

    other = -np.inf
    if policy.robust:
        whole, own = log_integral(problem.log_density(points) - proposed), under(widened_prior)
        other = whole + float(np.log1p(-np.exp(own - whole))) if own < whole else -np.inf
    return {
        name: {
            repr(value): float(np.logaddexp(under(widened(before, {**found, name: value}, caps)), other))
            for value in values
        }
        for name, values in grids.items()
    }
