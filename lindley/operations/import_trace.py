"""Starting a chain from a trace that was sampled elsewhere, PyMC3 included.

PyMC3 is the ancestor of PyMC; its traces saved with ArviZ 0.11 or newer are netCDF files in the schema
that ArviZ still reads. Nothing of the old model is executed: the trace's natural-scale draws are taken
into the coordinates of the chain's own model.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytensor
import xarray as xr
from pytensor.graph.replace import graph_replace

from lindley.errors import BatchUnreadable, LedgerCorrupt, LostRace, ModelRefused
from lindley.inference import diagnostics, trace
from lindley.inference.diagnostics import Convergence, Gate, Thresholds
from lindley.inference.match_quality import Quality, match_distances
from lindley.ledger.bundle import Content
from lindley.ledger.netcdf import read_trace
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import read_chain
from lindley.ledger.record import Kind, canonical, digest, genesis_record
from lindley.ledger.signer import signer_from_environment
from lindley.ledger.writing import LoggedLink, Registered, RunContext, complete, log_content, register_link
from lindley.model import graph as model_graph
from lindley.model.declaration import Declaration
from lindley.model.graph import ModelGraph
from lindley.model.relabelling import in_order
from lindley.names import shown_name
from lindley.operations.update import genesis_model
from lindley.prior.matched import MatchedPrior, match
from lindley.seeds import derive_seed
from lindley.serving.predict import with_outcomes
from lindley.timing import BUILD, DIAGNOSE, MATCH, READ, Phases


def import_trace(
    ledger: Ledger, declaration: Declaration, path: Path, *, context: RunContext | None = None
) -> Registered:
    """Start a chain from a trace: the first link, of kind ``import``.

    Parameters
    ----------
    ledger
        Where the chain is kept.
    declaration
        The chain's declaration; its carried variables must be in the trace's posterior.
    path
        A netCDF file in ArviZ's schema (``arviz.InferenceData.to_netcdf`` or later).
    context
        The flow run, when there is one.

    Returns
    -------
    Registered
        What became of it. Convergence below the gate's thresholds and a match that is not trusted are
        recorded as warnings: the draws are what they are, and there are no batches to fit again. The
        budget counts their Monte Carlo error, and `doubt` of later links such a match.

    Raises
    ------
    BatchUnreadable
        If the file is not a trace.
    ModelRefused
        If the chain exists already (one that was claimed by the same declaration and has no links does
        not count: a failed import can be tried again), or the trace lacks a carried variable, or has
        another shape or other labels of it.
    """
    signer_from_environment()  # a key that cannot be used is told before anything is written
    _refuse_links(ledger, declaration.name)
    phases = Phases()
    with phases(READ):
        found = _read(Path(path))
    context = context or RunContext()
    logged = _log(ledger, declaration, found, shown_name(Path(path)), context, phases)
    return register_link(ledger, logged)


def _refuse_links(ledger: Ledger, name: str) -> bytes | None:
    """Refuse a chain with links; return the genesis record of one without, None where there is no chain."""
    genesis = ledger.genesis(name)
    if genesis is not None:
        chain = read_chain(ledger, name, genesis)
        if chain.links or chain.quarantined:
            raise _exists(name)
    return genesis


def _claim(ledger: Ledger, declaration: Declaration, genesis: bytes) -> None:
    """Start the chain, or go on with one that an import, cut off after its claim, left without links."""
    name = declaration.name
    held = _refuse_links(ledger, name)
    if held is None:
        if ledger.claim(name, genesis, declaration.description) != genesis:
            raise LostRace(
                f"Another writer started the chain {name} first",
                todo="look at `lindley log`; import into a chain of another name",
            )
    elif held != genesis:
        raise _exists(name)
    else:
        complete(ledger, name, read_chain(ledger, name, genesis))


def _exists(name: str) -> ModelRefused:
    return ModelRefused(
        f"The chain {name} exists already",
        expected="a chain without links: an import is the first one",
        found=f"a chain named {name}",
        todo="import into a chain of another name",
    )


def _log(
    ledger: Ledger,
    declaration: Declaration,
    found: xr.DataTree,
    origin: str,
    context: RunContext,
    phases: Phases,
) -> LoggedLink:
    """Match the trace, claim the chain and write the link."""
    frame = with_outcomes(pd.DataFrame(index=[0, 1]), declaration, every=True)
    if callable(declaration.constants):
        raise ModelRefused(
            f"The constants of {declaration.name} cannot be computed from a trace",
            expected="constants as numbers, or a chain that starts with a batch",
            found="a function of the first batch",
            todo="declare constants={...} with the numbers that the trace was made with",
        )
    constants = declaration.frozen_constants(frame)
    with phases(BUILD):
        model = model_graph.build(declaration, frame, constants=constants)
        carried = model_graph.carried_variables(declaration, frame, constants)
        graph = model_graph.take_apart(declaration, model, carried)
        tree = _as_trace(found, graph)
    u = np.asarray(tree["coordinates"].dataset["u"].values)
    with phases(DIAGNOSE):
        convergence = diagnostics.convergence(u)
    with phases(MATCH):
        matched = _matched(u, graph, _worth(convergence))
    with phases(DIAGNOSE):
        judged = _assess(u, graph, convergence, matched)
    genesis = canonical(genesis_record(declaration.name, genesis_model(declaration, carried, constants)))
    _claim(ledger, declaration, genesis)
    content = Content(
        declaration=declaration,
        kind=Kind.IMPORT,
        previous=digest(genesis),
        prior=digest(genesis),
        prior_belief=None,
        replayed=(),
        batch=None,
        matched=matched,
        trace=tree,
        summary=trace.summary(tree, graph),
        gate=judged.gate,
        metrics=judged.metrics,
        sampler={"source": origin} | _provenance(found),
        thresholds=Thresholds().as_dict(),
        model={
            "digest": declaration.model_digest,
            "graph": "",
            "carried": list(carried),
            "carry": dict(declaration.carry),
            "likelihood": trace.likelihood_text(model),
            "genesis": trace.genesis_text(graph),
            "inlined_constants": 0,
            "constants": constants,
        },
        match={"distances": judged.distances, "doubts": list(judged.doubts), "pooled": ""},
    )
    return log_content(ledger, content, link=1, prior_link=None, phases=phases, context=context)


def _read(path: Path) -> xr.DataTree:
    """Read a netCDF trace."""
    try:
        tree = read_trace(path)
    except LedgerCorrupt as error:
        raise BatchUnreadable(
            f"{path.name} is not a trace",
            expected="a netCDF file in ArviZ's schema",
            found=error.found,
            todo="save the trace with arviz.to_netcdf",
        ) from error
    if "posterior" not in tree.children:
        raise BatchUnreadable(
            f"{path.name} has no posterior",
            expected="a group `posterior` with dims chain and draw",
            found=f"groups {', '.join(tree.children) or 'none'}",
            todo="save the posterior's trace, not the prior's or the data's",
        )
    return tree


def _as_trace(found: xr.DataTree, graph: ModelGraph) -> xr.DataTree:
    """Return a trace of the chain's own shape: carried variables and their coordinates."""
    posterior = found["posterior"].dataset
    values = {}
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
    extra = {
        str(name): array.transpose("chain", "draw", ...).values
        for name, array in posterior.data_vars.items()
        if name not in values and array.ndim == 2
    }
    return trace.assemble(graph, graph.coordinates, values | extra, _coordinates(values, graph))


