"""Rules on a chain as a whole (genesis record, versions, alias, source of a branch), and on decisions."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from lindley.errors import LedgerCorrupt
from lindley.ledger.chain import Chain
from lindley.ledger.record import Kind, Status, digest, needs_approval, parse, status_of
from lindley.verification.case import Case, GatheredChain
from lindley.verification.rules import At, Scope, Severity, rule

#: Missing versions in a row that each have a finding of their own.
_MOST_NAMED = 100


@rule(
    "R01",
    "the genesis record is readable and has the digest that the registry states",
    "changed or lost `genesis.json`, changed tag",
    Scope.CHAIN,
)
def genesis_record(chain: GatheredChain, _walked: Chain) -> Iterator[str]:
    """The digest is in the tag `lindley.genesis`; the record is of kind `genesis` and of this chain."""
    if chain.genesis is None or digest(chain.genesis) != chain.genesis_digest:
        found = "none" if chain.genesis is None else digest(chain.genesis)[:12]
        yield f"genesis record {chain.genesis_digest[:12]} expected, found {found}"
        return
    try:
        record = parse(chain.genesis)
    except LedgerCorrupt as error:
        yield str(error)
        return
    if record["kind"] != Kind.GENESIS or record["chain"] != chain.name:
        yield f"genesis record of {chain.name} expected, found {record['kind']} of {record['chain']}"


@rule(
    "R02",
    "no version was deleted: numbers have no gap, and every run that was registered has one",
    "a deleted version",
    Scope.CHAIN,
)
def no_gaps(chain: GatheredChain, _walked: Chain) -> Iterator[At]:
    """A run was registered if its state is `accepted`, `quarantined`, `candidate` or `rejected`."""
    numbers = sorted({item.version.number for item in chain.versions})
    for before, number in pairwise([0, *numbers]):
        # A number may be anything that the registry's database holds.
        for missing in range(before + 1, min(number, before + _MOST_NAMED)):
            yield At(f"version {missing} is missing: it was deleted", version=missing)
        if number > before + _MOST_NAMED:
            yield At(f"versions {before + _MOST_NAMED} to {number - 1} are missing: they were deleted")
    held = {item.version.run_id for item in chain.versions}
    for run_id in sorted(set(chain.registered_runs) - held):
        yield At(f"the version of run {run_id} is missing: it was deleted")


@rule("R03", "the record is readable, canonical and complete", "lost or rewritten `record.json`", Scope.CHAIN)
def records_readable(chain: GatheredChain, walked: Chain) -> Iterator[At]:
    """It has the known schema, the kind of a link, and exactly the fields of section 2.2 with their types. A
    version that was registered by other means (no tag of Lindley's on it or its run, which is none of the
    chain's) is a *warning*: it is no link.
    """
    for item in chain.versions:
        if item.foreign:
            message = "it was registered by other means, from elsewhere, and is no link"
            yield At(message, None, item.version.number, Severity.WARNING)
        elif item.unreadable:
            yield At(item.unreadable, walked.number_of(item.version), item.version.number)


@rule(
    "R04",
    "the record has the digest that the version's tag states",
    "any changed byte of the record; changed tag",
    Scope.CHAIN,
)
def record_digests(chain: GatheredChain, walked: Chain) -> Iterator[At]:
    """The tag is `lindley.record`."""
    for item in chain.versions:
        stated = item.version.record
        if item.record is not None and digest(item.record) != stated:
            message = f"sha256 {stated[:12]} expected, found {digest(item.record)[:12]}"
            yield At(message, walked.number_of(item.version), item.version.number)


@rule("R19", "the head alias points at the newest link", "moved alias", Scope.CHAIN)
def head_alias(chain: GatheredChain, walked: Chain) -> Iterator[At]:
    """An alias on an earlier link, or none, is a *warning*: a killed writer leaves it so, and the next one
    moves it. Elsewhere it is an error.
    """
    head = walked.own[-1] if walked.own else None
    wanted = head.version.number if head else None
    if chain.head_hint == wanted:
        return
    behind = chain.head_hint is None or chain.head_hint in {link.version.number for link in walked.own}
    yield At(
        f"alias head at version {wanted} expected, found at {chain.head_hint}",
        head.number if head else None,
        wanted,
        Severity.WARNING if behind else Severity.ERROR,
    )


@rule(
    "R20",
    "every accepted version is a link of the chain or lost a race",
    "a stray version; also whatever follows a broken link",
    Scope.CHAIN,
)
def no_strays(chain: GatheredChain, walked: Chain) -> Iterator[At]:
    """The `previous` of one that lost a race is genesis or an earlier link."""
    # The one head that a branch is made on is the link that it starts from.
    heads = {walked.links[walked.base - 1].version.record if walked.base else chain.genesis_digest}
    links = {link.version.number for link in walked.own}
    for item in chain.versions:
        version = item.version
        if version.number in links:
            heads.add(version.record)
        elif version.status == Status.ACCEPTED and version.previous not in heads:
            message = f"previous {version.previous[:12] or 'none'} is no head that was before it"
            yield At(message, version=version.number)


@rule(
    "R27",
    "the place of the chain's runs is there, and neither it nor a run of a version was deleted",
    "a deleted or renamed experiment, a deleted run",
    Scope.CHAIN,
)
def not_deleted(chain: GatheredChain, walked: Chain) -> Iterator[str | At]:
    """What was deleted can be restored until a garbage collection removes its files. An experiment that was
    deleted is one finding: its runs were deleted with it.
    """
    if chain.home is None:
        yield f"the runs of {chain.name} are in no place of its name: it was removed or renamed"
        return
    if chain.home.deleted:
        yield f"{chain.home.name} was deleted: restore it ({chain.home.restore})"
        return
    for item in chain.versions:
        if item.deleted:
            message = f"run {item.version.run_id} was deleted: restore it before a garbage collection"
            yield At(message, walked.number_of(item.version), item.version.number)


@rule(
    "R24",
    "a branch starts from a link of its source, whose model it has",
    "a lost source, a branch of something else",
    Scope.CHAIN,
)
def branch_source(chain: GatheredChain, walked: Chain) -> Iterator[str]:
    """The genesis record of the branch names chain and link and has that chain's `model`. Findings R01 of
    that chain, and those on the links that the branch continues, are findings of the branch too; their
    messages name the chain.
    """
    origin = chain.branch()
    if origin is None:
        return
    if chain.base is None or not walked.base:
        yield f"a link of {origin['chain']} with the record {origin['record'][:12]} expected, found none"
        return
    root, source = chain.root(), chain.base.root()
    if root is not None and source is not None and root["model"] != source["model"]:
        yield f"the model of genesis is not that of {origin['chain']}"


@rule(
    "R30",
    "a decision states who decided and why, on a version before it whose record it repeats",
    "an approval of something else than the candidate, or without a candidate",
)
def decisions(case: Case, _chain: GatheredChain) -> Iterator[str]:
    """`decision.candidate` names a candidate or a quarantined version with a lower number. Apart from
    `decision` and `note` the record is that one's, and so are the files. Rejections and decisions that came
    too late are checked as well.
    """
    decision = case.record["decision"]
    if decision is None:
        return
    for name in ("who", "why"):
        if not decision[name].strip():
            yield f"a decision without {name}"
    if decision["candidate"] not in case.decidable:
        yield f"no candidate or quarantined version before it has the record {decision['candidate'][:12]}"
        return
    other = case.decidable[decision["candidate"]]
    if other is None:
        return  # R03 reports it
    for name in sorted(case.record.keys() - {"decision", "note"}):
        if case.record[name] != other.record[name]:
            yield f"{name} is not that of version {other.gathered.version.number}, which was decided on"


@rule(
    "R31",
    "a fit that its policy lets a person approve is a link with an approval only",
    "a candidate that was made a link without a person",
)
def approved(case: Case, _chain: GatheredChain) -> Iterator[str]:
    """The policy in the record asks for it (`approve`) for every fit, or where batches conflict."""
    if case.link is None or status_of(case.record) == Status.ACCEPTED:
        return
    if needs_approval(case.record):
        yield "a candidate is a link, and no person approved it"
    elif case.record["decision"] is not None:
        yield "a rejected version is a link"
