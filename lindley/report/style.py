"""The style of all figures: colours, type, and a layout in inches that no user setting changes.

Figures never belong to `pyplot`, so any thread may draw them, and none stays open.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from arviz_plots import PlotCollection
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from lindley.report.text import one_line

#: Colours that remain apart with any kind of colour vision (Okabe and Ito 2008) and in print.
PRIOR, POSTERIOR, OBSERVED, ALARM = "#8A8A8A", "#0072B2", "#1A1A1A", "#D55E00"
CHAINS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#B8A800", "#1A1A1A")
INK, FAINT, GRID = "#1A1A1A", "#5F5F5F", "#E4E4E4"

#: Comes with matplotlib, so a figure is the same on every machine.
FONT = "DejaVu Sans"
DPI = 100

_HEADER, _FOOTER, _SIDE = 1.0, 0.18, 0.3
#: Width of a character per point of its size, in inches; wide enough for bold type.
_CHARACTER = 0.0089


def words(text: object, limit: int = 60) -> str:
    """Return text for a figure: one line, with characters that the font lacks as code points."""
    known = _characters()
    shown = "".join(c if ord(c) in known else f"\\u{ord(c):04x}" for c in one_line(text, limit))
    return one_line(shown, limit)


@functools.cache
def _characters() -> frozenset[int]:
    return frozenset(get_font(findfont(FONT)).get_charmap())


def type_(size: float, colour: str = INK, **more: Any) -> dict[str, Any]:
    """Return the properties of literal text: a dollar sign begins no formula."""
    return {"fontsize": size, "color": colour, "family": FONT, "parse_math": False, "usetex": False, **more}


def sheet(
    rows: int,
    columns: int,
    *,
    panel: tuple[float, float],
    gap: tuple[float, float],
    title: str,
    note: str = "",
    margin: tuple[float, float] = (_SIDE, 0.0),
    widths: Sequence[float] | None = None,
) -> tuple[Figure, np.ndarray]:
    """Make a figure of equal panels below a title, a note and space for a legend.

    Parameters
    ----------
    rows, columns
        Number of panels.
    panel, gap
        Width and height of a panel and of the space between two, in inches.
    title, note
        First and second line of the figure.
    margin
        Space for labels left of and below the panels, in inches.
    widths
        Width of each column in inches, in place of the panel's.

    Returns
    -------
    figure : Figure
    panels : numpy.ndarray of Axes
        [row, column].
    """
    across = list(widths) if widths else [panel[0]] * columns
    (left, bottom), wide = margin, sum(across) + gap[0] * (columns - 1)
    width = max(left + wide + _SIDE, 6.4)
    height = _HEADER + rows * panel[1] + (rows - 1) * gap[1] + bottom + _FOOTER
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    figure.set_layout_engine("none")
    FigureCanvasAgg(figure)
    for text, down, look in (
        (title, 0.16, type_(11.5, fontweight="bold", va="top")),
        (note, 0.40, type_(8, FAINT, va="top")),
    ):
        room = int((width - 2 * _SIDE) / (_CHARACTER * look["fontsize"]))
        figure.text(_SIDE / width, 1 - down / height, words(text, room) if text else "", **look)
    grid = figure.add_gridspec(
        rows, columns, width_ratios=across, wspace=gap[0] * columns / sum(across), hspace=gap[1] / panel[1],
        left=left / width, right=(left + wide) / width, top=1 - _HEADER / height,
        bottom=(bottom + _FOOTER) / height,
    )  # fmt: skip
    panels = grid.subplots(squeeze=False)
    for axes in panels.flat:
        dress(axes)
    return figure, panels


def dress(axes: Axes) -> None:
    """Apply the common style to axes: no box, thin ticks, a faint grid."""
    axes.set_facecolor("white")
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FAINT)
        spine.set_linewidth(0.7)
    axes.tick_params(
        colors=FAINT, labelsize=7.5, labelcolor=INK, width=0.7, length=3, labelfontfamily=FONT, which="both"
    )
    axes.grid(visible=True, color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def heading(axes: Axes, text: str, aside: str = "") -> None:
    """Title a panel at its left, cut to its width, with a grey remark at its right."""
    room = axes.bbox.width / DPI / _CHARACTER - (len(aside) + 2) * 7.5 * bool(aside)
    axes.set_title(words(text, max(int(room / 9), 8)), loc="left", pad=4, **type_(9, fontweight="bold"))
    axes.set_title(aside, loc="right", pad=4, **type_(7.5, FAINT))


def message(axes: Axes, text: str) -> None:
    """State in an empty panel why it is empty."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", **type_(8.5, FAINT))
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)


