"""From a file to a validated batch, and from a source to files."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from prefect.logging import get_run_logger

from lindley.batch.batch import Batch
from lindley.batch.reading import read_batch as read
from lindley.model.declaration import Declaration
from tasks.options import step

if TYPE_CHECKING:
    from lindley.arrivals.sources.protocol import Pulled, Source


@step("read batch")
def read_batch(path: Path, declaration: Declaration) -> Batch:
    """Read and validate a file; see `lindley.batch.reading.read_batch`."""
    batch = read(path, declaration)
    get_run_logger().info("%s: %d rows, batch %s", batch.origin, batch.rows, batch.digest[:12])
    return batch


@step("read source")
def read_source(source: Source, since: dict[str, str] | None, folder: Path, root: Path) -> Pulled | None:
    """Read what may be new at a source; see `lindley.arrivals.sources.protocol.Source.read`."""
    for left in folder.iterdir():  # of an attempt that failed
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    pulled = source.read(since, folder, root)
    version = ", ".join(
        f"{name} {value}" for name, value in (pulled.version if pulled else since or {}).items()
    )
    get_run_logger().info("%s: %s%s", source.address, version, "" if pulled else ", pulled before")
    return pulled
