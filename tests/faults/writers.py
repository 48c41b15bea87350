"""Writers as processes, whose fits are cheap and whose links are genuine; see `tests.support.fakes`.

They do what ``lindley update --direct`` does, but for the turn that writers on one machine wait for: that
one only saves work, and what is tested here must not depend on it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Imported on first use by MLflow and the fit; here, so that the processes need not each do it.
import mlflow.store.artifact.cli
import mlflow.store.model_registry.sqlalchemy_store
import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

from flows.sequences.files import turn, waiting
from flows.sequences.steps import Steps
from flows.sequences.update import update_one
from lindley import failpoints
from lindley.batch.reading import read_batch
from lindley.errors import BatchRefused, LedgerUnavailable, LindleyError
from lindley.ledger.mlflow.store import MlflowLedger
from lindley.ledger.registration import register_link
from lindley.operations.log import log_plan
from lindley.operations.panel.fit import PanelOutcome
from lindley.operations.plan import Outcome, Plan
from lindley.operations.plots import draw_missing
from lindley.workspace import Workspace
from tests.support import fakes, fits
from tests.support.forks import START_SECONDS, context

#: How often a writer tries again what failed for a reason that may pass, as its user would.
TRIES = 30
#: A file that landed has not changed for this long, in seconds: nothing waits for it to settle.
AGE = 300.0


class PlainLedger(MlflowLedger):
    """A ledger whose beliefs cannot be served: MLflow's packaging takes most of the time of a cheap link."""

    package = fakes.MemoryLedger.package


@dataclass(frozen=True)
class Place:
    """A chain, and where it is kept."""

    root: Path
    uri: str
    chain: str = "coins"
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def workspace(self) -> Workspace:
        data = self.root / "data"
        return Workspace(
            self.root, self.root / "models", data / "landing", data / "store", data / "rejected", self.uri
        )

    def ledger(self) -> MlflowLedger:
        """Return another view of the ledger."""
        os.environ.update(self.environment)
        return PlainLedger(self.uri, self.root)

    def prepare(self) -> None:
        """Declare the chain."""
        self.workspace.models.mkdir(parents=True, exist_ok=True)
        fakes.declare(self.workspace.models, self.chain)

    def fit(self, plan: Plan) -> Outcome | PanelOutcome:
        """Fit a plan, cheaply."""
        return fits.fit(plan)

    def write(self, path: Path, number: int, order: int | None = None) -> Path:
        """Write batch `number` to a file: 4 rows of 10 trials each, with its own number of successes."""
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [f"{10 * number + i},{successes(number)},10" for i in range(4)]
        path.write_text("\n".join(["id,k,n", *rows, ""]), encoding="utf-8")
        then = time.time() - AGE + (number if order is None else order)
        os.utime(path, (then, then))
        return path

    def land(self, number: int, order: int | None = None) -> Path:
        """Put batch `number` into the landing folder."""
        name = f"{self.chain}-{number:03d}.csv"
        return self.write(self.workspace.landing / self.chain / name, number, order)


def successes(number: int) -> int:
    """Return the successes in each row of a batch, 3 to 7 of 10: the log odds stay close to normal."""
    return 3 + number * 2 % 5


@dataclass(frozen=True)
class Work:
    """What a writer does to its files beside taking them.

    Parameters
    ----------
    failpoint, armed_from
        Where it dies, from which of its files on.
    pause
        The fail-point at which it says so and waits for an answer, once.
    hold
        Its first fit creates this file with ``.ready`` behind its name, and waits until the file is there.
    jump
        Seconds by which the clock jumps during each fit, as Python's `time` shows it.
    turns
        Whether it waits for the others on its machine before each file, as the command does.
    """

    failpoint: str = ""
    armed_from: int = 0
    pause: str = ""
    hold: Path | None = None
    jump: float = 0.0
    turns: bool = False


