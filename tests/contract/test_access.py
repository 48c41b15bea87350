"""What a writer, a reader and an anonymous user may do under MLflow's basic authentication."""

from __future__ import annotations

import base64
import io
import json
import logging
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import mlflow.pyfunc
import pytest
from mlflow import MlflowClient

import lindley
from lindley.errors import AccessRefused, LedgerUnavailable
from lindley.ledger.mlflow.store import MlflowLedger
from lindley.ledger.protocol import Ledger, Run
from lindley.model.declaration import Declaration
from lindley.verification.gather import verify_chain
from tests.support import servers
from tests.support.fakes import append, coins, declare, logged
from tests.support.refits import plan_rebase

pytestmark = pytest.mark.e2e
#: Passwords that are found wherever they should not be.
PASSWORDS = {name: f"open-sesame-{name}-4711" for name in ("admin", "writer", "reader")}
REFUSED = "You may not"


@dataclass
class Guarded:
    """A server that asks for passwords, a chain of two links on it, and all that was said."""

    address: str
    root: Path
    declaration: Declaration
    said: list[str] = field(default_factory=list)

    def ledger(self) -> MlflowLedger:
        return MlflowLedger(self.address, self.root)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    root = tmp_path_factory.mktemp("guarded")
    configuration = root / "auth.ini"
    configuration.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{root / 'users.db'}\n"
        # Without its cache the server hashes the password anew, for most of a second, at every request.
        "admin_username = admin\nauth_cache_ttl_seconds = 600\nauthorization_function = "
        "mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    environment = {
        "MLFLOW_AUTH_CONFIG_PATH": str(configuration),
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORDS["admin"],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "a key for tests",
    }
    arguments = ["--app-name", "basic-auth", "--artifacts-destination", str(root / "artifacts")]
    address, server = servers.mlflow_server(root, *arguments, environment=environment)
    with server.running():
        for name in ("writer", "reader"):
            _create_user(address, name)
        models = root / "models"
        models.mkdir()
        found = Guarded(address, root, declare(models))
        with pytest.MonkeyPatch.context() as patch:
            _sign_in(patch, "writer")
            ledger = found.ledger()
            for start in (0, 10):
                assert append(ledger, found.declaration, coins(found.declaration, start)).status == "accepted"
        yield found


def _create_user(address: str, name: str) -> None:
    request = urllib.request.Request(
        f"{address}/api/2.0/mlflow/users/create",
        data=json.dumps({"username": name, "password": PASSWORDS[name]}).encode(),
        headers={
            "Content-Type": "application/json",
            "Authorization": "Basic " + base64.b64encode(f"admin:{PASSWORDS['admin']}".encode()).decode(),
        },
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200


def _sign_in(patch: pytest.MonkeyPatch, name: str) -> None:
    patch.setenv("MLFLOW_TRACKING_USERNAME", name)
    patch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORDS[name])


@pytest.fixture
def reader(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guarded]:
    """The reader signed in; all that is logged meanwhile is kept."""
    _sign_in(monkeypatch, "reader")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", guarded.address)
    monkeypatch.setenv("LINDLEY_HOME", str(guarded.root))
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    yield guarded
    logging.getLogger().removeHandler(handler)
    guarded.said.append(stream.getvalue())


def _everything(ledger: MlflowLedger) -> object:
    """Return all of the chain that a write could change."""
    runs = ledger._search_runs("coins", "")
    return (
        ledger.versions("coins"),
        ledger.head_hint("coins"),
        sorted((run.info.run_id, run.info.status, tuple(sorted(run.data.tags.items()))) for run in runs),
        {run.info.run_id: ledger.artifacts(run.info.run_id) for run in runs},
    )


def test_a_reader_loads_and_verifies_the_head(reader: Guarded) -> None:
    link = lindley.load("coins@head")
    assert link.view.number == 2
    assert list(link.summary().index) == ["theta"]
    assert "theta" in link.trace()["posterior"]
    assert verify_chain(reader.ledger(), "coins").findings == ()
    assert mlflow.pyfunc.load_model("models:/coins@head") is not None


