"""Panels whose writers, and tracking server, are killed by SIGKILL, and writers that race; on request."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lindley import failpoints
from tests.faults import kills
from tests.faults.assessing import Row
from tests.faults.panel_writers import PanelPlace, assess_panel
from tests.faults.writers import Work, Writer, sweep
from tests.support.forks import context
from tests.support.servers import mlflow_server

pytestmark = pytest.mark.faults
#: A panel has no plots.
POINTS = [name for name in failpoints.NAMES if name != "drawn"]


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> PanelPlace:
    """One embedded ledger for all tests, each with a panel of its own."""
    root = tmp_path_factory.mktemp("panels")
    return PanelPlace(root, f"sqlite:///{root / 'mlflow.db'}")


@pytest.mark.parametrize("name", POINTS)
def test_a_writer_that_is_killed_loses_and_doubles_nothing(ground: PanelPlace, name: str) -> None:
    row = kills.kill(replace(ground, chain=f"kill-{name}"), name, check=assess_panel)
    assert row.ok, row


@pytest.mark.parametrize("name", kills.SERVER_AT)
def test_a_server_that_is_killed_loses_and_doubles_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "server").mkdir()
    address, server = mlflow_server(tmp_path / "server")
    place = PanelPlace(tmp_path, address)
    with server.running():
        row, said = kills.kill_server(place, server, name, check=assess_panel)
    assert row.ok, (row, said)


def test_writers_that_race_make_one_line_with_all_rows_once(ground: PanelPlace) -> None:
    place = replace(ground, chain="race")
    place.prepare()
    barrier = context().Barrier(2)
    files = [[place.land(2 * writer + number) for number in range(2)] for writer in range(2)]
    done = [one.done() for one in [Writer(place, paths, Work(), barrier=barrier) for paths in files]]
    assert all(found is not None and found.status == ["accepted"] * 2 for found in done)
    row = Row("race", "panel", runs=1)
    assert assess_panel(place, range(4), row) == 4
    assert row.ok, row


def test_a_kill_without_a_sweep_is_seen(ground: PanelPlace) -> None:
    place = replace(ground, chain="unswept")
    place.prepare()
    paths = [place.land(0), place.land(1)]
    assert Writer(place, paths, Work(failpoint="uploaded", armed_from=1)).done() is None
    row = Row("kill", "unswept", runs=1)
    assess_panel(place, [0, 1], row)
    assert row.lost > 0
    assert row.undetected > 0
    sweep(place)
    row = Row("kill", "swept", runs=1)
    assess_panel(place, [0], row)
    assert row.doubled > 0
