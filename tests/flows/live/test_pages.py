"""Live pages: all chains, one, one link; hostile text stays text, and a bad chain hides no other."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from flows.live.pages import Pages
from lindley.ledger.history import history
from lindley.workspace import Workspace
from tests.support import amendments, fakes
from tests.support.live import running

HOSTILE = '</b><script>a()</script><img onerror="a()">.csv'
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> fakes.MemoryLedger:
    """A chain with quarantine, a retraction and a hostile name, its branch, and a chain that is damaged."""
    folder = tmp_path_factory.mktemp("models")
    ledger, coins = fakes.MemoryLedger(), fakes.declare(folder)
    for i in range(3):
        fakes.append(ledger, coins, fakes.coins(coins, 10 * i, k=i % 3 + 1))
    fakes.append(ledger, coins, fakes.coins(coins, 100, k=4), passed=False)
    amendments.retract(ledger, coins, 2)
    changed = fakes.declare(folder, code='MARKUP = "<b>"\n')
    fakes.append(ledger, changed, fakes.coins(changed, 200, k=1, origin=HOSTILE), accept=True)
    amendments.branch(ledger, fakes.declare(folder, "other_coins"), "coins", 2)
    bad = fakes.declare(folder, "bad_coins")
    fakes.append(ledger, bad, fakes.coins(bad, 0))
    ledger.runs[ledger.models["bad_coins"].genesis_run].files["genesis.json"] = b"{}"
    return ledger


@pytest.fixture(scope="module")
def client(ledger: fakes.MemoryLedger, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    workspace = Workspace.from_environment(tmp_path_factory.mktemp("work"))
    with running(Pages(ledger, workspace).app) as client:
        yield client


def test_the_index_shows_all_chains_and_what_is_wrong_with_one(client: httpx.Client) -> None:
    page = client.get("/").text
    for name in ("coins", "other_coins"):
        assert f'href="/chains/{name}"' in page
    assert "bad_coins cannot be read" in page
    assert "1 in quarantine" in page
    assert page.count("<svg") == 2
    found = client.get("/", params={"q": "other"}).text
    assert 'href="/chains/coins"' not in found
    assert "&lt;script&gt;" in client.get("/", params={"q": "<script>"}).text


def test_each_link_has_a_page_that_names_its_record(client: httpx.Client, ledger: fakes.MemoryLedger) -> None:
    whole = client.get("/chains/coins").text
    for view in history(ledger, "coins"):
        assert f'href="/chains/coins/links/{view.number}"' in whole
        assert view.record_digest in whole
    view = history(ledger, "coins")[-1]
    page = client.get(f"/chains/coins/links/{view.number}").text
    assert page.count(view.record_digest) >= 2
    assert "data:image/png;base64," in page
    assert "MARKUP" in page
    assert f'rel="prev" href="/chains/coins/links/{(view.number or 0) - 1}"' in page
    assert 'rel="next"' not in page


def test_text_from_outside_stays_text_and_nothing_runs(client: httpx.Client) -> None:
    for path in ("/", "/chains/coins", "/chains/coins/links/5"):
        answer = client.get(path)
        assert "<script" not in answer.text
        assert "<img onerror" not in answer.text
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script" not in policy
        assert answer.headers["x-frame-options"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/chains/none", 404), ("/chains/<b>", 404), ("/chains/coins/links/99", 404), ("/nothing", 404),
        ("/chains/coins/links/-1", 404), ("/chains/coins/links/\u0663", 404), ("/chains/bad_coins", 500),
    ],
)  # fmt: skip
def test_what_is_not_there_is_said_in_plain_text(path: str, status: int, client: httpx.Client) -> None:
    answer = client.get(path)
    assert answer.status_code == status
    assert "text/html" not in answer.headers["content-type"]


def test_pages_only_answer_reads_under_their_own_name(client: httpx.Client) -> None:
    assert client.post("/", content=b"").status_code == 405
    assert client.get("/", headers={"host": "evil.example"}).status_code == 403


def test_a_new_link_is_shown_at_once(
    client: httpx.Client, tmp_path: Path, ledger: fakes.MemoryLedger
) -> None:
    more = fakes.declare(tmp_path, "more_coins")
    fakes.append(ledger, more, fakes.coins(more, 0))
    assert "more_coins: link 1" in client.get("/chains/more_coins").text
    fakes.append(ledger, more, fakes.coins(more, 10))
    assert "more_coins: link 2" in client.get("/chains/more_coins").text


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="NO BROWSER: neither chromium nor google-chrome is on the PATH")
def test_a_reader_clicks_from_all_chains_to_a_link(client: httpx.Client) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 390, "height": 800})
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.goto(str(client.base_url))
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.get_by_role("link", name="coins", exact=True).click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.get_by_role("link", name="5", exact=True).first.click()
        assert "link 5" in page.title()
        page.get_by_role("link", name="Link 4").click()
        assert "link 4" in page.title()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.get_by_role("link", name="coins", exact=True).click()
        page.get_by_role("link", name="All chains").click()
        page.get_by_label("Name contains").fill("other")
        page.get_by_role("button", name="Search").click()
        assert page.get_by_role("article").count() == 1
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert not said
        browser.close()
