"""The page of a chain: complete, safe with text from outside, small for long chains."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.sequences.report import read_page, write_page
from lindley.errors import LedgerCorrupt, UnknownChain
from lindley.ledger.history import history
from lindley.report.numbers import QUANTILES
from lindley.report.page.charts import Marks, fan, lines
from lindley.report.page.content import PageContent
from lindley.report.page.render import MOST_DETAILS, render
from tests.support import amendments, fakes
from tests.support.browser import CHROMIUM, NO_BROWSER

WHEN = "2026-01-02T03:04:05+00:00"
HOSTILE = '</b><script>a()</script><img onerror="a()">\u202egnp.csv'


class Elements(HTMLParser):
    """Elements of a page and their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> fakes.MemoryLedger:
    """Six batches, one in quarantine, a retraction, a correction, a rollback, a branch, a hostile name."""
    folder = tmp_path_factory.mktemp("models")
    ledger, coins = fakes.MemoryLedger(), fakes.declare(folder)
    for i in range(6):
        fakes.append(ledger, coins, fakes.coins(coins, 10 * i, k=i % 3 + 1))
    fakes.append(ledger, coins, fakes.coins(coins, 100, k=4), passed=False)
    amendments.retract(ledger, coins, 3)
    amendments.correct(ledger, coins, 2, fakes.coins(coins, 10, k=3, origin="corrected.csv"))
    amendments.rollback(ledger, coins, 4)
    fakes.append(ledger, coins, fakes.coins(coins, 200, k=1, origin=HOSTILE))
    amendments.branch(ledger, fakes.declare(folder, "other_coins"), "coins", 2)
    return ledger


@pytest.fixture(scope="module")
def content(ledger: fakes.MemoryLedger) -> PageContent:
    return read_page(ledger, "coins", WHEN)


@pytest.fixture(scope="module")
def page(content: PageContent) -> str:
    return render(content)


def test_every_link_stands_with_its_record_and_what_became_of_it(
    ledger: fakes.MemoryLedger, page: str
) -> None:
    text = Elements(page).text
    for view in history(ledger, "coins", every=True):
        assert view.record_digest in page
    for sentence in (
        "takes out link 3",
        "no longer counted",
        "1 quarantined batch is not counted: coins-100.csv",
        "R-hat 1.3100",
        "other_coins",
        "coins: verified (10 links,",
        "corrected.csv",
    ):
        assert sentence in text


def test_text_from_outside_stays_text(page: str, content: PageContent) -> None:
    found = Elements(page)
    shown = content.links[-1].batch
    assert "<script>" in shown
    assert shown in found.text
    assert not {"script", "iframe", "object", "link", "form", "base"} & {tag for tag, _ in found.found}
    attributes = [(name, value) for _, given in found.found for name, value in given.items()]
    assert not [name for name, _ in attributes if name.startswith("on")]
    addresses = [value or "" for name, value in attributes if name in ("src", "href", "xlink:href")]
    assert all(value.startswith(("#", "data:image/png;base64,")) for value in addresses)
    assert "\u202e" not in page


def test_addresses_within_the_page_exist_once(page: str) -> None:
    found = Elements(page).found
    names = [given["id"] for _, given in found if "id" in given]
    targets = {(given.get("href") or "")[1:] for tag, given in found if tag == "a"}
    assert targets <= set(names)
    outside = [name for name in names if name in targets]
    assert len(outside) == len(set(outside))


def test_the_same_chain_gives_the_same_page(
    ledger: fakes.MemoryLedger, content: PageContent, page: str
) -> None:
    assert render(read_page(ledger, "coins", WHEN)) == page
    assert render(content) == page


def test_a_branch_names_its_source(ledger: fakes.MemoryLedger) -> None:
    text = Elements(render(read_page(ledger, "other_coins", WHEN, verify=False, plots=False))).text
    assert "coins, from its link 2" in text
    assert "not verified" in text


def test_a_long_chain_gives_a_small_page(content: PageContent) -> None:
    rng, links = np.random.default_rng(1), []
    for number in range(1, 401):
        one = content.links[number % 5 + 1]
        summary = one.summary.copy()
        summary[list(QUANTILES)] += rng.normal(0, 0.01)
        links.append(replace(one, number=number, summary=summary))
    page = render(replace(content, links=tuple(links)))
    assert len(page.encode()) < 2_000_000
    assert page.count('id="link-') == MOST_DETAILS
    assert "Details of the newest 60 of 400 links" in Elements(page).text


def test_a_changed_model_shows_its_difference(tmp_path: Path) -> None:
    ledger, coins = fakes.MemoryLedger(), fakes.declare(tmp_path)
    fakes.append(ledger, coins, fakes.coins(coins, 0))
    changed = fakes.declare(tmp_path, code='MARKUP = "<b>"\n')
    fakes.append(ledger, changed, fakes.coins(changed, 10), accept=True)
    page = read_page(ledger, "coins", WHEN, verify=False, plots=False)
    assert page.links[0].change == ()
    assert '+MARKUP = "<b>"' in page.links[1].change
    assert '+MARKUP = "<b>"' in Elements(render(page)).text


