"""Resolve references (`head`, `3`, a digest prefix, a file name) to links or batches."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lindley.errors import UnknownLink
from lindley.ledger.chain import Chain, ChainLink

#: Characters of a digest at least that name a batch or link.
DIGEST_CHARACTERS = 8
_DIGEST = re.compile(rf"[0-9a-f]{{{DIGEST_CHARACTERS},64}}")


def shown(link: ChainLink) -> str:
    """Name a link for people: its number, and its file where it has one; 0 is no link but quarantined."""
    name = f"link {link.number}" if link.number else f"quarantined version {link.version.number}"
    return name + (f" ({link.version.origin})" if link.version.origin else "")


def choose_link(chain: Chain, word: str) -> ChainLink:
    """Return the link that a word names: its number (``3`` or ``@3``), ``head``, or its record's digest.

    Raises
    ------
    UnknownLink
        If there is no such link, or more than one.
    """
    if word in ("head", "@head", "") and chain.head is not None:
        return chain.head
    found = _numbered(chain, word)
    if found is None and _DIGEST.fullmatch(word):
        found = _only(word, [link for link in chain.links if link.version.record.startswith(word)])
    if found is not None:
        return found
    raise UnknownLink(
        f"The chain has no link {word!r}",
        expected=f"a number from 1 to {len(chain.links)}, head, or the first {DIGEST_CHARACTERS} or more "
        "characters of a record's digest"
        if chain.links
        else "a chain with at least one link",
        found=repr(word)[:80],
        todo="run `lindley log` on the chain",
    )


def choose_batch(chain: Chain, word: str) -> ChainLink:
    """Return the link whose batch a word means: the link's number, the batch's digest or its file's name.

    Batches that the head counts come first, then quarantined ones that wait (as link 0), then those that do
    not count any more. A number names a link's own batch, not one that joined with it.

    Parameters
    ----------
    chain
        The chain.
    word
        ``3`` or ``@3``, at least `DIGEST_CHARACTERS` characters of the digest, or a file name.

    Raises
    ------
    UnknownLink
        If no link has such a batch, or several have.
    """
    with_batch = list(chain.brought.values())
    waiting = [ChainLink(0, version) for version in chain.waiting]
    found = _numbered(chain, word)
    if found is None:
        counted = [link for link in with_batch if link in chain.at_head]
        for links in (counted, waiting, with_batch):
            named = [link for link in links if link.version.origin == word]
            if not named and _DIGEST.fullmatch(word):
                named = [link for link in links if link.version.batch.startswith(word)]
            found = _only(word, named)
            if found is not None:
                break
    if found is None or not found.version.batch:
        raise UnknownLink(
            f"No batch is {word!r}" if found is None else f"Link {found.number} has no batch of its own",
            expected=f"a link's number, a file's name, or the first {DIGEST_CHARACTERS} or more characters "
            "of a batch's digest",
            found=f"{len(with_batch)} links with a batch" if found is None else f"kind {found.version.kind}",
            todo="run `lindley log` on the chain",
        )
    return found


def _numbered(chain: Chain, word: str) -> ChainLink | None:
    number = word.removeprefix("@")
    if not (number.isdecimal() and number.isascii()) or not 0 < len(number) < 10:
        return None
    return chain.links[int(number) - 1] if 1 <= int(number) <= len(chain.links) else None


def _only(word: str, links: Sequence[ChainLink]) -> ChainLink | None:
    """Return the one link, or None where there is none."""
    if len(links) > 1:
        raise UnknownLink(
            f"{word!r} names more than one link",
            expected="one link",
            found=", ".join(str(link.number) for link in links[:10]),
            todo="give the link's number",
        )
    return links[0] if links else None
