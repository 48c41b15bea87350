"""Frozen constants of preprocessing."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import arviz as az
import mlflow
import numpy as np
import pandas as pd
import pytest

from lindley.batch.batch import batch_from_frame
from lindley.errors import DeclarationRefused, LindleyError
from lindley.ledger.backend import open_ledger
from lindley.ledger.record import parse
from lindley.model import graph
from lindley.operations.update import plan_update
from lindley.verification.gather import verify_chain
from lindley.workspace import Workspace
from tests.support.fakes import MemoryLedger
from tests.support.files import NOISE, add, declared, head_of, holds
from tests.support.refits import import_trace

STANDARDISED = """
import pyarrow as pa, pymc as pm
from lindley import Declaration

def scales(batch):
    return {"center": batch["x"].mean(), "scale": batch["x"].std(ddof=0)}

def build(batch, constants):
    x = (batch["x"].to_numpy() - constants["center"]) / constants["scale"]
    with pm.Model() as model:
        b = pm.Normal("b", 0, 2, shape=2)
        mean = b[0] + b[1] * pm.Data("x_values", x)
        pm.Normal("y", mean, 0.5, observed=pm.Data("y_values", batch["y"].to_numpy()))
    return model

declaration = Declaration(
    name="standardised", build=build, constants=scales, row_key=("id",), observed=("y",),
    schema=pa.schema([("id", pa.int64()), ("x", pa.float64()), ("y", pa.float64())]),
)
"""


def regression_frame(start: int, center: float, rng: np.random.Generator) -> pd.DataFrame:
    x = rng.normal(center, 3, 30)
    return pd.DataFrame({"id": np.arange(start, start + 30), "x": x, "y": rng.normal(1 + 0.2 * x, NOISE)})


class Standardised:
    """Two links of a regression on x standardised by the first batch; the second lies elsewhere."""

    def __init__(self, folder: Path) -> None:
        self.workspace = Workspace(
            root=folder,
            models=folder,
            landing=folder / "landing",
            store=folder / "store",
            rejected=folder / "rejected",
            tracking_uri=f"sqlite:///{folder / 'mlflow.db'}",
        )
        self.ledger = open_ledger(self.workspace)
        self.declaration = declared(folder, STANDARDISED)
        rng = np.random.default_rng(11)
        self.frames = [regression_frame(0, 5, rng), regression_frame(30, 20, rng)]
        self.plans = [
            add(self.ledger, self.declaration, batch_from_frame(frame, self.declaration))
            for frame in self.frames
        ]
        x = self.frames[0]["x"]
        self.constants = {"center": x.mean(), "scale": x.std(ddof=0)}

    def exact(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance of both coefficients after all rows."""
        rows = pd.concat(self.frames)
        z = (rows["x"] - self.constants["center"]) / self.constants["scale"]
        design = np.column_stack([np.ones(len(rows)), z])
        covariance = np.linalg.inv(np.eye(2) / 2**2 + design.T @ design / NOISE**2)
        return covariance @ design.T @ rows["y"].to_numpy() / NOISE**2, covariance


@pytest.fixture(scope="module")
def standardised(tmp_path_factory: pytest.TempPathFactory) -> Standardised:
    return Standardised(tmp_path_factory.mktemp("constants"))


