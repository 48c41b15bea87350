"""Make every try and write the table: `python -m tests.faults.run --only attacks [--surfaces NAME ...]`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.e2e.machine import ROOT, Machine, until
from tests.faults.attacks.access import SERVERS
from tests.faults.attacks.documents import DOCUMENTS, documents
from tests.faults.attacks.files import LANDING, landing
from tests.faults.attacks.listening import Servers
from tests.faults.attacks.runs import WORKER, Runs
from tests.faults.attacks.stored import STORED, Stored, stored
from tests.faults.attacks.table import Surface, line, write
from tests.support.fakes import declare

TABLE = Path(__file__).parents[1] / "attacks.csv"
SURFACES = (DOCUMENTS, LANDING, STORED, WORKER, SERVERS)
#: What `--surfaces` takes.
NAMES = tuple(surface.short for surface in SURFACES)


def attack(folder: Path, names: Collection[str]) -> Iterator[tuple[bool, dict[str, str]]]:
    """Make every try on the named surfaces; give whether its outcome is the expected one, and its line."""
    (folder / "models").mkdir()
    declaration = declare(folder / "models")
    with ExitStack() as stack:
        if DOCUMENTS.short in names:
            signed = stack.enter_context(documents(declaration, folder / "documents"))
            yield from _tries(DOCUMENTS, signed)
        if LANDING.short in names:
            yield from _tries(LANDING, landing)
        if STORED.short in names:
            held = stack.enter_context(stored(declaration, folder))

            def pristine(_: Path) -> Stored:
                held.restore()
                return held

            yield from _tries(STORED, pristine)
        if WORKER.short in names:
            yield from _tries(WORKER, Runs)
    if SERVERS.short in names:
        yield from _on_servers(folder / "servers")


def _on_servers(root: Path) -> Iterator[tuple[bool, dict[str, str]]]:
    (root / "models").mkdir(parents=True)
    (root / "models" / "beta_binomial.py").write_bytes((ROOT / "models" / "beta_binomial.py").read_bytes())
    machine = Machine(root)
    machine.up()
    try:
        assert machine.process is not None
        _warm(machine)
        servers = Servers(root, machine.addresses, machine.process.pid)
        yield from _tries(SERVERS, lambda _: servers)
    finally:
        machine.down()


def _warm(machine: Machine) -> None:
    """Wait until the worker has carried out a run: each try has a minute, in which it may still start."""
    wanted = {"deployments": {"name": {"any_": ["sweep"]}}}
    (sweep,) = until("the deployments", lambda: machine.prefect("deployments/filter", wanted))
    run = machine.prefect(f"deployments/{sweep['id']}/create_flow_run", {})
    until("a first run", lambda: machine.prefect(f"flow_runs/{run['id']}")["end_time"])


def _tries(surface: Surface, ground: Callable[[Path], Any]) -> Iterator[tuple[bool, dict[str, str]]]:
    for one in surface.tries:
        with tempfile.TemporaryDirectory(prefix="lindley-") as scratch:
            outcome = one.measured(ground(Path(scratch)))
        yield one.as_expected(outcome), line(one, outcome)


def main(names: Collection[str] = NAMES) -> list[tuple[bool, dict[str, str]]]:
    """Make the tries on the named surfaces and write the table; return what came of each."""
    made = []
    with tempfile.TemporaryDirectory(prefix="attacks-", ignore_cleanup_errors=True) as folder:
        for as_expected, entry in attack(Path(folder), names):
            made.append((as_expected, entry))
            write([entry], TABLE)  # what was made stays written when a later one does not end
    return made
