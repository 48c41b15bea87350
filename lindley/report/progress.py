"""One parameter along the chain: its interval after each link."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from lindley.report import style
from lindley.report.draws import drawable
from lindley.report.numbers import QUANTILES, format_number

#: Up to this many links each has its own bar; more are drawn as bands.
MAX_BARS = 60
#: Largest reach of the first prior beyond the links' own range, as a share of that range.
PRIOR_REACH = 0.6


def chain_figure(
    rows: Sequence[Mapping[str, Any]],
    parameter: str,
    *,
    reference: float | None = None,
    reference_label: str = "reference",
    title: str | None = None,
) -> Figure:
    """Draw one parameter's median and its 50% and 90% intervals by link.

    Parameters
    ----------
    rows
        One mapping per link in the order of the chain, with ``link`` (int; 0 is the genesis prior,
        drawn in grey), ``label`` (text under the link) and ``q05``, ``q25``, ``q50``, ``q75``,
        ``q95``, on the parameter's natural scale. A missing or infinite quantile leaves a gap.
    parameter
        Label of the parameter.
    reference
        A value to compare with, drawn as a dashed line.
    reference_label
        Name of the reference in the legend.
    title
        Title of the figure; by default ``PARAMETER, link by link``.

    Returns
    -------
    matplotlib.figure.Figure
        Not known to `pyplot`; save it with `lindley.report.figures.save`.

    Notes
    -----
    The vertical axis covers the links with data. A genesis prior that is much wider extends beyond the
    panel, marked by an arrow. The axis is logarithmic when all its values are positive and the links'
    intervals span more than a factor of ten.
    """
    quantiles = drawable(np.array([[_number(row.get(q)) for q in QUANTILES] for row in rows]).reshape(-1, 5))
    genesis = np.array([row.get("link") == 0 for row in rows], dtype=bool)
    labels = [str(row.get("label", row.get("link", ""))) for row in rows]
    across = float(np.clip(0.62 * len(rows), 6.2, 11))
    figure, panels = style.sheet(
        1,
        1,
        panel=(across, 3.2),
        gap=(0, 0),
        title=title or f"{parameter}, link by link",
        note=_note(rows, quantiles, genesis),
        margin=(0.8, 0.5),
    )
    axes = panels[0, 0]
    if not np.isfinite(quantiles[:, 2]).any():
        style.message(axes, "no link has an interval of this parameter")
        return figure
    where = drawable(np.array([math.nan if reference is None else reference]))[0]
    wide = _wide(quantiles, genesis, where)
    if wide:
        ylim = tuple(np.exp(_limits(np.log(quantiles), genesis, np.log(where))))
        axes.set_yscale("log")
    else:
        ylim = _limits(quantiles, genesis, where)
    draw = _bars if len(rows) <= MAX_BARS else _bands
    draw(axes, quantiles, genesis)
    _arrows(axes, quantiles, ylim)
    if np.isfinite(where):
        axes.axhline(where, color=style.ALARM, linewidth=1.2, linestyle=(0, (5, 3)), zorder=3.5)
    margin = max(0.7, 0.015 * len(rows))
    axes.set(xlim=(-margin, len(rows) - 1 + margin), ylim=ylim)
    if wide:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_number(value)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        style.numeric(axes.yaxis, 6)
    axes.grid(visible=False, axis="x")
    style.labelled(axes, labels, across)
    axes.set_ylabel(style.words(parameter, 40), labelpad=4, **style.type_(8.5, style.FAINT))
    style.legend(figure, _entries(bool(genesis.any()), where, reference_label))
    return figure


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _note(rows: Sequence[Mapping[str, Any]], quantiles: np.ndarray, genesis: np.ndarray) -> str:
    """State the belief after the last link."""
    known = np.flatnonzero(np.isfinite(quantiles).all(axis=1) & ~genesis)
    if known.size == 0:
        return ""
    last = int(known[-1])
    low, _, middle, _, high = quantiles[last]
    # The sd from the width of the interval: as many digits as the belief supports.
    sd = (high - low) / 3.29
    shown = [format_number(x, sd) for x in (middle, low, high)]
    number = rows[last].get("link", last)
    return f"after link {number}: median {shown[0]}, 90% interval {shown[1]} to {shown[2]}"


def _wide(quantiles: np.ndarray, genesis: np.ndarray, reference: float) -> bool:
    """Return whether a logarithmic axis suits the links."""
    everything = np.append(quantiles[np.isfinite(quantiles)], reference if np.isfinite(reference) else 1.0)
    seen = quantiles[~genesis & np.isfinite(quantiles).all(axis=1)]
    return bool(seen.size and (everything > 0).all() and seen.max() > 10 * seen.min())


def _limits(quantiles: np.ndarray, genesis: np.ndarray, reference: float) -> tuple[float, float]:
    """Return the range of the links with data, extended towards the genesis prior's."""
    seen = quantiles[~genesis] if np.isfinite(quantiles[~genesis]).any() else quantiles
    values = seen[np.isfinite(seen)]
    if np.isfinite(reference):
        values = np.append(values, reference)
    low, high = style.limits(values)
    first = quantiles[genesis]
    if np.isfinite(first).any():
        reach = (high - low) * PRIOR_REACH
        low = max(min(low, float(np.nanmin(first)) - 0.03 * (high - low)), low - reach)
        high = min(max(high, float(np.nanmax(first)) + 0.03 * (high - low)), high + reach)
    return low, high


