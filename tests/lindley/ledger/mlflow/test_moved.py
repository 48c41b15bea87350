"""A ledger in another folder than the one that its addresses name."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest

from lindley.errors import LedgerCorrupt, LedgerMoved, LedgerUnavailable, UnknownChain
from lindley.ledger.backend import embedded_files, living_origin, open_ledger, require_servable
from lindley.ledger.history import history
from lindley.ledger.mlflow import paths
from lindley.ledger.mlflow.store import HEAD, MlflowLedger
from lindley.ledger.reading import find_chain, read_belief
from lindley.ledger.record import Artifact
from lindley.model.declaration import Declaration
from lindley.verification.gather import verify_chain
from lindley.workspace import Workspace
from tests.support.fakes import append, coins

NAME = "coins"


class TestMovedLedger:
    def test_everything_is_found_again(self, ledger: MlflowLedger, template: Path) -> None:
        assert not str(ledger.root).startswith(str(template))
        shown = [(view.number, view.status) for view in history(ledger, NAME, every=True)]
        assert shown == [(1, "accepted"), (None, "quarantined"), (2, "accepted")]
        head = find_chain(ledger, NAME).head
        assert head is not None
        record, belief = read_belief(ledger, head)
        assert belief.matched.digest == record["posterior"]["matched"]
        assert set(ledger.artifacts(head.version.run_id)) == {*record["artifacts"], Artifact.RECORD}

    def test_it_verifies_and_goes_on(
        self, ledger: MlflowLedger, declaration: Declaration, template: Path
    ) -> None:
        """The template's folder is still there, and must neither be read nor written."""
        held = sorted(template.rglob("*"))
        found = append(ledger, declaration, coins(declaration, 30))
        assert found.link == 3
        assert sorted(template.rglob("*")) == held
        assert len(list(ledger.root.rglob(f"{found.run_id}/artifacts/belief/MLmodel"))) == 1
        source = ledger.client.get_model_version_by_alias(NAME, HEAD).source
        assert Path(url2pathname(urlsplit(source).path)).is_relative_to(ledger.root)
        report = verify_chain(ledger, NAME)
        assert report.findings == ()
        assert len(report.links) == 3

    def test_reading_a_copy_takes_no_lock_and_creates_nothing(
        self, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It may be on a disk that cannot be written."""
        root = tmp_path / "image"
        shutil.copytree(template, root)
        (root / "mlflow.db.lock").unlink()

        def refused(*_: object) -> None:
            raise PermissionError(13, "Read-only file system")

        monkeypatch.setattr("lindley.ledger.mlflow.client.FileLock", refused)
        held = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
        workspace = replace(Workspace.from_environment(root), tracking_uri=f"sqlite:///{root / 'mlflow.db'}")
        ledger = open_ledger(workspace, create=False)
        assert ledger.chains() == [NAME]
        assert len(history(ledger, NAME)) == 2
        assert living_origin(ledger) == template  # `mlflow gc` would act on the files there
        head = find_chain(ledger, NAME).head
        assert head is not None
        read_belief(ledger, head)
        assert verify_chain(ledger, NAME).findings == ()
        assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == held

    def test_where_there_is_no_ledger_reading_makes_none(self, tmp_path: Path) -> None:
        workspace = replace(
            Workspace.from_environment(tmp_path), tracking_uri=f"sqlite:///{tmp_path}/mlflow.db"
        )
        with pytest.raises(UnknownChain, match="no ledger in this working folder"):
            open_ledger(workspace, create=False)
        assert list(tmp_path.iterdir()) == []

    def test_a_copy_without_its_artifacts_reads_and_writes_nothing_of_the_original(
        self, ledger: MlflowLedger, template: Path, tmp_path: Path
    ) -> None:
        held = {path: path.stat().st_mtime_ns for path in template.rglob("*")}
        shutil.rmtree(ledger.root / paths.FOLDER)
        run_id = ledger.versions(NAME)[0].run_id
        assert ledger.artifacts(run_id) == {}
        with pytest.raises(LedgerCorrupt, match="is missing"):
            ledger.download(run_id, tmp_path / "fetched", Artifact.RECORD)
        (tmp_path / "more").mkdir()
        (tmp_path / "more" / "note.txt").write_text("x")
        ledger.upload(run_id, tmp_path / "more")
        assert ledger.artifacts(run_id) == {"note.txt": 1}
        assert {path: path.stat().st_mtime_ns for path in template.rglob("*")} == held

    def test_it_is_not_served_before_its_old_folder_leads_here(
        self, ledger: MlflowLedger, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """MLflow's server hands out absolute addresses: of a copy they are those of the original."""
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        workspace = Workspace.from_environment(ledger.root)
        with pytest.raises(LedgerMoved, match="moved or copied here") as caught:
            require_servable(workspace)
        assert str(template) in caught.value.found
        assert f"ln -s {ledger.root} {template}" in caught.value.todo
        shutil.move(template, tmp_path / "put away")
        template.symlink_to(ledger.root)
        try:
            require_servable(workspace)
        finally:
            template.unlink()
            shutil.move(tmp_path / "put away", template)

    def test_experiments_that_are_elsewhere_on_purpose_are_served(
        self, template: Path, tmp_path: Path
    ) -> None:
        assert MlflowLedger(f"sqlite:///{template / 'mlflow.db'}", template).moved_from() is None
        ledger = MlflowLedger(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path)
        elsewhere = (
            "s3://bucket/mlartifacts/1",
            "mlflow-artifacts:/1",
            (tmp_path / "big disk" / "1").as_uri(),
        )
        for number, place in enumerate(elsewhere):
            ledger.client.create_experiment(str(number), place)
        assert ledger.moved_from() is None
        for place in (str(template / "mlartifacts" / "8"), (template / "mlartifacts" / "7").as_uri()):
            deleted = ledger.client.create_experiment(place, place)
            assert ledger.moved_from() == template
            ledger.client.delete_experiment(deleted)
            assert ledger.moved_from() == template  # it can be restored

    def test_a_database_elsewhere_may_be_shared_on_purpose(
        self, ledger: MlflowLedger, tmp_path: Path
    ) -> None:
        assert MlflowLedger(ledger.uri, tmp_path).moved_from() is None
        assert MlflowLedger(ledger.uri, ledger.root / "below").moved_from() is None

    def test_one_whose_database_cannot_be_read_is_not_served(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        workspace = Workspace.from_environment(tmp_path)
        files = embedded_files(workspace)
        assert (files.database, files.artifacts) == (tmp_path / "mlflow.db", tmp_path / "mlartifacts")
        files.database.write_text("no database, but long enough to be read as the header of one " * 9)
        with pytest.raises(LedgerUnavailable, match="not a database"):
            require_servable(workspace)
