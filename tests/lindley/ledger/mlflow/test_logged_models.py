"""A link is listed among the experiment's logged models and its run's outputs, once, without files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelStatus
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import ENDPOINT_NOT_FOUND, ErrorCode

from lindley import process
from lindley.errors import LedgerUnavailable
from lindley.ledger.mlflow.store import MlflowLedger
from lindley.ledger.reading import find_chain
from lindley.ledger.registration import complete, register_link
from lindley.model.declaration import Declaration
from lindley.verification.gather import verify_chain
from tests.support.fakes import append, coins, logged


def entries(ledger: MlflowLedger, run_id: str = "") -> list[LoggedModel]:
    experiment = ledger.client.get_experiment_by_name("lindley/coins")
    found = list(ledger.client.search_logged_models([experiment.experiment_id]))
    return [model for model in found if run_id in ("", model.source_run_id)]


def test_each_version_is_listed_with_its_record_and_without_files(
    ledger: MlflowLedger, declaration: Declaration
) -> None:
    made = append(ledger, declaration, coins(declaration, 30))
    assert len(entries(ledger)) == 4  # the quarantined one too
    (model,) = entries(ledger, made.run_id)
    assert model.status == LoggedModelStatus.READY
    assert model.name == "coins"
    assert model.tags["lindley.record"] == made.record_digest
    assert model.tags["lindley.status"] == "accepted"
    assert f'"version": {made.version}' in model.tags["mlflow.modelVersions"]
    outputs = ledger.client.get_run(made.run_id).outputs.model_outputs
    assert [output.model_id for output in outputs] == [model.model_id]
    assert not list(Path(ledger.root).rglob(f"*{model.model_id}*"))
    by_record = f"tags.`lindley.record` = '{made.record_digest}'"
    found = ledger.client.search_logged_models([model.experiment_id], filter_string=by_record)
    assert [one.model_id for one in found] == [model.model_id]
    assert verify_chain(ledger, "coins").findings == ()


@pytest.mark.parametrize("cut", ["create_logged_model", "log_outputs", "finalize_logged_model"])
@pytest.mark.parametrize("dead", [False, True])
def test_a_writer_that_is_cut_off_leaves_what_the_next_one_completes(
    cut: str, dead: bool, ledger: MlflowLedger, declaration: Declaration, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: Any, **__: Any) -> Any:
        raise MlflowException("The server is down")

    link = logged(ledger, declaration, coins(declaration, 30))
    with monkeypatch.context() as patch:
        patch.setattr(ledger.client, cut, down)
        with pytest.raises(LedgerUnavailable, match="The server is down"):
            register_link(ledger, link)
    chain = find_chain(ledger, "coins")
    assert chain.head is not None
    assert chain.head.version.record == link.record_digest  # the link counts already
    assert all(model.status != LoggedModelStatus.READY for model in entries(ledger, link.run_id))
    if dead:
        monkeypatch.setattr(process, "lives", lambda _: False)
        complete(ledger, "coins", chain)
    else:
        register_link(ledger, link)
    (model,) = entries(ledger, link.run_id)
    assert model.status == LoggedModelStatus.READY
    assert model.tags["lindley.record"] == link.record_digest
    assert len(ledger.client.get_run(link.run_id).outputs.model_outputs) == 1
    assert ledger.run_state(link.run_id).tags["lindley.state"] == "accepted"  # type: ignore[union-attr]


def test_a_write_that_is_cut_off_before_its_version_lists_nothing(
    ledger: MlflowLedger, declaration: Declaration, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = logged(ledger, declaration, coins(declaration, 30))
    monkeypatch.setattr(process, "lives", lambda _: False)
    complete(ledger, "coins", find_chain(ledger, "coins"))
    assert not entries(ledger, link.run_id)


def test_an_entry_of_another_record_is_a_warning(ledger: MlflowLedger) -> None:
    model = entries(ledger)[0]
    ledger.client.set_logged_model_tags(model.model_id, {"lindley.record": "f" * 64})
    report = verify_chain(ledger, "coins")
    assert [finding.rule for finding in report.findings] == ["R32"]
    assert report.ok


def test_a_server_without_logged_models_lists_none(
    ledger: MlflowLedger, declaration: Declaration, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(*_: Any, **__: Any) -> Any:
        raise RestException({"error_code": ErrorCode.Name(ENDPOINT_NOT_FOUND), "message": "no such path"})

    before = len(entries(ledger))
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "search_logged_models", absent)
        assert append(ledger, declaration, coins(declaration, 30)).status == "accepted"
        assert verify_chain(ledger, "coins").findings == ()
    assert len(entries(ledger)) == before
