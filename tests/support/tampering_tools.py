"""What the ways to tamper with a chain have in common."""

from __future__ import annotations

from typing import Any

from lindley.batch.batch import write_batch
from lindley.ledger.record import digest
from lindley.model.declaration import Declaration
from lindley.seeds import derive_seed
from tests.support.fakes import MemoryLedger, coins
from tests.support.forging import Edit, Record

NAME = "coins"
#: Versions of `coins_chain`: the links 1, 2 and 3, the quarantined one, the one that was created twice.
FIRST, SECOND, QUARANTINED, TWICE, HEAD = 1, 2, 3, 4, 5


class Tools:
    """A chain of coins whose files, tags and records can be changed."""

    def __init__(self, ledger: MemoryLedger, declaration: Declaration, folder: Any) -> None:
        self.ledger, self.declaration, self.folder = ledger, declaration, folder
        self.model = ledger.models[NAME]

    def _run(self, number: int) -> Any:
        return self.ledger.run_of(NAME, number)

    def _genesis(self) -> bytes:
        return self.ledger.runs[self.model.genesis_run].files["genesis.json"]

    def _set_genesis(self, data: bytes) -> None:
        self.ledger.runs[self.model.genesis_run].files["genesis.json"] = data
        self.model.genesis = digest(data)

    def _from_genesis(self, replayed: list[str]) -> Edit:
        """Return an edit that lets a link start from genesis and fit the batches of links again."""

        def edit(record: Record) -> None:
            record.update(prior=digest(self._genesis()), prior_belief=None, replayed=replayed)
            record["metrics"].update(budget=2 / 900, replayed=len(replayed))

        return edit

    def _reseed(self, record: Record) -> None:
        """Give a record the seed that follows from it."""
        start = record["prior_belief"] or digest(self._genesis())
        seed = derive_seed(start, record["batch"]["digest"], record["model"]["digest"])
        record["sampler"]["seed"] = str(seed)

    def _parquet(self, start: int, rows: int = 4, *, k: int) -> bytes:
        path = self.folder / "batch.parquet"
        write_batch(coins(self.declaration, start, rows, k=k), path)
        return bytes(path.read_bytes())
