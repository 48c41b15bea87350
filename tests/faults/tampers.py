"""The tamper matrix: one change each, the finding that is expected, and the one that is found."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lindley.ledger.chain import read_version, version_tags
from lindley.ledger.record import Artifact, canonical, digest, parse
from lindley.verification import gather as gather_module
from lindley.verification.case import GatheredChain, GatheredVersion
from lindley.verification.gather import gather, verify_chain
from lindley.verification.rules import Report
from lindley.verification.verifier import verify
from tests.faults.assessing import Row
from tests.lindley.verification.test_verifier_sweeps import REWRITABLE
from tests.support.fakes import MemoryLedger, append, coins, declare
from tests.support.forging import another, each_leaf, replaced
from tests.support.tampering import CASES, Tamper
from tests.support.tampering_tools import FIRST, HEAD, NAME, QUARANTINED, SECOND

#: What no rule can find, by docs/ledger-format.md, section 10: "What is not detected".
_LISTED = "listed"
#: A plot of a link; no record lists plots.
_PLOT = "plots/prior_posterior.png"


@dataclass(frozen=True)
class Change:
    """One line of the matrix.

    Parameters
    ----------
    what
        What was changed.
    expected
        Rules of which one must be among the findings; "any"; one with a ``w`` behind it, where it must warn;
        or "listed", where the threat model says that there is no finding but a warning.
    found
        Rules that were reported, warnings with a ``w`` behind them.
    """

    group: str
    what: str
    expected: str
    found: str
    seconds: float = 0.0

    @property
    def as_expected(self) -> bool:
        errors = {rule for rule in self.found.split() if not rule.endswith("w")}
        if self.expected == _LISTED:
            # One that is found after all does not belong into the threat model; a value of another type is
            # found as no record.
            return errors <= {"R03"}
        if self.expected.endswith("w"):
            return self.expected in self.found.split() and not errors
        if self.expected == "any":
            return bool(errors)
        return bool(errors & set(self.expected.split()))


def matrix(changes: Iterator[Change] | list[Change]) -> list[Row]:
    """Return one row per group: how many changes there are, and how many were not found as they should be."""
    rows: dict[str, Row] = {}
    for change in changes:
        row = rows.setdefault(change.group, Row("tamper", change.group))
        row.add(Row("", "", 1, undetected=not change.as_expected, seconds=change.seconds))
    return list(rows.values())


def every_change() -> Iterator[Change]:
    """Try every change there is."""
    read = gather_module._gather_version
    gather_module._gather_version = _once(read)
    try:
        with tempfile.TemporaryDirectory(prefix="lindley-") as folder:
            started = time.monotonic()
            for change in _changes(Path(folder)):
                yield dataclasses.replace(change, seconds=time.monotonic() - started)
                started = time.monotonic()
    finally:
        gather_module._gather_version = read


def _changes(folder: Path) -> Iterator[Change]:
    declaration = declare(folder)
    ledger = MemoryLedger()
    for start, k, passed in ((0, 3, True), (10, 4, True), (20, 9, False)):
        append(ledger, declaration, coins(declaration, start, k=k), passed=passed)
    second = ledger.models[NAME].versions[SECOND]
    ledger.register(NAME, second.run_id, second.tags, second.description)
    append(ledger, declaration, coins(declaration, 30, k=5))
    assert not verify_chain(ledger, NAME).findings
    gathered = gather(ledger, NAME)
    newest = next(i for i, item in enumerate(gathered.versions) if item.version.number == HEAD)
    yield from _records(gathered, newest)
    yield from _files(ledger)
    yield from _tags(gathered, newest)
    yield from _versions(ledger)
    for case in CASES:
        changed = ledger.clone()
        wanted, _ = getattr(Tamper(changed, declaration, folder), case)()
        yield _change("a forged chain, by rule", case, " ".join(sorted(wanted)), verify_chain(changed, NAME))


def _records(gathered: GatheredChain, newest: int) -> Iterator[Change]:
    """Change every field of the newest record: alone, with its digest, and with all that vouches for it."""
    record = parse(gathered.versions[newest].record or b"")
    for path, value in each_leaf(record):
        other = replaced(record, path, another(value, path))
        data, name = canonical(other), ".".join(map(str, path))
        yield _change("a field of a record", name, "R04", verify(_with(gathered, newest, record=data)))
        fitted = _with(gathered, newest, record=data, tags={"lindley.record": digest(data)})
        yield _change("a field of a record, and its digest", name, "any", verify(fitted))
        tags = version_tags(other, digest(data))
        whole = _with(gathered, newest, record=data, tags=tags)
        item = whole.versions[newest]
        assert item.run_tags is not None
        item = dataclasses.replace(item, run_tags=item.run_tags | tags, run_metrics=other["metrics"])
        report = verify(_set(whole, newest, item))
        listed = {path[0], ".".join(map(str, path[:2]))} & REWRITABLE and path != ("sampler", "seed")
        group = "a field of the newest record, and all that vouches for it"
        yield _change(group, name, _LISTED if listed else "any", report)


def _files(ledger: MemoryLedger) -> Iterator[Change]:
    """Change a byte of every file of a link, take it away, add one."""
    for path in sorted(ledger.run_of(NAME, SECOND).files):
        flipped, gone = ledger.clone(), ledger.clone()
        flipped.flip(NAME, SECOND, path)
        del gone.run_of(NAME, SECOND).files[path]
        rules = ("R04", "R03") if path == Artifact.RECORD else ("R06", "R06")
        yield _change("an artifact", f"{path}: a byte", rules[0], verify_chain(flipped, NAME))
        yield _change("an artifact", f"{path}: deleted", rules[1], verify_chain(gone, NAME))
    plotted = ledger.clone()
    plotted.run_of(NAME, SECOND).files[_PLOT] = b"\x89PNG"
    changed, added = plotted.clone(), plotted.clone()
    changed.flip(NAME, SECOND, _PLOT)
    added.run_of(NAME, SECOND).files["plots/payload.pkl"] = b"x"
    yield _change("a plot", f"{_PLOT}: a byte", _LISTED, verify_chain(changed, NAME))
    yield _change("a plot", f"{_PLOT}: deleted", _LISTED, verify_chain(ledger, NAME))
    yield _change("a plot", "plots/payload.pkl: added", "R06", verify_chain(added, NAME))
    more = ledger.clone()
    more.run_of(NAME, SECOND).files["belief/payload.pkl"] = b"x"
    yield _change("an artifact", "belief/payload.pkl: added", "R06", verify_chain(more, NAME))


def _tags(gathered: GatheredChain, newest: int) -> Iterator[Change]:
    """Change and delete every tag of a version and of its run, and every metric of the run."""
    item = gathered.versions[newest]
    assert item.run_tags is not None
    assert item.run_metrics is not None
    for name, text in item.version.tags.items():
        rule = "R04" if name == "lindley.record" else "R05"
        changed = verify(_with(gathered, newest, tags={name: f"{text}x"}))
        yield _change("a tag of a version", f"{name}: changed", rule, changed)
        without = {key: value for key, value in item.version.tags.items() if key != name}
        gone = verify(_with(gathered, newest, tags=without, only=True))
        yield _change("a tag of a version", f"{name}: deleted", rule, gone)
        if not item.run_tags.get(name):
            continue
        other = dataclasses.replace(item, run_tags=item.run_tags | {name: f"{text}x"})
        yield _change("a tag of a run", f"{name}: changed", "R18", verify(_set(gathered, newest, other)))
    metrics = parse(item.record or b"")["metrics"]
    for name, value in item.run_metrics.items():
        other = dataclasses.replace(item, run_metrics=item.run_metrics | {name: value + 1e-6})
        # Timings are neither in the record nor in its files.
        rule = "R18" if name in metrics else "R32w" if name in (item.charts or {}) else _LISTED
        yield _change("a metric of a run", name, rule, verify(_set(gathered, newest, other)))


def _versions(ledger: MemoryLedger) -> Iterator[Change]:
    """Move the alias, delete versions, let them change places, cut the history, start it again."""
    versions = sorted(ledger.models[NAME].versions)
    for hint in [None, *versions[:-1], 99]:
        changed = ledger.clone()
        changed.models[NAME].head = hint
        # On an earlier link, or nowhere, it is where a killed writer leaves it: a warning.
        expected = _LISTED if hint in {None, FIRST, SECOND} else "R19"
        yield _change("the alias", f"at version {hint}", expected, verify_chain(changed, NAME))
    for number in versions:
        yield _change("a deleted version", f"version {number}", "R02", _cut(ledger, [number]))
    for a, b in ((FIRST, SECOND), (SECOND, HEAD), (FIRST, HEAD), (SECOND, QUARANTINED)):
        changed = ledger.clone()
        held = changed.models[NAME].versions
        held[a], held[b] = held[b], held[a]
        yield _change("swapped versions", f"{a} and {b}", "any", verify_chain(changed, NAME))
    for first in versions:
        gone = [number for number in versions if number >= first]
        yield _change("a truncated history", f"from version {first} on", "R02", _cut(ledger, gone))
        said = _cut(ledger, gone, runs=True)
        yield _change("a truncated history", f"from version {first} on, with its runs", _LISTED, said)
    changed = ledger.clone()
    del changed.runs[changed.models[NAME].versions[SECOND].run_id]
    yield _change("a deleted run", f"of version {SECOND}", "R03 R18", verify_chain(changed, NAME))


def _cut(ledger: MemoryLedger, gone: list[int], *, runs: bool = False) -> Report:
    """Delete versions, with what their runs say if wanted, and verify."""
    changed = ledger.clone()
    for number in gone:
        if runs:
            changed.run_of(NAME, number).tags.pop("lindley.state", None)
        del changed.models[NAME].versions[number]
    if changed.models[NAME].head in gone:
        changed.models[NAME].head = None
    return verify_chain(changed, NAME)


def _change(group: str, what: str, expected: str, report: Report) -> Change:
    errors = {finding.rule for finding in report.findings if finding.severity == "error"}
    warnings = {f"{finding.rule}w" for finding in report.findings} - {f"{rule}w" for rule in errors}
    return Change(group, what, expected, " ".join(sorted(errors | warnings)))


def _with(
    gathered: GatheredChain,
    position: int,
    *,
    record: bytes | None = None,
    tags: dict[str, str] | None = None,
    only: bool = False,
) -> GatheredChain:
    """Return gathered with another record or other tags of one version; `only` these tags."""
    item = gathered.versions[position]
    old = item.version
    version = read_version(
        old.number, old.run_id, old.created, (tags or {}) if only else old.tags | (tags or {})
    )
    return _set(gathered, position, dataclasses.replace(item, record=record or item.record, version=version))


def _set(gathered: GatheredChain, position: int, item: GatheredVersion) -> GatheredChain:
    versions = [*gathered.versions[:position], item, *gathered.versions[position + 1 :]]
    return dataclasses.replace(gathered, versions=tuple(versions))


def _once(read: object) -> object:
    """Read a version again only when something of it was changed: reading takes all the time there is."""
    held: dict[str, GatheredVersion] = {}

    def once(ledger: MemoryLedger, version: object) -> GatheredVersion:
        run = ledger.runs.get(version.run_id)
        what = repr((version, run and (run.shown(), sorted(run.files.items()))))
        if what not in held:
            held[what] = read(ledger, version)
        return held[what]

    return once
