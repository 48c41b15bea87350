"""Compare the rows of a source with those that a chain counts, by row key.

The chain's own rows decide what is new: no file beside the ledger remembers what was pulled, so that nothing
is pulled twice and nothing is lost when a pull is killed. Of each row of the source 24 bytes are kept in
memory (16 for its key, 8 for its values); the batches of the chain are read one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lindley.batch.row_keys import key_hashes, key_ranges_of, range_columns, ranges_disjoint, row_hashes
from lindley.errors import BatchRefused
from lindley.ledger.chain import Chain, ChainLink
from lindley.ledger.lineage import read_batches
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import record_of
from lindley.ledger.record import Kind
from lindley.ledger.references import shown
from lindley.model.declaration import Declaration

#: Gives the rows of the source, in pieces with names; each call reads them again.
Pieces = Callable[[], Iterable[tuple[str, pa.Table]]]


class Fate(IntEnum):
    """What is known of a row of the source.

    ``NEW``: the chain has no such key. ``SAME``: it counts this row. ``REVISED``: it counts the key with
    other values. ``WAITING``: it is in a quarantined batch that waits. ``KEPT_OUT``: a person took it out of
    the chain, and it is as it was. ``REJECTED``: a person rejected it as it is, new or as a revision.
    """

    NEW = 0
    SAME = 1
    REVISED = 2
    WAITING = 3
    KEPT_OUT = 4
    REJECTED = 5


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The rows of a source beside those of a chain.

    Parameters
    ----------
    pieces
        Gives the rows again.
    keys
        Hashes of the distinct row keys of the source, sorted [row].
    fates
        What is known of them [row]; see `Fate`.
    revised
        How many rows of each counted batch have other values at the source, by the place where it counts.
    gone
        Hashes of the keys that the source has no more, by the place of their batch.
    repeated
        How many rows came again with the same values.
    """

    pieces: Pieces
    key: tuple[str, ...]
    keys: npt.NDArray[np.bytes_]
    fates: npt.NDArray[np.int8]
    revised: dict[int, int] = field(default_factory=dict)
    gone: dict[int, npt.NDArray[np.bytes_]] = field(default_factory=dict)
    repeated: int = 0

    def count(self, fate: Fate) -> int:
        """Return the number of rows with a fate."""
        return int(np.count_nonzero(self.fates == fate))

    @property
    def vanished(self) -> int:
        """Number of counted rows that the source has no more."""
        return sum(len(keys) for keys in self.gone.values())

    def rows(self, fate: Fate) -> Iterator[tuple[str, pa.Table]]:
        """Yield the rows with a fate, each key once, in the pieces of the source."""
        taken = np.zeros(len(self.keys), dtype=bool)
        for name, table in self.pieces():
            hashes = key_hashes(table, self.key)
            places, known = _places(self.keys, hashes)
            if not known.all():
                raise BatchRefused(
                    "The source gave other rows when it was read again",
                    expected="a split that cuts one file into the same rows each time",
                    found=f"{np.count_nonzero(~known)} rows with other keys",
                    todo="remove what is random from the model file's split",
                )
            wanted = (self.fates[places] == fate) & ~taken[places]
            wanted &= _first_ones(hashes)
            taken[places[wanted]] = True
            if wanted.any():
                yield name, table.filter(pa.array(wanted))


