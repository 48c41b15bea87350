"""The figures of a link and of a chain, and their conversion to files."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lindley.report.audit import audit_figure
from lindley.report.density import prior_posterior_figure
from lindley.report.predictive import predictive_figure
from lindley.report.progress import chain_figure
from lindley.report.ranks import rank_figure

__all__ = [
    "audit_figure",
    "chain_figure",
    "predictive_figure",
    "prior_posterior_figure",
    "rank_figure",
    "save",
]


def save(figure: Figure, target: Path | BinaryIO) -> None:
    """Write a figure as PNG and empty it.

    The bytes depend on the figure and on the versions of matplotlib and its libraries only: the file
    contains no date, version or path.

    Parameters
    ----------
    figure
        Cannot be used afterwards.
    target
        Path of the file, overwritten if it exists, or an open binary file.
    """
    # Not `savefig`: it would read the resolution and the margins from the user's settings.
    FigureCanvasAgg(figure).print_png(target, metadata={"Software": None})
    figure.clear()
