"""Verifying from outside: the commands, their exit codes and JSON, and the scheduled flow."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from flows import environment
from flows.cli.__main__ import app
from flows.cli.output import FAILURE, USER_ERROR
from lindley.errors import KeyRefused, NotAsRecorded, UnknownChain
from lindley.ledger.record import Artifact
from lindley.ledger.signing import public_key
from lindley.names import KEY_VARIABLE
from lindley.verification import reproduce
from lindley.verification.check import Checks, check
from lindley.verification.reproduce import Reproduced
from lindley.verification.verifier import RULES
from tests.support import fakes

SIGNED_RULES, WITNESS_RULES, REPRODUCE_RULES = 4, 1, 2


@pytest.fixture(autouse=True)
def in_memory(monkeypatch, workspace, ledger) -> None:
    # Prefect may be imported in this process already; what `prepare` sets is tested in test_running.
    monkeypatch.setattr(environment, "prepare", lambda workspace, **_: workspace)
    monkeypatch.setattr("lindley.ledger.backend.open_ledger", lambda *_, **__: ledger)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key.pem"
    assert run("keygen", path).exit_code == 0
    return path


@pytest.fixture
def signed(workspace, ledger, key, monkeypatch) -> Path:
    """Three signed links; returns the public key."""
    monkeypatch.setenv(KEY_VARIABLE, str(key))
    declaration = fakes.declare(workspace.models)
    for start in (1, 5, 9):
        fakes.append(ledger, declaration, fakes.coins(declaration, start))
    return key.with_name("key.pem.pub")


@pytest.fixture
def results(monkeypatch) -> dict[int, Reproduced]:
    """Results of reproducing links; identical by default."""
    given: dict[int, Reproduced] = {}

    def reproduced(ledger, name, chain, link, bitwise, progress):
        given[-link.number] = Reproduced(link.number, 0, "identical", f"bitwise {bitwise}")
        return given.get(link.number, Reproduced(link.number, link.version.number, "identical"))

    monkeypatch.setattr(reproduce, "_reproduce", reproduced)
    return given


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def document(result: Result) -> Any:
    return json.loads(result.stdout)


class TestKeys:
    def test_a_key_pair_is_made_once(self, key: Path) -> None:
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        made = document(run("keygen", key.with_name("second.pem"), "--json"))
        assert made["keyid"] == public_key(Path(made["public"])).keyid
        assert made["private"] == str(key.with_name("second.pem"))
        again = run("keygen", key)
        assert again.exit_code == USER_ERROR
        assert "exists" in again.stderr
        assert key.read_text().splitlines()[1] not in again.output

    def test_every_link_must_be_signed_by_a_key_that_is_given(self, signed, ledger, tmp_path) -> None:
        result = run("verify", "coins", "--key", signed)
        assert result.exit_code == 0, result.output
        assert f"(3 links, {len(RULES) + SIGNED_RULES} rules)" in result.stdout
        run("keygen", tmp_path / "other")
        other = run("verify", "coins", "--key", tmp_path / "other.pub", "--json")
        assert other.exit_code == FAILURE
        assert [(f["rule"], f["link"]) for f in document(other)["findings"]] == [
            ("S03", 1), ("S03", 2), ("S03", 3)
        ]  # fmt: skip
        assert run("verify", "--key", tmp_path / "other.pub", "--key", signed).exit_code == 0
        del ledger.run_of("coins", 2).files[Artifact.SIGNATURE]
        assert run("verify", "coins").exit_code == 0
        lost = run("verify", "--key", signed)
        assert (lost.exit_code, "error S01 link 2" in lost.stdout) == (FAILURE, True)
        assert document(run("sign", "coins", "--json")) == {"chain": "coins", "signed": [2]}
        del ledger.run_of("coins", 2).files[Artifact.SIGNATURE]
        assert "signed link 2" in run("sign", "coins").stdout
        assert "nothing" in run("sign", "coins").stdout
        assert run("verify", "coins", "--key", signed).exit_code == 0

    def test_what_a_person_acknowledged_is_known_and_no_error(self, signed, ledger, tmp_path) -> None:
        ledger.flip("coins", 2, "summary.csv")
        made = run("acknowledge", "coins", "--who", "Ana", "--why", "ticket 4711", "--sign")
        (tmp_path / "known.json").write_text(made.stdout)
        assert run("verify", "coins").exit_code == FAILURE
        result = run("verify", "coins", "--known", tmp_path / "known.json", "--key", signed)
        assert result.exit_code == 0, result.output
        assert "known R06 link 2" in result.stdout
        assert "(known to Ana: ticket 4711)" in result.stdout
        assert run("verify", "--known", tmp_path / "known.json").exit_code == USER_ERROR  # of which chain?
        assert run("verify", "coins", "--known", tmp_path / "none.json").exit_code == USER_ERROR

    @pytest.mark.parametrize("name", ["nowhere.pub", "key.pem"])
    def test_a_file_that_is_no_public_key_is_wrong_input(self, signed, key, name) -> None:
        result = run("verify", "coins", "--key", key.with_name(name))
        assert result.exit_code == USER_ERROR
        assert "To do:" in result.stderr
        assert key.read_text().splitlines()[1] not in result.output

    def test_signing_needs_a_key(self, signed, monkeypatch) -> None:
        monkeypatch.delenv(KEY_VARIABLE)
        acknowledge = ("acknowledge", "coins", "--why", "x", "--sign")
        for command in (("sign", "coins"), ("head", "coins", "--sign"), acknowledge):
            result = run(*command)
            assert result.exit_code == USER_ERROR
            assert "keygen" in result.stderr

    def test_a_key_that_cannot_be_used_stops_an_update_before_its_fit(
        self, land, ledger, monkeypatch
    ) -> None:
        def fails(*_: Any, **__: Any) -> None:
            raise AssertionError("it was fitted")

        monkeypatch.setattr("flows.direct.open_ledger", lambda _: ledger)
        monkeypatch.setattr("flows.direct.fit_plan", fails)
        monkeypatch.setenv(KEY_VARIABLE, "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----")
        path = land("a.csv")
        result = run("update", "coins", path, "--direct")
        assert result.exit_code == USER_ERROR
        assert KEY_VARIABLE in result.stderr
        assert "secret" not in result.output
        assert path.exists()
        assert ledger.runs == {}


class TestWitness:
    def test_a_head_that_is_kept_elsewhere_finds_a_chain_that_was_cut(self, signed, ledger, tmp_path) -> None:
        plain, sealed = tmp_path / "plain.json", tmp_path / "sealed.json"
        plain.write_text(run("head", "coins").stdout)
        sealed.write_text(run("head", "coins", "--sign").stdout)
        assert json.loads(plain.read_text())["predicate"]["link"] == 3
        assert run("head", "coins", "--json").stdout == plain.read_text()
        assert {"payload", "payloadType", "signatures"} == set(json.loads(sealed.read_text()))
        good = run("verify", "coins", "--witness", plain, "--witness", sealed)
        assert good.exit_code == 0, good.output
        assert f"{len(RULES) + WITNESS_RULES} rules" in good.stdout
        assert run("verify", "coins", "--witness", sealed, "--key", signed).exit_code == 0
        stored = ledger.models["coins"]
        del ledger.runs[stored.versions.pop(3).run_id]
        stored.head = 2
        assert run("verify", "coins", "--key", signed).exit_code == 0
        found = run("verify", "coins", "--key", signed, "--witness", sealed)
        assert found.exit_code == FAILURE
        assert "W02" in found.stdout

    def test_wrong_input(self, signed, tmp_path) -> None:
        (tmp_path / "no.json").write_text("{}")
        for arguments in (
            ("coins", "--witness", tmp_path / "no.json"),
            ("coins", "--witness", tmp_path / "nowhere"),
            ("--witness", tmp_path / "no.json"),
        ):
            result = run("verify", *arguments)
            assert result.exit_code == USER_ERROR, result.output
            assert "To do:" in result.stderr

    def test_a_chain_that_is_not_as_recorded_is_not_signed(self, signed, ledger) -> None:
        ledger.flip("coins", 2, "summary.csv")
        for command in ("head", "sign"):
            result = run(command, "coins")
            assert (result.exit_code, result.stdout) == (FAILURE, "")
            assert "R06" in result.stderr


class TestReproduce:
    def test_links_are_fitted_again_when_it_is_asked_for(self, signed, results) -> None:
        assert document(run("verify", "coins", "--json"))["reproduced"] == []
        result = run("verify", "coins", "--reproduce")
        assert result.exit_code == 0, result.output
        assert result.stdout.count("identical") == 3
        assert f"{len(RULES) + REPRODUCE_RULES} rules" in result.stdout
        made = document(run("verify", "coins", "--reproduce", "--link", "3", "--link", "1", "--json"))
        assert [item["link"] for item in made["reproduced"]] == [1, 3]
        assert results[-1].detail == "bitwise True"
        run("verify", "coins", "--reproduce", "--link", "1", "--monte-carlo")
        assert results[-1].detail == "bitwise False"

    def test_a_link_that_differs_is_a_finding(self, signed, results) -> None:
        results[2] = Reproduced(2, 2, "differs", "the mean [moved]")
        results[3] = Reproduced(3, 3, "not reproducible", "its trace was sampled elsewhere")
        result = run("verify", "coins", "--reproduce")
        assert result.exit_code == FAILURE
        assert "error V01 link 2: the mean [moved]" in result.stdout
        assert "link 3 not reproducible: its trace" in result.stdout
        made = run("verify", "coins", "--reproduce", "--json")
        assert made.exit_code == FAILURE
        assert [f["rule"] for f in document(made)["findings"]] == ["V01"]
        assert document(made)["reproduced"][2] == {
            "link": 3,
            "version": 3,
            "result": "not reproducible",
            "detail": "its trace was sampled elsewhere",
            "failed": False,
        }

    @pytest.mark.parametrize(
        "arguments", [("coins", "--link", "1"), ("coins", "--monte-carlo"), ("--reproduce", "--link", "1")]
    )
    def test_what_makes_no_sense_together_is_wrong_input(self, signed, arguments) -> None:
        assert run("verify", *arguments).exit_code == USER_ERROR

    def test_a_link_that_is_not_there(self, signed) -> None:
        result = run("verify", "coins", "--reproduce", "--link", "7")
        assert result.exit_code == USER_ERROR
        assert "no link 7" in result.stderr

    def test_only_the_newest(self, signed, ledger, results) -> None:
        for newest, links in ((1, [3]), (2, [2, 3]), (9, [1, 2, 3]), (0, [1, 2, 3])):
            found = check(ledger, "coins", Checks(reproduce=True, newest=newest))
            assert [item.link for item in found.reproduced] == links


# -- the flow -----------------------------------------------------------------------------------------


@pytest.fixture
def flow(prefect_server, monkeypatch, ledger):
    from flows.verify import verify

    monkeypatch.setattr("flows.verify.open_ledger", lambda _: ledger)
    return lambda *arguments, **options: verify(*arguments, return_state=True, **options)


def tables(state) -> dict[str, list[dict[str, str]]]:
    from prefect.client.orchestration import get_client

    run_id = state.state_details.flow_run_id
    with get_client(sync_client=True) as client:
        wanted = {"artifacts": {"flow_run_id": {"any_": [str(run_id)]}}}
        found = client.request("POST", "/artifacts/filter", json=wanted).json()
    return {item["key"]: json.loads(item["data"]) for item in found}


def test_a_flow_run_verifies_every_chain_and_fails_with_the_first_finding(
    flow, signed, workspace, ledger, results, tmp_path
) -> None:
    dice = fakes.declare(workspace.models, "dice")
    fakes.append(ledger, dice, fakes.coins(dice, 1))
    state = flow()
    assert (state.is_completed(), state.name) == (True, "Verified")
    said = f"coins: verified (3 links, {len(RULES)} rules); dice: verified (1 link, {len(RULES)} rules)"
    assert said in state.message
    assert set(tables(state)) == {"coins-verify", "dice-verify"}
    assert results == {}

    state = flow(reproduce=2, keys=[str(signed)])
    assert state.is_completed()
    assert sorted(results) == [-3, -2, -1]  # of coins the two newest, of dice the only one
    rules = len(RULES) + SIGNED_RULES + REPRODUCE_RULES
    assert f"3 links, {rules} rules, 2 fitted again" in state.message

    ledger.flip("coins", 2, "summary.csv")
    state = flow()
    assert state.is_failed()
    error = state.result(raise_on_failure=False)
    assert isinstance(error, NotAsRecorded)
    assert "R06 link 2" in state.message
    assert state.message == str(error)
    left = tables(state)
    assert left["coins-verify"][0]["rule"] == "R06"
    assert left["dice-verify"][0]["what"] == "verified"

    known = tmp_path / "known.json"
    known.write_text(run("acknowledge", "coins", "--why", "ticket 4711").stdout)
    assert flow(known={"coins": str(known)}).is_completed()
    ledger.flip("coins", 1, "summary.csv")
    assert "R06 link 1" in flow(known={"coins": str(known)}).message


def test_a_flow_run_that_cannot_verify_fails(flow, signed, tmp_path) -> None:
    state = flow("nothing")
    assert state.is_failed()
    assert isinstance(state.result(raise_on_failure=False), UnknownChain)
    state = flow("coins", keys=[str(tmp_path / "nowhere.pub")])
    assert isinstance(state.result(raise_on_failure=False), KeyRefused)


def test_without_chains_there_is_nothing_to_find(flow) -> None:
    state = flow()
    assert (state.is_completed(), state.message) == (True, "There are no chains")


def test_tasks_are_thin() -> None:
    import inspect

    from tasks.verify import publish_report, verify_chain

    for task in (verify_chain, publish_report):
        body = inspect.getsource(task.fn).split('"""')[2].strip().splitlines()
        assert len(body) <= 15, task.name


def test_the_public_key_is_that_of_the_private_one(key) -> None:
    from lindley.ledger.signing import signer_from_environment

    signer = signer_from_environment({KEY_VARIABLE: os.fspath(key)})
    assert signer.public_key == public_key(key.with_name("key.pem.pub"))
