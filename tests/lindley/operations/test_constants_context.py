"""Frozen constants of preprocessing, and rows before a batch that its model conditions on."""

from __future__ import annotations

import dataclasses
import io
from dataclasses import replace
from pathlib import Path

import arviz as az
import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xarray as xr
from scipy import stats

from lindley.batch.batch import Batch, batch_from_frame
from lindley.batch.digest import content_digest
from lindley.errors import DeclarationRefused, LindleyError
from lindley.inference.sampling import FitSettings
from lindley.ledger.backend import open_ledger
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import find_chain, read_record, read_summary
from lindley.ledger.record import parse
from lindley.ledger.registration import register_link
from lindley.model import graph
from lindley.model.declaration import Declaration, load_file
from lindley.operations.log import log_plan
from lindley.operations.plan import Plan, fit_plan
from lindley.operations.rebase import plan_rebase
from lindley.operations.update import plan_update
from lindley.serving.predict import predict
from lindley.verification.gather import verify_chain
from lindley.workspace import Workspace
from tests.support.fakes import MemoryLedger
from tests.support.refits import import_trace

SETTINGS = FitSettings(draws=500, tune=300)
NOISE = 0.5

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

LAGGED = """
import numpy as np, pyarrow as pa, pymc as pm
from lindley import Declaration

def build(batch, context):
    y = np.concatenate([context["y"].to_numpy(), batch["y"].to_numpy()])
    with pm.Model() as model:
        phi = pm.Normal("phi", 0, 1)
        before = pm.Data("before", y[:-1])
        pm.Normal("steps", phi * before, 0.5, observed=pm.Data("after", y[1:]))
    return model

declaration = Declaration(
    name="lagged", build=build, context=1, row_key=("t",), observed=("y",),
    schema=pa.schema([("t", pa.int64()), ("y", pa.float64())]),
)
"""


def declared(folder: Path, text: str) -> Declaration:
    path = folder / "model.py"
    path.write_text(text, encoding="utf-8")
    return load_file(path)


def add(ledger: Ledger, declaration: Declaration, batch: Batch) -> Plan:
    """Append a batch with the real sampler."""
    plan = replace(plan_update(ledger, declaration, batch), settings=SETTINGS)
    assert plan.noop is None
    found = register_link(ledger, log_plan(ledger, plan, fit_plan(plan)))
    assert found.status == "accepted"
    return plan


def head_of(ledger: Ledger, name: str) -> tuple[dict, pd.DataFrame]:
    head = find_chain(ledger, name).head
    assert head is not None
    record = read_record(ledger, head)
    return record, read_summary(ledger, head, record)


def holds(row: pd.Series, mean: float, sd: float, *, links: int) -> None:
    """Hold a head's parameter against a normal posterior; every link's match may add its error."""
    ess = min(row["ess_bulk"], row["ess_tail"])
    assert ess > 400
    assert abs(row["mean"] - mean) < 5 * sd * np.sqrt(links / ess)
    assert abs(row["sd"] / sd - 1) < 5 * np.sqrt(links / (2 * ess))


# -- constants ----------------------------------------------------------------------------------------


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


# -- context ------------------------------------------------------------------------------------------


class Lagged:
    """Three links of an autoregression whose first observation of a batch follows the one before it."""

    sizes = (12, 9, 15)

    def __init__(self, folder: Path) -> None:
        self.ledger = MemoryLedger()
        self.declaration = declared(folder, LAGGED)
        rng, y = np.random.default_rng(5), [2.0]
        while len(y) < sum(self.sizes):
            y.append(0.8 * y[-1] + rng.normal(0, NOISE))
        self.y = np.array(y)
        ends = np.cumsum(self.sizes)
        frames = [
            pd.DataFrame({"t": np.arange(end - size, end), "y": self.y[end - size : end]})
            for size, end in zip(self.sizes, ends, strict=True)
        ]
        self.plans = [
            add(self.ledger, self.declaration, batch_from_frame(frame, self.declaration)) for frame in frames
        ]

    def exact(self, pairs: list[int]) -> stats.distributions.rv_frozen:
        """Posterior of phi from the steps that end at the given observations."""
        before, after = self.y[np.array(pairs) - 1], self.y[pairs]
        precision = 1 + before @ before / NOISE**2
        return stats.norm(before @ after / NOISE**2 / precision, precision**-0.5)


@pytest.fixture(scope="module")
def lagged(tmp_path_factory: pytest.TempPathFactory) -> Lagged:
    return Lagged(tmp_path_factory.mktemp("context"))


@pytest.fixture(scope="module")
def refitted(lagged: Lagged) -> MemoryLedger:
    """The chain with a pooled refit as its fourth link."""
    ledger = lagged.ledger.clone()
    plan = replace(plan_rebase(ledger, lagged.declaration), settings=SETTINGS)
    link = log_plan(ledger, plan, fit_plan(plan))
    assert register_link(ledger, link).link == 4
    return ledger


