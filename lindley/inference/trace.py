"""The trace of a link: an xarray DataTree in ArviZ's schema, and the summary table made from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from arviz_stats.base import array_stats
from pytensor.graph.basic import Variable
from pytensor.graph.traversal import ancestors

from lindley.batch.batch import Batch
from lindley.inference.predictive import predictive_draws
from lindley.inference.sampling import Draws
from lindley.model import graph as model_graph
from lindley.model.coordinates import Coordinates
from lindley.model.graph import ModelGraph
from lindley.model.natural_scale import carried_values, element_labels
from lindley.prior.matched import MatchedPrior
from lindley.report.numbers import QUANTILES
from lindley.target.problem import Problem

#: Draws of the prior and of the posterior predictive that are kept.
PRIOR_DRAWS = 1000
PREDICTIVE_DRAWS = 500
#: Deterministics of more elements than this are in the trace, but not in the summary.
SUMMARY_SIZE = 20


def build(
    problem: Problem,
    draws: Draws,
    weights: np.ndarray,
    batch: Batch,
    *,
    before: MatchedPrior | None,
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
    before
        Matched prior of the belief before it; None where the model's own priors hold.
    seed
        Seed of the prior and predictive draws.

    Returns
    -------
    xarray.DataTree
        Groups posterior, sample_stats, coordinates, observed_data; prior and posterior_predictive where
        they can be drawn.
    """
    graph, model = problem.graph, problem.graph.model
    named, carried = draws.quantities.named, draws.quantities.carried
    tree = assemble(graph, problem.coordinates, named, carried, weights)
    groups = {"sample_stats": _dataset(model, draws.stats), "observed_data": _observed(model)}
    drawn = {
        "prior": prior_draws(problem, before, seed=seed),
        "posterior_predictive": _predicted(problem, draws, seed=seed),
    }
    groups |= {
        name: _dataset(model, {k: v[None] for k, v in values.items()})
        for name, values in drawn.items()
        if values
    }
    for name, dataset in groups.items():
        tree[name] = xr.DataTree(dataset)
    tree.attrs["batch"] = batch.digest
    return tree


def assemble(
    graph: ModelGraph,
    coordinates: Coordinates,
    values: dict[str, np.ndarray],
    carried: np.ndarray,
    weights: np.ndarray | None = None,
) -> xr.DataTree:
    """Return a trace with the groups posterior and coordinates.

    Parameters
    ----------
    graph, values
        The model, for dims and labels, and natural-scale draws [chain, draw, ...] by name.
    coordinates, carried
        Draws [chain, draw, coordinate] that the next link's prior is matched to, and their coordinates.
    weights
        Weights [draw] of these draws in the match, chains one after the other; equal ones by default.
    """
    group = xr.Dataset(
        {"u": (("chain", "draw", "coordinate"), carried)},
        coords={
            "chain": np.arange(carried.shape[0]),
            "draw": np.arange(carried.shape[1]),
            "coordinate": coordinates.names,
        },
    )
    if weights is not None:
        group["weight"] = (("chain", "draw"), weights.reshape(carried.shape[:2]))
    posterior = _dataset(graph.model, values)
    return xr.DataTree.from_dict({"/posterior": posterior, "/coordinates": group})


def prior_draws(
    problem: Problem, before: MatchedPrior | None, *, seed: int, size: int = PRIOR_DRAWS
) -> dict[str, np.ndarray] | None:
    """Draw the carried variables from the belief before the batch; None when a genesis prior is improper.

    Parameters
    ----------
    before
        That belief's matched prior; None where the model's own priors hold. Elements that it does not
        have are drawn from the model's own prior given the others.

    Returns
    -------
    dict or None
        Arrays [draw, ...] by name: carried variables and, when nothing is local or new, deterministics.
    """
    rng = np.random.default_rng([seed, 1])
    graph = problem.graph
    names = graph.coordinates.names
    known = names if before is None else before.coordinates.names
    new = np.array([name not in set(known) for name in names])
    if before is None:
        u = model_graph.prior_coordinates(graph, size=size, seed=int(rng.integers(2**31)))
        if u is None:
            return None
    else:
        u = np.zeros((size, len(names)))
        place = [known.index(name) for name in np.array(names)[~new]]
        u[:, ~new] = before.map.forward(rng.standard_normal((size, len(known))))[:, place]
    drawn = problem.quantities(u[:, : len(names)])
    found = {variable.name: drawn.values[variable.name] for variable in graph.carried}
    if not graph.local and not new.any():
        found |= drawn.deterministics
    return _with_new_elements(graph, found, new, rng) if new.any() else found


