"""The commands that read: log, show, report, verify, chains; with a ledger in memory and no sampler."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from flows.cli import output
from flows.cli.output import FAILURE, USER_ERROR
from lindley.verification.verifier import RULES
from tests.flows.cli.commands import document, run
from tests.support import fakes

pytestmark = pytest.mark.usefixtures("in_memory")


@pytest.mark.usefixtures("three_links")
def test_log_is_newest_first():
    result = run("log", "coins")
    assert result.exit_code == 0
    heads = [line for line in result.stdout.splitlines() if line.startswith("link")]
    assert [line.split()[1] for line in heads] == ["3", "2", "1"]
    assert "coins-009.csv, 4 rows" in result.stdout
    assert "log predictive -10.25  in all -27.75  stated error 0.05  R-hat 1.002  ESS 900" in result.stdout


@pytest.mark.usefixtures("three_links")
def test_log_of_everything_shows_the_quarantined_with_the_reason():
    result = run("log", "coins", "--all")
    assert "version 4" in result.stdout
    assert "R-hat 1.3100 of theta" in result.stdout


@pytest.mark.usefixtures("three_links")
def test_batches_that_are_not_counted_are_seen_everywhere():
    sentence = "1 quarantined batch is not counted: coins-013.csv"
    assert run("log", "coins").stdout.startswith(sentence)
    assert sentence in run("show", "coins@2").stdout
    assert [view["origin"] for view in document(run("log", "coins", "--json"))["waiting"]] == [
        "coins-013.csv"
    ]
    assert document(run("show", "coins", "--json"))["waiting"] == ["coins-013.csv"]
    (row,) = document(run("chains", "--json"))["chains"]
    assert (row["links"], row["warnings"], row["waiting"]) == (3, 0, 1)


@pytest.mark.usefixtures("three_links")
def test_an_update_prints_what_matters_and_marks_links_with_warnings(land):
    result = run("update", "coins", land("later.csv", start=40), "--direct")
    assert "warning 1 quarantined batch is not counted: coins-013.csv" in result.stdout
    assert "moved most: theta by " in result.stdout
    assert "error: drift 0.000 sds" in result.stdout
    assert "; expect about as much for the next one" in result.stdout
    assert "gate passed, 1 warning" in run("log", "coins").stdout
    found = document(run("update", "coins", land("next.csv", start=90), "--direct", "--json"))
    assert found["warnings"] == ["1 quarantined batch is not counted: coins-013.csv"]
    assert found["metrics"]["quarantined"] == 1
    assert len(found["highlights"]) == 3
    assert found["seconds"] > 0


@pytest.mark.parametrize("width", [60, 80, 120])
def test_lines_break_between_words_on_a_terminal(width):
    words = "a sentence of words that are not broken anywhere " * 5
    for indent in (0, 9):
        console = Console(force_terminal=True, width=width, file=io.StringIO(), color_system=None)
        output.say(words, indent=indent, console=console)
        lines = console.file.getvalue().splitlines()
        assert " ".join(" ".join(lines).split()) == words.strip()
        assert max(map(len, lines)) <= width


def test_a_narrow_table_leaves_columns_out_instead_of_folding_cells():
    rows = [{"parameter": "theta", "posterior": "0.0823 ± 0.0075", "sd ratio": "0.82"}]
    assert output.fitting(rows, ["sd ratio"], 40) == rows
    assert output.fitting(rows, ["sd ratio"], 30) == [{"parameter": "theta", "posterior": "0.0823 ± 0.0075"}]
    assert output.fitting([], ["sd ratio"], 30) == []


@pytest.mark.usefixtures("three_links")
def test_log_as_json(ledger):
    made = document(run("log", "coins", "--json"))
    assert [link["number"] for link in made["links"]] == [3, 2, 1]
    assert made["links"][0]["previous"] == made["links"][1]["record_digest"]


@pytest.mark.usefixtures("three_links")
@pytest.mark.parametrize(("reference", "number"), [("coins", 3), ("coins@head", 3), ("coins@2", 2)])
def test_show(reference, number, ledger):
    made = document(run("show", reference, "--json"))
    assert made["number"] == number
    assert made["parameters"][0]["parameter"] == "theta"
    assert 0 < made["parameters"][0]["sd_ratio"] < 1
    assert made["record"]["previous"] == made["previous"]
    assert made["artifacts"]["record.json"] > 0
    result = run("show", reference)
    assert f"coins link {number}, version {number}, update" in result.stdout
    for text in (made["record_digest"], "theta", "trace.nc", "k_hat", "passed"):
        assert text in result.stdout


@pytest.mark.usefixtures("three_links")
def test_report_writes_a_page_and_says_whether_the_chain_verifies(ledger, tmp_path):
    page = tmp_path / "a page.html"
    result = run("report", "coins", "--out", page)
    assert result.exit_code == 0
    assert result.stdout == f"{page}: 3 links; coins: verified (3 links, {len(RULES)} rules)\n"
    assert "coins-009.csv" in page.read_text(encoding="utf-8")
    ledger.models["coins"].versions[1].tags["lindley.rows"] = "5"
    found = run("report", "coins", "--out", page, "--json")
    assert found.exit_code == FAILURE
    assert (document(found)["ok"], document(found)["links"]) == (False, 3)
    assert document(run("report", "coins", "--out", page, "--unverified", "--json"))["ok"] is None


@pytest.mark.usefixtures("three_links")
def test_show_of_no_link():
    result = run("show", "coins@7")
    assert result.exit_code == USER_ERROR
    assert "a number from 1 to 3" in result.stderr
    assert run("show", "nothing").exit_code == USER_ERROR
    assert run("log", "../coins").exit_code == USER_ERROR


@pytest.mark.usefixtures("three_links")
def test_verify():
    result = run("verify", "coins")
    assert result.exit_code == 0, result.output
    assert f"coins: verified (3 links, {len(RULES)} rules)" in result.stdout
    made = document(run("verify", "coins", "--json"))
    assert made["ok"] is True
    assert made["findings"] == []
    assert [link["link"] for link in made["links"]] == [1, 2, 3]
    assert {"id", "title"} == set(made["rules"][0])
    assert document(run("verify", "--json"))["chains"][0]["chain"] == "coins"


@pytest.mark.usefixtures("three_links")
def test_verify_names_link_and_rule_and_exits_one(ledger):
    ledger.flip("coins", 2, "trace.nc")
    result = run("verify")
    assert result.exit_code == FAILURE
    assert "error R06 link 2: artifact trace.nc" in result.stdout
    made = run("verify", "coins", "--json")
    assert made.exit_code == FAILURE
    assert {(finding["rule"], finding["link"]) for finding in document(made)["findings"]} >= {("R06", 2)}


def test_verify_of_nothing():
    assert run("verify", "coins").exit_code == USER_ERROR
    assert run("verify").stdout == "There are no chains.\n"


@pytest.mark.usefixtures("three_links")
def test_chains_lists_links_and_declarations(workspace):
    fakes.declare(workspace.models, "dice")
    made = document(run("chains", "--json"))["chains"]
    assert [(row["chain"], row["links"]) for row in made] == [("coins", 3), ("dice", 0)]
    result = run("chains")
    assert "coins-009.csv" in result.stdout
    assert made[0]["head"][:12] in result.stdout
