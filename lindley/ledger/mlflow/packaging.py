"""Package a belief as an MLflow model without pickles."""

from __future__ import annotations

import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from mlflow.models import Model, ModelSignature
from mlflow.pyfunc import save_model
from mlflow.types.schema import AnyType, ColSpec, ParamSchema, ParamSpec, Schema

from lindley.ledger.bundle import version_of
from lindley.ledger.mlflow._compat import without_requirements_check
from lindley.ledger.record import Artifact
from lindley.model.code.distributions import direct_versions
from lindley.model.declaration import Declaration
from lindley.report.numbers import QUANTILES
from lindley.serving.inputs import input_columns
from lindley.serving.source import write_source

# It would log that the example was compared with the signature.
logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)
# It would warn at each link that an environment without pip, as uv makes them, has no version of pip.
logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)

#: What a serving environment needs beside what the model file imports, pinned to what made the belief.
#: Lindley is not among it: its code is in the model.
_REQUIREMENTS = ("pymc", "pytensor", "numba", "numpy", "pandas", "pyarrow", "xarray", "h5netcdf")
#: What a model of a panel imports beside that.
_OF_PANELS = ("lindley.panel.serving.stored",)
_NO_BYTECODE = "This file keeps Python from writing bytecode beside belief_model.py.\n"
_OUTPUTS = ("mean", "sd", *QUANTILES)


def save_belief(
    folder: Path, declaration: Declaration, draws: Path | None, example: pd.DataFrame | None = None
) -> None:
    """Write ``folder/belief``: an MLflow model from code that needs no other file, and not Lindley.

    Parameters
    ----------
    folder
        Holds the model file already, and the archive of the modules that it imports, if there are any.
    declaration, draws
        The chain's declaration, and the file of draws for predictions; None for a panel, whose members are
        added to ``folder/belief/artifacts``.
    example
        A few rows as a prediction takes them.
    """
    columns = {column.name: column.type for column in input_columns(declaration) or ()}
    pins = {name: version_of(name) for name in _REQUIREMENTS}
    pins |= direct_versions(declaration.imports.distributions)
    if not isinstance(declaration.schema, pa.Schema):
        pins["pandera"] = version_of("pandera")
    if draws is None:
        pins["rfc8785"] = version_of("rfc8785")
    files = {"model": folder / Artifact.MODEL} | ({} if draws is None else {"draws": draws})
    if (folder / Artifact.MODULES).is_file():
        files["modules"] = folder / Artifact.MODULES
    with (
        tempfile.TemporaryDirectory(prefix="lindley-") as scratch,
        warnings.catch_warnings(),
        without_requirements_check(),
    ):
        files["lindley"] = Path(scratch) / "lindley.zip"
        write_source(files["lindley"], *(() if draws else _OF_PANELS))
        warnings.simplefilter("ignore")  # MLflow's advice on signatures
        save_model(
            path=str(folder / "belief"),
            python_model=str(Path(__file__).with_name("belief_model.py")),
            artifacts={name: str(path) for name, path in files.items()},
            signature=_signature(declaration),
            input_example=example,
            pip_requirements=[f"{name}=={pins[name]}" for name in sorted(pins)],
            metadata={"chain": declaration.name, "columns": columns},
        )
    _forget_paths(folder / "belief")
    # Loaded from a local store, the code is imported where it lies. A file takes the place of the folder that
    # Python would write bytecode to: what is in the ledger stays as it was registered.
    (folder / "belief" / "__pycache__").write_text(_NO_BYTECODE, encoding="utf-8")


def _forget_paths(belief: Path) -> None:
    """Take out of a saved model where its files were on this machine; MLflow loads without it."""
    model = Model.load(str(belief))
    flavor = model.flavors["python_function"]
    flavor["model_code_path"] = Path(flavor["model_code_path"]).name
    for file in flavor["artifacts"].values():
        file["uri"] = file["path"]
    model.save(str(belief / "MLmodel"))


def _signature(declaration: Declaration) -> ModelSignature:
    """Return inputs (the schema's columns), outputs (summaries) and the seed.

    Inputs have MLflow's type "any", and Lindley checks them: MLflow has no zoned times, decimals, durations,
    times of day and integers with gaps, and refuses whole numbers for real ones. Their types are in the
    metadata.
    """
    inputs = input_columns(declaration)
    given: list[Any] = [ColSpec(AnyType(), column.name, column.required) for column in inputs or ()]
    outputs: list[Any] = [ColSpec("string", "variable"), ColSpec("long", "row")]
    outputs += [ColSpec("double", name) for name in _OUTPUTS]
    return ModelSignature(
        inputs=Schema(given) if given else None,
        outputs=Schema(outputs),
        params=ParamSchema([ParamSpec("seed", "long", 0)]),
    )
