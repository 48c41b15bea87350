"""The figures of a link and of a chain, and their conversion to files."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from lindley.report import style
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

#: Colours of a picture, beside those of the style, which stay what they are.
COLOURS = 32
_FLAT = [
    round(255 * part)
    for colour in (
        "white",
        *style.CHAINS,
        style.INK,
        style.FAINT,
        style.GRID,
        style.PRIOR,
        style.POSTERIOR,
        style.ALARM,
    )
    for part in to_rgb(colour)
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
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    _with_palette(np.ascontiguousarray(pixels)).save(target, "PNG", optimize=True)
    figure.clear()


def _with_palette(pixels: np.ndarray) -> Image.Image:
    """Give each pixel [row, column, channel] the nearest of a few colours; those of the style are exact.

    Figures have a few flat colours and their mixtures at edges: a palette takes a fourth of the space.
    """
    mixed = Image.fromarray(pixels).quantize(COLOURS, method=Image.Quantize.MEDIANCUT).getpalette() or []
    palette = np.array([*_FLAT, *mixed], int).reshape(-1, 3)
    # Not Pillow's own choice, which looks at the first bits of a colour only.
    packed = pixels.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    found, where = np.unique(packed, return_inverse=True)
    colours = np.stack([found >> 16, found >> 8 & 255, found & 255], axis=-1).astype(int)
    nearest = ((colours[:, None] - palette) ** 2).sum(axis=2).argmin(axis=1).astype(np.uint8)
    image = Image.fromarray(nearest[where].reshape(packed.shape), "P")
    image.putpalette(palette.ravel().tolist())
    return image
