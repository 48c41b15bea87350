"""What a predictor keeps between requests changes no number; what may look at values is built anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from lindley.errors import BatchRefused
from lindley.model.declaration import Declaration, load_file
from lindley.report.numbers import QUANTILES
from lindley.serving.predict import Predictor, _quantiles, predict
from lindley.serving.straight import used_columns

HEAD = """
import numpy as np
import pyarrow as pa
import pymc as pm
import pytensor.tensor as pt
from lindley import Declaration

KNOTS = np.array([0.5, 2.0])
"""
TAIL = """

declaration = Declaration(
    name="line",
    build=build,
    schema=pa.schema(
        [pa.field(name, pa.int64(), nullable=False) for name in ("id", "n")]
        + [pa.field(name, pa.float64(), nullable=False) for name in ("x", "z", "y")]
    ),
    row_key=("id",),
    observed=("y",),
)
"""
LINE = """
def build(batch):
    '''A line.'''
    with pm.Model(coords={"slope": ["x", "z"]}) as model:
        X = pm.Data("X", batch[["x", "z"]].to_numpy())
        slopes = pm.Normal("slopes", 0, 1, dims="slope")
        scale: object = pm.HalfNormal("scale", 1.0)
        mean = pm.math.dot(X, slopes) + batch["n"].to_numpy() * slopes[0] + KNOTS[1]
        pm.Normal("y", mean, pm.math.exp(-scale), observed=batch["y"])
    return model
"""


def declared(folder: Path, build: str) -> Declaration:
    path = folder / "line.py"
    path.write_text(HEAD + build + TAIL)
    return load_file(path)


@pytest.fixture(scope="module")
def draws() -> xr.Dataset:
    rng = np.random.default_rng(0)
    values = {
        "slopes": (("sample", "slope"), rng.normal(size=(1000, 2))),
        "scale": ("sample", rng.gamma(2, 1, 1000)),
    }
    return xr.Dataset(values, coords={"slope": ["x", "z"]})


def rows(size: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {"n": rng.integers(0, 9, size), "x": rng.normal(size=size), "z": rng.normal(size=size)}
    )


def test_kept_size_classes_give_the_numbers_of_a_model_built_anew(tmp_path: Path, draws: xr.Dataset) -> None:
    declaration = declared(tmp_path, LINE)
    assert used_columns(declaration) == {"x", "z", "n", "y"}
    predictor = Predictor(draws, declaration)
    built: list[int] = []
    build = predictor._classes._build
    predictor._classes._build = lambda frame: built.append(len(frame)) or build(frame)  # type: ignore[func-returns-value]
    for seed in range(3):
        for size in (1, 5, 40):
            frame = rows(size, seed)
            found = predictor.predict(frame, seed=seed)
            slow = Predictor(draws, declaration)
            slow._classes._used = None
            pd.testing.assert_frame_equal(found, slow.predict(frame, seed=seed), check_exact=True)
    assert built == [
        1,
        1,
        5,
        5,
        40,
        40,
    ]  # the one that finds the columns, and the one that is compared with it
    with_outcomes = rows(5, 0).assign(y=[1.0, 2.0, np.nan, 4.0, 5.0])
    with pytest.raises(BatchRefused):  # PyMC would impute the missing one
        predictor.predict(with_outcomes)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("KNOTS[1]\n", "KNOTS[1]\n        if batch['x'].max() > 1: mean = mean + 1\n"),
        ("KNOTS[1]", "len(batch)"),
        ("KNOTS[1]", "batch['x'].mean()"),
        ("KNOTS[1]", "(batch['x'].to_numpy() - 1)"),
        ("KNOTS[1]", "(X.eval().max() > 1)"),
        ("KNOTS[1]", "helper(batch)"),
        ("KNOTS[1]", "pt.zeros(batch['n'].to_numpy())[0]"),
        ("KNOTS[1]", "model['X'].get_value()[0, 0]"),
        ("KNOTS[1]", "sum(batch['x'])"),
        ("dims='slope'", "shape=batch['n'].to_numpy()"),
        ('dims="slope"', "shape=batch['n'].to_numpy()"),
        ("return model", "return pm.modelcontext(None)"),
        ('batch[["x", "z"]].to_numpy()', 'np.clip(batch[["x", "z"]], 0, 1)'),
        ('batch[["x", "z"]].to_numpy()', "batch.to_numpy()"),
        ('observed=batch["y"]', 'observed=[v if v > 0 else 0 for v in batch["y"]]'),
    ],
)
def test_a_build_function_that_may_look_at_values_is_not_skipped(old: str, new: str, tmp_path: Path) -> None:
    changed = LINE.replace(old, new)
    if changed != LINE:
        assert used_columns(declared(tmp_path, "def helper(batch): return 1\n" + changed)) is None


@given(
    st.integers(1, 7).flatmap(
        lambda n: st.lists(st.floats(-1e6, 1e6) | st.just(np.nan), min_size=n, max_size=n)
    ),
)
@settings(max_examples=60, deadline=None)
def test_quantiles_are_those_of_numpy(values: list[float]) -> None:
    block = np.array([values, values[::-1]])
    expected = np.quantile(block, list(QUANTILES.values()), axis=1)
    np.testing.assert_array_equal(np.array(_quantiles(block.copy())), expected)


# -- labels that no batch had ---------------------------------------------------------------------------

GROUPS = """
import pymc as pm
import pyarrow as pa
import pandas as pd
from lindley import Declaration

