"""Plan a chain that starts from a trace sampled elsewhere, PyMC3 included.

PyMC3 is the ancestor of PyMC; its traces saved with ArviZ 0.11 or newer are netCDF files in the schema
that ArviZ still reads. Nothing of the old model is executed: the trace's natural-scale draws are taken
into the coordinates of the chain's own model.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import xarray as xr

from lindley.errors import BatchUnreadable, LedgerCorrupt, ModelRefused, not_of_panels
from lindley.ledger.netcdf import read_trace, read_zarr_trace
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import read_chain
from lindley.ledger.record import Kind
from lindley.ledger.registration import complete
from lindley.model import graph as model_graph
from lindley.model.declaration import Declaration
from lindley.model.structure import structure
from lindley.names import shown_name
from lindley.operations.plan import Adopted, Plan
from lindley.operations.planner import fresh_chain
from lindley.serving.inputs import neutral_frame
from lindley.timing import BUILD, READ, Phases


def plan_import(ledger: Ledger, declaration: Declaration, path: Path) -> Plan:
    """Plan a chain that starts from a trace: its first link, of kind ``import``.

    Convergence below the gate's thresholds and a match that is not trusted are recorded as warnings: the
    draws are what they are, and there are no batches to fit again. The budget counts their Monte Carlo
    error, and `doubt` of later links such a match.

    Parameters
    ----------
    ledger
        Where the chain is kept.
    declaration
        The chain's declaration; its carried variables must be in the trace's posterior.
    path
        A netCDF file or a Zarr store in ArviZ's schema (``arviz.InferenceData.to_netcdf``, ``to_zarr``).

    Raises
    ------
    BatchUnreadable
        If the file is not a trace.
    ModelRefused
        If the chain exists already (one that was claimed by the same declaration and has no links does
        not count: a failed import can be tried again), or its constants cannot be computed from a trace.
    """
    phases, name = Phases(), declaration.name
    if declaration.by:
        raise not_of_panels(name, "a trace is that of one belief")
    held = ledger.genesis(name)
    chain = None if held is None else read_chain(ledger, name, held)
    if chain is not None and (chain.links or chain.quarantined or chain.candidates):
        raise _exists(name)
    with phases(READ):
        found = _read(path)
    if callable(declaration.constants):
        raise ModelRefused(
            f"The constants of {name} cannot be computed from a trace",
            expected="constants as numbers, or a chain that starts with a batch",
            found="a function of the first batch",
            todo="declare constants={...} with the numbers that the trace was made with",
        )
    frame = neutral_frame(declaration, 2)
    with phases(BUILD):
        plan = fresh_chain(ledger, declaration, Kind.IMPORT, frame, phases)
        model = model_graph.build(declaration, frame, constants=plan.constants)
        graph = model_graph.take_apart(declaration, model, plan.carried)
    if held is not None and chain is not None:
        if held != plan.genesis:
            raise _exists(name)
        complete(ledger, name, chain)
    source = {"source": shown_name(path)} | _provenance(found)
    adopted = Adopted(found, graph, source)
    return replace(plan, fresh=held is None, adopted=adopted, structure=structure(graph.model))


def _exists(name: str) -> ModelRefused:
    return ModelRefused(
        f"The chain {name} exists already",
        expected="a chain without links: an import is the first one",
        found=f"a chain named {name}",
        todo="import into a chain of another name",
    )


def _read(path: Path) -> xr.DataTree:
    """Read a trace from a netCDF file or a Zarr store."""
    try:
        tree = read_zarr_trace(path) if path.is_dir() else read_trace(path)
    except LedgerCorrupt as error:
        raise BatchUnreadable(
            f"{path.name} is not a trace",
            expected="a netCDF file or a Zarr store in ArviZ's schema",
            found=error.found,
            todo="save the trace with its to_netcdf or to_zarr",
        ) from error
    if "posterior" not in tree.children:
        raise BatchUnreadable(
            f"{path.name} has no posterior",
            expected="a group `posterior` with draws",
            found=f"groups {', '.join(tree.children) or 'none'}",
            todo="save the posterior's trace, not the prior's or the data's",
        )
    return tree


def _provenance(found: xr.DataTree) -> dict[str, str]:
    """Return what the trace states of where it was sampled."""
    attrs = {**found.attrs, **found["posterior"].attrs}
    wanted = ("inference_library", "inference_library_version", "arviz_version", "created_at")
    return {name: str(attrs[name])[:80] for name in wanted if name in attrs}
