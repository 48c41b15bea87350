"""The ledger on MLflow: registered models are chains, versions are links, runs hold the artifacts."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Set before MLflow is imported: a ledger sends no telemetry.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# Standard output belongs to the command line (`--json`), not to addresses of runs.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
# MLflow's own default waits minutes for a server that is down before it reports it.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")

from mlflow import MlflowClient
from mlflow.entities import Experiment, LifecycleStage, Param, RunTag, ViewType
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED, RESOURCE_ALREADY_EXISTS, RESOURCE_DOES_NOT_EXIST

from lindley import failpoints, process
from lindley.addresses import public
from lindley.errors import LedgerCorrupt, LedgerUnavailable
from lindley.ledger.chain import Version
from lindley.ledger.mlflow import logged_models, naming, paths
from lindley.ledger.mlflow.artifacts import Artifacts
from lindley.ledger.mlflow.client import open_embedded, pages
from lindley.ledger.mlflow.failures import translated, unless_refused
from lindley.ledger.mlflow.listing import versions_of
from lindley.ledger.protocol import Home, Run, RunState, RunStatus
from lindley.ledger.reading import downloaded
from lindley.ledger.record import REGISTERED, Status, digest, require_digest
from lindley.model.declaration import Declaration

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities.model_registry import ModelVersion

#: The alias that points at the newest accepted link.
HEAD = "head"
#: The alias by which other tools know the version in use, and the one of the newest candidate.
CHAMPION, CHALLENGER = "champion", "challenger"
_GENESIS_TAG, _GENESIS_RUN_TAG = "lindley.genesis", "lindley.genesis_run"
_GENESIS_FILE = "genesis.json"
_WRITER_TAG, _STATE_TAG = "lindley.writer", "lindley.state"
#: MLflow's tag of the text that a run's page shows.
_NOTE_TAG = "mlflow.note.content"
#: Shown by MLflow's pages as model training rather than as GenAI traces.
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
#: Milliseconds after which an open run of a machine that cannot be asked is dead. A run is open while files
#: are uploaded; one that is taken for dead all the same gets its right state when it is registered.
_DEAD_AFTER = 6 * 3_600_000
#: Runs in one answer of a search.
_RUNS_PER_CALL = 1000
#: MLflow's limits: parameters and metrics in one call, characters of a tag value.
_PARAMS_PER_CALL, _METRICS_PER_CALL = 100, 900
_TAG_CHARACTERS = 5000
#: And of a run's name and a description. SQLite takes longer ones, PostgreSQL refuses them.
_NAME_CHARACTERS, _DESCRIPTION_CHARACTERS = 250, 5000


class MlflowLedger(Artifacts):
    """A `Ledger` on an MLflow tracking server and registry.

    Parameters
    ----------
    uri
        Tracking URI: ``sqlite:///...`` embedded, or a server.
    root
        Working folder; an embedded ledger keeps its artifacts in ``mlartifacts/`` below it.
    """

    def __init__(self, uri: str, root: Path) -> None:
        self.uri = uri
        # Databricks wants experiments as workspace paths and models as catalog.schema.name.
        self._experiment_prefix = os.environ.get("LINDLEY_EXPERIMENT_PREFIX", "lindley/")
        self._model_prefix = os.environ.get("LINDLEY_MODEL_PREFIX", "")
        with translated("open the ledger"):
            if uri.startswith("sqlite:"):
                super().__init__(open_embedded(uri), root, embedded=True)
            else:
                registry = os.environ.get("MLFLOW_REGISTRY_URI") or uri
                super().__init__(MlflowClient(tracking_uri=uri, registry_uri=registry), root, embedded=False)
        self._experiments: dict[str, str] = {}
        self._made: dict[str, ModelVersion] = {}

    # -- chains ---------------------------------------------------------------------------------------

    def chains(self) -> list[str]:
        """Return the names of all chains; see `Ledger`."""
        prefix, search = self._model_prefix, self.client.search_registered_models
        with translated("list the chains"):
            models = pages(lambda token: search(max_results=200, page_token=token))
            ours = [m.name for m in models if m.name.startswith(prefix) and _GENESIS_TAG in m.tags]
        return sorted(name.removeprefix(prefix) for name in ours)

    def home(self, chain: str) -> Home | None:
        """Return a chain's experiment; see `Ledger`."""
        name = self._experiment_prefix + chain
        with translated(f"look for the experiment {name}"):
            found = self.client.get_experiment_by_name(name)
        return None if found is None else self._home(chain, found)

    def _home(self, chain: str, found: Experiment) -> Home:
        return Home(
            name=f"The experiment {found.name}",
            deleted=found.lifecycle_stage == LifecycleStage.DELETED,
            restore=f"`mlflow experiments restore --experiment-id {found.experiment_id}`, or MLflow's pages",
            **self.elsewhere(found, chain),
        )

    def genesis(self, chain: str) -> bytes | None:
        """Return a chain's genesis record; see `Ledger`."""
        with translated(f"read the chain {chain}"):
            get = self.client.get_registered_model
            model = unless_refused(lambda: get(self._model(chain)), RESOURCE_DOES_NOT_EXIST)
        if model is None:
            return None
        stated, run_id = model.tags.get(_GENESIS_TAG), model.tags.get(_GENESIS_RUN_TAG)
        if stated is None or run_id is None:
            raise LedgerCorrupt(
                f"The registered model {chain} is no chain of Lindley",
                expected=f"the tags {_GENESIS_TAG} and {_GENESIS_RUN_TAG}",
                found=f"tags {sorted(model.tags)}",
                todo="give the chain another name, or restore the tags",
            )
        try:
            with downloaded(self, run_id, _GENESIS_FILE) as path:
                data = path.read_bytes()
            found = digest(data)
        except LedgerCorrupt as error:
            data, found = b"", error.happened
        require_digest(f"The genesis record of {chain}", stated, found)
        return data

    def claim(self, chain: str, genesis: bytes, description: str) -> bytes:
        """Start a chain; see `Ledger`."""
        with translated(f"start the chain {chain}"):
            run_id = self.open_run(chain, Run(name="genesis", tags={"lindley.kind": "genesis"}))
            with tempfile.TemporaryDirectory(prefix="lindley-") as scratch:
                (Path(scratch) / _GENESIS_FILE).write_bytes(genesis)
                self.upload(run_id, Path(scratch))
            # Before the claim: a writer killed right after it leaves nothing that looks abandoned.
            self.close_run(run_id, RunStatus.FINISHED)
            failpoints.reach("genesis-run")
            tags = {_GENESIS_TAG: digest(genesis), _GENESIS_RUN_TAG: run_id}
            name, text = self._model(chain), description[:_DESCRIPTION_CHARACTERS]
            # Creating a registered model fails when it exists: the one atomic claim that MLflow has.
            create = self.client.create_registered_model
            if unless_refused(lambda: create(name, tags, text), RESOURCE_ALREADY_EXISTS) is None:
                self.close_run(run_id, RunStatus.FINISHED, Status.SUPERSEDED)
        failpoints.reach("claimed")
        held = self.genesis(chain)
        if held is None:
            raise LedgerUnavailable(
                f"The chain {chain} vanished while it was created",
                expected="the registered model that was just created",
                found="none",
                todo="find out who deletes registered models, then run the update again",
            )
        return held

    def versions(self, chain: str, *, fresh: bool = True) -> list[Version]:
        """Return all versions of a chain; see `Ledger`."""
        with translated(f"list the versions of {chain}"):
            where = f"{self.uri} {os.environ.get('MLFLOW_REGISTRY_URI', '')}"
            return versions_of(self.client, where, self._model(chain), fresh=fresh)

    def loaded_from(self, chain: str, number: int) -> str:
        """Return the address from which a version is loaded; see `Ledger`."""
        get = self.client.get_model_version_download_uri
        refused = (RESOURCE_DOES_NOT_EXIST, PERMISSION_DENIED)
        with translated(f"read where version {number} of {chain} is"):
            return unless_refused(lambda: get(self._model(chain), str(number)), *refused) or ""

    # -- runs -----------------------------------------------------------------------------------------

    def package(
        self, folder: Path, declaration: Declaration, draws: Path | None, example: pd.DataFrame | None
    ) -> None:
        """Add the servable model; see `Ledger`."""
        from lindley.ledger.mlflow import packaging  # PyMC and MLflow's model flavours take seconds

        packaging.save_belief(folder, declaration, draws, example)

    def open_run(self, chain: str, run: Run) -> str:
        """Start a run; see `Ledger`."""
        with translated(f"start a run of {chain}"):
            tags = {_WRITER_TAG: process.describe(), _NOTE_TAG: run.note} | dict(run.tags)
            created = self.client.create_run(
                self._experiment(chain),
                run_name=run.name[:_NAME_CHARACTERS],
                tags={name: str(value)[:_TAG_CHARACTERS] for name, value in tags.items()},
            )
            run_id: str = created.info.run_id
            self.remember(created.info)
            params = [Param(name, value) for name, value in naming.texts(run.params).items()]
            metrics = naming.metrics(run.metrics)
            while params or metrics:
                self.client.log_batch(
                    run_id, metrics=metrics[:_METRICS_PER_CALL], params=params[:_PARAMS_PER_CALL]
                )
                params, metrics = params[_PARAMS_PER_CALL:], metrics[_METRICS_PER_CALL:]
            if run.frame is not None:
                from lindley.ledger.mlflow import dataset  # MLflow's dataset types take a second

                self.client.log_inputs(run_id, [dataset.describe(run.frame, run)])
        return run_id

    def kept(
        self, params: Mapping[str, str], metrics: Mapping[str, float]
    ) -> tuple[dict[str, str], dict[str, float]]:
        """Return what a run keeps; see `Ledger`."""
        return naming.texts(params), naming.numbers(metrics)

    def close_run(
        self, run_id: str, status: RunStatus, state: str = "", metrics: Mapping[str, float] | None = None
    ) -> None:
        """End a run; see `Ledger`."""
        with translated("end the run"):
            if state in REGISTERED:
                made = self._made.pop(run_id, None)
                logged_models.show(self.client, self.info(run_id).experiment_id, run_id, made)
            if state or metrics:
                tags = [RunTag(_STATE_TAG, state)] if state else []
                self.client.log_batch(run_id, metrics=naming.metrics(metrics or {}), tags=tags)
            self.client.set_terminated(run_id, RunStatus(status).name)

    def log_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Add metrics to a run; see `Ledger`."""
        with translated("log metrics"):
            self.client.log_batch(run_id, metrics=naming.metrics(metrics))

    def run_state(self, run_id: str) -> RunState | None:
        """Read a run back; see `Ledger`."""
        run = self.run(run_id)
        if run is None:
            return None
        self.remember(run.info)
        return _state(run)

    def shown_records(self, run_id: str) -> dict[str, str]:
        """Return what logged models state; see `Ledger`."""
        with translated("read the logged models of the run"):
            return logged_models.stated_records(self.client, self.info(run_id).experiment_id, run_id)

    def run_states(self, chain: str) -> dict[str, RunState]:
        """Read all runs of a chain back; see `Ledger`."""
        return {run.info.run_id: _state(run) for run in self._search_runs(chain, "")}

    def dead_runs(self, chain: str) -> list[str]:
        """Return open runs of dead processes; see `Ledger`."""
        running = self._search_runs(chain, "attributes.status = 'RUNNING'")
        return [run.info.run_id for run in running if _is_dead(run)]

    def registered_runs(self, chain: str) -> list[str]:
        """Return runs that became versions; see `Ledger`."""
        conditions = [f"tags.`{_STATE_TAG}` = '{state}'" for state in REGISTERED]
        found = [self._search_runs(chain, condition, ViewType.ALL) for condition in conditions]
        return sorted(run.info.run_id for runs in found for run in runs)

    def _search_runs(self, chain: str, condition: str, view: int = ViewType.ACTIVE_ONLY) -> list[Any]:
        """Return all runs of a chain's experiment that meet a condition."""
        search = self.client.search_runs
        with translated(f"search the runs of {chain}"):
            experiment = self._known_experiment(chain)
            if experiment is None:
                return []
            wanted = ([experiment], condition, view, _RUNS_PER_CALL, None)
            return list(pages(lambda token: search(*wanted, token)))

    # -- registration ---------------------------------------------------------------------------------

    def register(self, chain: str, run_id: str, tags: Mapping[str, str], description: str) -> int:
        """Create a version; see `Ledger`."""
        with translated(f"register a version of {chain}"):
            local = self.folder(run_id) if self.embedded else None
            uri = local.as_uri() if local else self.info(run_id).artifact_uri
            source = str(uri).rstrip("/") + "/belief"
            version = self.client.create_model_version(
                self._model(chain),
                source,
                run_id,
                tags={name: value[:_TAG_CHARACTERS] for name, value in tags.items()},
                description=description[:_DESCRIPTION_CHARACTERS],
                await_creation_for=0,
            )
        self._made[run_id] = version
        return int(version.version)

    def head_hint(self, chain: str) -> int | None:
        """Read the alias; see `Ledger`."""
        return self._alias(chain, HEAD)

    def set_head_hint(self, chain: str, number: int) -> None:
        """Move the alias, behind the one that other tools expect; see `Ledger`."""
        with translated(f"move the head of {chain}"):
            for alias in (CHAMPION, HEAD):  # killed between them, the next writer sets both again
                self.client.set_registered_model_alias(self._model(chain), alias, str(number))

    def challenger(self, chain: str) -> int | None:
        """Read the alias; see `Ledger`."""
        return self._alias(chain, CHALLENGER)

    def set_challenger(self, chain: str, number: int | None) -> None:
        """Move or remove the alias; see `Ledger`."""
        with translated(f"move the challenger of {chain}"):
            if number is None:
                self.client.delete_registered_model_alias(self._model(chain), CHALLENGER)
            else:
                self.client.set_registered_model_alias(self._model(chain), CHALLENGER, str(number))

    def _alias(self, chain: str, alias: str) -> int | None:
        with translated(f"read the {alias} of {chain}"):
            aliases: dict[str, str] = self.client.get_registered_model(self._model(chain)).aliases
        return int(aliases[alias]) if alias in aliases else None

    def urls(self, chain: str, run_id: str, number: int | None) -> dict[str, str]:
        """Return page addresses; see `Ledger`."""
        base = public(os.environ.get("LINDLEY_MLFLOW_UI", "" if self.embedded else self.uri)).rstrip("/")
        if not base.startswith("http"):
            return {}
        experiment = self.info(run_id).experiment_id
        pages = {"run": f"{base}/#/experiments/{experiment}/runs/{run_id}"}
        if number is not None:
            pages["version"] = f"{base}/#/models/{self._model(chain)}/versions/{number}"
        return pages

    # -- inner ----------------------------------------------------------------------------------------

    def _model(self, chain: str) -> str:
        """Return the name of a chain's registered model."""
        return self._model_prefix + chain

    def _known_experiment(self, chain: str) -> str | None:
        """Return the id of a chain's experiment for reading, asked for once; None if there is none."""
        if chain not in self._experiments:
            found = self.client.get_experiment_by_name(self._experiment_prefix + chain)
            if found is None:
                return None
            self._experiments[chain] = str(found.experiment_id)
        return self._experiments[chain]

    def _experiment(self, chain: str) -> str:
        """Return the id of a chain's experiment, created when it is not there."""
        name = self._experiment_prefix + chain
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            self._home(chain, found).require(chain)  # again: it may have come, or gone, during a fit of hours
            return str(found.experiment_id)
        location = (self.root / paths.FOLDER / chain).as_uri() if self.embedded else None
        create = self.client.create_experiment
        # Refused: another writer was first.
        unless_refused(lambda: create(name, location, _EXPERIMENT_TAGS), RESOURCE_ALREADY_EXISTS)
        return self._experiment(chain)


def _is_dead(run: Any) -> bool:
    """Whether the process that opened a run has ended, or cannot be asked and was silent for hours."""
    lives = process.lives(run.data.tags.get(_WRITER_TAG, ""))
    return lives is False or (lives is None and time.time() * 1000 - run.info.start_time > _DEAD_AFTER)


def _state(run: Any) -> RunState:
    """Read what one run holds."""
    status = RunStatus.__members__.get(run.info.status, RunStatus.KILLED)
    deleted = run.info.lifecycle_stage == LifecycleStage.DELETED
    tags, note = dict(run.data.tags), run.data.tags.get(_NOTE_TAG, "")
    return RunState(status, tags, dict(run.data.metrics), deleted, dict(run.data.params), note)