TAU, SIGMA = 1.5, 0.5


def build(batch):
    codes, groups = pd.factorize(batch["group"], sort=True)
    with pm.Model(coords={"group": groups}) as model:
        mu = pm.Normal("mu", 0, 10)
        theta = pm.PRIOR
        pm.Normal("y", theta[codes], SIGMA, observed=batch["y"].to_numpy())
    return model


declaration = Declaration(
    name="groups",
    build=build,
    schema=pa.schema([("group", pa.string()), ("y", pa.float64())]),
    row_key=("group",),
    observed=("y",),
    predict_new=NEW,
)
"""
TAU, SIGMA, KNOWN = 1.5, 0.5, 8


def grouped(
    folder: Path, new: str = '("group",)', prior: str = 'Normal("theta", mu, TAU, dims="group")'
) -> Declaration:
    path = folder / "groups.py"
    path.write_text(GROUPS.replace("PRIOR", prior).replace("NEW", new))
    return load_file(path)


def posterior(y: np.ndarray, rng: np.random.Generator) -> xr.Dataset:
    """Exact draws of mean and group effects, given one outcome for each known group."""
    precision = len(y) / (TAU**2 + SIGMA**2) + 1 / 100
    mu = rng.normal(y.sum() / (TAU**2 + SIGMA**2) / precision, precision**-0.5, 1000)
    weight = TAU**2 / (TAU**2 + SIGMA**2)
    theta = rng.normal(mu[:, None] + weight * (y - mu[:, None]), TAU * (1 - weight) ** 0.5)
    labels = [f"g{i}" for i in range(len(y))]
    return xr.Dataset({"mu": ("sample", mu), "theta": (("sample", "group"), theta)}, coords={"group": labels})


def test_new_groups_are_covered_as_often_as_the_intervals_state(tmp_path: Path) -> None:
    declaration, rng = grouped(tmp_path), np.random.default_rng(5)
    frame = pd.DataFrame({"group": [f"g{i}" for i in range(4, KNOWN)] + [f"new{i}" for i in range(12)]})
    covered = []
    for simulation in range(150):
        theta = rng.normal(rng.normal(0, 10), TAU, KNOWN + 12)
        draws = posterior(rng.normal(theta[:KNOWN], SIGMA), rng)
        found = predict(draws, declaration, frame, seed=simulation)
        y = rng.normal(theta[4:], SIGMA)
        inside = (found["q05"].to_numpy() <= y) & (y <= found["q95"].to_numpy())
        covered.append([inside[:4].mean(), inside[4:].mean()])
    means = np.mean(covered, axis=0)
    errors = np.std(covered, axis=0, ddof=1) / np.sqrt(len(covered))
    # 1,000 draws state a quantile with an error of 0.007, which adds to that of the simulations.
    assert (np.abs(means - 0.90) < 3 * np.hypot(errors, 0.002)).all(), (means, errors)


def test_known_groups_keep_their_draws_beside_new_ones(tmp_path: Path) -> None:
    declaration, rng = grouped(tmp_path), np.random.default_rng(1)
    draws = posterior(np.linspace(-30, 30, KNOWN), rng)
    found = predict(draws, declaration, pd.DataFrame({"group": ["new", "g7", "g0"]}))
    theta, mu = draws["theta"].values, draws["mu"].values
    expected = [mu.mean(), theta[:, 7].mean(), theta[:, 0].mean()]
    sds = np.sqrt([mu.var() + TAU**2 + SIGMA**2, theta[:, 7].var() + SIGMA**2, theta[:, 0].var() + SIGMA**2])
    assert (np.abs(found["mean"] - expected) < 5 * sds / np.sqrt(1000)).all()
    assert (np.abs(found["sd"] / sds - 1) < 5 / np.sqrt(2000)).all()
    assert found["row"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"new": "()"}, r"no draws for.*predict_new=\('group',\)"),
        ({"prior": 'ZeroSumNormal("theta", 1, dims="group")'}, "cannot be drawn by themselves"),
        (
            {"prior": 'GaussianRandomWalk("theta", 0, 1, init_dist=pm.Normal.dist(0, 1), dims="group")'},
            "cannot be",
        ),
    ],
)
def test_new_groups_are_refused_without_permission_or_where_they_depend_on_the_others(
    arguments: dict[str, Any], words: str, tmp_path: Path
) -> None:
    draws = posterior(np.zeros(2), np.random.default_rng(0))
    with pytest.raises(BatchRefused, match=words):
        predict(draws, grouped(tmp_path, **arguments), pd.DataFrame({"group": ["g0", "g1", "new"]}))
