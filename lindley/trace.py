"""The trace of a link: an xarray DataTree in ArviZ's schema, and the summary table made from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from arviz_stats.base import array_stats
from pytensor.graph.basic import Variable
from pytensor.graph.traversal import ancestors

from lindley.batch import Batch
from lindley.fit import Draws, evaluate
from lindley.model_graph import ModelGraph, draw
from lindley.predictive import predictive_draws
from lindley.problem import Problem

#: Draws of the prior and of the posterior predictive that are kept.
PRIOR_DRAWS = 1000
PREDICTIVE_DRAWS = 500
#: Deterministics of more elements than this are kept in the trace and left out of the summary.
SUMMARY_SIZE = 20

QUANTILES = {"q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95}


def build(problem: Problem, draws: Draws, passing: np.ndarray, batch: Batch, *, seed: int) -> xr.DataTree:
    """Assemble the trace of a fit.

    Parameters
    ----------
    problem
        The step's model and compiled target.
    draws
        What the sampler returned.
    passing
        Draws [chain, draw, coordinate] that the next link's prior is matched to.
    batch
        The batch, for the index of observed rows.
    seed
        Seed of the prior and predictive draws.

    Returns
    -------
    xarray.DataTree
        Groups posterior, sample_stats, coordinates, observed_data; prior and posterior_predictive where
        they can be drawn.
    """
    graph, model = problem.graph, problem.graph.model
    tree = assemble(graph, _named(draws.quantities), passing)
    groups = {
        "sample_stats": _dataset(model, draws.stats, ("chain", "draw")),
        "observed_data": _observed(model),
    }
    prior = prior_draws(problem, seed=seed)
    if prior is not None:
        groups["prior"] = _dataset(model, {k: v[None] for k, v in prior.items()}, ("chain", "draw"))
    predicted = _predicted(problem, draws, seed=seed)
    if predicted:
        groups["posterior_predictive"] = _dataset(
            model, {k: v[None] for k, v in predicted.items()}, ("chain", "draw")
        )
    for name, dataset in groups.items():
        tree[name] = xr.DataTree(dataset)
    tree.attrs["batch"] = batch.digest
    return tree


def assemble(graph: ModelGraph, values: dict[str, np.ndarray], passing: np.ndarray) -> xr.DataTree:
    """Return a trace with the groups posterior and coordinates.

    Parameters
    ----------
    graph
        The model, for dims and labels.
    values
        Natural-scale draws [chain, draw, ...] by name.
    passing
        Draws [chain, draw, coordinate] that the next link's prior is matched to.
    """
    coordinates = xr.Dataset(
        {"u": (("chain", "draw", "coordinate"), passing)},
        coords={
            "chain": np.arange(passing.shape[0]),
            "draw": np.arange(passing.shape[1]),
            "coordinate": graph.coordinates.names,
        },
    )
    posterior = _dataset(graph.model, values, ("chain", "draw"))
    return xr.DataTree.from_dict({"/posterior": posterior, "/coordinates": coordinates})


def prior_draws(problem: Problem, *, seed: int, size: int = PRIOR_DRAWS) -> dict[str, np.ndarray] | None:
    """Draw the carried variables from the prior of the step; None when a genesis prior is improper.

    Returns
    -------
    dict or None
        Arrays [draw, ...] by name: carried variables and, when nothing is local, deterministics.
    """
    rng = np.random.default_rng([seed, 1])
    graph = problem.graph
    if problem.prior is not None:
        x = rng.standard_normal((size, graph.coordinates.size))
    else:
        u = _genesis_draws(graph, rng, size)
        if u is None:
            return None
        x = u
    local = np.zeros((size, graph.size - graph.coordinates.size))
    quantities = evaluate(problem.engine, np.concatenate([x, local], axis=1), problem.arguments)
    names = {f"value:{variable.name}" for variable in graph.carried}
    if not graph.local:
        names |= {key for key in quantities if key.startswith("deterministic:")}
    return _named({key: value for key, value in quantities.items() if key in names})


def proper(model: Any, genesis: bool) -> bool:
    """Whether the prior of a step integrates to one, so that its predictive density is defined."""
    if not genesis:
        return True
    return not any(_improper(rv) for rv in model.free_RVs) and not model.potentials


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


def summary(tree: xr.DataTree, graph: ModelGraph) -> pd.DataFrame:
    """Summarise parameters on their natural scale.

    Returns
    -------
    pandas.DataFrame
        Index ``parameter`` (label, e.g. ``beta[x1]``); columns mean, sd, q05 to q95, mcse_mean, r_hat,
        ess_bulk, ess_tail, prior_mean, prior_sd, sd_ratio (posterior/prior), shift ((mean - prior
        mean)/prior sd) and carried. Prior columns are NaN where the prior is improper.
    """
    posterior = tree["posterior"].dataset
    prior = tree["prior"].dataset if "prior" in tree.children else None
    free = {variable.name for variable in graph.free}
    carried = set(graph.coordinates.variables)
    rows: dict[str, dict[str, float]] = {}
    for name, array in posterior.data_vars.items():
        size = int(np.prod(array.shape[2:], dtype=int))
        if name not in free and size > SUMMARY_SIZE:
            continue
        values = array.values.reshape(*array.shape[:2], size)
        before = None
        if prior is not None and name in prior:
            before = prior[name].values.reshape(-1, size)
        for i, label in enumerate(_labels(array)):
            row = _summary_row(values[..., i], None if before is None else before[:, i])
            rows[label] = row | {"carried": name in carried}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("parameter")


def _summary_row(values: np.ndarray, before: np.ndarray | None) -> dict[str, float]:
    """Summarise draws [chain, draw] of one scalar beside draws [draw] of its prior."""
    mean, sd = float(values.mean()), float(values.std(ddof=1))
    row = {"mean": mean, "sd": sd}
    row |= {name: float(np.quantile(values, q)) for name, q in QUANTILES.items()}
    # Constants have no R-hat; a quantity that cannot move is not a failure of the sampler.
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


def _labels(array: xr.DataArray) -> list[str]:
    """Return one label per element of a variable [chain, draw, ...]."""
    dims = array.dims[2:]
    if not dims:
        return [str(array.name)]
    axes = [[str(v) for v in array[dim].values] if dim in array.coords else list(map(str, range(n)))
            for dim, n in zip(dims, array.shape[2:], strict=True)]  # fmt: skip
    index = pd.MultiIndex.from_product(axes)
    return [f"{array.name}[{', '.join(key)}]" for key in index]


def _named(quantities: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Select natural-scale values and deterministics and drop the keys' prefixes."""
    return {
        key.split(":", 1)[1]: value
        for key, value in quantities.items()
        if key.startswith(("value:", "deterministic:"))
    }


