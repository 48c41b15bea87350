"""Trace and rank plot: show whether the chains of a fit agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from arviz_plots import plot_rank, plot_trace
from arviz_stats.base import array_stats
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lindley.report import style
from lindley.report.draws import SAMPLE_DIMS, choose, draws, finite, group, is_flat
from lindley.report.numbers import format_r_hat

#: Parameters shown at most, those with the highest R-hat.
MAX_ROWS = 12
#: Parameters whose R-hat is computed at most.
MAX_CANDIDATES = 400
#: Draws of a chain for a rank plot at least, and at most; more are thinned, as the test of the ranks is slow.
MIN_DRAWS, MAX_DRAWS = 10, 500
#: Probability that the ranks of chains of one distribution are reported as different.
FALSE_ALARM = 0.01

#: What `arviz_plots` would add, and the figure has in its own style.
_OFF = dict.fromkeys(("title", "xlabel"), False)


def rank_figure(
    trace: xr.DataTree, parameters: Sequence[str] | None = None, *, title: str = "Trace and ranks"
) -> Figure:
    """Draw the draws of every chain in order, and the distribution of their ranks among all chains.

    Parameters
    ----------
    trace
        Group ``posterior[chain, draw, ...]``; divergences are taken from
        ``sample_stats.diverging[chain, draw]`` where there is one.
    parameters
        Names of variables or labels of elements to show; all by default. At most `MAX_ROWS` are
        shown, highest R-hat first, and the figure states so.
    title
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure
        Not known to `pyplot`; save it with `lindley.report.figures.save`.

    Notes
    -----
    Rank plots are those of `arviz_plots.plot_rank`: for each chain, the difference between the
    cumulative distribution of its fractional ranks among all chains and the uniform one (Säilynoja et
    al. 2022, https://doi.org/10.1007/s11222-022-10090-6). A small p-value of the test that the chains
    have one distribution marks the ranks that contribute most to it (Tesso et al. 2026,
    https://arxiv.org/abs/2603.02928).
    """
    posterior = group(trace, "posterior")
    candidates, total, unknown = choose(posterior, parameters, MAX_CANDIDATES)
    shown = [(scalar.label, draws(posterior, scalar)) for scalar in candidates]
    order = ""
    if len(shown) > MAX_ROWS:
        # A parameter without an R-hat comes first, with the worst.
        shown.sort(key=lambda item: -np.nan_to_num(_r_hat(item[1]), nan=np.inf))
        shown, order = shown[:MAX_ROWS], ", highest R-hat first"
    note = f"right: cumulative ranks of each chain less even ones; orange: chains differ, p < {FALSE_ALARM}"
    figure, panels = style.sheet(
        max(len(shown), 1), 2, panel=(0, 1.15), gap=(0.45, 0.36), title=title, margin=(0.75, 0.42),
        note=style.choice_note(len(shown), total, unknown, note, order), widths=(5.0, 3.2),
    )  # fmt: skip
    if not shown:
        for axes in panels[0]:
            style.message(axes, "no parameters to show")
        return figure
    for (left, right), (label, values) in zip(panels, shown, strict=True):
        lost = values.size - finite(values).size
        r_hat = _r_hat(values)
        aside = "" if np.isnan(r_hat) else f"R-hat {format_r_hat(r_hat)}"
        style.heading(left, label, f"{lost} draws not shown" if lost else aside)
        if lost == values.size:
            style.message(left, "no finite draws")
        left.set(xlim=(-0.5, values.shape[1] - 0.5))
        _rank_panel(right, values)
        for axes in (left, right):
            axes.tick_params(labelbottom=left is panels[-1][0])
    diverging = _diverging(trace)
    _traces([values for _, values in shown], list(panels[:, 0]), diverging)
    for axes, name in zip(panels[-1], ("draw", "fractional rank"), strict=True):
        axes.set_xlabel(name, labelpad=2, **style.type_(8, style.FAINT))
    chains = [Line2D([], [], color=colour, linewidth=1.4) for colour in style.CHAINS[: shown[0][1].shape[0]]]
    entries = [(line, f"chain {number}") for number, line in enumerate(chains, 1)]
    if diverging.any():
        entries.append((Line2D([], [], color=style.ALARM, marker="|", linestyle="none"), "divergence"))
    style.legend(figure, entries)
    return figure


def _diverging(trace: xr.DataTree) -> xr.DataArray:
    """Return diverging[chain, draw], False where the sampler did not record divergences."""
    stats = group(trace, "sample_stats")
    recorded = "diverging" in stats and set(stats["diverging"].dims) == set(SAMPLE_DIMS)
    return stats["diverging"].astype(bool) if recorded else xr.DataArray(False)


def _r_hat(values: np.ndarray) -> float:
    """Return the rank-normalised split R-hat of draws[chain, draw], NaN where there is none."""
    chains, count = values.shape
    if chains < 2 or count < 4 or not np.isfinite(values).all() or is_flat(values):
        return float("nan")
    # A chain that never moved has no variance to divide by; its R-hat is infinite.
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(array_stats.rhat(values / np.abs(values).max(), chain_axis=0, draw_axis=1))


def _dataset(rows: Sequence[np.ndarray]) -> xr.Dataset:
    """Return draws[chain, draw] of some parameters as a dataset with the variables ``0``, ``1``, ..."""
    chains, count = rows[0].shape
    variables = {str(place): (SAMPLE_DIMS, values) for place, values in enumerate(rows)}
    return xr.Dataset(variables, {"chain": range(chains), "draw": range(count)})


def _plot(axes: Sequence[Axes], data: xr.Dataset) -> dict[str, Any]:
    """Return the arguments that both plots have in common: one panel a variable, one colour a chain."""
    aes = {"color": ["chain"], "overlay": ["chain"]}
    panels = {str(place): panel for place, panel in enumerate(axes)}
    return {"group": None, "plot_collection": style.collection(data, panels, aes, color=style.CHAINS)}


def _traces(rows: Sequence[np.ndarray], axes: Sequence[Axes], diverging: xr.DataArray) -> None:
    """Draw each chain's draws in order, divergences at the lowest of them."""
    data = _dataset(rows)
    trace = {"posterior": data}
    if diverging.sizes == data.sizes:
        trace["sample_stats"] = xr.Dataset({"diverging": diverging})
    marker = {"marker": "."} if data.sizes["draw"] < 30 else {}
    visuals = {
        "trace": {"width": 0.5, "alpha": 0.75} | marker,
        "divergence": {"color": style.ALARM, "size": 30},
    }
    plot_trace(
        xr.DataTree.from_dict(trace),
        visuals=visuals | _OFF | {"ticklabels": False},
        **_plot(axes, data) | {"group": "posterior"},
    )
    for panel in axes:
        style.numeric(panel.yaxis, 3)
        style.numeric(panel.xaxis, 6, integer=True)


def _rank_panel(axes: Axes, values: np.ndarray) -> None:
    """Draw how far each chain's ranks are from even ones; level lines mean that the chains agree."""
    chains, count = values.shape
    if chains < 2 or count < MIN_DRAWS:
        style.message(axes, "ranks need two chains of ten draws")
        return
    if not np.isfinite(values).all() or is_flat(values):
        style.message(axes, "no ranks: draws not finite or all equal")
        return
    data = _dataset([values[:, :: -(-count // MAX_DRAWS)]])
    visuals = {"ecdf_lines": {"width": 1.2, "alpha": 0.9}, **_OFF}
    axes.axhline(0, color=style.FAINT, linewidth=0.7)
    plot_rank(
        data, envelope_prob=1 - FALSE_ALARM, visuals=visuals | {"remove_axis": False}, **_plot([axes], data)
    )
    # ArviZ takes no properties of the marks and of the p-value.
    for marks in axes.collections:
        marks.set(color=style.ALARM, sizes=[12])
    for text in axes.texts:
        text.set(**style.type_(7.5, style.FAINT))
    axes.set(xlim=(0, 1), xticks=[0, 0.5, 1])
    style.numeric(axes.yaxis, 3)
