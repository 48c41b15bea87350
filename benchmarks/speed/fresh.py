"""A fresh process that samples one file's rows with PyMC: ``python -m benchmarks.speed.fresh FILE``.

It imports what a user's script would and nothing else. The model is the example of `lindley init`.
"""

from __future__ import annotations

import sys

import pandas as pd
import pymc as pm


def main(file: str) -> None:
    """Sample, as a user would, with PyMC's defaults."""
    batch = pd.read_csv(file)
    with pm.Model():
        price = pm.Data("price", batch["price"].to_numpy())
        sold = pm.Data("sold", batch["units"].to_numpy())
        base = pm.Normal("base", 3, 1)
        elasticity = pm.Normal("elasticity", -1, 1)
        pm.Poisson("units", pm.math.exp(base + elasticity * pm.math.log(price)), observed=sold)
        pm.sample(progressbar=False, random_seed=1)


if __name__ == "__main__":
    main(sys.argv[1])
