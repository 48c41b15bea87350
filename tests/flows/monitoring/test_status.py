"""The status of an installation: what is bad, how bad, and that nothing is created."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from flows import running
from flows.cli.__main__ import app
from flows.monitoring import probes
from flows.monitoring import status as module
from flows.monitoring.prometheus import exposition
from flows.monitoring.status import Level, Limits, Status, status
from flows.monitoring.verified import last_verification, remember_verification
from lindley import process
from lindley.ledger.record import Artifact
from lindley.verification.check import Checked, Checks, check
from lindley.workspace import Workspace
from tests.support.fakes import MemoryLedger

NOW = datetime.now(UTC)
NO_DISK = Limits(disk_warning=0, disk_critical=0)


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def ledger(coins_chain: MemoryLedger, monkeypatch: pytest.MonkeyPatch) -> MemoryLedger:
    """The chain of coins as the ledger of the working folder."""
    made = coins_chain.clone()
    monkeypatch.setattr(module, "has_ledger", lambda _: True)
    monkeypatch.setattr(module, "open_ledger", lambda *_, **__: made)
    return made


def found(workspace: Workspace, limits: Limits = NO_DISK, now: datetime | None = None) -> Status:
    return status(workspace, limits, now or datetime.now(UTC))


def messages(found: Status) -> list[tuple[str, str]]:
    return [(str(finding.level), finding.what) for finding in found.findings]


def files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_an_empty_folder_is_ok_and_stays_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINDLEY_HOME", str(tmp_path))
    done = found(Workspace.from_environment())
    assert (done.level, done.findings, done.chains, done.processes) == (Level.OK, [], [], {})
    assert files(tmp_path) == set()


def test_chains_have_ages_and_what_is_not_counted(workspace: Workspace, ledger: MemoryLedger) -> None:
    (row,) = found(workspace).chains
    assert (row["chain"], row["links"], row["quarantined"], row["verified"]) == ("coins", 3, 1, None)
    assert messages(found(workspace)) == [("warning", "coins"), ("warning", "coins")]
    later = NOW + timedelta(hours=3)
    old = found(workspace, Limits(head_age=2, verification_age=0, disk_warning=0, disk_critical=0), later)
    assert old.findings[0].message.startswith("its newest link is ")


def test_the_last_verification_counts(workspace: Workspace, ledger: MemoryLedger) -> None:
    checked = check(ledger, "coins", Checks())
    remember_verification(workspace, checked)
    assert last_verification(workspace, "coins") is None  # no place for it was made
    (workspace.root / ".lindley").mkdir()
    remember_verification(workspace, checked)
    (row,) = found(workspace).chains
    assert (row["verified"], row["verified_head"]) == (True, True)
    assert len(found(workspace).findings) == 1
    late = found(workspace, now=NOW + timedelta(days=4))
    assert any("last verified 4 days ago" in finding.message for finding in late.findings)
    ledger.flip("coins", 1, Artifact.SUMMARY)
    remember_verification(workspace, Checked(check(ledger, "coins", Checks()).report))
    bad = found(workspace)
    assert bad.level == Level.CRITICAL
    assert "R06 link 1" in bad.findings[0].message
    for text in ("{", "[]", '{"at": "x"}', "9" * 5000):
        (workspace.root / ".lindley" / "verified" / "coins.json").write_text(text)
        assert last_verification(workspace, "coins") is None


def test_a_bad_chain_and_a_bad_ledger_hide_nothing_else(
    workspace: Workspace, ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.models["other"] = ledger.models["coins"]
    monkeypatch.setattr(ledger, "genesis", _fails_for("other", ledger.genesis))
    assert ("critical", "other") in messages(found(workspace))
    assert [row["chain"] for row in found(workspace).chains] == ["coins"]

    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a database with \x1b[31m in its message")

    monkeypatch.setattr(module, "open_ledger", fail)
    done = found(workspace)
    assert messages(done) == [("critical", "ledger")]
    assert "\x1b" not in done.findings[0].message


def _fails_for(name: str, read: Any) -> Any:
    def genesis(chain: str) -> Any:
        if chain == name:
            raise ValueError("damaged")
        return read(chain)

    return genesis


def test_files_that_wait_or_were_rejected(workspace: Workspace, land: Any) -> None:
    land("new.csv", minutes=5)
    assert found(workspace).findings == []
    land("old.csv", minutes=125)
    land("x.csv", chain="unknown", minutes=300)
    done = found(workspace)
    assert (done.files["waiting"], done.files["undeclared"]) == (3, 1)
    assert "the oldest for 2 hours" in done.findings[0].message
    report = workspace.rejected / "coins" / "bad.csv.reason.json"
    report.parent.mkdir(parents=True)
    report.write_text("{}")
    assert ("warning", "rejected") in messages(found(workspace))
    os.utime(report, (0, 0))
    assert ("warning", "rejected") not in messages(found(workspace))
    assert found(workspace).files["rejected"] == 1


def test_disks(workspace: Workspace) -> None:
    full = found(workspace, Limits(disk_critical=2**60))
    assert (full.level, full.findings[0].what) == (Level.CRITICAL, "disk")
    low = found(workspace, Limits(disk_warning=2**60, disk_critical=0))
    assert low.level == Level.WARNING


_SERVERS = running.Servers(
    "http://127.0.0.1:9", "http://127.0.0.1:9/api", ours=True, pages="http://127.0.0.1:9"
)


def test_servers_and_processes_of_up(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    running.remember(workspace, _SERVERS)
    folder = str(workspace.root / ".lindley")
    alive, dead = process.describe(), "x".join(process.describe().rsplit(":", 1)).replace("x", ":9")
    entries = [
        {"name": "worker", "process": alive, "folder": folder},
        {"name": "watcher", "process": dead, "folder": folder},
    ]
    Path(folder, "processes.json").write_text(json.dumps(entries))
    done = found(workspace)
    assert done.processes == {"up": True, "worker": True, "watcher": False}
    assert {("critical", name) for name in ("mlflow", "prefect", "pages", "watcher")} == set(messages(done))
    monkeypatch.setattr(running, "mlflow_answers", lambda _: True)
    monkeypatch.setattr(running, "prefect_answers", lambda _: True)
    monkeypatch.setattr(running, "pages_answer", lambda _: True)
    monkeypatch.setattr(probes, "workers", lambda *_: 0)
    assert set(messages(found(workspace))) == {("critical", "watcher"), ("critical", "worker")}


def test_metrics_can_be_parsed_and_are_those_of_the_status(
    workspace: Workspace, ledger: MemoryLedger
) -> None:
    done = found(workspace)
    families = {f.name: f for f in text_string_to_metric_families(exposition(done))}
    (links,) = families["lindley_chain_links"].samples
    assert (links.labels, links.value) == ({"chain": "coins"}, 3.0)
    assert families["lindley_status"].samples[0].value == 1.0
    levels = {s.labels["level"]: s.value for s in families["lindley_findings"].samples}
    assert levels == {"warning": 2.0, "critical": 0.0}
    assert "lindley_chain_verified" not in families  # unknown, which is not 0


def test_the_command_has_exit_codes_for_monitoring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINDLEY_HOME", str(tmp_path))
    monkeypatch.setattr("flows.environment.prepare", lambda workspace, **_: workspace)
    run = CliRunner().invoke
    quiet = ["status", "--disk-warning", "0", "--disk-critical", "0"]
    assert run(app, quiet).exit_code == 0
    assert run(app, ["status", "--disk-critical", "0", "--disk-warning", "1e12"]).exit_code == 1
    assert run(app, ["status", "--disk-critical", "1e12"]).exit_code == 2
    assert json.loads(run(app, [*quiet, "--json"]).stdout)["level"] == "ok"
    assert run(app, [*quiet, "--prometheus", "-"]).stdout.startswith("# HELP lindley_status ")
    assert files(tmp_path) == set()
    target = tmp_path / "lindley.prom"
    assert run(app, [*quiet, "--prometheus", str(target)]).exit_code == 0
    assert "lindley_status 0.0" in target.read_text()
