"""The pages of a panel and of its members: as files and from the server, and those of 10,000 members."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import httpx
import pandas as pd
import pytest

from flows.cli.members import pages
from flows.live.pages import Pages
from flows.sequences.report_panel import read_name, read_panel, write_member, write_panel
from lindley.batch.batch import batch_from_frame
from lindley.errors import MemberRefused, PanelRefused
from lindley.ledger.history import find_link, history
from lindley.ledger.registration import register_link
from lindley.model.declaration import Declaration
from lindley.model.policy import PanelPolicy
from lindley.operations.log import log_plan
from lindley.operations.panel.fit import PanelOutcome
from lindley.operations.plan import Plan
from lindley.panel.index import empty
from lindley.panel.key import MemberKey
from lindley.panel.link import panel_link
from lindley.panel.row import QUARANTINED, MemberRow
from lindley.panel.summary import gate_of, metrics_of
from lindley.report.page.members import MOST_IN_FILE, MOST_LISTED
from lindley.workspace import Workspace
from tests.support import fakes, panels
from tests.support.fakes import MemoryLedger
from tests.support.live import running

WHEN = "2026-01-02T03:04:05+00:00"
HOSTILE = '</a><script>a()</script>"\u202e'
MANY = 10_000


@pytest.fixture(scope="module")
def crowd(panel: MemoryLedger, shops: Declaration) -> MemoryLedger:
    """A panel of 10,000 members whose first link was written and not fitted: copies of one real row."""
    one = panel_link(find_link(panel, f"{panels.NAME}@1")).member(store="s1").row
    rows = tuple(_copy(one, i) for i in range(MANY))
    ledger = MemoryLedger()
    table = pd.DataFrame({"store": [str(row.key.values[0][1]) for row in rows], "id": 0, "k": 1, "n": 10})
    plan: Plan = panels.planned(ledger, shops, batch_from_frame(table, shops, "crowd.csv"))
    outcome = PanelOutcome(
        rows,
        empty().changed(rows, 1),
        gate_of(rows, PanelPolicy(), plan.kind),
        metrics_of(rows, len(rows), plan.thresholds),
    )
    register_link(ledger, log_plan(ledger, plan, outcome))
    return ledger


def _copy(row: MemberRow, number: int) -> MemberRow:
    name = HOSTILE if number == 0 else f"m{number:05d}"
    status = QUARANTINED if number % 100 == 7 else row.status
    attempt = row.attempt | {"metrics": row.attempt["metrics"] | {"conflict_p": (number + 1) / (MANY + 1)}}
    if status == QUARANTINED:
        attempt |= {"reasons": ["R-hat 1.3100"]}
    return replace(
        row, key=MemberKey.of({"store": name}), status=status, results=row.results | {"attempt": attempt}
    )


@pytest.fixture(scope="module")
def client(crowd: MemoryLedger, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with running(Pages(crowd, Workspace.from_environment(tmp_path_factory.mktemp("work"))).app) as client:
        yield client


def test_a_panel_of_ten_thousand_members_is_shown_at_once(client: httpx.Client) -> None:
    began = time.process_time()
    answer = client.get("/chains/shops")
    seconds = time.process_time() - began
    assert answer.status_code == 200
    assert len(answer.content) < 2_000_000
    assert seconds < 2
    for text in ("10,000 by store", "Failed or withdrawn: 100", "Members 1 to 50 of 10,000", "crowd.csv"):
        assert text in answer.text
    assert answer.text.count("<tr><th") <= 4 * MOST_LISTED + 52


def test_members_are_searched_and_paged(client: httpx.Client) -> None:
    found = client.get("/chains/shops", params={"q": "M0123"}).text
    assert "Members 1 to 10 of 10 whose key contains M0123" in found
    last = client.get("/chains/shops", params={"first": 9_999_999}).text
    assert "Members 9,951 to 10,000 of 10,000" in last
    assert 'rel="next"' not in last
    assert "first=9900" in last
    assert "No key contains" in client.get("/chains/shops", params={"q": "<b>"}).text


def test_a_member_has_a_page_with_its_leaf(client: httpx.Client, crowd: MemoryLedger) -> None:
    held = panel_link(find_link(crowd, "shops")).member(store="m00007").row
    page = client.get("/chains/shops/members", params={"key": held.key.canonical.decode()}).text
    assert page.count(held.hash.hex()) >= 1
    assert "R-hat 1.3100" in page
    assert "<svg" in page
    for given in ("", "{", "[]", '{"store": 1}', '{"other": "a"}', '{"store": {"a": 1}}', "[" * 5000):
        answer = client.get("/chains/shops/members", params={"key": given})
        assert answer.status_code == 404, given
        assert "text/html" not in answer.headers["content-type"]


def test_hostile_keys_stay_text(client: httpx.Client, crowd: MemoryLedger) -> None:
    key = MemberKey.of({"store": HOSTILE})
    for path in ("/chains/shops", f"/chains/shops/members?{httpx.QueryParams(key=key.canonical.decode())}"):
        page = client.get(path).text
        assert "<script" not in page
        assert "&lt;script&gt;" in page
        assert "\u202e" not in page
    assert "/" not in read_name(f'shops[store="{"../" * 5}"]')


def test_the_file_of_a_panel_is_small_and_says_what_it_leaves_out(
    crowd: MemoryLedger, tmp_path: Path
) -> None:
    page = write_panel(crowd, "shops", WHEN, tmp_path / "shops.html", verify=False)
    text = (tmp_path / "shops.html").read_text(encoding="utf-8")
    assert (page.found, len(page.members)) == (MANY, MOST_IN_FILE)
    assert len(text.encode()) < 2_000_000
    assert "lindley members shops" in text
    assert 'href="/' not in text


def test_the_file_of_a_panel_is_verified_on_the_way(panel: MemoryLedger, tmp_path: Path) -> None:
    page = write_panel(panel, "shops", WHEN, tmp_path / "new" / "shops.html")
    assert page.verification is not None
    assert page.verification.ok
    text = (tmp_path / "new" / "shops.html").read_text(encoding="utf-8")
    for view in history(panel, "shops"):
        assert view.record_digest in text
    assert page.record["panel"]["root"] in text
    assert len(page.waiting) == 1
    assert page.waiting[0] in text


def test_the_file_of_a_member_has_its_whole_history(panel: MemoryLedger, tmp_path: Path) -> None:
    page = write_member(panel, "shops[store=s1]", WHEN, tmp_path / "s1.html")
    assert [step.link for step in page.steps] == [1, 2, 3]
    text = (tmp_path / "s1.html").read_text(encoding="utf-8")
    for step in page.steps:
        assert step.leaf in text
        assert step.record in text
    with pytest.raises(MemberRefused):
        write_member(panel, "shops[store=none]", WHEN, tmp_path / "none.html")
    assert not (tmp_path / "none.html").exists()


def test_a_chain_with_one_belief_has_no_page_of_members(tmp_path: Path) -> None:
    ledger, coins = fakes.MemoryLedger(), fakes.declare(tmp_path)
    fakes.append(ledger, coins, fakes.coins(coins, 0))
    with pytest.raises(PanelRefused):
        read_panel(ledger, "coins", WHEN, verify=False)


def test_the_command_writes_panels_and_members(
    panel: MemoryLedger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    pages.report_panel(panel, "shops", None, unverified=True, as_json=True)
    made = SimpleNamespace(**json.loads(capsys.readouterr().out))
    assert (made.file, made.members, made.ok) == ("shops.html", 7, None)
    pages.report_panel(panel, "shops[store=s1]", None, unverified=True, as_json=True)
    made = SimpleNamespace(**json.loads(capsys.readouterr().out))
    assert made.member == "shops[store=s1]"
    assert (tmp_path / made.file).is_file()
