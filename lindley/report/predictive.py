"""Posterior predictive check: the batch against the predictions of the belief."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lindley.report import style
from lindley.report.draws import SAMPLE_DIMS, axis_labels, drawable, group
from lindley.report.numbers import QUANTILES

#: Observed variables shown at most.
MAX_VARIABLES = 8
#: Up to this many observations each is drawn with its own intervals.
MAX_INTERVALS = 60
#: Whole numbers with at most this many values are drawn as frequencies.
MAX_VALUES = 12
#: Draws and observations used at most, evenly spaced; more make no visible difference.
MAX_DRAWS, MAX_OBSERVATIONS = 400, 20_000
#: Points of a cumulative curve.
GRID = 200

_WIDTH = 7.4
_LEVELS = tuple(QUANTILES.values())


@dataclass(frozen=True)
class _Check:
    """One observed variable: observed[obs], predicted[draw, obs], a label per observation, draws left out."""

    name: str
    observed: np.ndarray
    predicted: np.ndarray
    labels: list[str]
    axis: str
    lost: int


def predictive_figure(trace: xr.DataTree, *, title: str = "Posterior predictive check") -> Figure:
    """Draw the observed data against the posterior predictive distribution.

    Parameters
    ----------
    trace
        Groups ``observed_data[...]`` and ``posterior_predictive[chain, draw, ...]``; variables are
        matched by name.
    title
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure
        Not known to `pyplot`; save it with `lindley.report.figures.save`.

    Notes
    -----
    One panel per observed variable, at most `MAX_VARIABLES`. Up to `MAX_INTERVALS` observations are
    drawn one by one with 50% and 90% predictive intervals; whole numbers of few values as
    frequencies; everything else as a cumulative share with a 90% band. Missing observations are left out.
    """
    observed = group(trace, "observed_data")
    names = [str(name) for name in observed.data_vars]
    shown = names[:MAX_VARIABLES]
    note = "blue: posterior predictive median, 50% and 90% intervals"
    if len(shown) < len(names):
        note = f"{len(shown)} of {len(names)} observed variables; {note}"
    figure, panels = style.sheet(
        max(len(shown), 1),
        1,
        panel=(_WIDTH, 2.3),
        gap=(0, 0.85),
        title=title,
        note=note,
        margin=(0.75, 0.45),
    )
    for (axes,), name in zip(panels, shown, strict=False):
        check = _check(trace, name)
        if isinstance(check, str):
            style.heading(axes, name)
            style.message(axes, check)
        else:
            _draw(axes, check)
    if not shown:
        style.message(panels[0][0], "no observed data in the trace")
    dot = Line2D([], [], color=style.OBSERVED, marker="o", markersize=4.5, linestyle="none")
    outside = Line2D([], [], color=style.ALARM, marker="D", markersize=4.5, linestyle="none")
    band = Patch(facecolor=style.POSTERIOR, alpha=0.45)
    style.legend(figure, [(dot, "observed"), (outside, "observed, outside 90%"), (band, "predicted")])
    return figure


def _check(trace: xr.DataTree, name: str) -> _Check | str:
    """Return the data to draw, or why there are none."""
    observed, predictive = group(trace, "observed_data")[name], group(trace, "posterior_predictive")
    if name not in predictive:
        return "no posterior predictive draws"
    array = predictive[name]
    if not set(SAMPLE_DIMS) <= set(array.dims):
        return "the posterior predictive has no chain and draw"
    array = array.transpose(*SAMPLE_DIMS, ...)
    if array.shape[2:] != observed.shape:
        return f"predicted shape {array.shape[2:]} is not the observed {observed.shape}"
    if not all(np.issubdtype(a.dtype, np.number) or a.dtype == bool for a in (array, observed)):
        return "not numbers"
    flat = array.to_numpy().reshape(array.shape[0] * array.shape[1], -1)
    data = drawable(observed.to_numpy().reshape(-1))
    keep = _spread(np.flatnonzero(np.isfinite(data)), MAX_OBSERVATIONS)
    predicted = drawable(flat[_spread(np.arange(flat.shape[0]), MAX_DRAWS)][:, keep])
    whole = np.isfinite(predicted).all(axis=1)
    predicted, lost = predicted[whole], int(np.sum(~whole))
    if keep.size == 0 or predicted.shape[0] == 0:
        return "no finite observations" if keep.size == 0 else "no finite predictive draws"
    labels, axis = _labels(observed, keep)
    return _Check(name, data[keep], predicted, labels, axis, lost)


def _spread(places: np.ndarray, most: int) -> np.ndarray:
    """Return at most `most` of the places, evenly spaced."""
    if places.size <= most:
        return places
    return places[np.linspace(0, places.size - 1, most).round().astype(int)]


def _labels(observed: xr.DataArray, keep: np.ndarray) -> tuple[list[str], str]:
    """Return the labels of the kept observations and the name of their axis."""
    if observed.ndim == 1:
        dim = str(observed.dims[0])
        labels = axis_labels(observed, dim)
        # ArviZ names a dim `y_dim_0` where the model has no name for it: its labels are row numbers.
        return [labels[i] for i in keep], "observation" if "_dim_" in dim else dim
    return [str(i) for i in keep], "observation"


def _draw(axes: Axes, check: _Check) -> None:
    """Draw one variable in the form that suits its size and values."""
    low, high = np.quantile(check.predicted, [0.05, 0.95], axis=0)
    inside = (check.observed >= low) & (check.observed <= high)
    remark = f"{int(inside.sum())} of {inside.size} inside 90%"
    if check.lost:
        remark += f", {check.lost} of {check.lost + check.predicted.shape[0]} draws not finite"
    style.heading(axes, check.name, remark)
    if (values := _few_values(check)) is not None:
        _frequencies(axes, check, values)
    elif check.observed.size <= MAX_INTERVALS:
        _intervals(axes, check, inside)
    else:
        _cumulative(axes, check)


def _few_values(check: _Check) -> np.ndarray | None:
    """Return the values of small whole numbers, None if frequencies do not suit them."""
    count = check.observed.size
    if count < 10:
        return None
    values = np.union1d(check.observed, np.unique(check.predicted))
    most = MAX_VALUES if count > MAX_INTERVALS else 2
    whole = values.size <= most and bool(np.all(values == np.round(values)))
    return values if whole and float(np.ptp(values)) < 1e6 else None


def _intervals(axes: Axes, check: _Check, inside: np.ndarray) -> None:
    """Draw every observation over its own predictive intervals."""
    places = np.arange(check.observed.size)
    q05, q25, q50, q75, q95 = np.quantile(check.predicted, _LEVELS, axis=0)
    wide = float(np.clip(220 / places.size, 2.5, 11))
    axes.vlines(places, q05, q95, color=style.POSTERIOR, alpha=0.30, linewidth=wide)
    axes.vlines(places, q25, q75, color=style.POSTERIOR, alpha=0.45, linewidth=wide)
    axes.plot(
        places, q50, linestyle="none", marker="_", color=style.POSTERIOR, markersize=wide, markeredgewidth=1.4
    )
    _points(axes, check.observed, inside)
    axes.set_xlim(-0.7, places.size - 0.3)
    _scale_y(axes, np.concatenate([check.observed, q05, q95]))
    style.labelled(axes, check.labels, _WIDTH)
    _name_axes(axes, check.axis, "value")


def _points(axes: Axes, observed: np.ndarray, inside: np.ndarray) -> None:
    """Draw observed values, marked by whether they are inside their 90% interval."""
    for chosen, colour, marker in ((inside, style.OBSERVED, "o"), (~inside, style.ALARM, "D")):
        places = np.flatnonzero(chosen)
        axes.plot(places, observed[chosen], marker, color=colour, markersize=4.5, zorder=5)


def _scale_y(axes: Axes, values: np.ndarray) -> None:
    """Choose a logarithmic axis where a linear one would flatten most of the data."""
    low, high = style.limits(values)
    if values.min() > 0 and values.max() / values.min() > 1e3:
        axes.set_yscale("log")
        axes.set_ylim(values.min() / 1.5, values.max() * 1.5)
        return
    axes.set_ylim(low, high)
    style.numeric(axes.yaxis, 5)


def _frequencies(axes: Axes, check: _Check, values: np.ndarray) -> None:
    """Draw the share of each value, predicted and observed."""
    predicted = np.stack([(check.predicted == value).mean(axis=1) for value in values], axis=1)
    observed = np.array([(check.observed == value).mean() for value in values])
    q05, q25, q50, q75, q95 = np.quantile(predicted, _LEVELS, axis=0)
    places = np.arange(values.size)
    inside = (observed >= q05) & (observed <= q95)
    axes.bar(places, q50, width=0.7, color=style.POSTERIOR, alpha=0.18)
    axes.vlines(places, q05, q95, color=style.POSTERIOR, linewidth=1.6)
    axes.vlines(places, q25, q75, color=style.POSTERIOR, linewidth=5, alpha=0.6)
    _points(axes, observed, inside)
    axes.set_xticks(places, [f"{value:.0f}" for value in values], **style.type_(7.5))
    axes.set(xlim=(-0.8, values.size - 0.2), ylim=(0, max(float(q95.max()), float(observed.max())) * 1.12))
    style.numeric(axes.yaxis, 5)
    _name_axes(axes, "value", "share of observations")


def _cumulative(axes: Axes, check: _Check) -> None:
    """Draw the share of observations up to each value, predicted and observed."""
    low = min(float(check.observed.min()), float(np.quantile(check.predicted, 0.001)))
    high = max(float(check.observed.max()), float(np.quantile(check.predicted, 0.999)))
    logarithmic = low > 0 and high / low > 1e3
    grid = np.geomspace(low, high, GRID) if logarithmic else np.linspace(low, high, GRID)
    count = check.observed.size
    shares = np.stack([np.searchsorted(np.sort(row), grid, side="right") / count for row in check.predicted])
    q05, q25, q50, q75, q95 = np.quantile(shares, _LEVELS, axis=0)
    axes.fill_between(grid, q05, q95, step="post", color=style.POSTERIOR, alpha=0.25, linewidth=0)
    axes.fill_between(grid, q25, q75, step="post", color=style.POSTERIOR, alpha=0.35, linewidth=0)
    axes.step(grid, q50, where="post", color=style.POSTERIOR, linewidth=1.2)
    seen = np.sort(check.observed)
    axes.step(seen, np.arange(1, count + 1) / count, where="post", color=style.OBSERVED, linewidth=1.2)
    if logarithmic:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.1, high * 1.1)
    else:
        axes.set_xlim(*style.limits(grid, 0.02))
        style.numeric(axes.xaxis, 8)
    axes.set(ylim=(0, 1.02), yticks=[0, 0.25, 0.5, 0.75, 1])
    _name_axes(axes, "value", "share up to the value")


def _name_axes(axes: Axes, across: str, up: str) -> None:
    axes.set_xlabel(style.words(across, 60), labelpad=3, **style.type_(8, style.FAINT))
    axes.set_ylabel(style.words(up, 30), labelpad=3, **style.type_(8, style.FAINT))
