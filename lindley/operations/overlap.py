"""Rows whose key is counted already: refused, or left out of the batch on request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from lindley.batch.batch import Batch, Dropped
from lindley.batch.digest import content_digest
from lindley.batch.row_keys import ranges_disjoint, shared_keys, split_by_keys
from lindley.errors import OverlapRefused
from lindley.ledger.chain import ChainLink
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import read_rows
from lindley.model.declaration import BY_POSITION

#: What becomes of rows whose key is counted already.
REFUSE, DROP = "refuse", "drop"


def refuse_overlap(ledger: Ledger, links: Sequence[ChainLink], batch: Batch) -> None:
    """Refuse rows whose key is in one of the counted links already.

    Raises
    ------
    OverlapRefused
        Naming the link and the first shared keys.
    LedgerCorrupt
        If the rows of a link that may share keys are not those that it counted.
    """
    for link, shared in _overlaps(ledger, links, batch):
        examples = "; ".join(_shown(row) for row in shared.slice(0, 3).to_pylist())
        raise OverlapRefused(
            f"{batch.origin} shares {shared.num_rows} row keys with link {link.number}",
            expected="rows that no earlier batch holds, so that none is counted twice",
            found=f"{examples[:300]}, already in {link.version.origin}",
            todo="drop these rows from the file and drop it again, or pass --on-overlap drop; "
            "`lindley correct` replaces a batch",
        )


def without_overlap(ledger: Ledger, links: Sequence[ChainLink], batch: Batch) -> Batch | None:
    """Return a batch without the rows whose key is in one of the counted links already.

    Returns
    -------
    Batch or None
        The batch itself where none is; None where all are. What was left out is in its `dropped`.

    Raises
    ------
    LedgerCorrupt
        If the rows of a link that may share keys are not those that it counted.
    """
    found = list(_overlaps(ledger, links, batch))
    if not found:
        return batch
    kept, dropped = split_by_keys(batch.table, batch.key, pa.concat_tables([shared for _, shared in found]))
    if not kept.num_rows:
        return None
    left_out = Dropped(
        rows=dropped.num_rows,
        digest=content_digest(dropped),
        links=tuple(link.version.record for link, _ in found),
    )
    return replace(batch, table=kept, digest=content_digest(kept), dropped=left_out)


def _overlaps(
    ledger: Ledger, links: Sequence[ChainLink], batch: Batch
) -> Iterator[tuple[ChainLink, pa.Table]]:
    """Give each link that shares row keys with a batch, and these keys."""
    mine = batch.key_ranges()
    for link in links if batch.key != BY_POSITION else ():
        if ranges_disjoint(mine, link.version.key_ranges):
            continue
        shared = shared_keys(batch.table, batch.key, read_rows(ledger, link))
        if shared.num_rows:
            yield link, shared


def _shown(key: dict[str, Any]) -> str:
    """Return a row key for a message; a digest of all values by its first digits."""
    values = {name: value.hex()[:12] if isinstance(value, bytes) else value for name, value in key.items()}
    return ", ".join(f"{name}={value}" for name, value in values.items())
