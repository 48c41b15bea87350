"""Links among an experiment's logged models: entries without files, which name version and record.

MLflow's Models pages and `mlflow.search_logged_models` list these entries. The belief itself stays where the
version has it, below the run: an entry has no second copy of it.
"""

from __future__ import annotations

import json

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.protos.databricks_pb2 import ENDPOINT_NOT_FOUND
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

from lindley import failpoints
from lindley.ledger.mlflow.client import pages
from lindley.ledger.mlflow.failures import unless_refused

#: What an entry says of its link, from the tags of the version.
_SHOWN = ("lindley.chain", "lindley.kind", "lindley.status", "lindley.record")
_TYPE = "lindley"


def show(client: MlflowClient, experiment: str, run_id: str, version: ModelVersion | None = None) -> None:
    """List the version of a run among the logged models, unless it is there.

    Called again after it was cut off, it finds what it made and continues. A server that has no logged models
    (MLflow 2) lists none.

    Parameters
    ----------
    client
        MLflow's.
    experiment, run_id
        Where the run is, and its id.
    version
        The version that was made from the run, where it is known.
    """
    version = version or _version_of(client, run_id)
    held = unless_refused(lambda: of_run(client, experiment, run_id), ENDPOINT_NOT_FOUND)
    if version is None or held is None:
        return
    known = client.get_run(run_id).outputs if held else None
    outputs = known.model_outputs if known else []
    model = held[0] if held else _created(client, experiment, run_id, version)
    failpoints.reach("listed")
    if model.model_id not in [output.model_id for output in outputs]:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    if model.status != LoggedModelStatus.READY:
        client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)


def _version_of(client: MlflowClient, run_id: str) -> ModelVersion | None:
    """Return the first version that was made from a run."""
    found = client.search_model_versions(f"run_id='{run_id}'")
    return min(found, key=lambda one: int(one.version), default=None)


def of_run(client: MlflowClient, experiment: str, run_id: str) -> list[LoggedModel]:
    """Return the entries that a run is the source of, oldest first."""
    condition = f"source_run_id = '{run_id}'"
    found = pages(
        lambda token: client.search_logged_models([experiment], filter_string=condition, page_token=token)
    )
    return sorted(found, key=lambda model: (model.creation_timestamp, model.model_id))


def stated_records(client: MlflowClient, experiment: str, run_id: str) -> dict[str, str]:
    """Return the record digest that each entry of a run states, by the entry's id."""
    found = unless_refused(lambda: of_run(client, experiment, run_id), ENDPOINT_NOT_FOUND)
    return {model.model_id: model.tags.get("lindley.record", "") for model in found or []}


def _created(client: MlflowClient, experiment: str, run_id: str, version: ModelVersion) -> LoggedModel:
    """Make the entry of a version."""
    named = [{"name": version.name, "version": int(version.version)}]
    tags = {name: version.tags[name] for name in _SHOWN if version.tags.get(name)}
    return client.create_logged_model(
        experiment,
        name=version.name.rpartition(".")[2],
        source_run_id=run_id,
        tags=tags | {MLFLOW_MODEL_VERSIONS: json.dumps(named)},
        model_type=_TYPE,
    )
