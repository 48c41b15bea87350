"""What is held against a chain after races and kills, and the rows of the result."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np
from scipy.special import polygamma

from lindley.ledger.chain import ChainLink
from lindley.ledger.reading import find_chain, read_belief
from lindley.verification.gather import verify_chain
from lindley.workspace import Workspace
from tests.faults.writers import Place, successes
from tests.support import fakes, fits


@dataclass
class Row:
    """One line of tests/faults/results.csv.

    Parameters
    ----------
    lost, doubled
        Batches that are in no link, and that are in one too many.
    forked
        Links that a reader who walks back from the head does not come to in the same order, finds by the
        verifier, and an alias that is not on the head.
    undetected
        What went wrong without a word: tampering without a finding, an orphan run that was not marked, a
        file that is neither waiting nor archived.
    """

    test: str
    case: str
    runs: int = 0
    lost: int = 0
    doubled: int = 0
    forked: int = 0
    undetected: int = 0
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return self.runs > 0 and not (self.lost or self.doubled or self.forked or self.undetected)

    def add(self, other: Row) -> None:
        """Add the runs of another row to this one; seconds are those of the mean run."""
        runs = self.runs + other.runs
        self.seconds = (self.seconds * self.runs + other.seconds * other.runs) / max(runs, 1)
        for name in ("runs", "lost", "doubled", "forked", "undetected"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


def read(path: Path) -> list[Row]:
    """Return the rows of an earlier run, if there was one."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    counts = [field.name for field in fields(Row)][2:-1]
    return [
        Row(line["test"], line["case"], *(int(line[name]) for name in counts), float(line["seconds"]))
        for line in lines
    ]


def replaced(old: Iterable[Row], new: Iterable[Row]) -> list[Row]:
    """Return old rows, each replaced by the new one of the same case where there is one; then the others."""
    found = {(row.test, row.case): row for row in old} | {(row.test, row.case): row for row in new}
    return list(found.values())


def write(rows: Iterable[Row], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([field.name for field in fields(Row)])
        for row in rows:
            writer.writerow([*astuple(row)[:-1], f"{row.seconds:.2f}"])


def assess(
    place: Place, numbers: Iterable[int], row: Row, workspaces: Iterable[Workspace] = ()
) -> list[ChainLink]:
    """Compare a chain with the batches that it should have, once each; add what is wrong to `row`.

    `workspaces` are those where its files landed, if there are several."""
    ledger = place.ledger()
    chain = find_chain(ledger, place.chain)
    wanted = Counter(expected(place, number) for number in numbers)
    counted = Counter(link.version.batch for link in chain.links)
    row.lost += (wanted - counted).total()
    row.doubled += (counted - wanted).total()
    row.forked += _walked_back(place, [link.version.record for link in chain.links])
    row.forked += sum(finding.severity == "error" for finding in verify_chain(ledger, place.chain).findings)
    row.forked += ledger.head_hint(place.chain) != (chain.head.version.number if chain.head else None)
    row.undetected += len(ledger._search_runs(place.chain, "attributes.status = 'RUNNING'"))
    places = list(workspaces) or [place.workspace]
    stored = {path.stem for held in places for path in (held.store / place.chain).glob("*.csv")}
    row.undetected += len(set(wanted) - stored)
    row.undetected += sum(len(list((held.landing / place.chain).glob("*.csv"))) for held in places)
    return list(chain.links)


def expected(place: Place, number: int) -> str:
    """Return the digest of a batch."""
    declaration = fakes.declare(place.workspace.models, place.chain)
    return fakes.coins(declaration, 10 * number, k=successes(number)).digest


def _walked_back(place: Place, records: list[str]) -> int:
    """Return how many links another reader, who walks back from the head, does not find in their place."""
    versions = place.ledger().versions(place.chain)
    previous = {version.record: version.previous for version in versions if version.status == "accepted"}
    found: list[str] = []
    at = records[-1] if records else ""
    while at in previous and len(found) <= len(versions):
        found.append(at)
        at = previous[at]
    found.reverse()
    return sum(a != b for a, b in zip(found, records, strict=False)) + abs(len(found) - len(records))


def sequential_digest(place: Place, order: list[int]) -> str:
    """Return the digest of the belief that one writer alone comes to, with the batches in this order."""
    declaration = fakes.declare(place.workspace.models, place.chain)
    ledger = fakes.MemoryLedger()
    for number in order:
        fakes.append(ledger, declaration, fakes.coins(declaration, 10 * number, k=successes(number)))
    _, belief = read_belief(ledger, find_chain(ledger, place.chain).links[-1])
    return belief.matched.digest


def off_the_oracle(place: Place, order: list[int]) -> float:
    """Return how far the head's mean log odds are from the exact ones, in Monte Carlo standard errors.

    theta ~ Beta(2 + successes, 3 + failures) exactly. Each link's mean and variance are estimated from
    independent draws, with errors of variance v / draws and 2 v^2 / draws. To first order an error of the
    mean reaches the head scaled by the precision that the link had, and one of the variance by that times
    how far the link's mean was from the head's.
    """
    ledger = place.ledger()
    _, belief = read_belief(ledger, find_chain(ledger, place.chain).links[-1])
    k = np.cumsum([4 * successes(number) for number in order])
    n = 40.0 * np.arange(1, len(order) + 1)
    mean = polygamma(0, 2 + k) - polygamma(0, 3 + n - k)
    variance = polygamma(1, 2 + k) + polygamma(1, 3 + n - k)
    draws = fits.CHAINS * fits.DRAWS
    weight = variance[-1] / variance
    error = np.sqrt(np.sum(weight**2 * (variance + 2 * (mean - mean[-1]) ** 2) / draws))
    points = belief.matched.map.forward(np.array([[0.0]]))
    return float(abs(points[0, 0] - mean[-1]) / error)
