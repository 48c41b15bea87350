"""The verifier: `verify(gathered) -> report`, pure, over what was read from a ledger.

It does not access a registry: records and artifacts come in as bytes and digests (see
`lindley.verification.gather`), so anyone can run it against anything that kept them. It applies the
registered rules (`lindley.verification.rules`); docs/ledger-format.md lists them, and each has a tamper test.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from lindley.ledger.chain import Chain, ChainLink, walk
from lindley.ledger.record import Status
from lindley.verification import chain_rules, counting_rules, version_rules
from lindley.verification.case import Case, GatheredChain, GatheredVersion
from lindley.verification.panel import rules
from lindley.verification.panel.rules import NOT_OF_PANELS
from lindley.verification.rules import ALWAYS, Finding, Report, Scope, findings, in_order, sentences

#: The modules whose rules are always checked; importing them registers the rules.
RULE_MODULES = (chain_rules, version_rules, counting_rules, rules)
RULES = sentences(*ALWAYS)
#: Rules on files other than record and batch.
_OF_FILES = frozenset({"R08", "R09", "R17"})
#: Rules whose findings on a source as a whole concern its branches too: its genesis, and where its runs are.
_OF_SOURCE = ("R01", "R27")


def verify(chain: GatheredChain) -> Report:
    """Check every rule on a chain.

    Returns
    -------
    Report
        Findings in version order; none when the chain is sound.
    """
    walked = _walked(chain)
    places = {link.version.number: link for link in walked.own}
    found = [*findings(Scope.CHAIN, chain, walked), *_inherited(chain, walked)]
    runs = _runs(chain)
    base = [(runs[link.version.run_id][1], link) for link in walked.links[: walked.base]]
    own = [(item, places.get(item.version.number)) for item in chain.versions]
    earlier, refused, decidable = (dict[str, Case | None]() for _ in range(3))

    def case_of(item: GatheredVersion, link: ChainLink | None) -> Case | None:
        found = item.parsed
        return None if found is None else Case(item, found, link, walked, earlier, refused, decidable)

    for position, (item, link) in enumerate([*base, *own]):
        refused |= {v.record: case_of(runs[v.run_id][1], None) for v in (link.joined if link else ())}
        case = case_of(item, link)
        # The links that a branch continues are verified with their own chain.
        if case is not None and position >= len(base):
            without = _OF_FILES if item.vouched else frozenset[str]()
            scopes = (Scope.VERSION, Scope.PANEL) if case.panel else (Scope.VERSION,)
            for scope in scopes:
                apart = without | (NOT_OF_PANELS if case.panel else frozenset())
                number = item.version.number
                found += findings(scope, case, chain, link=case.link, version=number, without=apart)
        if link:
            earlier[link.version.record] = case
        elif item.version.status in (Status.CANDIDATE, Status.QUARANTINED):
            decidable[item.version.record] = case
    states = {item.version.number: item.state for item in chain.versions}
    found = [item if item.state else replace(item, state=states.get(item.version or 0, "")) for item in found]
    links = tuple(_line(link, runs[link.version.run_id][0]) for link in walked.links)
    vouched = sum(runs[link.version.run_id][1].vouched for link in walked.links)
    return Report(chain=chain.name, links=links, findings=in_order(found), vouched=vouched)


def _walked(chain: GatheredChain) -> Chain:
    """Walk a chain; a branch after the links that it continues."""
    base, origin = tuple[ChainLink, ...](), chain.branch()
    if origin is not None and chain.base is not None:
        source = _walked(chain.base)
        start = source.link_of(origin["record"])
        base = source.links[: start.number] if start else ()
    return walk(chain.genesis_digest, [item.version for item in chain.versions], base)


def _runs(chain: GatheredChain) -> dict[str, tuple[str, GatheredVersion]]:
    """Return chain and version of each run, those that a branch continues included."""
    found = _runs(chain.base) if chain.base is not None else {}
    return found | {item.version.run_id: (chain.name, item) for item in chain.versions}


def _line(link: ChainLink, owner: str) -> dict[str, Any]:
    """Describe a link for the report; `owner` is the chain whose version it is."""
    version = link.version
    same = ("kind", "record", "previous", "prior", "batch", "origin", "rows")
    place = {"link": link.number, "chain": owner, "version": version.number}
    return place | {name: getattr(version, name) for name in same}


def _inherited(chain: GatheredChain, walked: Chain) -> Iterator[Finding]:
    """Return the findings on the links that a branch continues."""
    origin = chain.branch()
    if origin is None or chain.base is None or not walked.base:
        return
    for finding in verify(chain.base).findings:
        whole = finding.rule in _OF_SOURCE and finding.version is None
        if whole or (finding.link is not None and finding.link <= walked.base):
            deeper = finding.message.startswith("in ")
            message = finding.message if deeper else f"in {origin['chain']}: {finding.message}"
            yield replace(finding, message=message, version=None)
