"""`lindley up` in a folder of its own: real servers, worker and watcher on free loopback ports."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
#: Seconds until something must have happened; a loaded machine takes its time.
PATIENCE = 300.0
_OURS = ("LINDLEY", "PREFECT", "MLFLOW", "PYTHONPATH")


def until(what: str, look: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Wait until `look` returns something true and return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.5)
    raise AssertionError(f"{what} did not happen within {seconds:.0f} s")


def ask(url: str, body: Any = None, **headers: str) -> Any:
    """Send a request to a server on loopback; None when it answers with an error or is too busy."""
    request = urllib.request.Request(
        url,
        data=None if body is None else json.dumps(body).encode(),
        headers={"content-type": "application/json", **headers},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=90) as response:
            return json.loads(response.read())
    except (urllib.error.HTTPError, TimeoutError):
        return None


@dataclass
class Machine:
    """A working folder and the `lindley up` that runs in it, by default that of this clone."""

    root: Path
    command: tuple[str, ...] = (sys.executable, "-P", "-m", "flows.cli")
    process: subprocess.Popen[str] | None = None
    addresses: dict[str, str] = field(default_factory=dict)
    seen: list[psutil.Process] = field(default_factory=list)

    def environment(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        if self.command[0] == sys.executable:
            clean["PYTHONPATH"] = str(ROOT)
        return clean | {"LINDLEY_HOME": str(self.root)}

    def up(self, *options: str, cron: str = "0 0 1 1 *") -> None:
        """Start everything and wait for its addresses; by default the sweep stays out of the way."""
        # The repository's own deployments but for the sweep's schedule.
        deployments = (ROOT / "prefect.yaml").read_text()
        assert '"*/15 * * * *"' in deployments
        (self.root / "prefect.yaml").write_text(deployments.replace("*/15 * * * *", cron))
        ports = ["--mlflow-port", "0", "--prefect-port", "0", "--pages-port", "0", "--json", *options]
        errors = (self.root / "up.err").open("a")
        self.process = subprocess.Popen(
            [*self.command, "up", *ports],
            env=self.environment(),
            cwd=self.root,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        errors.close()
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if line.startswith("}"):
                break
        assert lines, f"lindley up ended with {self.process.wait()}: {(self.root / 'up.err').read_text()}"
        self.addresses = json.loads("".join(lines))
        self.seen = psutil.Process(self.process.pid).children(recursive=True)

    def down(self) -> int:
        """Stop it as Ctrl-C in a terminal does and return its exit code."""
        assert self.process is not None
        self.seen += psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(timeout=120)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return code

    def alive(self) -> list[str]:
        """Return what still runs of everything that was started."""
        return [" ".join(process.cmdline()) for process in self.seen if process.is_running()]

    def lindley(self, *arguments: str) -> Any:
        """Run a command in another process and return its JSON."""
        command = [*self.command, *arguments, "--json"]
        done = subprocess.run(
            command, env=self.environment(), cwd=self.root, capture_output=True, text=True, check=False
        )
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    def drop(self, name: str, start: int, *, chain: str = "beta_binomial", text: str = "") -> None:
        """Put a file into the landing folder as a careful writer does: whole, by a rename."""
        folder = self.root / "data" / "landing" / chain
        folder.mkdir(parents=True, exist_ok=True)
        rows = "".join(f"{i},4,10\n" for i in range(start, start + 5))
        (folder / f".{name}.tmp").write_text(text or f"id,k,n\n{rows}")
        (folder / f".{name}.tmp").rename(folder / name)

    def head(self) -> int | None:
        """Return the version that the alias `head` points at, from MLflow."""
        url = f"{self.addresses['mlflow']}/api/2.0/mlflow/registered-models/get?name=beta_binomial"
        document = ask(url)
        aliases = document["registered_model"].get("aliases", []) if document else []
        return next((int(alias["version"]) for alias in aliases if alias["alias"] == "head"), None)

    def flow_runs(self, flow: str) -> list[dict[str, Any]]:
        """Return the runs of a flow, newest first, from Prefect."""
        body = {"flows": {"name": {"any_": [flow]}}, "sort": "START_TIME_DESC"}
        runs: list[dict[str, Any]] = self.prefect("flow_runs/filter", body) or []
        return runs

    def prefect(self, path: str, body: Any = None) -> Any:
        """Send a request to the Prefect server, with its password."""
        password = (self.root / ".lindley" / "prefect.password").read_bytes().strip()
        basic = f"Basic {base64.b64encode(password).decode()}"
        return ask(f"{self.addresses['prefect']}/api/{path}", body, Authorization=basic)

    def flow_run(self, name: str) -> dict[str, Any]:
        """Return the run of this name, once it is over."""

        def look() -> list[dict[str, Any]]:
            return [run for run in self.flow_runs("update") if run["name"] == name and run["end_time"]]

        found: list[dict[str, Any]] = until(f"the end of {name}", look)
        return found[0]

    def logs(self) -> str:
        """Return the ends of all logs."""
        files = sorted((self.root / ".lindley" / "logs").glob("*.log"))
        return "\n".join(f"== {path.name}\n{path.read_text()[-2000:]}" for path in files)