def _coordinates(values: dict[str, np.ndarray], graph: ModelGraph) -> np.ndarray:
    """Take natural-scale draws [chain, draw, ...] into coordinates [chain, draw, coordinate]."""
    given = {variable.rv: variable.rv.type(name=variable.name) for variable in graph.carried}
    forward = graph.coordinates_of_values()[: len(graph.carried)]
    outputs = graph_replace(forward, given, strict=False)
    function = pytensor.function(list(given.values()), outputs, mode="FAST_COMPILE", on_unused_input="ignore")
    flat = [values[v.name].reshape(-1, *v.block.shape).astype(v.rv.dtype) for v in graph.carried]
    rows = [np.concatenate([np.ravel(x) for x in function(*point)]) for point in zip(*flat, strict=True)]
    chains, draws = next(iter(values.values())).shape[:2]
    u = np.array(rows).reshape(chains, draws, -1)
    if not np.isfinite(u).all():
        names = np.array(graph.coordinates.names)[~np.isfinite(u).all(axis=(0, 1))]
        raise ModelRefused(
            "The trace has draws outside the model's support",
            expected="draws inside the support of every carried variable",
            found=f"impossible values of {', '.join(names[:5])}",
            todo="check that the chain's model has the priors' supports of the model that was sampled",
        )
    return u


