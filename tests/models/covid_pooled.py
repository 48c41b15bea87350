"""The hierarchical COVID model of all months at once, the reference of the chain of its batches.

The months share the carried variables; each month and country has its own contact rate and initial number of
infectious people. One fit uses all rows, without matched priors.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pymc as pm

from lindley.model.declaration import load_declaration

MODELS = Path(__file__).parents[2] / "models"


def pooled(frames: Sequence[pd.DataFrame]) -> pm.Model:
    """Return the model of several months together, with the parts of the model's own file.

    Local variables have the dim ``cell``, a month and a country, e.g. ``0 US``.
    """
    parts = load_declaration("covid_hierarchical", MODELS).build.__globals__
    months = [parts["known_before"](frame) for frame in frames]
    cells = [(month, name) for month, (names, _) in enumerate(months) for name in names]
    # One column per cell; the last axis of known values is the country.
    known = {key: np.concatenate([values[key] for _, values in months], axis=-1) for key in months[0][1]}
    countries = sorted({name for _, name in cells})
    country = np.array([countries.index(name) for _, name in cells])
    rows = pd.concat([frame.assign(month=month) for month, frame in enumerate(frames)])
    cell = np.array([cells.index(pair) for pair in zip(rows["month"], rows["country"], strict=True)])
    week = rows["week"].to_numpy()
    coords = {"country": countries, "cell": [f"{month} {name}" for month, name in cells]}
    with pm.Model(coords=coords) as model:
        log_lambda, log_mu, volatility, phi_inv = parts["hierarchy"]()
        expected = parts["epidemic"](known, log_lambda[country], log_mu[country], volatility, dims="cell")
        observed = rows["cases"].to_numpy()
        pm.NegativeBinomial("cases", mu=expected[week - 1, cell], alpha=1 / phi_inv, observed=observed)
    return model