def legend(figure: Figure, entries: Sequence[tuple[Artist, str]]) -> None:
    """Add one legend for the whole figure below its title."""
    width, height = figure.get_size_inches()
    drawn = figure.legend(
        *zip(*entries, strict=True), loc="upper left", bbox_to_anchor=(_SIDE / width, 1 - 0.60 / height),
        ncols=len(entries), frameon=False, borderaxespad=0, borderpad=0, handlelength=1.6, columnspacing=1.4,
        prop={"family": FONT, "size": 8}, labelcolor=INK,
    )  # fmt: skip
    for text in drawn.get_texts():
        text.set(parse_math=False, usetex=False)


def choice_note(shown: int, total: int, unknown: Sequence[str], note: str, order: str = "") -> str:
    """Return the second line of a figure: which of the parameters are shown, those not found, and `note`."""
    notes = [f"{shown} of {total} parameters{order}"] if shown < total else []
    notes.append(note)
    if unknown:
        notes.append(f"not in the trace: {', '.join(words(name, 24) for name in unknown[:3])}")
    return "; ".join(notes)


def collection(data: xr.Dataset, panels: Mapping[str, Axes]) -> PlotCollection:
    """Place the variables of a dataset on panels of a `sheet`, for the plots of `arviz_plots`.

    ArviZ would otherwise make the figure with `pyplot`, whose state is common to all threads. Each chain
    has a colour, where there are chains.

    Parameters
    ----------
    data
        What is drawn.
    panels
        The panel of each variable.
    """
    things = {name: xr.DataArray(np.array(panels[str(name)], dtype=object)) for name in data.data_vars}
    figure = xr.DataArray(np.array(next(iter(panels.values())).figure, dtype=object))
    viz = xr.DataTree.from_dict({"/": xr.Dataset({"figure": figure}), "plot": xr.Dataset(things)})
    by_chain = {"aes": {"color": ["chain"], "overlay": ["chain"]}, "color": CHAINS}
    return PlotCollection(data, viz, backend="matplotlib", **(by_chain if "chain" in data.dims else {}))


def limits(values: np.ndarray, margin: float = 0.06) -> tuple[float, float]:
    """Return axis limits around one or more finite values; the range is never empty."""
    low, high = float(values.min()), float(values.max())
    scale = max(abs(low), abs(high))
    if high - low > 1e-12 * scale and high - low > 1e-190:
        reach = (high - low) * margin
    else:
        reach = 0.05 * scale if scale > 1e-190 else 0.5
    return low - reach, high + reach


def scale_y(axes: Axes, values: np.ndarray) -> None:
    """Fit the vertical axis to values, logarithmic where a linear one would flatten most of them."""
    low, high = float(values.min()), float(values.max())
    if low > 0 and high / low > 1e3:
        axes.set(yscale="log", ylim=(low / 1.5, high * 1.5))
    else:
        axes.set_ylim(limits(values))
        numeric(axes.yaxis, 5)


def numeric(axis: Axis, most: int, *, integer: bool = False) -> None:
    """Give an axis at most about `most` ticks at round numbers."""
    axis.set_major_locator(MaxNLocator(most, integer=integer))
    axis.set_major_formatter(ScalarFormatter(useMathText=False, usetex=False))
    axis.get_offset_text().set(fontsize=7, color=FAINT, family=FONT)


def labelled(axes: Axes, labels: Sequence[str], across: float, limit: int = 14) -> None:
    """Label the places 0, 1, ... of a panel `across` inches wide, thinned so that labels do not overlap."""
    shown = [words(label, limit) if label else "" for label in labels]
    longest = max((len(text) for text in shown), default=0) + 1.5
    step = max(math.ceil(len(shown) * longest * _CHARACTER * 7.5 / across), 1)
    places = np.arange(0, len(shown), step)
    axes.set_xticks(places, [shown[i] for i in places], **type_(7.5))
