"""A trace that was sampled elsewhere becomes a belief of a chain's own model.

Libraries disagree about chains (`sample` in place of chain and draw), names of elements (``theta[1]``),
labels, and precision: what is only another spelling is read, and what is not is refused with counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
import pytensor
import xarray as xr
from pytensor.graph.replace import graph_replace

from lindley.errors import ModelRefused
from lindley.inference import groups
from lindley.inference.assessment import assess
from lindley.inference.diagnostics.hindsight import Lineage
from lindley.inference.info import Fit, Info, Provenance, info_of
from lindley.inference.inputs import Options
from lindley.inference.modes.carrying import matched_to
from lindley.inference.modes.circular import recentred
from lindley.inference.modes.sampled import Sampled
from lindley.inference.sampling import Draws, assess_sampling
from lindley.model.graph import ModelGraph
from lindley.model.relabelling import in_order
from lindley.model.tensors import placeholder
from lindley.prior.belief import Belief
from lindley.prior.stein import equal_weights
from lindley.report.omissions import Omissions
from lindley.target.quantities import Quantities
from lindley.timing import DIAGNOSE, MATCH, Phases

#: Share of the draws that may lie on the edge of the support by rounding.
_MOST_ON_EDGE = 0.01
#: Name of one element as Stan and its readers write it: ``theta[1,2]``, ``theta.1.2``.
_ELEMENT = re.compile(r"(?P<name>[A-Za-z_]\w*)(?:\[(?P<brackets>\d+(?:, ?\d+)*)\]|\.(?P<dots>\d+(?:\.\d+)*))")


def adopt(
    found: xr.DataTree, graph: ModelGraph, origin: dict[str, str], options: Options
) -> tuple[Belief, Info]:
    """Make a belief of a trace that was sampled elsewhere; `step` without a fit.

    Parameters
    ----------
    found
        A trace in ArviZ's schema, with the group posterior.
    graph
        The chain's model.
    origin
        Where the trace comes from, for the record.
    options
        Seed and thresholds. Convergence beyond them and a match that is not trusted are warnings: the draws
        cannot be made again, and there are no batches to fit again.

    Raises
    ------
    ModelRefused
        If the trace lacks a carried variable, has another shape or other labels of it, has draws that are
        not numbers, or draws outside its support.
    FitFailed
        If there are too few draws for the dimension.
    """
    phases = Phases()
    quantities, notes = quantities_of(found, graph)
    draws = Draws(x=quantities.u, quantities=quantities, stats={})
    with phases(DIAGNOSE):
        sampling = assess_sampling(graph.coordinates.names, quantities.u, draws, options.thresholds)
    with phases(MATCH):
        weights = equal_weights(quantities.u.shape[0] * quantities.u.shape[1])
        sampled = Sampled(graph=graph, sampling=sampling, calibration=weights)
        matched = matched_to(sampled)
    with phases(DIAGNOSE):
        assessment = assess(sampled, matched, Lineage(), seed=options.seed, thresholds=options.thresholds)
    gate = replace(assessment.gate, warnings=(*notes, *assessment.gate.warnings))
    assessment = replace(assessment, gate=gate)
    belief = assessment.belief(matched, 0, {})
    made = Fit(
        belief=belief, sampled=sampled, assessment=assessment, provenance=Provenance(sampler=dict(origin))
    )
    tree = groups.assemble(graph, graph.coordinates, quantities.named, quantities.carried)
    return belief, info_of(made, tree, phases, Omissions())


def quantities_of(found: xr.DataTree, graph: ModelGraph) -> tuple[Quantities[np.ndarray], tuple[str, ...]]:
    """Return the draws of a trace as quantities of a model, and what was mended, in sentences.

    Arrays [chain, draw, ...]: carried variables and their coordinates; as deterministics the other scalars
    of the trace. The log likelihood is not known (NaN).

    Parameters
    ----------
    found
        A trace in ArviZ's schema, with the group posterior.
    graph
        The chain's model.

    Raises
    ------
    ModelRefused
        If the trace lacks a carried variable, has another shape or other labels of it, has draws that are
        not numbers, or draws outside its support.
    """
    posterior, notes = _in_chains(_joined(found["posterior"].dataset))
    values, single = {}, dict[str, bool]()
    for variable in graph.carried:
        source = graph.declaration.carry.get(variable.name, variable.name)
        name = source if source in posterior else variable.name
        if name not in posterior:
            raise ModelRefused(
                f"The trace has no variable {variable.name!r}",
                expected=f"the carried variables {', '.join(graph.coordinates.variables)}",
                found=f"{', '.join(map(str, posterior.data_vars))}",
                todo="rename the variables of the trace (xarray's rename), or of the model",
            )
        values[variable.name] = in_order(posterior[name], variable.block)
        single[variable.name] = posterior[name].dtype == np.float32
    _refuse_gaps(values)
    scalars = {
        str(name): array.transpose("chain", "draw", ...).values
        for name, array in posterior.data_vars.items()
        if name not in values and array.ndim == 2
    }
    values, u, moved = _inside(values, single, graph)
    if moved:
        notes += (
            f"{moved} of {u.shape[0] * u.shape[1]:,} draws lay on the edge of the support by rounding and "
            "were moved inside by one unit in the last place",
        )
    angles = graph.coordinates.circular
    u[..., angles] = recentred(u[..., angles])[0]
    unknown = np.full(u.shape[:2], np.nan)
    found_quantities = Quantities(
        u=u, carried=u, values=values, deterministics=scalars, log_likelihood=unknown
    )
    return found_quantities, notes


def _joined(posterior: xr.Dataset) -> xr.Dataset:
    """Return a posterior whose variables of single elements are arrays, as ``theta[1]`` to ``theta[3]``."""
    elements: dict[str, dict[tuple[int, ...], str]] = {}
    for name in map(str, posterior.data_vars):
        match = _ELEMENT.fullmatch(name)
        if match:
            numbers = re.split(r", ?|\.", match["brackets"] or match["dots"])
            elements.setdefault(match["name"], {})[tuple(map(int, numbers))] = name
    for name, parts in elements.items():
        if name in posterior or len({len(place) for place in parts}) > 1:
            continue
        places = np.array(sorted(parts))
        first, shape = places.min(axis=0), np.ptp(places, axis=0) + 1
        if len(parts) != shape.prod() or not set(first.tolist()) <= {0, 1}:
            continue
        columns = [posterior[parts[tuple(place)]] for place in places.tolist()]
        dims = [f"{name}_dim_{axis}" for axis in range(len(shape))]
        stacked = xr.concat(columns, dim="element", coords="minimal", compat="override")
        array = stacked.transpose(..., "element").values
        own = [str(dim) for dim in columns[0].dims]
        joined = xr.DataArray(array.reshape(*array.shape[:-1], *shape), dims=[*own, *dims])
        posterior = posterior.drop_vars(list(parts.values())).assign({name: joined})
    return posterior


def _in_chains(posterior: xr.Dataset) -> tuple[xr.Dataset, tuple[str, ...]]:
    """Return a posterior with the dims chain and draw, and a note where the chains are not known."""
    if "sample" in posterior.dims and not {"chain", "draw"} & set(posterior.dims):
        if {"chain", "draw"} <= set(posterior.coords):
            index = pd.MultiIndex.from_arrays(
                [posterior["chain"].values, posterior["draw"].values], names=("chain", "draw")
            )
            bare = posterior.drop_vars(["sample", "chain", "draw"], errors="ignore")
            return bare.assign_coords(xr.Coordinates.from_pandas_multiindex(index, "sample")).unstack(
                "sample"
            ), ()
        posterior = posterior.drop_vars("sample", errors="ignore").rename(sample="draw")
    missing = [dim for dim in ("chain", "draw") if dim not in posterior.dims]
    if missing == ["chain"]:
        note = "the trace has no chains: its draws count as one, and R-hat compares only its halves"
        return posterior.drop_vars("chain", errors="ignore").expand_dims(chain=1), (note,)
    if missing:
        raise ModelRefused(
            "The trace has no draws",
            expected="a posterior with the dims chain and draw, or sample",
            found=f"dims {', '.join(map(str, posterior.sizes)) or 'none'}",
            todo="save the trace with arviz (to_netcdf), not a summary of it",
        )
    return posterior, ()


def _refuse_gaps(values: Mapping[str, np.ndarray]) -> None:
    """Refuse draws that are not numbers, with their count by variable and chain."""
    shape = next(iter(values.values())).shape[:2]
    bad = {name: ~np.isfinite(array.reshape(*shape, -1)).all(axis=-1) for name, array in values.items()}
    draws = np.logical_or.reduce(list(bad.values()))
    if not draws.any():
        return
    chains = [
        f"chain {chain}: {count:,} of {shape[1]:,}" for chain, count in enumerate(draws.sum(axis=1)) if count
    ]
    raise ModelRefused(
        "The trace has draws that are not finite numbers",
        expected="finite draws of every carried variable",
        found=f"NaN or infinite in {', '.join(name for name, which in bad.items() if which.any())}; "
        f"{'; '.join(chains[:8])}",
        todo="find out why the sampler failed there; leave a dead chain out with trace.sel(chain=[...]), or "
        "these draws with trace.isel(draw=...), and import the rest",
    )


def _inside(
    values: dict[str, np.ndarray], single: Mapping[str, bool], graph: ModelGraph
) -> tuple[dict[str, np.ndarray], np.ndarray, int]:
    """Return values and coordinates of draws, those moved inside that rounding put on the edge; their number.

    A probability of 1 - 1e-9 is 1.0 in single precision, where its coordinate is infinite.

    Raises
    ------
    ModelRefused
        If a draw is outside the support of its variable, or too many are on its edge.
    """
    u = coordinates_of(values, graph)
    outside = ~np.isfinite(u).all(axis=-1)
    count, size = int(outside.sum()), outside.size
    if not count:
        return values, u, 0
    moved = dict(values)
    if count <= max(1.0, _MOST_ON_EDGE * size):
        for name, array in values.items():
            kind = np.float32 if single[name] else np.float64
            centre = np.broadcast_to(np.median(array, axis=(0, 1)), array.shape)
            inner = np.nextafter(array.astype(kind), centre.astype(kind)).astype(float)
            where = outside.reshape(*outside.shape, *[1] * (array.ndim - 2))
            moved[name] = np.where(where, inner, array)
        nudged = coordinates_of(moved, graph)
        if np.isfinite(nudged).all():
            return moved, nudged, count
    names = np.array(graph.coordinates.names)[~np.isfinite(u).all(axis=(0, 1))]
    raise ModelRefused(
        "The trace has draws outside the model's support",
        expected="draws inside the support of every carried variable",
        found=f"impossible values of {', '.join(names[:5])} in {count:,} of {size:,} draws",
        todo="check that the chain's model has the priors' supports of the model that was sampled",
    )


def coordinates_of(values: Mapping[str, np.ndarray], graph: ModelGraph) -> np.ndarray:
    """Take natural-scale draws [chain, draw, ...] by name to coordinates [chain, draw, coordinate].

    Draws outside the support of their variable get coordinates that are not finite.
    """
    made = {variable.rv: placeholder(variable.rv, variable.name) for variable in graph.carried}
    forward = graph.coordinates_of_values()[: len(graph.carried)]
    given = {rv: stand_in for rv, (_, stand_in) in made.items()}
    outputs = graph_replace(forward, given, strict=False)
    inputs = [entry for entry, _ in made.values()]
    function = pytensor.function(inputs, outputs, mode="FAST_COMPILE", on_unused_input="ignore")
    flat = [values[v.name].reshape(-1, *v.block.shape).astype(v.rv.dtype) for v in graph.carried]
    with np.errstate(all="ignore"):
        rows = [np.concatenate([np.ravel(x) for x in function(*point)]) for point in zip(*flat, strict=True)]
    chains, draws = next(iter(values.values())).shape[:2]
    return np.array(rows).reshape(chains, draws, -1)
