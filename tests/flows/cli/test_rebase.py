"""The commands rebase, audit and calibrate, with a ledger in memory and no sampler."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from flows import environment
from flows.cli.__main__ import app
from flows.cli.output import FAILURE, QUARANTINED, USER_ERROR
from flows.sequences import files
from lindley.errors import FitFailed
from lindley.inference.sbc import SbcResult
from lindley.ledger.history import history
from lindley.model.declaration import Declaration
from lindley.operations.rebase import plan_rebase
from tests.support import fakes, refits


@pytest.fixture
def chain(workspace, ledger) -> Declaration:
    """Three links."""
    declaration = fakes.declare(workspace.models)
    for start in (1, 5, 9):
        fakes.append(ledger, declaration, fakes.coins(declaration, start))
    return declaration


def kinds(ledger) -> list[str]:
    return [view.kind for view in history(ledger, "coins")]


@pytest.fixture
def command(monkeypatch, workspace, ledger, fits) -> Callable[..., Result]:
    monkeypatch.setattr(environment, "prepare", lambda workspace, **_: workspace)
    for module in ("flows.direct", "lindley.ledger.backend"):
        monkeypatch.setattr(f"{module}.open_ledger", lambda *_, **__: ledger)
    monkeypatch.setattr("flows.direct.fit_plan", fits)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


class TestCommands:
    def test_rebase_as_json(self, command, ledger, chain) -> None:
        result = command("rebase", "coins", "--direct", "--json")
        assert result.exit_code == 0
        made = json.loads(result.stdout)
        assert (made["status"], made["link"], made["version"], made["fitted"]) == ("accepted", 4, 4, 3)
        assert made["rows"][0]["parameter"] == "theta"
        assert made["reasons"] == []
        assert kinds(ledger) == ["update"] * 3 + ["rebase"]

    def test_rebase_says_where_the_refit_is(self, command, chain) -> None:
        result = command("rebase", "coins", "--direct")
        assert result.exit_code == 0
        assert (
            "accepted 3 batches of coins were fitted together and are link 4 of coins (version 4)"
            in result.stdout
        )
        for word in ("parameter", "sequential", "pooled", "sd ratio", "theta", "±"):
            assert word in result.stdout

    def test_audit_registers_nothing(self, command, ledger, chain) -> None:
        before = len(ledger.runs)
        result = command("audit", "coins", "--direct")
        assert result.exit_code == 0
        assert "audited 3 batches of coins were fitted together" in result.stdout
        assert "theta" in result.stdout
        made = json.loads(command("audit", "coins", "--direct", "--json").stdout)
        assert (made["status"], made["link"], made["run_id"]) == ("audited", None, None)
        assert made["metrics"]["audit_error"] == pytest.approx(abs(made["rows"][0]["error"]))
        assert (kinds(ledger), len(ledger.runs)) == (["update"] * 3, before)

    def test_an_audit_can_be_taken_away_and_overwrites_nothing(self, command, chain, fits, tmp_path) -> None:
        folder = tmp_path / "away" / "audit"
        assert command("audit", "misspelt", "--direct", "--out", str(folder)).exit_code == USER_ERROR
        assert not folder.parent.exists()
        assert command("audit", "coins", "--direct", "--out", str(folder)).exit_code == 0
        written = pd.read_csv(folder / "audit.csv", index_col="parameter")
        assert list(written.index) == ["theta"]
        picture = (folder / "audit.png").read_bytes()
        assert picture.startswith(b"\x89PNG")
        fitted = len(fits.plans)
        again = command("audit", "coins", "--direct", "--out", str(folder))
        assert again.exit_code == USER_ERROR
        assert "Found: audit.csv, audit.png in audit" in " ".join(again.stderr.split())
        assert len(fits.plans) == fitted
        assert (folder / "audit.png").read_bytes() == picture

    def test_a_quarantined_refit_has_its_own_exit_code(self, command, chain, fits) -> None:
        fits.passed = False
        for flags in ([], ["--json"]):
            result = command("rebase", "coins", "--direct", *flags)
            assert result.exit_code == QUARANTINED
            assert "quarantined" in result.stdout
            assert "R-hat 1.3100" in result.stdout
        assert command("audit", "coins", "--direct").exit_code == 0

    def test_an_unknown_chain_is_one_paragraph(self, command, fits) -> None:
        for name in ("rebase", "audit"):
            for unknown in ("dice", "coins"):  # not declared; declared, without a link
                result = command(name, unknown, "--direct")
                assert result.exit_code == USER_ERROR
                assert result.stdout == ""
                assert "Traceback" not in result.stderr
            assert json.loads(command(name, "dice", "--json").stdout)["error"]["error"] == "UnknownChain"
        assert fits.plans == []

    def test_a_fit_that_fails_is_a_failure(self, command, chain, fits) -> None:
        fits.error = FitFailed("It failed")
        result = command("rebase", "coins", "--direct")
        assert result.exit_code == FAILURE
        assert "It failed" in result.stderr

    def test_an_update_is_followed_by_the_refit_that_its_policy_asks_for(
        self, command, workspace, ledger, land
    ) -> None:
        code = (
            "\nimport dataclasses\nfrom lindley import Policy\n"
            "declaration = dataclasses.replace(declaration, policy=Policy(refit_rows=1, rebase_every=2))\n"
        )
        fakes.declare(workspace.models, code=code)
        for place, name in enumerate(("a.csv", "b.csv", "c.csv")):
            result = command("update", "coins", land(name, 1 + 4 * place), "--direct")
            assert result.exit_code == 0
            assert ("A pooled refit is due" in result.stderr) == (name == "b.csv")
        assert kinds(ledger) == ["update", "update", "rebase", "update"]

    def test_a_refit_waits_for_its_turn_among_the_chains_writers(
        self, command, workspace, ledger, chain, monkeypatch
    ) -> None:
        turns: list[str] = []
        turn = files.turn

        def noted(at, name, *args, **options):
            turns.append(name)
            return turn(at, name, *args, **options)

        monkeypatch.setattr(files, "turn", noted)
        assert command("audit", "coins", "--direct").exit_code == 0
        assert turns == ["coins"]


# -- calibration --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("workspace")
class TestCalibrate:
    @staticmethod
    def ranks(high: int) -> np.ndarray:
        return np.random.default_rng(5).integers(0, high, (60, 2))

    @pytest.mark.parametrize(
        ("high", "word", "code"), [(100, "uniform", 0), (30, "not uniform", FAILURE)], ids=["fair", "low"]
    )
    def test_uniformity_is_the_exit_code(self, command, chain, monkeypatch, high, word, code) -> None:
        asked: list[tuple[Any, ...]] = []

        def calibrated(_belief, data, options, *, updates, simulations):
            asked.append((data.declaration.name, updates, simulations, options.seed))
            options.progress(1, 2)
            return SbcResult(("theta", "[b]"), self.ranks(high), 7)

        monkeypatch.setattr("lindley.inference.sbc.calibrate", calibrated)
        options = ("--updates", 7, "--simulations", 60, "--seed", 9)
        result = command("calibrate", "coins", *options)
        assert result.exit_code == code
        assert f"Ranks of 60 chains of 7 updates: {word}\n" in result.stdout
        assert "[b]" in result.stdout
        assert "Level 0.01" in result.stdout
        as_json = command("calibrate", "coins", *options, "--json")
        assert as_json.exit_code == code
        made = json.loads(as_json.stdout)
        assert (made["uniform"], made["simulations"], made["updates"]) == (code == 0, 60, 7)
        assert asked == [("coins", 7, 60, 9)] * 2

    def test_a_chain_without_a_batch_cannot_be_calibrated(self, command, ledger) -> None:
        assert command("calibrate", "dice").exit_code == USER_ERROR
        assert command("calibrate", "coins").exit_code == USER_ERROR
        assert command("calibrate", "coins", "--simulations", 3).exit_code == 2

    def test_the_head_and_the_newest_batch_are_what_it_starts_from(
        self, command, ledger, chain, monkeypatch
    ) -> None:
        asked: list[Any] = []

        def calibrated(belief, data, options, **counts):
            asked.append((belief.matched.digest, data, options, counts))
            return SbcResult(("theta",), self.ranks(100)[:, :1], counts["updates"])

        monkeypatch.setattr("lindley.inference.sbc.calibrate", calibrated)
        refits.rebase(ledger, chain)
        assert command("calibrate", "coins", "--seed", 4).exit_code == 0
        ((digest, data, options, counts),) = asked
        assert (data.declaration.name, data.newest.origin) == ("coins", "coins-009.csv")
        assert digest == plan_rebase(ledger, chain).start.near.matched.digest
        assert (counts, options.seed) == ({"updates": 5, "simulations": 100}, 4)
        assert data.carried == ("theta",)
