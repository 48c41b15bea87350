"""Writers of a panel as processes: their fits are genuine, done once and then remembered by their work."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lindley.ledger.history import find_link
from lindley.ledger.reading import find_chain
from lindley.model.declaration import Declaration
from lindley.operations.panel.fit import PanelOutcome, fit_panel
from lindley.operations.plan import Plan
from lindley.panel.key import read_key
from lindley.panel.link import panel_link
from lindley.panel.shards import fit_shard
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

        def run(folder: Path, numbers: list[int]) -> None:
            for number in numbers:
                self._remembered(plan.declaration, folder, number)

        return fit_panel(plan, run, shards=2)

    def _remembered(self, declaration: Declaration, folder: Path, number: int) -> None:
        """Give a shard the rows that it had before: they follow from its work, the options and the model."""
        files = [folder / "options.json", *sorted((folder / f"{number:03d}").iterdir())]
        work = hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files))
        held = self.root / "fits" / f"{work.hexdigest()}.parquet"
        if held.exists():
            shutil.copy(held, folder / f"{number:03d}" / "result.parquet")
            return
        held.parent.mkdir(exist_ok=True)
        part = held.with_name(f"{held.name}.{os.getpid()}")
        shutil.copy(fit_shard(folder, number, declaration), part)
        part.replace(held)


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
