"""Cases of the fidelity benchmark: a model, its batches in order, the reference posterior of all rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from lindley.errors import LindleyError
from lindley.model.declaration import Declaration, load_file

MODELS = Path(__file__).parent / "models"
#: The reference cases; its README states their origin and licence.
CASES = Path(__file__).parent / "posteriordb"
#: Files of a case.
FILES = ("data.parquet", "spec.json", "reference.json")
#: Families whose posterior is close to normal once a batch determines it; all others are hard.
REGULAR = (
    "gaussian linear regression",
    "logistic regression",
    "poisson regression",
    "binomial regression",
)


class CaseRefused(LindleyError):
    """A case folder that the benchmark cannot use."""


@dataclass(frozen=True)
class Reference:
    """The reference posterior of all rows, in marginals and correlations.

    Parameters
    ----------
    names
        Parameters in the reference's order, e.g. ``beta[1]``; scalars without brackets.
    mean, sd, q05, q95
        Arrays [parameter].
    correlation
        Array [parameter, parameter].
    """

    names: tuple[str, ...]
    mean: np.ndarray
    sd: np.ndarray
    q05: np.ndarray
    q95: np.ndarray
    correlation: np.ndarray


@dataclass(frozen=True)
class Case:
    """One case of the benchmark.

    Parameters
    ----------
    name
        The folder's name.
    declaration
        Declaration of the chain.
    batches
        Frames of the declared columns, oldest first.
    reference
        Posterior of all rows, with which the chain's last one is compared.
    regular
        Whether the model is a plain regression; hierarchies, mixtures, ODEs and curves are hard.
    """

    name: str
    declaration: Declaration
    batches: tuple[pd.DataFrame, ...]
    reference: Reference
    regular: bool


def load_cases(folder: Path, only: Sequence[str] | None = None) -> list[Case]:
    """Load the cases that are subfolders of `folder`, sorted by name.

    Parameters
    ----------
    folder
        Holds one subfolder per case, as README.md beside this file describes. Subfolders without the three
        files of a case are left out.
    only
        Names of the cases to load; by default all. Executes the cases' model files.

    Raises
    ------
    CaseRefused
        If the folder holds no case or lacks a requested one, or a case's files contradict each other.
    DeclarationRefused
        If a model file does not define exactly one declaration.
    """
    folder = Path(folder)
    found = {path.parent.name: path.parent for path in sorted(folder.glob(f"*/{FILES[0]}")) if _is_case(path)}
    unknown = sorted(set(only or ()) - set(found))
    if not found or unknown:
        raise CaseRefused(
            f"The folder {folder.name} does not hold the requested cases",
            expected=f"a subfolder {unknown[0] if unknown else 'per case'} with {', '.join(FILES)}",
            found=", ".join(found) or "no case",
            todo="correct the folder or the names, or write the case (benchmarks/fidelity/README.md)",
        )
    chosen = found if only is None else {name: path for name, path in found.items() if name in only}
    return [_load_case(path) for path in chosen.values()]


def model_file(folder: Path) -> Path:
    """Return the model file of a case: its own if there is one, else the benchmark's by its name.

    Raises
    ------
    CaseRefused
        If there is none, or the folder holds several of which none is called model.py.
    """
    own = [folder / "model.py"] if (folder / "model.py").is_file() else sorted(folder.glob("*.py"))
    candidates = own or [path for path in [MODELS / f"{folder.name}.py"] if path.is_file()]
    if len(candidates) != 1:
        raise CaseRefused(
            f"The case {folder.name} has no model" if not own else f"The case {folder.name} has many models",
            expected=f"model.py or a single other .py file in it, or {MODELS.name}/{folder.name}.py",
            found=", ".join(path.name for path in own) or "none of these",
            todo="write the case's model with one lindley.Declaration, or name the one to use model.py",
        )
    return candidates[0]


def _is_case(data: Path) -> bool:
    return all((data.parent / name).is_file() for name in FILES)


def _load_case(folder: Path) -> Case:
    spec = _read_json(folder / "spec.json")
    declaration = load_file(model_file(folder))
    data = pd.read_parquet(folder / "data.parquet")
    if "row" not in data:
        data.insert(0, "row", np.arange(len(data), dtype="int64"))
    columns = _columns(folder.name, declaration, data)
    return Case(
        name=folder.name,
        declaration=declaration,
        batches=tuple(rows[columns].reset_index(drop=True) for rows in _cut(folder.name, data, spec)),
        reference=load_reference(folder),
        regular=_is_regular(spec),
    )


def regular_case(folder: Path) -> bool:
    """Whether the case in `folder` declares itself a plain regression; reads only its ``spec.json``.

    Raises
    ------
    CaseRefused
        If that cannot be read.
    """
    return _is_regular(_read_json(folder / "spec.json"))


def _is_regular(spec: dict[str, Any]) -> bool:
    return str(spec.get("family", "")).lower().startswith(REGULAR)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CaseRefused(
            f"The case {path.parent.name} cannot be read",
            expected=f"JSON in {path.name}",
            found=str(error),
            todo="mend the file",
        ) from error
    return dict(content)


def _columns(name: str, declaration: Declaration, data: pd.DataFrame) -> list[str]:
    """Return the declared columns, all of which the data must have."""
    if not isinstance(declaration.schema, pa.Schema):
        raise CaseRefused(
            f"The model of the case {name} was refused",
            expected="a pyarrow.Schema, which states the columns and their order",
            found=type(declaration.schema).__name__,
            todo="declare schema=pa.schema([...])",
        )
    missing = [column for column in declaration.schema.names if column not in data]
    if missing:
        raise CaseRefused(
            f"The data of the case {name} does not fit its model",
            expected=f"the columns {', '.join(declaration.schema.names)}",
            found=f"none called {', '.join(missing)}",
            todo="correct the model's schema or the data",
        )
    return list(declaration.schema.names)


def _cut(name: str, data: pd.DataFrame, spec: dict[str, Any]) -> list[pd.DataFrame]:
    """Cut the rows by the split ``original`` or else the first one, or by the column `batch`."""
    splits = spec.get("splits") or {}
    if not splits:
        if "batch" not in data:
            raise CaseRefused(
                f"The case {name} does not define its batches",
                expected="splits in spec.json, or a column batch in data.parquet",
                found="neither",
                todo='write "splits": {"original": {"bounds": [0, ..., rows]}}',
            )
        return [rows for _, rows in data.groupby("batch", sort=True)]
    split = splits.get("original") or next(iter(splits.values()))
    bounds = [int(bound) for bound in split["bounds"]]
    order = split.get("perm") or range(len(data))
    if sorted(order) != list(range(len(data))) or not _covers(bounds, len(data)):
        raise CaseRefused(
            f"The split of the case {name} was refused",
            expected=f"bounds that rise from 0 to {len(data)}, and a perm (if any) with every row once",
            found=f"bounds {bounds[:3]} ... {bounds[-1:]}, {len(order)} rows in order",
            todo="correct the split in spec.json",
        )
    ordered = data.iloc[list(order)]
    return [ordered.iloc[start:stop] for start, stop in pairwise(bounds)]


def _covers(bounds: list[int], rows: int) -> bool:
    """Whether cumulative bounds cut all rows into batches that are not empty."""
    return len(bounds) > 1 and (bounds[0], bounds[-1]) == (0, rows) and bounds == sorted(set(bounds))


def load_reference(folder: Path) -> Reference:
    """Return the reference of the case in `folder`, in the order of its `param_order`.

    Raises
    ------
    CaseRefused
        If it cannot be read or lacks a field.
    """
    name, content = folder.name, _read_json(folder / "reference.json")
    try:
        names = tuple(content["param_order"])
        marginal = {
            key: np.array([content["params"][parameter][key] for parameter in names], dtype=float)
            for key in ("mean", "sd", "q05", "q95")
        }
        correlation = np.array(content["corr"], dtype=float)
    except (KeyError, TypeError, ValueError) as error:
        raise _bad_reference(name, f"{type(error).__name__}: {error}") from error
    if correlation.shape != (len(names), len(names)):
        raise _bad_reference(name, f"corr of shape {correlation.shape} for {len(names)} parameters")
    return Reference(names=names, correlation=correlation, **marginal)


def _bad_reference(name: str, found: str) -> CaseRefused:
    return CaseRefused(
        f"The reference of the case {name} was refused",
        expected="param_order, params with mean, sd, q05 and q95 of each, and their corr",
        found=found,
        todo="complete reference.json as benchmarks/fidelity/README.md describes",
    )
