"""Parameters and metrics, and their names, as MLflow takes them."""

from __future__ import annotations

import posixpath
import re
import time
from collections.abc import Mapping

from mlflow.entities import Metric

from lindley.ledger.record import digest

#: Characters of a key at most.
KEY_CHARACTERS = 250
#: MLflow's limit of the characters of a parameter.
_PARAM_CHARACTERS = 6000
#: Names that stay readable: words, or a variable with the labels of one of its elements.
_READABLE = re.compile(r"[\w\-][\w\- /]*(\[[\w\- ]+(, [\w\- ]+)*\])?")


def key(name: str) -> str:
    """Return a name that MLflow accepts as a key; two names never give the same one.

    ``beta[north, x]`` becomes ``beta.north.x``; any other name that must change ends in a digest.
    """
    if _READABLE.fullmatch(name) and posixpath.normpath(name) == name and len(name) <= KEY_CHARACTERS:
        return name.removesuffix("]").replace("[", ".").replace(", ", ".")
    # MLflow takes keys for paths: no empty, "." or ".." part is allowed.
    parts = [part.strip(". ") for part in re.sub(r"[^\w\-. /]", ".", name).split("/")]
    plain = "/".join(part for part in parts if part)
    return f"{plain[: KEY_CHARACTERS - 50]}.{digest(name.encode('utf-8', 'backslashreplace'))[:16]}"


def texts(params: Mapping[str, str]) -> dict[str, str]:
    """Return parameters under the names, and of the length, that MLflow keeps."""
    return {key(name): str(value)[:_PARAM_CHARACTERS] for name, value in params.items()}


def numbers(values: Mapping[str, float]) -> dict[str, float]:
    """Return metrics under the names that MLflow keeps."""
    return {key(name): float(value) for name, value in values.items()}


def metrics(values: Mapping[str, float]) -> list[Metric]:
    """Return metrics as MLflow takes them."""
    now = int(time.time() * 1000)
    return [Metric(name, value, now, 0) for name, value in numbers(values).items()]
