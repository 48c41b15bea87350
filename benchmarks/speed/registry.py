"""The registry of the rivals: the article's logging, in as few requests as MLflow allows."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr
from arviz_stats import summary
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

HEAD = "head"


class Registry:
    """An MLflow registry on SQLite with one registered model.

    Parameters
    ----------
    folder
        Holds database and artifacts; created if missing.
    name
        Name of the registered model and of the experiment.
    """

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.client, self.name = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}"), name
        known = self.client.get_experiment_by_name(name)
        if known is None:
            self.experiment = self.client.create_experiment(name, (folder / "mlartifacts").as_uri())
            self.client.create_registered_model(name)
        else:
            self.experiment = known.experiment_id

    def head_trace(self) -> xr.DataTree | None:
        """Return the trace of the newest version; None without versions."""
        if not self.client.get_registered_model(self.name).aliases:
            return None
        version = self.client.get_model_version_by_alias(self.name, HEAD)
        with tempfile.TemporaryDirectory() as scratch:
            path = self.client.download_artifacts(str(version.run_id), "trace.nc", scratch)
            with xr.open_datatree(path, engine="h5netcdf") as tree:
                return tree.load()

    def log(self, trace: xr.DataTree, parameters: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Log a fit and register it as the newest version."""
        table = summary(trace, round_to="none")
        metrics = {
            "rhat_max": float(table["r_hat"].max()),
            "ess_bulk_min": float(table["ess_bulk"].min()),
            "ess_tail_min": float(table["ess_tail"].min()),
            "divergences": float(trace["sample_stats"]["diverging"].sum()),
        }
        run = self.client.create_run(self.experiment, run_name=f"{self.name} {tags.get('data version', '')}")
        now = int(time.time() * 1000)
        self.client.log_batch(
            run.info.run_id,
            [Metric(name, value, now, 0) for name, value in metrics.items()],
            [Param(name, str(value)) for name, value in parameters.items()],
            [RunTag(name, value) for name, value in tags.items()],
        )
        with tempfile.TemporaryDirectory() as scratch:
            trace.to_netcdf(Path(scratch) / "trace.nc", engine="h5netcdf")
            table.to_csv(Path(scratch) / "summary.csv")
            self.client.log_artifacts(run.info.run_id, scratch)
        version = self.client.create_model_version(
            self.name, str(run.info.artifact_uri), run.info.run_id, await_creation_for=0
        )
        self.client.set_registered_model_alias(self.name, HEAD, version.version)
        self.client.set_terminated(run.info.run_id)
