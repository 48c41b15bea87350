"""What a flow run changes in a process that outlives it: restored, or at least detected.

Environment, working folder, import path, log handlers and global random number generators are restored. What
cannot be restored safely is compared; a process in which it has changed must end.
"""

from __future__ import annotations

import locale
import logging
import os
import random
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lindley.ledger.backend import client_state

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)
#: Settings that change what is computed. Not all settings: reading one looks for compilers for seconds.
_PYTENSOR = (
    *("floatX", "cast_policy", "mode", "linker", "optimizer", "optimizer_including", "optimizer_excluding"),
    *("numba__fastmath", "numba__vectorize_target", "openmp", "on_opt_error", "on_shape_error"),
    *("compute_test_value", "warn_float64"),
)


def _log_state(logger: logging.Logger) -> dict[str, Any]:
    """Return how a logger is set; the lists are copies."""
    lists = {"handlers": list(logger.handlers), "filters": list(logger.filters)}
    return lists | {name: getattr(logger, name) for name in ("level", "propagate", "disabled")}


@dataclass(frozen=True)
class Before:
    """The state of the process before a run; made once everything is imported."""

    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    folder: str = field(default_factory=os.getcwd)
    path: list[str] = field(default_factory=lambda: list(sys.path))
    logs: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {name: _log_state(logger) for name, logger in _loggers().items()}
    )
    compared: dict[str, Any] = field(
        default_factory=lambda: {name: read() for name, read in _COMPARED.items()}
    )

    def restore(self) -> None:
        """Restore what can be restored; generators are seeded from fresh entropy, as in a new process."""
        if dict(os.environ) != self.environment:
            os.environ.clear()
            os.environ.update(self.environment)
        os.chdir(self.folder)
        sys.path[:] = self.path
        loggers = _loggers()
        for name, state in self.logs.items():
            logger = loggers[name]
            logger.setLevel(state["level"])
            logger.handlers[:], logger.filters[:] = state["handlers"], state["filters"]
            logger.propagate, logger.disabled = state["propagate"], state["disabled"]
        random.seed()
        np.random.seed(None)  # noqa: NPY002  (a run may have seeded the global generator)

    def changed(self) -> list[str]:
        """Return the names of what differs from before and is not restored."""
        return [name for name, read in _COMPARED.items() if read() != self.compared[name]]


def _loggers() -> dict[str, logging.Logger]:
    known = logging.root.manager.loggerDict
    return {"root": logging.root} | {n: one for n, one in known.items() if isinstance(one, logging.Logger)}


def _setting(module: str, read: Callable[[Any], Any]) -> Callable[[], Any]:
    """Return a function that reads a setting of a module; None while the module is not imported."""
    return lambda: read(sys.modules[module]) if module in sys.modules else None


_COMPARED: dict[str, Callable[[], Any]] = {
    "signal handlers": lambda: [signal.getsignal(number) for number in _SIGNALS],
    "locale": lambda: locale.setlocale(locale.LC_ALL),
    "numpy.errstate": np.geterr,
    "numpy.printoptions": np.get_printoptions,
    "pytensor.config": _setting(
        "pytensor", lambda module: [getattr(module.config, n, None) for n in _PYTENSOR]
    ),
    "matplotlib.rcParams": _setting("matplotlib", lambda module: dict(module.rcParams)),
    "MLflow's server, registry or active run": client_state,
}
