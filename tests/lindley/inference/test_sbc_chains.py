"""Calibration of chains that carry state, of labels that left, and what cannot be calibrated."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm
import pytest

from lindley.batch.batch import Batch, batch_from_frame
from lindley.errors import ModelRefused
from lindley.inference import sbc
from lindley.inference.inputs import Data, Options, Start
from lindley.inference.sampling import FitSettings
from lindley.inference.sbc import SbcResult, calibrate
from lindley.inference.step import fit
from lindley.model.declaration import Declaration
from lindley.model.policy import REST, Forgetting, Policy
from lindley.prior.belief import Belief

SETTINGS = FitSettings(chains=2, tune=150, draws=250, attempts=1)
NOISE = 1e-3
SCHEMA = pa.schema([("id", pa.int64()), ("group", pa.string()), ("y", pa.float64())])


def walk(batch: pd.DataFrame) -> pm.Model:
    """A level that moves by a drift and by a local shock from batch to batch."""
    with pm.Model() as model:
        start, drift = pm.Normal("start", 0, 3), pm.Normal("drift", 0, 1)
        shock = pm.Normal("shock", 0, 1, shape=1)
        end = pm.Deterministic("end", start + drift + shock[0])
        pm.Normal("y", end, NOISE, observed=pm.Data("y_values", batch["y"].to_numpy()))
    return model


def groups(batch: pd.DataFrame) -> pm.Model:
    names = sorted(set(batch["group"]))
    with pm.Model(coords={"group": names}) as model:
        theta = pm.Normal("theta", 0, 1, dims="group")
        which = pm.Data("which", batch["group"].map(names.index).to_numpy())
        pm.Normal("y", theta[which], 0.5, observed=pm.Data("y_values", batch["y"].to_numpy()))
    return model


def declared(build: Callable[[pd.DataFrame], pm.Model], *carried: str, **options: Any) -> Declaration:
    given = {"policy": Policy(replay=0)} | options
    return Declaration(
        name="chain", build=build, schema=SCHEMA, row_key=("id",), observed=("y",), carried=carried, **given
    )


def template(declaration: Declaration, letters: str = "aab") -> Batch:
    frame = {"id": np.arange(len(letters)), "group": list(letters), "y": 0.3}
    return batch_from_frame(pd.DataFrame(frame), declaration)


def run(declaration: Declaration, batch: Batch, belief: Belief | None = None, **options: Any) -> SbcResult:
    given: dict[str, Any] = {"updates": 1, "simulations": 1} | options
    return calibrate(belief, data(declaration, batch), Options(seed=1, settings=SETTINGS), **given)


def data(declaration: Declaration, batch: Batch) -> Data:
    assert declaration.carried is not None
    return Data(declaration=declaration, batches=(batch,), carried=declaration.carried)


def test_true_state_goes_on_from_batch_to_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    declaration = declared(walk, "start", "drift", carry={"start": "end"})
    met: list[tuple[dict[str, float], float, float]] = []
    original = sbc._simulated

    def keep(*args: Any) -> tuple[Batch, dict[str, np.ndarray]]:
        batch, ends = original(*args)
        values = {name: float(value[0]) for name, value in args[2].items()}
        met.append((values, float(ends["start"][0]), float(batch.frame()["y"].mean())))
        return batch, ends

    monkeypatch.setattr(sbc, "_simulated", keep)
    found = run(declaration, template(declaration), updates=3)
    assert found.names == ("drift",)
    assert len({values["drift"] for values, _, _ in met}) == 1
    # Outcomes are of the state that the batch ends in, shock included, and the next one starts there.
    for (_, end, y), (after, _, _) in pairwise(met):
        assert y == pytest.approx(end, abs=5 * NOISE)
        assert after["start"] == end
    shocks = [end - values["start"] - values["drift"] for values, end, _ in met]
    assert len(set(shocks)) == 3
    assert max(map(abs, shocks)) < 5


def test_labels_that_left_are_accepted_and_new_ones_are_refused() -> None:
    declaration = declared(groups, "theta")
    both = template(declaration, "aabb")
    belief = fit(Start(), data(declaration, both), Options(seed=1, settings=SETTINGS)).belief
    assert run(declaration, template(declaration, "bb"), belief).names == ("theta[b]",)
    with pytest.raises(ModelRefused, match=r"new coordinates theta\[c\]"):
        run(declaration, template(declaration, "bc"), belief)


def test_the_true_value_of_a_label_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    declaration = declared(groups, "theta")
    one = batch_from_frame(
        pd.DataFrame({"id": np.arange(80), "group": ["a", "b"] * 40, "y": [-3.0, 3.0] * 40}), declaration
    )
    belief = fit(Start(), data(declaration, one), Options(seed=1, settings=SETTINGS)).belief
    truths: list[np.ndarray] = []
    original = sbc._truth

    def keep(*args: Any) -> np.ndarray:
        truths.append(original(*args))
        return truths[-1]

    monkeypatch.setattr(sbc, "_truth", keep)
    run(declaration, template(declaration, "bb"), belief)
    assert truths[0].shape == (1,)
    assert 2 < truths[0][0] < 4


def with_potential(batch: pd.DataFrame) -> pm.Model:
    model = groups(batch)
    with model:
        pm.Potential("extra", -(model["theta"].sum() ** 2))
    return model


@pytest.mark.parametrize(
    ("build", "options", "found"),
    [
        (groups, {"context": 2}, "a context of 2 rows"),
        (groups, {"policy": Policy(forget={REST: Forgetting(discount=0.9)})}, "a policy that forgets"),
        (groups, {"policy": Policy(robust=0.1)}, "a robust mixture"),
        (with_potential, {"potentials": {"extra": "likelihood"}}, "the potentials extra"),
        (with_potential, {"potentials": {"extra": "prior"}}, "the potentials extra"),
    ],
)
def test_what_cannot_be_simulated_as_the_chain_sees_it_is_refused(
    build: Callable[[pd.DataFrame], pm.Model], options: dict[str, Any], found: str
) -> None:
    declaration = declared(build, "theta", **options)
    with pytest.raises(ModelRefused, match=rf"(?s)cannot be simulated.*{found}"):
        run(declaration, template(declaration))
