"""A machine per module: its own folder, servers, worker and watcher; and a browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.machine import ROOT, Machine
from tests.support.browser import CHROMIUM, NO_BROWSER

#: A name that its owner points at this machine, as a page does to get around its origin.
EVIL = "evil.example"
QUIET = [
    f"--host-resolver-rules=MAP {EVIL} 127.0.0.1",
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
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    root = tmp_path_factory.mktemp("machine")
    (root / "models").mkdir()
    shutil.copy(ROOT / "models" / "beta_binomial.py", root / "models")
    made = Machine(root)
    yield made
    if made.process is not None:
        made.down()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip(NO_BROWSER)
    from playwright.sync_api import sync_playwright

    profile = tmp_path_factory.mktemp("profile")
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile, executable_path=CHROMIUM, args=QUIET, viewport={"width": 1400, "height": 1000}
        )
        context.set_default_timeout(60_000)
        yield context.new_page()
        context.close()