def compare(
    ledger: Ledger,
    declaration: Declaration,
    chain: Chain | None,
    pieces: Pieces,
    *,
    complete: bool,
    removed: Iterable[pa.Table] = (),
    rejected: bool = False,
) -> Comparison:
    """Compare a source with a chain.

    Parameters
    ----------
    chain
        The chain; None where there is none yet.
    pieces
        Gives the rows of the source.
    complete
        Whether the source gave all its rows, so that others are gone.
    removed
        Tables with the keys that the source states to be gone; those that it also gives are there.
    rejected
        Take rows that a person rejected as any others.

    Raises
    ------
    BatchRefused
        If one row key has several values at the source, or rows do not fit the schema.
    LedgerCorrupt
        If what the ledger holds does not have the digests it states.
    """
    key = tuple(declaration.row_key)
    keys, values, repeated, ranges = _hashed(pieces, key)
    fates = np.full(len(keys), Fate.NEW, dtype=np.int8)
    found = Comparison(pieces=pieces, key=key, keys=keys, fates=fates, repeated=repeated)
    if chain is None:
        return found
    stated = [np.empty(0, "S16")]
    for table in removed:
        stated.append(key_hashes(table, key))
        ranges.append(key_ranges_of(table, range_columns(table, key)))
    lost = None if complete else np.concatenate(stated)
    refused = np.zeros(len(keys), dtype=bool)
    for link in () if rejected else _rejected(chain):
        places = _alike(keys, values, *_hashes_of(ledger, declaration, link))
        refused[places] = True
    fates[refused] = Fate.REJECTED
    for place, link in enumerate(chain.at_head):
        if not complete and all(ranges_disjoint(each, link.version.key_ranges) for each in ranges):
            continue
        _against(found, place, (values, refused), _hashes_of(ledger, declaration, link), lost)
    for fate, links in (
        (Fate.WAITING, [ChainLink(0, version) for version in chain.waiting]),
        (Fate.KEPT_OUT, _retracted(ledger, chain)),
    ):
        for link in links:
            hashes, theirs = _hashes_of(ledger, declaration, link)
            places, known = _places(keys, hashes)
            known &= (values[places] == theirs) if len(keys) else False
            if fate == Fate.WAITING and not known.all():
                continue  # it was revised meanwhile: what is there now takes its place
            mine = places[known]
            fates[mine[fates[mine] == Fate.NEW]] = fate
    return found


def _against(
    found: Comparison,
    place: int,
    source: tuple[npt.NDArray[np.bytes_], npt.NDArray[np.bool_]],
    counted: tuple[npt.NDArray[np.bytes_], npt.NDArray[np.bytes_]],
    lost: npt.NDArray[np.bytes_] | None,
) -> None:
    """Enter into a comparison what a counted batch has, by the hashes of its keys and rows.

    Of each row of the source there is its hash, and whether a person rejected it: the counted one then
    stays. Keys that the source does not give are gone if they are among `lost`; with None all of them are.
    """
    (values, refused), (hashes, theirs) = source, counted
    places, known = _places(found.keys, hashes)
    gone = hashes[~known] if lost is None else hashes[~known & np.isin(hashes, lost)]
    if len(gone):
        found.gone[place] = gone
    mine = places[known]
    same = values[mine] == theirs[known]
    revised = ~same & ~refused[mine]
    found.fates[mine] = np.select([same, revised], [Fate.SAME, Fate.REVISED], Fate.REJECTED)
    if revised.any():
        found.revised[place] = int(np.count_nonzero(revised))


def _hashes_of(
    ledger: Ledger, declaration: Declaration, link: ChainLink
) -> tuple[npt.NDArray[np.bytes_], npt.NDArray[np.bytes_]]:
    """Return the hashes of keys and rows of a batch."""
    table = read_batches(ledger, declaration, [link], held=True)[0].table
    return key_hashes(table, tuple(declaration.row_key)), _short(row_hashes(table))


def _alike(
    keys: npt.NDArray[np.bytes_],
    values: npt.NDArray[np.bytes_],
    hashes: npt.NDArray[np.bytes_],
    theirs: npt.NDArray[np.bytes_],
) -> npt.NDArray[np.intp]:
    """Return the places of the source's rows that are those of a batch, key and values."""
    places, known = _places(keys, hashes)
    known &= (values[places] == theirs) if len(keys) else False
    return places[known]


def _rejected(chain: Chain) -> list[ChainLink]:
    """Return the versions whose batch a person rejected, and that none brought back since."""
    gone = {version.candidate for version in chain.rejections}
    back = {link.version.batch for link in chain.brought.values()} | {""}
    own = (*chain.candidates, *chain.quarantined)
    return [ChainLink(0, version) for version in own if version.record in gone and version.batch not in back]


