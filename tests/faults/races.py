"""Writers that race for the head of one chain."""

from __future__ import annotations

import time

from lindley.ledger.reading import read_belief
from tests.faults.assessing import Row, assess, expected, off_the_oracle, sequential_digest
from tests.faults.writers import Place, Work, Writer
from tests.support.forks import context

#: The head's mean log odds in Monte Carlo standard errors: beyond it by chance once in 16,000 races.
MOST_ERRORS = 4.0
#: With fewer batches the stand-in fit's normal priors are further off than Monte Carlo error.
ASSESSED_FROM = 24


def race(
    place: Place, case: str, writers: int = 8, each: int = 3, work: Work | None = None
) -> tuple[Row, str]:
    """Let writers with their own batches race; return what was wrong, and what it took in words."""
    place.prepare()
    row = Row("race", case, runs=1)
    started = time.monotonic()
    barrier = context().Barrier(writers)
    batches = {w: range(w * each, (w + 1) * each) for w in range(writers)}
    files = [[place.land(number) for number in mine] for mine in batches.values()]
    running = [Writer(place, paths, work, barrier=barrier) for paths in files]
    done = [writer.done() for writer in running]
    assert all(found is not None for found in done)
    row.seconds = time.monotonic() - started

    numbers = range(writers * each)
    links = assess(place, numbers, row)
    by_digest = {expected(place, number): number for number in numbers}
    order = [by_digest[link.version.batch] for link in links if link.version.batch in by_digest]
    ledger = place.ledger()
    alone = read_belief(ledger, links[-1])[1].matched.digest == sequential_digest(place, order)
    errors = off_the_oracle(place, order)
    # A chain that holds each batch once and says something else than one writer alone was not one line.
    row.forked += not alone
    row.forked += len(numbers) >= ASSESSED_FROM and errors > MOST_ERRORS
    fits = sum(found.fits for found in done if found)
    failures = sum(len(found.failures) for found in done if found)
    versions = len(ledger.versions(place.chain))
    return row, (
        f"{len(links)} links, {versions} versions, {fits} fits, {failures} retries, "
        f"mean {errors:.1f} standard errors off, {'the' if alone else 'NOT THE'} sequential belief"
    )
