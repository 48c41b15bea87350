"""Circular variables: recentred about their circular mean before they are diagnosed, matched and carried."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm
import pytest
from scipy import special, stats

from lindley.batch.batch import batch_from_frame
from lindley.inference.inputs import Data, Options
from lindley.inference.memory_chain import MemoryChain, advance
from lindley.inference.modes.circular import recentred
from lindley.model.declaration import Declaration

#: Directions about pi, in three batches.
ANGLES = pd.read_csv(Path(__file__).with_name("angles.csv"))
SCHEMA = pa.schema([("id", pa.int64()), ("angle", pa.float64())])


def build(batch: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        mu = pm.VonMises("mu", mu=0, kappa=0.1)
        kappa = pm.HalfNormal("kappa", 5)
        pm.VonMises("angle", mu=mu, kappa=kappa, observed=pm.Data("angles", batch["angle"].to_numpy()))
    return model


DECLARATION = Declaration(name="winds", build=build, schema=SCHEMA, row_key=("id",), carried=("mu", "kappa"))


@pytest.fixture(scope="module")
def fits():
    chain, found = MemoryChain(), []
    for number, batch in ANGLES.groupby("batch"):
        frame = pd.DataFrame({"id": batch.index, "angle": batch["angle"]})
        data = Data(
            declaration=DECLARATION,
            batches=(batch_from_frame(frame, DECLARATION),),
            carried=DECLARATION.carried,
        )
        chain, one = advance(chain, data, Options(seed=int(number)))
        found.append(one)
    return found


def exact(batches):
    """Mean and sd of direction and concentration by quadrature; the direction's within a turn of its mean."""
    angles = ANGLES.loc[ANGLES["batch"] <= batches, "angle"].to_numpy()
    mu, kappa = np.linspace(-np.pi, np.pi, 720, endpoint=False), np.linspace(0.005, 10, 1000)
    m, k = np.meshgrid(mu, kappa, indexing="ij")
    log_density = stats.vonmises.logpdf(m, 0.1) + stats.halfnorm.logpdf(k, scale=5)
    sums = np.cos(angles).sum() * np.cos(m) + np.sin(angles).sum() * np.sin(m)
    log_density += k * sums - len(angles) * np.log(2 * np.pi * special.i0(k))
    share = np.exp(log_density - log_density.max())
    share /= share.sum()
    center = np.angle((share * np.exp(1j * m)).sum())
    m = center + (m - center + np.pi) % (2 * np.pi) - np.pi
    mean = np.array([(share * m).sum(), (share * k).sum()])
    sd = np.sqrt([(share * (m - mean[0]) ** 2).sum(), (share * (k - mean[1]) ** 2).sum()])
    return mean, sd


@pytest.mark.parametrize("batches", [1, 2, 3])
def test_a_direction_near_pi_passes_the_gate_and_is_right(fits, batches):
    found, (mean, sd) = fits[batches - 1], exact(batches)
    assert found.assessment.gate.passed
    assert found.belief.trusted
    values, weights = found.draws.quantities.values, found.sampled.calibration.weights
    for name, wanted, width in zip(("mu", "kappa"), mean, sd, strict=True):
        draws = values[name].ravel()
        assert weights @ draws == pytest.approx(wanted, abs=0.03 * width)
        assert np.sqrt(weights @ (draws - wanted) ** 2) == pytest.approx(width, rel=0.03)


def test_the_direction_does_not_jump_by_a_turn_between_links(fits):
    assert np.ptp([found.belief.matched.map.mean()[0] for found in fits]) < 1


def test_draws_lie_within_half_a_turn_of_their_mean(fits):
    for found in fits:
        u = found.sampled.carried[:, 0]
        assert np.ptp(u) <= 2 * np.pi
        np.testing.assert_allclose(found.draws.quantities.values["mu"].ravel(), u, rtol=1e-12)
        np.testing.assert_allclose(found.sampled.sampling.points[..., 0].ravel(), u, rtol=1e-12)


def test_the_density_is_that_of_one_turn(fits):
    problem, at = fits[0].problem, np.array([[3.0, 0.5], [3.0 - 2 * np.pi, 0.5], [3.0 + 2 * np.pi, 0.5]])
    density = problem.log_density(at)
    assert np.isfinite(density[0])
    assert np.isneginf(density[1:]).all()


def test_angles_change_by_whole_turns_only():
    rng = np.random.default_rng(0)
    angles = rng.normal([3.0, -1.0], 0.5, (4, 100, 2)) + 2 * np.pi * rng.integers(-3, 4, (4, 100, 2))
    found, center = recentred(angles)
    turns = (angles - found) / (2 * np.pi)
    np.testing.assert_allclose(turns, np.round(turns), atol=1e-9)
    assert np.abs(found - center).max() <= np.pi
    np.testing.assert_allclose(np.abs(center), [3.0, 1.0], atol=0.1)
    elsewhere, moved = recentred(angles, near=np.array([9.0, -8.0]))
    np.testing.assert_allclose(moved - center, [2 * np.pi, -2 * np.pi])
    np.testing.assert_allclose(elsewhere - found, np.broadcast_to(moved - center, found.shape))
