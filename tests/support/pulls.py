"""Pulls of the chain ``coins`` from sources of every kind, and processes that die in the middle of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from flows.sequences.pull import pull
from flows.sequences.result import Result
from flows.sequences.steps import Steps
from lindley.workspace import Workspace
from tests.support import amendments, fakes
from tests.support.amendments import NAME, chain_of
from tests.support.fakes import MemoryLedger

SOURCE = """
import dataclasses
from lindley import Snapshot
declaration = dataclasses.replace(declaration, source=Snapshot("rows.csv"{options}){more})
"""
SPLIT = """
def _split(source):
    import pandas as pd
    frame = pd.read_csv(source)
    for ten, rows in frame.groupby(frame["id"] // 10):
        yield f"ten-{ten}", rows
"""


class Place:
    """A working folder with a source of coins: ids with their successes."""

    def __init__(self, steps: Steps, workspace: Workspace, ledger: MemoryLedger) -> None:
        self.steps, self.workspace, self.ledger = steps, workspace, ledger
        self.declare()

    def declare(self, options: str = "", *, split: bool = False) -> None:
        more = ", split=_split" if split else ""
        code = (SPLIT if split else "") + SOURCE.format(options=options, more=more)
        self.declaration = fakes.declare(self.workspace.models, code=code)

    def declare_source(self, source: str) -> None:
        code = f"""
import dataclasses, datetime, lindley
declaration = dataclasses.replace(declaration, source={source})
"""
        self.declaration = fakes.declare(self.workspace.models, code=code)

    def write(self, rows: dict[int, int]) -> None:
        text = "id,k,n\n" + "".join(f"{i},{k},10\n" for i, k in rows.items())
        (self.workspace.root / "rows.csv").write_text(text)

    def pull(self, rows: dict[int, int] | None = None, **options: bool) -> Result:
        if rows is not None:
            self.write(rows)
        return pull(self.steps, self.workspace, NAME, accept_model_change=True, **options)

    def rows(self) -> dict[int, int]:
        """Return what the head counts."""
        found: dict[int, int] = {}
        for link in chain_of(self.ledger).at_head:
            table = amendments.batch_of(self.ledger, self.declaration, link).table
            ids = table["id"].to_pylist()
            assert not set(ids) & set(found)
            found |= dict(zip(ids, table["k"].to_pylist(), strict=True))
        return found


def place_on(place: Place, ledger: MemoryLedger, step: str = "", nth: int = 1) -> Place:
    """Return the place on another ledger, where the process dies at the n-th time that it comes to a step."""
    steps, left = replace(place.steps, open_ledger=lambda _: ledger), nth

    def dies(real: Callable[..., object]) -> Callable[..., object]:
        def call(*given: object, **options: object) -> object:
            nonlocal left
            left -= 1
            if not left:
                raise KeyboardInterrupt
            return real(*given, **options)

        return call

    if step:
        steps = replace(steps, **{step: dies(getattr(steps, step))})
    made = Place.__new__(Place)
    made.steps, made.workspace, made.ledger = steps, place.workspace, ledger
    made.declaration = place.declaration
    return made
