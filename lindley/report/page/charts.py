"""Charts of a chain as SVG for a page: they take the page's colours, light or dark, and its type."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from lindley.report import style
from lindley.report.draws import drawable, finite
from lindley.report.numbers import QUANTILES

#: Size of a chart in inches.
_SIZE = (5.0, 1.8)
#: Links from which on bands are drawn in place of bars.
_BANDS = 40
#: Share of the links' range that the first prior may add to the axis.
_PRIOR_REACH = 0.4
#: The page's variable that each colour of a figure stands for.
_COLOURS = {
    style.INK: "--ink",
    style.FAINT: "--faint",
    style.GRID: "--rule",
    style.POSTERIOR: "--posterior",
    style.PRIOR: "--prior",
    style.ALARM: "--alarm",
    "#ffffff": "--paper",
}
#: matplotlib writes SVG by settings of the process.
_settings = threading.Lock()


@dataclass(frozen=True)
class Marks:
    """Links that a chart marks with vertical lines.

    Parameters
    ----------
    refits
        Pooled refits.
    amendments
        Retractions, corrections and rollbacks.
    """

    refits: tuple[int, ...] = ()
    amendments: tuple[int, ...] = ()


def fan(
    links: Sequence[int], quantiles: np.ndarray, marks: Marks, *, prior: Sequence[float] | None = None
) -> str:
    """Draw a parameter's median and its 50% and 90% intervals by link.

    Parameters
    ----------
    links
        Numbers of the links, growing.
    quantiles
        Array [link, quantile] in the order of `QUANTILES`, on the parameter's natural scale.
    marks
        Links to mark.
    prior
        The same quantiles of the first prior, drawn before the first link; None where there is none.

    Returns
    -------
    str
        An SVG element.
    """
    figure, axes = _panel()
    known = drawable(np.asarray(quantiles, dtype=float).reshape(-1, len(QUANTILES)))
    places = np.asarray(links, dtype=float)
    if not finite(known).size:
        style.message(axes, "no link has an interval of this parameter")
        return _svg(figure)
    (_bands if len(places) >= _BANDS else _bars)(axes, places, known, style.POSTERIOR)
    low, high = style.limits(finite(known))
    if prior is not None:
        first = drawable(np.array([prior], dtype=float))
        _bars(axes, np.array([places[0] - 1]), first, style.PRIOR)
        reach = (high - low) * _PRIOR_REACH
        seen = np.clip(finite(first), low - reach, high + reach) if finite(first).size else np.array([low])
        low, high = min(low, seen.min()), max(high, seen.max())
    axes.set_ylim(low, high)
    style.numeric(axes.yaxis, 5)
    _by_link(axes, places, marks, before=1 if prior is not None else 0)
    return _svg(figure)


def lines(
    links: Sequence[int],
    drawn: Sequence[Sequence[float]],
    marks: Marks,
    *,
    threshold: float | None = None,
) -> str:
    """Draw values by link: the first line solid, the others dashed.

    Parameters
    ----------
    links
        Numbers of the links, growing.
    drawn
        Values by link for each line, NaN where there is none.
    marks
        Links to mark.
    threshold
        Where a horizontal line is drawn; None for none.

    Returns
    -------
    str
        An SVG element.
    """
    figure, axes = _panel()
    places = np.asarray(links, dtype=float)
    arrays = drawable(np.array(drawn, dtype=float).reshape(len(drawn), len(places)))
    values = finite(arrays)
    if not values.size:
        style.message(axes, "no link has this metric")
        return _svg(figure)
    first, *others = arrays
    # A line runs on over a link without a value, such as a rebase: it has no batch of its own.
    known = np.isfinite(first)
    dots = "o" if known.sum() < _BANDS else ""
    axes.plot(places[known], first[known], color=style.POSTERIOR, lw=1.3, marker=dots, ms=3)
    for other in others:
        known = np.isfinite(other)
        axes.plot(places[known], other[known], color=style.FAINT, lw=1.3, linestyle=(0, (4, 2)))
    if threshold is not None:
        axes.axhline(threshold, color=style.ALARM, lw=1, linestyle=(0, (5, 3)))
        values = np.append(values, threshold)
    style.scale_y(axes, values)
    _by_link(axes, places, marks)
    return _svg(figure)


def _panel() -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE, facecolor="none")
    figure.set_layout_engine("none")
    axes = figure.add_axes((0.115, 0.17, 0.855, 0.78))
    style.dress(axes)
    axes.set_facecolor("none")
    return figure, axes


def _bands(axes: Axes, places: np.ndarray, quantiles: np.ndarray, colour: str) -> None:
    q05, q25, q50, q75, q95 = quantiles.T
    axes.fill_between(places, q05, q95, color=colour, alpha=0.2, linewidth=0)
    axes.fill_between(places, q25, q75, color=colour, alpha=0.35, linewidth=0)
    axes.plot(places, q50, color=colour, linewidth=1.3)


def _bars(axes: Axes, places: np.ndarray, quantiles: np.ndarray, colour: str) -> None:
    q05, q25, q50, q75, q95 = quantiles.T
    axes.vlines(places, q05, q95, color=colour, linewidth=1.3)
    axes.vlines(places, q25, q75, color=colour, linewidth=4.5)
    axes.plot(places, q50, "o", ms=4, color="#ffffff", markeredgecolor=colour)


def _by_link(axes: Axes, places: np.ndarray, marks: Marks, *, before: int = 0) -> None:
    """Fit the horizontal axis to the links, and mark some of them."""
    axes.set_xlim(places[0] - before - 0.6, places[-1] + 0.6)
    style.numeric(axes.xaxis, 10, integer=True)
    if before:
        first = places[0] - before
        axes.xaxis.set_major_formatter(lambda value, _: "prior" if value == first else f"{value:.0f}")
    axes.grid(visible=False, axis="x")
    for chosen, colour, dashes in (
        (marks.refits, style.FAINT, (1, 2)),
        (marks.amendments, style.ALARM, (3, 2)),
    ):
        for link in chosen:
            axes.axvline(link, color=colour, linewidth=0.9, linestyle=(0, dashes), zorder=0.5)


def _svg(figure: Figure) -> str:
    """Return a figure as an SVG element in the page's colours, without names that another one has too."""
    target = io.StringIO()
    canvas = FigureCanvasSVG(figure)
    with _settings, mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "lindley"}):
        canvas.print_svg(target, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    figure.clear()
    text = target.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'^<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true">', text)
    # Names of equal shapes and clips are digests of what they name; the others repeat in each figure.
    used = set(re.findall(r"#([\w-]+)", text))
    text = re.sub(r' id="([\w-]+)"', lambda found: found[0] if found[1] in used else "", text)
    text = re.sub(r"xlink:href", "href", text)
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px sans-serif", text)
    for colour, name in _COLOURS.items():
        text = re.sub(re.escape(colour), f"var({name})", text, flags=re.IGNORECASE)
    return re.sub(r"\s*\n\s*", " ", text).strip()
