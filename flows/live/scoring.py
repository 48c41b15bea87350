"""The scoring protocol of MLflow's model servers: requests as frames, answers as JSON."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from pydantic_core import from_json, to_json

from lindley.serving.rows import Rows

#: The keys under which a request may have its rows, one of them.
FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_BESIDE = {"params", "signature_name"}
_LARGEST_SEED = 2**63


class RequestRefused(Exception):
    """A request that cannot be answered: the status and one sentence on what the client can do.

    Parameters
    ----------
    status
        HTTP's.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Scored:
    """What a request asks for.

    Parameters
    ----------
    rows
        The inputs.
    seed
        Seed of the predictive draws.
    """

    rows: Rows | pd.DataFrame
    seed: int = 0


def read_request(content_type: str, body: bytes, missing: Sequence[str] = ()) -> Scored:
    """Read the body of a request to ``/invocations``.

    Parameters
    ----------
    content_type
        The header of that name.
    body
        JSON, or CSV with a header line.
    missing
        Spellings of null in CSV beside the empty field.

    Raises
    ------
    RequestRefused
        If it is neither, or has no rows of columns with names.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "text/csv":
        return Scored(_csv(body, missing))
    if kind not in ("application/json", ""):
        raise RequestRefused(415, f"Send rows as application/json or text/csv, not as {kind[:80]!r}")
    try:
        held = _json(body)
    except (ValueError, RecursionError) as error:
        raise RequestRefused(400, f"The body is no JSON: {str(error)[:200]}") from error
    if not isinstance(held, dict):
        raise RequestRefused(400, f"The body is not a JSON object with one of the keys {', '.join(FORMS)}")
    forms = [name for name in FORMS if name in held]
    if len(forms) != 1:
        raise RequestRefused(
            400, f"The body has to have one of the keys {', '.join(FORMS)}, not {len(forms)}"
        )
    further = set(held) - {*forms, *_BESIDE}
    if further:
        raise RequestRefused(400, f"The body has an unknown key {min(further)[:80]!r}")
    return Scored(_rows(forms[0], held[forms[0]]), _seed(held.get("params")))


def _json(body: bytes) -> Any:
    """Read JSON; what the quick reader refuses, Python's own reads, or says what is wrong with it."""
    try:
        return from_json(body)
    except ValueError:
        return json.loads(body)


def predictions(parts: Sequence[Mapping[str, Any]], identity: Mapping[str, Any]) -> bytes:
    """Return an answer: one record for each predicted value, and where it comes from.

    Parameters
    ----------
    parts
        Columns by name for each variable (see `lindley.serving.predict.Predictor.columns`).
    identity
        Names chain, link, version and record.
    """
    records: list[dict[str, Any]] = []
    for part in parts:
        columns = {name: values for name, values in part.items() if name != "variable"}
        lists = [
            values.tolist() if hasattr(values, "tolist") else list(values) for values in columns.values()
        ]
        head, names = {"variable": part["variable"]}, list(columns)
        records += [head | dict(zip(names, row, strict=True)) for row in zip(*lists, strict=True)]
    return answer({"predictions": records, "lindley": dict(identity)})


def answer(value: Any) -> bytes:
    """Return a value as JSON; what is not a finite number is null."""
    return to_json(value, inf_nan_mode="null", fallback=_spelled)


def _spelled(value: Any) -> Any:
    """Spell what JSON has no type for: missing values are null, everything else is text."""
    missing = pd.isna(value)
    return None if isinstance(missing, bool) and missing else str(value)


def _csv(body: bytes, missing: Sequence[str]) -> pd.DataFrame:
    """Read CSV as text; the schema reads the values, as those of a batch."""
    try:
        return pd.read_csv(
            io.BytesIO(body), dtype=str, keep_default_na=False, na_values=["", *missing], encoding="utf-8"
        )
    except (ValueError, pd.errors.ParserError) as error:
        raise RequestRefused(400, f"The body is no CSV with a header line: {str(error)[:200]}") from error


def _rows(form: str, held: Any) -> Rows | pd.DataFrame:
    """Return the rows of one form."""
    try:
        if form == "dataframe_split":
            if not isinstance(held, dict) or set(held) - {"index"} != {"columns", "data"}:
                raise ValueError("an object with the keys columns and data")
            return pd.DataFrame(held["data"], columns=held["columns"])
        if isinstance(held, dict) and form != "dataframe_records":
            return Rows({name: v if isinstance(v, list) else [v] for name, v in held.items()})
        if not isinstance(held, list) or not all(isinstance(row, dict) for row in held):
            raise ValueError("a list of objects, one a row, with the names of the columns")
        names = dict.fromkeys(name for row in held for name in row)
        # A value that a row does not have is missing.
        return Rows({name: [row.get(name) for row in held] for name in names})
    except (ValueError, TypeError, LookupError) as error:
        raise RequestRefused(400, f"{form} has to hold {str(error)[:200]}") from error


def _seed(params: Any) -> int:
    """Return the seed among the parameters of a request."""
    if params is None:
        return 0
    if not isinstance(params, dict) or set(params) - {"seed"}:
        raise RequestRefused(400, "params has to be an object with no other key than seed")
    seed = params.get("seed", 0)
    whole = isinstance(seed, int | float) and not isinstance(seed, bool) and math.isfinite(seed)
    if not whole or int(seed) != seed or not 0 <= seed < _LARGEST_SEED:
        raise RequestRefused(400, "seed has to be a whole number from 0 to 2^63 - 1")
    return int(seed)
