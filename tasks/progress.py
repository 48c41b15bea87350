"""Progress of long work: a Prefect artifact updated at a modest rate, and a terminal when one watches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.logging import get_run_logger

Progress = Callable[[int, int], None]

#: Seconds between two updates of an artifact: each is a request to the Prefect server.
INTERVAL = 1.0

_watcher: ContextVar[Progress | None] = ContextVar("lindley_progress_watcher", default=None)


@contextmanager
def watched(callback: Progress) -> Iterator[None]:
    """Report the progress of fits in this process to `callback` too, while the block runs."""
    token = _watcher.set(callback)
    try:
        yield
    finally:
        _watcher.reset(token)


class ArtifactProgress:
    """A callback ``(done, total)`` that keeps a Prefect progress artifact up to date.

    Progress is decoration: when the server does not take an update, that is logged once and the
    work goes on.

    Parameters
    ----------
    key
        Key of the artifact: lower-case letters, digits and dashes.
    description
        Text beside the bar.
    clock
        Returns seconds; only differences count.
    """

    def __init__(self, key: str, description: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logger = get_run_logger()
        self._watcher = _watcher.get()
        self._last = -INTERVAL
        self._shown = 0.0
        # Typed as if it could be a coroutine, which it is only inside a running event loop.
        artifact = create_progress_artifact(0.0, key=key, description=description)
        self._artifact = artifact if isinstance(artifact, UUID) else None

    def __call__(self, done: int, total: int) -> None:
        """Take note that `done` of `total` units of work are done."""
        if self._watcher is not None:
            self._watcher(done, total)
        percent = round(100.0 * done / total, 1) if total else 100.0
        now = self._clock()
        if percent == self._shown or (now - self._last < INTERVAL and done < total):
            return
        self._last, self._shown = now, percent
        self._update(percent)

    def finish(self) -> None:
        """Show the work as done."""
        if self._shown < 100.0:
            self._shown = 100.0
            self._update(100.0)

    def _update(self, percent: float) -> None:
        if self._artifact is None:
            return
        try:
            update_progress_artifact(self._artifact, percent)
        except Exception as error:  # whatever the client raises, the fit is worth more than its bar
            self._logger.warning("The progress bar stopped: %s", error)
            self._artifact = None
