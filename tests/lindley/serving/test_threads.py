"""Requests do not share anything: many at once get the answers that each gets alone, bit for bit."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm
import pytensor
import pytest
import xarray as xr

from lindley.errors import BatchRefused
from lindley.inference.predictive import Prepared
from lindley.model.declaration import BY_CONTENT, BY_POSITION, Declaration
from lindley.serving import predict as serving
from lindley.serving.predict import predict

SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("n", pa.int64(), nullable=False),
        pa.field("k", pa.int64(), nullable=False),
    ]
)


def trials(batch: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        theta = pm.Beta("theta", 2, 3)
        pm.Binomial("k", pm.Data("n", batch["n"].to_numpy()), theta, observed=pm.Data("obs", batch["k"]))
    return model


def plain_arrays(batch: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        theta = pm.Beta("theta", 2, 3)
        pm.Binomial("k", batch["n"].to_numpy(), theta, observed=batch["k"].to_numpy())
    return model


def loop(batch: pd.DataFrame) -> pm.Model:
    """Compiled: what has a loop is not evaluated with NumPy."""
    with pm.Model() as model:
        theta = pm.Beta("theta", 2, 3)
        share = pytensor.scan(lambda before, by: before * by, outputs_info=theta, non_sequences=[theta],
                              n_steps=2, return_updates=False)  # fmt: skip
        pm.Binomial("k", pm.Data("n", batch["n"].to_numpy()), share[-1], observed=pm.Data("obs", batch["k"]))
    return model


def declared(build: Callable[[pd.DataFrame], pm.Model]) -> Declaration:
    return Declaration(name="trials", build=build, schema=SCHEMA, row_key=("id",), observed=("k",))


@pytest.fixture(scope="module")
def draws() -> xr.Dataset:
    return xr.Dataset({"theta": ("sample", np.random.default_rng(0).beta(40, 60, 1000))})


@pytest.fixture
def eager() -> Iterator[None]:
    """Let threads take turns a thousand times as often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


def request_of(number: int) -> pd.DataFrame:
    rng = np.random.default_rng(number)
    size = [1, 2, 7, 40][number % 4]
    return pd.DataFrame({"id": np.arange(size), "n": rng.integers(1, 10 ** rng.integers(1, 5), size)})


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(("build", "requests"), [(trials, 40), (plain_arrays, 40), (loop, 8)])
def test_many_requests_at_once_get_the_answers_of_each_alone(
    build: Callable[[pd.DataFrame], pm.Model], requests: int, draws: xr.Dataset
) -> None:
    declaration = declared(build)
    inputs = [request_of(number) for number in range(requests)]
    alone = [predict(draws, declaration, frame, seed=3) for frame in inputs]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(2):
            together = list(pool.map(lambda frame: predict(draws, declaration, frame, seed=3), inputs))
            for one, other in zip(alone, together, strict=True):
                pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_a_prediction_has_its_exact_moments(draws: xr.Dataset) -> None:
    theta = draws["theta"].values
    table = predict(draws, declared(trials), pd.DataFrame({"n": [10, 1000]}))
    mean, n = theta.mean(), np.array([10, 1000])
    sd = np.sqrt(n * (theta * (1 - theta)).mean() + n**2 * theta.var())
    assert (np.abs(table["mean"] - n * mean) < 5 * sd / np.sqrt(1000)).all()
    assert (np.abs(table["sd"] / sd - 1) < 5 / np.sqrt(2000)).all()


def test_rows_come_back_as_they_were_given_with_their_keys_where_there_are_any(draws: xr.Dataset) -> None:
    declaration = declared(trials)
    n = [1000, 1, 100, 10]
    table = predict(draws, declaration, pd.DataFrame({"n": n, "id": [3, 1, 2, 1]}))
    assert list(table["id"]) == [3, 1, 2, 1]
    assert list(table["row"]) == [0, 1, 2, 3]
    assert np.argsort(table["mean"]).tolist() == [1, 3, 2, 0]
    assert list(table) == ["variable", "row", "id", "mean", "sd", "q05", "q25", "q50", "q75", "q95"]
    assert "id" not in predict(draws, declaration, pd.DataFrame({"n": n}))


@pytest.mark.parametrize("key", [BY_CONTENT, BY_POSITION])
def test_rows_without_a_key_are_predicted_in_their_order(key: tuple[str, ...], draws: xr.Dataset) -> None:
    declaration = replace(declared(trials), row_key=key)
    table = predict(draws, declaration, pd.DataFrame({"n": [1000, 1, 100], "id": [1, 1, 1]}))
    assert np.argsort(table["mean"]).tolist() == [1, 2, 0]
    assert "id" not in table


def test_a_model_that_uses_the_row_key_asks_for_it(draws: xr.Dataset) -> None:
    def build(batch: pd.DataFrame) -> pm.Model:
        return trials(batch.assign(n=batch["n"] + batch["id"]))

    with pytest.raises(BatchRefused, match=r"could not be built without the row key.*values of id"):
        predict(draws, declared(build), pd.DataFrame({"n": [1]}))
    assert len(predict(draws, declared(build), pd.DataFrame({"n": [1], "id": [2]}))) == 1


@pytest.mark.parametrize(
    ("value", "words"), [(10.5, "10.5 in row 1"), (-10, "ValueError: n < 0"), (None, "'n' in 1 row")]
)
def test_numbers_that_do_not_fit_are_refused(value: float | None, words: str, draws: xr.Dataset) -> None:
    with pytest.raises(BatchRefused, match=words):
        predict(draws, declared(trials), pd.DataFrame({"n": [value]}))


def test_many_rows_have_fewer_draws_each_and_too_many_are_refused(
    draws: xr.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    held = Prepared.blocks
    monkeypatch.setattr(
        Prepared,
        "blocks",
        lambda self, values, *data, **more: (
            seen.append(len(values["theta"])) or held(self, values, *data, **more)
        ),
    )
    monkeypatch.setattr(serving, "_MOST_DRAWN", 20_000)
    monkeypatch.setattr(serving, "MOST_VALUES", 200)
    for size in (10, 20, 40, 200):
        table = predict(draws, declared(trials), pd.DataFrame({"n": np.full(size, 100)}))
        assert len(table) == size
    assert seen == [1000, 1000, 500, 100]
    with pytest.raises(BatchRefused, match=r"too many rows.*at most 200 predicted values.*Found: 201"):
        predict(draws, declared(trials), pd.DataFrame({"n": np.full(201, 100)}))
