"""Trace and rank plot: show whether the chains of a fit agree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from arviz_stats.base import array_stats
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from scipy.stats import binom, rankdata

from lindley.report import style
from lindley.report.draws import Scalar, choose, draws, finite, group, is_flat
from lindley.report.numbers import format_r_hat

#: Parameters shown at most, those with the highest R-hat.
MAX_ROWS = 12
#: Parameters whose R-hat is computed at most.
MAX_CANDIDATES = 400
#: Bins of a rank histogram at most, and draws per bin and chain at least.
MAX_BINS, MIN_PER_BIN = 20, 5
#: Probability that some bin of independent draws is outside the grey band.
FALSE_ALARM = 0.01


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
    Rank plots are those of Vehtari et al. 2021 (https://doi.org/10.1214/20-BA1221). The grey band
    contains all bins of all chains at once with probability 1 - `FALSE_ALARM` when draws are
    independent; slow mixing alone also puts bins outside it.
    """
    posterior = group(trace, "posterior")
    candidates, total, unknown = choose(posterior, parameters, MAX_CANDIDATES)
    shown = [
        (scalar, values, _r_hat(values)) for scalar, values in ((s, draws(posterior, s)) for s in candidates)
    ]
    notes = ["right: ranks among all chains; grey band: independent draws, 99% of all bins at once"]
    if len(shown) > MAX_ROWS:
        # A parameter without an R-hat comes first, with the worst.
        shown = sorted(shown, key=lambda item: -np.nan_to_num(item[2], nan=np.inf))[:MAX_ROWS]
        notes.insert(0, f"{MAX_ROWS} of {total} parameters, highest R-hat first")
    if unknown:
        notes.append(f"not in the trace: {', '.join(style.words(name, 24) for name in unknown[:3])}")
    figure, panels = style.sheet(
        max(len(shown), 1), 2, panel=(0, 1.15), gap=(0.45, 0.36), title=title, note="; ".join(notes),
        margin=(0.75, 0.42), widths=(5.0, 3.2),
    )  # fmt: skip
    diverging = _diverging(trace)
    for line, (scalar, values, r_hat) in zip(panels, shown, strict=False):
        _trace_panel(line[0], scalar, values, r_hat, diverging)
        _rank_panel(line[1], values)
    for line in panels[:-1]:
        line[0].tick_params(labelbottom=False)
    if shown:
        panels[-1][0].set_xlabel("draw", labelpad=2, **style.type_(8, style.FAINT))
        panels[-1][1].set_xlabel("rank", labelpad=2, **style.type_(8, style.FAINT))
    else:
        for axes in panels[0]:
            style.message(axes, "no parameters to show")
    style.legend(figure, _entries(shown[0][1].shape[0] if shown else 0, bool(diverging.any())))
    return figure


def _entries(chains: int, diverged: bool) -> list[tuple[Artist, str]]:
    """Return the legend's entries."""
    entries: list[tuple[Artist, str]] = [
        (Line2D([], [], color=_colour(i), linewidth=1.4), f"chain {i + 1}") for i in range(min(chains, 8))
    ]
    if diverged:
        mark = Line2D(
            [], [], color=style.ALARM, marker="|", linestyle="none", markersize=7, markeredgewidth=1.2
        )
        entries.append((mark, "divergence"))
    return entries or [(Patch(alpha=0), "")]


def _colour(chain: int) -> str:
    return style.CHAINS[chain % len(style.CHAINS)]


def _diverging(trace: xr.DataTree) -> np.ndarray:
    """Return diverging[chain, draw], empty where the sampler did not record divergences."""
    stats = group(trace, "sample_stats")
    if "diverging" not in stats or set(stats["diverging"].dims) != {"chain", "draw"}:
        return np.empty((0, 0), dtype=bool)
    return stats["diverging"].transpose("chain", "draw").to_numpy().astype(bool)


def _r_hat(values: np.ndarray) -> float:
    """Return the rank-normalised split R-hat of draws[chain, draw], NaN where there is none."""
    chains, count = values.shape
    if chains < 2 or count < 4 or not np.isfinite(values).all() or is_flat(values):
        return float("nan")
    # A chain that never moved has no variance to divide by; its R-hat is infinite.
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(array_stats.rhat(values / np.abs(values).max(), chain_axis=0, draw_axis=1))


def _trace_panel(axes: Axes, scalar: Scalar, values: np.ndarray, r_hat: float, diverging: np.ndarray) -> None:
    """Draw each chain's draws in order, divergences below."""
    aside = "" if np.isnan(r_hat) else f"R-hat {format_r_hat(r_hat)}"
    lost = values.size - finite(values).size
    style.heading(axes, scalar.label, f"{lost} draws not shown" if lost else aside)
    if lost == values.size:
        style.message(axes, "no finite draws")
        return
    low, high = style.limits(finite(values))
    for chain, line in enumerate(values):
        marker = "." if line.size < 30 else ""
        axes.plot(np.arange(line.size), line, color=_colour(chain), linewidth=0.5, alpha=0.75, marker=marker)
    if diverging.shape == values.shape and diverging.any():
        places = np.flatnonzero(diverging.any(axis=0))
        low -= 0.1 * (high - low)
        axes.plot(places, np.full(places.size, low), "|", color=style.ALARM, markersize=7, clip_on=False)
    axes.set(xlim=(-0.5, values.shape[1] - 0.5), ylim=(low, high))
    style.numeric(axes.yaxis, 3)
    style.numeric(axes.xaxis, 6, integer=True)


def _rank_panel(axes: Axes, values: np.ndarray) -> None:
    """Draw the distribution of each chain's ranks; a level line means that the chains agree."""
    chains, count = values.shape
    bins = min(MAX_BINS, count // MIN_PER_BIN)
    if chains < 2 or bins < 2:
        style.message(axes, "ranks need two chains of ten draws")
        return
    if not np.isfinite(values).all() or is_flat(values):
        style.message(axes, "no ranks: draws not finite or all equal")
        return
    ranks = rankdata(values, method="average").reshape(values.shape)
    edges = np.linspace(0.5, values.size + 0.5, bins + 1)
    tail = FALSE_ALARM / (2 * bins * chains)
    band = binom.ppf([tail, 1 - tail], count, 1 / bins) / (count / bins)
    axes.axhspan(float(band[0]), float(band[1]), color=style.PRIOR, alpha=0.18, linewidth=0)
    axes.axhline(1, color=style.FAINT, linewidth=0.7)
    highest = float(band[1])
    for chain, line in enumerate(ranks):
        share = np.histogram(line, edges)[0] / (count / bins)
        axes.stairs(share, edges, baseline=None, color=_colour(chain), linewidth=1.2, alpha=0.9)
        highest = max(highest, float(share.max()))
    axes.set(xlim=(edges[0], edges[-1]), ylim=(0, highest * 1.1), xticks=[])
    axes.set_yticks([0, 1], ["0" if highest < 6 else "", "even"])
