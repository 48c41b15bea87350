"""Which earlier batches of a member are fitted again together with its new one, and their rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from lindley.batch.batch import Batch
from lindley.inference.inputs import Step, steps_back
from lindley.ledger.chain import Chain
from lindley.ledger.lineage import read_batches
from lindley.ledger.protocol import Ledger
from lindley.model.declaration import Declaration
from lindley.model.policy import Window
from lindley.panel.key import MemberKey
from lindley.panel.members import member_batch, places_by
from lindley.panel.reading import PanelReader
from lindley.panel.row import MemberRow

#: Rows that a link fits again at most, all its members together: what it reads has a bound.
MOST_AGAIN = 4_000_000


@dataclass(frozen=True)
class Began:
    """Where a member's fit starts.

    Parameters
    ----------
    start
        The row whose belief it starts from; None for the model's own priors, or the population.
    links
        Numbers of the links whose batches are fitted again, oldest first.
    """

    start: MemberRow | None
    links: tuple[int, ...] = ()


def window_of(declaration: Declaration, members: int) -> Window:
    """Return what each of so many members may fit again."""
    window = declaration.policy.window
    return replace(window, rows=min(window.rows, MOST_AGAIN // max(1, members)))


def beginning(reader: PanelReader, before: MemberRow | None, rows: int, window: Window) -> Began:
    """Return where the update of a member starts: as `lindley.ledger.lineage.starting_point` for a chain.

    Parameters
    ----------
    reader
        Reads earlier rows of the member.
    before
        Its newest row; None for a new member.
    rows
        Rows of its new batch.
    window
        What may be fitted again.
    """
    if before is None or before.matched is None:
        return Began(None)
    made: list[Began] = []

    def newest_first() -> Iterator[Step]:
        row: MemberRow | None = before
        while row is not None and row.state is not None:
            step, began = _step(reader, row)
            made.append(began)
            yield step
            row = began.start

    steps = steps_back(newest_first(), rows, window)
    found = Began(before)
    for older in made[:steps]:
        found = Began(older.start, (*older.links, *found.links))
    return found


def _step(reader: PanelReader, row: MemberRow) -> tuple[Step, Began]:
    """Return the step back from a row's belief, and how that came about."""
    state = row.state or {}
    origin, kept = state["origin"], state["kept"]
    start = None if origin["start"] is None else reader.row(origin["start"], row.key)
    before = 0 if start is None or start.state is None else int(start.state["rows"])
    # Behind a prior that other members made is no belief of this one.
    links = () if origin["population"] else tuple(origin["links"])
    step = Step(
        trusted=kept["trusted"],
        batches=len(links),
        rows=int(state["rows"]) - before,
        apart=kept["apart"],
        inlined=kept["inlined"],
    )
    return step, Began(start, links)


def batches_again(
    ledger: Ledger,
    declaration: Declaration,
    chain: Chain,
    wanted: Mapping[MemberKey, Sequence[int]],
    *,
    held: bool = False,
) -> dict[MemberKey, tuple[Batch, ...]]:
    """Return the rows of members in the batches of links, in the order of these links.

    Parameters
    ----------
    wanted
        Numbers of links by member.
    held
        Whether batches that this process read and checked before are taken as they are.

    Raises
    ------
    LedgerCorrupt
        If a batch is missing, unreadable, or has another digest than its version states.
    """
    found: dict[tuple[MemberKey, int], Batch] = {}
    for number in sorted({number for numbers in wanted.values() for number in numbers}):
        (batch,) = read_batches(ledger, declaration, [chain.links[number - 1]], held=held)
        places = places_by(batch.table, declaration.by)
        for key, numbers in wanted.items():
            if number in numbers:
                rows = batch.table.take(places[key]).combine_chunks()
                found[key, number] = member_batch(rows, batch)
    return {key: tuple(found[key, number] for number in numbers) for key, numbers in wanted.items()}