def _bars(axes: Axes, quantiles: np.ndarray, genesis: np.ndarray) -> None:
    """Draw one bar per link."""
    places = np.arange(len(quantiles))
    axes.plot(places, quantiles[:, 2], color=style.POSTERIOR, linewidth=0.8, alpha=0.35, zorder=2)
    thick = float(np.clip(160 / len(quantiles), 2.0, 7))
    for chosen, colour in ((genesis, style.PRIOR), (~genesis, style.POSTERIOR)):
        q05, q25, q50, q75, q95 = quantiles[chosen].T
        axes.vlines(places[chosen], q05, q95, color=colour, linewidth=1.5, zorder=3)
        axes.vlines(places[chosen], q25, q75, color=colour, linewidth=thick, zorder=3)
        axes.plot(
            places[chosen],
            q50,
            "o",
            markersize=max(thick * 0.9, 3),
            color="white",
            markeredgecolor=colour,
            zorder=4,
        )


def _bands(axes: Axes, quantiles: np.ndarray, genesis: np.ndarray) -> None:
    """Draw the links as bands, the genesis prior as a bar."""
    places = np.arange(len(quantiles))
    q05, q25, q50, q75, q95 = np.where(genesis[:, None], np.nan, quantiles).T
    axes.fill_between(places, q05, q95, color=style.POSTERIOR, alpha=0.20, linewidth=0)
    axes.fill_between(places, q25, q75, color=style.POSTERIOR, alpha=0.35, linewidth=0)
    axes.plot(places, q50, color=style.POSTERIOR, linewidth=1.3)
    axes.vlines(
        places[genesis], quantiles[genesis, 0], quantiles[genesis, 4], color=style.PRIOR, linewidth=1.5
    )


def _arrows(axes: Axes, quantiles: np.ndarray, ylim: tuple[float, float]) -> None:
    """Mark intervals that extend beyond the panel."""
    for place, (q05, *_, q95) in enumerate(quantiles):
        for edge, beyond, marker in ((ylim[0], q05 < ylim[0], "v"), (ylim[1], q95 > ylim[1], "^")):
            if beyond:
                axes.plot([place], [edge], marker, color=style.PRIOR, markersize=5, clip_on=False, zorder=6)


def _entries(genesis: bool, reference: float, reference_label: str) -> list[tuple[Artist, str]]:
    """Return the legend's entries."""
    entries: list[tuple[Artist, str]] = []
    if genesis:
        entries.append((Patch(facecolor=style.PRIOR), "first prior"))
    entries.append((Patch(facecolor=style.POSTERIOR), "posterior: median, 50% and 90% intervals"))
    if np.isfinite(reference):
        line = Line2D([], [], color=style.ALARM, linewidth=1.2, linestyle=(0, (5, 3)))
        entries.append((line, f"{style.words(reference_label, 40)} {format_number(reference)}"))
    return entries
