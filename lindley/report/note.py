"""The Markdown note of a link: the change of the belief, in words and a small table."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from lindley.report.markdown import code, escape, table
from lindley.report.markdown import link as markdown_link
from lindley.report.numbers import format_interval, format_pair, format_ratio, format_shift
from lindley.report.tables import most_moved, prior_text, summary_values
from lindley.report.text import counted

if TYPE_CHECKING:
    import pandas as pd

#: MLflow stores a version's description in 5,000 characters; a longer one fails on some databases.
NOTE_LIMIT = 5000
#: How many of them are left for digests and addresses, which the record cannot vouch for by a digest.
FOOT_LIMIT = 1000
_FOOT = "\n\nDigests: "
#: (parameters in the table, characters of each reason or warning), tried until the note fits.
_BUDGETS = ((30, 300), (20, 200), (10, 120), (5, 60), (0, 30))
_MOST_SENTENCES = 5
_MOST_ADDRESSES = 4
#: Digits of a digest that people see; the record has the whole digest.
_SHORT_DIGEST = 12

_COLUMNS = ["parameter", "prior mean ± sd", "posterior mean ± sd", "90% interval", "movement"]
_Values = Mapping[str, float]


class GateResult(Protocol):
    """What the note states of a gate; `lindley.inference.diagnostics.gate.Gate` has it."""

    @property
    def passed(self) -> bool:
        """Whether the fit passed."""

    @property
    def reasons(self) -> Sequence[str]:
        """Why it did not."""

    @property
    def warnings(self) -> Sequence[str]:
        """What to watch although it passed."""


class DroppedRows(Protocol):
    """Rows of a file that are not in its batch."""

    @property
    def rows(self) -> int:
        """How many."""


class BatchSource(Protocol):
    """What the note states of a batch; `lindley.batch.batch.Batch` has it."""

    @property
    def origin(self) -> str:
        """File name."""

    @property
    def rows(self) -> int:
        """Number of rows."""

    @property
    def dropped(self) -> DroppedRows | None:
        """Rows of the file that were left out because the chain already counts their keys."""


@dataclass(frozen=True, kw_only=True)
class NotedLink:
    """A link as its note presents it.

    Parameters
    ----------
    chain, kind
        Name of the chain, and kind of the link; see `lindley.ledger.record.Kind`.
    number
        Number of the link, None while it is not registered.
    prior
        Number of the link whose posterior was the prior; None for the model's own priors.
    status
        ``accepted``, ``candidate``, ``quarantined``, ``rejected`` or ``superseded``.
    batch
        The link's own batch; None for a link without one.
    taken_out
        What is taken out, in words: links whose batches no longer count, quarantined versions.
    joined
        Files of the quarantined batches that count from this link on.
    decision
        Who decided on which version, how and why, in words; empty where the link is no decision.
    """

    chain: str
    kind: str
    number: int | None = None
    prior: int | None = None
    status: str = "accepted"
    batch: BatchSource | None = None
    taken_out: Sequence[str] = ()
    joined: Sequence[str] = ()
    decision: str = ""


def link_note(
    summary: pd.DataFrame, link: NotedLink, gate: GateResult, *, limit: int = NOTE_LIMIT - FOOT_LIMIT
) -> str:
    """Return the note of a link, as Markdown that is safe to show anywhere.

    Parameters
    ----------
    summary
        Indexed by parameter label; columns as in `lindley.report.tables.parameter_rows`.
    link
        The link.
    gate
        Whether the fit passed its gate, why not, and what to watch.
    limit
        Number of characters of the note at most. Rows of the table go first, those of the
        parameters that moved least before the others.

    Returns
    -------
    str
        A heading, one paragraph, the table. `with_foot` adds the digests and the addresses.
    """
    values = summary_values(summary)
    heading = f"### {code(link.chain, 70)}, {_which(link)}: {escape(link.kind, 20)}"
    opening = [_opening(link), _taken_out(link), _dropped(link)]
    note = ""
    for most_rows, characters in _BUDGETS:
        decision = f"{escape(link.decision, characters)}." if link.decision else ""
        sentences = [
            *opening,
            decision,
            _movement(values),
            _sharpness(values),
            _outcome(link.status, gate, characters),
        ]
        paragraph = " ".join(filter(None, sentences))
        note = "\n\n".join(filter(None, [heading, paragraph, _table(values, most_rows)]))
        if len(note) <= limit:
            return note
    return note[: max(limit - 1, 0)] + "…"


def with_foot(note: str, digests: Mapping[str, str], addresses: Mapping[str, str] | None = None) -> str:
    """Return a note with its last lines, of `FOOT_LIMIT` characters at most.

    Parameters
    ----------
    note
        What `link_note` returned.
    digests
        Name -> hex digest, shown in short form; at least one.
    addresses
        Label -> http(s) address, shown as links; the first four, or those that fit.
    """
    foot, room = f"{_FOOT}{_digests(digests)}", FOOT_LIMIT - len(_FOOT)
    first = list((addresses or {}).items())[:_MOST_ADDRESSES]
    shown = [markdown_link(label, address) for label, address in first if address]
    while shown and len(foot) + 2 + len(" · ".join(shown)) > room:
        shown.pop()
    return "\n\n".join(filter(None, [f"{note}{foot}", " · ".join(shown)]))


def without_foot(note: str) -> str:
    """Return what `with_foot` was given; the note itself where it has no foot."""
    return note.rpartition(_FOOT)[0] or note


def _which(link: NotedLink) -> str:
    """Name the link; only links of the chain have numbers."""
    if link.number is not None:
        return f"link {link.number}"
    if link.status == "accepted":
        return "a link not yet registered"
    return f"a {escape(link.status, 20)} version"


def _opening(link: NotedLink) -> str:
    """State what kind of change this is and where its data came from."""
    batch = f"batch {code(link.batch.origin, 80)} ({counted(link.batch.rows, 'row')})" if link.batch else ""
    before = "the model's own priors" if link.prior is None else f"the posterior of link {link.prior}"
    if link.kind == "update" and batch:
        return f"{batch[0].upper()}{batch[1:]} updated {before}."
    sentence = {
        "genesis": "The chain starts from the model's own priors, without data.",
        "retract": f"Retracted batches no longer count; the belief starts again from {before}.",
        "correct": f"A batch was replaced; the belief starts again from {before}.",
        "rollback": f"The chain goes back to {before}.",
        "branch": f"A what-if chain starts from {before}.",
        "rebase": "All batches that count were fitted together from the model's own priors.",
        "import": "The belief was imported from an earlier trace.",
    }.get(link.kind, f"The prior was {before}.")
    return f"{sentence} The data are {batch}." if batch else sentence


def _taken_out(link: NotedLink) -> str:
    """Name the quarantined batches that now count, and what is taken out."""
    found = [f"Counted from here on, quarantined before: {_list(link.joined, 100)}."] if link.joined else []
    found += [f"Taken out: {_list(link.taken_out, 100)}."] if link.taken_out else []
    return " ".join(found)


def _dropped(link: NotedLink) -> str:
    """State how many rows of the file are not in the batch."""
    dropped = link.batch.dropped if link.batch else None
    if not dropped or not dropped.rows:
        return ""
    one = dropped.rows == 1
    return (
        f"{counted(dropped.rows, 'row')} of the file {'was' if one else 'were'} already counted and left out."
    )


def _movement(values: list[tuple[str, dict[str, float]]]) -> str:
    """Name the parameter that moved most, in prior standard deviations."""
    found = most_moved(values)
    if found is None:
        return "The prior has no finite mean and sd, so movement is not measured." if values else ""
    label, most = found
    if most["shift"] == 0:
        return "No parameter moved."
    direction = "up" if most["shift"] > 0 else "down"
    several = sum(math.isfinite(v["shift"]) for _, v in values) > 1
    manner = f"moved most, {direction}" if several else f"moved {direction}"
    distance = format_shift(abs(most["shift"])).lstrip("+").removesuffix(" sd")
    return (
        f"{code(label)} {manner} by {distance} prior sd, "
        f"from {prior_text(most)} to {format_pair(most['mean'], most['sd'])}."
    )


def _sharpness(values: list[tuple[str, dict[str, float]]]) -> str:
    """State how much narrower or wider the belief became, by the ratio of standard deviations."""
    ratios = {
        label: v["sd_ratio"] for label, v in values if math.isfinite(v["sd_ratio"]) and v["sd_ratio"] > 0
    }
    if not ratios:
        return ""
    ordered = sorted(ratios, key=lambda label: ratios[label])
    sharpest, least = ordered[0], ordered[-1]
    if len(ratios) == 1:
        return f"The interval of {code(sharpest)} is {_times(ratios[sharpest])}."
    return (
        f"At the median of {len(ratios)} parameters the intervals are "
        f"{_times(statistics.median(ratios.values()))} "
        f"({code(sharpest)}: {_times(ratios[sharpest])}; {code(least)}: {_times(ratios[least])})."
    )


def _times(ratio: float) -> str:
    """Return a ratio of new to old width in words, always with a factor of at least one."""
    factor = max(ratio, 1 / ratio)
    if factor < 1.005:
        return "as wide as before"
    return f"{factor:.3g} times {'narrower' if ratio < 1 else 'wider'}"


def _outcome(status: str, gate: GateResult, characters: int) -> str:
    """State whether the fit passed its gate, and what became of the link."""
    text = (
        "The fit passed its gate."
        if gate.passed
        else f"**The fit failed its gate:** {_list(gate.reasons, characters)}."
    )
    if status == "candidate":
        text += " The link is a candidate: the head does not move before a person approves it."
    elif status == "rejected":
        text += " The fit was rejected: the head did not move."
    elif status == "quarantined":
        text += " The link is quarantined: it is kept, and the head did not move."
    elif status == "superseded":
        text += " Another writer moved the head first, so the link is superseded and not part of the chain."
    return f"{text} Warnings: {_list(gate.warnings, characters)}." if gate.warnings else text


def _list(sentences: Sequence[str], characters: int) -> str:
    shown = [escape(sentence, characters).rstrip(".") for sentence in sentences[:_MOST_SENTENCES]]
    more = len(sentences) - len(shown)
    return "; ".join([*shown, *([f"and {more} more"] if more > 0 else [])]) or "no reason was given"


def _table(values: list[tuple[str, dict[str, float]]], most_rows: int) -> str:
    """Return the table, of the parameters that moved most when not all fit."""
    if not values or most_rows == 0:
        return ""
    shown = values
    if len(values) > most_rows:
        by_movement = sorted(range(len(values)), key=lambda i: -_moved(values[i][1]))
        shown = [values[i] for i in sorted(by_movement[:most_rows])]
    text = table(_COLUMNS, [_row(label, v) for label, v in shown])
    if len(shown) < len(values):
        text += f"\n\nThe {len(shown)} of {len(values)} parameters that moved most; all are in the summary."
    return text


def _moved(values: _Values) -> float:
    return abs(values["shift"]) if math.isfinite(values["shift"]) else -1.0


def _row(label: str, values: _Values) -> list[str]:
    movement = format_shift(values["shift"])
    if math.isfinite(values["sd_ratio"]):
        movement = f"{movement}, sd ratio {format_ratio(values['sd_ratio'])}"
    return [
        code(label),
        prior_text(values),
        format_pair(values["mean"], values["sd"]),
        format_interval(values["q05"], values["q95"], values["sd"]),
        movement,
    ]


def _digests(digests: Mapping[str, str]) -> str:
    shown = {escape(name, 30): str(digest)[:_SHORT_DIGEST] for name, digest in digests.items() if digest}
    return ", ".join([f"{name} {code(digest)}" for name, digest in shown.items()][:8])
