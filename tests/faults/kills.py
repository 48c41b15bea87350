"""Writers, and the tracking server, that are killed in the middle of their work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from lindley import failpoints
from lindley.ledger.reading import find_chain
from tests.faults.assessing import Row, assess
from tests.faults.writers import Place, Work, Writer, sweep
from tests.support.servers import Service

#: Compares a chain with the numbers of its batches; adds what is wrong to a row.
Check = Callable[[Any, Iterable[int], Row], object]
#: Fail-points that only the first link of a chain comes to.
_AT_GENESIS = ("genesis-run", "claimed")
#: Where a rival's fit is done while the winner lies dead: after these the head has moved.
WINNER = ("versioned", "aliased")
#: Where the tracking server is killed under a writer: before and after each kind of write.
SERVER_AT = (
    "genesis-run",
    "files-written",
    "run-opened",
    "uploading",
    "head-checked",
    "versioned",
    "aliased",
    "listed",
)


def kill(place: Place, name: str, again: int = 0, check: Check = assess) -> Row:
    """Kill a writer at a fail-point, sweep, and say what is wrong with the chain; its chain must be new.

    Parameters
    ----------
    again
        How often this was done before: an upload is then cut off after so many more files.
    check
        Compares the chain with the batches that it should have.
    """
    place.prepare()
    row = Row("kill", name, runs=1)
    first, second = place.land(0, 0), place.land(1, 1)
    if name == "archive-copied":
        second = second.rename(place.root / f"{place.chain}.csv")  # from elsewhere: it is copied, not moved
    if name == "reason-written":
        second.write_text(second.read_text().replace(",10", ",ten"))
    times = f"{name}:{again % 6 + 1}" if name == "uploading" else name
    armed = 0 if name in _AT_GENESIS else 1
    if Writer(place, [first, second], Work(failpoint=times, armed_from=armed)).done() is not None:
        raise AssertionError(f"the writer was not killed at {times}")
    started = time.monotonic()
    sweep(place)
    if name == "archive-copied":
        Writer(place, [second]).done()  # the caller calls again
    if name == "drawn":
        # The link is there and archived: only the next update of the chain looks at it again.
        row.lost += _without_plots(place, 2) != 1
        place.land(2, 2)
        sweep(place)
        row.lost += _without_plots(place, 3) != 0
    row.seconds = time.monotonic() - started
    numbers = {"reason-written": [0], "drawn": [0, 1, 2]}.get(name, [0, 1])
    check(place, numbers, row)
    if name == "reason-written":
        row.lost += _refused(place) != 1
    return row


def _without_plots(place: Place, links: int) -> int:
    """Return how many of the first links have no plots."""
    ledger = place.ledger()
    found = find_chain(ledger, place.chain).links[:links]
    return sum("plots/prior_posterior.png" not in ledger.artifacts(link.version.run_id) for link in found)


def kill_winner(place: Place, name: str) -> Row:
    """Kill the winner of a race while its rival still fits on the old head; the rival completes its work."""
    place.prepare()
    row = Row("kill the winner", name, runs=1)
    first, mine, rivals = place.land(0), place.land(1), place.land(2)
    Writer(place, [first]).done()
    hold = place.root / f"{place.chain}.go"
    rival = Writer(place, [rivals], Work(hold=hold))
    _wait(hold.with_name(hold.name + ".ready"))
    if Writer(place, [mine], Work(failpoint=name)).done() is not None:
        raise AssertionError(f"the winner was not killed at {name}")
    started = time.monotonic()
    hold.touch()
    done = rival.done()
    # It lost: it was fitted again, on the dead writer's link.
    row.lost += done is None or done.status != ["accepted"] or done.fits != 2
    row.undetected += place.ledger().head_hint(place.chain) != 3
    sweep(place)
    row.seconds = time.monotonic() - started
    assess(place, [0, 1, 2], row)
    return row


def kill_server(
    place: Place, server: Service, name: str, pause: float = 0.0, check: Check = assess
) -> tuple[Row, str]:
    """Kill the tracking server under a writer, start it again on the same store, and sweep.

    Parameters
    ----------
    pause
        Seconds between the fail-point and the kill: the writer goes on meanwhile, if it is not 0.
    check
        Compares the chain with the batches that it should have.
    """
    place.prepare()
    case = f"{name} + {pause:.1f} s" if pause else name
    row = Row("kill the server", case, runs=1)
    paths = [place.land(0, 0), place.land(1, 1)]
    writer = Writer(place, paths, Work(pause=name))
    writer.paused()
    if pause:
        writer.go_on()
        time.sleep(pause)
    server.kill()
    started = time.monotonic()
    if not pause:
        writer.go_on()
    server.start()
    done = writer.done()
    assert done is not None
    sweep(place)
    row.seconds = time.monotonic() - started
    check(place, [0, 1], row)
    # A writer that gave up said so; its file was still waiting for the sweep.
    row.undetected += sum(not text.startswith("LedgerUnavailable") for text in done.failures)
    return row, f"{done.status}, {len(done.failures)} gave up"


def every(place: Place, times: int, names: tuple[str, ...] = tuple(failpoints.NAMES)) -> Iterator[Row]:
    """Kill a writer `times` times at every fail-point, each in a chain of its own."""
    for name in names:
        total = Row("kill", name)
        for again in range(times):
            total.add(kill(replace(place, chain=f"{place.chain}-{name}-{again}"), name, again))
        yield total


def _refused(place: Place) -> int:
    """Return how many files are in ``rejected/``; each has its reason beside it."""
    found = [path for path in (place.workspace.rejected / place.chain).iterdir() if path.suffix == ".csv"]
    assert all(path.with_name(f"{path.name}.reason.json").exists() for path in found)
    return len(found)


def _wait(path: Path) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
