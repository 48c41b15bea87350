"""One parameter along the chain: its interval after each link."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from lindley.report import style
from lindley.report.draws import drawable, finite
from lindley.report.numbers import QUANTILES, format_number

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
    table = [[math.nan if row.get(q) is None else float(row[q]) for q in QUANTILES] for row in rows]
    quantiles = drawable(np.array(table).reshape(-1, len(QUANTILES)))
    genesis = np.array([row.get("link") == 0 for row in rows], dtype=bool)
    labels = [str(row.get("label", row.get("link", ""))) for row in rows]
    across = float(np.clip(0.62 * len(rows), 6.2, 11))
    figure, panels = style.sheet(
        1, 1, panel=(across, 3.2), gap=(0, 0), title=title or f"{parameter}, link by link",
        note=_note(rows, quantiles, genesis), margin=(0.8, 0.5),
    )  # fmt: skip
    axes = panels[0, 0]
    if not np.isfinite(quantiles[:, 2]).any():
        style.message(axes, "no link has an interval of this parameter")
        return figure
    where = drawable(np.array([math.nan if reference is None else reference]))
    margin = max(0.7, 0.015 * len(rows))
    axes.set(xlim=(-margin, len(rows) - 1 + margin))
    _scale_y(axes, quantiles, genesis, where)
    entries = [(Patch(facecolor=style.POSTERIOR), "posterior: median, 50% and 90% intervals")]
    if genesis.any():
        entries.insert(0, (Patch(facecolor=style.PRIOR), "first prior"))
    _bars(axes, quantiles, genesis)
    if np.isfinite(where).all():
        line = axes.axhline(where[0], color=style.ALARM, linewidth=1.5, linestyle=(0, (5, 3)), zorder=3.5)
        entries.append((line, f"{style.words(reference_label, 40)} {format_number(where[0])}"))
    axes.grid(visible=False, axis="x")
    style.labelled(axes, labels, across)
    axes.set_ylabel(style.words(parameter, 40), labelpad=4, **style.type_(8.5, style.FAINT))
    style.legend(figure, entries)
    return figure


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


def _scale_y(axes: Axes, quantiles: np.ndarray, genesis: np.ndarray, reference: np.ndarray) -> None:
    """Fit the axis to the links with data and the reference, extended towards the genesis prior's."""
    seen = finite(quantiles[~genesis])
    known = seen if seen.size else finite(quantiles)
    everything = np.concatenate([finite(quantiles), finite(reference)])
    wide = bool(everything.min() > 0 and known.max() > 10 * known.min())
    scale, back = (np.log, np.exp) if wide else (np.asarray, np.asarray)
    low, high = style.limits(scale(np.concatenate([known, finite(reference)])))
    reach = (high - low) * PRIOR_REACH
    around = np.clip(scale(everything), low - reach, high + reach)
    axes.set_ylim(*back(np.array(style.limits(np.append(around, [low, high]), 0.02))))
    if wide:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_number(value)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        style.numeric(axes.yaxis, 6)


def _bars(axes: Axes, quantiles: np.ndarray, genesis: np.ndarray) -> None:
    """Draw one bar per link, with arrows where intervals extend beyond the panel."""
    places = np.arange(len(quantiles))
    axes.plot(places, quantiles[:, 2], color=style.POSTERIOR, linewidth=0.8, alpha=0.35, zorder=2)
    thick = float(np.clip(160 / len(quantiles), 0.8, 7))
    for chosen, colour in ((genesis, style.PRIOR), (~genesis, style.POSTERIOR)):
        q05, q25, q50, q75, q95 = quantiles[chosen].T
        axes.vlines(places[chosen], q05, q95, color=colour, linewidth=min(1.5, thick), zorder=3)
        axes.vlines(places[chosen], q25, q75, color=colour, linewidth=thick, zorder=3)
        size = max(0.9 * thick, 2)
        axes.plot(places[chosen], q50, "o", ms=size, color="white", markeredgecolor=colour, zorder=4)
    low, high = axes.get_ylim()
    for edge, beyond, marker in ((low, quantiles[:, 0] < low, "v"), (high, quantiles[:, 4] > high, "^")):
        height = np.full(beyond.sum(), edge)
        axes.plot(places[beyond], height, marker, color=style.PRIOR, ms=5, clip_on=False, zorder=6)
