"""Both UIs in a headless browser, with screenshots to look at."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.machine import Machine, ask, until

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.timeout(1200)]

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def running(machine: Machine) -> Machine:
    machine.up()
    machine.drop("first.csv", 1)
    until("a completed run", lambda: [r for r in machine.flow_runs("update") if r["end_time"]])
    return machine


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("NO BROWSER: neither chromium nor google-chrome is on the PATH, the UIs were not tested")
    from playwright.sync_api import sync_playwright

    profile = tmp_path_factory.mktemp("profile")
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile, executable_path=CHROMIUM, args=QUIET, viewport={"width": 1400, "height": 1000}
        )
        context.set_default_timeout(60_000)
        yield context.new_page()
        context.close()


@pytest.fixture
def look(page: Any, tmp_path: Path) -> Any:
    """Return a function that opens a page, waits for a text, takes a screenshot and returns the text."""

    def at(address: str, wait_for: str, name: str) -> str:
        page.goto(address)
        page.get_by_text(wait_for).first.wait_for()
        page.wait_for_timeout(500)
        page.screenshot(path=tmp_path / f"{name}.png", full_page=True)
        return " ".join(page.inner_text("body").split())

    return at


@pytest.fixture(scope="module")
def artifacts(running: Machine) -> dict[str, str]:
    found = ask(f"{running.addresses['prefect']}/api/artifacts/filter", {})
    return {item["key"]: item["id"] for item in found}


@pytest.mark.parametrize("version", ["", "/v2"])
def test_the_flow_run(running: Machine, look: Any, version: str):
    (run,) = running.flow_runs("update")
    address = f"{running.addresses['prefect']}{version}/runs/flow-run/{run['id']}"
    text = look(address, "Gate passed", "flow-run")
    assert "beta_binomial <- first.csv" in text
    assert "Completed" in text
    assert "Gate passed" in text


@pytest.mark.parametrize(
    ("key", "wait_for", "texts"),
    [
        ("summary", "updated the model's own priors", ["MLflow run", "MLflow version", "theta"]),
        ("parameters", "theta", ["90% interval", "sd ratio", "posterior"]),
        ("sampler", "100%", ["Sampler of beta_binomial, link 1"]),
    ],
)
def test_an_artifact(
    running: Machine, artifacts: dict[str, str], look: Any, key: str, wait_for: str, texts: list
):
    found = artifacts[f"beta-binomial-{key}"]
    text = look(f"{running.addresses['prefect']}/v2/artifacts/artifact/{found}", wait_for, key)
    assert [wanted for wanted in texts if wanted not in text] == []


@pytest.mark.parametrize("version", ["", "/v2"])
def test_the_plot(running: Machine, artifacts: dict[str, str], look: Any, page: Any, version: str):
    found = artifacts["beta-binomial-prior-posterior"]
    look(f"{running.addresses['prefect']}{version}/artifacts/artifact/{found}", "the plot", "plot")
    plot = page.get_by_alt_text("Prior and posterior of every parameter")
    plot.wait_for()
    assert plot.evaluate("image => image.naturalWidth") > 300
    assert plot.bounding_box()["width"] > 300


def test_the_deployments(running: Machine, look: Any):
    text = look(f"{running.addresses['prefect']}/v2/deployments", "sweep", "deployments")
    assert "update" in text
    assert "1 schedule" in text


def test_the_registered_model(running: Machine, look: Any):
    text = look(f"{running.addresses['mlflow']}/#/models/beta_binomial", "lindley.record", "registered-model")
    assert "@ head" in text
    assert "lindley.record" in text
    assert "conjugate" in text


def test_the_version(running: Machine, look: Any):
    address = f"{running.addresses['mlflow']}/#/models/beta_binomial/versions/1"
    text = look(address, "updated the model's own priors", "version")
    assert "lindley.previous" in text
    assert "theta" in text


def test_the_run(running: Machine, look: Any):
    mlflow = running.addresses["mlflow"]
    version = ask(f"{mlflow}/api/2.0/mlflow/model-versions/get?name=beta_binomial&version=1")
    run_id = version["model_version"]["run_id"]
    info = ask(f"{mlflow}/api/2.0/mlflow/runs/get?run_id={run_id}")["run"]["info"]
    address = f"{mlflow}/#/experiments/{info['experiment_id']}/runs/{run_id}"
    text = look(address, "r_hat_max", "run")
    assert "log_predictive" in text
    text = look(f"{address}/artifacts", "trace.nc", "run-artifacts")
    assert "record.json" in text
