"""Making links: the order of writes, what a kill leaves behind, lost races, stores that lose bytes."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lindley import failpoints
from lindley.errors import LedgerCorrupt, LedgerUnavailable, LostRace
from lindley.ledger.chain import walk
from lindley.ledger.protocol import Run
from lindley.ledger.reading import find_chain, read_chain
from lindley.ledger.record import Artifact, canonical, digest, parse
from lindley.ledger.registration import complete, register_link
from lindley.ledger.writing import RunContext
from lindley.model.declaration import Declaration
from lindley.operations.log import log_plan
from lindley.operations.update import plan_update
from lindley.verification.gather import verify_chain
from tests.support.fakes import MemoryLedger, append, coins, declare, logged
from tests.support.fits import fit

pytestmark = pytest.mark.usefixtures("read_once")

NAME = "coins"
#: What a writer does to a ledger, in the order in which it does it.
WRITES = ("claim", "open_run", "upload", "register", "set_head_hint", "close_run")


class Killed(BaseException):
    """The process was killed."""


class Watched(MemoryLedger):
    """A ledger that keeps a list of the writes, and kills the writer before or after one of them."""

    def __init__(self, held: MemoryLedger, *, kill: tuple[str, str] | None = None) -> None:
        super().__init__()
        self.models, self.runs = held.models, held.runs
        self.kill, self.writes, self.opened = kill, list[str](), set[str]()

    def __getattribute__(self, name: str) -> Any:
        method = super().__getattribute__(name)
        if name not in WRITES:
            return method

        def call(*args: Any) -> Any:
            if self.kill == (name, "before"):
                raise Killed
            self.writes.append(name)
            result = method(*args)
            if name == "open_run":
                self.opened.add(result)
            if self.kill == (name, "after"):
                raise Killed
            return result

        return call


class Losing(MemoryLedger):
    """A ledger whose artifact store does not return what was written."""

    def __init__(self, path: str, data: bytes | None) -> None:
        super().__init__()
        self.path, self.data = path, data

    def upload(self, run_id: str, folder: Path) -> None:
        super().upload(run_id, folder)
        files = self.runs[run_id].files
        if Artifact.RECORD in files and self.data is None:
            del files[self.path]
        elif Artifact.RECORD in files and self.data is not None:
            files[self.path] = self.data


@pytest.fixture
def one(coins_chain: MemoryLedger) -> MemoryLedger:
    """A chain of one link."""
    ledger = coins_chain.clone()
    for number in (2, 3, 5):
        del ledger.runs[ledger.models[NAME].versions[number].run_id]
    model = ledger.models[NAME]
    model.versions, model.last, model.head = {1: model.versions[1]}, 1, 1
    return ledger


def clean(ledger: MemoryLedger) -> bool:
    return verify_chain(ledger, NAME).findings == ()


class TestLogging:
    def test_nothing_is_registered_yet(self, one: MemoryLedger, declaration: Declaration) -> None:
        found = logged(one, declaration, coins(declaration, 10))
        assert len(one.versions(NAME)) == 1
        run = one.runs[found.run_id]
        assert run.status == "running"
        assert digest(run.files[Artifact.RECORD]) == found.record_digest
        assert parse(run.files[Artifact.RECORD]) == parse(canonical(found.record))
        assert found.previous == one.versions(NAME)[0].record

    def test_a_run_shows_parameters_metrics_tags_note_and_batch(
        self, one: MemoryLedger, declaration: Declaration
    ) -> None:
        batch = coins(declaration, 10)
        plan = plan_update(one, declaration, batch)
        context = RunContext(flow_run_id="f-1", flow_run_url="http://127.0.0.1:4200/runs/flow-run/f-1")
        run = one.runs[log_plan(one, plan, fit(plan), context=context).run_id].run
        assert run.name == "coins 2: coins-010.csv"
        assert run.params["likelihood/y"] == "Binomial(<constant>, theta)"
        assert run.params["genesis_prior/theta"] == "Beta(2, 3)"
        assert run.params["sampler/seed"] == str(plan.seed)
        mean, sd = (float(part.partition("=")[2]) for part in run.params["prior/theta"].split())
        assert 0.2 < mean < 0.5
        assert 0 < sd < 0.2
        assert run.metrics["r_hat_max"] == 1.002
        assert run.metrics["seconds/sample"] == 0.25
        assert {"mean/theta", "sd/theta", "sd_ratio/theta", "ess_bulk/theta"} <= run.metrics.keys()
        assert run.tags["lindley.flow_run"] == "f-1"
        assert run.tags["lindley.flow_run_url"].endswith("/f-1")
        assert "updated the posterior of link 1" in run.note
        assert run.frame is not None
        assert list(run.frame["id"]) == [10, 11, 12, 13]
        assert (run.batch_digest, run.origin) == (batch.digest, "coins-010.csv")
        assert all(run.tags.values())

    @pytest.mark.parametrize(
        ("path", "data"), [("summary.csv", None), ("trace.nc", b""), ("record.json", b"{}"), ("x/y", b"z")]
    )
    def test_a_store_that_returns_other_bytes_is_found_before_anything_is_registered(
        self, declaration: Declaration, path: str, data: bytes | None
    ) -> None:
        ledger = Losing(path, data)
        with pytest.raises(LedgerCorrupt, match=path):
            logged(ledger, declaration, coins(declaration, 0))
        assert ledger.versions(NAME) == []
        states = {run.tags.get("lindley.state"): run.status for run in ledger.runs.values()}
        assert states["corrupt"] == "killed"

    def test_two_first_links_of_different_code_cannot_share_a_chain(
        self, declaration: Declaration, tmp_path: Path
    ) -> None:
        ledger = MemoryLedger()
        mine, theirs = declaration, declare(tmp_path, code="\nTHEIRS = 1\n")
        plans = [(plan_update(ledger, d, coins(d, start))) for d, start in ((mine, 0), (theirs, 10))]
        register_link(ledger, log_plan(ledger, plans[0], fit(plans[0])))
        with pytest.raises(LostRace) as caught:
            log_plan(ledger, plans[1], fit(plans[1]))
        assert caught.value.transient
        assert len(ledger.versions(NAME)) == 1
        assert clean(ledger)


class TestRegistering:
    def test_a_link_becomes_head(self, one: MemoryLedger, declaration: Declaration) -> None:
        found = append(one, declaration, coins(declaration, 10))
        assert (found.status, found.chain, found.link, found.version) == ("accepted", NAME, 2, 2)
        assert one.head_hint(NAME) == 2
        run = one.runs[found.run_id]
        assert (run.status, run.tags["lindley.state"]) == ("finished", "accepted")
        assert one.models[NAME].versions[2].description == run.run.note

    def test_a_fit_that_failed_the_gate_leaves_the_head(
        self, one: MemoryLedger, declaration: Declaration
    ) -> None:
        found = append(one, declaration, coins(declaration, 10), passed=False)
        assert (found.status, found.link, found.version) == ("quarantined", None, 2)
        assert one.head_hint(NAME) == 1
        assert one.runs[found.run_id].tags["lindley.state"] == "quarantined"
        assert clean(one)

    def test_a_failed_first_fit_leaves_a_chain_without_head(self, declaration: Declaration) -> None:
        ledger = MemoryLedger()
        found = append(ledger, declaration, coins(declaration, 0), passed=False)
        assert (found.status, ledger.head_hint(NAME)) == ("quarantined", None)
        assert append(ledger, declaration, coins(declaration, 10)).link == 1
        assert clean(ledger)

    def test_a_race_lost_before_registering_makes_no_version(
        self, one: MemoryLedger, declaration: Declaration
    ) -> None:
        late = logged(one, declaration, coins(declaration, 10))
        append(one, declaration, coins(declaration, 20))
        found = register_link(one, late)
        assert (found.status, found.link, found.version) == ("superseded", None, None)
        run = one.runs[late.run_id]
        assert (run.status, run.tags["lindley.state"]) == ("finished", "superseded")
        assert len(one.versions(NAME)) == 2
        again = append(one, declaration, coins(declaration, 10))
        assert (again.status, again.link) == ("accepted", 3)
        assert clean(one)

    def test_a_race_lost_while_registering_is_superseded(
        self, one: MemoryLedger, declaration: Declaration
    ) -> None:
        late = logged(one, declaration, coins(declaration, 10))

        class Slow(MemoryLedger):
            def register(self, chain: str, run_id: str, tags: Mapping[str, str], description: str) -> int:
                append(one, declaration, coins(declaration, 20))
                return super().register(chain, run_id, tags, description)

        slow = Slow()
        slow.models, slow.runs = one.models, one.runs
        found = register_link(slow, late)
        assert (found.status, found.link, found.version) == ("superseded", None, 3)
        assert one.head_hint(NAME) == 2
        assert register_link(one, late) == found
        assert len(one.versions(NAME)) == 3
        assert append(one, declaration, coins(declaration, 10)).link == 3
        assert clean(one)

    @pytest.mark.parametrize("passed", [True, False])
    @pytest.mark.parametrize("place", ["versioned", "aliased", "closed"])
    @pytest.mark.parametrize("rival", [False, True])
    def test_one_that_is_tried_again_is_the_version_that_it_made(
        self,
        one: MemoryLedger,
        declaration: Declaration,
        monkeypatch: pytest.MonkeyPatch,
        place: str,
        passed: bool,
        rival: bool,
    ) -> None:
        made = logged(one, declaration, coins(declaration, 10), passed=passed)

        def fail(name: str) -> None:
            if name == place:
                raise LedgerUnavailable("It is down")

        with monkeypatch.context() as patched:
            patched.setattr(failpoints, "reach", fail)
            with pytest.raises(LedgerUnavailable):
                register_link(one, made)
        if rival:
            append(one, declaration, coins(declaration, 20))
        before = len(one.versions(NAME))
        found = register_link(one, made)
        assert (found.status, found.version) == ("accepted" if passed else "quarantined", 2)
        assert found.link == (2 if passed else None)
        assert len(one.versions(NAME)) == before
        run = one.runs[made.run_id]
        assert (run.status, run.tags["lindley.state"]) == ("finished", found.status)
        assert one.head_hint(NAME) == (3 if rival else 2 if passed else 1)
        assert clean(one)
        del one.models[NAME].versions[2]
        assert "R02" in {finding.rule for finding in verify_chain(one, NAME).findings}

    @pytest.mark.parametrize("passed", [True, False])
    def test_a_create_that_was_sent_twice_is_the_first_version(
        self, one: MemoryLedger, declaration: Declaration, passed: bool
    ) -> None:
        class Doubling(MemoryLedger):
            def register(self, chain: str, run_id: str, tags: Mapping[str, str], description: str) -> int:
                super().register(chain, run_id, tags, description)
                return super().register(chain, run_id, tags, description)

        doubling = Doubling()
        doubling.models, doubling.runs = one.models, one.runs
        found = append(doubling, declaration, coins(declaration, 10), passed=passed)
        assert (found.status, found.version) == ("accepted" if passed else "quarantined", 2)
        assert found.link == (2 if passed else None)
        assert [version.number for version in one.versions(NAME)] == [1, 2, 3]
        assert one.runs[found.run_id].tags["lindley.state"] == found.status
        assert one.head_hint(NAME) == (2 if passed else 1)
        assert clean(one)

    def test_a_chain_that_was_deleted_meanwhile_is_corruption(
        self, one: MemoryLedger, declaration: Declaration
    ) -> None:
        found = logged(one, declaration, coins(declaration, 10))
        del one.models[NAME]
        with pytest.raises(LedgerCorrupt, match="gone"):
            register_link(one, found)

    def test_writers_at_once_make_one_line_of_all_batches(self, declaration: Declaration) -> None:
        ledger, barrier = MemoryLedger(), threading.Barrier(3)

        def write(writer: int) -> None:
            barrier.wait(60)
            for number in range(2):
                while True:
                    batch = coins(declaration, 100 * writer + 10 * number)
                    try:
                        if append(ledger, declaration, batch).status == "accepted":
                            break
                    except LostRace:  # another one started the chain
                        continue

        with ThreadPoolExecutor(3) as threads:
            list(threads.map(write, range(3)))
        chain = find_chain(ledger, NAME)
        assert len({link.version.batch for link in chain.links}) == len(chain.links) == 6
        assert ledger.head_hint(NAME) == chain.links[-1].version.number
        assert clean(ledger)


class TestOrderOfWrites:
    def test_artifacts_come_first_then_the_version_then_the_hint(
        self, one: MemoryLedger, declaration: Declaration
    ) -> None:
        watched = Watched(one)
        append(watched, declaration, coins(declaration, 10))
        assert watched.writes == ["open_run", "upload", "register", "set_head_hint", "close_run"]

    def test_a_version_that_exists_is_complete(self, declaration: Declaration) -> None:
        """Killed right after the create, a version has all its artifacts and tags and verifies."""
        watched = Watched(MemoryLedger(), kill=("register", "after"))
        with pytest.raises(Killed):
            append(watched, declaration, coins(declaration, 0))
        report = verify_chain(watched, NAME)
        assert [line["link"] for line in report.links] == [1]
        assert [(f.rule, f.severity) for f in report.findings] == [("R19", "warning")]

    @pytest.mark.parametrize("when", ["before", "after"])
    @pytest.mark.parametrize("write", WRITES)
    def test_after_a_kill_anywhere_the_next_writer_completes(
        self, declaration: Declaration, one: MemoryLedger, write: str, when: str
    ) -> None:
        held = MemoryLedger() if write == "claim" else one
        before = len(held.versions(NAME))
        killed = Watched(held, kill=(write, when))
        batch = coins(declaration, 50)
        with pytest.raises(Killed):
            append(killed, declaration, batch)
        for run_id in killed.opened:
            held.kill(run_id)
        plan = plan_update(held, declaration, batch)
        registered = "register" in killed.writes
        assert (plan.noop is not None) == registered
        if not registered:
            register_link(held, log_plan(held, plan, fit(plan)))
        chain = find_chain(held, NAME)
        assert [link.version.batch for link in chain.links].count(batch.digest) == 1
        assert len(chain.links) == before + 1
        assert clean(held)
        assert held.dead_runs(NAME) == []
        states = {run.tags.get("lindley.state", "") for run in held.runs.values() if run.status == "killed"}
        assert states <= {"abandoned"}
        assert all(run.status != "running" for run in held.runs.values())


class TestCompleting:
    def test_the_hint_is_moved_to_the_newest_link(self, coins_chain: MemoryLedger) -> None:
        for hint in (None, 1, 3, 99):
            ledger = coins_chain.clone()
            ledger.models[NAME].head = hint
            complete(ledger, NAME, find_chain(ledger, NAME))
            assert ledger.head_hint(NAME) == 5

    def test_runs_of_dead_writers_are_closed_as_what_became_of_them(
        self, coins_chain: MemoryLedger, declaration: Declaration
    ) -> None:
        ledger = coins_chain.clone()
        lost = logged(ledger, declaration, coins(declaration, 60))
        ledger.kill(lost.run_id)
        working = ledger.open_run(NAME, Run(name="works"))
        for number in (3, 5):
            run = ledger.run_of(NAME, number)
            run.status, run.alive = "running", False
            run.tags.pop("lindley.state")
        complete(ledger, NAME, find_chain(ledger, NAME))
        assert ledger.runs[lost.run_id].tags["lindley.state"] == "abandoned"
        assert ledger.runs[lost.run_id].status == "killed"
        assert ledger.run_of(NAME, 3).tags["lindley.state"] == "quarantined"
        assert ledger.run_of(NAME, 5).tags["lindley.state"] == "accepted"
        assert ledger.run_of(NAME, 5).status == "finished"
        assert ledger.runs[working].status == "running"

    def test_a_chain_without_versions_is_cleared_too(self, declaration: Declaration) -> None:
        ledger = MemoryLedger()
        found = logged(ledger, declaration, coins(declaration, 0))
        ledger.kill(found.run_id)
        genesis = ledger.genesis(NAME)
        assert genesis is not None
        complete(ledger, NAME, read_chain(ledger, NAME, genesis))
        assert ledger.runs[found.run_id].tags["lindley.state"] == "abandoned"
        assert ledger.head_hint(NAME) is None
        assert walk(digest(genesis), []).links == ()

    def test_versions_with_edited_tags_do_not_stop_it(self, coins_chain: MemoryLedger) -> None:
        ledger = coins_chain.clone()
        for version in ledger.models[NAME].versions.values():
            version.tags.pop("lindley.chain")
        complete(ledger, NAME, find_chain(ledger, NAME))
        assert ledger.head_hint(NAME) == 5
