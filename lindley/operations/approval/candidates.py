"""Versions that a person decides on: which one is meant, and whether anything remains to be decided."""

from __future__ import annotations

from lindley.errors import UnknownLink
from lindley.ledger.chain import Chain, ChainLink, Version
from lindley.ledger.record import APPROVED, REJECTED
from lindley.ledger.references import DIGEST_CHARACTERS

#: Characters at most of who decided, and why: both are tags of the version.
MOST_WHO, MOST_WHY = 200, 2000


def choose_version(chain: Chain, word: str) -> Version:
    """Return the version that a word names; see `plan_decision`.

    Raises
    ------
    UnknownLink
        If there is none, or more than one.
    """
    all_ = [*chain.candidates, *chain.quarantined]
    number = word.removeprefix("@")
    if not word:
        found = list(chain.pending or chain.undecided)
    elif number.isdecimal() and number.isascii() and len(number) < 10:
        found = [version for version in all_ if version.number == int(number)]
    else:
        named = len(word) >= DIGEST_CHARACTERS
        found = [version for version in all_ if named and version.record.startswith(word)]
    if len({version.record for version in found}) == 1:
        return found[0]
    waiting = ", ".join(f"{v.number} ({v.origin or v.kind})" for v in chain.undecided) or "none"
    raise UnknownLink(
        f"{'There is no' if not found else 'There is more than one'} version {word!r} to decide on"
        if word
        else f"{'No' if not found else 'More than one'} candidate waits for a decision",
        expected="the number of a candidate or of a quarantined version, or the first "
        f"{DIGEST_CHARACTERS} or more characters of its record's digest",
        found=f"candidates without a decision: {waiting}",
        todo="run `lindley log --all` on the chain, and name the version",
    )


def settled(chain: Chain, version: Version) -> str:
    """State why nothing remains to be decided on a version; empty where a person has to decide."""
    before = chain.decided.get(version.record)
    if before is not None:
        return f"{stated(chain, version, before)}; nothing remains to be decided"
    link = counting(chain, version)
    if link is not None:
        return (
            f"The batch of version {version.number}, {version.origin}, counts already, in link {link.number}"
        )
    return ""


def verdict_of(chain: Chain, before: Version) -> str:
    """Return what was decided by a decision, `APPROVED` or `REJECTED`: only an approved one is a link."""
    return REJECTED if chain.link_of(before.record) is None else APPROVED


def stated(chain: Chain, version: Version, before: Version) -> str:
    """State the decision on a version."""
    link = chain.link_of(before.record)
    place = f" as link {link.number}" if link else ""
    verdict = verdict_of(chain, before)
    return f"Version {version.number} was {verdict} by {before.who}{place}: {before.why}".rstrip(".")


def counting(chain: Chain, version: Version) -> ChainLink | None:
    """Return the link in which the batch of a version counts."""
    return next((link for link in chain.at_head if link.version.batch == version.batch != ""), None)
