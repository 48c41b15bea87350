"""The update step against exact answers, and its guarantees: seeded, pure, gated; adopted traces."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm
import pytest
from xarray import DataTree

from lindley.batch.batch import batch_from_frame
from lindley.errors import CoordinatesMismatch, FitFailed
from lindley.inference.foreign_trace import adopt
from lindley.inference.info import Provenance
from lindley.inference.inputs import Data, Options, Start
from lindley.inference.sampling import FitSettings
from lindley.inference.step import step
from lindley.model.declaration import Declaration
from lindley.model.graph import build, take_apart
from lindley.prior.belief import Belief
from lindley.seeds import derive_seed

FIELDS = [pa.field("id", pa.int64(), nullable=False), pa.field("group", pa.string(), nullable=False)]
SCHEMA = pa.schema([*FIELDS, pa.field("y", pa.float64(), nullable=False)])
SETTINGS = FitSettings(draws=1000, tune=400)


def declared(function, **options) -> Declaration:
    return Declaration(name="chain", build=function, schema=SCHEMA, row_key=("id",), **options)


def rows(y, group=None, start=0) -> pd.DataFrame:
    y = np.asarray(y, dtype=float)
    group = ["a"] * len(y) if group is None else group
    return pd.DataFrame({"id": np.arange(start, start + len(y)), "group": group, "y": y})


def run(prior, frame, declaration, carried, seed=1, settings=SETTINGS):
    batch = batch_from_frame(frame, declaration)
    data = Data(declaration=declaration, batches=(batch,), carried=carried)
    return step(Start(prior=prior), data, Options(seed=seed, settings=settings))


def known_noise(batch: pd.DataFrame) -> pm.Model:
    """Two group means with known noise: conjugate, so that every metric has a closed form."""
    groups = ["a", "b"]
    with pm.Model(coords={"group": groups}) as model:
        mu = pm.Normal("mu", 1.0, 2.0, dims="group")
        which = pm.Data("which", batch["group"].map(groups.index).to_numpy())
        pm.Normal("y", mu[which], 0.5, observed=pm.Data("values", batch["y"].to_numpy()))
    return model


def exact_normal(frames):
    """Posterior of `known_noise`: means and sds of the two groups, and log evidence of the last frame."""
    mean, precision = np.full(2, 1.0), np.full(2, 0.25)
    evidence = 0.0
    for frame in frames:
        evidence = 0.0
        for value, group in zip(frame["y"], frame["group"], strict=True):
            g = "ab".index(group)
            variance = 1 / precision[g] + 0.25
            evidence += -0.5 * np.log(2 * np.pi * variance) - 0.5 * (value - mean[g]) ** 2 / variance
            total = precision[g] + 4.0
            mean[g] = (precision[g] * mean[g] + 4.0 * value) / total
            precision[g] = total
    return mean, 1 / np.sqrt(precision), evidence


@pytest.fixture(scope="module")
def two_links():
    rng = np.random.default_rng(11)
    frames = [
        rows(rng.normal(2, 0.5, 6), list("aabbab"), 0),
        rows(rng.normal(2, 0.5, 4), list("abbb"), 6),
    ]
    declaration = declared(known_noise)
    first, info_first = run(None, frames[0], declaration, ("mu",))
    second, info_second = run(first, frames[1], declaration, ("mu",))
    return frames, declaration, (first, info_first), (second, info_second)


def test_a_step_reaches_the_exact_posterior_within_monte_carlo_error(two_links):
    frames, _, (_, info_first), (_, info_second) = two_links
    for n, info in ((1, info_first), (2, info_second)):
        mean, sd, _ = exact_normal(frames[:n])
        table = info.summary
        ess = table["ess_bulk"].to_numpy()
        assert (ess > 400).all()
        # Each link adds its own Monte Carlo error to what it was given.
        error = np.sqrt(n) * sd / np.sqrt(ess)
        assert (np.abs(table["mean"].to_numpy() - mean) < 5 * error).all()
        assert (np.abs(table["sd"].to_numpy() / sd - 1) < 5 * np.sqrt(n / (2 * ess))).all()


def test_the_log_predictive_density_of_a_batch_is_the_closed_form(two_links):
    frames, _, (_, info_first), (_, info_second) = two_links
    exact = [exact_normal(frames[:n])[2] for n in (1, 2)]
    metrics = info_first.metrics
    assert abs(metrics["log_predictive"] - exact[0]) < 5 * metrics["log_predictive_se"] + 1e-3
    # The second one inherits the Monte Carlo error of the prior's two moments of two coordinates.
    inherited = np.sqrt(4 / info_first.summary["ess_bulk"].min())
    metrics = info_second.metrics
    assert abs(metrics["log_predictive"] - exact[1]) < 5 * (metrics["log_predictive_se"] + inherited)


def test_the_prior_of_a_link_is_the_posterior_before_it(two_links):
    _, _, (first, info_first), (_, info_second) = two_links
    before, after = info_first.summary, info_second.summary
    assert list(before.index) == ["mu[a]", "mu[b]"]
    error = before["sd"] * np.sqrt(1 / 1000 + 1 / before["ess_bulk"])
    assert (np.abs(after["prior_mean"] - before["mean"]) < 5 * error).all()
    assert (after["sd_ratio"] < 1).all()
    np.testing.assert_allclose(first.matched.map.loc, before["mean"])


def test_the_budget_adds_up(two_links):
    _, _, (first, info_first), (second, info_second) = two_links
    for before, after, info in ((0.0, first, info_first), (first.budget, second, info_second)):
        metrics = info.metrics
        # Calibration makes draws worth more, never less.
        assert metrics["match_ess"] >= min(metrics["ess_bulk_min"], metrics["ess_tail_min"])
        assert after.budget == pytest.approx(before + 3 / metrics["match_ess"])


def test_the_same_seed_gives_the_same_belief_bit_by_bit(two_links):
    frames, declaration, (first, info_first), _ = two_links
    shuffled = frames[0].sample(frac=1, random_state=3)
    again, info = run(None, shuffled, declaration, ("mu",))
    assert again.matched.digest == first.matched.digest
    np.testing.assert_array_equal(info.trace["posterior"]["mu"], info_first.trace["posterior"]["mu"])
    other, _ = run(None, frames[0], declaration, ("mu",), seed=2)
    assert other.matched.digest != first.matched.digest


def test_labels_are_matched_by_name_not_by_position(two_links):
    frames, _, (first, _), (second, _) = two_links

    def reordered(batch):
        groups = ["b", "a"]
        with pm.Model(coords={"group": groups}) as model:
            mu = pm.Normal("mu", 1.0, 2.0, dims="group")
            which = pm.Data("which", batch["group"].map(groups.index).to_numpy())
            pm.Normal("y", mu[which], 0.5, observed=pm.Data("values", batch["y"].to_numpy()))
        return model

    swapped, info = run(first, frames[1], declared(reordered), ("mu",))
    assert swapped.matched.coordinates.names == ["mu[b]", "mu[a]"]
    aligned = swapped.matched.ordered(second.matched.coordinates)
    z = np.random.default_rng(1).standard_normal((100_000, 2))
    one, two = (matched.map.forward(z) for matched in (aligned, second.matched))
    error = two.std(axis=0) * np.sqrt(2 / info.metrics["ess_bulk_min"])
    assert (np.abs(one.mean(axis=0) - two.mean(axis=0)) < 5 * error).all()


def test_new_labels_of_a_joint_prior_are_refused_by_name(two_links):
    frames, _, (first, _), _ = two_links

    def joint(batch):
        with pm.Model(coords={"group": ["a", "b", "c"]}) as model:
            mu = pm.MvNormal("mu", np.ones(3), cov=4 * np.eye(3), dims="group")
            pm.Normal("y", mu.sum(), 0.5, observed=pm.Data("values", batch["y"].to_numpy()))
        return model

    with pytest.raises(CoordinatesMismatch, match=r"'mu'.*mu\[c\]"):
        run(first, frames[1], declared(joint), ("mu",))


def growing(batch: pd.DataFrame) -> pm.Model:
    """A level that grows by a known amount per row: the level at the end is carried forward."""
    with pm.Model() as model:
        level = pm.Normal("level", 0, 1)
        y = pm.Data("y_values", batch["y"].to_numpy())
        steps = pm.math.cumsum(pm.math.ones_like(y))
        pm.Deterministic("level_end", level + y.shape[0])
        pm.Normal("y", level + steps, 0.5, observed=y)
    return model


def test_state_is_carried_forward_by_a_derived_quantity():
    declaration = declared(growing, carry={"level": "level_end"})
    rng = np.random.default_rng(5)
    y = 0.7 + np.arange(1, 7) + rng.normal(0, 0.5, 6)
    first, info = run(None, rows(y[:4]), declaration, ("level",))
    assert first.matched.map.loc[0] == pytest.approx(float(info.summary.loc["level_end", "mean"]))
    _, info = run(first, rows(y[4:], start=4), declaration, ("level",))
    precision = 1 + 6 / 0.25
    exact = 4 + ((y - np.arange(1, 7)).sum() / 0.25) / precision
    row = info.summary.loc["level"]
    assert row["ess_bulk"] > 400
    assert abs(row["mean"] - exact) < 5 * np.sqrt(2 / row["ess_bulk"]) / np.sqrt(precision)


def two_modes(batch: pd.DataFrame) -> pm.Model:
    """A posterior with two far modes, which no chain can cross."""
    with pm.Model() as model:
        mu = pm.Normal("mu", 0, 10)
        pm.Normal("y", abs(mu), 0.01, observed=pm.Data("y_values", batch["y"].to_numpy()))
    return model


def test_modes_that_no_chain_can_cross_are_carried_with_their_weights():
    belief, info = run(None, rows([8.0, 8.01, 7.99]), declared(two_modes), ("mu",))
    assert info.gate.passed
    assert belief.matched.family == "mixture"
    np.testing.assert_allclose([weight for weight, _ in belief.matched.components], 0.5, atol=0.01)
    assert info.trace["posterior"]["mu"].mean("draw").std() < 0.5  # each chain has draws of both
    assert info.summary.loc["mu", "mean"] == pytest.approx(0.0, abs=0.2)


def impossible(batch: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        p = pm.Beta("p", 1, 1)
        pm.Binomial("y", 3, p, observed=batch["y"].to_numpy().astype(int))
    return model


def test_an_impossible_batch_has_no_starting_point():
    with pytest.raises(FitFailed, match="No starting point"):
        run(None, rows([7.0, 9.0]), declared(impossible), ("p",))


def flat(batch: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        mu = pm.Flat("mu")
        pm.Normal("y", mu, 1, observed=pm.Data("y_values", batch["y"].to_numpy()))
    return model


def test_an_improper_genesis_prior_has_no_prior_draws_and_no_predictive_density():
    declaration = declared(flat)
    first, info = run(None, rows([1.0, 2.0, 3.0]), declaration, ("mu",))
    assert "prior" not in info.trace.children
    assert "log_predictive" not in info.metrics
    assert info.summary["prior_mean"].isna().all()
    _, info = run(first, rows([2.0], start=3), declaration, ("mu",))
    assert "log_predictive" in info.metrics


def per_row_noise(batch: pd.DataFrame) -> pm.Model:
    """A carried mean and a local effect per row."""
    with pm.Model(coords={"row": batch["id"].to_numpy()}) as model:
        mu = pm.Normal("mu", 0, 2)
        effect = pm.Normal("effect", mu, 0.5, dims="row")
        pm.Normal("y", effect, 0.5, observed=pm.Data("y_values", batch["y"].to_numpy()))
    return model


def test_local_variables_keep_their_own_prior_in_every_link():
    declaration = declared(per_row_noise)
    rng = np.random.default_rng(8)
    y = 1 + rng.normal(0, np.sqrt(0.5), 9)
    belief: Belief | None = None
    for start in (0, 3, 6):
        belief, info = run(belief, rows(y[start : start + 3], start=start), declaration, ("mu",))
    precision = 0.25 + 9 / 0.5
    row = info.summary.loc["mu"]
    assert row["ess_bulk"] > 400
    error = np.sqrt(3 / row["ess_bulk"]) / np.sqrt(precision)
    assert abs(row["mean"] - (y.sum() / 0.5) / precision) < 5 * error
    assert abs(row["sd"] * np.sqrt(precision) - 1) < 5 * np.sqrt(3 / (2 * row["ess_bulk"]))


def test_seeds_depend_on_every_part():
    assert derive_seed("a", "b") != derive_seed("a", "c") != derive_seed("ab", "")
    assert 0 <= derive_seed("x") < 2**63


def test_settings_without_defined_diagnostics_are_refused():
    with pytest.raises(FitFailed, match="at least 2 chains"):
        FitSettings(chains=1)


def test_declarations_are_read_from_files(tmp_path: Path):
    from lindley.model.declaration import load_declaration

    (tmp_path / "mine.py").write_text(
        "import pyarrow as pa\nfrom lindley import Declaration\n"
        "declaration = Declaration("
        "name='mine', build=lambda b: None, schema=pa.schema([]), row_key=('id',))\n"
    )
    assert load_declaration("mine", tmp_path).model_digest


def one_mean(batch: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        mu = pm.Normal("mu", 0, 10)
        pm.Normal("y", mu, 1.0, observed=pm.Data("y_values", batch["y"].to_numpy()))
    return model


def test_a_fit_is_repeated_until_it_has_the_wanted_ess():
    short = FitSettings(chains=2, tune=200, draws=800, attempts=3, ess=1)
    long = replace(short, ess=2000)
    batch = rows([0.1, 0.4, -0.3])
    _, quick = run(None, batch, declared(one_mean), ("mu",), settings=short)
    _, info = run(None, batch, declared(one_mean), ("mu",), settings=long)
    assert quick.fit.provenance.sampler["attempt"] == 1
    assert quick.metrics["ess_bulk_min"] < 2000
    sampler = info.fit.provenance.sampler
    assert sampler["attempt"] > 1
    assert info.metrics["ess_bulk_min"] >= 2000
    assert (sampler["tune"], sampler["target_accept"]) == (short.tune, short.target_accept)
    assert {name: sampler[name] for name in long.as_first()} == long.as_first()
    assert sampler["draws"] > long.draws


def test_an_ess_below_the_wanted_one_is_no_refusal():
    asked = FitSettings(chains=2, tune=200, draws=800, attempts=1, ess=10**6)
    _, info = run(None, rows([0.1]), declared(one_mean), ("mu",), settings=asked)
    assert info.fit.provenance.sampler["attempt"] == 1
    assert info.gate.passed


def adopted(tree, draws=None):
    """Adopt a fit's own trace, as if it had been sampled elsewhere."""
    declaration = declared(one_mean)
    graph = take_apart(declaration, build(declaration, rows([0.1, 0.4, -0.3])), ("mu",))
    found = DataTree.from_dict({"/posterior": tree["posterior"].dataset.isel(draw=slice(draws))})
    return adopt(found, graph, {"source": "elsewhere"}, Options(seed=1))


