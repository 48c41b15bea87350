"""Beliefs that the benchmark of serving predicts with: exact draws, no fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from lindley.model.declaration import Declaration, load_file

_HEAD = "import pandas as pd\nimport pyarrow as pa\nimport pymc as pm\n\nfrom lindley import Declaration\n"
_TAIL = """

declaration = Declaration(
    name="{name}",
    build=build,
    schema=pa.schema([pa.field(name, pa.{kind}(), nullable=False) for name in {columns}]),
    row_key=("id",),
    observed=("y",),
)
"""
MODELS = {
    "line": (
        "float64",
        ("id", "a", "b", "c", "y"),
        """
def build(batch):
    with pm.Model(coords={"slope": ["a", "b", "c"]}) as model:
        X = pm.Data("X", batch[["a", "b", "c"]].to_numpy())
        slopes = pm.Normal("slopes", 0, 1, dims="slope")
        level = pm.Normal("level", 0, 1)
        scale = pm.HalfNormal("scale", 1)
        pm.Normal("y", level + pm.math.dot(X, slopes), scale, observed=batch["y"].to_numpy())
    return model
""",
    ),
    "trials": (
        "int64",
        ("id", "n", "y"),
        """
def build(batch):
    with pm.Model() as model:
        theta = pm.Beta("theta", 2, 3)
        pm.Binomial("y", batch["n"].to_numpy(), theta, observed=batch["y"].to_numpy())
    return model
""",
    ),
    "groups": (
        "int64",
        ("id", "group", "y"),
        """
def build(batch):
    codes, groups = pd.factorize(batch["group"], sort=True)
    with pm.Model(coords={"group": [str(group) for group in groups]}) as model:
        mean = pm.Normal("mean", 0, 1)
        effect = pm.Normal("effect", mean, 1, dims="group")
        pm.Poisson("y", pm.math.exp(effect[codes]), observed=batch["y"].to_numpy())
    return model
""",
    ),
}


def declared(name: str, folder: Path) -> Declaration:
    """Write a model file and load it."""
    kind, columns, build = MODELS[name]
    path = folder / f"{name}.py"
    path.write_text(_HEAD + build + _TAIL.format(name=name, kind=kind, columns=columns), encoding="utf-8")
    return load_file(path)


def draws(name: str) -> xr.Dataset:
    """Return 1,000 draws of a model's parameters."""
    rng = np.random.default_rng(1)
    if name == "line":
        slopes, level, scale = rng.normal(size=(1000, 3)), rng.normal(size=1000), rng.uniform(0.5, 1, 1000)
        values = {
            "slopes": (("sample", "slope"), slopes),
            "level": ("sample", level),
            "scale": ("sample", scale),
        }
        return xr.Dataset(values, coords={"slope": ["a", "b", "c"]})
    if name == "trials":
        return xr.Dataset({"theta": ("sample", rng.beta(40, 60, 1000))})
    effect, labels = rng.normal(size=(1000, 20)), [str(i) for i in range(20)]
    values = {"mean": ("sample", rng.normal(size=1000)), "effect": (("sample", "group"), effect)}
    return xr.Dataset(values, coords={"group": labels})


def rows(name: str, count: int, seed: int) -> list[dict[str, float]]:
    """Return rows to predict for."""
    rng = np.random.default_rng(seed)
    made = {
        "line": lambda i: {"id": i, **dict(zip("abc", rng.normal(size=3).tolist(), strict=True))},
        "trials": lambda i: {"id": i, "n": int(rng.integers(1, 100))},
        "groups": lambda i: {"id": i, "group": int(rng.integers(0, 20))},
    }[name]
    return [made(i) for i in range(count)]
