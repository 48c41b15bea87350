"""Live pages: all chains, one, one link; hostile text stays text, and a bad chain hides no other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from flows.live.pages import LINKS_AT_ONCE, Pages
from lindley.ledger.chain import version_tags
from lindley.ledger.history import history
from lindley.ledger.record import canonical, digest, parse
from lindley.workspace import Workspace
from tests.support import amendments, fakes
from tests.support.browser import CHROMIUM, NO_BROWSER
from tests.support.live import running

HOSTILE = '</b><script>a()</script><img onerror="a()">.csv'


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


def lengthen(ledger: fakes.MemoryLedger, chain: str, length: int) -> None:
    """Add copies of a chain's head as links, each after the one before, without a fit."""
    held = ledger.models[chain]
    run = ledger.run_of(chain, max(held.versions))
    record = parse(run.files["record.json"])
    previous = digest(run.files["record.json"])
    for number in range(len(held.versions) + 1, length + 1):
        batch = record["batch"] | {"digest": f"{number:064x}", "origin": f"batch-{number:03d}.csv"}
        record = record | {"previous": previous, "prior": previous, "batch": batch}
        data = canonical(record)
        previous, run_id = digest(data), f"{number:032x}-copy"
        ledger.runs[run_id] = replace(run, files=run.files | {"record.json": data})
        held.versions[number] = fakes.StoredVersion(run_id, version_tags(record, previous), "")


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> fakes.MemoryLedger:
    """A chain of 400 links."""
    ledger, coins = fakes.MemoryLedger(), fakes.declare(tmp_path_factory.mktemp("models"))
    for i in range(2):
        fakes.append(ledger, coins, fakes.coins(coins, 10 * i, k=i + 1))
    lengthen(ledger, "coins", 400)
    return ledger


def test_a_long_chain_is_shown_in_pages_and_read_once(
    long: fakes.MemoryLedger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []
    download = long.download

    def counting(run_id: str, folder: Path, path: str = "") -> Path:
        reads.append(path)
        return download(run_id, folder, path)

    monkeypatch.setattr(long, "download", counting)
    with running(Pages(long, Workspace.from_environment(tmp_path)).app) as client:
        began = time.process_time()
        first = client.get("/chains/coins")
        seconds = time.process_time() - began
        assert first.status_code == 200
        assert len(first.content) < 2_000_000
        assert seconds < 2
        assert "Links 301 to 400 of 400" in first.text
        assert 'href="/chains/coins?to=300"' in first.text
        assert f">batch-{400}.csv<" in first.text
        assert reads.count("summary.csv") == LINKS_AT_ONCE
        lengthen(long, "coins", 401)
        reads.clear()
        assert "Links 302 to 401 of 401" in client.get("/chains/coins").text
        assert reads.count("summary.csv") == 1
        oldest = client.get("/chains/coins", params={"to": 100}).text
        assert "Links 1 to 100 of 401" in oldest
        assert "link 401, version 401" in oldest
        assert 'href="/chains/coins?to=200"' in oldest
        assert client.get("/chains/coins", params={"to": "x"}).status_code == 200
        assert len(client.get("/").content) < 2_000_000


def test_a_link_names_its_flow_run_unless_its_address_is_none(
    ledger: fakes.MemoryLedger, client: httpx.Client
) -> None:
    view = history(ledger, "coins")[0]
    tags = ledger.runs[view.run_id].tags
    tags["lindley.flow_run_url"] = "javascript:alert(1)"
    assert "javascript:" not in client.get("/chains/coins/links/1").text
    tags["lindley.flow_run_url"] = "http://127.0.0.1:4200/runs/flow-run/7"
    other = Pages(ledger, Workspace.from_environment(Path(view.run_id)))
    with running(other.app) as again:
        page = again.get("/chains/coins/links/1").text
    assert '<a href="http://127.0.0.1:4200/runs/flow-run/7" rel="noreferrer">Flow run in Prefect</a>' in page
    del tags["lindley.flow_run_url"]


def test_the_index_counts_candidates_and_waiting_files(
    ledger: fakes.MemoryLedger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace.from_environment(tmp_path)
    (workspace.landing / "coins").mkdir(parents=True)
    (workspace.landing / "coins" / "new.csv").write_text("id,k,n", encoding="utf-8")
    with running(Pages(ledger, workspace).app) as client:
        page = client.get("/").text
    assert page.count("1 file waits") == 1


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


def test_an_unforeseen_error_is_logged(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("not foreseen")

    monkeypatch.setattr("flows.live.pages.read_link", fail)
    answer = client.get("/chains/other_coins/links/1")
    assert (answer.status_code, "foreseen" in answer.text) == (500, False)
    assert "not foreseen" in caplog.text


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
@pytest.mark.skipif(CHROMIUM is None, reason=NO_BROWSER)
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