@dataclass
class Done:
    """What a writer says of its files: what became of each, its fits, and what failed in between."""

    status: list[str] = field(default_factory=list)
    fits: int = 0
    failures: list[str] = field(default_factory=list)


class Writer:
    """A process that takes files, one after the other."""

    def __init__(
        self, place: Place, paths: list[Path], work: Work | None = None, barrier: Any = None
    ) -> None:
        processes = context()
        self.pipe, theirs = processes.Pipe()
        self.patience = START_SECONDS * max(5.0, len(paths) / 2)
        arguments = (place, paths, work or Work(), barrier, theirs)
        self.process = processes.Process(target=_main, args=arguments)
        self.process.start()
        theirs.close()

    def paused(self) -> None:
        """Wait until it has reached its pause."""
        assert self.pipe.poll(START_SECONDS)
        assert self.pipe.recv() == "paused"

    def go_on(self) -> None:
        self.pipe.send("go on")

    def done(self) -> Done | None:
        """Wait for its end; None when it was killed."""
        try:
            assert self.pipe.poll(self.patience), "a writer hangs"
            found: Done | None = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            found = None
        self.process.join(START_SECONDS)
        assert self.process.exitcode == (0 if found is not None else -9), self.process.exitcode
        return found


def sweep(place: Place) -> Done | None:
    """Take what waits in the landing folder, oldest first, in a process of its own."""
    return Writer(place, [arrival.path for arrival in waiting(place.workspace, place.chain)]).done()


def _main(place: Place, paths: list[Path], work: Work, barrier: Any, pipe: Any) -> None:
    """Take the files; what each came to goes through the pipe in the end."""
    os.environ.update(place.environment)
    if work.pause:
        _pause_at(work.pause, pipe)
    done = Done()
    steps = _steps(place, work, done)
    if barrier is not None:
        barrier.wait(START_SECONDS)
    for number, path in enumerate(paths):
        if number == work.armed_from:
            failpoints.arm(work.failpoint)
        with turn(place.workspace, place.chain) if work.turns else nullcontext():
            done.status.append(_take(steps, place, path, done))
    pipe.send(done)


def _take(steps: Steps, place: Place, path: Path, done: Done) -> str:
    """Take a file; try again what may pass."""
    for _ in range(TRIES):
        try:
            return update_one(steps, place.workspace, place.chain, path).status
        except BatchRefused:
            return "refused"
        except LindleyError as error:
            if not error.transient:
                raise
            done.failures.append(f"{type(error).__name__}: {error}")
            if isinstance(error, LedgerUnavailable) and place.uri.startswith("http"):
                return "failed"  # a server that is down: the next sweep's work
    return "failed"


def _steps(place: Place, work: Work, done: Done) -> Steps:
    def fit(plan: Plan) -> Outcome | PanelOutcome:
        done.fits += 1
        if work.hold is not None and done.fits == 1:
            work.hold.with_name(work.hold.name + ".ready").touch()
            _wait_for(work.hold.exists)
        if work.jump:
            _jump(work.jump)
        return place.fit(plan)

    return Steps(
        open_ledger=lambda _: place.ledger(),
        read=read_batch,
        plan=lambda planner, *given, **options: planner(*given, **options),
        fit=fit,
        log=log_plan,
        register=register_link,
        draw=draw_missing,
        announce=lambda *_: None,
        publish=lambda *_: None,
        notify=lambda _: None,
    )


def _pause_at(name: str, pipe: Any) -> None:
    """Let the process stop once at a fail-point, say so, and wait."""

    def reach(place: str) -> None:
        if place == name:
            failpoints.reach = _reach
            pipe.send("paused")
            pipe.recv()

    _reach, failpoints.reach = failpoints.reach, reach


def _jump(seconds: float) -> None:
    """Let this process's clock jump; a writer is a process of its own, which ends with it."""
    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() + seconds
    time.time_ns = lambda: now_ns() + int(seconds * 1e9)


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
