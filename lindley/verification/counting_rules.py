"""The verifier's rules on what a link counts: R21 to R23 of docs/ledger-format.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lindley.ledger import artifact_names
from lindley.ledger.record import Kind
from lindley.verification.case import Case, GatheredChain

#: What a link that goes back to an earlier belief states anew; the rest is as its prior states it.
_ANEW = frozenset(
    {"schema", "kind", "chain", "previous", "prior", "prior_belief", "replayed", "retracted", "batch"}
)


def _replayed(case: Case, chain: GatheredChain) -> Iterator[str]:
    """The batches that were fitted are those that the link counts and its prior does not, each once."""
    record = case.record
    if record["kind"] == "import" or case.link is None:
        return
    known = len(case.counted_prior)
    if case.counted[:known] != case.counted_prior:
        yield "the prior counts batches that the link does not count, or in another order"
        return
    missing = [digest for digest in case.counted[known:] if digest != case.evidence.version.record]
    if record["replayed"] != missing:
        yield f"batches of {len(missing)} links since the prior expected, found {len(record['replayed'])}"
    if record["kind"] == "rebase" and record["prior"] != chain.genesis_digest:
        kind = (case.prior or {}).get("kind")
        if kind != "import":
            yield f"a pooled refit starts from genesis or an import, not from a link of kind {kind}"


def _acts(case: Case, chain: GatheredChain) -> Iterator[str]:
    """What a link takes out or leaves out is counted by the head before it."""
    if case.link is None:
        return
    record, gone = case.record, case.record["retracted"]
    kind, stray = record["kind"], set(gone) - set(case.counted_before)
    wanted = {Kind.RETRACT: len(gone) > 0, Kind.CORRECT: len(gone) == 1}.get(kind, not gone)
    if not wanted or len(set(gone)) != len(gone):
        yield f"a link of kind {kind} takes out {len(gone)} batches"
    for digest in sorted(stray):
        yield f"the head before it does not count link {digest[:12]}, which it takes out"
    dropped = (record["batch"] or {}).get("dropped") or {"links": []}
    for digest in sorted(set(dropped["links"]) - set(case.counted_before)):
        yield f"the head before it does not count link {digest[:12]}, whose rows were left out"
    if kind == Kind.ROLLBACK and case.prior is None and record["prior"] not in case.priors:
        yield "a rollback goes to no earlier link"
    start = (chain.branch() or {}).get("record")
    if kind == Kind.BRANCH and (record["prior"] != start or record["previous"] != start):
        yield "a branch starts from the link that its genesis names"


def _copied(case: Case, _chain: GatheredChain) -> Iterator[str]:
    """A belief without a fit of its own is that of its prior, bit for bit."""
    if not case.copied or case.prior is None:
        return  # R10, R22 and R03 say why
    record, prior = case.record, case.prior
    for name in sorted(record.keys() - _ANEW - {"artifacts"}):
        if record[name] != prior[name]:
            yield f"{name} is not that of the link whose belief it has"
    files = {path: held for path, held in prior["artifacts"].items() if path != artifact_names.BATCH}
    if record["artifacts"] != files:
        yield "the artifacts are not those of the link whose belief it has"


ACT_CHECKS: dict[str, Callable[[Case, GatheredChain], Iterator[str]]] = {
    "R21": _replayed,
    "R22": _acts,
    "R23": _copied,
}
