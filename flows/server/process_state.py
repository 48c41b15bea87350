"""What a flow run leaves behind in a process that goes on: put back, or at least noticed.

Environment, working folder, import path, log handlers and global generators of random numbers are put back.
What cannot be put back safely is compared; a process in which it has changed is to end.
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

from lindley.ledger import client_state

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)
#: Settings that change what is computed. Not all settings: reading one looks for compilers for seconds.
_PYTENSOR = (
    *("floatX", "cast_policy", "mode", "linker", "optimizer", "optimizer_including", "optimizer_excluding"),
    *("numba__fastmath", "numba__vectorize_target", "openmp", "on_opt_error", "on_shape_error"),
    *("compute_test_value", "warn_float64"),
)


@dataclass(frozen=True)
class _Log:
    """How a logger is set."""

    level: int
    handlers: tuple[logging.Handler, ...]
    filters: tuple[Any, ...]
    propagate: bool
    disabled: bool

    @classmethod
    def of(cls, logger: logging.Logger) -> _Log:
        return cls(
            logger.level, tuple(logger.handlers), tuple(logger.filters), logger.propagate, logger.disabled
        )

    def restore(self, logger: logging.Logger) -> None:
        logger.setLevel(self.level)
        logger.handlers[:], logger.filters[:] = self.handlers, self.filters
        logger.propagate, logger.disabled = self.propagate, self.disabled


@dataclass(frozen=True)
class Before:
    """How the process is before a run; made once everything is imported."""

    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    folder: str = field(default_factory=os.getcwd)
    path: list[str] = field(default_factory=lambda: list(sys.path))
    logs: dict[str, _Log] = field(default_factory=lambda: {n: _Log.of(one) for n, one in _loggers().items()})
    rest: dict[str, Any] = field(default_factory=lambda: {name: look() for name, look in _REST.items()})

    def restore(self) -> None:
        """Put back what can be put back; generators start from fresh entropy, as in a new process."""
        if dict(os.environ) != self.environment:
            os.environ.clear()
            os.environ.update(self.environment)
        os.chdir(self.folder)
        sys.path[:] = self.path
        loggers = _loggers()
        for name, log in self.logs.items():
            log.restore(loggers[name])
        random.seed()
        np.random.seed(None)  # noqa: NPY002  (it is the global generator that may have been touched)

    def changed(self) -> list[str]:
        """Return what is not as it was and stays so."""
        return [name for name, look in _REST.items() if look() != self.rest[name]]


def _loggers() -> dict[str, logging.Logger]:
    known = logging.root.manager.loggerDict
    return {"root": logging.root} | {n: one for n, one in known.items() if isinstance(one, logging.Logger)}


def _setting(module: str, read: Callable[[Any], Any]) -> Callable[[], Any]:
    """Return a function that reads a setting of a module; None while the module is not imported."""
    return lambda: read(sys.modules[module]) if module in sys.modules else None


_REST: dict[str, Callable[[], Any]] = {
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
