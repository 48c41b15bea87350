"""The ledger on MLflow beyond the contract: names, processes, moved folders, what MLflow shows."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name, _validate_param

from lindley.errors import HomeRefused, LedgerCorrupt, LedgerUnavailable
from lindley.ledger.mlflow import naming
from lindley.ledger.mlflow.store import HEAD, MlflowLedger
from lindley.ledger.protocol import Run
from lindley.ledger.reading import find_chain
from lindley.ledger.record import Artifact, digest
from lindley.model.declaration import Declaration, load_declaration
from lindley.operations.update import plan_update
from lindley.verification.gather import verify_chain
from tests.support import amendments
from tests.support.fakes import append, coins

NAME = "coins"


class TestKeys:
    @pytest.mark.parametrize(
        ("name", "key"),
        [
            ("r_hat_max", "r_hat_max"),
            ("seconds/fit", "seconds/fit"),
            ("mean/beta[north]", "mean/beta.north"),
            ("mean/beta[north, x1]", "mean/beta.north.x1"),
            ("Größe[Süd-West]", "Größe.Süd-West"),
        ],
    )
    def test_usual_names_stay_readable(self, name: str, key: str) -> None:
        assert naming.key(name) == key

    @given(st.text(st.characters(), max_size=300) | st.text("ab[], ./-_\n", max_size=12))
    def test_mlflow_takes_any_key(self, name: str) -> None:
        key = naming.key(name)
        _validate_metric_name(key)
        _validate_param(key, "value")
        assert len(key) <= naming.KEY_CHARACTERS

    @given(st.lists(st.text("ab[], ./-_", max_size=8), unique=True, max_size=30))
    def test_no_two_names_share_a_key(self, names: list[str]) -> None:
        assert len({naming.key(name) for name in names}) == len(names)


class TestTampering:
    """The same changes as in memory, made with MLflow's own client and on disk."""

    @pytest.mark.parametrize(
        ("change", "rules"),
        [
            (lambda client: client.set_model_version_tag(NAME, "1", "lindley.rows", "5"), {"R05"}),
            (lambda client: client.delete_model_version_tag(NAME, "3", "lindley.metrics"), {"R05"}),
            (lambda client: client.set_registered_model_alias(NAME, HEAD, "2"), {"R19"}),
            (lambda client: client.delete_model_version(NAME, "2"), {"R02"}),
            (lambda client: client.delete_model_version(NAME, "3"), {"R02", "R19"}),
            (lambda client: client.set_registered_model_tag(NAME, "lindley.genesis", "0" * 64), None),
        ],
    )
    def test_a_change_in_the_registry_is_found(
        self, ledger: MlflowLedger, change: Callable[[Any], None], rules: set[str] | None
    ) -> None:
        change(ledger.client)
        found = {finding.rule for finding in verify_chain(ledger, NAME).findings}
        assert found == rules if rules is not None else "R01" in found

    def test_a_change_of_a_run_is_found(self, ledger: MlflowLedger) -> None:
        run_id = ledger.versions(NAME)[0].run_id
        ledger.client.set_tag(run_id, "lindley.batch", "0" * 64)
        assert [(f.rule, f.link) for f in verify_chain(ledger, NAME).findings] == [("R18", 1)]
        ledger.client.log_metric(run_id, "k_hat", 0.2)
        assert [f.rule for f in verify_chain(ledger, NAME).findings] == ["R18", "R18"]

    def test_a_change_on_disk_is_found(self, ledger: MlflowLedger) -> None:
        run_id = ledger.versions(NAME)[2].run_id
        (path,) = ledger.root.rglob(f"{run_id}/artifacts/{Artifact.SUMMARY}")
        data = bytearray(path.read_bytes())
        data[40] ^= 1
        path.write_bytes(bytes(data))
        assert [(f.rule, f.link) for f in verify_chain(ledger, NAME).findings] == [("R06", 2)]

    def test_a_deleted_experiment_is_found_and_refused_before_a_fit(
        self, ledger: MlflowLedger, declaration: Declaration
    ) -> None:
        experiment = ledger.client.get_experiment_by_name(f"lindley/{NAME}").experiment_id
        ledger.client.delete_experiment(experiment)
        assert [(f.rule, f.link) for f in verify_chain(ledger, NAME).findings] == [("R27", None)]
        with pytest.raises(HomeRefused, match="was deleted") as caught:
            plan_update(ledger, declaration, coins(declaration, 30))
        assert f"mlflow experiments restore --experiment-id {experiment}" in caught.value.todo
        ledger.client.restore_experiment(experiment)
        assert append(ledger, declaration, coins(declaration, 30)).link == 3
        assert verify_chain(ledger, NAME).ok

    def test_a_chain_is_not_begun_in_a_deleted_experiment(
        self, declaration: Declaration, tmp_path: Path
    ) -> None:
        ledger = MlflowLedger(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path)
        ledger.client.delete_experiment(ledger.client.create_experiment(f"lindley/{NAME}"))
        with pytest.raises(HomeRefused):
            plan_update(ledger, declaration, coins(declaration, 0))

    def test_a_deleted_run_is_found(self, ledger: MlflowLedger) -> None:
        link, quarantined, _ = ledger.versions(NAME)
        for version, place in ((link, 1), (quarantined, None)):
            ledger.client.delete_run(version.run_id)
            found = [(f.rule, f.link, f.version) for f in verify_chain(ledger, NAME).findings]
            assert found == [("R27", place, version.number)]
            ledger.client.restore_run(version.run_id)

    def test_a_version_and_its_run_deleted_together_are_found(self, ledger: MlflowLedger) -> None:
        newest = ledger.versions(NAME)[-1]
        ledger.client.delete_run(newest.run_id)
        ledger.client.delete_model_version(NAME, str(newest.number))
        assert {f.rule for f in verify_chain(ledger, NAME).findings} == {"R02", "R19"}

    def test_a_renamed_experiment_is_found(self, ledger: MlflowLedger) -> None:
        experiment = ledger.client.get_experiment_by_name(f"lindley/{NAME}").experiment_id
        ledger.client.rename_experiment(experiment, "elsewhere")
        assert [f.rule for f in verify_chain(ledger, NAME).findings] == ["R27"]

    def test_a_damaged_genesis_record_is_corruption(self, ledger: MlflowLedger) -> None:
        (path,) = ledger.root.rglob("genesis.json")
        stated = digest(path.read_bytes())
        for damage in (lambda: path.write_bytes(b"{}"), path.unlink):
            damage()
            with pytest.raises(LedgerCorrupt) as caught:
                ledger.genesis(NAME)
            assert caught.value.expected == f"sha256 {stated}"
            assert [f.rule for f in verify_chain(ledger, NAME).findings] == ["R01"]

    def test_a_registered_model_of_someone_else_is_no_chain(self, ledger: MlflowLedger) -> None:
        ledger.client.create_registered_model("churn", tags={"team": "x"})
        assert ledger.chains() == [NAME]
        with pytest.raises(LedgerCorrupt, match="no chain of Lindley"):
            ledger.genesis("churn")
        with pytest.raises(LedgerCorrupt, match="no chain of Lindley"):
            ledger.claim("churn", b"{}", "")
        assert [f.rule for f in verify_chain(ledger, "churn").findings] == ["R01"]


