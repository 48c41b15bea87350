"""Separated modes in draws: found where there are some, and nowhere else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lindley.inference.modes.detection import MOST, Regions, labels_of

SHAPES = {
    "normal": lambda z: z,
    "heavy-tailed": lambda z: z * np.exp(np.abs(z)),
    "skewed": lambda z: np.log(1e-6 + np.abs(z) ** 3),
    "funnel": lambda z: np.concatenate([z[..., :1], z[..., 1:] * np.exp(1.5 * z[..., :1])], axis=-1),
    "ridge": lambda z: np.concatenate([z[..., :1], z[..., 1:] + 2 * z[..., :1] ** 2], axis=-1),
}


def turned(rng, draws):
    """Mix the coordinates, which are of different units then."""
    size = draws.shape[-1]
    return draws @ np.linalg.qr(rng.normal(size=(size, size)))[0] * np.exp(rng.normal(0, 3, size))


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from(sorted(SHAPES)), st.integers(1, 12))
def test_one_mode_of_any_shape_is_one(seed, shape, size):
    rng = np.random.default_rng(seed)
    draws = SHAPES[shape](rng.standard_normal((4, 600, size)))
    assert labels_of(turned(rng, draws), passed=True).max() == 0


@pytest.mark.parametrize("share", [0.5, 0.1, 0.04])
@pytest.mark.parametrize("size", [1, 5, 30])
def test_two_modes_that_all_chains_visit_are_found(size, share):
    rng = np.random.default_rng(size)
    draws = rng.standard_normal((4, 1000, size))
    other = rng.random((4, 1000)) < share
    draws[other] += 8 * np.ones(size) / np.sqrt(size)
    labels = labels_of(turned(rng, draws), passed=True)
    assert labels.max() == 1
    assert max(np.mean(labels == other), np.mean(labels != other)) > 0.999


def test_chains_in_different_places_are_modes_of_draws_that_failed():
    rng = np.random.default_rng(1)
    places = np.array([[0, 0, 0], [9, 0, 0], [0, 9, 9], [0, 0, 0]])
    draws = rng.standard_normal((4, 500, 3)) + places[:, None]
    labels = labels_of(turned(rng, draws), passed=False)
    assert labels.max() == 2
    assert all(len(set(chain)) == 1 for chain in labels.tolist())
    assert labels[0, 0] == labels[3, 0]


def test_slow_chains_are_seldom_taken_for_modes():
    """Of chains that move slowly a density has valleys that are none of the posterior's."""
    rng, found = np.random.default_rng(2), 0
    for _ in range(40):
        rho = 1 - 10 ** rng.uniform(-3, -1)
        steps = rng.standard_normal((4, 1000, 2)) * np.sqrt(1 - rho**2)
        steps[:, 0] /= np.sqrt(1 - rho**2)
        for t in range(1, 1000):
            steps[:, t] += rho * steps[:, t - 1]
        found += labels_of(steps, passed=False).max() > 0
    assert found <= 6


def test_more_modes_than_are_carried_are_noticed():
    rng = np.random.default_rng(3)
    draws = rng.standard_normal((4, 1000, 2)) + 10 * rng.integers(0, 8, (4, 1000, 2))
    assert labels_of(draws, passed=True).max() + 1 == MOST


@pytest.mark.parametrize(
    "draws",
    [
        np.zeros((4, 100, 2)),
        np.full((4, 100, 1), np.nan),
        np.repeat(np.random.default_rng(0).normal(size=(4, 100, 1)), 3, axis=2),
        np.random.default_rng(0).normal(size=(2, 20, 60)),
        np.array([[[0.0], [1.0]], [[0.0], [1.0]]]),
        np.random.default_rng(0).normal(size=(4, 100, 2)) * np.array([1e-300, 1e300]) ** 0.5,
    ],
    ids=["constant", "missing", "collinear", "few", "two values", "units far apart"],
)
def test_degenerate_draws_raise_nothing(draws):
    assert labels_of(draws, passed=True).shape == draws.shape[:2]


def test_a_point_belongs_to_the_mode_whose_density_is_highest():
    rng = np.random.default_rng(4)
    modes = [rng.normal(0, 0.1, (500, 2)), rng.normal(3, 1.0, (500, 2))]
    regions = Regions.of(modes)
    assert regions.of_points(np.array([[0.0, 0.1], [3.0, 2.0], [1.0, 1.0]])).tolist() == [0, 1, 1]
    assert regions.near(np.array([[0.0, 0.0], [4.0, 1.0], [-9.0, 30.0]])).tolist() == [True, True, False]
    more = regions.and_of(rng.normal(-9, 1.0, (500, 2)))
    assert more.of_points(np.array([[-9.0, -8.0]])).tolist() == [2]
