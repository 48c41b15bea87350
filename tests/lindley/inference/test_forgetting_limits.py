"""Limits of forgetting: prior sd caps, half-lives only by times, sums only over the same batches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm
import pytest
from scipy import stats

from lindley.batch.batch import Batch, batch_from_frame
from lindley.errors import DeclarationRefused
from lindley.inference import forgetting
from lindley.inference.info import Fit
from lindley.inference.inputs import Data, Options
from lindley.inference.memory_chain import MemoryChain, advance
from lindley.inference.sampling import FitSettings
from lindley.model.declaration import Declaration
from lindley.model.policy import REST, Forgetting, Policy
from lindley.prior.belief import Belief

WIDTH, NOISE = 2.0, 0.5
SETTINGS = FitSettings(draws=500, tune=300)
SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64()),
        pa.field("seen", pa.bool_()),
        pa.field("y", pa.float64()),
        ("week", pa.int64()),
    ]
)


def two_means(batch: pd.DataFrame) -> pm.Model:
    """Two means; only rows that are `seen` are informative on `nu`."""
    with pm.Model() as model:
        mu, nu = pm.Normal("mu", 0, WIDTH), pm.Normal("nu", 0, WIDTH)
        seen = pm.Data("seen_values", batch["seen"].to_numpy().astype(float))
        mean = pm.math.switch(seen > 0, nu, mu)
        pm.Normal("y", mean, NOISE, observed=pm.Data("y_values", batch["y"].to_numpy()))
    return model


def declared(**policy: object) -> Declaration:
    return Declaration(
        name="chain",
        build=two_means,
        schema=SCHEMA,
        row_key=("id",),
        carried=("mu", "nu"),
        policy=Policy(family="normal", **policy),  # type: ignore[arg-type]
    )


def batch(declaration: Declaration, number: int, *, seen: int = 0, mean: float = 1.0) -> Batch:
    rng = np.random.default_rng(number)
    of_nu = np.arange(4) < seen
    frame = {"id": 10 * number + np.arange(4), "seen": of_nu, "y": rng.normal(mean, NOISE, 4), "week": number}
    return batch_from_frame(pd.DataFrame(frame), declaration)


def run(declaration: Declaration, batches: list[Batch]) -> tuple[MemoryChain, list[Fit]]:
    chain, fits = MemoryChain(), []
    for seed, item in enumerate(batches):
        data = Data(declaration=declaration, batches=(item,), carried=("mu", "nu"))
        chain, found = advance(chain, data, Options(seed=seed, settings=SETTINGS))
        fits.append(found)
    return chain, fits


def sds(belief: Belief) -> np.ndarray:
    found: np.ndarray = np.linalg.norm(belief.matched.map.jacobian(np.zeros(2)), axis=-1)
    return found


def test_a_coordinate_without_data_never_gets_wider_than_the_first_prior() -> None:
    declaration = declared(forget={REST: Forgetting(discount=0.3)})
    batches = [batch(declaration, i, seen=2 if i == 0 else 0) for i in range(6)]
    chain, fits = run(declaration, batches)
    # Without a cap the sd of nu would be 0.35 / 0.3^(5/2) = 7.1.
    cap = fits[-1].belief.forgetting["prior_sd_caps"]["nu"]
    # Half the distance of two quantiles of 2,000 normal draws has a standard error of 2.7%.
    assert cap == pytest.approx(WIDTH, rel=0.12)
    assert sds(chain.head)[1] == pytest.approx(cap, rel=1e-6)  # type: ignore[arg-type]
    assert sds(chain.beliefs[1])[1] == pytest.approx(sds(chain.beliefs[0])[1] / np.sqrt(0.3), rel=1e-6)
    assert [set(f.belief.forgetting["prior_sd_caps"]) for f in fits] == [{"mu", "nu"}] * 6


def test_a_belief_wider_than_its_cap_is_unchanged() -> None:
    declaration = declared(forget={REST: Forgetting(discount=0.5)})
    chain, _ = run(declaration, [batch(declaration, 0)])
    assert chain.head is not None
    matched = chain.head.matched
    wide = forgetting.widened(matched, {REST: 0.5}, {"mu": 0.01, "nu": 0.01})
    assert wide is matched
    free = forgetting.widened(matched, {REST: 0.5})
    only_mu = forgetting.widened(matched, {REST: 0.5}, {"nu": 0.01})
    np.testing.assert_allclose(only_mu.map.linear[0], free.map.linear[0])


def test_caps_follow_a_changed_model_and_stay_for_labels_that_left() -> None:
    declaration = declared(forget={REST: Forgetting(discount=0.5)})
    chain, (first,) = run(declaration, [batch(declaration, 0)])
    assert chain.head is not None
    graph, same = first.problem.graph, forgetting.prior_sd_caps(first.problem.graph, chain.head, 5)
    assert same == {name: first.belief.forgetting[name] for name in ("prior_sd_caps", "prior_sd_caps_of")}
    older = {"prior_sd_caps": {"mu": 0.1, "nu": 0.1, "left": 0.7}, "prior_sd_caps_of": "another model"}
    found = forgetting.prior_sd_caps(graph, replace(chain.head, forgetting=older), 5)
    assert found["prior_sd_caps_of"] == ""  # a declaration in memory has no code with a name
    assert found["prior_sd_caps"]["left"] == 0.7
    assert found["prior_sd_caps"]["mu"] == pytest.approx(WIDTH, rel=0.12)


def test_a_half_life_needs_times_and_not_numbers() -> None:
    declaration = declared(forget={REST: Forgetting(half_life="10D", time="week")})
    with pytest.raises(
        DeclarationRefused, match=r"(?s)cannot be measured by the column 'week'.*without a unit"
    ):
        forgetting.newest(batch(declaration, 1), "week")


def test_a_changed_grid_starts_its_sums_anew() -> None:
    declaration = declared(forget={"mu": Forgetting(grid=(0.5, 0.8, 1.0))})
    one = batch(declaration, 1)
    matched = run(declared(), [batch(declaration, 0)])[0].head
    assert matched is not None
    older = replace(matched, forgetting={"totals": {"mu": {"0.5": -20.0, "1.0": -30.0}}})
    assert forgetting.discounts(declaration, older, one) == {"mu": 1.0}
    scores = {"mu": {"0.5": -3.0, "0.8": -1.0, "1.0": -2.0}}
    known = forgetting.kept_for_next(declaration, older, one, scores)
    assert known["totals"] == scores
    newer = replace(matched, forgetting=known)
    assert forgetting.discounts(declaration, newer, one) == {"mu": 0.8}
    again = forgetting.kept_for_next(declaration, newer, one, scores)
    assert again["totals"]["mu"]["0.8"] == -2.0


def test_a_grid_with_a_robust_mixture_has_the_mixtures_own_predictive_densities() -> None:
    weight, grid = 0.2, (0.4, 1.0)
    declaration = declared(robust=weight, forget={"mu": Forgetting(grid=grid)})
    first, second = batch(declaration, 0, mean=0.0), batch(declaration, 1, mean=1.2)
    _, (_, found) = run(declaration, [first, second])
    y0, y1 = (item.frame()["y"].to_numpy() for item in (first, second))
    precision = WIDTH**-2 + 4 / NOISE**2
    mean = y0.sum() / NOISE**2 / precision

    def predictive(center: float, variance: float) -> float:
        covariance = NOISE**2 * np.eye(4) + variance
        return float(stats.multivariate_normal(np.full(4, center), covariance).logpdf(y1))

    own = np.log(weight) + predictive(0.0, WIDTH**2)
    exact = {
        repr(d): np.logaddexp(np.log1p(-weight) + predictive(mean, 1 / (d * precision)), own) for d in grid
    }
    scores = found.belief.forgetting["scores"]["mu"]
    # The batch is where both components matter, so that the discounts differ by little.
    assert 0.1 < exact["0.4"] - exact["1.0"] < 3
    error = 5 * found.assessment.metrics["log_predictive_se"] + 0.05
    assert scores == {name: pytest.approx(value, abs=error) for name, value in exact.items()}


def groups(batch: pd.DataFrame) -> pm.Model:
    """A mean for each label of the batch: rows that are `seen` are of one, the others of the other."""
    names = [name for name, of in (("a", False), ("b", True)) if (batch["seen"] == of).any()]
    with pm.Model(coords={"group": names}) as model:
        theta = pm.Normal("theta", 0, WIDTH, dims="group")
        which = pm.Data("which", batch["seen"].to_numpy().astype(int) if len(names) > 1 else [0] * len(batch))
        pm.Normal("y", theta[which], NOISE, observed=pm.Data("y_values", batch["y"].to_numpy()))
    return model


def test_a_grid_is_scored_where_a_label_has_left() -> None:
    grid = (0.4, 1.0)
    declaration = replace(declared(forget={REST: Forgetting(grid=grid)}), build=groups, carried=("theta",))
    first, second = batch(declaration, 0, seen=2, mean=0.0), batch(declaration, 1, mean=1.0)
    chain = MemoryChain()
    for seed, item in enumerate((first, second)):
        data = Data(declaration=declaration, batches=(item,), carried=("theta",))
        chain, found = advance(chain, data, Options(seed=seed, settings=SETTINGS))
    assert found.problem.coordinates.names == ["theta[a]", "theta[b]"]
    before, y = first.frame(), second.frame()["y"].to_numpy()
    known = before.loc[~before["seen"], "y"].to_numpy()
    precision = WIDTH**-2 + len(known) / NOISE**2
    mean = known.sum() / NOISE**2 / precision
    exact = {
        repr(d): float(
            stats.multivariate_normal(np.full(4, mean), NOISE**2 * np.eye(4) + 1 / (d * precision)).logpdf(y)
        )
        for d in grid
    }
    error = 5 * found.assessment.metrics["log_predictive_se"] + 0.05
    assert found.belief.forgetting["scores"][REST] == {
        k: pytest.approx(v, abs=error) for k, v in exact.items()
    }