class TestWhatMlflowShows:
    def test_parameters_keep_their_full_precision_under_readable_names(self, ledger: MlflowLedger) -> None:
        params = {"prior/beta[x1]": f"mean={1 / 3!r}", "sampler/draws": "1500"}
        run_id = ledger.open_run(NAME, Run(name="run", params=params))
        held = ledger.client.get_run(run_id).data.params
        assert held == {"prior/beta.x1": f"mean={1 / 3!r}", "sampler/draws": "1500"}

    def test_a_run_has_its_note_its_name_and_the_batch_as_a_dataset(self, ledger: MlflowLedger) -> None:
        version = ledger.versions(NAME)[2]
        run = ledger.client.get_run(version.run_id)
        assert run.info.run_name == "coins 2: coins-020.csv"
        assert run.data.tags["mlflow.note.content"].startswith("### `coins`, link 2")
        (used,) = run.inputs.dataset_inputs
        assert used.dataset.name == "coins-020.csv"
        assert version.batch.startswith(used.dataset.digest)
        assert ledger.client.get_experiment(run.info.experiment_id).name == "lindley/coins"

    def test_a_version_has_the_note_and_points_at_the_belief(self, ledger: MlflowLedger) -> None:
        model = ledger.client.get_registered_model(NAME)
        version = ledger.client.get_model_version_by_alias(NAME, HEAD)
        assert model.description == "Success probability of repeated trials."
        assert int(version.version) == 3
        assert version.description.startswith("### `coins`, link 2")
        assert version.source.endswith(f"{version.run_id}/artifacts/belief")

    def test_a_falsified_note_is_found(self, ledger: MlflowLedger) -> None:
        held = ledger.versions(NAME)[2]
        assert verify_chain(ledger, NAME).findings == ()
        ledger.client.update_model_version(NAME, "3", held.description.replace("link 1", "link 7"))
        ledger.client.set_tag(held.run_id, "mlflow.note.content", "Trust me.")
        found = verify_chain(ledger, NAME)
        assert found.ok
        assert [(f.rule, f.version) for f in found.findings] == [("R32", 3), ("R32", 3)]

    def test_the_interface_can_be_told_where_it_is(
        self, ledger: MlflowLedger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run_id = ledger.versions(NAME)[0].run_id
        assert ledger.urls(NAME, run_id, 1) == {}
        monkeypatch.setenv("LINDLEY_MLFLOW_UI", "http://127.0.0.1:5000/")
        urls = ledger.urls(NAME, run_id, 1)
        assert urls["version"] == "http://127.0.0.1:5000/#/models/coins/versions/1"
        assert urls["run"].startswith("http://127.0.0.1:5000/#/experiments/")
        monkeypatch.setenv("LINDLEY_MLFLOW_UI", "javascript:alert(1)")
        assert ledger.urls(NAME, run_id, 1) == {}

    def test_the_belief_is_a_model_from_code_without_pickles(
        self, ledger: MlflowLedger, tmp_path: Path, declaration: Declaration
    ) -> None:
        run_id = ledger.versions(NAME)[2].run_id
        folder = ledger.download(run_id, tmp_path, "belief")
        files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        assert {"MLmodel", "belief_model.py", "artifacts/draws.nc", "artifacts/model.py"} <= files
        assert not any(name.endswith((".pkl", ".pickle", ".cloudpickle", ".joblib")) for name in files)
        assert (folder / "artifacts/model.py").read_text(encoding="utf-8") == declaration.source_text
        described = mlflow.models.get_model_info(str(folder))
        columns = {"id": "int64", "k": "int64", "n": "int64"}
        assert described.metadata == {"chain": NAME, "columns": columns}
        inputs = {column.name: column.required for column in described.signature.inputs}
        assert inputs == {"id": False, "k": False, "n": True}
        assert str(tmp_path.parent.parent) not in (folder / "MLmodel").read_text(encoding="utf-8")


class TestUnusableLedgers:
    def test_a_file_that_is_no_database(self, tmp_path: Path) -> None:
        (tmp_path / "mlflow.db").write_bytes(b"not a database" * 100)
        with pytest.raises(LedgerUnavailable, match="open the ledger"):
            MlflowLedger(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path)

    def test_a_folder_in_place_of_the_database(self, tmp_path: Path) -> None:
        with pytest.raises(LedgerUnavailable, match="open the ledger"):
            MlflowLedger(f"sqlite:///{tmp_path}", tmp_path)

    def test_a_server_that_does_not_answer(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # taken, and nothing listens
            ledger = MlflowLedger(f"http://127.0.0.1:{taken.getsockname()[1]}", tmp_path)
            for call in (ledger.chains, lambda: ledger.genesis(NAME), lambda: ledger.versions(NAME)):
                with pytest.raises(LedgerUnavailable) as caught:
                    call()
                assert caught.value.transient
                assert "MLFLOW_TRACKING_URI" in caught.value.todo

    @pytest.mark.parametrize("path", ["", "belief", "belief/MLmodel", "record.json"])
    def test_a_store_that_fails_is_not_taken_for_missing_files(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
    ) -> None:
        """The server was killed under the download and is back: what it lists is there."""
        ledger = MlflowLedger(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path)
        held = {"record.json": 1, "belief/MLmodel": 2}

        def fails(*_: object) -> None:
            raise ConnectionError("cut off")

        monkeypatch.setattr(ledger, "folder", lambda _: None)
        monkeypatch.setattr(ledger, "artifacts", lambda _: held)
        monkeypatch.setattr(ledger.client, "download_artifacts", fails)
        with pytest.raises(LedgerUnavailable) as caught:
            ledger.download("a" * 32, tmp_path / "target", path)
        assert caught.value.transient
        held.clear()
        with pytest.raises(LedgerCorrupt, match="missing"):
            ledger.download("a" * 32, tmp_path / "target", path)

    def test_frames_of_every_kind_can_be_datasets(self, ledger: MlflowLedger) -> None:
        frame = pd.DataFrame(
            {
                "day": pd.to_datetime(["2020-01-22", "2020-01-23"]),
                "name": ["<b>", "ü"],
                "open": [True, False],
                "x": [0.5, float("nan")],
            }
        )
        run = Run(name="run", frame=frame, batch_digest="ab" * 32, origin="")
        held = ledger.client.get_run(ledger.open_run(NAME, run))
        (used,) = held.inputs.dataset_inputs
        assert used.dataset.digest == ("ab" * 32)[:36]


def test_a_version_whose_source_was_pointed_elsewhere_is_found(ledger: MlflowLedger) -> None:
    with sqlite3.connect(ledger.root / "mlflow.db") as database:
        database.execute("update model_versions set source = 's3://elsewhere/belief' where version = 3")
    database.close()
    report = verify_chain(ledger, NAME)
    assert [(finding.rule, finding.link) for finding in report.findings] == [("R18", 2)]
    assert "s3://elsewhere/belief" in report.findings[0].message


def test_amendments_and_branches_in_a_real_registry(ledger: MlflowLedger, declaration: Declaration) -> None:
    assert amendments.retract(ledger, declaration, "coins-020.csv").link == 3
    assert amendments.counts(ledger) == [1]
    assert append(ledger, declaration, coins(declaration, 20)).link == 4  # it may come again
    assert amendments.correct(ledger, declaration, 4, coins(declaration, 20, k=7)).link == 5
    assert amendments.rollback(ledger, declaration, 2).link == 6
    assert (amendments.counts(ledger), ledger.head_hint(NAME)) == ([1, 2], 7)
    assert amendments.is_sound(ledger)
    assert declaration.file is not None
    declared = load_declaration("coins--what-if", declaration.file.parent)
    made = amendments.branch(ledger, declared, NAME, "5")
    assert (made.link, made.version) == (6, 1)
    assert append(ledger, declared, coins(declared, 40)).link == 7
    assert [link.number for link in find_chain(ledger, declared.name).at_head] == [1, 5, 7]
    assert ledger.head_hint(declared.name) == 2
    assert verify_chain(ledger, declared.name).findings == ()
    # A branch needs the runs of its source.
    ledger.client.delete_experiment(ledger.client.get_experiment_by_name(f"lindley/{NAME}").experiment_id)
    (finding,) = verify_chain(ledger, declared.name).findings
    assert (finding.rule, finding.message[:9]) == ("R27", "in coins:")
    assert {"coins", "coins--what-if"} <= set(ledger.chains())