class TestContext:
    def test_the_chain_is_the_pooled_answer(self, lagged: Lagged) -> None:
        every = list(range(1, len(lagged.y)))
        exact = lagged.exact(every)
        _, summary = head_of(lagged.ledger, "lagged")
        holds(summary.loc["phi"], exact.mean(), exact.std(), links=3)

    def test_each_step_is_counted_once(self, lagged: Lagged) -> None:
        """The likelihood of a link has its rows alone: as many steps as rows, one fewer in the first."""
        for number, (size, plan) in enumerate(zip(lagged.sizes, lagged.plans, strict=True), 1):
            context = plan.batch.context_frame()
            assert context is not None
            model = graph.build(lagged.declaration, plan.batch.frame(), context=context)
            assert len(model["after"].get_value()) == size - (number == 1)
            counted = lagged.ledger.run_of("lagged", number).files["batch.parquet"]
            assert len(pd.read_parquet(io.BytesIO(counted))) == size

    def test_it_is_empty_for_the_first_batch_and_the_last_row_before_the_others(self, lagged: Lagged) -> None:
        frames = [plan.batch.context_frame() for plan in lagged.plans]
        assert all(frame is not None for frame in frames)
        assert [list(frame["t"]) for frame in frames if frame is not None] == [[], [11], [20]]
        assert [list(frame.columns) for frame in frames if frame is not None] == [["t", "y"]] * 3

    def test_the_record_states_its_rows_and_digest(self, lagged: Lagged) -> None:
        genesis = lagged.ledger.genesis("lagged")
        assert genesis is not None
        assert parse(genesis)["model"]["context"] == 1
        for number, plan in enumerate(lagged.plans, 1):
            record = parse(lagged.ledger.run_of("lagged", number).files["record.json"])
            assert plan.batch.context is not None
            assert record["batch"]["context"] == {
                "rows": int(number > 1), "digest": content_digest(plan.batch.context),
            }  # fmt: skip
            # What identifies a batch are its own rows.
            alone = dataclasses.replace(plan.batch, context=None)
            assert record["batch"]["digest"] == content_digest(alone.table)
        assert verify_chain(lagged.ledger, "lagged").findings == ()

    def test_what_is_carried_is_looked_up_with_it(self, lagged: Lagged) -> None:
        genesis = lagged.ledger.genesis("lagged")
        assert genesis is not None
        assert parse(genesis)["model"]["carried"] == ["phi"]

    def test_the_same_rows_again_are_nothing_to_do(self, lagged: Lagged) -> None:
        again = dataclasses.replace(lagged.plans[1].batch, context=None)
        assert "link 2" in str(plan_update(lagged.ledger, lagged.declaration, again).noop)

    def test_a_prediction_follows_the_last_row_of_the_chain(self, lagged: Lagged) -> None:
        self.predicts(lagged, lagged.ledger, 3)

    def test_a_pooled_refit_counts_each_step_once_too(self, refitted: MemoryLedger, lagged: Lagged) -> None:
        exact = lagged.exact(list(range(1, len(lagged.y))))
        record, summary = head_of(refitted, "lagged")
        assert (record["kind"], record["posterior"]["pooled"]) == ("rebase", "rows")
        holds(summary.loc["phi"], exact.mean(), exact.std(), links=1)
        assert verify_chain(refitted, "lagged").findings == ()

    def test_a_prediction_from_a_pooled_refit_follows_the_last_row_too(
        self, refitted: MemoryLedger, lagged: Lagged
    ) -> None:
        self.predicts(lagged, refitted, 4)

    @staticmethod
    def predicts(lagged: Lagged, ledger: MemoryLedger, number: int) -> None:
        with xr.open_dataset(io.BytesIO(ledger.run_of("lagged", number).files["belief/draws.nc"])) as held:
            draws = held.load()
        inputs = pd.DataFrame({"t": [100, 101, 102], "y": [1.0, 3.0, 0.0]})
        table = predict(draws, lagged.declaration, inputs, seed=4)
        assert list(table["row"]) == [0, 1, 2]
        exact, before = lagged.exact(list(range(1, len(lagged.y)))), np.array([lagged.y[-1], 1.0, 3.0])
        sd = np.sqrt(NOISE**2 + (exact.std() * before) ** 2)
        # 1,000 draws of the belief, and of the noise.
        assert (np.abs(table["mean"] - exact.mean() * before) < 5 * sd / np.sqrt(1000) * np.sqrt(2)).all()

    def test_a_negative_number_of_rows_is_refused(self, lagged: Lagged) -> None:
        with pytest.raises(DeclarationRefused, match="context as a number of rows"):
            dataclasses.replace(lagged.declaration, context=-1)


def test_a_model_may_have_both(tmp_path: Path) -> None:
    seen: list[tuple[dict[str, float], list[int]]] = []

    def build(batch: pd.DataFrame, context: pd.DataFrame, constants: dict[str, float]):
        seen.append((constants, list(context["t"])))
        return lagged_model.build(batch, context)

    lagged_model = declared(tmp_path, LAGGED)
    both = dataclasses.replace(
        lagged_model, build=build, constants=lambda batch: {"scale": float(batch["y"].max())}, context=2
    )
    frame = pd.DataFrame({"t": [0, 1, 2], "y": [1.0, 3.0, 2.0]})
    batch = batch_from_frame(frame, both)
    plan = plan_update(MemoryLedger(), both, batch)
    assert plan.carried == ("phi",)
    assert plan.constants == {"scale": 3.0}
    assert seen == [({"scale": 3.0}, [])] * 3  # what is carried, and the structure
    assert isinstance(plan.batch.context, pa.Table)
