"""Seconds by phase: the profile of a run."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

#: Phases in their order; `PLOTS` comes after the link is registered.
READ, VALIDATE, FETCH, BUILD, COMPILE = "read", "validate", "fetch", "build", "compile"
SAMPLE, HINDSIGHT, MATCH, DIAGNOSE, PREDICT = "sample", "hindsight", "match", "diagnose", "predict"
WRITE, LOG, REGISTER, PLOTS, TOTAL = "write", "log", "register", "plots", "total"
PHASES = (
    READ, VALIDATE, FETCH, BUILD, COMPILE, SAMPLE, HINDSIGHT, MATCH, DIAGNOSE, PREDICT, WRITE, LOG, REGISTER,
    PLOTS,
)  # fmt: skip


class Phases:
    """Seconds by phase, for the profile that every run logs.

    Parameters
    ----------
    seconds
        Seconds spent before, by phase: they count in the total.
    """

    def __init__(self, seconds: Mapping[str, float] | None = None) -> None:
        self.seconds: dict[str, float] = dict(seconds or {})
        self._begun = time.perf_counter() - sum(self.seconds.values())

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add the time spent inside to a phase."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.add({name: time.perf_counter() - begun})

    def add(self, seconds: Mapping[str, float]) -> None:
        """Add seconds that another clock measured."""
        for name, value in seconds.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + value

    def total(self) -> float:
        """Return the seconds since the beginning, including those between phases."""
        return time.perf_counter() - self._begun

    def metrics(self, *names: str) -> dict[str, float]:
        """Return the metrics of a run: of the named phases that took place, or of all."""
        return {metric(n): s for n, s in self.seconds.items() if not names or n in names}


def metric(phase: str) -> str:
    """Return the name of the metric that holds a phase's seconds."""
    return f"seconds/{phase}"
