"""From a rehearsal to findings: also whether rows add up, and whether the registered belief could predict."""

from __future__ import annotations

from functools import partial

import numpy as np

from lindley.cache import Recent
from lindley.errors import reason
from lindley.inference import groups
from lindley.inference.inputs import Data
from lindley.inference.rehearsal import Rehearsal
from lindley.inference.sampling import FitSettings
from lindley.model.advice import data_held_as_constants
from lindley.model.graph import FreeVariable
from lindley.model.meaning.adding_up import Meaning, meaning
from lindley.operations.checking.findings import Findings
from lindley.serving.draws import serving_draws
from lindley.serving.inputs import example_rows
from lindley.serving.predict import MOST_VALUES, predict

#: Draws for the prediction that is tried.
_TRIED = 4
#: Rows that are tried of a batch with more than one call takes.
_FEW = 1000
#: Whether rows add up, by the code of the model and the rows that it was tried on.
_meanings: Recent[Meaning] = Recent(64, lambda _: 1)


def meaning_of(data: Data) -> Meaning:
    """Return whether the rows of two batches add up, tried on the newest batch.

    It follows from that batch and the model's code alone: what is fitted does too.
    """
    declaration = data.declaration
    constants = data.constants or {}
    tried = partial(meaning, declaration, data.newest.frame(), data.carried, constants)
    if declaration.in_memory or not data.newest.digest:
        return tried()
    key = (declaration.name, declaration.model_digest, data.carried, data.newest.digest)
    return _meanings.get(key, tried)


def findings_of(rehearsal: Rehearsal, data: Data, found: Meaning) -> Findings:
    """Return what a rehearsal, and a prediction through the form that is registered, found out.

    Parameters
    ----------
    data
        What is fitted.
    found
        Whether the rows of two batches add up.
    """
    graph = rehearsal.problem.graph
    return Findings(
        carried=_sized(graph.carried),
        local=_sized(graph.local),
        state=dict(graph.declaration.carry),
        inlined=tuple(data_held_as_constants(graph, data.newest.frame())),
        meaning=found,
        predicted=rehearsal.predicted,
        not_drawn=rehearsal.not_drawn,
        left_out=tuple(rehearsal.omissions.sentences),
        prediction=_prediction(rehearsal, data),
        seconds=rehearsal.seconds,
        attempts=FitSettings.of(graph.declaration.policy).attempts,
    )


def _sized(variables: tuple[FreeVariable, ...]) -> dict[str, int]:
    return {variable.name: variable.block.size for variable in variables}


def _prediction(rehearsal: Rehearsal, data: Data) -> str:
    """Return why a belief of these coordinates could not predict for the batch's own inputs once registered.

    Models that no outcome can be drawn from are not tried: they are known not to predict.
    """
    if not rehearsal.predicted or rehearsal.not_drawn.keys() & set(_outcomes(rehearsal)):
        return ""
    problem, declaration, batch = rehearsal.problem, data.declaration, data.newest
    rng = np.random.default_rng(0)
    try:
        x = np.array([problem.starts.central(rng) for _ in range(_TRIED)])[None]
        drawn = problem.bound.evaluate(x)
        tree = groups.assemble(
            problem.graph, problem.coordinates, drawn.values | drawn.deterministics, drawn.carried
        )
        context = batch.context_frame()
        served = serving_draws(
            tree, declaration, problem.coordinates, constants=data.constants, context=context
        )
        some = batch.table if batch.rows <= MOST_VALUES else batch.table[:_FEW]  # a call takes no more
        inputs = some.to_pandas().drop(columns=list(declaration.observed), errors="ignore")
        for rows in (inputs, example_rows(batch.table, declaration)):  # as a frame, and as JSON has them
            predict(served, declaration, rows)
    except Exception as error:  # a model's own code may fail in any way
        return reason(error)
    return ""


def _outcomes(rehearsal: Rehearsal) -> list[str]:
    return [rv.name for rv in rehearsal.problem.graph.model.observed_RVs]
