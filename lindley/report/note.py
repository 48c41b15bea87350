"""The Markdown note of a link: what changed, in words and a small table."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lindley.report.markdown import code, escape, link, table
from lindley.report.numbers import format_interval, format_pair, format_ratio, format_shift
from lindley.report.tables import SHORT_DIGEST, prior_text, summary_values

if TYPE_CHECKING:
    import pandas as pd

#: MLflow stores a version's description in 5,000 characters; a longer one fails on some databases.
NOTE_LIMIT = 5000
#: (parameters in the table, characters of each reason or warning), tried until the note fits.
_BUDGETS = ((30, 300), (20, 200), (10, 120), (5, 60), (0, 30))
_MOST_SENTENCES = 5
_MOST_LINKS = 4

_COLUMNS = ["parameter", "prior mean ± sd", "posterior mean ± sd", "90% interval", "movement"]
_Values = Mapping[str, float]


def link_note(
    summary: pd.DataFrame,
    *,
    chain: str,
    kind: str,
    link_number: int | None = None,
    prior_link: int | None = None,
    status: str = "accepted",
    origin: str | None = None,
    rows: int | None = None,
    taken_out: Sequence[str] = (),
    dropped: int = 0,
    passed: bool = True,
    reasons: Sequence[str] = (),
    warnings: Sequence[str] = (),
    digests: Mapping[str, str] | None = None,
    links: Mapping[str, str] | None = None,
    limit: int = NOTE_LIMIT,
) -> str:
    """Return the note of a link, as Markdown that is safe to show anywhere.

    Parameters
    ----------
    summary
        Indexed by parameter label; columns as in `lindley.report.tables.parameter_rows`.
    chain
        Name of the chain.
    kind
        Kind of the link; see `lindley.ledger.record.KINDS`.
    link_number
        Number of the link, None while it is not registered.
    prior_link
        Number of the link whose posterior was the prior; None for the model's own priors.
    status
        ``accepted``, ``quarantined`` or ``superseded``.
    origin, rows
        File name and number of rows of the batch, None for a link without a batch.
    taken_out
        The links whose batches no longer count, in words.
    dropped
        Rows of the file that were left out, because they were counted already.
    passed, reasons, warnings
        The gate's verdict: whether the fit passed, why not, and what to watch.
    digests
        Name -> hex digest, shown in short form.
    links
        Label -> http(s) address; the first four are shown.
    limit
        Number of characters of the note at most. Rows of the table go first, those of the
        parameters that moved least before the others.

    Returns
    -------
    str
        A heading, one paragraph, the table, the digests and the links.
    """
    values = summary_values(summary)
    heading = f"### {code(chain, 70)}, {_which(link_number, status)}: {escape(kind, 20)}"
    opening = " ".join(
        part for part in (_opening(kind, prior_link, origin, rows), _left_out(taken_out, dropped)) if part
    )
    note = ""
    for most_rows, characters in _BUDGETS:
        verdict = _verdict(status, passed, reasons, warnings, characters)
        paragraph = " ".join(
            part for part in (opening, _movement(values), _sharpness(values), verdict) if part
        )
        parts = [heading, paragraph, _table(values, most_rows), _digests(digests or {}), _links(links or {})]
        note = "\n\n".join(part for part in parts if part)
        if len(note) <= limit:
            return note
    return note[: max(limit - 1, 0)] + "…"


def _which(number: int | None, status: str) -> str:
    """Name the link; a fit that is no part of the chain has no number and never will."""
    if number is not None:
        return f"link {number}"
    return "a link not yet registered" if status == "accepted" else f"a {escape(status, 20)} version"


def _opening(kind: str, prior_link: int | None, origin: str | None, rows: int | None) -> str:
    """Say what kind of change this is and where its data came from."""
    counted = "" if rows is None else f" ({rows:,} row{'' if rows == 1 else 's'})"
    batch = "" if origin is None else f"batch {code(origin, 80)}{counted}"
    before = "the model's own priors" if prior_link is None else f"the posterior of link {prior_link}"
    if kind == "update" and batch:
        return f"{batch[0].upper()}{batch[1:]} updated {before}."
    sentence = {
        "genesis": "The chain starts from the model's own priors, without data.",
        "retract": f"The chain is as if batches had never come; the belief starts again from {before}.",
        "correct": f"A batch was replaced; the belief starts again from {before}.",
        "rollback": f"The chain goes back to {before}.",
        "branch": f"A what-if chain starts from {before}.",
        "rebase": "All batches that count were fitted together from the model's own priors.",
        "import": "The belief was imported from an earlier trace.",
        "migrate": "The belief passed to a new version of the model.",
    }.get(kind, f"The prior was {before}.")
    return f"{sentence} The data are {batch}." if batch else sentence


def _left_out(taken_out: Sequence[str], dropped: int) -> str:
    """Name the batches that no longer count, and the rows that were left out."""
    named = f"Taken out: {_list(taken_out, 100)}." if taken_out else ""
    rows = f"{dropped:,} row{'' if dropped == 1 else 's'} of the file" if dropped else ""
    left = f"{rows} counted already and {'was' if dropped == 1 else 'were'} left out." if dropped else ""
    return " ".join(part for part in (named, left) if part)


def _movement(values: list[tuple[str, dict[str, float]]]) -> str:
    """Name the parameter that moved most, in prior standard deviations."""
    moved = [(label, v) for label, v in values if math.isfinite(v["shift"])]
    if not moved:
        return "The prior has no finite mean and sd, so movement is not measured." if values else ""
    label, most = max(moved, key=lambda item: abs(item[1]["shift"]))
    if most["shift"] == 0:
        return "No parameter moved."
    direction = "up" if most["shift"] > 0 else "down"
    manner = f"moved most, {direction}" if len(moved) > 1 else f"moved {direction}"
    distance = format_shift(abs(most["shift"])).lstrip("+").removesuffix(" sd")
    return (
        f"{code(label)} {manner} by {distance} prior sd, "
        f"from {prior_text(most)} to {format_pair(most['mean'], most['sd'])}."
    )


def _sharpness(values: list[tuple[str, dict[str, float]]]) -> str:
    """Say how much narrower or wider the belief became, by the ratio of standard deviations."""
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
    """Say a ratio of new to old width in words, always with a factor above one."""
    factor = max(ratio, 1 / ratio)
    if factor < 1.005:
        return "as wide as before"
    return f"{factor:.3g} times {'narrower' if ratio < 1 else 'wider'}"


def _verdict(
    status: str, passed: bool, reasons: Sequence[str], warnings: Sequence[str], characters: int
) -> str:
    """Say what the gate decided, and what became of the link."""
    said = (
        "The fit passed its gate."
        if passed
        else f"**The fit failed its gate:** {_list(reasons, characters)}."
    )
    if status == "quarantined":
        said += " The link is quarantined: it is kept, and the head did not move."
    elif status == "superseded":
        said += " Another writer moved the head first, so the link is superseded and not part of the chain."
    return f"{said} Warnings: {_list(warnings, characters)}." if warnings else said


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
    shown = [
        f"{escape(name, 30)} {code(str(digest)[:SHORT_DIGEST])}" for name, digest in digests.items() if digest
    ]
    return f"Digests: {', '.join(shown[:8])}" if shown else ""


def _links(links: Mapping[str, str]) -> str:
    return " · ".join(link(label, address) for label, address in list(links.items())[:_MOST_LINKS] if address)
