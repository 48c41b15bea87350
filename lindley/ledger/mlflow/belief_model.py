"""The registered belief as an MLflow model "from code": this file is stored with every version.

No pickle: MLflow runs the file when the model is loaded, and it reads plain netCDF and Python source.
"""

from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from lindley.model.declaration import load_file
from lindley.serving.predict import predict


class BeliefModel(PythonModel):
    """Posterior predictive summaries for new inputs.

    `predict` takes rows as in a batch (observed columns may be missing) and returns columns variable,
    row, mean, sd, q05, q25, q50, q75, q95. The parameter ``seed`` sets the predictive draws' seed.
    """

    def load_context(self, context: Any) -> None:
        """Load the draws and the chain's model file."""
        self.declaration = load_file(Path(context.artifacts["model"]))
        with xr.open_dataset(context.artifacts["draws"], engine="h5netcdf") as draws:
            self.draws = draws.load()

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Summarise the posterior predictive distribution at the inputs."""
        seed = int((params or {}).get("seed", 0))
        return predict(self.draws, self.declaration, model_input, seed=seed)


set_model(BeliefModel())
