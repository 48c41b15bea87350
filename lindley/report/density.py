"""Prior against posterior: one panel per scalar parameter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from arviz_stats.base import array_stats
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lindley.report import style
from lindley.report.draws import Scalar, choose, draws, finite, group, is_flat
from lindley.report.numbers import QUANTILES, format_pair

#: Parameters shown at most; a larger figure cannot be read.
MAX_PANELS = 24
#: Fewer draws than this are drawn one by one.
MIN_DENSITY = 20
#: Largest reach of a panel on either side, in posterior widths.
REACH = 5.0
#: Smallest height of a flat prior, as a share of the posterior's height.
LEAST_HEIGHT = 0.15

_BARS = {"posterior": -0.10, "prior": -0.20}
_COLOURS = {"posterior": style.POSTERIOR, "prior": style.PRIOR}


def prior_posterior_figure(
    trace: xr.DataTree, parameters: Sequence[str] | None = None, *, title: str = "Prior and posterior"
) -> Figure:
    """Draw the prior against the posterior of each scalar parameter.

    Parameters
    ----------
    trace
        Group ``posterior[chain, draw, ...]`` and, where there is one, ``prior[chain, draw, ...]``.
    parameters
        Names of variables or labels of elements to show, e.g. ``["R0", "beta[north]"]``; all by
        default. At most `MAX_PANELS` are shown, and the figure states so.
    title
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure
        Not known to `pyplot`; save it with `lindley.report.figures.save`.

    Notes
    -----
    Densities have equal areas, except that a prior too flat to be visible is raised. A panel covers
    both beliefs, but at most `REACH` posterior widths on either side; an arrow marks an interval that
    extends beyond it. Bars are the 50% and 90% intervals. Draws that are not finite are left out and counted.
    """
    posterior, prior = group(trace, "posterior"), group(trace, "prior")
    chosen, total, unknown = choose(posterior, parameters, MAX_PANELS)
    columns = 1 if len(chosen) <= 1 else 2 if len(chosen) in (2, 4) else 3 if len(chosen) <= 9 else 4
    rows = max(-(-len(chosen) // columns), 1)
    panel = (5.8, 2.2) if columns == 1 else (3.3, 1.6) if columns == 2 else (2.4, 1.35)
    notes = ["equal areas unless the prior is too flat to see; bars: 50% and 90% intervals"]
    if len(chosen) < total:
        notes.insert(0, f"{len(chosen)} of {total} parameters")
    if unknown:
        notes.append(f"not in the trace: {', '.join(style.words(name, 24) for name in unknown[:3])}")
    figure, panels = style.sheet(
        rows, columns, panel=panel, gap=(0.35, 0.78), title=title, note="; ".join(notes), margin=(0.3, 0.42)
    )
    flat = panels.ravel()
    for axes, scalar in zip(flat, chosen, strict=False):
        _panel(axes, scalar, draws(posterior, scalar), _prior_draws(prior, posterior, scalar))
    for axes in flat[max(len(chosen), 1) :]:
        axes.set_visible(False)
    if not chosen:
        style.message(flat[0], "no parameters to show")
    style.legend(
        figure,
        [
            (Patch(facecolor=style.PRIOR, alpha=0.45), "prior"),
            (Patch(facecolor=style.POSTERIOR, alpha=0.6), "posterior"),
        ],
    )
    return figure


def _prior_draws(prior: xr.Dataset, posterior: xr.Dataset, scalar: Scalar) -> np.ndarray:
    """Return the prior's draws of the same element, none if its shape differs."""
    if scalar.variable not in prior:
        return np.empty(0)
    shapes = [
        {d: n for d, n in group[scalar.variable].sizes.items() if d not in ("chain", "draw")}
        for group in (prior, posterior)
    ]
    sampled = {"chain", "draw"} <= set(prior[scalar.variable].dims)
    return draws(prior, scalar) if sampled and shapes[0] == shapes[1] else np.empty(0)


