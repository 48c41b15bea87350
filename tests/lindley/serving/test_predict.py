"""What a registered belief predicts with: all elements that it knows, vanished labels included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt
import pytest
import xarray as xr
from pymc.distributions import transforms

from lindley.errors import BatchRefused
from lindley.inference.inputs import Data, Options, Start
from lindley.inference.memory_chain import MemoryChain
from lindley.inference.step import step
from lindley.model import graph
from lindley.model.coordinates import Block, Coordinates
from lindley.model.natural_scale import carried_arrays, carried_values, natural_scale
from lindley.serving.draws import serving_draws
from lindley.serving.predict import predict
from tests.lindley.target.test_labels import exact_hierarchy, hierarchy
from tests.support.pooling import NOISE, SETTINGS, batches_of, declared

SIZE = (2, 30)


# -- natural-scale values -----------------------------------------------------------------------------


def block(name: str, transform: str, labels: str, dim: str = "ward") -> Block:
    shape = (len(labels),)
    return Block(name, shape, shape, transform, (dim,), (tuple(labels),))


def traced(coordinates: Coordinates, newest: dict[str, Any]) -> xr.DataTree:
    """A trace with the coordinates of all labels, and natural-scale values of the newest batch's."""
    u = np.random.default_rng(3).normal(size=(*SIZE, coordinates.size))
    group = xr.Dataset({"u": (("chain", "draw", "coordinate"), u)}, coords={"coordinate": coordinates.names})
    posterior = xr.Dataset({name: make(u) for name, make in newest.items()})
    return xr.DataTree.from_dict({"/posterior": posterior, "/coordinates": group})


def over(values: np.ndarray, labels: str, dim: str = "ward") -> xr.DataArray:
    return xr.DataArray(values, dims=("chain", "draw", dim), coords={dim: list(labels)})


def test_labels_that_the_newest_batch_does_not_have_are_taken_from_the_coordinates() -> None:
    coordinates = Coordinates((block("mean", "identity", "abc"), block("scale", "log", "abc")))
    tree = traced(
        coordinates,
        {"mean": lambda u: over(u[..., [2, 1]], "cb"), "scale": lambda u: over(np.exp(u[..., [5, 4]]), "cb")},
    )
    u = tree["coordinates"]["u"].values
    arrays = carried_arrays(tree, coordinates, {})
    np.testing.assert_allclose(arrays["mean"].sel(ward=list("abc")).values, u[..., :3])
    np.testing.assert_allclose(arrays["scale"].sel(ward=list("abc")).values, np.exp(u[..., 3:]))
    values = carried_values(tree, coordinates, {})
    assert list(values) == [*(f"mean[{ward}]" for ward in "abc"), *(f"scale[{ward}]" for ward in "abc")]
    np.testing.assert_allclose(values["scale[a]"], np.exp(u[..., 3]))
    # What the model computed is taken as it is.
    np.testing.assert_array_equal(values["scale[c]"], tree["posterior"]["scale"].values[..., 0])


def test_state_is_what_passes_on() -> None:
    coordinates = Coordinates((block("start", "identity", "ab"),))
    tree = traced(
        coordinates,
        {"start": lambda u: over(u[..., [1]] + 5, "b"), "end": lambda u: over(u[..., [1]], "0", "end_dim_0")},
    )
    found = carried_arrays(tree, coordinates, {"start": "end"})["start"]
    np.testing.assert_array_equal(found.values, tree["coordinates"]["u"].values)
    assert found["ward"].values.tolist() == ["a", "b"]
    # An imported trace has no quantity that the state came from.
    del tree["posterior"]["end"]
    held = carried_arrays(tree, coordinates, {"start": "missing"})["start"]
    assert held["ward"].values.tolist() == ["b"]  # the coordinates are not those of these values


