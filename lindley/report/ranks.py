"""Trace and rank plot: show whether the chains of a fit agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
#: Draws of a chain in a trace plot, about: more than a panel is wide in points are a blur, and fill the file.
TRACE_DRAWS = 300
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
    chains, count = shown[0][1].shape
    variables = {str(row): (SAMPLE_DIMS, values) for row, (_, values) in enumerate(shown)}
    data = xr.Dataset(variables, {"chain": range(chains), "draw": range(count)})
    diverging = _diverging(trace, data)
    _traces(data, dict(zip(variables, panels[:, 0], strict=True)), diverging)
    for row, (left, right), (label, values) in zip(variables, panels, shown, strict=True):
        lost = values.size - finite(values).size
        r_hat = _r_hat(values)
        aside = "" if np.isnan(r_hat) else f"R-hat {format_r_hat(r_hat)}"
        style.heading(left, label, f"{lost} draws not shown" if lost else aside)
        if lost == values.size:
            style.message(left, "no finite draws")
        _ranks(data[[row]], right)
        for axes, name in ((left, "draw"), (right, "fractional rank")):
            axes.tick_params(labelbottom=left is panels[-1, 0])
            axes.set_xlabel(name if left is panels[-1, 0] else "", labelpad=2, **style.type_(8, style.FAINT))
    lines = [Line2D([], [], color=colour, linewidth=1.4) for colour in style.CHAINS[:chains]]
    entries = [(line, f"chain {number}") for number, line in enumerate(lines, 1)]
    if diverging:
        entries.append((Line2D([], [], color=style.ALARM, marker="|", linestyle="none"), "divergence"))
    style.legend(figure, entries)
    return figure


def _diverging(trace: xr.DataTree, data: xr.Dataset) -> dict[str, xr.Dataset]:
    """Return the group with diverging[chain, draw]; none where no divergence was recorded."""
    recorded = group(trace, "sample_stats").get("diverging")
    if recorded is None or dict(recorded.sizes) != dict(data.sizes) or not recorded.any():
        return {}
    values = recorded.transpose(*SAMPLE_DIMS).to_numpy().astype(bool)
    return {"sample_stats": xr.Dataset({"diverging": (SAMPLE_DIMS, values)}, data.coords)}


def _r_hat(values: np.ndarray) -> float:
    """Return the rank-normalised split R-hat of draws[chain, draw], NaN where there is none."""
    chains, count = values.shape
    if chains < 2 or count < 4 or not np.isfinite(values).all() or is_flat(values):
        return float("nan")
    # A chain that never moved has no variance to divide by; its R-hat is infinite.
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(array_stats.rhat(values / np.abs(values).max(), chain_axis=0, draw_axis=1))


def _traces(data: xr.Dataset, panels: Mapping[str, Axes], diverging: Mapping[str, xr.Dataset]) -> None:
    """Draw each chain's draws in order, divergences at the lowest of them."""
    few = {"marker": "."} if data.sizes["draw"] < 30 else {}
    visuals = {
        "trace": {"width": 0.5, "alpha": 0.75} | few,
        "divergence": {"color": style.ALARM, "size": 30},
        "ticklabels": False,
    }
    shown = _evenly(data.sizes["draw"], diverging)
    thinned = {name: held.isel(draw=shown) for name, held in {"posterior": data, **diverging}.items()}
    tree = xr.DataTree.from_dict(thinned)
    plot_trace(tree, plot_collection=style.collection(thinned["posterior"], panels), visuals=visuals | _OFF)
    for axes in panels.values():
        for line in axes.lines:  # without shades at their edges the picture takes half of the space
            line.set_antialiased(False)
        axes.set_xlim(-0.5, data.sizes["draw"] - 0.5)
        style.numeric(axes.yaxis, 3)
        style.numeric(axes.xaxis, 6, integer=True)


def _evenly(count: int, diverging: Mapping[str, xr.Dataset]) -> np.ndarray:
    """Return the numbers of the draws that a trace plot shows: about `TRACE_DRAWS`, and all that diverged."""
    shown = np.zeros(count, bool)
    shown[:: -(-count // TRACE_DRAWS)] = True
    for held in diverging.values():
        shown |= held["diverging"].any("chain").to_numpy()
    return np.flatnonzero(shown)


def _ranks(data: xr.Dataset, axes: Axes) -> None:
    """Draw how far each chain's ranks are from even ones; level lines mean that the chains agree."""
    (name, values), chains, count = next(iter(data.items())), data.sizes["chain"], data.sizes["draw"]
    if chains < 2 or count < MIN_DRAWS:
        style.message(axes, "ranks need two chains of ten draws")
        return
    if not np.isfinite(values).all() or is_flat(values.to_numpy()):
        style.message(axes, "no ranks: draws not finite or all equal")
        return
    data = data.isel(draw=slice(None, None, -(-count // MAX_DRAWS)))
    visuals = {"ecdf_lines": {"width": 1.2, "alpha": 0.9}, "remove_axis": False, **_OFF}
    axes.axhline(0, color=style.FAINT, linewidth=0.7)
    plot_rank(
        data, group=None, envelope_prob=1 - FALSE_ALARM, visuals=visuals,
        plot_collection=style.collection(data, {str(name): axes}),
    )  # fmt: skip
    # ArviZ takes no properties of the marks and of the p-value.
    for marks in axes.collections:
        marks.set(color=style.ALARM, sizes=[12])
    for text in axes.texts:
        text.set(**style.type_(7.5, style.FAINT))
    axes.set(xlim=(0, 1), xticks=[0, 0.5, 1])
    style.numeric(axes.yaxis, 3)
