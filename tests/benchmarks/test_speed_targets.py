"""The rivals of the speed benchmark sample Lindley's own target and log the whole trace."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pymc as pm
import pytest
import xarray as xr
from scipy import stats

from benchmarks.speed import cold, contenders, scenarios
from benchmarks.speed.registry import Registry
from benchmarks.speed.rivals import whitened_model
from benchmarks.speed.targets import GROUPS, REGRESSION, Target, simulated_groups, simulated_regression
from lindley.model.declaration import load_declaration


def regression_frame() -> pd.DataFrame:
    return next(simulated_regression(20))


def groups_frame() -> pd.DataFrame:
    return simulated_groups(1)[0]


BOTH = pytest.mark.parametrize(
    ("target", "frame"),
    [(REGRESSION, regression_frame), (GROUPS, groups_frame)],
    ids=["regression", "groups"],
)


def log_density(model: pm.Model, values: dict[str, np.ndarray]) -> float:
    """Log density in the model's coordinates, at values of these."""
    with model:
        function = model.compile_logp(mode="FAST_COMPILE")
    return float(function(values))


@BOTH
def test_rivals_sample_the_target_of_the_model_file(
    target: Target, frame: Callable[[], pd.DataFrame]
) -> None:
    batch = frame()
    own = load_declaration(target.chain, target.models).build(batch)
    with pm.Model() as model:
        target.likelihood(target.priors(), target.data(batch))
    rng = np.random.default_rng(0)
    start = own.initial_point()
    assert set(start) == set(model.initial_point())
    values = {name: value + 0.1 * rng.standard_normal(np.shape(value)) for name, value in start.items()}
    assert log_density(model, values) == pytest.approx(log_density(own, values), rel=1e-12)


@BOTH
def test_the_whitened_model_is_normal_prior_times_likelihood(
    target: Target, frame: Callable[[], pd.DataFrame]
) -> None:
    batch, size = frame(), target.size
    rng = np.random.default_rng(1)
    mean, factor = rng.standard_normal(size), np.tril(rng.standard_normal((size, size))) / size
    z = rng.standard_normal(size)
    model = whitened_model(target, mean, factor, target.data(batch))
    u = mean + factor @ z
    if target is REGRESSION:
        middle, sigma = batch[["x1", "x2", "x3"]].to_numpy() @ u[:3], np.exp(u[3])
    else:
        middle, sigma = u[3:][batch["group"]], np.exp(u[2])
    expected = stats.norm.logpdf(z).sum() + stats.norm.logpdf(batch["y"], middle, sigma).sum()
    assert log_density(model, {"z": z}) == pytest.approx(expected, rel=1e-10)


def test_the_joint_normal_has_the_moments_of_weighted_draws_in_the_targets_order() -> None:
    rng = np.random.default_rng(2)
    u = rng.standard_normal((2, 100, 4)) @ np.triu(rng.standard_normal((4, 4)))
    weights = rng.random((2, 100))
    weights /= weights.sum()
    names = ["sigma", "b[x1]", "b[x2]", "b[x3]"]
    group = xr.Dataset(
        {"u": (("chain", "draw", "coordinate"), u), "weight": (("chain", "draw"), weights)},
        coords={"coordinate": names},
    )
    mean, factor = contenders.joint_normal(xr.DataTree.from_dict({"coordinates": group}), REGRESSION)
    flat = u.reshape(-1, 4)[:, [1, 2, 3, 0]]
    np.testing.assert_allclose(mean, np.average(flat, axis=0, weights=weights.ravel()))
    covariance = np.cov(flat.T, aweights=weights.ravel(), ddof=0)
    np.testing.assert_allclose(factor @ factor.T, covariance, rtol=1e-10)


class TestStreams:
    def test_batches_have_fresh_row_keys_and_the_same_seed_the_same_rows(self) -> None:
        frames = list(islice(simulated_regression(20), 3))
        assert list(pd.concat(frames)["row"]) == list(range(60))
        pd.testing.assert_frame_equal(frames[0], regression_frame())
        assert np.corrcoef(pd.concat(islice(simulated_regression(2000), 1))[["x1", "x2"]].T)[0, 1] > 0.9

    def test_every_group_is_in_every_batch_with_another_number_of_rows(self) -> None:
        frames = simulated_groups(2)
        assert list(pd.concat(frames)["row"]) == list(range(sum(map(len, frames))))
        counts = [frame["group"].value_counts().sort_index() for frame in frames]
        for found in counts:
            assert list(found.index) == list(range(50))
            assert found.between(6, 12).all()
        assert (counts[0] != counts[1]).any()


class TestRegistry:
    def test_the_newest_trace_is_the_head(self, tmp_path: Path) -> None:
        registry = Registry(tmp_path / "new", "stream")
        assert registry.head_trace() is None
        rng = np.random.default_rng(3)
        for number in range(2):
            draws = rng.standard_normal((4, 100))
            groups = {"posterior": {"b": draws}, "sample_stats": {"diverging": np.zeros((4, 100), bool)}}
            trace = xr.DataTree.from_dict(
                {
                    name: xr.Dataset({key: (("chain", "draw"), value) for key, value in values.items()})
                    for name, values in groups.items()
                }
            )
            registry.log(trace, {"prior": "own"}, {"data version": str(number)})
        again = Registry(tmp_path / "new", "stream")
        np.testing.assert_array_equal(again.head_trace()["posterior"]["b"].values, draws)
        version = again.client.get_model_version_by_alias("stream", "head")
        assert int(version.version) == 2
        run = again.client.get_run(version.run_id)
        assert run.info.status == "FINISHED"
        assert run.data.params == {"prior": "own"}
        assert {"rhat_max", "ess_bulk_min", "ess_tail_min", "divergences"} <= set(run.data.metrics)
        files = {file.path for file in again.client.list_artifacts(version.run_id)}
        assert files == {"trace.nc", "summary.csv"}


def test_the_time_of_a_refused_update_does_not_count() -> None:
    contenders.accepted(SimpleNamespace(status="accepted"))
    with pytest.raises(RuntimeError, match="x was quarantined: R-hat"):
        contenders.accepted(SimpleNamespace(status="quarantined", file="x", message="R-hat"))


def test_the_time_of_a_failed_process_does_not_count() -> None:
    with pytest.raises(RuntimeError, match=r"benchmarks\.speed\.once ended with 2: usage"):
        cold.child("benchmarks.speed.once", "nothing", environment={})


def test_chains_are_copied_before_the_links_around_each_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each copy holds the links up to its mark; the chain goes on without it."""

    def update(_steps, workspace, _chain, file):
        workspace.root.joinpath(Path(file).name).touch()
        return SimpleNamespace(status="accepted")

    monkeypatch.setattr(scenarios, "update", update)
    bench = scenarios.Bench(tmp_path, tmp_path, True, print, print)
    stages = list(scenarios._grown(bench, (10, 20), 3, [Path(f"{i:02d}") for i in range(1, 30)]))
    assert [(stage.mark, stage.first) for stage in stages] == [(10, 8), (20, 18)]
    for stage in stages:
        made = sorted(path.name for path in stage.ours.workspace.root.glob("[0-9]*"))
        assert made == [f"{i:02d}" for i in range(1, stage.first)]
