"""Compare the beliefs of two members of panels, or of one at two links."""

from __future__ import annotations

from typing import Any

import numpy as np

from lindley.batch.digest import content_digest
from lindley.errors import MemberRefused
from lindley.inference.members.population import moments
from lindley.ledger.history import find_link
from lindley.ledger.protocol import Ledger
from lindley.ledger.record import Artifact
from lindley.operations.diff import Difference, joint_distance, side_by_side, side_of
from lindley.panel.key import member_text, parse_member
from lindley.panel.link import Member, PanelLink, panel_link
from lindley.panel.members import places_by


def diff_members(ledger: Ledger, a: str, b: str) -> Difference:
    """Compare the beliefs of two members.

    The joint distance is that of their matched priors; the distance of margins, which takes draws, is not
    among the results.

    Parameters
    ----------
    a, b
        Members such as ``sales[store=12]@3``, or ``sales[store=12]`` for the head.

    Raises
    ------
    MemberRefused
        If one is no member, or has no belief.
    UnknownChain, UnknownLink
        If there is no such link.
    LedgerCorrupt
        If what the ledger holds does not have the digests it states.
    """
    (one, first), (two, second) = (_found(ledger, text) for text in (a, b))
    tables = [member.summary() for member in (first, second)]
    held = [member.matched_prior() for member in (first, second)]
    names = [prior.coordinates.names for prior in held]
    shared = [name for name in names[0] if name in names[1]]
    hellinger = divergence = None
    if shared:
        each = []
        for prior, every in zip(held, names, strict=True):
            mean, covariance = moments(prior)
            at = [every.index(name) for name in shared]
            each += [mean[at], covariance[np.ix_(at, at)]]
        hellinger, divergence = joint_distance(*each)
    found = side_by_side(tables)
    found["distance"] = np.nan
    labels = [set(table.index) for table in tables]
    return Difference(
        sides=(_side(one, first), _side(two, second)),
        parameters=found,
        only_a=tuple(name for name in tables[0].index if name not in labels[1]),
        only_b=tuple(name for name in tables[1].index if name not in labels[0]),
        hellinger=hellinger,
        divergence=divergence,
        coordinates=len(shared),
        batches=_batches(first, second),
        same_model=one.record["model"]["digest"] == two.record["model"]["digest"],
    )


def _found(ledger: Ledger, text: str) -> tuple[PanelLink, Member]:
    """Return a member that has a belief, and the link as of which it is read."""
    name, key, place = parse_member(text)
    link = panel_link(find_link(ledger, f"{name}@{place}" if place else name))
    member = link.member(key)
    if member.row.state is None:
        raise MemberRefused(
            f"{member_text(name, key)} has no belief",
            expected="a member with a belief",
            found=f"{member.status}: {'; '.join(member.reasons)[:200]}",
            todo="name a link at which it has one: CHAIN[column=value]@N",
        )
    return link, member


def _side(link: PanelLink, member: Member) -> dict[str, Any]:
    return side_of(link) | {"member": member.row.key.document, "leaf": member.row.hash.hex()}


def _batches(first: Member, second: Member) -> dict[str, list[dict[str, Any]]]:
    """Return the member's rows in the batches that only one of two beliefs counts, and those that both do."""
    counted = [{item["digest"]: item for item in _counted(member)} for member in (first, second)]

    def of(side: int, both: bool) -> list[dict[str, Any]]:
        return [item for digest, item in counted[side].items() if (digest in counted[1 - side]) == both]

    return {"a": of(0, False), "b": of(1, False), "both": of(0, True)}


def _counted(member: Member) -> list[dict[str, Any]]:
    """Return what a member's belief counts, oldest first: digest, origin and number of its rows by link."""
    reader, key, row, links = member.reader, member.row.key, member.row, list[int]()
    while row.state is not None:
        origin = row.state["origin"]
        links = [*origin["links"], *links]
        older = None if origin["start"] is None else reader.row(origin["start"], key)
        if older is None or older.link >= row.link:
            break
        row = older
    found = []
    for number in links:
        batch = reader.record(number)["batch"]
        table = reader.table(number, Artifact.BATCH).replace_schema_metadata()
        rows = table.take(places_by(table, tuple(name for name, _ in key.values)).get(key, []))
        digest = content_digest(rows.combine_chunks())
        found.append({"digest": digest, "origin": batch["origin"], "rows": len(rows), "link": number})
    return found
