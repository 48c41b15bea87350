"""A bucket that does not answer, or not to this user."""

from __future__ import annotations

from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from lindley.errors import AccessRefused, LedgerUnavailable
from lindley.ledger.mlflow.failures import translated
from lindley.ledger.mlflow.store import MlflowLedger
from lindley.ledger.protocol import Run
from tests.support.servers import free_port


@pytest.mark.e2e
def test_a_bucket_that_is_down_is_an_unavailable_ledger(
    direct_s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "record.json").write_text("{}")
    ledger = MlflowLedger(direct_s3, tmp_path)
    run_id = ledger.open_run("no-bucket", Run(name="link"))
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    again = MlflowLedger(direct_s3, tmp_path)
    for call in (
        lambda: again.upload(run_id, tmp_path),
        lambda: again.download(run_id, tmp_path / "back", "record.json"),
        lambda: again.artifacts(run_id),
    ):
        with pytest.raises(LedgerUnavailable) as caught:
            call()
        assert caught.value.transient


def test_a_bucket_that_refuses_says_so() -> None:
    answer = {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
    with pytest.raises(AccessRefused, match="You may not store the artifacts"):  # noqa: SIM117
        with translated("store the artifacts", store=True):
            raise ClientError(answer, "PutObject")


def test_a_password_in_an_address_is_not_repeated(tmp_path: Path) -> None:
    address = f"http://me:hush@127.0.0.1:{free_port()}"
    with pytest.raises(LedgerUnavailable) as caught, translated("read the run"):
        raise OSError(f"Max retries exceeded for {address}/api/2.0")
    assert "hush" not in str(caught.value)
    assert "http://127.0.0.1:" in str(caught.value)


def test_what_no_server_says_is_no_failure_of_one() -> None:
    with pytest.raises(ZeroDivisionError), translated("read the run"):
        raise ZeroDivisionError
