"""Whole chains through the pipeline and a real MLflow registry, against exact answers."""

import shutil
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

import lindley
from lindley.batch.batch import batch_from_frame
from lindley.errors import BatchRefused, ModelRefused, OverlapRefused, UnknownChain, UnknownLink
from lindley.inference.sampling import FitSettings
from lindley.ledger.backend import open_ledger
from lindley.ledger.history import find_link, history
from lindley.ledger.registration import register_link
from lindley.model.declaration import load_declaration, load_file
from lindley.operations.log import log_plan
from lindley.operations.plan import fit_plan
from lindley.operations.plots import draw_into
from lindley.operations.update import plan_update
from lindley.verification.gather import verify_chain
from lindley.workspace import Workspace
from tests.support.refits import import_trace

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "models"
#: Written by PyMC3; see the README beside it.
PYMC3 = ROOT / "tests" / "data" / "pymc3"
LINKS = 20


def workspace_in(folder: Path) -> Workspace:
    return Workspace(
        root=folder,
        models=MODELS,
        landing=folder / "landing",
        store=folder / "store",
        rejected=folder / "rejected",
        tracking_uri=f"sqlite:///{folder / 'mlflow.db'}",
    )


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return workspace_in(tmp_path_factory.mktemp("chains"))


@pytest.fixture(scope="module")
def ledger(workspace: Workspace):
    return open_ledger(workspace)


def append(ledger, declaration, frame, origin, settings=None, **options):
    batch = batch_from_frame(frame, declaration, origin=origin)
    plan = replace(plan_update(ledger, declaration, batch, **options), settings=settings)
    assert plan.noop is None
    return register_link(ledger, log_plan(ledger, plan, fit_plan(plan)))


def beta_binomial_frames(rng):
    for start in range(0, 10 * LINKS, 10):
        yield pd.DataFrame({"id": np.arange(start, start + 10), "k": rng.binomial(20, 0.3, 10), "n": 20})


def normal_mean_frames(rng):
    for start in range(0, 10 * LINKS, 10):
        yield pd.DataFrame({"id": np.arange(start, start + 10), "y": rng.normal(3, 2, 10)})


def exact_beta(frames):
    k, n = (sum(int(frame[c].sum()) for frame in frames) for c in ("k", "n"))
    a, b = 2 + k, 3 + n - k
    return a / (a + b), np.sqrt(a * b / (a + b) ** 2 / (a + b + 1))


def exact_mean(frames):
    y = np.concatenate([frame["y"] for frame in frames])
    precision = 1 / 10**2 + len(y) / 2**2
    return y.sum() / 2**2 / precision, 1 / np.sqrt(precision)


@pytest.mark.parametrize(
    ("chain", "parameter", "frames_of", "exact"),
    [
        ("beta_binomial", "theta", beta_binomial_frames, exact_beta),
        ("normal_mean", "mu", normal_mean_frames, exact_mean),
    ],
)
def test_a_conjugate_chain_of_twenty_batches_is_exact_within_monte_carlo_error(
    ledger, chain, parameter, frames_of, exact
):
    declaration = load_declaration(chain, MODELS)
    frames = list(frames_of(np.random.default_rng(20)))
    for number, frame in enumerate(frames, start=1):
        registered = append(ledger, declaration, frame, f"{number:02d}.csv")
        assert (registered.status, registered.link, registered.version) == ("accepted", number, number)
    mean, sd = exact(frames)
    _, sds = zip(*(exact(frames[: n + 1]) for n in range(LINKS)), strict=True)
    link = find_link(ledger, f"{chain}@head")
    row = link.summary().loc[parameter]
    ess = np.array([view.metrics["ess_bulk_min"] for view in history(ledger, chain)])
    assert (ess > 400).all()
    # The error that a link makes is watered down by the data after it: by the ratio of variances.
    weight = sd**2 / np.array(sds) ** 2
    error = sd * np.sqrt((weight**2 * np.array(sds) ** 2 / sd**2 / ess).sum())
    assert abs(row["mean"] - mean) < 5 * error
    assert abs(row["sd"] / sd - 1) < 5 * np.sqrt((weight**2 / (2 * ess)).sum())


def test_the_chains_verify(ledger):
    for chain in ("beta_binomial", "normal_mean"):
        report = verify_chain(ledger, chain)
        assert report.findings == ()
        assert len(report.links) == LINKS


