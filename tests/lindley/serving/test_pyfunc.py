"""The registered pyfunc in one process: quick, and exactly what the belief gives alone, in any thread."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from lindley.ledger.mlflow.packaging import save_belief
from lindley.ledger.netcdf import write_netcdf
from lindley.model.declaration import Declaration
from lindley.serving.predict import Predictor
from lindley.serving.rows import Numbers
from tests.support.fakes import declare


@pytest.fixture(scope="module")
def belief(tmp_path_factory: pytest.TempPathFactory) -> tuple[Declaration, xr.Dataset, Any]:
    folder = tmp_path_factory.mktemp("pyfunc")
    declaration = declare(folder)
    (folder / "model.py").write_text((folder / "coins.py").read_text())
    draws = xr.Dataset({"theta": ("sample", np.random.default_rng(0).beta(40, 60, 1000))})
    write_netcdf(draws, folder / "draws.nc")
    save_belief(folder, declaration, folder / "draws.nc")
    return declaration, draws, mlflow.pyfunc.load_model(str(Path(folder) / "belief"))


def rows(number: int) -> pd.DataFrame:
    """Return rows of a size and with values of their own; some have a row key, some are out of order."""
    rng = np.random.default_rng(number)
    size = (1, 2, 7, 40)[number % 4]
    found = pd.DataFrame({"n": rng.integers(1, 10 ** rng.integers(1, 5), size)})
    return found.assign(id=rng.permutation(size)) if number % 3 else found


def test_many_threads_get_what_each_gets_alone(belief: tuple[Declaration, xr.Dataset, Any]) -> None:
    declaration, draws, model = belief
    inputs = [rows(number) for number in range(24)]
    alone = [Predictor(draws, declaration).predict(frame, seed=5) for frame in inputs]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda frame: model.predict(frame, params={"seed": 5}), inputs * 2))
    for one, other in zip(alone * 2, together, strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_numbers_take_the_quick_way_through_mlflow(
    belief: tuple[Declaration, xr.Dataset, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    quick: list[bool] = []
    read = Numbers.read
    monkeypatch.setattr(
        Numbers, "read", lambda self, given: quick.append((f := read(self, given)) is not None) or f
    )  # type: ignore[func-returns-value]
    for frame in (rows(1), rows(1).astype(object)):
        belief[2].predict(frame)
    assert quick == [True, True]
