"""Chains that the contract suite writes: genesis, tags, texts that must come back as they were."""

from __future__ import annotations

from lindley.ledger.record import canonical, genesis_record

GENESIS = canonical(
    genesis_record("chain", {"digest": "0" * 64, "carried": [], "carry": {}, "observed": [], "row_key": []})
)
HOSTILE = [
    "<script>alert(1)</script>",
    "'; DROP TABLE runs; --",
    '"quoted" \\ back\\slash',
    "line\nbreak\ttab\r\nend ",
    "θ̂ 中文 🎲 \u202eright-to-left",
    " leading and trailing ",
    "%2e%2e/../etc/passwd",
    "{braces} ${HOME} `id`",
]


def tags_of(record: str, previous: str, status: str = "accepted", **more: str) -> dict[str, str]:
    return {
        "lindley.kind": "update",
        "lindley.record": record,
        "lindley.previous": previous,
        "lindley.prior": previous,
        "lindley.status": status,
    } | more
