"""How a link's belief came about: the link that it started from, and the batches between.

Read from a ledger as far as needed; each piece is checked against its digest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import pyarrow as pa

from lindley.batch.batch import Batch
from lindley.batch.reading import load_batch
from lindley.cache import Recent
from lindley.errors import UnknownLink, not_of_panels
from lindley.inference.inputs import Data, Step, steps_back
from lindley.ledger.chain import Chain, ChainLink, records_of
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import downloaded, find_begun, read_belief
from lindley.ledger.record import MOVES, Artifact, Kind, parse, require_digest
from lindley.model.declaration import Declaration
from lindley.model.policy import Window

if TYPE_CHECKING:
    from lindley.inference.diagnostics.look_back import Segment
    from lindley.prior.belief import Belief


def _size(belief: Belief | None) -> int:
    """Return the bytes of a belief's arrays."""
    return 0 if belief is None else sum(array.nbytes for array in belief.matched.arrays().values())


_beliefs: Recent[Belief | None] = Recent(2**26, _size)
_batches: Recent[Batch] = Recent(2**28, lambda batch: batch.table.nbytes + 2**10)


@dataclass(frozen=True)
class Origin:
    """The link that a fit started from, and the links whose batches it fitted.

    Parameters
    ----------
    prior
        The link whose posterior was the prior; None for genesis.
    links
        The links whose batches were fitted, oldest first; without the new batch.
    """

    prior: ChainLink | None
    links: tuple[ChainLink, ...]


def starting_point(chain: Chain, rows: int, window: Window) -> Origin:
    """Return where an update of the head starts, and the links whose batches are fitted again.

    The rule is `lindley.inference.inputs.steps_back`; a step leads to where a link's fit started.

    Parameters
    ----------
    chain
        The chain.
    rows
        Rows of the new batch.
    window
        What may be fitted again.
    """
    made: list[Origin] = []

    def newest_first() -> Iterator[Step]:
        link = chain.head
        while link is not None:
            maker = maker_of(chain, link)
            made.append(origin(chain, maker))
            links, metrics = made[-1].links, maker.version.metrics
            yield Step(
                trusted=trusted(link),
                batches=len(links),
                rows=rows_of(links),
                apart=metrics.get("apart", 0.0) > 0,
                inlined=metrics.get("inlined", 0.0) > 0,
            )
            link = made[-1].prior

    steps = steps_back(newest_first(), rows, window)
    return settled(Origin(chain.head, ()), made[:steps])


def rows_of(links: Iterable[ChainLink]) -> int:
    """Return the number of rows of the batches of links, without reading them."""
    return sum(link.version.rows for link in links)


def trusted(link: ChainLink) -> bool:
    """Whether a link's match is good enough to start from."""
    return link.version.metrics.get("trusted", 1.0) > 0


def origin(chain: Chain, link: ChainLink) -> Origin:
    """Return how a link's belief came about: where its fit started, and the links whose batches it had.

    By the rules these are the links that the link counts and its prior does not, itself included. A link
    that only returns to an earlier belief came about as that one did.
    """
    maker = maker_of(chain, link)
    prior = chain.prior(maker)
    before, counted = chain.counted(prior), chain.counted(maker)
    if counted[: len(before)] == before:  # nearly always, and quick: long chains call this often
        return Origin(prior, counted[len(before) :])
    known = set(records_of(before))
    return Origin(prior, tuple(other for other in counted if other.version.record not in known))


def maker_of(chain: Chain, link: ChainLink) -> ChainLink:
    """Return the link whose fit made a link's belief: itself, unless its belief is that of its prior."""
    while is_copy(chain, link):
        prior = chain.prior(link)
        if prior is None:
            break
        link = prior
    return link


def is_copy(chain: Chain, link: ChainLink) -> bool:
    """Whether a link's belief is that of its prior: a move, or a retraction that needs no fit."""
    kind = link.version.kind
    if kind == Kind.RETRACT:
        prior = chain.prior(link)
        # A retraction removes batches that its prior does not count: equal numbers mean the same batches.
        return prior is not None and len(chain.counted(prior)) == len(chain.counted(link))
    return kind in MOVES


def behind(chain: Chain, prior: ChainLink | None) -> Iterator[Origin]:
    """Yield how a link came about, and what came before it, newest first, down to genesis or an import."""
    while prior is not None:
        made = origin(chain, prior)
        if not made.links:
            break
        yield made
        prior = made.prior


def settled(made: Origin, undone: Iterable[Origin]) -> Origin:
    """Return where a fit started in the end, after the batches of `undone` were fitted again too."""
    for older in undone:
        made = Origin(older.prior, (*older.links, *made.links))
    return made


def segments_behind(
    ledger: Ledger, declaration: Declaration, chain: Chain, prior: ChainLink | None
) -> tuple[tuple[Origin, Segment], ...]:
    """Return how a prior came about, newest first, each origin with its segment, which can be fitted.

    Empty where the policy allows no batch to be fitted again.
    """
    window, found, rows = declaration.policy.window, list[Origin](), 0
    made = behind(chain, prior) if window.batches else iter(())
    for item in made:
        found.append(item)
        rows += rows_of(item.links)
        # A fit looks back on one look-back's rows and on the segment that takes them beyond it, and may first
        # have undone what the window stretches to.
        beyond = rows > 2 * (window.sight + window.rows)
        if beyond and len(found) > 2 * window.batches + 1:
            break
    return tuple((item, segment(ledger, declaration, chain, item)) for item in found)