def _dataset(model: Any, values: dict[str, np.ndarray], sample_dims: tuple[str, ...]) -> xr.Dataset:
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
    """Return labels as numbers, dates or text, which is what files can hold."""
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
    values = {v.name: draws.quantities[f"value:{v.name}"] for v in problem.graph.free}
    flat = {name: value.reshape(-1, *value.shape[2:]) for name, value in values.items()}
    count = len(next(iter(flat.values())))
    chosen = np.linspace(0, count - 1, min(PREDICTIVE_DRAWS, count)).astype(int)
    rng = np.random.default_rng([seed, 2])
    return predictive_draws(problem.graph.model, {k: v[chosen] for k, v in flat.items()}, rng=rng)


def _genesis_draws(graph: ModelGraph, rng: np.random.Generator, size: int) -> np.ndarray | None:
    """Draw coordinates [draw, coordinate] from the model's own priors; None if one is improper."""
    model = graph.model
    if any(_improper(rv) for rv in model.free_RVs):
        return None
    forward = graph.coordinates_of_values()
    seed = int(rng.integers(2**31))
    values = draw(forward, size=size, seed=seed)
    return np.concatenate([np.reshape(value, (size, -1)) for value in values], axis=1)


def _improper(rv: Variable) -> bool:
    """Whether a free variable has no proper prior (pm.Flat, pm.HalfFlat)."""
    return type(rv.owner.op).__name__ in {"FlatRV", "HalfFlatRV"}
