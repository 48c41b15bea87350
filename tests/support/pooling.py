"""Declarations, batches and exact normals for the tests of targets of several batches."""

import numpy as np
import pandas as pd
import pyarrow as pa

from lindley.batch.batch import batch_from_frame
from lindley.inference.sampling import FitSettings
from lindley.model.declaration import Declaration
from lindley.model.policy import Policy
from lindley.target import prepare
from lindley.target.problem import Known
from lindley.timing import Phases

SETTINGS = FitSettings(draws=600, tune=300)
NOISE = 0.5
SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("group", pa.string(), nullable=False),
        pa.field("y", pa.float64(), nullable=False),
    ]
)


def declared(build, carried, *, carry=None, **policy) -> Declaration:
    return Declaration(
        name="chain",
        build=build,
        schema=SCHEMA,
        row_key=("id",),
        carried=carried,
        carry=carry or {},
        policy=Policy(**policy),
    )


def batches_of(declaration, groups, rng, means=None):
    """One batch per text of groups, one row per letter."""
    found = []
    for number, text in enumerate(groups):
        mean = 0.0 if means is None else means[number]
        frame = pd.DataFrame(
            {
                "id": 100 * number + np.arange(len(text)),
                "group": list(text),
                "y": rng.normal(mean, 1, len(text)),
            }
        )
        found.append(batch_from_frame(frame, declaration))
    return found


def prepared(declaration, batches, prior=None, whitener=None):
    known = Known(whitener=whitener)
    return prepare.prepare(prior, batches, declaration, declaration.carried, Phases(), None, known)


def holds(draws, mean, sd, ess):
    """Hold draws [chain, draw, coordinate] of a normal against its means and sds."""
    assert (ess > 400).all()
    assert (np.abs(draws.mean(axis=(0, 1)) - mean) < 5 * sd / np.sqrt(ess)).all()
    assert (np.abs(draws.std(axis=(0, 1)) / sd - 1) < 5 / np.sqrt(2 * ess)).all()
