"""Starting a chain from a trace that was sampled elsewhere, PyMC3 included.

PyMC3 is the ancestor of PyMC; its traces saved with ArviZ 0.11 or newer are netCDF files in the schema
that ArviZ still reads. Nothing of the old model is executed: the trace's natural-scale draws are taken
into the coordinates of the chain's own model.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import xarray as xr

from lindley.errors import BatchUnreadable, LedgerCorrupt, LostRace, ModelRefused
from lindley.inference.inputs import Options
from lindley.inference.step import adopt
from lindley.ledger.bundle import Content
from lindley.ledger.netcdf import read_trace
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import read_chain
from lindley.ledger.record import Kind, canonical, digest, genesis_record
from lindley.ledger.signer import signer_from_environment
from lindley.ledger.writing import LoggedLink, Registered, RunContext, complete, log_content, register_link
from lindley.model import graph as model_graph
from lindley.model.declaration import Declaration
from lindley.names import shown_name
from lindley.operations.update import genesis_model
from lindley.seeds import derive_seed
from lindley.serving.predict import with_outcomes
from lindley.timing import BUILD, READ, Phases


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
    genesis = canonical(genesis_record(declaration.name, genesis_model(declaration, carried, constants)))
    seed = derive_seed(digest(genesis), Kind.IMPORT, declaration.model_digest)
    _, info = adopt(found, graph, {"source": origin} | _provenance(found), Options(seed=seed))
    phases.add(info.seconds)
    _claim(ledger, declaration, genesis)
    content = Content(
        declaration=declaration,
        kind=Kind.IMPORT,
        previous=digest(genesis),
        prior=digest(genesis),
        carried=carried,
        constants=constants,
        info=info,
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


def _provenance(found: xr.DataTree) -> dict[str, str]:
    """Return what the trace states of where it was sampled."""
    attrs = {**found.attrs, **found["posterior"].attrs}
    wanted = ("inference_library", "inference_library_version", "arviz_version", "created_at")
    return {name: str(attrs[name])[:80] for name in wanted if name in attrs}
