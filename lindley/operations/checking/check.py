"""Check a model and a batch: everything that can refuse them runs, without a ledger and without sampling."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from lindley.batch.batch import Batch
from lindley.inference.groups import draws_dataset, observed_data
from lindley.inference.inputs import Data, Options, Start
from lindley.inference.predictive import predictive_draws
from lindley.inference.rehearsal import Rehearsal, rehearse
from lindley.inference.sampling import FitSettings
from lindley.inference.step import step
from lindley.model.declaration import Declaration
from lindley.model.graph import carried_variables
from lindley.operations.checking.findings import Findings
from lindley.operations.checking.rehearsed import findings_of, meaning_of
from lindley.target.prepare import prepare
from lindley.target.problem import Known
from lindley.timing import COMPILE, Phases

#: Prior predictive draws, their seed, and the ends and the middle of their range.
_SHOWN, _SEED = 200, 0
_QUANTILES = (0.05, 0.5, 0.95)
#: A fit for a picture.
_SHORT = FitSettings(chains=2, tune=300, draws=300, attempts=1)


@dataclass(frozen=True)
class Check:
    """A checked batch.

    Parameters
    ----------
    findings
        What was found out.
    trace
        Groups observed_data and, where there are prior draws, posterior_predictive: that of the prior, where
        the pictures look for predictive draws.
    """

    findings: Findings
    trace: xr.DataTree


def check(declaration: Declaration, batch: Batch) -> Check:
    """Find out what the first update of a chain with this batch would do.

    Raises
    ------
    ModelRefused, CoordinatesMismatch
        If the model cannot be updated as declared.
    FitFailed
        If no starting point has a finite density.
    """
    phases, data = Phases(), _data_of(declaration, batch)
    found = meaning_of(data)
    known = Known(adds_up=found.adds_up)
    problem = prepare(None, data.batches, declaration, data.carried, phases, data.constants, known)
    seconds = phases.seconds.get(COMPILE, 0.0)
    rehearsal = replace(rehearse(problem, None, seed=_SEED), seconds=seconds)
    groups: dict[str, xr.Dataset] = {}
    with rehearsal.omissions.attempt("pictures"):
        groups = _pictured(rehearsal)
    findings = findings_of(rehearsal, data, found)
    return Check(_with_ranges(findings, groups), xr.DataTree.from_dict(groups))


def _pictured(rehearsal: Rehearsal) -> dict[str, xr.Dataset]:
    """Return the prior predictive and the observed data as groups of a trace."""
    graph, prior = rehearsal.problem.graph, rehearsal.prior
    groups = {"observed_data": observed_data(graph.model)}
    if prior is not None and rehearsal.predicted:
        values = {v.name: prior[v.name][:_SHOWN] for v in graph.carried}
        chosen = [rv for rv in graph.model.observed_RVs if rv.name in rehearsal.predicted]
        rng = np.random.default_rng(_SEED)
        drawn = predictive_draws(graph.model, values, rng=rng, variables=chosen)
        groups["posterior_predictive"] = draws_dataset(graph.model, {k: v[None] for k, v in drawn.items()})
    return groups


def _with_ranges(findings: Findings, groups: dict[str, xr.Dataset]) -> Findings:
    """Return findings with the ranges of the prior predictive and of the data."""
    ranges: dict[str, Any] = {}
    names = {"prior predictive": "posterior_predictive", "data": "observed_data"}
    for what, group in names.items():
        for name, array in groups.get(group, xr.Dataset()).data_vars.items():
            values = np.asarray(array.values, dtype=float)
            finite = values[np.isfinite(values)]
            if finite.size:
                quantiles = [float(q) for q in np.quantile(finite, _QUANTILES)]
                ranges.setdefault(str(name), {})[what] = quantiles
    return replace(findings, ranges=ranges)


def short_fit(declaration: Declaration, batch: Batch) -> xr.DataTree:
    """Return the trace of a fit that is too short for anything but a picture.

    Raises
    ------
    ModelRefused, CoordinatesMismatch, FitFailed
        If the model cannot be updated as declared, or not sampled.
    """
    data = _data_of(declaration, batch)
    return step(Start(), data, Options(seed=_SEED, settings=_SHORT))[1].trace


def _data_of(declaration: Declaration, batch: Batch) -> Data:
    """Return what the first update of a chain would fit."""
    if declaration.context:
        batch = replace(batch, context=batch.table.slice(0, 0))
    frame = batch.frame()
    constants = declaration.frozen_constants(frame)
    carried = carried_variables(declaration, frame, constants)
    return Data(declaration=declaration, batches=(batch,), carried=carried, constants=constants)
