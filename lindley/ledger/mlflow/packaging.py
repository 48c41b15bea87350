"""Package a belief as an MLflow model without pickles."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from mlflow.models import ModelSignature
from mlflow.pyfunc import save_model
from mlflow.types.schema import ColSpec, ParamSchema, ParamSpec, Schema

from lindley.ledger.bundle import version_of
from lindley.ledger.mlflow._compat import without_requirements_check
from lindley.ledger.record import Artifact
from lindley.model.declaration import Declaration
from lindley.report.numbers import QUANTILES
from lindley.serving.predict import input_columns

#: What a serving environment needs, pinned to what made the belief.
_REQUIREMENTS = ("lindley", "pymc", "pytensor", "numba", "numpy", "pandas", "pyarrow", "xarray", "h5netcdf")
_OUTPUTS = ("mean", "sd", *QUANTILES)


def save_belief(folder: Path, declaration: Declaration, draws: Path) -> None:
    """Write ``folder/belief``: an MLflow model from code, with the draws and the model file in ``folder``."""
    with warnings.catch_warnings(), without_requirements_check():
        # MLflow warns that integer columns of a signature hold no missing values; the schema states that too.
        warnings.simplefilter("ignore")
        save_model(
            path=str(folder / "belief"),
            python_model=str(Path(__file__).with_name("belief_model.py")),
            artifacts={"draws": str(draws), "model": str(folder / Artifact.MODEL)},
            signature=_signature(declaration),
            pip_requirements=[f"{name}=={version_of(name)}" for name in _REQUIREMENTS],
            metadata={"chain": declaration.name},
        )


def _signature(declaration: Declaration) -> ModelSignature:
    """Return inputs (the schema's columns), outputs (summaries) and the seed."""
    columns: list[Any] = [
        ColSpec(kind, name, required) for name, kind, required in input_columns(declaration)
    ]
    outputs: list[Any] = [ColSpec("string", "variable"), ColSpec("long", "row")]
    outputs += [ColSpec("double", name) for name in _OUTPUTS]
    return ModelSignature(
        inputs=Schema(columns),
        outputs=Schema(outputs),
        params=ParamSchema([ParamSpec("seed", "long", 0)]),
    )
