"""The bars of the benchmark, computed from its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.speed.assessment import same_posterior
from benchmarks.speed.measure import (
    ARTICLE,
    COLD,
    LINDLEY,
    PASSED,
    QUOTED,
    REBUILT,
    SAMPLE,
    SAMPLING,
    UNCHANGED,
    UPDATE,
    WARM,
    Row,
)

#: Largest ratio of an update's time to that of its sampling alone, or largest difference in seconds.
TIMES_SAMPLING, SECONDS_MORE = 3.0, 1.0
#: Smallest ratio of PyMC's time, rebuilt for each batch, to Lindley's: warm, its aim, cold.
WARM_FASTER, WARM_AIM, COLD_FASTER = 8.0, 20.0, 3.0
#: Smallest ratio of CPU per effective draw of the article's SIR to Lindley's, warm and cold.
SIR_WARM, SIR_COLD = 200.0, 50.0
#: Largest ratio of a new model's first update, from the start of its process, to `pm.sample` on its rows, and
#: of its second one; largest CPU seconds of a command that changes nothing.
FIRST, SECOND, NOTHING_CPU = 1.2, 1.0, 2.0
#: Links whose times are compared, and the largest ratio.
EARLY, LATE, FLAT = 10, 1000, 1.1


@dataclass(frozen=True)
class Bar:
    """A bar and its measurement.

    Parameters
    ----------
    text
        The requirement.
    found
        The measurement.
    met
        None if it was not measured.
    """

    text: str
    found: str
    met: bool | None

    @property
    def word(self) -> str:
        return {True: "met", False: "MISSED", None: "not measured"}[self.met]


def all_bars(rows: Sequence[Row]) -> list[Bar]:
    """Return all bars in the order of the table."""
    return [
        _sampling(rows),
        _faster(rows, "warm", WARM, WARM_FASTER, f" (aim: {WARM_AIM:g})"),
        _article(rows, WARM, SIR_WARM),
        _article(rows, COLD, SIR_COLD),
        _faster(rows, "cold", COLD, COLD_FASTER, ""),
        _first_hour(rows, 1, FIRST),
        _first_hour(rows, 2, SECOND),
        _nothing(rows),
        _flat(rows),
        _no_loss(rows),
    ]


def paired(rows: Sequence[Row], scenario: str, other: str, process: str) -> list[tuple[Row, Row]]:
    """Return the rows of Lindley and of another method for each link that starts from a belief."""
    found = {
        (row.method, row.link): row for row in rows if (row.scenario, row.process) == (scenario, process)
    }
    links = sorted(link for method, link in found if method == LINDLEY and link > 1)
    return [(found[LINDLEY, link], found[other, link]) for link in links if (other, link) in found]


def _sampling(rows: Sequence[Row]) -> Bar:
    text = (
        f"warm: the whole update within {TIMES_SAMPLING:g} times its bare sampling, "
        f"or {SECONDS_MORE:g} s more, whichever is larger"
    )
    pairs = paired(rows, "warm", SAMPLING, WARM)
    if not pairs:
        return Bar(text, "", None)
    allowed = [
        ours.seconds / max(TIMES_SAMPLING * bare.seconds, bare.seconds + SECONDS_MORE) for ours, bare in pairs
    ]
    times = median(ours.seconds / bare.seconds for ours, bare in pairs)
    more = median(ours.seconds - bare.seconds for ours, bare in pairs)
    found = f"{times:.1f} times, {more:.2f} s more"
    return Bar(text, found, median(allowed) <= 1)


def _faster(rows: Sequence[Row], scenario: str, process: str, least: float, aim: str) -> Bar:
    text = f"{scenario}: at least {least:g} times faster than PyMC 6 rebuilt for each batch{aim}"
    pairs = paired(rows, scenario, REBUILT, process)
    if not pairs:
        return Bar(text, "", None)
    times = median(rival.seconds / ours.seconds for ours, rival in pairs)
    return Bar(text, f"{times:.1f} times", times >= least)


def _article(rows: Sequence[Row], process: str, least: float) -> Bar:
    text = (
        f"the article's SIR, first update, {process}: at least {least:g} times less CPU per effective draw "
        "than on PyMC3 (quoted)"
    )
    costs = {
        row.process: row.cpu_seconds / row.ess_min
        for row in rows
        if row.scenario == "sir_article" and row.link == 1 and row.method in (LINDLEY, ARTICLE)
    }
    if process not in costs or QUOTED not in costs:
        return Bar(text, "", None)
    times = costs[QUOTED] / costs[process]
    return Bar(text, f"{times:,.0f} times", times >= least)


def _first_hour(rows: Sequence[Row], link: int, most: float) -> Bar:
    which = {1: "first", 2: "second"}[link]
    text = f"first hour: the {which} update of a new model within {most:g} times of pm.sample's process"
    found = {row.method: row.seconds for row in rows if (row.scenario, row.link) == ("first_hour", link)}
    if not {UPDATE, SAMPLE} <= found.keys():
        return Bar(text, "", None)
    times = found[UPDATE] / found[SAMPLE]
    return Bar(text, f"{times:.2f} times", times <= most)


def _nothing(rows: Sequence[Row]) -> Bar:
    text = f"first hour: a known batch, log, show and chains within {NOTHING_CPU:g} s of CPU"
    found = {
        row.method: row.cpu_seconds
        for row in rows
        if row.scenario == "first_hour" and row.method in UNCHANGED
    }
    if not found:
        return Bar(text, "", None)
    return Bar(
        text,
        ", ".join(f"{name} {seconds:.1f} s" for name, seconds in found.items()),
        max(found.values()) <= NOTHING_CPU,
    )


def _flat(rows: Sequence[Row]) -> Bar:
    text = f"flat: link {LATE:,} costs at most {FLAT:g} times link {EARLY}"
    found = {row.link: row.seconds for row in rows if (row.scenario, row.method) == ("growth", LINDLEY)}
    if len(found) < 2:
        return Bar(text, "", None)
    early, late = min(found), max(found)
    times = found[late] / found[early]
    measured = (early, late) == (EARLY, LATE)
    found_text = f"{times:.2f} times" + ("" if measured else f" from link {early} to {late}")
    return Bar(text, found_text, times <= FLAT if measured else None)


def _no_loss(rows: Sequence[Row]) -> Bar:
    text = "no loss: every time of Lindley counts, by the same posterior and the same gate"
    ours = [row for row in rows if row.method.partition("+")[0] == LINDLEY]
    if not ours:
        return Bar(text, "", None)
    good = sum(counts(row) for row in ours)
    return Bar(text, f"{good} of {len(ours)}", good == len(ours))


def counts(row: Row) -> bool:
    """Return whether a row counts: the same posterior, within the gate's limits."""
    return row.gate == PASSED and same_posterior(row.mean_error_sd, row.mean_error_mcse)