class TestConstants:
    def test_those_of_the_first_batch_are_frozen(self, standardised: Standardised) -> None:
        genesis = standardised.ledger.genesis("standardised")
        assert genesis is not None
        root = parse(genesis)["model"]
        assert root["constants"] == pytest.approx(standardised.constants, rel=1e-12)
        # What is carried was looked up in the model, which takes them.
        assert root["carried"] == ["b"]
        for plan in standardised.plans:
            assert plan.constants == root["constants"]
        assert head_of(standardised.ledger, "standardised")[0]["model"]["constants"] == root["constants"]
        assert verify_chain(standardised.ledger, "standardised").findings == ()

    def test_the_chain_is_the_pooled_answer_on_the_first_scale(self, standardised: Standardised) -> None:
        mean, covariance = standardised.exact()
        _, summary = head_of(standardised.ledger, "standardised")
        for place in range(2):
            holds(summary.loc[f"b[{place}]"], mean[place], np.sqrt(covariance[place, place]), links=2)
        # By its own rows the second batch would have had another scale.
        second = standardised.frames[1]["x"]
        assert abs(second.mean() - standardised.constants["center"]) > 3 * standardised.constants["scale"]

    def test_a_prediction_uses_the_frozen_ones(
        self, standardised: Standardised, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(mlflow.tracking._tracking_service.utils, "_tracking_uri", None, raising=False)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", standardised.workspace.tracking_uri)
        belief = mlflow.pyfunc.load_model("models:/standardised@head")
        inputs = pd.DataFrame({"id": [100, 101], "x": [18.0, 22.0]})
        table = belief.predict(inputs, params={"seed": 1})
        mean, covariance = standardised.exact()
        z = (inputs["x"].to_numpy() - standardised.constants["center"]) / standardised.constants["scale"]
        design = np.column_stack([np.ones(2), z])
        sd = np.sqrt(NOISE**2 + np.einsum("ri,ij,rj->r", design, covariance, design))
        # 1,000 draws of the chain's belief, and of the noise.
        assert (np.abs(table["mean"] - design @ mean) < 5 * sd / np.sqrt(1000) * np.sqrt(2)).all()
        assert (np.abs(table["sd"] / sd - 1) < 5 * np.sqrt(2 / 2000)).all()

    def test_a_later_file_with_other_constants_does_not_change_them(
        self, standardised: Standardised, tmp_path: Path
    ) -> None:
        changed = declared(tmp_path, STANDARDISED.replace("ddof=0", "ddof=1"))
        batch = batch_from_frame(regression_frame(60, 0, np.random.default_rng(1)), changed)
        plan = plan_update(standardised.ledger, changed, batch, accept_model_change=True)
        assert plan.constants == standardised.plans[0].constants

    def test_the_rows_are_built_with_them_wherever_a_model_is_built(self, tmp_path: Path) -> None:
        declaration = declared(tmp_path, STANDARDISED)
        frame = regression_frame(0, 5, np.random.default_rng(2))
        seen: list[dict[str, float]] = []

        def build(batch: pd.DataFrame, constants: dict[str, float]):
            seen.append(constants)
            return declaration.build(batch, constants)

        spy = dataclasses.replace(declaration, build=build)
        given = {"center": 1.0, "scale": 2.0}
        assert graph.carried_variables(spy, frame, given) == ("b",)
        graph.build(spy, frame, constants=given)
        assert seen == [given] * 3
        seen.clear()
        graph.build(spy, frame)
        assert seen == [spy.frozen_constants(frame)]

    def test_numbers_are_taken_as_they_are(self, tmp_path: Path) -> None:
        fixed = dataclasses.replace(declared(tmp_path, STANDARDISED), constants={"center": 1, "scale": 2})
        frame = regression_frame(0, 5, np.random.default_rng(2))
        assert fixed.frozen_constants(frame) == {"center": 1.0, "scale": 2.0}
        assert dataclasses.replace(fixed, constants=None).frozen_constants(frame) == {}

    def test_an_import_does_not_freeze_those_of_rows_that_nobody_had(self, tmp_path: Path) -> None:
        text = STANDARDISED.replace('batch["x"].std(ddof=0)', '1.0 + batch["x"].std(ddof=0)')
        declaration, ledger = declared(tmp_path, text), MemoryLedger()
        draws = np.random.default_rng(4).normal(0, 1, (4, 500, 2))
        az.from_dict({"posterior": {"b": draws}}).to_netcdf(tmp_path / "trace.nc", engine="h5netcdf")
        with pytest.raises(LindleyError, match="constants"):
            import_trace(ledger, declaration, tmp_path / "trace.nc")
        # Numbers need no rows.
        fixed = text.replace("constants=scales", 'constants={"center": 5.0, "scale": 3.0}')
        assert import_trace(ledger, declared(tmp_path, fixed), tmp_path / "trace.nc").link == 1
        assert head_of(ledger, "standardised")[0]["model"]["constants"] == {"center": 5, "scale": 3}

    @pytest.mark.parametrize(
        ("body", "said"),
        [
            ("{'center': float('nan'), 'scale': 1.0}", "center = nan"),
            ("{'center': 0.0, 'scale': float('inf')}", "scale = inf"),
            ("{'center': 'one'}", "ValueError"),
            ("batch['z'].mean()", "KeyError"),
            ("1.0", "AttributeError"),
        ],
    )
    def test_what_is_no_finite_number_by_name_is_refused(self, tmp_path: Path, body: str, said: str) -> None:
        text = STANDARDISED.replace('{"center": batch["x"].mean(), "scale": batch["x"].std(ddof=0)}', body)
        declaration, ledger = declared(tmp_path, text), MemoryLedger()
        batch = batch_from_frame(regression_frame(0, 5, np.random.default_rng(3)), declaration)
        with pytest.raises(DeclarationRefused) as caught:
            plan_update(ledger, declaration, batch)
        assert said in caught.value.found
        assert ledger.chains() == []
