"""Real servers on loopback for tests: MLflow's tracking server, PostgreSQL, an S3 API."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

START_SECONDS = 180
STOP_SECONDS = 30
#: When it is set, a backend that is not installed is a failure, not a skip.
REQUIRED = "LINDLEY_REQUIRE_BACKENDS"
BUCKET = "beliefs"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def missing(what: str) -> None:
    """Skip the test, loudly, for lack of a backend."""
    if os.environ.get(REQUIRED):
        pytest.fail(f"{what}, and {REQUIRED} is set")
    pytest.skip(f"NOT TESTED: {what}")


# -- processes ----------------------------------------------------------------------------------------


@dataclass
class Service:
    """A process with its children in a group of its own, which can be killed and started again."""

    command: list[str]
    folder: Path
    ready: Callable[[], bool]
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.folder / f"{Path(self.command[0]).name}.log"

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command, env=os.environ | dict(self.environment), stdout=output, stderr=output,
                cwd=self.folder, start_new_session=True, user=self.user,
                group=pwd.getpwnam(self.user).pw_gid if self.user else None,
                extra_groups=[] if self.user else None,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            if self.ready():
                return
            time.sleep(0.2)
        self.kill()
        raise RuntimeError(
            f"{self.command[0]} did not start:\n{self.log.read_text(errors='replace')[-3000:]}"
        )

    def kill(self) -> None:
        """Kill it and its children at once, as a power cut would."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Ask it to end; kill what is left of it."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(how)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    @contextmanager
    def running(self, how: signal.Signals = signal.SIGTERM) -> Iterator[Service]:
        """Have it run for the time of a block."""
        self.start()
        try:
            yield self
        finally:
            self.stop(how)


def answers(address: str) -> Callable[[], bool]:
    """Return a check whether an address answers with 200."""

    def ready() -> bool:
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    return ready


# -- MLflow -------------------------------------------------------------------------------------------


def mlflow_server(
    folder: Path, *arguments: str, store: str = "", environment: Mapping[str, str] | None = None
) -> tuple[str, Service]:
    """Return the address of a tracking server and the server, not yet started.

    Without `store` its database is SQLite in `folder`; `arguments` say where its artifacts are.
    """
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", store or f"sqlite:///{folder / 'mlflow.db'}"]
    command += arguments or ["--artifacts-destination", str(folder / "artifacts")]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    address = f"http://127.0.0.1:{port}"
    service = Service(command, folder, answers(f"{address}/health"), quiet | dict(environment or {}))
    return address, service


# -- PostgreSQL ---------------------------------------------------------------------------------------


def postgres_programs() -> Path | None:
    """Return the folder of PostgreSQL's newest programs; None when it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@contextmanager
def postgres() -> Iterator[Callable[[str], str]]:
    """Run a PostgreSQL server of its own; yield a function that makes a database and returns its address."""
    programs = postgres_programs()
    if programs is None:
        missing("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    assert programs is not None
    # It refuses to run as root, and pytest's folders are closed to other users.
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="lindley-postgres-"))
    if user:
        shutil.chown(folder, user, user)
    data, port = folder / "data", free_port()
    try:
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", "lindley", "-A", "trust", "-E", "UTF8",
             "--locale=C.UTF-8", "--no-sync"],
            check=True, capture_output=True, user=user, cwd=folder, extra_groups=[] if user else None,
        )  # fmt: skip
        command = [str(programs / "postgres"), "-D", str(data), "-h", "127.0.0.1", "-p", str(port)]
        command += ["-k", str(folder), "-c", "fsync=off", "-c", "max_connections=200"]
        ready = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
        service = Service(
            command, folder, lambda: subprocess.run(ready, check=False).returncode == 0, {}, user
        )

        def database(name: str) -> str:
            make = [programs / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "lindley", name]
            subprocess.run(make, check=True, capture_output=True)
            return f"postgresql://lindley@127.0.0.1:{port}/{name}"

        with service.running(signal.SIGINT):  # its fast shutdown: it does not wait for clients
            yield database
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def on_postgres(
    folder: Path, database: Callable[[str], str], access: Mapping[str, str], *, proxied: bool
) -> tuple[str, Service]:
    """Return the address of a tracking server on PostgreSQL and S3, and the server, not yet started.

    Parameters
    ----------
    database, access
        What `postgres` and `s3` yield.
    proxied
        Whether artifacts go through the server; clients write to the bucket themselves otherwise.
    """
    place = f"s3://{BUCKET}/{folder.name}"
    how = ["--artifacts-destination", place]
    if not proxied:
        how = ["--default-artifact-root", place, "--no-serve-artifacts"]
    name = f"mlflow_{''.join(c if c.isalnum() else '_' for c in folder.name)}".lower()
    return mlflow_server(folder, *how, store=database(name), environment=access)


# -- S3 -----------------------------------------------------------------------------------------------


@contextmanager
def s3(folder: Path) -> Iterator[dict[str, str]]:
    """Run a server with S3's API and a bucket; yield what a client needs in its environment."""
    try:
        import boto3
        import moto.server  # noqa: F401
    except ImportError as error:
        missing(f"{error.name} is not installed")
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    access = {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "MLFLOW_S3_ENDPOINT_URL": address,
        "AWS_ENDPOINT_URL": address,
    }
    with Service(command, folder, answers(f"{address}/moto-api/data.json"), access).running():
        client = boto3.client(
            "s3", endpoint_url=address, region_name="us-east-1",
            aws_access_key_id="testing", aws_secret_access_key="testing",
        )  # fmt: skip
        client.create_bucket(Bucket=BUCKET)
        client.close()
        yield access
