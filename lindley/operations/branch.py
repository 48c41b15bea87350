"""What-if chains: a chain that continues another one from some link on, and leaves it alone."""

from __future__ import annotations

from dataclasses import dataclass

from lindley.errors import AmendmentRefused, LostRace
from lindley.ledger.chain import ChainLink
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import find_begun, read_chain
from lindley.ledger.record import Kind, canonical, genesis_record, parse
from lindley.ledger.references import choose_link
from lindley.ledger.signer import signer_from_environment
from lindley.ledger.writing import Registered, RunContext, complete, register_link
from lindley.model.declaration import BRANCH_MARK, Declaration
from lindley.names import check_chain_name
from lindley.operations.copy_link import log_copy
from lindley.timing import FETCH, Phases


@dataclass(frozen=True)
class Branched:
    """A branch.

    Parameters
    ----------
    name, source
        Name of the branch, and of the chain that it continues.
    start
        The link that it starts from.
    registered
        Its own first link; None where the branch was there already.
    """

    name: str
    source: str
    start: ChainLink
    registered: Registered | None


def branch_name(source: str, name: str) -> str:
    """Return the full name of a branch: that of its source, ``--``, and its own.

    Raises
    ------
    NameRefused
        If that is no name of a chain.
    """
    full = name if name.startswith(source + BRANCH_MARK) else f"{source}{BRANCH_MARK}{name}"
    return check_chain_name(full)


def make_branch(
    ledger: Ledger, declaration: Declaration, source: str, link: str, *, context: RunContext
) -> Branched:
    """Start a branch from a link of a chain; made twice, it is there once.

    Its genesis record names the link. Its first own link has that link's belief, so that it can be served.

    Parameters
    ----------
    declaration
        Of the branch; its name is the branch's.
    source, link
        The chain, and which of its links; see `lindley.ledger.references.choose_link`.
    context
        The flow run.

    Raises
    ------
    UnknownChain, UnknownLink
        If there is no such chain or link.
    ActRefused
        If there is a chain of that name that is another one.
    LostRace
        If another writer started one meanwhile.
    KeyRefused
        If the environment names a key for signatures that cannot be used.
    LedgerCorrupt
        If what the ledger holds does not have the digests it states.
    """
    phases, name = Phases(), declaration.name
    with phases(FETCH):
        chain, root = find_begun(ledger, source)
    signer_from_environment()  # before the chain is claimed
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
    if held is None and ledger.claim(name, genesis, declaration.description) != genesis:
        raise LostRace(
            f"Another writer started the chain {name} first",
            todo="give the branch another name, or use the one that is there",
        )
    branch = read_chain(ledger, name, genesis)
    complete(ledger, name, branch)
    if branch.own:
        return Branched(name, source, start, None)
    logged = log_copy(
        ledger,
        start,
        chain=name,
        kind=Kind.BRANCH,
        previous=start.version.record,
        link=start.number + 1,
        phases=phases,
        context=context,
    )
    registered = register_link(ledger, logged)
    return Branched(name, source, start, registered if registered.status == "accepted" else None)
