"""Prior against posterior: one panel per scalar parameter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from arviz_plots import plot_dist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from lindley.report import style
from lindley.report.draws import SAMPLE_DIMS, Scalar, choose, draws, finite, group, is_flat, is_sample
from lindley.report.numbers import QUANTILES, format_pair

#: Parameters shown at most; a larger figure cannot be read.
MAX_PANELS = 24
#: Fewer draws than this are drawn one by one.
MIN_DENSITY = 20
#: Largest reach of a panel on either side, in posterior widths.
REACH = 3.0

#: Colour of each belief, and height of its intervals as a share of the panel.
_BELIEFS = {"prior": (style.PRIOR, 0.06), "posterior": (style.POSTERIOR, 0.14)}
#: Height of the densities' zero, as a share of the panel.
_FOOT = 0.2
#: Group id of the lines that are densities.
_CURVE = "density"


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
    A panel covers both beliefs, but at most `REACH` posterior widths on either side; an arrow marks an
    interval that extends beyond it. Densities are those of `arviz_plots.plot_dist`, of the draws inside
    the panel, with equal areas. Bars are the 50% and 90% intervals of all draws. Draws that are not
    finite are left out and counted.
    """
    posterior, prior = group(trace, "posterior"), group(trace, "prior")
    chosen, total, unknown = choose(posterior, parameters, MAX_PANELS)
    columns = 1 if len(chosen) <= 1 else 2 if len(chosen) in (2, 4) else 3 if len(chosen) <= 9 else 4
    rows = max(-(-len(chosen) // columns), 1)
    panel = (5.8, 2.2) if columns == 1 else (3.3, 1.6) if columns == 2 else (2.4, 1.35)
    note = "densities: equal areas inside the panel; bars: 50% and 90% intervals, arrow: beyond the panel"
    figure, panels = style.sheet(
        rows, columns, panel=panel, gap=(0.35, 0.78), title=title, margin=(0.3, 0.42),
        note=style.choice_note(len(chosen), total, unknown, note),
    )  # fmt: skip
    flat = panels.ravel()
    for axes, scalar in zip(flat, chosen, strict=False):
        beliefs = {"prior": _prior_draws(prior, posterior, scalar), "posterior": draws(posterior, scalar)}
        _panel(axes, scalar.label, beliefs)
    for axes in flat[max(len(chosen), 1) :]:
        axes.set_visible(False)
    if not chosen:
        style.message(flat[0], "no parameters to show")
    style.legend(
        figure, [(Patch(facecolor=colour, alpha=0.55), belief) for belief, (colour, _) in _BELIEFS.items()]
    )
    return figure


def _prior_draws(prior: xr.Dataset, posterior: xr.Dataset, scalar: Scalar) -> np.ndarray:
    """Return the prior's draws of the same element, none if its shape differs."""
    if scalar.variable not in prior or not is_sample(prior[scalar.variable]):
        return np.empty(0)
    shapes = [
        {dim: size for dim, size in group[scalar.variable].sizes.items() if dim not in SAMPLE_DIMS}
        for group in (prior, posterior)
    ]
    return draws(prior, scalar) if shapes[0] == shapes[1] else np.empty(0)


def _panel(axes: Axes, label: str, beliefs: Mapping[str, np.ndarray]) -> None:
    """Draw one parameter: densities above, intervals below."""
    shown = {belief: finite(values) for belief, values in beliefs.items()}
    lost = sum(values.size - shown[belief].size for belief, values in beliefs.items())
    style.heading(axes, label, f"{lost} draws not shown" if lost else "")
    if not any(values.size for values in shown.values()):
        style.message(axes, "no finite draws")
        return
    low, high = window = _window(shown["posterior"], shown["prior"])
    axes.axhline(0, color=style.FAINT, linewidth=0.6)
    axes.spines["left"].set_visible(False)
    style.numeric(axes.xaxis, 4)
    moments = " → ".join(_moments(values) for values in shown.values() if values.size)
    axes.set_xlabel(moments, labelpad=3, **style.type_(8, style.FAINT))
    for belief, values in shown.items():
        colour, height = _BELIEFS[belief]
        _bars(axes, values, colour, height, window)
        inside = values[(values >= low) & (values <= high)]
        if inside.size >= MIN_DENSITY and not is_flat(inside) and np.ptp(inside) > 1e-6 * (high - low):
            _density(axes, inside, colour)
        elif inside.size * 2 > values.size:
            # A few draws, or the one value of all, as lines; nothing if most are outside.
            places = np.unique(inside if inside.size < MIN_DENSITY else np.quantile(inside, [0, 0.5, 1]))
            axes.vlines(places, _FOOT, 0.95, colour, linewidth=1.2, transform=axes.get_xaxis_transform())
    peaks = [
        float(np.max(np.asarray(line.get_ydata()))) for line in axes.get_lines() if line.get_gid() == _CURVE
    ]
    top = 1.06 * max(peaks, default=1.0)
    axes.set(xlim=window, ylim=(-top * _FOOT / (1 - _FOOT), top), yticks=[])


def _density(axes: Axes, values: np.ndarray, colour: str) -> None:
    """Draw the density of one belief; the limits of the panel depend on it."""
    data = xr.Dataset({"x": ("sample", values)})
    off = ("credible_interval", "point_estimate", "point_estimate_text", "title", "remove_axis")
    visuals = dict.fromkeys(off, False) | {
        "dist": {"color": colour, "width": 1.3, "gid": _CURVE},
        "face": {"color": colour, "alpha": 0.28},
    }
    panel = style.collection(data, {"x": axes})
    plot_dist(data, kind="kde", group=None, sample_dims="sample", plot_collection=panel, visuals=visuals)


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
    if prior.size:
        reach = (high - low) * REACH if not is_flat(posterior) else np.inf
        before = np.quantile(prior, [0.02, 0.98])
        low, high = max(min(low, before[0]), low - reach), min(max(high, before[1]), high + reach)
    return style.limits(np.array([low, high]))


def _bars(axes: Axes, values: np.ndarray, colour: str, height: float, window: tuple[float, float]) -> None:
    """Draw the 50% and 90% intervals and the median; arrows where they leave the window."""
    if values.size == 0:
        return
    q05, q25, q50, q75, q95 = np.quantile(values, list(QUANTILES.values()))
    place: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "color": colour}
    axes.hlines([height, height], [q05, q25], [q95, q75], linewidth=[1.3, 3.4], **place)
    axes.plot([q50], [height], "o", markersize=3.6, markerfacecolor="white", **place)
    for edge, beyond, marker in ((window[0], q05 < window[0], "<"), (window[1], q95 > window[1], ">")):
        if beyond:
            axes.plot([edge], [height], marker, markersize=4, clip_on=False, **place)
