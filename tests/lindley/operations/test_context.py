"""Rows before a batch that its model conditions on."""

from __future__ import annotations

import dataclasses
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xarray as xr
from scipy import stats

from lindley.batch.batch import batch_from_frame
from lindley.batch.digest import content_digest
from lindley.errors import DeclarationRefused
from lindley.ledger.record import parse
from lindley.ledger.registration import register_link
from lindley.model import graph
from lindley.operations.log import log_plan
from lindley.operations.plan import fit_plan
from lindley.operations.rebase import plan_rebase
from lindley.operations.update import plan_update
from lindley.serving.predict import predict
from lindley.verification.gather import verify_chain
from tests.support.fakes import MemoryLedger
from tests.support.files import NOISE, SETTINGS, add, declared, head_of, holds

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
