"""Hostile bytes for everything that reads them: `python -m tests.faults.fuzz [COUNT]`.

Valid files, records, envelopes and declarations are mutated by hypothesis. Whatever comes out must be read,
or refused by a `LindleyError`; in a time limit for each input, and in a memory limit for the process.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from lindley.errors import LindleyError
from tests.faults.assessing import Row
from tests.faults.fuzz_targets import TARGETS

#: Inputs of a whole run.
COUNT = 105_000
#: CPU seconds of one input (a busy machine is no bug; what waits for ever ends with its process), and bytes
#: of memory that a process may take beside what it has after importing.
SECONDS, MEMORY = 5.0, 3 * 2**30
_SHARES = sum(share for _, share in TARGETS.values())


@dataclass
class Found:
    """What a target made of its inputs."""

    refused: int = 0
    accepted: int = 0
    slowest: float = 0.0
    failures: list[str] = field(default_factory=list)

    @property
    def runs(self) -> int:
        """How many inputs there were."""
        return self.refused + self.accepted + len(self.failures)


# -- runs ---------------------------------------------------------------------------------------------


def fuzz(target: str, count: int, number: int = 1, current: Path | None = None) -> Found:
    """Give a target so many inputs; the same number gives the same inputs.

    Parameters
    ----------
    current
        File that holds the input under way, for when the process dies with it.
    """
    strategy, read = TARGETS[target][0]()
    found = Found()
    quiet = settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )

    @seed(number)
    @quiet
    @given(strategy)
    def one(given_input: Any) -> None:
        if found.runs >= count:
            return
        if current is not None:
            current.write_bytes(given_input if isinstance(given_input, bytes) else repr(given_input).encode())
        began = time.process_time()
        try:
            read(given_input)
            found.accepted += 1
        except LindleyError:
            found.refused += 1
        except Exception as error:
            found.failures.append(f"{type(error).__name__}: {str(error)[:200]} of {given_input!r:.400}")
        took = time.process_time() - began
        found.slowest = max(found.slowest, took)
        if took > SECONDS:
            found.failures.append(f"{took:.1f} seconds for {given_input!r:.400}")

    one()
    return found


def _child(target: str, count: int, number: int) -> None:
    """Run a target in this process, within the memory limit, and print what was found."""
    sys.dont_write_bytecode = True  # the same model file is written many times within a second
    fuzz(target, 5)  # imports everything
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
    current = Path(tempfile.mkdtemp(prefix="lindley-fuzz-")) / target
    print(current, flush=True)
    found = fuzz(target, count, number, current)
    line = {
        "runs": found.runs,
        "accepted": found.accepted,
        "slowest": found.slowest,
        "failures": found.failures,
    }
    print(json.dumps(line), flush=True)


def main(count: int = COUNT, number: int = 1) -> list[Row]:
    """Give all targets together at least so many inputs, each target in a process of its own.

    Returns
    -------
    list of Row
        One per target; ``undetected`` counts crashes, hangs and what took too much memory.
    """
    rows = []
    for target, (_, share) in TARGETS.items():
        inputs = -(-count * share // _SHARES)
        began = time.monotonic()
        command = [sys.executable, "-m", "tests.faults.fuzz", "--child", target, str(inputs), str(number)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=600 + inputs * 0.1, check=False
            )
            lines, why = done.stdout.splitlines(), f"exit code {done.returncode}: {done.stderr[-300:]}"
        except subprocess.TimeoutExpired as error:
            lines, why = (error.stdout or b"").decode().splitlines(), "it hung"
        try:
            found = json.loads(lines[1])
        except (IndexError, ValueError):
            found = {"runs": 0, "accepted": 0, "slowest": 0.0, "failures": [f"{why}; input in {lines[:1]}"]}
        for failure in found["failures"][:20]:
            print(f"{target}: {failure}", file=sys.stderr)
        took = time.monotonic() - began
        rows.append(Row("fuzz", target, found["runs"], undetected=len(found["failures"]), seconds=took))
        print(
            f"fuzz {target}: {found['runs']:,} inputs, {found['accepted']:,} read, "
            f"{len(found['failures'])} failures, slowest {found['slowest']:.2f} s, {took:.0f} s",
            flush=True,
        )
    return rows


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _child(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        made = main(int(sys.argv[1]) if len(sys.argv) > 1 else COUNT)
        print(f"{sum(row.runs for row in made):,} inputs in all")
        sys.exit(not all(row.ok for row in made))
