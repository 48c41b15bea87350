"""Writers of a panel as processes: their fits are genuine, done once and then remembered by their seed."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lindley.inference.members.fitting import fit_member
from lindley.inference.members.result import MemberFit
from lindley.inference.members.task import MemberOptions, MemberTask
from lindley.ledger.history import find_link
from lindley.ledger.reading import find_chain
from lindley.model.declaration import Declaration
from lindley.operations.panel.fit import PanelOutcome, fit_panel
from lindley.operations.plan import Plan
from lindley.panel import shards
from lindley.panel.key import read_key
from lindley.panel.link import panel_link
from lindley.verification.gather import verify_chain
from tests.faults.assessing import Row
from tests.faults.writers import AGE, Place
from tests.support import panels

#: Stores of a batch: one is in all batches, one in this batch only.
EVERYWHERE, ROWS = "s0", 3


@dataclass(frozen=True)
class PanelPlace(Place):
    """A panel, and where it is kept."""

    chain: str = panels.NAME

    def prepare(self) -> None:
        """Declare the panel."""
        self.workspace.models.mkdir(parents=True, exist_ok=True)
        path = self.workspace.models / f"{self.chain}.py"
        text = panels.MODEL.replace(f'name="{panels.NAME}"', f'name="{self.chain}"')
        path.write_text(text, encoding="utf-8")

    def write(self, path: Path, number: int, order: int | None = None) -> Path:
        """Write batch `number`: rows of a store that every batch has, and of one of its own."""
        path.parent.mkdir(parents=True, exist_ok=True)
        frame = panels.rows({EVERYWHERE: 2 + number % 3, f"own{number}": 4}, 10 * number, ROWS)
        frame.to_csv(path, index=False)
        then = time.time() - AGE + (number if order is None else order)
        os.utime(path, (then, then))
        return path

    def fit(self, plan: Plan) -> PanelOutcome:
        """Fit a plan here, in two shards."""
        shards.fit_members = self._remembered
        return fit_panel(plan, shards=2)

    def _remembered(
        self, declaration: Declaration, tasks: Iterable[MemberTask], options: MemberOptions
    ) -> Iterator[MemberFit]:
        """Give each task's fit, by its seed: it follows from prior, rows and model."""
        folder = self.root / "fits"
        folder.mkdir(exist_ok=True)
        for task in tasks:
            path = folder / f"{task.seed}"
            if path.exists():
                yield pickle.loads(path.read_bytes())
                continue
            found = fit_member(declaration, task, options)
            part = path.with_name(f"{path.name}.{os.getpid()}")
            part.write_bytes(pickle.dumps(found))
            part.replace(path)
            yield found


def assess_panel(place: PanelPlace, numbers: Iterable[int], row: Row) -> int:
    """Compare a panel with the batches that it should have, once each; returns its links."""
    numbers, ledger = list(numbers), place.ledger()
    chain = find_chain(ledger, place.chain)
    digests = [link.version.batch for link in chain.links]
    row.lost += max(0, len(numbers) - len(set(digests)))
    row.doubled += len(digests) - len(set(digests))
    row.forked += sum(finding.severity == "error" for finding in verify_chain(ledger, place.chain).findings)
    row.forked += ledger.head_hint(place.chain) != (chain.head.version.number if chain.head else None)
    row.undetected += len(ledger._search_runs(place.chain, "attributes.status = 'RUNNING'"))
    row.undetected += len(list((place.workspace.landing / place.chain).glob("*.csv")))
    if not chain.links:
        return 0
    held: dict[str, Any] = {}
    head = panel_link(find_link(ledger, place.chain))
    keys = [read_key(text, ("store",)) for text in head.index.entries()]
    for key, found in head.reader.find(head.index, keys).items():
        held[str(dict(key.values)["store"])] = found.state["rows"] if found.state is not None else 0
    wanted = {EVERYWHERE: ROWS * len(numbers)} | {f"own{number}": ROWS for number in numbers}
    row.lost += sum(max(0, count - held.get(store, 0)) for store, count in wanted.items())
    row.doubled += sum(max(0, count - wanted.get(store, 0)) for store, count in held.items())
    return len(chain.links)
