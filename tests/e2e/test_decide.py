"""A person decides by Prefect's form, across restarts; a webhook hears of each thing once."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psutil
import pytest

from tests.e2e.machine import Machine, until

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.faults, pytest.mark.timeout(1200)]
FORM = {"verdict": "approve", "who": "Ann", "why": "it is right"}


@pytest.fixture(scope="module")
def heard() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A webhook on loopback: its address, and what it was sent."""
    bodies: list[dict[str, Any]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/secret-path", bodies
    server.shutdown()


def asked(machine: Machine, version: int) -> dict[str, Any]:
    """Return the run that asks about a version, once it is suspended."""

    def look() -> list[dict[str, Any]]:
        runs = [run for run in machine.flow_runs("decide") if run["name"].endswith(f"version {version}")]
        return [run for run in runs if run["state_type"] == "PAUSED"]

    found: list[dict[str, Any]] = until(f"a run that asks about version {version}", look)
    return found[0]


def fill_in(page: Any, machine: Machine, run: dict[str, Any]) -> None:
    """Approve in Prefect's pages; a blank reason is not taken."""
    page.goto(f"{machine.addresses['prefect']}/runs/flow-run/{run['id']}")
    page.get_by_role("button", name="Resume").first.click()
    form = page.locator(".p-modal")
    form.locator(".p-select-button__control").press("ArrowDown")
    page.locator("[class*=select-option]").first.wait_for()
    page.keyboard.press("Enter")
    who, why = form.locator("textarea").nth(0), form.locator("textarea").nth(1)
    who.fill(FORM["who"])
    why.fill("  ")
    form.get_by_role("button", name="Submit").click()
    page.wait_for_timeout(2000)
    assert asked(machine, 1)["id"] == run["id"]
    why.fill(FORM["why"])
    page.wait_for_timeout(500)
    form.get_by_role("button", name="Submit").click()
    form.wait_for(state="detached")


def kill_worker(machine: Machine) -> None:
    """Kill the worker and its children, and wait for the end of `lindley up`."""
    assert machine.process is not None
    assert machine.process.stdout is not None
    every = psutil.Process(machine.process.pid).children(recursive=True)
    worker = next(process for process in every if " worker " in f"{' '.join(process.cmdline())} ")
    for process in [worker, *worker.children(recursive=True)]:
        process.kill()
    machine.process.wait(timeout=120)
    machine.process.stdout.close()
    machine.process = None


def test_a_form_decides_across_restarts_and_once(machine: Machine, page: Any, heard: Any) -> None:
    address, bodies = heard
    model = machine.root / "models" / "beta_binomial.py"
    model.write_text(
        model.read_text() + "\nfrom dataclasses import replace\n\nfrom lindley import Policy\n"
        'declaration = replace(declaration, policy=Policy(approve="always"))\n'
    )
    machine.up("--notify", address)
    machine.drop("first.csv", 1)
    run = asked(machine, 1)
    assert machine.head() is None
    until("the event of a candidate", lambda: [b for b in bodies if b["event"] == "lindley.link.candidate"])
    assert machine.down() == 0
    machine.up("--notify", address)
    fill_in(page, machine, run)
    until("a head", lambda: machine.head() == 2)
    decision = machine.lindley("show", "beta_binomial")["record"]["decision"]
    assert {name: decision[name] for name in ("who", "why")} == {"who": FORM["who"], "why": FORM["why"]}
    until("the event of a link", lambda: [b for b in bodies if b["event"] == "lindley.link.accepted"])

    machine.drop("second.csv", 6)
    run = asked(machine, 3)
    kill_worker(machine)
    machine.up("--notify", address)
    with ThreadPoolExecutor() as pool:
        by_command = pool.submit(machine.lindley, "reject", "beta_binomial", "3", "--why", "no", "--direct")
        machine.prefect(f"flow_runs/{run['id']}/resume", {"run_input": FORM})
        by_command.result()

    def over() -> bool:
        return all(found["end_time"] for found in machine.flow_runs("decide"))

    until("the end of what was asked", over)
    log = machine.lindley("log", "beta_binomial", "--all")
    decisions = [link for link in log["links"] if link["who"] and link["status"] != "superseded"]
    assert len(decisions) == 2
    assert log["undecided"] == []
    assert machine.lindley("verify", "beta_binomial")["ok"]
    ids = [body["id"] for body in bodies]
    assert len(ids) == len(set(ids)), [body["event"] for body in bodies]
    assert "secret-path" not in machine.logs()
    assert machine.down() == 0
