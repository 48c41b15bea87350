"""Summaries of links: by stream for results.csv, by family for the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.between import write_between
from benchmarks.drift.chains import DATA_KINDS, ERROR_KINDS
from benchmarks.drift.streams import FAMILIES

#: A link is right if its true error is at most this, and wrong if it is above it by more than `_ERRORS` Monte
#: Carlo standard errors; in sds.
WRONG = 0.1
_ERRORS = 3.0
#: Errors below a thousandth of an sd have no effect on what is reported: the ratio's bar is on the others.
#: For one normal error a bound that holds in 99% of links is 2.576 / 0.674 = 3.8 times the median error: a
#: smaller ratio is possible only where several quantities, or a drift that is known, make the error.
VISIBLE = 0.001
#: What the whole must reach: share of links within the stated error; median of stated over true; links wrong
#: and unflagged; share of links right and flagged.
BARS = {"within": 0.99, "ratio": 3.0, "unflagged": 0, "nuisance": 0.02}
#: README.md holds the table between these lines.
MARKS = ("<!-- written by make bench-drift: begin -->", "<!-- written by make bench-drift: end -->")


@dataclass(frozen=True)
class Summary:
    """Links of a family, or of all.

    Parameters
    ----------
    family, streams, links
        Which, and how many; `links` leaves out refused fits.
    within
        Share of links whose true error is at most the stated one.
    ratio, visible
        Median of stated over true error, and that of links where one of them is above `VISIBLE`.
    true, largest
        Median and largest true error.
    wrong, unflagged
        Number of links that are wrong, and of those without a warning about it.
    nuisance
        Share of links that are right and have a warning about the belief.
    refused
        Share of the batches that the gate refused.
    alarmed
        Share of links with a warning about the data.
    """

    family: str
    streams: int
    links: int
    within: float
    ratio: float
    visible: float
    true: float
    largest: float
    wrong: int
    unflagged: int
    nuisance: float
    refused: float
    alarmed: float

    @property
    def missed(self) -> tuple[str, ...]:
        """Bars that are missed."""
        reached = {
            "within": self.within >= BARS["within"],
            "ratio": not self.visible > BARS["ratio"],
            "unflagged": self.unflagged <= BARS["unflagged"],
            "nuisance": self.nuisance < BARS["nuisance"],
        }
        return tuple(name for name, met in reached.items() if not met)


def read_links(path: Path) -> pd.DataFrame:
    """Read a file of links; empty texts stay texts."""
    texts = dict.fromkeys(("flags", "refused", "code"), "str")
    return pd.read_csv(path, dtype=texts).fillna(dict.fromkeys(texts, ""))


def assessed(links: pd.DataFrame) -> pd.DataFrame:
    """Return links with the columns `accepted`, `within`, `wrong`, `flagged`, `alarmed` added.

    A link that states no error, or whose error is not a number, is not within it and is wrong.
    """
    kinds = [set(text.split()) for text in links["flags"]]
    bar = WRONG + _ERRORS * links["monte_carlo"]
    return links.assign(
        accepted=links["refused"] == "",
        within=links["true_error"] <= links["stated_error"],
        wrong=~(links["true_error"] <= bar),
        flagged=[bool(found & ERROR_KINDS) for found in kinds],
        alarmed=[bool(found & DATA_KINDS) for found in kinds],
    )


def summarise(links: pd.DataFrame, family: str) -> Summary:
    """Summarise assessed links."""
    kept = links[links["accepted"]]
    ratio = kept["stated_error"] / kept["true_error"].clip(lower=1e-12)
    return Summary(
        family=family,
        streams=links["stream"].nunique(),
        links=len(kept),
        within=float(kept["within"].mean()),
        ratio=float(ratio.median()),
        visible=float(ratio[kept[["true_error", "stated_error"]].max(axis=1) > VISIBLE].median()),
        true=float(kept["true_error"].median()),
        largest=float(kept["true_error"].max()),
        wrong=int(kept["wrong"].sum()),
        unflagged=int((kept["wrong"] & ~kept["flagged"]).sum()),
        nuisance=float(((kept["true_error"] <= WRONG) & kept["flagged"]).mean()),
        refused=float((~links["accepted"]).mean()),
        alarmed=float(kept["alarmed"].mean()),
    )


def by_family(links: pd.DataFrame) -> list[Summary]:
    """Return a summary of each family that has links, and of all."""
    parts = [(family, links[links["family"] == family]) for family in FAMILIES]
    return [*(summarise(part, family) for family, part in parts if len(part)), summarise(links, "all")]


def by_stream(links: pd.DataFrame) -> list[dict[str, Any]]:
    """Return one row per stream for results.csv."""
    rows = []
    for name, part in links.groupby("stream", sort=False):
        found, kept = summarise(part, str(name)), part[part["accepted"]]
        last = kept.iloc[-1] if len(kept) else part.iloc[-1]
        worst = kept.loc[kept["true_error"].idxmax()] if len(kept) else last
        rows.append(
            {
                "stream": name,
                "family": last["family"],
                "model": last["model"],
                "links": found.links,
                "refits": int((kept["kind"] == "rebase").sum()),
                "rows": last["rows"],
                "within": found.within,
                "ratio": found.ratio,
                "visible": found.visible,
                "true_last": last["true_error"],
                "stated_last": last["stated_error"],
                "true_largest": found.largest,
                "stated_there": worst["stated_error"],
                "at_link": worst["link"],
                "wrong": found.wrong,
                "unflagged": found.unflagged,
                "nuisance": found.nuisance,
                "refused": int((~part["accepted"]).sum()),
                "alarmed": found.alarmed,
                "flags": " ".join(sorted({kind for text in kept["flags"] for kind in text.split()})),
                "seconds": part["seconds"].median(),
                "code": last["code"],
            }
        )
    return rows


def markdown(found: Sequence[Summary]) -> str:
    """Return the table of families as Markdown."""
    head = (
        "| family | streams | links | true ≤ stated | stated / true | above 0.001 | true, median "
        "| true, largest | wrong | wrong, unflagged | right, flagged | refused | data alarms |"
    )
    lines = [head, "| --- |" + " ---: |" * 12]
    for row in found:
        ratio, visible = (f"{x:.1f}" if np.isfinite(x) else "-" for x in (row.ratio, row.visible))
        lines.append(
            f"| {row.family} | {row.streams} | {row.links} | {row.within:.1%} | {ratio} | {visible} "
            f"| {row.true:.4f} | {row.largest:.3f} | {row.wrong} | {row.unflagged} "
            f"| {row.nuisance:.1%} | {row.refused:.1%} | {row.alarmed:.2%} |"
        )
    return "\n".join(lines)


def write_page(path: Path, text: str) -> None:
    """Replace what stands between the marks of a page.

    Raises
    ------
    ValueError
        If the page lacks the marks.
    """
    write_between(path, *MARKS, text)
