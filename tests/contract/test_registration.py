"""What every ledger promises of versions and their registration, held against every backend alike."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from lindley.errors import LindleyError
from lindley.ledger.chain import walk
from lindley.ledger.protocol import Ledger, Run, RunStatus
from lindley.ledger.record import canonical, digest
from tests.contract.chains import GENESIS, HOSTILE, tags_of
from tests.contract.conftest import Backend


class TestRegistration:
    def test_versions_come_in_order_with_all_their_tags(self, backend: Backend, chain: str) -> None:
        ledger = backend.ledger
        ledger.claim(chain, GENESIS, "")
        key_ranges = canonical({"id": ["int:1", "int:9"]}).decode()
        runs = [ledger.open_run(chain, Run(name=f"link {i}")) for i in range(12)]
        for i, run_id in enumerate(runs):
            tags = tags_of(f"{i:064x}", f"{i - 1:064x}") | {
                "lindley.chain": chain,
                "lindley.batch": f"{i:064x}" if i else "",
                "lindley.origin": "batch one.csv",
                "lindley.rows": str(i),
                "lindley.key_ranges": key_ranges,
                "lindley.metrics": canonical({"r_hat_max": 1.5}).decode(),
                "lindley.reasons": canonical(["one", "two"]).decode(),
            }
            assert ledger.register(chain, run_id, tags, f"note {i}") == i + 1
            assert backend.again().versions(chain)[-1].tags == tags
        versions = ledger.versions(chain)
        assert [version.number for version in versions] == list(range(1, 13))
        assert [version.run_id for version in versions] == runs
        last = versions[-1]
        assert (last.record, last.previous, last.rows) == (f"{11:064x}", f"{10:064x}", 11)
        assert (last.kind, last.status, last.origin) == ("update", "accepted", "batch one.csv")
        assert last.key_ranges == {"id": ["int:1", "int:9"]}
        assert last.metrics == {"r_hat_max": 1.5}
        assert last.reasons == ("one", "two")
        assert last.created.endswith("+00:00")

    def test_registration_is_gapless_under_writers_at_once(self, ledger: Ledger, chain: str) -> None:
        ledger.claim(chain, GENESIS, "")
        runs = [ledger.open_run(chain, Run(name=f"link {i}")) for i in range(8)]
        barrier = threading.Barrier(4)

        def register(mine: list[str]) -> list[int]:
            barrier.wait(60)
            return [ledger.register(chain, run, tags_of(digest(run.encode()), "0" * 64), "") for run in mine]

        with ThreadPoolExecutor(4) as threads:
            numbers = [n for found in threads.map(register, [runs[i::4] for i in range(4)]) for n in found]
        assert sorted(numbers) == list(range(1, 9))
        assert [version.number for version in ledger.versions(chain)] == list(range(1, 9))

    def test_a_create_that_was_sent_twice_makes_one_link(self, ledger: Ledger, chain: str) -> None:
        ledger.claim(chain, GENESIS, "")
        run_id = ledger.open_run(chain, Run(name="link"))
        tags = tags_of("a" * 64, digest(GENESIS))
        assert [ledger.register(chain, run_id, tags, ""), ledger.register(chain, run_id, tags, "")] == [1, 2]
        walked = walk(digest(GENESIS), ledger.versions(chain))
        assert [link.version.number for link in walked.links] == [1]
        assert [version.number for version in walked.superseded] == [2]

    @pytest.mark.parametrize("text", [*HOSTILE, "ä" * 4000])
    def test_versions_keep_hostile_text(self, ledger: Ledger, chain: str, text: str) -> None:
        ledger.claim(chain, GENESIS, text)
        run_id = ledger.open_run(chain, Run(name="link"))
        ledger.register(chain, run_id, tags_of("a" * 64, "b" * 64) | {"lindley.origin": text}, text)
        (version,) = ledger.versions(chain)
        assert version.origin == text

    def test_foreign_tags_make_a_version_that_is_no_link(self, ledger: Ledger, chain: str) -> None:
        ledger.claim(chain, GENESIS, "")
        run_id = ledger.open_run(chain, Run(name="foreign"))
        ledger.register(chain, run_id, {"team": "x", "lindley.metrics": "[", "lindley.rows": "²"}, "")
        (version,) = ledger.versions(chain)
        assert (version.record, version.status, version.rows, version.metrics) == ("", "quarantined", 0, {})
        assert walk(digest(GENESIS), [version]).links == ()

    def test_no_version_without_a_chain(self, ledger: Ledger, chain: str) -> None:
        run_id = ledger.open_run(chain, Run(name="link"))
        with pytest.raises(LindleyError):
            ledger.register(chain, run_id, tags_of("a" * 64, "b" * 64), "")
        assert ledger.genesis(chain) is None

    def test_the_head_hint_is_where_it_was_put_last(self, backend: Backend, chain: str) -> None:
        ledger = backend.ledger
        ledger.claim(chain, GENESIS, "")
        run_id = ledger.open_run(chain, Run(name="link"))
        for i in range(2):
            ledger.register(chain, run_id, tags_of(f"{i:064x}", "b" * 64), "")
        for number in (1, 2, 1):
            ledger.set_head_hint(chain, number)
            assert backend.again().head_hint(chain) == number

    def test_the_challenger_is_where_it_was_put_last_or_nowhere(self, backend: Backend, chain: str) -> None:
        ledger = backend.ledger
        ledger.claim(chain, GENESIS, "")
        assert ledger.challenger(chain) is None
        run_id = ledger.open_run(chain, Run(name="link"))
        for i in range(2):
            ledger.register(chain, run_id, tags_of(f"{i:064x}", "b" * 64), "")
        ledger.set_head_hint(chain, 1)
        for number in (1, 2, None, 2, None):
            ledger.set_challenger(chain, number)
            assert backend.again().challenger(chain) == number
        assert ledger.head_hint(chain) == 1

    def test_runs_of_candidates_and_rejections_are_registered(self, backend: Backend, chain: str) -> None:
        ledger = backend.ledger
        ledger.claim(chain, GENESIS, "")
        runs = {}
        for state in ("accepted", "quarantined", "candidate", "rejected", "superseded"):
            runs[state] = ledger.open_run(chain, Run(name=state))
            ledger.close_run(runs[state], RunStatus.FINISHED, state)
        gone = runs.pop("superseded")
        found = backend.again().registered_runs(chain)
        assert set(runs.values()) <= set(found)
        assert gone not in found

    def test_addresses_are_pages_or_none(self, backend: Backend, chain: str) -> None:
        ledger = backend.ledger
        ledger.claim(chain, GENESIS, "")
        run_id = ledger.open_run(chain, Run(name="link"))
        number = ledger.register(chain, run_id, tags_of("a" * 64, "b" * 64), "")
        urls = ledger.urls(chain, run_id, number)
        if backend.pages:
            assert set(urls) == {"run", "version"}
            assert set(ledger.urls(chain, run_id, None)) == {"run"}
            assert urls["run"].endswith(f"/runs/{run_id}")
            assert urls["version"].endswith(f"/models/{chain}/versions/{number}")
        else:
            assert urls == {}
