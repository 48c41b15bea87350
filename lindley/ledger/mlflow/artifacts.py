"""Store and fetch the files of runs: on this disk, or where the tracking server has them."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from mlflow import MlflowClient
from mlflow.entities import Experiment, RunInfo, ViewType
from mlflow.entities import Run as MlflowRun
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, PERMISSION_DENIED, RESOURCE_DOES_NOT_EXIST

from lindley import failpoints
from lindley.addresses import public
from lindley.cache import Recent
from lindley.errors import LedgerCorrupt, LedgerUnavailable
from lindley.ledger.mlflow import paths, roots
from lindley.ledger.mlflow.client import pages
from lindley.ledger.mlflow.failures import missing, translated, unless_refused

#: What never changes of runs, by tracking server and run id: a process reads the same links again and again.
_infos: Recent[RunInfo] = Recent(2**23, lambda _: 2**11)
#: MLflow's error codes for a run id that does not exist, and for one that cannot exist.
_NO_RUN = (RESOURCE_DOES_NOT_EXIST, INVALID_PARAMETER_VALUE)
#: Errors that say that a file is not there, rather than that a disk or a permission withholds it.
_NOT_THERE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
#: Id of the experiment that every server makes when it starts for the first time.
_DEFAULT = "0"


class Artifacts:
    """The artifacts of the runs of one tracking server: a part of `Ledger`.

    Parameters
    ----------
    client
        Client of the tracking server.
    root
        Working folder; an embedded ledger keeps its artifacts in ``mlartifacts/`` below it.
    embedded
        Whether the ledger is embedded.
    """

    def __init__(self, client: MlflowClient, root: Path, embedded: bool) -> None:
        self.client, self.root, self.embedded = client, root, embedded
        self._server = str(client.tracking_uri)
        self._together = embedded and paths.belongs(self._server, root)

    def upload(self, run_id: str, folder: Path) -> None:
        """Store every file below `folder`; see `Ledger`."""
        local = self.folder(run_id)
        with translated("store the artifacts", store=True):
            for path in sorted(folder.iterdir(), key=lambda path: (path.is_file(), path.name)):
                if local is not None and self.embedded:
                    # Not through MLflow: it would write to where a ledger was before it was moved.
                    _copied(path, local / path.name)
                elif path.is_dir():
                    self.client.log_artifacts(run_id, str(path), path.name)
                else:
                    self.client.log_artifact(run_id, str(path))
                failpoints.reach("uploading")

    def download(self, run_id: str, folder: Path, path: str = "") -> Path:
        """Fetch artifacts; see `Ledger`."""
        local = self.folder(run_id)
        target = folder / path
        if local is None:
            return self._fetch(run_id, path, target.parent if path else folder)
        with translated("copy the artifacts"):
            try:
                _require_space(local / path, folder)
                return _copied(_own(local, path), target)
            except _NOT_THERE as error:
                raise missing(run_id, path) from error

    def _fetch(self, run_id: str, path: str, folder: Path) -> Path:
        """Fetch through the artifact store's client, which reports a missing file like a missing store."""
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with translated("fetch an artifact", store=True):
                return Path(self.client.download_artifacts(run_id, path, str(folder)))
        except LedgerUnavailable as error:
            if not any(not path or f"{held}/".startswith(f"{path}/") for held in self.artifacts(run_id)):
                raise missing(run_id, path) from error
            raise

    def artifacts(self, run_id: str) -> dict[str, int]:
        """List artifacts with sizes; see `Ledger`."""
        local = self.folder(run_id)
        if local is not None:
            files = [path for path in sorted(local.rglob("*")) if not path.is_dir() or path.is_symlink()]
            return {path.relative_to(local).as_posix(): path.lstat().st_size for path in files}
        with translated("list the artifacts", store=True):
            return dict(self._listed(run_id, None))

    def _listed(self, run_id: str, path: str | None) -> Iterator[tuple[str, int]]:
        for item in self.client.list_artifacts(run_id, path):
            if item.is_dir:
                yield from self._listed(run_id, item.path)
            else:
                yield item.path, int(item.file_size or 0)

    def folder(self, run_id: str) -> Path | None:
        """Return where a run's artifacts are on this disk; None if only a server can resolve it.

        MLflow keeps absolute paths. An embedded ledger is looked up by its layout below the working
        folder, mlartifacts/<folder of the experiment>/<run>/artifacts, so that a moved one is found and
        a copied one neither reads nor writes the original.

        Raises
        ------
        LedgerCorrupt
            If there is no such run.
        """
        path = paths.local(str(self.info(run_id).artifact_uri))
        if path is None or not self.embedded:
            return path
        own = paths.here(path, self.root, 3) if self._together else None
        here = own or self.root / paths.FOLDER / Path(*path.parts[-3:])
        return here if own or here.is_dir() or not path.is_dir() else path

    def moved_from(self) -> Path | None:
        """Return the working folder that an embedded ledger was moved or copied from; None if it was not.

        Experiments that are elsewhere on purpose have another layout.
        """
        if not self._together:
            return None
        with translated("list the experiments"):
            every = pages(lambda token: self.client.search_experiments(ViewType.ALL, page_token=token))
            places = [paths.local(experiment.artifact_location) for experiment in every]
        for path in filter(None, places):
            own = paths.here(path, self.root, 1)
            if own and own.resolve() != path.resolve():
                return path.parents[1]
        return None

    def elsewhere(self, found: Experiment, chain: str) -> dict[str, str]:
        """Return, as fields of `Home`, where files of a chain's experiment go if not where they should."""
        granted = os.environ.get(roots.VARIABLE, "")
        location, names = str(found.artifact_location), (str(found.experiment_id), chain)
        local = paths.local(location) if self.embedded else None
        own = [*roots.of_folder(self.root)] + [roots.DATABRICKS] * self._server.startswith("databricks")
        # Of a moved ledger, see `folder`. The server is asked only where nothing else answers.
        if (local and paths.here(local, self.root, 1)) or roots.is_own(location, names, own, granted):
            return {}
        own += filter(None, [self._root()])
        if roots.is_own(location, names, own, granted):
            return {}
        shown = " or ".join(filter(None, [*own, granted]))
        return {"elsewhere": public(location), "roots": f"below {public(shown)}"}

    def _root(self) -> str:
        """Return where the server puts artifacts, by its default experiment, which it made itself."""
        refused = (*_NO_RUN, PERMISSION_DENIED)
        found = unless_refused(lambda: self.client.get_experiment(_DEFAULT), *refused)
        return roots.root_of(str(found.artifact_location), _DEFAULT) if found is not None else ""

    def info(self, run_id: str) -> RunInfo:
        """Return what never changes of a run: its experiment, and where its artifacts are. Requested once.

        Raises
        ------
        LedgerCorrupt
            If there is no such run.
        """
        return _infos.get((self._server, run_id), lambda: self._asked(run_id))

    def _asked(self, run_id: str) -> RunInfo:
        run = self.run(run_id)
        if run is None:
            raise LedgerCorrupt(f"The run {run_id} does not exist")
        return run.info

    def run(self, run_id: str) -> MlflowRun | None:
        """Return a run as it is now; None if there is none."""
        with translated("read the run"):
            return unless_refused(lambda: self.client.get_run(run_id), *_NO_RUN)

    def remember(self, info: RunInfo) -> None:
        """Remember a run that was read or opened, so that it is not requested again."""
        _infos.put((self._server, info.run_id), info)