def test_the_head_is_served_by_mlflow_without_pickle(workspace, ledger, monkeypatch):
    monkeypatch.setattr(mlflow.tracking._tracking_service.utils, "_tracking_uri", None, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", workspace.tracking_uri)
    belief = mlflow.pyfunc.load_model("models:/beta_binomial@head")
    table = belief.predict(pd.DataFrame({"id": [1, 2], "n": [20, 1000]}), params={"seed": 5})
    theta = find_link(ledger, "beta_binomial").summary().loc["theta", "mean"]
    assert list(table["row"]) == [0, 1]
    sd = np.sqrt(1000 * theta * (1 - theta) + (1000 * 0.01) ** 2)
    assert abs(table.loc[1, "mean"] - 1000 * theta) < 5 * sd / np.sqrt(1000)
    assert table.loc[1, "q05"] < table.loc[1, "q50"] < table.loc[1, "q95"]
    files = find_link(ledger, "beta_binomial").artifacts()
    assert not [path for path in files if path.endswith((".pkl", ".pickle", ".joblib"))]
    # Loading from a local store leaves a file of MLflow's beside the belief; it is no finding.
    assert verify_chain(ledger, "beta_binomial").findings == ()


def test_the_same_batch_again_is_nothing_to_do(ledger):
    declaration = load_declaration("beta_binomial", MODELS)
    frame = next(beta_binomial_frames(np.random.default_rng(20)))
    batch = batch_from_frame(frame.sample(frac=1, random_state=1), declaration, origin="again.parquet")
    plan = plan_update(ledger, declaration, batch)
    assert "already in beta_binomial as link 1" in plan.noop


def test_overlapping_rows_are_refused_by_key(ledger):
    declaration = load_declaration("beta_binomial", MODELS)
    frame = pd.DataFrame({"id": [195, 1000], "k": [1, 2], "n": 20})
    batch = batch_from_frame(frame, declaration, origin="late.csv")
    with pytest.raises(OverlapRefused, match=r"late\.csv shares 1 row keys with link 20.*id=195"):
        plan_update(ledger, declaration, batch)


def test_a_changed_model_is_refused_until_someone_says_that_it_is_meant(ledger, tmp_path):
    changed = tmp_path / "normal_mean.py"
    changed.write_text(
        (MODELS / "normal_mean.py").read_text(encoding="utf-8").replace("SIGMA = 2.0", "SIGMA = 2.5"),
        encoding="utf-8",
    )
    declaration = load_file(changed)
    frame = pd.DataFrame({"id": [5000, 5001], "y": [2.0, 4.0]})
    batch = batch_from_frame(frame, declaration)
    with pytest.raises(ModelRefused, match=r"changed since link 20.*--accept-model-change"):
        plan_update(ledger, declaration, batch)
    plan = plan_update(ledger, declaration, batch, accept_model_change=True)
    assert plan.link == 21


def test_a_fit_that_fails_the_gate_is_kept_and_the_head_stays(ledger, tmp_path):
    code = (MODELS / "normal_mean.py").read_text(encoding="utf-8").replace('"normal_mean"', '"few_draws"')
    (tmp_path / "few_draws.py").write_text(code, encoding="utf-8")
    declaration = load_file(tmp_path / "few_draws.py")
    # 200 draws are too few for the gate, whatever the model.
    few = FitSettings(chains=2, tune=100, draws=100, attempts=1)
    good, bad, better = (pd.DataFrame({"id": [n, n + 1], "y": [0.1, -0.2]}) for n in (1, 3, 5))
    assert append(ledger, declaration, good, "good.csv").link == 1
    registered = append(ledger, declaration, bad, "bad.csv", settings=few)
    assert (registered.status, registered.link, registered.version) == ("quarantined", None, 2)
    assert ledger.head_hint("few_draws") == 1
    views = history(ledger, "few_draws", every=True)
    assert [view.status for view in views] == ["accepted", "quarantined"]
    assert any("ESS" in reason for reason in views[1].reasons)
    assert verify_chain(ledger, "few_draws").findings == ()
    again = plan_update(ledger, declaration, batch_from_frame(bad, declaration, origin="bad.csv"))
    assert again.tried == "quarantined"
    assert "ESS" in again.noop
    assert append(ledger, declaration, better, "better.csv").link == 2
    assert ledger.head_hint("few_draws") == 3
    assert verify_chain(ledger, "few_draws").findings == ()


def test_the_python_api_reads_any_link_without_its_model(workspace, ledger):
    link = lindley.load("normal_mean@3", workspace=workspace)
    assert link.parameters == ["mu"]
    assert link.trace()["posterior"]["mu"].shape == (4, 1500)
    assert len(link.batch()) == 10
    assert link.artifacts()["trace.nc"] > 10_000
    assert link.record["previous"] == lindley.load("normal_mean@2", workspace=workspace).view.record_digest
    table = lindley.runs("normal_mean", workspace=workspace)
    assert list(table["number"]) == list(range(1, LINKS + 1))
    assert table["log_predictive"].notna().all()
    with pytest.raises(UnknownLink, match="from 1 to 20"):
        lindley.load("normal_mean@21", workspace=workspace)
    with pytest.raises(UnknownChain, match="beta_binomial"):
        lindley.load("nowhere", workspace=workspace)


def test_a_link_of_a_small_batch_takes_hundreds_of_kilobytes(workspace, ledger, tmp_path):
    link = lindley.load("normal_mean@head", workspace=workspace)
    held = {path: size for path, size in link.artifacts().items() if not path.startswith("plots/")}
    view = link.view
    draw_into(ledger, view.run_id, view.record_digest, tmp_path)
    plots = {path.name: path.stat().st_size for path in (tmp_path / "plots").iterdir()}
    assert {"ranks.png", "prior_posterior.png", "posterior_predictive.png"} <= plots.keys()
    assert sum(held.values()) + sum(plots.values()) < 500_000, held | plots
    assert link.trace()["posterior"].sizes == {"chain": 4, "draw": 1500}


def test_what_a_run_shows(workspace, ledger):
    view = history(ledger, "normal_mean")[-1]
    run = ledger.client.get_run(view.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["likelihood/y"].startswith("Normal(")
    assert run.data.params["genesis_prior/mu"] == "Normal(0, 10)"
    prior = dict(part.split("=") for part in run.data.params["prior/mu"].split())
    before = lindley.load("normal_mean@19", workspace=workspace).summary().loc["mu"]
    assert abs(float(prior["mean"]) - before["mean"]) < 5 * before["sd"] / np.sqrt(1000)
    assert {"k_hat", "r_hat_max", "ess_bulk_min", "log_predictive", "budget", "sd_ratio/mu"} <= set(
        run.data.metrics
    )
    assert "seconds/sample" in run.data.metrics
    assert "normal_mean" in run.data.tags["mlflow.note.content"]
    assert run.inputs.dataset_inputs[0].dataset.digest == view.batch_digest[:36]


def test_a_moved_workspace_is_read_where_it_is(workspace, ledger, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(workspace.root, moved)
    hidden = workspace.root.with_name("hidden")
    workspace.root.rename(hidden)
    try:
        elsewhere = workspace_in(moved)
        assert lindley.load("normal_mean@head", workspace=elsewhere).summary().loc["mu", "sd"] > 0
        assert lindley.verify("normal_mean", workspace=elsewhere).ok
    finally:
        hidden.rename(workspace.root)


def test_a_genuine_pymc3_trace_starts_a_chain(ledger):
    declaration = load_declaration("sir_article", MODELS)
    registered = import_trace(ledger, declaration, PYMC3 / "trace.nc")
    assert (registered.status, registered.link) == ("accepted", 1)
    link = find_link(ledger, "sir_article")
    summary = pd.read_csv(PYMC3 / "trace_summary.csv", index_col=0)
    ours = link.summary()
    for name in ("lambda", "mu", "R0"):
        assert round(ours.loc[name, "mean"], 3) == summary.loc[name, "mean"]
    assert link.record["kind"] == "import"
    assert link.record["sampler"]["inference_library"] == "pymc3"
    assert any("ESS" in warning for warning in link.record["gate"]["warnings"])
    assert verify_chain(ledger, "sir_article").findings == ()
    with pytest.raises(ModelRefused, match="exists already"):
        import_trace(ledger, declaration, PYMC3 / "trace.nc")


def test_a_file_that_is_no_trace_starts_nothing(ledger, tmp_path):
    path = tmp_path / "trace.nc"
    path.write_bytes(b"not netCDF")
    declaration = load_declaration("regression_stream", MODELS)
    with pytest.raises(BatchRefused, match=r"trace\.nc is not a trace"):
        import_trace(ledger, declaration, path)
    assert ledger.genesis("regression_stream") is None