def _panel(axes: Axes, scalar: Scalar, posterior: np.ndarray, prior: np.ndarray) -> None:
    """Draw one parameter: densities above the axis, intervals below it."""
    beliefs = {"prior": finite(prior), "posterior": finite(posterior)}
    lost = sum(all_.size - beliefs[name].size for name, all_ in (("prior", prior), ("posterior", posterior)))
    style.heading(axes, scalar.label, f"{lost} draws not shown" if lost else "")
    if not any(values.size for values in beliefs.values()):
        style.message(axes, "no finite draws")
        return
    window = _window(beliefs["posterior"], beliefs["prior"])
    curves = {name: _density(values, window) for name, values in beliefs.items()}
    peaks = {name: float(curve[1].max()) for name, curve in curves.items() if curve is not None}
    for name, curve in curves.items():
        if curve is None:
            _sticks(axes, beliefs[name], _COLOURS[name], window)
        else:
            # Ratio to the highest peak: equal areas; the peaks themselves may be of any magnitude.
            height = max(peaks[name] / max(peaks.values()), LEAST_HEIGHT)
            grid, values = curve[0], curve[1] / peaks[name] * height
            axes.fill_between(grid, values, 0, color=_COLOURS[name], alpha=0.28, linewidth=0)
            axes.plot(grid, values, color=_COLOURS[name], linewidth=1.3)
        _bars(axes, beliefs[name], _BARS[name], _COLOURS[name], window)
    axes.axhline(0, color=style.FAINT, linewidth=0.6)
    axes.set(xlim=window, ylim=(-0.28, 1.08), yticks=[])
    axes.spines["left"].set_visible(False)
    style.numeric(axes.xaxis, 4)
    moments = " → ".join(_moments(values) for values in beliefs.values() if values.size)
    axes.set_xlabel(moments, labelpad=3, **style.type_(8, style.FAINT))


def _moments(values: np.ndarray) -> str:
    # Scaled first: the squares of large draws overflow.
    scale = float(np.abs(values).max()) or 1.0
    scaled = values / scale
    return format_pair(scale * float(scaled.mean()), scale * float(scaled.std()))


def _window(posterior: np.ndarray, prior: np.ndarray) -> tuple[float, float]:
    """Return the range of the panel: both beliefs, but not much wider than the posterior."""
    if posterior.size == 0:
        return style.limits(np.quantile(prior, [0.02, 0.98]))
    low, high = np.quantile(posterior, [0.001, 0.999])
    if prior.size == 0:
        return style.limits(np.array([low, high]))
    reach = (high - low) * REACH if not is_flat(posterior) else np.inf
    before = np.quantile(prior, [0.02, 0.98])
    return style.limits(
        np.array([max(min(low, before[0]), low - reach), min(max(high, before[1]), high + reach)])
    )


def _density(values: np.ndarray, window: tuple[float, float]) -> tuple[np.ndarray, np.ndarray] | None:
    """Return grid and density inside the window, None for draws that have no usable one."""
    inside = values[(values >= window[0]) & (values <= window[1])]
    if inside.size < MIN_DENSITY or is_flat(inside):
        return None
    # On the window's own scale: bandwidths of very small or large draws would overflow a double.
    width = window[1] - window[0]
    unit = (inside - window[0]) / width
    if np.ptp(unit) < 1e-6:
        return None
    grid, density, _ = array_stats.kde(unit)
    return window[0] + grid * width, np.clip(density, 0, None) * inside.size / values.size


def _sticks(axes: Axes, values: np.ndarray, colour: str, window: tuple[float, float]) -> None:
    """Draw a few draws, or the one value of all, as vertical lines; nothing if most are outside."""
    inside = values[(values >= window[0]) & (values <= window[1])]
    if inside.size * 2 > values.size:
        few = inside.size < MIN_DENSITY
        places = np.unique(inside if few else np.quantile(inside, [0, 0.5, 1]))
        axes.vlines(places, 0, 1, color=colour, linewidth=1.2)


def _bars(axes: Axes, values: np.ndarray, height: float, colour: str, window: tuple[float, float]) -> None:
    """Draw the 50% and 90% intervals and the median; arrows where they leave the window."""
    if values.size == 0:
        return
    q05, q25, q50, q75, q95 = np.quantile(values, list(QUANTILES.values()))
    for (low, high), width in (((q05, q95), 1.3), ((q25, q75), 3.4)):
        shown = np.clip([low, high], *window)
        axes.plot(shown, [height, height], color=colour, linewidth=width, solid_capstyle="butt")
    if window[0] <= q50 <= window[1]:
        axes.add_line(
            Line2D([q50], [height], marker="o", markersize=3.6, color="white", markeredgecolor=colour)
        )
    for edge, beyond, marker in ((window[0], q05 < window[0], "<"), (window[1], q95 > window[1], ">")):
        if beyond:
            axes.plot([edge], [height], marker=marker, markersize=4, color=colour, clip_on=False)
