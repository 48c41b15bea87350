"""Days on which much comes at once, or the clock is set: nothing is lost, doubled or stuck."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

from tests.faults.assessing import Row, assess
from tests.faults.races import race
from tests.faults.writers import Place, Work, Writer

DAY = 86_400.0
#: Files of one chain, and chains, that come at once.
FILES, CHAINS = 200, 30


def clock(place: Place, jump: float) -> Row:
    """Let the clock jump during each fit of a writer, and another writer with the right clock go on."""
    name = "forward" if jump > 0 else "back"
    place = replace(place, chain=f"clock-{name}")
    place.prepare()
    row, started = Row("clock", f"a day {name} during each update", runs=1), time.monotonic()
    for numbers, work in (([0, 1, 2], Work(jump=jump)), ([3, 4], Work())):
        done = Writer(place, [place.land(number) for number in numbers], work).done()
        assert done is not None
        row.undetected += sum(status != "accepted" for status in done.status)
    assess(place, range(5), row)
    row.seconds = time.monotonic() - started
    return row


def files(place: Place, count: int = FILES) -> Row:
    """Let many files of one chain come at once, taken by four writers that take turns."""
    case = f"{count} files of a chain at once"
    row, _ = race(replace(place, chain="files"), case, 4, count // 4, Work(turns=True))
    return replace(row, test="load")


def chains(place: Place, count: int = CHAINS) -> Row:
    """Let two files of each of many chains come at once, with a writer for each chain."""
    row, started = Row("load", f"{count} chains at once", runs=1), time.monotonic()
    places = [replace(place, chain=f"chain-{number}") for number in range(count)]
    for one in places:
        one.prepare()
    running = [Writer(one, [one.land(0), one.land(1)]) for one in places]
    for writer in running:
        done = writer.done()
        assert done is not None
        row.undetected += sum(status != "accepted" for status in done.status)
    for one in places:
        assess(one, range(2), row)
    row.seconds = time.monotonic() - started
    return row


def every(place: Place) -> Iterator[Row]:
    """Try all of it."""
    yield clock(place, DAY)
    yield clock(place, -DAY)
    yield chains(place)
    yield files(place)
