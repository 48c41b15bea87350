"""Packing a belief as an MLflow model without pickles."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import ModelSignature
from mlflow.pyfunc import save_model
from mlflow.types.schema import ColSpec, ParamSchema, ParamSpec, Schema
from mlflow.utils import environment

from lindley.model.declaration import Declaration
from lindley.report.numbers import QUANTILES
from lindley.serving.predict import input_columns

#: What a serving environment needs, pinned to what made the belief.
_REQUIREMENTS = ("lindley", "pymc", "pytensor", "numba", "numpy", "pandas", "pyarrow", "xarray", "h5netcdf")
_OUTPUTS = ("mean", "sd", *QUANTILES)


def save_belief(folder: Path, declaration: Declaration, draws: Path, example: pd.DataFrame) -> None:
    """Write ``folder/belief``: an MLflow model from code, with the draws and the chain's model file."""
    with warnings.catch_warnings(), _pins_taken_at_their_word():
        # MLflow warns of integer columns in a signature (no missing values): the schema says so itself.
        warnings.simplefilter("ignore")
        save_model(
            path=str(folder / "belief"),
            python_model=str(Path(__file__).with_name("belief_model.py")),
            artifacts={"draws": str(draws), "model": str(_as_model_py(declaration, draws.parent))},
            signature=_signature(declaration),
            pip_requirements=list(_requirements()),
            metadata={"chain": declaration.name},
        )


@contextmanager
def _pins_taken_at_their_word() -> Iterator[None]:
    """Keep MLflow from holding the pins against what is installed, which is where they were read.

    It would list the files of every installed distribution for that, once in each process: a tenth of the
    time that an update in a new process takes.
    """
    name = "warn_dependency_requirement_mismatches"
    check = getattr(environment, name, None)
    if check is None:  # another version, which may not need it
        yield
        return
    setattr(environment, name, lambda _requirements: None)
    try:
        yield
    finally:
        setattr(environment, name, check)


@cache  # what is imported stays, whatever is installed meanwhile
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
