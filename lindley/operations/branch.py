"""Plan a what-if chain: it continues another chain from one of its links, and does not change that one."""

from __future__ import annotations

from dataclasses import replace

from lindley.errors import AmendmentRefused
from lindley.ledger.chain import walk
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import find_begun, read_chain
from lindley.ledger.record import Kind, canonical, digest, genesis_record, parse
from lindley.ledger.references import choose_link
from lindley.model.declaration import BRANCH_MARK, Declaration
from lindley.names import check_chain_name
from lindley.operations.plan import Plan
from lindley.operations.planner import on_chain
from lindley.timing import FETCH, Phases


def branch_name(source: str, name: str) -> str:
    """Return the full name of a branch: that of its source, ``--``, and its own.

    Raises
    ------
    NameRefused
        If that is not a valid name of a chain.
    """
    full = name if name.startswith(source + BRANCH_MARK) else f"{source}{BRANCH_MARK}{name}"
    return check_chain_name(full)


def plan_branch(ledger: Ledger, declaration: Declaration, source: str, link: str) -> Plan:
    """Plan a branch that starts from a link of a chain; planned twice, it is made once.

    Its genesis record names the link. Its first own link has that link's belief, so that it can be served.

    Parameters
    ----------
    declaration
        Of the branch; its name is the branch's.
    source, link
        The chain, and which of its links; see `lindley.ledger.references.choose_link`.

    Raises
    ------
    UnknownChain, UnknownLink
        If there is no such chain or link.
    AmendmentRefused
        If there is a chain of that name that starts elsewhere.
    LedgerCorrupt
        If what the ledger holds does not have the digests it states.
    """
    phases, name = Phases(), declaration.name
    with phases(FETCH):
        chain, root = find_begun(ledger, source)
        start = choose_link(chain, link)
        origin = {"chain": source, "record": start.version.record}
        genesis = canonical(genesis_record(name, parse(root)["model"], origin))
        held = ledger.genesis(name)
        if held is not None and held != genesis:
            raise AmendmentRefused(
                f"There is a chain {name} already",
                expected=f"no chain of that name, or a branch of {source} from link {start.number}",
                found="a chain that starts elsewhere",
                todo="give the branch another name",
            )
        if held is None:
            branch = walk(digest(genesis), [], chain.links[: start.number])
        else:
            branch = read_chain(ledger, name, genesis)
        plan = on_chain(ledger, declaration, Kind.BRANCH, (branch, genesis), fresh=held is None)
    where = f"{name} is there already and continues {source} from link {start.number}; nothing was done"
    return replace(plan, target=start, noop=where if branch.own else None, phases=phases)
