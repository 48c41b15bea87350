"""Labels that come and go in a target of several batches."""

import numpy as np
import pandas as pd
import pymc as pm
import pytest

from lindley.errors import CoordinatesMismatch, ModelRefused
from lindley.inference.inputs import Data, Options, Start
from lindley.inference.memory_chain import MemoryChain, advance
from lindley.inference.step import fit, step
from lindley.model.coordinates import Coordinates
from lindley.prior.matched import MatchedPrior
from lindley.prior.triangular import joint_normal
from tests.support.pooling import NOISE, SETTINGS, batches_of, declared, holds, prepared

TOP, SPREAD = 2.0, 1.0


def hierarchy(batch: pd.DataFrame) -> pm.Model:
    """A mean for each label of the batch around a common one; all widths known."""
    groups = sorted(set(batch["group"]))
    with pm.Model(coords={"group": groups}) as model:
        top = pm.Normal("top", 0, TOP)
        theta = pm.Normal("theta", top, SPREAD, dims="group")
        which = pm.Data("which", batch["group"].map(groups.index).to_numpy())
        pm.Normal("y", theta[which], NOISE, observed=pm.Data("values", batch["y"].to_numpy()))
    return model


def exact_hierarchy(batches):
    """Mean and covariance of top and the means of labels a, b, c after some batches."""
    precision, weighted = np.zeros((4, 4)), np.zeros(4)
    precision[0, 0] = TOP**-2
    for g in (1, 2, 3):
        row = np.eye(4)[g] - np.eye(4)[0]
        precision += np.outer(row, row) / SPREAD**2
    for batch in batches:
        for group, value in zip(*(batch.frame()[name] for name in ("group", "y")), strict=True):
            g = 1 + "abc".index(group)
            precision[g, g] += NOISE**-2
            weighted[g] += value / NOISE**2
    covariance = np.linalg.inv(precision)
    return covariance @ weighted, covariance


def matches(belief, mean, covariance):
    """Hold a matched joint normal against exact moments by name: Stein's identities leave rounding only."""
    assert belief.matched.moments == "stein 3"
    assert belief.matched.map.normal
    names = belief.matched.coordinates.names
    where = [["top", "theta[a]", "theta[b]", "theta[c]"].index(name) for name in names]
    u = belief.matched.map.forward(np.concatenate([np.zeros((1, len(names))), np.eye(len(names))]))
    slope, sd = (u[1:] - u[0]).T, np.sqrt(np.diag(covariance))[where]
    np.testing.assert_allclose((u[0] - mean[where]) / sd, 0, atol=1e-6)
    found, exact = slope @ slope.T, covariance[np.ix_(where, where)]
    np.testing.assert_allclose(found / np.outer(sd, sd), exact / np.outer(sd, sd), atol=1e-6)


def test_labels_come_and_go_and_the_chain_is_the_joint_posterior():
    declaration = declared(hierarchy, ("top", "theta"), replay=0, family="normal")
    batches = batches_of(declaration, ["aabb", "bbcc", "aacc"], np.random.default_rng(6), means=[0, 4, -3])
    chain = MemoryChain()
    for seed, batch in enumerate(batches):
        data = Data(declaration=declaration, batches=(batch,), carried=("top", "theta"))
        chain, found = advance(chain, data, Options(seed=seed, settings=SETTINGS))
        matches(chain.head, *exact_hierarchy(batches[: seed + 1]))
    # The vanished label moved by its correlation with the others alone, and it did move.
    first, second = (exact_hierarchy(batches[:n])[0][1] for n in (1, 2))
    assert abs(second - first) > 0.1
    assert chain.beliefs[1].matched.coordinates.names == ["top", "theta[a]", "theta[b]", "theta[c]"]
    mean, covariance = exact_hierarchy(batches)
    assert found.problem.coordinates.names == ["top", "theta[a]", "theta[b]", "theta[c]"]
    holds(
        found.sampled.sampling.points,
        mean,
        np.sqrt(np.diag(covariance)),
        found.sampled.sampling.convergence.ess_bulk,
    )


def test_the_prior_of_a_new_label_is_the_hierarchys_predictive_distribution():
    declaration = declared(hierarchy, ("top", "theta"), replay=0, family="normal")
    batches = batches_of(declaration, ["aabb", "bbcc"], np.random.default_rng(6), means=[0, 4])
    one, two = (Data(declaration=declaration, batches=(b,), carried=("top", "theta")) for b in batches)
    first = fit(Start(), one, Options(seed=0, settings=SETTINGS)).belief
    _, info = step(Start(prior=first), two, Options(seed=1, settings=SETTINGS))
    mean, covariance = exact_hierarchy(batches[:1])
    # Without a row of its own, c is drawn around the common mean: exactly the joint normal's c.
    assert covariance[3, 3] == pytest.approx(covariance[0, 0] + SPREAD**2)
    prior = info.trace["prior"].dataset
    drawn = np.column_stack([prior["top"].values.ravel(), prior["theta"].values.reshape(-1, 2)])
    assert prior["group"].values.tolist() == ["b", "c"]
    where, count = [0, 2, 3], len(drawn)
    sd = np.sqrt(np.diag(covariance))[where]
    assert (np.abs(drawn.mean(axis=0) - mean[where]) < 5 * sd / np.sqrt(count)).all()
    exact = covariance[np.ix_(where, where)] / np.outer(sd, sd)
    # A sample covariance of normals has variance (1 + r^2) / n in units of the sds.
    error = np.sqrt((1 + exact**2) / count)
    assert (np.abs(np.cov(drawn.T) / np.outer(sd, sd) - exact) < 5 * error).all()


def joint_prior(batch: pd.DataFrame) -> pm.Model:
    """Labels whose means have a joint prior that cannot be divided."""
    groups = sorted(set(batch["group"]))
    with pm.Model(coords={"group": groups}) as model:
        theta = pm.MvNormal("theta", np.zeros(len(groups)), np.eye(len(groups)) + 1, dims="group")
        which = pm.Data("which", batch["group"].map(groups.index).to_numpy())
        pm.Normal("y", theta[which], NOISE, observed=pm.Data("values", batch["y"].to_numpy()))
    return model


def test_new_labels_that_cannot_be_given_a_prior_are_refused():
    rng = np.random.default_rng(7)
    joint = declared(joint_prior, ("theta",))
    with pytest.raises(CoordinatesMismatch, match=r"(?s)new labels and a joint prior.*new theta\[c\]"):
        prepared(joint, batches_of(joint, ["ab", "bc"], rng))
    robust = declared(hierarchy, ("top", "theta"), robust=0.2)
    older, newer = batches_of(robust, ["ab", "bc"], rng)
    coordinates: Coordinates = prepared(robust, [older]).coordinates
    prior = MatchedPrior(coordinates, joint_normal(np.zeros(3), np.eye(3)))
    with pytest.raises(ModelRefused, match="robust mixture of chain cannot be used here"):
        prepared(robust, [newer], prior)