def _short(hashes: npt.NDArray[np.bytes_]) -> npt.NDArray[np.bytes_]:
    """Return the first half of each hash: values are only compared where keys are equal."""
    return hashes.astype("S8")


def _hashed(
    pieces: Pieces, key: tuple[str, ...]
) -> tuple[npt.NDArray[np.bytes_], npt.NDArray[np.bytes_], int, list[dict[str, list[str]]]]:
    """Return hashes of the distinct keys, sorted, and of their values, how many came again, key ranges."""
    keys, values, ranges = [np.empty(0, "S16")], [np.empty(0, "S8")], list[dict[str, list[str]]]()
    for _, table in pieces():
        if not table.num_rows:
            continue
        keys.append(key_hashes(table, key))
        values.append(_short(row_hashes(table)))
        ranges.append(key_ranges_of(table, range_columns(table, key)))
    all_keys, all_values = np.concatenate(keys), np.concatenate(values)
    keys.clear()  # ten million rows take 240 MB in each form
    values.clear()
    order = np.argsort(all_keys, kind="stable")
    all_keys, all_values = all_keys[order], all_values[order]
    again = all_keys[1:] == all_keys[:-1]
    differing = again & (all_values[1:] != all_values[:-1])
    if differing.any():
        raise BatchRefused(
            "One row key has several values at the source",
            expected="each row key once",
            found=_example(pieces, key, all_keys[1:][differing]),
            todo="correct the source, or declare a row key that tells these rows apart",
        )
    repeated = int(np.count_nonzero(again))
    if repeated:
        kept = np.concatenate([[True], ~again])
        all_keys, all_values = all_keys[kept], all_values[kept]
    return all_keys, all_values, repeated, ranges


def _example(pieces: Pieces, key: tuple[str, ...], wanted: npt.NDArray[np.bytes_]) -> str:
    """Return how many keys these are, and one of them."""
    count = f"{len(np.unique(wanted))} such keys"
    for _, table in pieces():
        rows = np.flatnonzero(np.isin(key_hashes(table, key), wanted))
        if len(rows):
            row = table.select(list(key)).slice(int(rows[0]), 1).to_pylist()[0]
            return f"{count}, for example {', '.join(f'{name}={value}' for name, value in row.items())[:200]}"
    return count


def _places(
    keys: npt.NDArray[np.bytes_], wanted: npt.NDArray[np.bytes_]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """Return where hashes are among sorted ones, and whether they are there at all."""
    if not len(keys):
        return np.zeros(len(wanted), np.intp), np.zeros(len(wanted), bool)
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return places, keys[places] == wanted


def _first_ones(hashes: npt.NDArray[np.bytes_]) -> npt.NDArray[np.bool_]:
    """Return whether each hash is the first of its kind."""
    first = np.zeros(len(hashes), dtype=bool)
    first[np.unique(hashes, return_index=True)[1]] = True
    return first


def _retracted(ledger: Ledger, chain: Chain) -> list[ChainLink]:
    """Return what a person took out, quarantined batches included; a source that brings it again does not.

    What a pull took out, because the source had it no more, may come again.
    """
    at_head = {link.version.record for link in chain.at_head}
    held = chain.brought | {version.record: ChainLink(0, version) for version in chain.quarantined}
    found = list[ChainLink]()
    for link in chain.own:
        if link.version.kind != Kind.RETRACT:
            continue
        gone = [record for record in link.version.retracted if record in held and record not in at_head]
        if not gone:
            continue
        record = record_of(ledger, link.version.run_id, link.version.record, shown(link))
        if record["source"] is None:
            found += [held[each] for each in gone]
    return found


def last_version(ledger: Ledger, chain: Chain | None, address: str) -> dict[str, str] | None:
    """Return the newest version of a source that the chain counts in full; None if there is none."""
    for link in reversed(chain.at_head if chain is not None else ()):
        found = record_of(ledger, link.version.run_id, link.version.record, shown(link))["source"]
        if found is not None and found["address"] == address and found["complete"]:
            return dict(found["version"])
    return None
