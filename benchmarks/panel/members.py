"""Simulated members: Poisson regressions whose coefficients differ from member to member."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley.model.declaration import Declaration
from lindley.model.policy import Policy

TERMS = ("one", "x1", "x2", "x3")
#: Rows of a member in a batch.
ROWS = 40
#: The coefficients of all members: independent normals with these means and this sd.
MEANS, SPREAD = np.array([0.5, 0.3, -0.2, 0.1]), 0.3
_FIELDS = [("id", pa.int64()), *((name, pa.float64()) for name in TERMS[1:]), ("y", pa.int64())]


def build(batch: pd.DataFrame) -> pm.Model:
    """Return the model of one member's rows."""
    with pm.Model(coords={"term": list(TERMS)}) as model:
        b = pm.Normal("b", MEANS, SPREAD, dims="term")
        x = np.column_stack([np.ones(len(batch)), batch[list(TERMS[1:])].to_numpy()])
        pm.Poisson("y", pm.math.exp(x @ b), observed=batch["y"].to_numpy())
    return model


#: A match for every batch: later links start from the one before.
DECLARATION = Declaration(
    name="members",
    build=build,
    schema=pa.schema([pa.field(name, kind, nullable=False) for name, kind in _FIELDS]),
    row_key=("id",),
    observed=("y",),
    policy=Policy(refit_rows=1, rebase_at_drift=None),
)


@dataclass(frozen=True)
class Member:
    """A member with the coefficients that its rows are simulated from.

    Parameters
    ----------
    number
        Its number: the seed of everything about it.
    truth
        Array [term].
    """

    number: int
    truth: np.ndarray

    def rows(self, link: int) -> pd.DataFrame:
        """Return its rows in the batch of a link."""
        rng = np.random.default_rng([self.number, link])
        x = rng.standard_normal((ROWS, len(TERMS) - 1))
        rate = np.exp(np.column_stack([np.ones(ROWS), x]) @ self.truth)
        frame = pd.DataFrame(dict(zip(TERMS[1:], x.T, strict=True)))
        frame.insert(0, "id", np.arange(ROWS) + ROWS * link)
        return frame.assign(y=rng.poisson(rate))


def members(first: int, stop: int) -> Iterator[Member]:
    """Yield members by their numbers."""
    for number in range(first, stop):
        yield Member(number, np.random.default_rng([number, 2**20]).normal(MEANS, SPREAD))
