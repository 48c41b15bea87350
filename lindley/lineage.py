"""How a link's belief came about: which link it started from, and the batches between.

Read from a ledger as far as it is needed, each piece checked against its digest.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pyarrow as pa

from lindley import artifact_names
from lindley.batch import Batch, load_batch
from lindley.belief import Belief
from lindley.chain import Chain, Link
from lindley.declaration import Declaration
from lindley.errors import LedgerCorrupt, UnknownLink
from lindley.hindsight import Segment
from lindley.ledger.protocol import Ledger
from lindley.reading import find_chain, read_belief
from lindley.record import parse


@dataclass(frozen=True)
class Origin:
    """What a fit started from and which links' batches it was made on.

    Parameters
    ----------
    prior
        The link whose posterior was the prior; None for genesis.
    links
        The links whose batches were fitted, oldest first; without the new batch.
    """

    prior: Link | None
    links: tuple[Link, ...]


def starting_point(chain: Chain, window: int) -> Origin:
    """Return where an update of the head starts, and the links whose batches are fitted again.

    Walks back from the head until a link's match can be trusted, or `window` batches are together.

    Parameters
    ----------
    chain
        The chain.
    window
        Batches at most that are fitted again.
    """
    place, links = len(chain.links), list[Link]()
    while place > 0:
        link = chain.links[place - 1]
        if trusted(link):
            break
        # A link without a batch of its own (a pooled refit) is undone whole.
        made = origin(chain, link)
        own = (link,) if link.version.batch else made.links
        if not own or len(links) + len(own) > window:
            break
        links = [*own, *links]
        place = place - 1 if link.version.batch else (made.prior.number if made.prior else 0)
    return Origin(chain.links[place - 1] if place else None, tuple(links))


def trusted(link: Link) -> bool:
    """Whether a link's match is good enough to start from. Links of older versions do not say: they are."""
    return link.version.figures.get("trusted", 1.0) > 0


def origin(chain: Chain, link: Link) -> Origin:
    """Return how a link came about: the links after its prior whose batches it was fitted on.

    By the chain rule these are all links with a batch between its prior and itself, itself included.
    """
    prior = next((other for other in chain.links if other.version.record == link.version.prior), None)
    first = prior.number if prior else 0
    between = [other for other in chain.links[first : link.number] if other.version.batch]
    return Origin(prior, tuple(between))


def behind(chain: Chain, prior: Link | None) -> list[Origin]:
    """Return how a link came about, and what came before it, newest first, down to genesis or an import."""
    found = []
    while prior is not None:
        made = origin(chain, prior)
        if not made.links:
            break
        found.append(made)
        prior = made.prior
    return found


def segment(ledger: Ledger, declaration: Declaration, chain: Chain, made: Origin) -> Segment:
    """Return an origin as something that can be fitted; it is read when it is asked for, and once."""
    return Segment(
        start=cache(lambda: belief_of(ledger, made.prior)),
        batches=cache(lambda: batches_of(ledger, declaration, chain, made.links)),
        count=len(made.links),
    )


@dataclass(frozen=True)
class Newest:
    """A chain's head with its newest batch and what every fit needs.

    Parameters
    ----------
    belief, batch
        Of the head, and of the newest link that has one.
    carried, constants
        As genesis states them.
    """

    belief: Belief
    batch: Batch
    carried: tuple[str, ...]
    constants: dict[str, float]


def newest_belief(ledger: Ledger, declaration: Declaration) -> Newest:
    """Read a chain's head and its newest batch.

    Raises
    ------
    UnknownChain, UnknownLink
        If there is no such chain, or it has no batch.
    """
    chain, genesis = find_chain(ledger, declaration.name), ledger.genesis(declaration.name)
    counted = [link for link in chain.links if link.version.batch]
    if chain.head is None or genesis is None or not counted:
        raise UnknownLink(
            f"{declaration.name} has no batch yet",
            expected="a chain with at least one batch",
            found=f"{len(chain.links)} links without one",
            todo="update the chain with its first batch",
        )
    root = parse(genesis)["model"]
    return Newest(
        belief=read_belief(ledger, chain.head)[1],
        batch=batches_of(ledger, declaration, chain, counted[-1:])[0],
        carried=tuple(root["carried"]),
        constants=dict(root["constants"]),
    )


def belief_of(ledger: Ledger, link: Link | None) -> Belief | None:
    """Return the belief of a link; None for genesis."""
    return None if link is None else read_belief(ledger, link)[1]


def batches_of(
    ledger: Ledger, declaration: Declaration, chain: Chain, links: Sequence[Link]
) -> tuple[Batch, ...]:
    """Return the batches of links, oldest first, with their context.

    Raises
    ------
    LedgerCorrupt
        If one is missing, unreadable, or has another digest than its version states.
    """
    found: list[Batch] = []
    for link in links:
        batch = _batch_of(ledger, declaration, link)
        if declaration.context:
            batch = with_context(ledger, declaration, chain, batch, before=link.number)
        found.append(batch)
    return tuple(found)


def with_context(
    ledger: Ledger, declaration: Declaration, chain: Chain, batch: Batch, *, before: int | None = None
) -> Batch:
    """Return a batch with the rows before it that its model conditions on.

    Parameters
    ----------
    batch
        The batch.
    before
        Number of the link that is the batch's own; the end of the chain by default.

    Returns
    -------
    Batch
        Its context are the last rows, as many as declared, of the links before, in the chain's order.
    """
    wanted, tables = declaration.context, list[pa.Table]()
    if not wanted:
        return batch
    earlier = [
        link for link in chain.links if link.version.batch and (before is None or link.number < before)
    ]
    for link in reversed(earlier):
        if wanted <= 0:
            break
        table = _batch_of(ledger, declaration, link).table
        tables.insert(0, table.slice(max(0, table.num_rows - wanted)))
        wanted -= table.num_rows
    return replace(batch, context=pa.concat_tables(tables) if tables else batch.table.slice(0, 0))


def _batch_of(ledger: Ledger, declaration: Declaration, link: Link) -> Batch:
    with tempfile.TemporaryDirectory(prefix="lindley-") as scratch:
        path = ledger.download(link.version.run_id, Path(scratch), artifact_names.BATCH)
        batch = load_batch(path, declaration)
    if batch.digest != link.version.batch:
        raise LedgerCorrupt(
            f"The batch of link {link.number} is not the one that was counted",
            expected=f"content digest {link.version.batch}",
            found=batch.digest,
            todo="run `lindley verify`; restore the artifact from a backup",
        )
    return replace(batch, origin=link.version.origin)
