"""The registered belief as an MLflow model "from code": this file is stored with every version.

No pickle: MLflow runs the file when the model is loaded, and it reads plain netCDF and Python source. Where
Lindley is not installed it takes the code that is stored beside it.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr
from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel


class InputsRefused(MlflowException):
    """Inputs that a belief cannot predict for: over HTTP an answer with status 400 and this message."""

    def __init__(self, message: str) -> None:
        super().__init__(message, INVALID_PARAMETER_VALUE)

    @property
    def message(self) -> str:
        """The message. MLflow's server would put all rows of the request in front of it."""
        return str(self)

    @message.setter
    def message(self, value: str) -> None:
        pass


def _fetched(run_id: str, path: str, folder: Path) -> Path:
    """Fetch a file of another link's run."""
    return Path(download_artifacts(run_id=run_id, artifact_path=path, dst_path=str(folder)))


class BeliefModel(PythonModel):
    """Posterior predictive summaries for new inputs.

    `predict` takes rows as in a batch (observed columns and the row key may be missing) and returns columns
    variable, row, those of the row key that were given, mean, sd, q05, q25, q50, q75, q95. The parameter
    ``seed`` sets the predictive draws' seed. The rows of a panel have the columns of its key, and are
    predicted each by its member. Any number of threads may call it.
    """

    def load_context(self, context: Any) -> None:
        """Load the draws and the chain's model file."""
        if find_spec("lindley") is None:
            sys.path.append(context.artifacts["lindley"])
        from lindley.model.declaration import load_stored  # found only now, where it is not installed
        from lindley.serving.predict import Predictor

        self.predictor: Any
        # Modules that the model imports: as they were stored, whatever is installed here.
        modules = context.artifacts.get("modules")
        declaration = load_stored(Path(context.artifacts["model"]), Path(modules) if modules else None)
        if "draws" not in context.artifacts:  # a panel: rows are routed to members by their key
            stored = import_module("lindley.panel.serving.stored")
            self.predictor = stored.predictor(Path(context.artifacts["model"]).parent, declaration, _fetched)
            return
        with xr.open_dataset(context.artifacts["draws"], engine="h5netcdf") as draws:
            self.predictor = Predictor(draws.load(), declaration)

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Summarise the posterior predictive distribution at the inputs."""
        from lindley.errors import LindleyError  # see `load_context`

        seed = int((params or {}).get("seed", 0))
        try:
            return self.predictor.predict(model_input, seed=seed)
        except LindleyError as error:
            raise InputsRefused(str(error)) from error


set_model(BeliefModel())
