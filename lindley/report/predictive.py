"""Posterior predictive check: the batch against the predictions of the belief."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr
from arviz_plots import plot_ppc_interval
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lindley.report import style
from lindley.report.draws import SAMPLE_DIMS, axis_labels, drawable, group, is_sample
from lindley.report.numbers import format_number

#: Observed variables shown at most.
MAX_VARIABLES = 8
#: Up to this many observations each is drawn with its own intervals.
MAX_INTERVALS = 60
#: Quantiles at which the share of more observations is drawn.
GRID = 41
#: Whole numbers with at most this many values are drawn as frequencies.
MAX_VALUES = 12
#: Draws and observations used at most, evenly spaced; more make no visible difference.
MAX_DRAWS, MAX_OBSERVATIONS = 400, 20_000

_WIDTH = 7.4


class _Check(NamedTuple):
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
    One panel per observed variable, at most `MAX_VARIABLES`, with 50% and 90% predictive intervals
    (`arviz_plots.plot_ppc_interval`): of up to `MAX_INTERVALS` observations one by one, of the
    frequencies of whole numbers of few values, else of the share of observations up to each of `GRID`
    predicted quantiles. Missing observations are left out.
    """
    observed = group(trace, "observed_data")
    names = [str(name) for name in observed.data_vars]
    shown = names[:MAX_VARIABLES]
    note = "blue: posterior predictive median, 50% and 90% intervals"
    if len(shown) < len(names):
        note = f"{len(shown)} of {len(names)} observed variables; {note}"
    figure, panels = style.sheet(
        max(len(shown), 1), 1, panel=(_WIDTH, 2.3), gap=(0, 0.85), title=title, note=note, margin=(0.75, 0.45)
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
    if not is_sample(array):
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
    observed, predicted, labels = check.observed, check.predicted, check.labels
    across, up = check.axis, "value"
    values, equal = _few_values(check), True
    if values is not None:
        across, up = "value", "share of observations"
    elif observed.size > MAX_INTERVALS:
        # Quantiles: as many places in the bulk as in the tails, on any scale of the values.
        values = np.unique(np.quantile(predicted, np.linspace(0, 1, GRID)))
        across, up, equal = "value, quantiles of the predicted", "share up to the value", False
    if values is not None:
        observed, predicted = (
            np.stack([(x == v if equal else x <= v).mean(-1) for v in values], -1)
            for x in (observed, predicted)
        )
        labels = [format_number(value, digits=3) for value in values]
    _intervals(axes, observed, predicted)
    if values is not None:
        axes.set(yscale="linear", ylim=(0, min(axes.get_ylim()[1], 1.05)))
    style.labelled(axes, labels, _WIDTH)
    axes.set_xlabel(style.words(across, 60), labelpad=3, **style.type_(8, style.FAINT))
    axes.set_ylabel(style.words(up, 30), labelpad=3, **style.type_(8, style.FAINT))


def _few_values(check: _Check) -> np.ndarray | None:
    """Return the values of small whole numbers, None if frequencies do not suit them."""
    count = check.observed.size
    if count < 10:
        return None
    values = np.union1d(check.observed, np.unique(check.predicted))
    most = MAX_VALUES if count > MAX_INTERVALS else 2
    whole = values.size <= most and bool(np.all(values == np.round(values)))
    return values if whole and float(np.ptp(values)) < 1e6 else None


def _intervals(axes: Axes, observed: np.ndarray, predicted: np.ndarray) -> None:
    """Draw every observed[place] over the intervals of predicted[draw, place], marked if outside."""
    data = xr.Dataset({"y": (("sample", "place"), predicted)})
    wide = float(np.clip(220 / observed.size, 2.5, 11))
    bar = {"color": style.POSTERIOR, "width": wide, "solid_capstyle": "butt"}
    median = {"marker": "_", "color": style.POSTERIOR, "size": wide**2}
    visuals = {"trunk": bar | {"alpha": 0.30}, "twig": bar | {"alpha": 0.45}, "prediction_markers": median}
    plot_ppc_interval(
        xr.DataTree.from_dict({"posterior_predictive": data}), sample_dims="sample",
        ci_kind="eti", ci_probs=(0.5, 0.9), point_estimate="median",
        plot_collection=style.collection(data, {"y": axes}),
        visuals=visuals | dict.fromkeys(("xlabel", "ylabel"), False),
    )  # fmt: skip
    low, high = np.quantile(predicted, [0.05, 0.95], axis=0)
    inside = (observed >= low) & (observed <= high)
    size = float(np.clip(0.5 * wide, 2.5, 4.5))
    for chosen, colour, marker in ((inside, style.OBSERVED, "o"), (~inside, style.ALARM, "D")):
        axes.plot(np.flatnonzero(chosen), observed[chosen], marker, color=colour, markersize=size, zorder=5)
    axes.set_xlim(-0.7, observed.size - 0.3)
    style.scale_y(axes, np.concatenate([observed, low, high]))