def _own(local: Path, path: str) -> Path:
    """Return the path of an artifact, no part of which may lead elsewhere.

    Raises
    ------
    OSError
        If a part of it is a symbolic link.
    """
    found = local
    for part in Path(path).parts:
        found = found / part
        if found.is_symlink():
            raise FileNotFoundError(errno.ENOENT, "a symbolic link, which is not followed", path)
    return found


def _require_space(source: Path, folder: Path) -> None:
    """Refuse to copy what does not fit on the disk: a file of holes states any size.

    Raises
    ------
    OSError
        If there is not enough space.
    """
    files = [source] if source.is_file() else source.rglob("*")
    needed = sum(path.lstat().st_size for path in files if not path.is_symlink())
    folder.mkdir(parents=True, exist_ok=True)
    if needed > shutil.disk_usage(folder).free:
        raise OSError(errno.ENOSPC, f"No space left on the disk for {needed:,} bytes", str(folder))


def _copied(source: Path, target: Path) -> Path:
    """Copy a file or a folder; return where the copy is.

    Links are not followed, and devices and pipes not read: in place of each stands a file that says so, whose
    digest no record has.

    Raises
    ------
    OSError
        If the file is none, or the disk refuses.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if not source.is_dir():
        if not S_ISREG(source.lstat().st_mode):
            raise FileNotFoundError(errno.ENOENT, "not a file", source.name)
        return Path(shutil.copyfile(source, target))
    target.mkdir(exist_ok=True)
    for entry in sorted(source.iterdir()):
        mode = entry.lstat().st_mode
        if S_ISDIR(mode) or S_ISREG(mode):
            _copied(entry, target / entry.name)
        else:
            (target / entry.name).write_text("In place of a link, a pipe or a device.\n", encoding="utf-8")
    return target
