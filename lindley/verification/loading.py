"""Load a link that is signed by a known key, has a witness's history, and is no older than seen before.

A person who may write to a registry can put an older copy in its place, and a copy is a sound chain. A reader
notices with something that is not in the registry: a public key, a witness, or what was seen the last time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lindley.atomic import write_over
from lindley.errors import LedgerCorrupt
from lindley.ledger.chain import Chain, ChainLink
from lindley.ledger.history import Link, find_link
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import find_chain, read_signature
from lindley.verification.check import read_witness
from lindley.verification.rules import Report


@dataclass(frozen=True, kw_only=True)
class Brought:
    """What a reader brings along to check a chain with.

    Parameters
    ----------
    keys
        Files of public keys: the link must be signed by one of them.
    witnesses
        Files of head statements (`lindley head`): the chain must still have their history.
    seen
        A folder that keeps the newest head that was seen of each chain: the chain must still have that one.
        It is created where it is not there, and remembers the head after each check that passes.
    """

    keys: tuple[Path, ...] = ()
    witnesses: tuple[Path, ...] = ()
    seen: Path | None = None


def checked_link(ledger: Ledger, reference: str, brought: Brought) -> Link:
    """Return the link that a reference names, checked with what the reader brings along.

    That of a panel is a `lindley.panel.link.PanelLink`.

    Its record and every file that is read from it are checked against their digests in any case.

    Raises
    ------
    LedgerCorrupt
        If a signature is missing or wrong, or the chain lacks links that were there.
    KeyRefused, WitnessRefused
        If a key or a witness cannot be used.
    UnknownChain, UnknownLink
        If there is no such chain or link.
    """
    link = find_link(ledger, reference)
    chain = find_chain(ledger, link.chain)
    if brought.keys or brought.witnesses:
        _check(ledger, chain, link, brought)
    if brought.seen is not None:
        _compare(chain, link.chain, brought.seen)
    if not link.has_members:
        return link
    from lindley.panel.link import panel_link  # imports the numerical stack

    return panel_link(link)


def _check(ledger: Ledger, chain: Chain, link: Link, brought: Brought) -> None:
    """Check the link's signature and the chain's history."""
    from lindley.ledger.signing import public_key  # only this waits for the cryptography
    from lindley.verification.signature_rules import with_signatures, with_witness

    keys = [public_key(path) for path in brought.keys]
    lines = [_line(link.chain, held) for held in chain.links]
    whole = Report(chain=link.chain, links=tuple(lines), rules={}, findings=())
    report = whole
    if keys:
        own = next(held for held in chain.links if held.number == link.view.number)
        _ = link.record  # the digest that is compared with the signature is that of this record
        one = Report(chain=link.chain, links=(_line(link.chain, own),), rules={}, findings=())
        report = with_signatures(one, {own.number: read_signature(ledger, own)}, keys)
    wrong = report.first_error
    for path in brought.witnesses:
        wrong = wrong or with_witness(whole, read_witness(path), keys).first_error
    if wrong is not None:
        raise LedgerCorrupt(
            f"{link.chain} link {link.view.number} was not loaded",
            expected="a link that is signed, in a chain with the history that the witness states",
            found=f"{wrong.rule}: {wrong.message}",
            todo=f"run `lindley verify {link.chain}` with key and witness; find out who wrote to it",
        )


def _line(chain: str, link: ChainLink) -> dict[str, Any]:
    """Return a link as reports have it."""
    version = link.version
    return {
        "chain": chain,
        "link": link.number,
        "version": version.number,
        "record": version.record,
        "kind": version.kind,
        "previous": version.previous,
        "batch": version.batch,
    }


def _compare(chain: Chain, name: str, folder: Path) -> None:
    """Refuse a chain without the head that was seen last; remember its head."""
    path = folder / f"{name}.json"
    held = [link.version.record for link in chain.links]
    last = _seen(path)
    if last and (len(held) < last["link"] or held[last["link"] - 1] != last["record"]):
        found = held[last["link"] - 1][:12] if len(held) >= last["link"] else f"only {len(held)} links"
        raise LedgerCorrupt(
            f"{name} is older than what was seen before, or was rewritten",
            expected=f"the record {last['record'][:12]} as link {last['link']}",
            found=found,
            todo=f"find out who restored or changed the store; if that was meant, delete {path.name}",
        )
    if held and (not last or len(held) > last["link"]):
        folder.mkdir(parents=True, exist_ok=True)
        write_over(json.dumps({"link": len(held), "record": held[-1]}).encode(), path)


def _seen(path: Path) -> dict[str, Any] | None:
    """Return the head that was seen last; None where none was."""
    try:
        found = json.loads(path.read_bytes())
        if not isinstance(found["link"], int) or found["link"] < 1:
            raise ValueError("the number of a link is 1 or more")
        return {"link": found["link"], "record": str(found["record"])}
    except FileNotFoundError:
        return None
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise LedgerCorrupt(
            f"The head that was seen last cannot be read from {path.name}",
            expected="what an earlier check wrote",
            found=f"{type(error).__name__}: {error}"[:200],
            todo="delete the file, if you trust the chain as it is",
        ) from error


def paths(given: Path | str | Sequence[Path | str] | None) -> tuple[Path, ...]:
    """Return one path or several as a tuple."""
    if given is None:
        return ()
    return (Path(given),) if isinstance(given, Path | str) else tuple(map(Path, given))
