"""The trace of a link: an xarray DataTree in ArviZ's schema, and the summary table made from it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr
from arviz_stats.base import array_stats

from lindley.batch.batch import Batch
from lindley.inference.groups import assemble, draws_dataset, observed_data, rounded, storable
from lindley.inference.predictive import predictive_draws
from lindley.inference.sampling import Draws, Sampling
from lindley.model.coordinates import Coordinates
from lindley.model.graph import ModelGraph
from lindley.model.natural_scale import carried_values, element_labels, natural_scale
from lindley.model.priors import improper as improper_prior
from lindley.prior.matched import MatchedPrior
from lindley.report.numbers import QUANTILES
from lindley.report.omissions import Omissions
from lindley.target.problem import Problem
from lindley.target.quantities import MOST_ELEMENTS, kept_deterministics, observed_size

#: Draws of the posterior predictive that are kept, at most.
PREDICTIVE_DRAWS = 500
#: Numbers of the posterior predictive that are kept, at most: above 4,194 observed values each has fewer than
#: `PREDICTIVE_DRAWS`. Fewer than `_LEAST_PREDICTIVE` show nothing, and are left out.
PREDICTIVE_NUMBERS = 2**21
_LEAST_PREDICTIVE = 10
#: Deterministics of more elements than this are in the trace, but not in the summary.
SUMMARY_SIZE = 20
#: Columns that `lindley.inference.diagnostics.convergence` has of coordinates too.
_CONVERGENCE = ("r_hat", "ess_bulk", "ess_tail")
#: Draws of the belief before for labels that the newest batch does not have.
_EARLIER_DRAWS = 1000


def build(
    problem: Problem,
    draws: Draws,
    weights: np.ndarray,
    batch: Batch,
    *,
    prior: dict[str, np.ndarray] | None,
    predicted: Sequence[str],
    omissions: Omissions,
    seed: int,
) -> xr.DataTree:
    """Assemble the trace of a fit.

    Parameters
    ----------
    problem
        The step's model and compiled target.
    draws, weights
        The draws, and their weights [draw] in the match, chains one after the other.
    batch
        The newest batch.
    prior
        Draws of the belief before it, from the rehearsal; None where there are none.
    predicted
        Names of the observed variables that are drawn.
    omissions
        Takes a sentence for each description that fails.
    seed
        Seed of the predictive draws.

    Returns
    -------
    xarray.DataTree
        Groups posterior, sample_stats, coordinates, observed_data; prior and posterior_predictive where
        they can be drawn.
    """
    graph, model = problem.graph, problem.graph.model
    named, carried = draws.quantities.named, draws.quantities.carried
    small = {d.name for d in kept_deterministics(graph)}
    large = [d.name for d in model.deterministics if d.name not in small]
    if large:
        omissions.add(f"deterministics {', '.join(large)}", f"more than {MOST_ELEMENTS:,} elements each")
    lost = [name for name in sorted(small) if name not in draws.quantities.deterministics]
    if lost:
        omissions.add(f"deterministics {', '.join(lost)}", "one of them cannot be computed")
    # What is carried forward stays exact: the next prior is matched to it.
    shown = {name: rounded(value) for name, value in storable(named, omissions).items()}
    tree = assemble(graph, problem.coordinates, shown, carried, weights)
    stats = {name: rounded(value) for name, value in draws.stats.items()}
    groups = {"sample_stats": draws_dataset(model, stats)}
    with omissions.attempt("observed data"):
        groups["observed_data"] = observed_data(model)
    drawn = {"prior": prior}
    with omissions.attempt("posterior predictive draws"):
        drawn["posterior_predictive"] = _predicted(problem, draws, predicted, seed=seed)
    for name, values in drawn.items():
        if values:
            with omissions.attempt(f"{name.replace('_', ' ')} draws"):
                kept = storable(values, omissions)
                groups[name] = draws_dataset(model, {k: rounded(v[None]) for k, v in kept.items()})
    for name, dataset in groups.items():
        tree[name] = xr.DataTree(dataset)
    tree.attrs["batch"] = batch.digest
    return tree


def summary(
    tree: xr.DataTree,
    graph: ModelGraph,
    coordinates: Coordinates | None = None,
    omissions: Omissions | None = None,
    before: MatchedPrior | None = None,
    sampling: Sampling | None = None,
) -> pd.DataFrame:
    """Summarise parameters on their natural scale.

    Parameters
    ----------
    tree, graph
        The trace, and the newest batch's model.
    coordinates
        The belief's, which may have labels that this batch does not; by default the model's own.
    omissions
        Takes a sentence for each variable that cannot be summarised.
    before
        Matched prior of the belief before the newest batch; None where the model's own priors hold.
    sampling
        Draws whose R-hat and effective sample sizes are known already; those of parameters without a
        transform are taken from there.

    Returns
    -------
    pandas.DataFrame
        Index ``parameter`` (label, e.g. ``beta[x1]``); columns mean, sd, q05 to q95 (of the calibrated
        draws, see `lindley.prior.stein`), mcse_mean (of plain ones, an upper bound), r_hat,
        ess_bulk, ess_tail, prior_mean, prior_sd, sd_ratio (posterior/prior), shift ((mean - prior
        mean)/prior sd) and carried. The sd of an improper prior is infinite; prior columns are NaN where
        the prior was not drawn. Labels that the newest batch does not have come last.
    """
    posterior = tree["posterior"].dataset
    prior = tree["prior"].dataset if "prior" in tree.children else {}
    group = tree["coordinates"].dataset
    weights = group["weight"].values.ravel() if "weight" in group else None
    free = {variable.name for variable in graph.free}
    carried = set(graph.coordinates.variables)
    improper = {variable.name for variable in graph.free if improper_prior(variable.rv)}
    rows: dict[str, dict[str, float]] = {}
    omissions = omissions or Omissions()
    for name, array in posterior.data_vars.items():
        size = int(np.prod(array.shape[2:], dtype=int))
        if name not in free and size > SUMMARY_SIZE:
            continue
        unknown = before is None and name in improper
        with omissions.attempt(f"the summary of {name}"):
            values = array.values.reshape(*array.shape[:2], size)
            drawn = prior[name].values.reshape(-1, size) if name in prior else None
            for i, label in enumerate(element_labels(array)):
                converged = None if sampling is None else _known(values[..., i], label, sampling)
                row = _summary_row(values[..., i], None if drawn is None else drawn[:, i], weights, converged)
                rows[label] = row | {"carried": name in carried} | ({"prior_sd": np.inf} if unknown else {})
    if coordinates is not None and not set(coordinates.names) <= set(graph.coordinates.names):
        for label, values in carried_values(tree, coordinates, {}).items():
            if label not in rows:
                earlier = _drawn_before(label, coordinates, before)
                rows[label] = _summary_row(values, earlier, weights) | {"carried": True}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("parameter")


def _drawn_before(label: str, coordinates: Coordinates, before: MatchedPrior | None) -> np.ndarray | None:
    """Draw [draw] one element from the belief before; None where it does not have it."""
    names = [] if before is None else before.coordinates.names
    if before is None or label not in names:
        return None
    transform = next(block.transform for block in coordinates.blocks if label in block.names())
    u = before.map.sample(np.random.default_rng(1), _EARLIER_DRAWS)
    return natural_scale(transform, u[:, names.index(label)])


def weighted_row(values: np.ndarray, weights: np.ndarray | None) -> dict[str, float]:
    """Return mean, sd and quantiles of draws [draw], calibrated where there are weights [draw]."""
    if weights is None or np.ptp(weights) == 0:
        row = {"mean": float(values.mean()), "sd": float(values.std(ddof=1))}
        return row | {name: float(np.quantile(values, q)) for name, q in QUANTILES.items()}
    mean = float(weights @ values)
    row = {"mean": mean, "sd": float(np.sqrt(np.maximum(weights @ (values - mean) ** 2, 0.0)))}
    share = np.maximum(weights, 0.0)
    found = np.quantile(values, list(QUANTILES.values()), weights=share, method="inverted_cdf")
    return row | {name: float(value) for name, value in zip(QUANTILES, found, strict=True)}


def _known(values: np.ndarray, label: str, sampling: Sampling) -> dict[str, float] | None:
    """Return the convergence of draws [chain, draw] where they are those of the coordinate `label`."""
    if label not in sampling.names:
        return None
    place = sampling.names.index(label)
    if not np.array_equal(values, sampling.points[..., place]):
        return None
    return {name: float(getattr(sampling.convergence, name)[place]) for name in _CONVERGENCE}


def _convergence(values: np.ndarray) -> dict[str, float]:
    """Return R-hat and effective sample sizes of draws [chain, draw]."""
    return {
        "r_hat": float(array_stats.rhat(values)),
        "ess_bulk": float(array_stats.ess(values)),
        "ess_tail": float(array_stats.ess(values, method="tail", prob=(0.05, 0.95))),
    }


def _summary_row(
    values: np.ndarray,
    before: np.ndarray | None,
    weights: np.ndarray | None,
    converged: dict[str, float] | None = None,
) -> dict[str, float]:
    """Summarise draws [chain, draw] of one scalar beside draws [draw] of its prior."""
    values = _without_rounding(values)
    row = weighted_row(values.ravel(), weights)
    mean, sd = row["mean"], row["sd"]
    # Constants have no R-hat; a constant quantity is no failure of the sampler.
    moving = bool(sd > 0 and np.isfinite(sd))
    row["mcse_mean"] = float(array_stats.mcse(values)) if moving else 0.0
    row |= (converged or _convergence(values)) if moving else dict.fromkeys(_CONVERGENCE, np.nan)
    prior_mean = prior_sd = np.nan
    if before is not None and np.isfinite(before).all():
        prior_mean, prior_sd = float(before.mean()), float(before.std(ddof=1))
    known = bool(np.isfinite(prior_sd) and prior_sd > 0)
    row |= {"prior_mean": prior_mean, "prior_sd": prior_sd}
    row["sd_ratio"] = sd / prior_sd if known else np.nan
    row["shift"] = (mean - prior_mean) / prior_sd if known else np.nan
    return row


def _without_rounding(values: np.ndarray) -> np.ndarray:
    """Return draws [chain, draw]; of a constant the constant, where they differ by rounding only.

    Rounding leaves zeros of a computation among numbers near 1 at multiples of the spacing of doubles there.
    """
    largest, eps = float(np.abs(values).max()), float(np.finfo(float).eps)
    if not np.isfinite(largest):
        return values
    if largest < 16 * eps and not np.any((values / eps * 4) % 1):
        return np.zeros_like(values)
    if 0 < np.ptp(values) <= 16 * eps * largest:
        return np.full_like(values, float(f"{values.flat[0]:.14g}"))
    return values


def _predicted(problem: Problem, draws: Draws, names: Sequence[str], *, seed: int) -> dict[str, np.ndarray]:
    """Draw observed variables for an even selection of posterior draws, real ones in single precision.

    There are none where the batch has so many values that they would not fit `PREDICTIVE_NUMBERS`.
    """
    model = problem.graph.compilable.model
    observed = [rv for rv in model.observed_RVs if rv.name in names]
    values = draws.quantities.values
    flat = {name: value.reshape(-1, *value.shape[2:]) for name, value in values.items()}
    count = len(next(iter(flat.values())))
    most = min(PREDICTIVE_DRAWS, count, PREDICTIVE_NUMBERS // max(1, observed_size(model)))
    if not observed or most < min(_LEAST_PREDICTIVE, count):
        return {}
    chosen = np.linspace(0, count - 1, most).astype(int)
    rng = np.random.default_rng([seed, 2])
    found = predictive_draws(model, {k: v[chosen] for k, v in flat.items()}, rng=rng, variables=observed)
    return {name: np.asarray(v, "float32") if v.dtype == float else v for name, v in found.items()}
