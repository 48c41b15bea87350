"""The verifier against one change anywhere: each leaf of a record, each file, each tag, each version."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lindley.ledger.chain import read_version, version_tags
from lindley.ledger.record import Artifact, canonical, digest, parse
from lindley.model.declaration import Declaration
from lindley.verification.case import GatheredChain
from lindley.verification.gather import gather, verify_chain
from lindley.verification.rules import Report
from lindley.verification.verifier import verify
from tests.support.fakes import MemoryLedger, append, coins
from tests.support.forging import Record, another, each_leaf, forge, replaced
from tests.support.tampering_tools import FIRST, HEAD, NAME, QUARANTINED, SECOND, TWICE

#: What someone who can write to database and files can change of the newest link with all that vouches for
#: it, and no rule finds: what is said of a fit and cannot be computed anew from its batch and draws.
REWRITABLE = {
    "attempts.0",  # the words about where its chains started
    "batch.origin",
    "metrics.divergences",
    "hindsight.in_sight",  # by one match at most
    "hindsight.unseen",
    "metrics.k_hat",
    "metrics.quarantined",
    "forgetting",
    "gate.warnings",
    "libraries",
    "model.inlined_constants",
    "model.carry",
    "model.genesis",
    "model.graph",
    "model.likelihood",
    "model.imports",
    "model.structure",
    "model.not_drawn",
    "model.rows",
    "note",  # a warning
    "policy",
    "posterior.distances",
    "posterior.pooled",
    "sampler",  # not its seed
    "thresholds",
}
pytestmark = pytest.mark.usefixtures("read_once")


@pytest.fixture(scope="module")
def pair(declaration: Declaration) -> MemoryLedger:
    """Two links."""
    ledger = MemoryLedger()
    append(ledger, declaration, coins(declaration, 0))
    append(ledger, declaration, coins(declaration, 10))
    return ledger


@pytest.fixture(scope="module")
def gathered(pair: MemoryLedger) -> GatheredChain:
    return gather(pair, NAME)


def errors(report: Report) -> set[str]:
    return {finding.rule for finding in report.findings}


class TestRecords:
    """Every leaf of a record, changed alone."""

    @pytest.mark.parametrize("position", [0, 1])
    def test_a_changed_leaf_is_found_by_the_digest(self, gathered: GatheredChain, position: int) -> None:
        for path, other in self._changes(gathered, position):
            report = verify(self._with(gathered, position, other))
            assert ("R04", position + 1) in {(f.rule, f.link) for f in report.findings}, path

    @pytest.mark.parametrize("position", [0, 1])
    def test_fitting_the_digest_tag_to_it_does_not_help(self, gathered: GatheredChain, position: int) -> None:
        for path, other in self._changes(gathered, position):
            tags = {"lindley.record": digest(canonical(other))}
            report = verify(self._with(gathered, position, other, tags))
            assert "R04" not in errors(report), path
            assert not report.ok, path
            assert {f.version for f in report.findings} & {position + 1}, path

    def test_what_a_whole_rewrite_of_the_newest_link_can_change_is_known(
        self, gathered: GatheredChain
    ) -> None:
        """The threat model of docs/ledger-format.md lists these fields; only signatures protect them."""
        unseen = set()
        for path, other in self._changes(gathered, 1):
            if path == ("batch", "row_key", 0):
                continue  # the key ranges are then computed anew: r07_row_key_is_another
            data = canonical(other)
            tags = version_tags(other, digest(data))
            item = self._with(gathered, 1, other, tags).versions[1]
            assert item.run_tags is not None
            item = dataclasses.replace(item, run_tags=item.run_tags | tags, run_metrics=other["metrics"])
            if verify(dataclasses.replace(gathered, versions=(gathered.versions[0], item))).ok:
                whole = path[0] in {"forgetting", "libraries", "policy", "sampler", "thresholds"}
                unseen.add(path[0] if whole else ".".join(map(str, path[:2])))
        assert unseen == REWRITABLE, sorted(unseen ^ REWRITABLE)

    def test_an_older_link_cannot_be_rewritten_alone(self, pair: MemoryLedger) -> None:
        ledger = pair.clone()
        forge(ledger, NAME, 1, lambda record: record["libraries"].update(numpy="1.0"))
        report = verify_chain(ledger, NAME)
        assert {("R10", 2), ("R20", 2)} <= {(f.rule, f.version) for f in report.findings}

    @staticmethod
    def _changes(gathered: GatheredChain, position: int) -> Any:
        data = gathered.versions[position].record
        assert data is not None
        record = parse(data)
        for path, value in each_leaf(record):
            yield path, replaced(record, path, another(value, path))

    @staticmethod
    def _with(
        gathered: GatheredChain, position: int, record: Record, tags: dict[str, str] | None = None
    ) -> GatheredChain:
        versions = list(gathered.versions)
        item = versions[position]
        old = item.version
        version = read_version(old.number, old.run_id, old.created, old.tags | (tags or {}))
        versions[position] = dataclasses.replace(item, record=canonical(record), version=version)
        return dataclasses.replace(gathered, versions=tuple(versions))


class TestFilesAndTags:
    """Every artifact, every tag, every version: one change each."""

    def test_one_byte_of_any_artifact_is_named(self, pair: MemoryLedger) -> None:
        paths = pair.run_of(NAME, 2).files
        assert len(paths) > 7
        for path in paths:
            ledger = pair.clone()
            ledger.flip(NAME, 2, path)
            report = verify_chain(ledger, NAME)
            rule = "R04" if path == Artifact.RECORD else "R06"
            named = [f for f in report.findings if f.rule == rule]
            assert [f.link for f in named] == [2], path
            assert rule == "R04" or path in named[0].message

    @pytest.mark.parametrize("change", [lambda text: f"{text}x", lambda text: text[1:], None])
    def test_any_tag_of_a_version_is_found(
        self, gathered: GatheredChain, change: Callable[[str], str] | None
    ) -> None:
        item = gathered.versions[1]
        for name in item.version.tags:
            tags = dict(item.version.tags)
            text = tags.pop(name)
            if change is not None:
                tags[name] = change(text)
            version = read_version(2, item.version.run_id, item.version.created, tags)
            changed = (gathered.versions[0], dataclasses.replace(item, version=version))
            report = verify(dataclasses.replace(gathered, versions=changed))
            assert not report.ok, name
            assert {f.version for f in report.findings} >= {2}, name
            wanted = "R04" if name == "lindley.record" else "R05"
            assert wanted in errors(report), name

    @pytest.mark.parametrize("change", [lambda text: f"{text}x", lambda text: text[1:], None])
    def test_any_tag_of_a_run_is_found(
        self, gathered: GatheredChain, change: Callable[[str], str] | None
    ) -> None:
        item = gathered.versions[1]
        assert item.run_tags is not None
        names = [name for name in item.version.tags if item.run_tags.get(name)]
        assert len(names) > 10
        for name in names:
            tags = dict(item.run_tags)
            text = tags.pop(name)
            if change is not None:
                tags[name] = change(text)
            changed = (gathered.versions[0], dataclasses.replace(item, run_tags=tags))
            report = verify(dataclasses.replace(gathered, versions=changed))
            assert [(f.rule, f.link) for f in report.findings] == [("R18", 2)], name

    def test_any_figure_of_a_run_is_found(self, gathered: GatheredChain) -> None:
        item = gathered.versions[1]
        assert item.run_metrics is not None
        record = parse(item.record or b"")
        for name in record["metrics"]:
            metrics = item.run_metrics | {name: float(np.nextafter(item.run_metrics[name], 1e9) + 1e-9)}
            changed = (gathered.versions[0], dataclasses.replace(item, run_metrics=metrics))
            report = verify(dataclasses.replace(gathered, versions=changed))
            assert [(f.rule, f.link) for f in report.findings] == [("R18", 2)], name

    def test_a_missing_run_is_found(self, gathered: GatheredChain) -> None:
        item = dataclasses.replace(gathered.versions[1], run_tags=None, run_metrics=None)
        report = verify(dataclasses.replace(gathered, versions=(gathered.versions[0], item)))
        assert [(f.rule, f.link) for f in report.findings] == [("R18", 2)]

    @pytest.mark.parametrize("number", [FIRST, SECOND, QUARANTINED, TWICE, HEAD])
    def test_any_deleted_version_is_found(self, coins_chain: MemoryLedger, number: int) -> None:
        ledger = coins_chain.clone()
        del ledger.models[NAME].versions[number]
        if ledger.models[NAME].head == number:
            ledger.models[NAME].head = None
        assert "R02" in errors(verify_chain(ledger, NAME))

    def test_versions_that_changed_places_are_found(self, coins_chain: MemoryLedger) -> None:
        ledger = coins_chain.clone()
        versions = ledger.models[NAME].versions
        versions[FIRST], versions[SECOND] = versions[SECOND], versions[FIRST]
        report = verify_chain(ledger, NAME)
        assert "R20" in errors(report)
        assert FIRST in {f.version for f in report.findings}

    def test_a_version_that_points_at_another_run_is_found(self, coins_chain: MemoryLedger) -> None:
        ledger = coins_chain.clone()
        versions = ledger.models[NAME].versions
        versions[SECOND].run_id = versions[QUARANTINED].run_id
        assert {("R04", 2), ("R05", 2)} <= {(f.rule, f.link) for f in verify_chain(ledger, NAME).findings}

    def test_a_version_whose_run_was_deleted_is_found(self, coins_chain: MemoryLedger) -> None:
        ledger = coins_chain.clone()
        del ledger.runs[ledger.models[NAME].versions[SECOND].run_id]
        # Version 4 is the same create, sent twice.
        assert [(f.rule, f.link) for f in verify_chain(ledger, NAME).findings] == [("R03", 2), ("R03", None)]