def test_a_changed_module_shows_its_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path / "path")
    (tmp_path / "path").mkdir()
    ledger, code = fakes.MemoryLedger(), "from page_helper import SCALE\n"
    for number, scale in enumerate(("1", "2")):
        (tmp_path / "path" / "page_helper.py").write_text(f"SCALE = {scale}\n", encoding="utf-8")
        coins = fakes.declare(tmp_path, code=code)
        fakes.append(ledger, coins, fakes.coins(coins, 10 * number), accept=True)
    page = read_page(ledger, "coins", WHEN, verify=False, plots=False)
    assert page.code["page_helper.py"] == "SCALE = 2\n"
    assert page.links[1].change[2:] == ("@@ -1 +1 @@", "-SCALE = 1", "+SCALE = 2")


def test_the_page_of_a_broken_chain_says_so(tmp_path: Path) -> None:
    ledger, coins = fakes.MemoryLedger(), fakes.declare(tmp_path)
    for i in range(2):
        fakes.append(ledger, coins, fakes.coins(coins, 10 * i))
    ledger.models["coins"].versions[1].tags["lindley.origin"] = "another.csv"
    content = write_page(ledger, "coins", tmp_path / "new" / "page.html")
    assert content.verification is not None
    assert not content.verification.ok
    text = Elements((tmp_path / "new" / "page.html").read_text(encoding="utf-8")).text
    assert "does not verify" in text


def test_a_falsified_file_ends_the_report_and_leaves_the_old_page(tmp_path: Path) -> None:
    ledger, coins = fakes.MemoryLedger(), fakes.declare(tmp_path)
    fakes.append(ledger, coins, fakes.coins(coins, 0))
    (tmp_path / "page.html").write_text("the old page", encoding="utf-8")
    run = ledger.runs[history(ledger, "coins")[0].run_id]
    run.files["summary.csv"] = run.files["summary.csv"] + b" "
    with pytest.raises(LedgerCorrupt):
        write_page(ledger, "coins", tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == "the old page"
    with pytest.raises(UnknownChain):
        write_page(ledger, "nothing", tmp_path / "page.html")


def test_charts_take_whatever_a_chain_holds() -> None:
    nan, huge = np.full((3, 5), np.nan), np.full((3, 5), 1e300)
    flat = np.tile([1.0, 1, 1, 1, 1], (3, 1))
    for quantiles in (nan, huge, flat, flat * 1e-300, np.cumsum(flat, axis=1)):
        for prior in (None, [np.nan] * 5, [-1e9, -1, 0, 1, 1e9]):
            assert fan([1, 2, 3], quantiles, Marks((2,), (3,)), prior=prior).startswith("<svg")
    for values in ([[np.nan] * 3], [[0.0, 0, 0]], [[1e-9, 1, np.inf], [1.0, 2, 3]]):
        assert lines([1, 2, 3], values, Marks(), threshold=0.001).startswith("<svg")


def test_a_line_runs_on_over_a_link_without_a_value() -> None:
    """A rebase has no batch: the scores of the batches before and after it stay one line."""
    chart = lines([1, 2, 3], [[1.0, math.nan, 3.0]], Marks())
    (drawn,) = [
        found for found in re.findall(r'<path d="([^"]*)"[^>]*var\(--posterior\)', chart) if "L" in found
    ]
    assert len(re.findall("[ML]", drawn)) == 2


def test_charts_of_one_page_share_no_names_that_differ() -> None:
    quantiles = np.cumsum(np.ones((3, 5)), axis=1)
    one, other = fan([1, 2, 3], quantiles, Marks()), fan([1, 2, 3], 7 * quantiles + 2, Marks((1,)))
    defined = [dict(re.findall(r'<(?:path|clipPath) id="([\w-]+)"(.*?)>', chart)) for chart in (one, other)]
    for name in defined[0].keys() & defined[1].keys():
        assert defined[0][name] == defined[1][name]
    assert "#0072b2" not in one.lower()


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason=NO_BROWSER)
@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_opens_without_a_network(page: str, tmp_path: Path, width: int) -> None:
    from playwright.sync_api import sync_playwright

    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    wrong: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        context = browser.new_context(
            offline=True, viewport={"width": width, "height": 900}, color_scheme="dark"
        )
        tab: Any = context.new_page()
        tab.on("console", lambda message: wrong.append(message.text))
        tab.on(
            "request", lambda request: request.url.startswith(("file:", "data:")) or wrong.append(request.url)
        )
        tab.goto((tmp_path / "page.html").as_uri())
        first = tab.locator("#link-4")
        assert not first.is_visible()
        tab.get_by_role("link", name="4", exact=True).click()
        first.wait_for(state="visible")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"
        tab.screenshot(path=tmp_path / "page.png", full_page=True)
        browser.close()
    assert [text for text in wrong if not text.startswith(("file:", "data:"))] == []
