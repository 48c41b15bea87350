"""`lindley plots` and `lindley profile`, with a ledger in memory."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner, Result

from flows import environment
from flows.cli import output
from flows.cli.__main__ import app
from flows.cli.output import USER_ERROR
from tests.support import fakes

PLOT = "plots/prior_posterior.png"


@pytest.fixture(autouse=True)
def in_memory(monkeypatch, workspace, ledger, fits) -> None:
    monkeypatch.setattr(environment, "prepare", lambda workspace, **_: workspace)
    monkeypatch.setattr("flows.direct.open_ledger", lambda _: ledger)
    monkeypatch.setattr("flows.direct.fit_plan", fits)
    monkeypatch.setattr("lindley.ledger.backend.open_ledger", lambda *_, **__: ledger)


@pytest.fixture
def two_links(workspace, ledger) -> None:
    declaration = fakes.declare(workspace.models)
    for start in (1, 5):
        fakes.append(ledger, declaration, fakes.coins(declaration, start))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_an_update_draws_its_plots_and_those_that_its_head_lacks(ledger, land, two_links):
    assert run("update", "coins", land("a.csv", 9), "--direct").exit_code == 0
    files = [ledger.run_of("coins", number).files for number in (1, 2, 3)]
    assert [PLOT in held for held in files] == [False, True, True]


def test_a_duplicate_batch_completes_the_plots_of_the_head(ledger, land, two_links):
    result = run("update", "coins", land("a.csv", 5), "--direct")
    assert (result.exit_code, "unchanged" in result.stdout) == (0, True)
    assert PLOT in ledger.run_of("coins", 2).files


def test_a_failed_drawing_is_reported_and_leaves_the_link(ledger, land, monkeypatch):
    def fail(*_: object) -> None:
        raise ValueError("no font")

    monkeypatch.setattr("lindley.report.figures.prior_posterior_figure", fail)
    result = run("update", "coins", land("a.csv"), "--direct")
    assert result.exit_code == 0
    assert "were not drawn: no font" in result.stderr.replace("\n", " ")
    assert len(ledger.versions("coins")) == 1
    assert PLOT not in ledger.run_of("coins", 1).files


def test_plots_are_drawn_into_the_run(ledger, two_links):
    result = run("plots", "coins", "1")
    assert result.exit_code == 0
    assert PLOT in result.stdout
    assert PLOT in ledger.run_of("coins", 1).files
    assert PLOT not in ledger.run_of("coins", 2).files


def test_plots_of_the_head_into_a_folder(ledger, two_links, tmp_path):
    result = run("plots", "coins", "--out", tmp_path / "mine", "--json")
    made = json.loads(result.stdout)
    assert (made["link"], made["plots"]) == (2, [str(tmp_path / "mine" / PLOT)])
    assert (tmp_path / "mine" / PLOT).read_bytes().startswith(b"\x89PNG")
    assert PLOT not in ledger.run_of("coins", 2).files


@pytest.mark.parametrize("arguments", [("plots", "dice"), ("plots", "coins", "7"), ("profile", "dice")])
def test_a_missing_chain_or_link_is_reported(two_links, arguments):
    assert run(*arguments).exit_code == USER_ERROR


def test_the_profile_as_json(ledger, two_links):
    made = json.loads(run("profile", "coins", "--json").stdout)
    assert [line["link"] for line in made["links"]] == [1, 2]
    assert made["links"][0]["seconds"]["sample"] == 0.25
    assert made["links"][0]["ess_per_second"] == 3600.0
    assert made["median"]["ess_min"] == 900.0
    assert len(json.loads(run("profile", "coins", "--last", "1", "--json").stdout)["links"]) == 1


@pytest.mark.parametrize("width", [80, 200])
def test_the_profile_as_a_table(ledger, two_links, monkeypatch, width):
    monkeypatch.setattr(output.out, "_width", width)
    lines = run("profile", "coins").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["link", "1", "2", "median"]
    assert lines[0].split()[-5:] == ["other", "total", "ESS", "min", "ESS/s"]
    assert {"sample", "total"} <= set(lines[0].split())
    assert all(len(line.rstrip()) <= width for line in lines)
