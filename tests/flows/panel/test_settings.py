"""Settings of the engines: what they are by default, and what is refused."""

from __future__ import annotations

import pytest

from flows.panel.settings import MOST_SHARDS, PanelSettings
from lindley.errors import PanelRefused


def test_by_default_there_are_processes_of_this_machine() -> None:
    found = PanelSettings.from_environment({})
    assert (found.engine, found.address, found.folder) == ("processes", "", "")
    assert found.workers >= 1
    assert found.shards_for(5) == 1
    assert PanelSettings(workers=2).shards_for(10_000) == 8
    assert PanelSettings(engine="ray").shards_for(10**6) == MOST_SHARDS


def test_they_are_read_from_the_environment() -> None:
    held = {
        "ENGINE": "dask",
        "ADDRESS": "tcp://h:8786",
        "WORKERS": "3",
        "SHARDS": "64",
        "FOLDER": "/x",
    }
    found = PanelSettings.from_environment({f"LINDLEY_PANEL_{name}": text for name, text in held.items()})
    assert found == PanelSettings("dask", "tcp://h:8786", 3, 64, "/x")
    assert found.shards_for(2) == 64


@pytest.mark.parametrize(
    ("name", "text"),
    [("ENGINE", "spark"), ("SHARDS", "65"), ("SHARDS", "x"), ("WORKERS", "0"), ("WORKERS", "-1")],
)
def test_others_are_refused(name: str, text: str) -> None:
    with pytest.raises(PanelRefused, match=f"LINDLEY_PANEL_{name}"):
        PanelSettings.from_environment({f"LINDLEY_PANEL_{name}": text})
