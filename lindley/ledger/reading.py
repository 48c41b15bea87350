"""Read a chain from a ledger; every piece is checked against its digest.

Walking a chain needs no arrays and tables, so the functions that read them import them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lindley.errors import LedgerCorrupt, UnknownChain, UnknownLink
from lindley.ledger.chain import Chain, ChainLink, walk
from lindley.ledger.protocol import Ledger
from lindley.ledger.record import Artifact, digest, parse, require_digest
from lindley.names import check_chain_name, divided

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from lindley.prior.belief import Belief
    from lindley.prior.matched import MatchedPrior


def find_chain(ledger: Ledger, name: str) -> Chain:
    """Return a chain by name.

    Raises
    ------
    UnknownChain
        If the ledger has no such chain.
    """
    return read_chain(ledger, name, genesis_of(ledger, name))


def genesis_of(ledger: Ledger, name: str) -> bytes:
    """Return the genesis record of a chain by name; see `Ledger.genesis`.

    Raises
    ------
    UnknownChain
        If the ledger has no such chain.
    """
    genesis = ledger.genesis(check_chain_name(name))
    if genesis is None:
        raise UnknownChain(
            f"There is no chain {name!r}",
            expected=f"one of: {', '.join(divided(ledger.chains())[0][:20]) or 'none yet'}",
            found=repr(name),
            todo="correct the name, or update the chain with its first batch",
        )
    return genesis


def find_begun(ledger: Ledger, name: str) -> tuple[Chain, bytes]:
    """Return a chain that has a link, and the bytes of its genesis record.

    Raises
    ------
    UnknownChain, UnknownLink
        If there is no such chain, or it has no link.
    """
    genesis = genesis_of(ledger, name)
    chain = read_chain(ledger, name, genesis)
    if chain.head is None:
        raise UnknownLink(
            f"{name} has no link yet",
            expected="a chain with at least one link",
            found="none",
            todo="update the chain with its first batch",
        )
    return chain, genesis


def read_chain(ledger: Ledger, chain: str, genesis: bytes, inside: tuple[str, ...] = ()) -> Chain:
    """Walk the registered versions of a chain; those of a branch after the links that it continues.

    Parameters
    ----------
    ledger, chain, genesis
        Where it is kept, its name, and the bytes of its genesis record.
    inside
        Branches that are being read, which continue this chain.

    Raises
    ------
    LedgerCorrupt
        If a branch starts from a link that is not there.
    """
    origin = parse(genesis)["branch"]
    base = _links_up_to(ledger, (*inside, chain), origin) if origin else ()
    return walk(digest(genesis), ledger.versions(chain, fresh=False), base)


def _links_up_to(ledger: Ledger, inside: tuple[str, ...], origin: dict[str, str]) -> tuple[ChainLink, ...]:
    """Return the links of the chain that the last branch of `inside` continues, up to where it starts."""
    # One that continues itself, through others or not, starts nowhere.
    genesis = ledger.genesis(origin["chain"]) if origin["chain"] not in inside else None
    source = read_chain(ledger, origin["chain"], genesis, inside) if genesis is not None else None
    start = source.link_of(origin["record"]) if source else None
    if source is None or start is None:
        raise LedgerCorrupt(
            f"The branch {inside[-1]} starts from a link that is not there",
            expected=f"a link of {origin['chain']} with the record {origin['record'][:12]}",
            found="no such chain" if source is None else f"{len(source.links)} links, none of them that one",
        )
    return source.links[: start.number]


@contextmanager
def downloaded(ledger: Ledger, run_id: str, name: str) -> Iterator[Path]:
    """Download an artifact of a run for the length of a block."""
    with tempfile.TemporaryDirectory(prefix="lindley-") as scratch:
        yield ledger.download(run_id, Path(scratch), name)


def read_record(ledger: Ledger, link: ChainLink) -> dict[str, Any]:
    """Fetch a link's record and check it against the digest in the version's tag.

    Raises
    ------
    LedgerCorrupt
        If it is missing, unreadable, or has another digest.
    """
    return record_of(ledger, link.version.run_id, link.version.record, f"link {link.number}")


def record_of(ledger: Ledger, run_id: str, record_digest: str, name: str) -> dict[str, Any]:
    """Fetch the record of a run; see `read_record`. `name` names it in errors."""
    with downloaded(ledger, run_id, Artifact.RECORD) as path:
        data = path.read_bytes()
    require_digest(f"The record of {name}", record_digest, digest(data))
    return parse(data)


def read_rows(ledger: Ledger, link: ChainLink) -> pa.Table:
    """Fetch the rows that a link counted, as it was given them, and check them against its batch digest.

    Raises
    ------
    LedgerCorrupt
        If they are missing, unreadable, or have another digest.
    """
    from lindley.batch.digest import content_digest  # see the module's docstring
    from lindley.batch.parquet_format import read_stored

    with downloaded(ledger, link.version.run_id, Artifact.BATCH) as path:
        try:
            table = read_stored(path)
            found = content_digest(table)
        except Exception as error:  # damaged files make the readers raise nearly anything
            table, found = None, f"{type(error).__name__}: {str(error)[:200]}"
    require_digest(f"The batch of link {link.number}", link.version.batch, found, "content digest")
    return table


def read_summary(ledger: Ledger, link: ChainLink, record: dict[str, Any]) -> pd.DataFrame:
    """Fetch a link's table of parameters and check it against the digest in its record.

    Raises
    ------
    LedgerCorrupt
        If it is missing, unreadable, or has another digest.
    """
    with tempfile.TemporaryDirectory(prefix="lindley-") as scratch:
        what, run_id = f"The summary of link {link.number}", link.version.run_id
        path = fetch_listed(ledger, run_id, record, Artifact.SUMMARY, Path(scratch), what)
        return read_table(path)


def read_table(path: Path) -> pd.DataFrame:
    """Read a table of parameters at full precision, as `lindley.ledger.bundle.write_csv` writes it."""
    import pandas as pd  # see the module's docstring

    # pandas reads floats to the last digit, which is what was written.
    return pd.read_csv(path, index_col="parameter")


def fetch_listed(
    ledger: Ledger, run_id: str, record: dict[str, Any], name: str, folder: Path, what: str
) -> Path:
    """Fetch an artifact into `folder` and check it against the digest in its record; return where it is.

    `what` names it in errors.

    Raises
    ------
    LedgerCorrupt
        If it is missing, or has another digest.
    """
    path = ledger.download(run_id, folder, name)
    require_digest(what, record["artifacts"].get(name), digest(path.read_bytes()))
    return path


def read_belief(ledger: Ledger, link: ChainLink) -> tuple[dict[str, Any], Belief]:
    """Fetch a link's record and matched prior, both checked against their digests.

    Raises
    ------
    LedgerCorrupt
        If one of them is not what the record states.
    """
    from lindley.ledger.netcdf import read_matched_prior  # see the module's docstring

    record = read_record(ledger, link)
    with downloaded(ledger, link.version.run_id, Artifact.MATCHED_PRIOR) as path:
        matched = read_matched_prior(path)
    stated = record["posterior"]["matched"]
    require_digest(f"The matched prior of link {link.number}", stated, matched.digest)
    return record, belief_from(record, matched)


def belief_from(record: dict[str, Any], matched: MatchedPrior) -> Belief:
    """Return the belief that a record and its matched prior state."""
    from lindley.prior.belief import Audited, Belief, Harm  # see the module's docstring

    metrics = record["metrics"]
    replayed = metrics.get("replayed")
    return Belief(
        matched=matched,
        budget=float(metrics.get("budget", 0.0)),
        trusted=metrics.get("trusted", 0.0) > 0,
        doubt=int(metrics.get("doubt", 0)),
        modes_lost=int(metrics.get("modes_lost", 0)),
        drift=float(metrics.get("drift", 0.0)),
        sight=record["hindsight"]["in_sight"],
        unseen=Harm(**record["hindsight"]["unseen"]),
        unmeasured=int(metrics.get("unmeasured", 0)),
        audited=Audited.of(metrics),
        apart=metrics.get("apart", 0.0) > 0,
        inlined=metrics.get("inlined", 0.0) > 0,
        # Imports have none of these: they cover no batch.
        log_evidence=metrics.get("log_evidence"),
        covered=0 if replayed is None else int(replayed) + 1,
        log_score=metrics.get("log_score"),
        forgetting=record["forgetting"],
        monitor=record["monitor"] or {},
    )


def read_signature(ledger: Ledger, link: ChainLink) -> bytes | None:
    """Return the signature of a link as stored; None where there is none."""
    try:
        with downloaded(ledger, link.version.run_id, Artifact.SIGNATURE) as path:
            return path.read_bytes()
    except (LedgerCorrupt, OSError):
        return None
