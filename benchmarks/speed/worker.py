"""One scenario in a process of its own: ``python -m benchmarks.speed.worker SCENARIO ...``.

Rows are written as they are measured, so that a scenario that is stopped keeps them.
"""

from __future__ import annotations

import argparse
import json
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.speed.cold import cold
from benchmarks.speed.first_hour import first_hour
from benchmarks.speed.measure import SCENARIOS, Row
from benchmarks.speed.orchestration import orchestration
from benchmarks.speed.scenarios import growth, hierarchical, sir_article, warm
from benchmarks.speed.streams import Bench

WORK: dict[str, Callable[[Bench], None]] = {
    "warm": warm,
    "cold": cold,
    "first_hour": first_hour,
    "growth": growth,
    "orchestration": orchestration,
    "sir_article": sir_article,
    "hierarchical": hierarchical,
}


def main() -> None:
    """Run a scenario."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", choices=SCENARIOS)
    parser.add_argument("--folder", type=Path, required=True, help="for all output")
    parser.add_argument("--reference", type=Path, required=True, help="the reference data")
    parser.add_argument("--lines", type=Path, required=True, help="file for rows and messages")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    with options.lines.open("a", encoding="utf-8") as file:

        def put(kind: str, value: Any) -> None:
            file.write(json.dumps({kind: value}) + "\n")
            file.flush()

        def emit(row: Row) -> None:
            put("row", row.as_dict())

        bench = Bench(
            options.folder, options.reference, options.quick, emit, lambda text: put("notify", text)
        )
        WORK[options.scenario](bench)


if __name__ == "__main__":
    main()
