"""Many arrivals with lost, doubled and reordered events, overwriting, and deaths: 0 lost, 0 doubled."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows.sequences import files, update
from flows.sequences.result import Result
from flows.server.watch import NotDelivered, Watcher
from lindley import failpoints
from lindley.arrivals.landing import Arrival
from lindley.errors import LindleyError
from tests.contract.arrivals import Place, bucket_place, fake_steps, folder_place, rows
from tests.support import fakes
from tests.support.fits import Fits

CHAINS = tuple(f"coins-{number:02d}" for number in range(4))


class Killed(BaseException):
    """The worker died at a fail-point."""


@dataclass
class Storm:
    """A watcher, a worker and a writer without luck."""

    place: Place
    seed: int
    events: list[tuple[str, str]] = field(default_factory=list)
    expected: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in CHAINS})
    deaths: Counter[str] = field(default_factory=Counter)
    ids: int = 1
    calm: bool = False
    links: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in CHAINS})

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.overwrite, self.overwritten = "", list[str]()
        self.declarations = {name: fakes.declare(self.place.workspace.models, name) for name in CHAINS}
        self.steps = fake_steps(fakes.MemoryLedger(), Fits(), [])
        self.start_watcher()

    def start_watcher(self) -> None:
        self.watcher = Watcher(
            workspace=self.place.workspace, announce=self.announce, finished=lambda _: True,
            clock=lambda: 0.0, notify=lambda _: None,
        )  # fmt: skip

    def announce(self, arrival: Arrival) -> None:
        if not self.calm and self.dice.random() < 0.1:
            raise NotDelivered("the server is down")
        times = self.dice.choice((0, 1, 1, 2))  # lost, delivered, doubled
        self.events += [(arrival.chain, arrival.path.name)] * times

    def reach(self, name: str) -> None:
        if not self.calm and self.dice.random() < 0.02:
            self.deaths[name] += 1
            raise Killed(name)

    def make_link(self, _: Any, __: Any, declaration: Any, ___: Any, batch: Any, **____: Any) -> Any:
        """Count a batch as a ledger does: in one step, and once."""
        self.reach("head-checked")
        links = self.links[declaration.name]
        if batch.digest not in links:
            links.append(batch.digest)
        if self.overwrite == batch.origin:
            self.overwrite = ""
            self.overwritten.append(batch.digest)
            self.write(declaration.name, batch.origin)
        self.reach("closed")
        return SimpleNamespace(plan=SimpleNamespace(batch=None, held=None), registered=None)

    def write(self, chain: str, name: str) -> None:
        """Write a new batch, in place of any of that name."""
        batch = fakes.coins(self.declarations[chain], self.ids)
        self.expected[chain][batch.digest] += 1
        self.place.put(f"landing/{chain}/{name}", rows(self.ids))
        self.ids += 4

    def take(self, chain: str, name: str, overwrite: bool) -> int:
        """Run an update, in whose fit the file may be overwritten; return how often it was."""
        before, self.overwrite = len(self.overwritten), name if overwrite else ""
        with suppress(Killed, LindleyError):
            update.update(self.steps, self.place.workspace, chain, name)
        self.overwrite = ""
        return len(self.overwritten) - before

    def run(self, arrivals: int) -> None:
        written = 0
        while written < arrivals:
            for _ in range(self.dice.randint(1, 6)):
                chain = self.dice.choice(CHAINS)
                name = f"{self.dice.randint(0, 9)}.csv"  # names come again and again
                if not self.place.storage.exists(self.place.storage.landed(chain, name)):
                    self.write(chain, name)
                    written += 1
            if self.dice.random() < 0.05:
                self.start_watcher()  # it died, and forgot what it announced
            self.watcher.look()
            self.dice.shuffle(self.events)
            for chain, name in [self.events.pop() for _ in range(min(4, len(self.events)))]:
                written += self.take(chain, name, self.dice.random() < 0.2)
        self.calm = True
        for chain in CHAINS:  # the sweep
            for arrival in files.waiting(self.place.workspace, chain):
                update.update(self.steps, self.place.workspace, chain, arrival.path.name)

    def check(self) -> None:
        assert self.place.waiting() == []
        for chain in CHAINS:
            assert Counter(self.links[chain]) == self.expected[chain], chain
            stored = [name.partition(".")[0] for name in self.place.names(f"store/{chain}")]
            # The worker died before it stored what was then overwritten: the ledger alone has that batch.
            unstored = self.expected[chain] - Counter(stored)
            assert Counter(stored) + unstored == self.expected[chain], chain
            assert set(unstored) <= set(self.overwritten), chain
        assert self.place.names("rejected") == []
        assert self.deaths


def _finished(*_: Any, **__: Any) -> Result:
    return Result(status="accepted", chain="", kind="update", message="")


@pytest.mark.parametrize(
    ("kind", "arrivals"),
    [
        ("folder", 100),
        pytest.param("bucket", 40, marks=pytest.mark.e2e),
        pytest.param("folder", 1000, marks=pytest.mark.faults),
        pytest.param("bucket", 1000, marks=[pytest.mark.e2e, pytest.mark.faults]),
    ],
)
def test_no_arrival_is_lost_or_counts_twice(
    kind: str,
    arrivals: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    if kind == "folder":
        place = folder_place(tmp_path)
    else:
        access = request.getfixturevalue("s3")
        for name, value in access.items():
            monkeypatch.setenv(name, value)
        place = bucket_place(tmp_path, access)
    storm = Storm(place, seed=18)
    monkeypatch.setattr(failpoints, "reach", storm.reach)
    monkeypatch.setattr(update, "make_link", storm.make_link)
    monkeypatch.setattr(update, "finish", _finished)
    monkeypatch.setattr(update, "follow_up", lambda *_: None)
    storm.run(arrivals)
    storm.check()
    if place.client is not None:
        place.client.close()
