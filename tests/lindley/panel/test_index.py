"""The index of all members: one root whatever the history, bounded reads, short proofs."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lindley.errors import ProofRefused
from lindley.ledger.record import canonical
from lindley.panel.index import Index, empty
from lindley.panel.key import MOST_BYTES, MemberKey
from lindley.panel.proof import MOST_BYTES as MOST_PROOF
from lindley.panel.proof import proof_of, read_proof
from lindley.panel.row import MemberRow

RESULTS = {"attempt": {"metrics": {"conflict_p": 0.5}, "sampler": "nuts"}, "belief": None}


def row(store: int | str, link: int, prior: str | None = None) -> MemberRow:
    return MemberRow(
        key=MemberKey.of({"store": store}),
        link=link,
        status="quarantined",
        prior=prior,
        batch="ab" * 32,
        matched=None,
        results=RESULTS,
    )


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sets(st.integers(0, 40), min_size=1), min_size=1, max_size=6))
def test_the_root_follows_from_the_members_alone(links: list[set[int]]) -> None:
    index, newest = empty(), dict[int, MemberRow]()
    for link, stores in enumerate(links, start=1):
        rows = [row(store, link) for store in sorted(stores)]
        newest |= dict(zip(sorted(stores), rows, strict=True))
        index = index.changed(rows, link)
        assert index.root == empty().changed(list(newest.values()), 1).root
        assert index.members == len(newest)
        held = index.entries()
        assert {json.loads(key)["store"]: entry.link for key, entry in held.items()} == {
            store: each.link for store, each in newest.items()
        }
        # What is read of a member: this link's index, the checkpoint's, and the file of its row.
        assert index.written < len(newest)
        assert index.own.num_rows == len(newest) or index.recent.num_rows == index.own.num_rows


def test_a_link_writes_what_changed_and_a_checkpoint_is_rare() -> None:
    index = empty().changed([row(store, 1) for store in range(1000)], 1)
    written = []
    for link in range(2, 60):
        index = index.changed([row(store, link) for store in range(link, link + 5)], link)
        written.append(index.own.num_rows)
    assert sum(written) < 4 * 1000
    assert max(written[:15]) < 100
    assert 1000 in written


@pytest.fixture(scope="module")
def proved() -> tuple[Index, MemberRow, bytes]:
    index = empty().changed([row(store, 1) for store in range(50)], 1)
    mine = row(7, 1)
    return index, mine, proof_of(mine, "sales", 1, "cd" * 32, index.proof(mine.key), index.root)


def test_a_proof_is_checked_without_the_panel(proved: tuple[Index, MemberRow, bytes]) -> None:
    index, mine, data = proved
    proof = read_proof(data)
    assert proof.member == "sales[store=7]"
    assert proof.root == index.root.hex()
    assert proof.document["leaf"] == mine.leaf


@pytest.mark.parametrize(
    "change",
    [
        {"leaf": {"status": "accepted"}}, {"leaf": {"key": {"store": 8}}}, {"leaf": {"prior": "0" * 64}},
        {"leaf": {"matched": "0" * 64}}, {"root": "0" * 64}, {"place": 1}, {"size": 2}, {"path": ""},
        {"path": "AAAA"}, {"schema": "x"}, {"leaf": {"schema": "x"}}, {"more": 1}, {"path": "?"},
    ],
)  # fmt: skip
def test_a_changed_proof_is_refused(
    proved: tuple[Index, MemberRow, bytes], change: dict[str, object]
) -> None:
    document = json.loads(proved[2])
    for name, value in change.items():
        document[name] = document[name] | value if isinstance(value, dict) else value
    with pytest.raises(ProofRefused):
        read_proof(canonical(document))


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"[" * 3000, b"{" * 100, b"null", b"\xff"])
def test_what_is_no_proof_is_refused(data: bytes) -> None:
    with pytest.raises(ProofRefused):
        read_proof(data)


def test_a_proof_of_a_million_members_has_2_kb_at_most() -> None:
    mine = row("x" * (MOST_BYTES - len('{"store":""}')), 10**6, "ab" * 32)
    long = mine.leaf | {"matched": "ab" * 32}
    path = [b"\xff" * 32] * (12 + 9)  # up to 512 members in one bucket, 244 on average
    data = proof_of(mine, "c" * 63, 10**6, "ab" * 32, (511, 512, path), b"\xff" * 32)
    assert len(data) + len(canonical(long)) - len(canonical(mine.leaf)) <= MOST_PROOF