@pytest.mark.parametrize("command", [["log", "coins"], ["verify", "coins"]])
def test_a_reader_has_the_commands_that_read(reader: Guarded, command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", *command], capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(Path(lindley.__file__).parents[1])}, cwd=reader.root,
    )  # fmt: skip
    reader.said += [done.stdout, done.stderr]
    assert done.returncode == 0, done.stderr
    assert "coins" in done.stdout


def _register(at: Guarded, ledger: MlflowLedger) -> None:
    run_id = ledger.versions("coins")[0].run_id
    ledger.register("coins", run_id, {"lindley.status": "accepted"}, "")


def _overwrite(at: Guarded, ledger: MlflowLedger) -> None:
    (at.root / "other").mkdir(exist_ok=True)
    (at.root / "other" / "record.json").write_text("{}")
    ledger.upload(ledger.versions("coins")[0].run_id, at.root / "other")


WRITES: dict[str, Callable[[Guarded, MlflowLedger], object]] = {
    "update": lambda at, ledger: logged(ledger, at.declaration, coins(at.declaration, 20)),
    "open a run": lambda at, ledger: ledger.open_run("coins", Run(name="mine")),
    "overwrite a file": _overwrite,
    "register": _register,
    "move the alias": lambda at, ledger: ledger.set_head_hint("coins", 1),
    "close a run": lambda at, ledger: ledger.close_run(
        ledger.versions("coins")[0].run_id, "killed", "abandoned"
    ),
    "add metrics": lambda at, ledger: ledger.log_metrics(
        ledger.versions("coins")[0].run_id, {"seconds/plots": 1.0}
    ),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_reader_may_not(reader: Guarded, write: str) -> None:
    ledger = reader.ledger()
    before = _everything(ledger)
    with pytest.raises(AccessRefused, match=REFUSED) as caught:
        WRITES[write](reader, ledger)
    assert not caught.value.transient
    assert _everything(reader.ledger()) == before
    reader.said += [str(caught.value), repr(caught.value.as_dict()), repr(caught.value.__cause__)]


def test_a_reader_may_not_change_a_tag_with_mlflow_itself(reader: Guarded) -> None:
    ledger, client = reader.ledger(), MlflowClient(reader.address, reader.address)
    before = _everything(ledger)
    for change in (
        lambda: client.set_model_version_tag("coins", "1", "lindley.status", "quarantined"),
        lambda: client.set_registered_model_tag("coins", "lindley.genesis", "0" * 64),
        lambda: client.delete_model_version("coins", "2"),
        lambda: client.delete_registered_model_alias("coins", "head"),
    ):
        with pytest.raises(Exception, match="Permission denied"):
            change()
    assert _everything(ledger) == before
    assert verify_chain(ledger, "coins").findings == ()


def test_what_a_killed_writer_left_does_not_stop_a_reader(
    guarded: Guarded, reader: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    _sign_in(monkeypatch, "writer")
    guarded.ledger().set_head_hint("coins", 1)
    _sign_in(monkeypatch, "reader")
    ledger: Ledger = reader.ledger()
    assert plan_rebase(ledger, reader.declaration).chain.head.number == 2
    assert ledger.head_hint("coins") == 1
    _sign_in(monkeypatch, "writer")
    guarded.ledger().set_head_hint("coins", 2)


def test_a_wrong_password_is_refused_in_words(reader: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
    with pytest.raises(LedgerUnavailable, match=REFUSED) as caught:
        reader.ledger().genesis("coins")
    assert "wrong" not in str(caught.value)


def test_no_password_was_kept_or_said(guarded: Guarded) -> None:
    """Comes last: nothing that was printed, logged or raised, and no file but the server's users, has one."""
    assert len(guarded.said) > 2 * len(WRITES)
    secrets = [
        *PASSWORDS.values(),
        *(base64.b64encode(f"{n}:{p}".encode()).decode() for n, p in PASSWORDS.items()),
    ]
    for text in guarded.said:
        assert not any(secret in text for secret in secrets)
    files = [path for path in guarded.root.rglob("*") if path.is_file()]
    assert len(files) > 20
    for path in files:
        data = path.read_bytes()
        assert not any(secret.encode() in data for secret in secrets), path
