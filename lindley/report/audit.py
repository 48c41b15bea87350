"""A chain compared with the pooled refit: errors of means and sds, parameter by parameter."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lindley.report import style

#: Parameters shown at most, those with the largest errors of their means.
MAX_ROWS = 40
#: Agreement: means within a tenth of an sd, sds within a twentieth.
_AGREE = {
    "error": ((-0.1, 0.1), "difference of means, pooled sds"),
    "sd_ratio": ((0.95, 1.05), "sequential sd / pooled sd"),
}


def audit_figure(table: pd.DataFrame, *, title: str = "Sequential against pooled") -> Figure:
    """Draw the errors of a chain's head against a pooled refit.

    Parameters
    ----------
    table
        The result of `lindley.operations.audit.audit_table`.
    title
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure
        Not known to `pyplot`; save it with `lindley.report.figures.save`.

    Notes
    -----
    Left, the difference of the means in pooled sds; right, the ratio of the sds. The grey bands are a
    tenth of an sd and five percent.
    """
    rows = table[np.isfinite(table["error"]) & np.isfinite(table["sd_ratio"])]
    rows = rows.sort_values("error", key=abs, ascending=False, kind="stable")[:MAX_ROWS]
    left_out = len(table) - len(rows)
    figure, panels = style.sheet(
        1, 2, panel=(3.4, max(1.2, 0.22 * len(rows) + 0.3)), gap=(0.35, 0), title=title, margin=(1.7, 0.55),
        note=f"{left_out} more parameters are not shown" if left_out else "",
    )  # fmt: skip
    for axes, (column, ((low, high), label)) in zip(panels[0], _AGREE.items(), strict=True):
        if rows.empty:
            style.message(axes, "nothing to compare")
            continue
        values = rows[column].to_numpy()
        axes.axvspan(low, high, color=style.GRID, zorder=0)
        axes.axvline((low + high) / 2, color=style.FAINT, linewidth=0.8, zorder=1)
        axes.plot(values, range(len(values)), "o", color=style.INK, markersize=4, zorder=3)
        axes.set(xlim=style.limits(np.append(values, [low, high])), ylim=(len(values) - 0.5, -0.5))
        style.numeric(axes.xaxis, 5)
        axes.set_yticks(range(len(rows)), [style.words(name, 26) for name in rows.index])
        axes.tick_params(labelleft=axes is panels[0, 0])
        axes.set_xlabel(label, **style.type_(8.5, style.FAINT))
    return figure