def _with_new_elements(
    graph: ModelGraph, values: dict[str, np.ndarray], new: np.ndarray, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Draw the elements that are `new` [coordinate] from the model's own prior given the others."""
    found, start = dict(values), 0
    for variable in graph.carried:
        size = variable.block.size
        mask = new[start : start + size].reshape(variable.block.value_shape)
        start += size
        if mask.any():
            given = {name: value for name, value in found.items() if name != variable.name}
            drawn = predictive_draws(graph.model, given, rng=rng, variables=[variable.rv])[variable.name]
            found[variable.name] = np.where(mask, drawn, found[variable.name])
    return found


def likelihood_text(model: Any) -> dict[str, str]:
    """Return each observed variable's distribution in words, e.g. ``Normal(f(beta), sigma)``."""
    return {rv.name: _words(rv) for rv in model.observed_RVs}


def genesis_text(graph: ModelGraph) -> dict[str, dict[str, str]]:
    """Return the model's own priors in words: ``genesis_prior`` and ``genesis_hyperprior`` by variable.

    A hyperprior is the prior of a variable that another free variable's prior depends on.
    """
    rvs = [variable.rv for variable in graph.free]
    parents = {parent for rv in rvs for parent in ancestors([rv]) if parent is not rv}
    texts: dict[str, dict[str, str]] = {"genesis_prior": {}, "genesis_hyperprior": {}}
    for rv in rvs:
        texts["genesis_hyperprior" if rv in parents else "genesis_prior"][rv.name] = _words(rv)
    return texts


def _words(rv: Variable) -> str:
    """Return a variable's distribution in words, without its name."""
    return str(rv.str_repr()).partition(" ~ ")[2]


def summary(tree: xr.DataTree, graph: ModelGraph, coordinates: Coordinates | None = None) -> pd.DataFrame:
    """Summarise parameters on their natural scale.

    Parameters
    ----------
    tree, graph
        The trace, and the newest batch's model.
    coordinates
        The belief's, which may have labels that this batch does not; by default the model's own.

    Returns
    -------
    pandas.DataFrame
        Index ``parameter`` (label, e.g. ``beta[x1]``); columns mean, sd, q05 to q95 (of the calibrated
        draws, see `lindley.prior.stein`), mcse_mean (of plain ones, an upper bound), r_hat,
        ess_bulk, ess_tail, prior_mean, prior_sd, sd_ratio (posterior/prior), shift ((mean - prior
        mean)/prior sd) and carried. Prior columns are NaN where the prior is improper, and for labels
        that the newest batch does not have; these come last.
    """
    posterior = tree["posterior"].dataset
    prior = tree["prior"].dataset if "prior" in tree.children else {}
    group = tree["coordinates"].dataset
    weights = group["weight"].values.ravel() if "weight" in group else None
    free = {variable.name for variable in graph.free}
    carried = set(graph.coordinates.variables)
    rows: dict[str, dict[str, float]] = {}
    for name, array in posterior.data_vars.items():
        size = int(np.prod(array.shape[2:], dtype=int))
        if name not in free and size > SUMMARY_SIZE:
            continue
        values = array.values.reshape(*array.shape[:2], size)
        before = prior[name].values.reshape(-1, size) if name in prior else None
        for i, label in enumerate(element_labels(array)):
            row = _summary_row(values[..., i], None if before is None else before[:, i], weights)
            rows[label] = row | {"carried": name in carried}
    if coordinates is not None and not set(coordinates.names) <= set(graph.coordinates.names):
        for label, values in carried_values(tree, coordinates, {}).items():
            if label not in rows:
                rows[label] = _summary_row(values, None, weights) | {"carried": True}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("parameter")


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


def _summary_row(
    values: np.ndarray, before: np.ndarray | None, weights: np.ndarray | None
) -> dict[str, float]:
    """Summarise draws [chain, draw] of one scalar beside draws [draw] of its prior."""
    row = weighted_row(values.ravel(), weights)
    mean, sd = row["mean"], row["sd"]
    # Constants have no R-hat; a constant quantity is no failure of the sampler.
    moving = bool(sd > 0 and np.isfinite(sd))
    row["mcse_mean"] = float(array_stats.mcse(values)) if moving else 0.0
    row["r_hat"] = float(array_stats.rhat(values)) if moving else np.nan
    row["ess_bulk"] = float(array_stats.ess(values)) if moving else np.nan
    row["ess_tail"] = float(array_stats.ess(values, method="tail", prob=(0.05, 0.95))) if moving else np.nan
    prior_mean = prior_sd = np.nan
    if before is not None and np.isfinite(before).all():
        prior_mean, prior_sd = float(before.mean()), float(before.std(ddof=1))
    known = bool(np.isfinite(prior_sd) and prior_sd > 0)
    row |= {"prior_mean": prior_mean, "prior_sd": prior_sd}
    row["sd_ratio"] = sd / prior_sd if known else np.nan
    row["shift"] = (mean - prior_mean) / prior_sd if known else np.nan
    return row


def _dataset(
    model: Any, values: dict[str, np.ndarray], sample_dims: tuple[str, ...] = ("chain", "draw")
) -> xr.Dataset:
    """Attach the model's dims and labels to arrays [*sample_dims, ...]."""
    variables, coords = {}, {}
    for name, value in values.items():
        shape = value.shape[len(sample_dims) :]
        named = model.named_vars_to_dims.get(name) or (None,) * len(shape)
        dims = tuple(dim or f"{name}_dim_{i}" for i, dim in enumerate(named))
        variables[name] = (sample_dims + dims, value)
        for dim, length in zip(dims, shape, strict=True):
            labels = model.coords.get(dim)
            coords[dim] = np.asarray(range(length) if labels is None else labels)
    for i, dim in enumerate(sample_dims):
        coords[dim] = np.arange(next(iter(values.values())).shape[i])
    return xr.Dataset(variables, coords={dim: _plain(labels) for dim, labels in coords.items()})


def _plain(labels: np.ndarray) -> np.ndarray:
    """Return labels as numbers, dates or text, the types that files can hold."""
    return labels.astype(str) if labels.dtype.kind in "OUS" else labels


def _observed(model: Any) -> xr.Dataset:
    """Return the observed values."""
    values = {}
    for rv in model.observed_RVs:
        value = model.rvs_to_values[rv]
        held = value.get_value() if hasattr(value, "get_value") else getattr(value, "data", None)
        if held is None:
            held = value.eval(mode="FAST_COMPILE")
        values[rv.name] = np.asarray(held)
    return _dataset(model, values, ())


def _predicted(problem: Problem, draws: Draws, *, seed: int) -> dict[str, np.ndarray]:
    """Draw the observed variables for an even selection of posterior draws."""
    values = draws.quantities.values
    flat = {name: value.reshape(-1, *value.shape[2:]) for name, value in values.items()}
    count = len(next(iter(flat.values())))
    chosen = np.linspace(0, count - 1, min(PREDICTIVE_DRAWS, count)).astype(int)
    rng = np.random.default_rng([seed, 2])
    return predictive_draws(problem.graph.model, {k: v[chosen] for k, v in flat.items()}, rng=rng)