def _worth(convergence: Convergence) -> float:
    """Return how many independent draws a trace is worth; 1 where its chains are too short to tell."""
    return max(convergence.ess_min, 1.0) if np.isfinite(convergence.ess_min) else 1.0


def _matched(u: np.ndarray, graph: ModelGraph, ess: float) -> MatchedPrior:
    """Match draws [chain, draw, coordinate] by the family that the policy asks for."""
    declaration = graph.declaration
    return match(
        u.reshape(-1, u.shape[-1]),
        graph.coordinates,
        ess=ess,
        state=frozenset(declaration.carry),
        family=declaration.policy.family,
    )


@dataclass(frozen=True)
class _Judged:
    """What a trace and the match made of it are worth; see `lindley.inference.assessment.Verdict`."""

    metrics: dict[str, float]
    gate: Gate
    distances: dict[str, float]
    doubts: tuple[str, ...]


def _assess(u: np.ndarray, graph: ModelGraph, result: Convergence, matched: MatchedPrior) -> _Judged:
    """Judge draws [chain, draw, coordinate] and match; what an update would be refused for is a warning."""
    limits, names = Thresholds(), graph.coordinates.names
    flat = u.reshape(-1, u.shape[-1])
    distances, moment = match_distances(
        flat,
        np.full(len(flat), 1 / len(flat)),
        matched.map,
        np.random.default_rng(derive_seed(matched.digest, "distances")),
    )
    # The density that was sampled is not known: distances and moments are all there is to judge by.
    doubts = Quality(None, False, distances, moment).doubts(limits)
    metrics = {
        "r_hat_max": float(result.r_hat.max()),
        "ess_bulk_min": float(result.ess_bulk.min()),
        "ess_tail_min": float(result.ess_tail.min()),
        "match_distance": float(distances.max(initial=0.0)),
        "match_moment": moment,
        "budget": (graph.coordinates.size + 1) / _worth(result),
        "trusted": float(not doubts),
    }
    reasons = diagnostics.refusals(names, result, divergences=0.0, thresholds=limits)
    cautions = diagnostics.cautions(
        divergences=0.0, match_quality=None, budget=metrics["budget"], conflict_p=None, thresholds=limits
    )
    flags = tuple(f"what the trace was matched by is no good prior, and no batch is behind it that could "
                  f"be fitted again: {doubt}" for doubt in doubts)  # fmt: skip
    return _Judged(
        metrics={name: value for name, value in metrics.items() if np.isfinite(value)},
        gate=Gate(passed=True, warnings=(*reasons, *cautions, *flags)),
        distances=dict(zip(names, distances.tolist(), strict=True)),
        doubts=doubts,
    )


def _provenance(found: xr.DataTree) -> dict[str, Any]:
    """Return what the trace says of where it was sampled."""
    attrs = {**found.attrs, **found["posterior"].attrs}
    wanted = ("inference_library", "inference_library_version", "arviz_version", "created_at")
    return {name: str(attrs[name])[:80] for name in wanted if name in attrs}
