"""From a file to a validated batch."""

from __future__ import annotations

from pathlib import Path

from prefect.logging import get_run_logger

from lindley.batch.batch import Batch
from lindley.batch.reading import read_batch as read
from lindley.model.declaration import Declaration
from tasks.options import step


@step("read batch")
def read_batch(path: Path, declaration: Declaration) -> Batch:
    """Read and validate a file; see `lindley.batch.reading.read_batch`."""
    batch = read(path, declaration)
    get_run_logger().info("%s: %d rows, batch %s", batch.origin, batch.rows, batch.digest[:12])
    return batch
