"""Both UIs in a headless browser, with screenshots to look at; pages of others are refused."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import EVIL
from tests.e2e.machine import Machine, ask, until

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def running(machine: Machine) -> Machine:
    machine.up()
    machine.drop("first.csv", 1)
    until("a completed run", lambda: [r for r in machine.flow_runs("update") if r["end_time"]])
    return machine


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
    found = running.prefect("artifacts/filter", {})
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
    assert "decide" in text  # the page shows ten of them
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


def test_the_pages_of_all_chains(running: Machine, look: Any):
    pages = running.addresses["pages"]
    assert "beta_binomial" in look(f"{pages}/", "beta_binomial", "pages-index")
    look(f"{pages}/chains/beta_binomial", "Beliefs, link by link", "pages-chain")
    assert "MLflow" in look(f"{pages}/chains/beta_binomial/links/1", "What it says", "pages-link")


# -- pages of others ----------------------------------------------------------------------------------

#: Sends a request from the page that is shown, and returns what the page learns of the answer.
FETCH = """async ([url, options]) => {
    try { const answer = await fetch(url, options); return answer.status + " " + await answer.text(); }
    catch (error) { return String(error); }
}"""


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Serve a page of somebody else's; give its port."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(b"<title>prize</title>You have won")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("host", [EVIL, "localhost", "127.0.0.1"])
def test_a_foreign_page_reads_nothing_and_starts_nothing(
    running: Machine, page: Any, foreign: int, host: str
):
    page.goto(f"http://{host}:{foreign}/")
    prefect, mlflow = running.addresses["prefect"], running.addresses["mlflow"]
    (sweep,) = running.prefect("deployments/filter", {"deployments": {"name": {"any_": ["sweep"]}}})
    runs, models = f"{prefect}/api/flow_runs/filter", f"{mlflow}/api/2.0/mlflow/registered-models"
    json_headers = {"content-type": "application/json"}
    plain = {"method": "POST", "body": "{}", "headers": json_headers}
    assert "Failed to fetch" in page.evaluate(FETCH, [runs, plain])
    assert "Failed to fetch" in page.evaluate(FETCH, [f"{models}/search", {}])
    start = f"{prefect}/api/deployments/{sweep['id']}/create_flow_run"
    model = {"method": "POST", "body": '{"name": "stolen"}'}
    before = len(running.flow_runs("sweep"))
    for how in ({"headers": json_headers}, {"mode": "no-cors"}):
        page.evaluate(FETCH, [start, {"method": "POST", "body": "{}"} | how])
        page.evaluate(FETCH, [f"{models}/create", model | how])
    assert len(running.flow_runs("sweep")) == before
    assert ask(f"{models}/get?name=stolen") is None


def test_a_name_that_a_foreign_page_points_at_this_machine_is_refused(running: Machine, page: Any):
    for server in ("prefect", "mlflow", "pages"):
        port = running.addresses[server].rpartition(":")[2]
        page.goto(f"http://{EVIL}:{port}/")
        assert "not called" in page.inner_text("body")
        assert page.evaluate("localStorage.length") == 0
        answer = page.evaluate(
            FETCH, [f"http://{EVIL}:{port}/api/flow_runs/filter", {"method": "POST", "body": "{}"}]
        )
        assert answer.startswith("403")


def test_a_foreign_page_cannot_frame_the_servers(running: Machine, page: Any, foreign: int):
    page.goto(f"http://{EVIL}:{foreign}/")
    for server in ("prefect", "mlflow", "pages"):
        address = running.addresses[server]
        page.set_content(f'<iframe src="{address}/"></iframe>')
        page.wait_for_timeout(1500)
        frames = [frame for frame in page.frames if frame.url.startswith(address)]
        assert all(
            "Lindley" not in frame.content() and "mlflow" not in frame.content().lower() for frame in frames
        )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_of_this_machine_is_refused(running: Machine):
    # All imports come first: the other user may not read the folder of this Python.
    ask_both = (
        "import os, sys, http.client, encodings.idna\n"
        "from urllib.parse import urlsplit\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "for url in map(urlsplit, sys.argv[1:]):\n"
        "    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=20)\n"
        "    connection.request('GET', url.path or '/', headers={'accept': 'text/html'})\n"
        "    answer = connection.getresponse()\n"
        "    print(answer.read().decode() if answer.status == 200 else answer.status)\n"
    )
    mlflow = f"{running.addresses['mlflow']}/api/2.0/mlflow/registered-models/search"
    command = [sys.executable, "-S", "-c", ask_both, mlflow, running.addresses["prefect"]]
    command.append(running.addresses["pages"])
    done = subprocess.run(command, check=False, capture_output=True, text=True, env={})
    lines = done.stdout.splitlines()
    assert (lines[0], lines[-1]) == ("403", "403"), done.stderr
    assert "prefect-password" not in done.stdout
    password = (running.root / ".lindley" / "prefect.password").read_text().strip()
    assert password not in "".join(path.read_text() for path in (running.root / ".lindley").rglob("*.log"))