def test_an_adopted_trace_is_assessed_as_a_fit_is():
    belief, info = run(None, rows([0.1, 0.4, -0.3]), declared(one_mean), ("mu",))
    same, other = adopted(info.trace)
    for name in ("r_hat_max", "ess_bulk_min", "ess_tail_min", "sd_error", "doubt", "drift"):
        # Draws that are shown are rounded to 20 binary digits, so their ranks differ in a few ties.
        assert other.metrics[name] == pytest.approx(info.metrics[name], rel=1e-4)
    assert other.metrics["match_distance"] < 0.1
    assert other.metrics.keys() < info.metrics.keys()
    assert (other.gate.passed, same.trusted, same.covered) == (True, True, 0)
    assert "replayed" not in other.metrics  # no batch was fitted
    np.testing.assert_allclose(same.matched.map.loc, belief.matched.map.loc, atol=0.05)
    assert other.fit.provenance == Provenance(sampler={"source": "elsewhere"})
    with pytest.raises(ValueError, match="unknown"):
        _ = other.fit.problem


def test_an_adopted_trace_with_too_few_draws_passes_with_warnings():
    _, info = run(None, rows([0.1, 0.4, -0.3]), declared(one_mean), ("mu",))
    belief, other = adopted(info.trace, draws=20)
    assert other.gate.passed
    assert other.gate.reasons == ()
    assert any("ESS" in warning for warning in other.gate.warnings)
    assert belief.budget == pytest.approx(2 / other.metrics["match_ess"])
