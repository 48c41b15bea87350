"""Package a belief as an MLflow model without pickles."""

from __future__ import annotations

import warnings
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import ModelSignature
from mlflow.pyfunc import save_model
from mlflow.types.schema import ColSpec, ParamSchema, ParamSpec, Schema

from lindley.ledger.mlflow._compat import without_requirements_check
from lindley.model.declaration import Declaration
from lindley.report.numbers import QUANTILES
from lindley.serving.predict import input_columns

#: What a serving environment needs, pinned to what made the belief.
_REQUIREMENTS = ("lindley", "pymc", "pytensor", "numba", "numpy", "pandas", "pyarrow", "xarray", "h5netcdf")
_OUTPUTS = ("mean", "sd", *QUANTILES)


def save_belief(folder: Path, declaration: Declaration, draws: Path, example: pd.DataFrame) -> None:
    """Write ``folder/belief``: an MLflow model from code, with the draws and the chain's model file."""
    with warnings.catch_warnings(), without_requirements_check():
        # MLflow warns that integer columns of a signature hold no missing values; the schema states that too.
        warnings.simplefilter("ignore")
        save_model(
            path=str(folder / "belief"),
            python_model=str(Path(__file__).with_name("belief_model.py")),
            artifacts={"draws": str(draws), "model": str(_as_model_py(declaration, draws.parent))},
            signature=_signature(declaration),
            pip_requirements=list(_requirements()),
            metadata={"chain": declaration.name},
        )


@cache  # what is imported stays when other versions are installed meanwhile
def _requirements() -> tuple[str, ...]:
    return tuple(f"{name}=={version(name)}" for name in _REQUIREMENTS)


def _as_model_py(declaration: Declaration, folder: Path) -> Path:
    """Copy the chain's model file under one fixed name."""
    target = folder / "model.py"
    target.write_text(declaration.source_text, encoding="utf-8")
    return target


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
