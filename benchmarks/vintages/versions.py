"""The published versions of the file, and the exact posterior of the benchmark's model given one of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.speed.posterior import Reference
from benchmarks.vintages.season import LOCATIONS, curve

CHANGES = Path(__file__).parents[2] / "data" / "reference" / "flusight" / "changes.csv"
#: A version that was published without any change.
UNCHANGED = "2024-12-25"
#: Means and sds of the model's own normal priors, and the scale of sigma's.
_MEAN = np.append(np.full(len(LOCATIONS), 3.0), np.zeros(4))
_SD = np.append(np.full(len(LOCATIONS), 3.0), np.full(4, 2.0))
_SCALE = 2.0


@dataclass(frozen=True)
class Version:
    """One version of the file.

    Parameters
    ----------
    as_of
        Day of its publication.
    rows
        All rows: date, location and value, as text.
    new
        Number of rows that no version before had.
    revised
        Keys (date, location) of rows that have another value than in the version before.
    """

    as_of: str
    rows: pd.DataFrame
    new: int
    revised: frozenset[tuple[str, str]]

    def write(self, path: Path) -> None:
        """Write the file as it was published."""
        self.rows.to_csv(path, index=False)


def versions() -> Iterator[Version]:
    """Yield all versions, oldest first."""
    changes = pd.read_csv(CHANGES, dtype=str, keep_default_na=False)
    values: dict[tuple[str, str], str] = {}
    for as_of in sorted({*changes["as_of"], UNCHANGED}):
        mine = changes[changes["as_of"] == as_of]
        changed = {(row.date, row.location): row.value for row in mine.itertuples()}
        revised = frozenset(changed) & frozenset(values)
        values |= changed
        rows = [(date, location, value) for (date, location), value in sorted(values.items())]
        frame = pd.DataFrame(rows, columns=["date", "location", "value"])
        yield Version(as_of, frame, len(changed) - len(revised), revised)


def exact(rows: pd.DataFrame) -> Reference:
    """Return the exact posterior of level, season and sigma: the others are normal given sigma."""
    known = rows[rows["value"] != "NA"]
    y = np.log1p(known["value"].astype(float).to_numpy())
    levels = (known["location"].to_numpy()[:, None] == np.array(LOCATIONS)).astype(float)
    x = np.hstack([levels, curve(pd.to_datetime(known["date"]).to_numpy("datetime64[D]"))])
    # In coordinates with a standard normal prior; one decomposition serves every sigma.
    residual = y - x @ _MEAN
    values, vectors = np.linalg.eigh((x * _SD).T @ (x * _SD))
    values = np.clip(values, 0, None)
    moment = vectors.T @ ((x * _SD).T @ residual)
    middle = np.sqrt((residual**2).mean())
    grid = np.linspace(middle / 20, middle * 2, 20_001)
    spread = 1 / (values / grid[:, None] ** 2 + 1)
    means = spread * moment / grid[:, None] ** 2
    log = -len(y) * np.log(grid) - (residual @ residual) / grid**2 / 2 - (grid / _SCALE) ** 2 / 2
    log += (means**2 / spread).sum(axis=1) / 2 + np.log(spread).sum(axis=1) / 2
    weights = np.exp(log - log.max())
    weights /= weights.sum()
    mean = weights @ means
    within = vectors @ np.diag(weights @ spread) @ vectors.T
    between = vectors @ ((means - mean).T * weights) @ (means - mean) @ vectors.T
    variance = np.diag(within + between)
    sigma = weights @ grid
    return Reference(
        np.append(_MEAN + _SD * (vectors @ mean), sigma),
        np.append(_SD * np.sqrt(variance), np.sqrt(weights @ (grid - sigma) ** 2)),
    )