def test_what_only_the_model_can_take_back_has_the_newest_labels() -> None:
    """Draws of one dim keep to the labels that are known of every variable."""
    coordinates = Coordinates((block("own", "squash", "abc"), block("mean", "identity", "abc")))
    tree = traced(
        coordinates,
        {"own": lambda u: over(u[..., [2, 1]] ** 3, "cb"), "mean": lambda u: over(u[..., [5, 4]], "cb")},
    )
    arrays = carried_arrays(tree, coordinates, {})
    assert [array["ward"].values.tolist() for array in arrays.values()] == [["c", "b"], ["a", "b", "c"]]
    declaration = declared(hierarchy, ("own", "mean"))
    draws = serving_draws(tree, declaration, coordinates)
    assert sorted(draws["ward"].values.tolist()) == ["b", "c"]
    for name, place in (("own", 2), ("mean", 5)):
        u = tree["coordinates"]["u"].values[..., place].ravel()
        expected = u**3 if name == "own" else u
        np.testing.assert_array_equal(draws[name].sel(ward="c").values, expected)


def test_a_transform_that_only_bears_the_name_of_pymcs_is_not_taken_for_it() -> None:
    coordinates = Coordinates((block("scale", "log", "abc"),))
    tree = traced(coordinates, {"scale": lambda u: over(2.0 ** u[..., :2], "ab")})
    assert carried_arrays(tree, coordinates, {})["scale"]["ward"].values.tolist() == ["a", "b"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: pm.Normal("x"),
        lambda: pm.HalfNormal("x"),
        lambda: pm.Beta("x", 2, 3),
        lambda: pm.Uniform("x", -1, 3),
        lambda: pm.TruncatedNormal("x", lower=2),
        lambda: pm.TruncatedNormal("x", upper=2),
        lambda: pm.Normal("x", transform=transforms.Interval(2, None)),
        lambda: pm.Normal("x", transform=transforms.Interval(None, 2)),
        lambda: pm.VonMises("x", 0, 1),
        lambda: pm.HalfNormal("x", default_transform=transforms.log_exp_m1),
    ],
)
def test_a_transform_is_undone_as_pymc_undoes_it(make: Any) -> None:
    with pm.Model() as model:
        rv = make()
    transform, u = model.rvs_to_transforms[rv], np.linspace(-4, 4, 9)
    value = pt.constant(u)
    backward = value if transform is None else transform.backward(value, *rv.owner.inputs)
    found = natural_scale(graph._transform_text(model, rv), u)
    assert found is not None
    np.testing.assert_allclose(found, backward.eval(mode="FAST_COMPILE"), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    "text", ["simplex", "interval(conditional, 1.0)", "interval([0.0, 1.0], none)", "interval", "log+ordered"]
)
def test_other_transforms_are_not_undone(text: str) -> None:
    assert natural_scale(text, np.zeros(3)) is None


# -- predictions --------------------------------------------------------------------------------------


def test_a_belief_predicts_for_a_label_that_the_newest_batch_does_not_have() -> None:
    declaration = declared(hierarchy, ("top", "theta"), replay=0, family="normal")
    batches = batches_of(declaration, ["aabb", "bbcc"], np.random.default_rng(6), means=[0, 4])
    chain = MemoryChain()
    for seed, batch in enumerate(batches):
        data = Data(declaration=declaration, batches=(batch,), carried=("top", "theta"))
        belief, info = step(Start(prior=chain.head), data, Options(seed=seed, settings=SETTINGS))
        chain = MemoryChain((*chain.beliefs, belief), (*chain.batches, batch), (*chain.replayed, 0))
    assert info.trace["posterior"]["group"].values.tolist() == ["b", "c"]
    draws = serving_draws(info.trace, declaration, belief.matched.coordinates)
    assert sorted(draws["group"].values.tolist()) == ["a", "b", "c"]
    table = predict(draws, declaration, pd.DataFrame({"id": [1, 2, 3], "group": list("cab"), "y": 0.0}))
    mean, covariance = exact_hierarchy(batches)
    where = [3, 1, 2]
    sd = np.sqrt(np.diag(covariance)[where] + NOISE**2)
    # 1,000 draws out of the fit's, whose bulk ESS is above 400.
    assert info.metrics["ess_bulk_min"] > 400
    assert (np.abs(table["mean"] - mean[where]) < 5 * sd / np.sqrt(400)).all()
    assert (np.abs(table["sd"] / sd - 1) < 5 / np.sqrt(2 * 400)).all()
    with pytest.raises(BatchRefused, match=r"has no draws for.*Found: d\."):
        predict(draws, declaration, pd.DataFrame({"id": [1], "group": ["d"], "y": 0.0}))