def segment(ledger: Ledger, declaration: Declaration, chain: Chain, made: Origin) -> Segment:
    """Return an origin as a segment, which can be fitted; its parts are read once, when they are needed.

    A process caches them, in contrast to the prior of an update, which is always read and checked.
    """

    def start() -> Belief | None:
        prior = made.prior
        return None if prior is None else _beliefs.get(prior.version.record, lambda: belief_of(ledger, prior))

    def batches() -> tuple[Batch, ...]:
        return batches_of(ledger, declaration, chain, made, held=True)

    from lindley.inference.diagnostics.look_back import Segment  # saves start-up time: only fits look back

    return Segment(cache(start), cache(batches), len(made.links), rows_of(made.links))


def newest_data(ledger: Ledger, declaration: Declaration) -> tuple[Belief, Data]:
    """Return the belief of a chain's head, and its newest batch with what the chain's fits share.

    Raises
    ------
    UnknownChain, UnknownLink
        If there is no such chain, or it has no batch.
    """
    if declaration.by:
        raise not_of_panels(declaration.name, "it has no newest batch that one belief met")
    chain, genesis = find_begun(ledger, declaration.name)
    counted = chain.at_head
    if chain.head is None or not counted:
        raise UnknownLink(
            f"{declaration.name} has no batch yet",
            expected="a chain with at least one batch",
            found=f"{len(chain.links)} links without one",
            todo="update the chain with its first batch",
        )
    root = parse(genesis)["model"]
    newest = read_batches(ledger, declaration, counted[-1:])
    return read_belief(ledger, chain.head)[1], Data(
        declaration=declaration,
        batches=in_context(ledger, declaration, counted[:-1], newest),
        carried=tuple(root["carried"]),
        constants=dict(root["constants"]),
    )


def belief_of(ledger: Ledger, link: ChainLink | None) -> Belief | None:
    """Return the belief of a link; None for genesis."""
    return None if link is None else read_belief(ledger, link)[1]


def batches_of(
    ledger: Ledger, declaration: Declaration, chain: Chain, made: Origin, *, held: bool = False
) -> tuple[Batch, ...]:
    """Return the batches that a fit was made on, oldest first, with their context.

    Parameters
    ----------
    held
        Whether batches that this process read and checked before are taken as they are.

    Raises
    ------
    LedgerCorrupt
        If one is missing, unreadable, or has another digest than its version states.
    """
    read = read_batches(ledger, declaration, made.links, held=held)
    return in_context(ledger, declaration, chain.counted(made.prior), read, held=held)


def read_batches(
    ledger: Ledger, declaration: Declaration, links: Sequence[ChainLink], *, held: bool = False
) -> tuple[Batch, ...]:
    """Return the batches of links, without context; see `batches_of`."""
    return tuple(_batch_of(ledger, declaration, link, held) for link in links)


def in_context(
    ledger: Ledger,
    declaration: Declaration,
    earlier: Sequence[ChainLink],
    batches: Sequence[Batch],
    *,
    held: bool = False,
) -> tuple[Batch, ...]:
    """Return batches that follow one another with the rows before them that their model conditions on.

    Parameters
    ----------
    earlier
        The links whose batches count before the first of them, in order.
    batches
        In the order in which they count.
    held
        See `batches_of`.

    Returns
    -------
    tuple
        The batches; the context of each is the last rows before it, as many as declared.
    """
    if not declaration.context or not batches:
        return tuple(batches)
    read = (_batch_of(ledger, declaration, link, held).table for link in reversed(earlier))
    rows, found = last_rows(read, batches[0].table, declaration.context), list[Batch]()
    for batch in batches:
        found.append(replace(batch, context=rows))
        rows = last_rows((batch.table, rows), batch.table, declaration.context)
    return tuple(found)


def last_rows(newest_first: Iterable[pa.Table], like: pa.Table, wanted: int) -> pa.Table:
    """Return the last `wanted` rows of tables, in order; no rows of the table `like` where there are none.

    No table is taken that is not needed.
    """
    kept = list[pa.Table]()
    for table in newest_first:
        kept.insert(0, table.slice(max(0, table.num_rows - wanted)))
        wanted -= kept[0].num_rows
        if wanted <= 0:
            break
    return pa.concat_tables(kept) if kept else like.slice(0, 0)


def _batch_of(ledger: Ledger, declaration: Declaration, link: ChainLink, held: bool) -> Batch:
    def read() -> Batch:
        with downloaded(ledger, link.version.run_id, Artifact.BATCH) as path:
            batch = load_batch(path, declaration)
        require_digest(f"The batch of link {link.number}", link.version.batch, batch.digest, "content digest")
        return replace(batch, origin=link.version.origin)

    key = (link.version.record, link.version.batch, str(declaration.schema), declaration.row_key)
    if held:
        return _batches.get(key, read)
    batch = read()
    _batches.put(key, batch)
    return batch
