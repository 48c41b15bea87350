"""What MLflow's client holds for the whole process. Lindley's own code changes none of it."""

from __future__ import annotations

import mlflow


def client_state() -> tuple[str, str, str]:
    """Return tracking URI, registry URI and the id of the active run, empty if there is none."""
    run = mlflow.active_run()
    return mlflow.get_tracking_uri(), mlflow.get_registry_uri(), run.info.run_id if run else ""
