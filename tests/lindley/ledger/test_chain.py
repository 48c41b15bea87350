"""The chain rule: whatever writers do, every reader comes to the same line of links."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lindley.ledger.chain import TAG_CHARACTERS, Version, read_version, version_tags, walk
from lindley.ledger.record import parse
from tests.support.fakes import MemoryLedger

GENESIS = "genesis"


def version(number: int, record: str, previous: str, *, status: str = "accepted", batch: str = "") -> Version:
    tags = {
        "lindley.record": record,
        "lindley.previous": previous,
        "lindley.status": status,
        "lindley.batch": batch,
    }
    return read_version(number, f"run-{number}", "2020-01-22T06:00:00+00:00", tags)


@st.composite
def interleavings(draw: st.DrawFn) -> list[Version]:
    """Versions as writers at once register them.

    Each writer saw some head, of then or of before, fitted on it and registers on it; a fit may fail the
    gate, and a create may be sent twice.
    """
    versions: list[Version] = []
    seen = [GENESIS]
    number = 0
    for step in range(draw(st.integers(0, 12))):
        number += draw(st.integers(1, 2))  # deleted numbers are not given again
        status = draw(st.sampled_from(["accepted", "accepted", "accepted", "quarantined"]))
        stale = draw(st.integers(0, 2))
        previous = seen[max(0, len(seen) - 1 - stale)]
        versions.append(version(number, f"record-{step}", previous, status=status))
        if draw(st.integers(0, 5)) == 0:
            number += 1
            versions.append(version(number, f"record-{step}", previous, status=status))
        chain = walk(GENESIS, versions)
        if chain.head_digest != seen[-1]:
            seen.append(chain.head_digest)
    return versions


class TestWalk:
    @settings(max_examples=300)
    @given(interleavings(), st.randoms(use_true_random=False))
    def test_every_reader_sees_one_line_that_starts_at_genesis(
        self, versions: list[Version], order: Any
    ) -> None:
        chain = walk(GENESIS, versions)
        assert [link.number for link in chain.links] == list(range(1, len(chain.links) + 1))
        previous = [GENESIS, *(link.version.record for link in chain.links)]
        assert [link.version.previous for link in chain.links] == previous[:-1]
        assert len(set(previous)) == len(previous)
        numbers = [link.version.number for link in chain.links]
        assert numbers == sorted(numbers)
        assert chain.head_digest == previous[-1]
        shuffled = list(versions)
        order.shuffle(shuffled)
        assert walk(GENESIS, shuffled) == chain
        assert walk(GENESIS, reversed(versions)) == chain

    @settings(max_examples=200)
    @given(interleavings())
    def test_every_version_is_a_link_superseded_or_quarantined(self, versions: list[Version]) -> None:
        chain = walk(GENESIS, versions)
        sorted_out = [*(link.version for link in chain.links), *chain.superseded, *chain.quarantined]
        assert sorted(v.number for v in sorted_out) == sorted(v.number for v in versions)
        assert all(v.status == "quarantined" for v in chain.quarantined)
        assert all(v.status == "accepted" for v in chain.superseded)

    @settings(max_examples=200)
    @given(interleavings())
    def test_what_was_a_link_stays_a_link(self, versions: list[Version]) -> None:
        before: tuple[Any, ...] = ()
        for count in range(len(versions) + 1):
            now = walk(GENESIS, versions[:count]).links
            assert now[: len(before)] == before
            before = now

    @settings(max_examples=200)
    @given(interleavings())
    def test_of_the_accepted_versions_on_a_head_the_first_wins(self, versions: list[Version]) -> None:
        chain = walk(GENESIS, versions)
        for link in chain.links:
            rivals = [
                v.number for v in versions if v.previous == link.version.previous and v.status == "accepted"
            ]
            assert link.version.number == min(rivals)

    def test_no_versions_leave_the_genesis_record_as_head(self) -> None:
        chain = walk(GENESIS, [])
        assert (chain.head, chain.head_digest, chain.links) == (None, GENESIS, ())

    def test_the_loser_of_a_race_is_superseded_and_its_children_too(self) -> None:
        chain = walk(GENESIS, [version(1, "a", GENESIS), version(2, "b", GENESIS), version(3, "c", "b")])
        assert [link.version.record for link in chain.links] == ["a"]
        assert [v.record for v in chain.superseded] == ["b", "c"]

    def test_a_create_that_was_sent_twice_counts_once(self) -> None:
        chain = walk(GENESIS, [version(1, "a", GENESIS), version(2, "a", GENESIS), version(3, "b", "a")])
        assert [(link.number, link.version.number) for link in chain.links] == [(1, 1), (2, 3)]
        assert [v.number for v in chain.superseded] == [2]

    def test_a_record_that_names_itself_is_no_link_again(self) -> None:
        chain = walk(GENESIS, [version(1, "a", GENESIS), version(2, "a", "a"), version(3, "b", "a")])
        assert [link.version.number for link in chain.links] == [1, 3]

    def test_a_quarantined_version_is_never_head(self) -> None:
        versions = [version(1, "a", GENESIS, status="quarantined"), version(2, "b", GENESIS)]
        chain = walk(GENESIS, versions)
        assert [link.version.record for link in chain.links] == ["b"]
        assert [v.record for v in chain.quarantined] == ["a"]

    def test_a_version_without_tags_is_no_link(self) -> None:
        assert walk(GENESIS, [read_version(1, "run", "", {})]).links == ()
        assert walk(GENESIS, [read_version(1, "run", "", {"lindley.status": "accepted"})]).links == ()

    def test_only_links_count_batches(self) -> None:
        chain = walk(
            GENESIS,
            [
                version(1, "a", GENESIS, batch="one"),
                version(2, "b", GENESIS, batch="two"),
                version(3, "c", "a", batch="three", status="quarantined"),
            ],
        )
        found = chain.with_batch("one")
        assert found is not None
        assert found.number == 1
        assert chain.with_batch("two") is None
        assert chain.with_batch("three") is None


class TestTags:
    def test_the_first_tag_is_the_status_in_words(self, coins_chain: MemoryLedger) -> None:
        """MLflow's list of versions shows the first tags by name, and cuts them off."""
        versions = coins_chain.versions("coins")
        first = [min(version.tags.items()) for version in versions]
        assert {name for name, _ in first} == {"lindley"}
        assert {text for _, text in first} == {"accepted: update", "quarantined: update"}
        assert [text.partition(":")[0] for _, text in first] == [version.status for version in versions]

    def test_a_version_says_what_its_record_says(self, coins_chain: MemoryLedger) -> None:
        run = coins_chain.run_of("coins", 2)
        record = parse(run.files["record.json"])
        (first, second, *_) = coins_chain.versions("coins")
        assert (second.record, second.previous, second.prior) == (
            run.tags["lindley.record"], first.record, first.record,
        )  # fmt: skip
        assert (second.kind, second.status, second.rows) == ("update", "accepted", 4)
        assert second.batch == record["batch"]["digest"]
        assert second.origin == "coins-010.csv"
        assert second.key_ranges == {"id": ["int:10", "int:13"]}
        assert second.metrics == record["metrics"]
        assert second.reasons == ()

    def test_the_tags_of_a_quarantined_version_have_its_reasons(self, coins_chain: MemoryLedger) -> None:
        third = coins_chain.versions("coins")[2]
        assert third.status == "quarantined"
        assert third.reasons == ("R-hat 1.3100 of theta, at most 1.01 allowed",)

    def test_tags_of_a_record_that_was_read_back_are_the_same(self, coins_chain: MemoryLedger) -> None:
        record = parse(coins_chain.run_of("coins", 1).files["record.json"])
        tags = version_tags(record, "d" * 64)
        assert version_tags(json.loads(json.dumps(record)), "d" * 64) == tags
        assert all(isinstance(value, str) for value in tags.values())

    def test_a_link_without_a_batch_has_empty_tags_of_it(self, coins_chain: MemoryLedger) -> None:
        record = parse(coins_chain.run_of("coins", 1).files["record.json"]) | {"batch": None}
        tags = version_tags(record, "d" * 64)
        assert (tags["lindley.batch"], tags["lindley.origin"], tags["lindley.rows"]) == ("", "", "0")
        assert read_version(1, "run", "", tags).key_ranges == {}

    def test_what_is_too_long_for_a_tag_is_left_out_whole(self, coins_chain: MemoryLedger) -> None:
        record = parse(coins_chain.run_of("coins", 1).files["record.json"])
        long = {f"key{i}": [f"string:{'x' * 100}", f"string:{'y' * 100}"] for i in range(100)}
        tags = version_tags(record | {"batch": record["batch"] | {"key_ranges": long}}, "d" * 64)
        assert tags["lindley.key_ranges"] == "{}"
        many = version_tags(
            record | {"gate": {"passed": False, "reasons": ["because"] * 1000, "warnings": []}}, "d" * 64
        )
        assert many["lindley.reasons"] == "[]"
        assert max(map(len, (tags | many).values())) <= TAG_CHARACTERS

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("lindley.key_ranges", "{"),
            ("lindley.key_ranges", "[]"),
            ("lindley.key_ranges", '{"id":["int:1"]}'),
            ("lindley.key_ranges", '{"id":[1,2]}'),
            ("lindley.key_ranges", '{"id":"int:1"}'),
            ("lindley.metrics", '{"a":"x","b":null}'),
            ("lindley.metrics", "null"),
            ("lindley.metrics", "[" * 100_000),
            ("lindley.reasons", '"x"'),
            ("lindley.rows", "-1"),
            ("lindley.rows", "²"),
            ("lindley.rows", "9" * 5000),
            ("lindley.rows", ""),
        ],
    )
    def test_broken_tags_read_as_empty(self, name: str, text: str) -> None:
        read = read_version(1, "run", "", {name: text})
        assert (read.key_ranges, read.metrics, read.reasons, read.rows) == ({}, {}, (), 0)
        assert read.tags == {name: text}

    @pytest.mark.parametrize("status", ["", "Accepted", "accepted ", "superseded", "x"])
    def test_only_accepted_is_accepted(self, status: str) -> None:
        assert read_version(1, "run", "", {"lindley.status": status}).status == "quarantined"
