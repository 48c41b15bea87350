"""Synthetic traces and summaries as the update produces them."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import arviz as az
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.figure import Figure
from PIL import Image

from lindley.report.figures import save

CHAINS, DRAWS, REGIONS = 4, 250, ["north", "south, west", "east"]

#: Labels that break a naive page or figure.
HOSTILE = [
    "$x_1$",
    "$\\frac{",
    "<script>alert(1)</script>",
    "_under_ *star*",
    "a|b`c\\d",
    "[text](http://evil.example)",
    "line\nbreak\ttab",
    "right\u202eleft",
    "θ̂ 中文 🎲",
    "x" * 500,
    "",
    "\x00\ud800",
    "www.evil.example @head :smile:",
    "{braces} %s {0}",
]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240521)


@pytest.fixture
def make_trace(rng: np.random.Generator) -> Callable[..., xr.DataTree]:
    """Make a trace of an epidemic: scalars, a labelled vector, counts by day; groups may be replaced."""

    def make(**groups: Any) -> xr.DataTree:
        beta, gamma = rng.normal(1.73, 0.06, (CHAINS, DRAWS)), rng.normal(0.54, 0.02, (CHAINS, DRAWS))
        cases = np.array([3, 8, 26, 76, 225, 298, 258, 233, 189, 128, 68, 29, 14, 4])
        data: dict[str, Any] = {
            "posterior": {
                "beta": beta,
                "R0": beta / gamma,
                "theta": rng.normal(size=(CHAINS, DRAWS, 3)) * [0.1, 0.5, 2],
            },
            "prior": {
                "beta": np.abs(rng.normal(2, 1, (1, DRAWS))),
                "R0": np.abs(rng.standard_cauchy((1, DRAWS))),
                "theta": rng.normal(size=(1, DRAWS, 3)),
            },
            "posterior_predictive": {
                "cases": rng.negative_binomial(8, 8 / (8 + cases), (CHAINS, DRAWS, 14)),
            },
            "observed_data": {"cases": cases},
            "sample_stats": {"diverging": rng.random((CHAINS, DRAWS)) < 0.004},
        } | groups
        return az.from_dict(
            {name: group for name, group in data.items() if group is not None},
            dims={"theta": ["region"], "cases": ["day"]},
            coords={"region": REGIONS, "day": pd.date_range("1978-01-22", periods=14)},
        )

    return make


@pytest.fixture
def make_summary() -> Callable[..., pd.DataFrame]:
    """Make a summary with one row per label, each parameter having moved a little further."""

    def make(labels: list[str], **columns: Any) -> pd.DataFrame:
        count = len(labels)
        values = {
            "mean": 3.0 + np.arange(count) / 10,
            "sd": np.full(count, 0.112),
            "q05": np.full(count, 2.8),
            "q50": np.full(count, 3.0),
            "q95": np.full(count, 3.4),
            "prior_mean": np.full(count, 2.9),
            "prior_sd": np.full(count, 0.4),
            "sd_ratio": np.full(count, 0.28),
            "shift": 0.25 + np.arange(count) / 4,
            "r_hat": np.full(count, 1.0012),
            "ess_bulk": np.full(count, 1888.3),
            "ess_tail": np.full(count, 1700.0),
        } | columns
        return pd.DataFrame(values, index=pd.Index(labels, dtype=object))

    return make


@pytest.fixture(params=HOSTILE, ids=range(len(HOSTILE)))
def hostile(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def png() -> Callable[[Figure], bytes]:
    """Render a figure to the bytes of a file."""

    def render(figure: Figure) -> bytes:
        buffer = io.BytesIO()
        save(figure, buffer)
        return buffer.getvalue()

    return render


@pytest.fixture
def pixels(png: Callable[[Figure], bytes]) -> Callable[[Figure], np.ndarray]:
    """Render a figure to pixels[row, column, colour], read back from the file."""

    def render(figure: Figure) -> np.ndarray:
        with Image.open(io.BytesIO(png(figure))) as image:
            image.load()
            assert image.format == "PNG"
            return np.asarray(image.convert("RGB"), dtype=int)

    return render


@pytest.fixture
def texts() -> Callable[[Figure], str]:
    """Return every text of a figure."""

    def texts(figure: Figure) -> str:
        found = [text.get_text() for text in figure.texts]
        for axes in figure.axes:
            found += [axes.get_title(loc=side) for side in ("left", "right")]
            found += [text.get_text() for text in (*axes.texts, axes.xaxis.label, axes.yaxis.label)]
        return " | ".join(text for text in found if text)

    return texts


@pytest.fixture
def chain_rows() -> Callable[..., list[dict[str, Any]]]:
    """Make the rows of a chain figure, each link sharper than the one before."""

    def make(count: int, *, genesis: bool = True) -> list[dict[str, Any]]:
        spread = np.array([-1.64, -0.67, 0, 0.67, 1.64])
        names = ("q05", "q25", "q50", "q75", "q95")
        rows: list[dict[str, Any]] = [
            {"link": i, "label": f"batch {i}"} | dict(zip(names, 3.2 + spread / i, strict=True))
            for i in range(1, count + 1)
        ]
        first: dict[str, Any] = {"link": 0, "label": "prior"} | dict(zip(names, 4 + 9 * spread, strict=True))
        return [first, *rows] if genesis else rows

    return make
