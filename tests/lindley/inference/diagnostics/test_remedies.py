"""What a user can do about a refused fit: by the diagnostic that failed, naming the variable."""

import numpy as np
import pandas as pd
import pymc as pm
import pytest

from lindley.inference.diagnostics.convergence import Convergence
from lindley.inference.diagnostics.gate import Thresholds, refusals
from lindley.inference.diagnostics.remedies import centred, with_remedies
from tests.lindley.model.test_graph import graph_of


def hierarchical(batch: pd.DataFrame) -> pm.Model:
    with pm.Model(coords={"group": ["a", "b"]}) as model:
        mu, noise = pm.Normal("mu"), pm.HalfNormal("noise")
        tau = pm.HalfNormal("tau")
        effect = pm.Normal("effect", mu, tau, dims="group")
        offset = pm.Normal("offset", dims="group")
        pm.GaussianRandomWalk("walk", sigma=tau, init_dist=pm.Normal.dist(0, 1), steps=2)
        mean = effect.sum() + (offset * noise).sum()
        pm.Normal("y", mean, noise, observed=batch["y"].to_numpy())
    return model


NAMES = ["mu", "noise", "tau", "effect[a]", "effect[b]", "offset[a]", "offset[b]"]


def advised(*, divergences: float = 0.0, function=hierarchical, **worst) -> tuple[str, ...]:
    """Return the reasons where one coordinate is bad: `worst` is metric=(name, value)."""
    good = {"r_hat": 1.0, "ess_bulk": 4000.0, "ess_tail": 4000.0}
    values = {metric: np.full(len(NAMES), value) for metric, value in good.items()}
    for metric, (name, value) in worst.items():
        values[metric][NAMES.index(name)] = value
    result = Convergence(**values)
    reasons = refusals(NAMES, result, divergences=divergences, thresholds=Thresholds())
    return with_remedies(reasons, graph_of(function), NAMES, result)


def test_what_is_scaled_by_a_free_variable_is_found_and_nothing_else():
    assert centred(graph_of(hierarchical)) == [("effect", "tau"), ("walk", "tau")]


@pytest.mark.parametrize("name", ["tau", "effect[b]"])
@pytest.mark.parametrize("metric", ["r_hat", "ess_bulk", "ess_tail"])
def test_a_funnel_is_to_be_written_non_centred(name, metric):
    (reason,) = advised(**{metric: (name, 1.2 if metric == "r_hat" else 80.0)})
    assert f" of {name}, at " in reason
    assert "is scaled by tau" in reason
    assert "times a standard normal variable (non-centred)" in reason


def test_divergences_of_a_hierarchy_name_its_funnel():
    (reason,) = advised(divergences=0.2)
    assert reason.startswith("20.00% of draws diverged")
    assert "write effect and walk as tau times" in reason


def test_chains_in_different_places_are_told_from_slow_ones():
    (apart,) = advised(r_hat=("mu", 1.9))
    assert "the chains found different values of mu" in apart
    (slow,) = advised(r_hat=("mu", 1.02))
    assert slow.endswith(": more rows in the batch, or a tighter prior of mu")
    (stuck,) = advised(r_hat=("mu", np.nan))
    assert "the chains found different values of mu" in stuck


def test_divergences_without_a_funnel_say_where_to_look():
    def flat(batch: pd.DataFrame) -> pm.Model:
        with pm.Model() as model:
            pm.Normal("y", pm.Normal("mu"), 1.0, observed=batch["y"].to_numpy())
        return model

    (reason,) = advised(divergences=0.2, function=flat)
    assert "sample_stats" in reason


def test_a_fit_that_passes_needs_nothing():
    assert advised() == ()
