"""What Lindley uses of MLflow's internals; tests/lindley/ledger/mlflow/test_compat.py names what is gone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.utils import environment

_turn = threading.Lock()
_CHECK = "warn_dependency_requirement_mismatches"


@contextmanager
def without_requirements_check() -> Iterator[None]:
    """Keep MLflow from comparing a model's pins with the installed distributions, from which they were read.

    For that comparison MLflow lists the files of every installed distribution, once in each process: a tenth
    of the time that an update in a new process takes. It offers no switch. A version without the function
    compares.
    """
    with _turn:  # threads that replace and restore in turns would restore the replacement
        check = getattr(environment, _CHECK, None)
        if check is None:
            yield
            return
        setattr(environment, _CHECK, lambda _requirements: None)
        try:
            yield
        finally:
            setattr(environment, _CHECK, check)
