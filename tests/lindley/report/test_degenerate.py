"""Inputs that are empty, constant, not finite, extreme or hostile: an image, and never a warning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from lindley.report import style
from lindley.report.figures import chain_figure, predictive_figure, prior_posterior_figure, rank_figure

Make = Callable[..., xr.DataTree]
Pixels = Callable[[Figure], np.ndarray]
Texts = Callable[[Figure], str]
Rows = Callable[..., list[dict[str, Any]]]
SHAPE = (4, 250)
FIGURES = [prior_posterior_figure, rank_figure, predictive_figure]
QUANTILES = ("q05", "q25", "q50", "q75", "q95")


@pytest.fixture(autouse=True)
def _coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw few pixels: these tests are about what is drawn at all."""
    monkeypatch.setattr(style, "DPI", 45)


def row(number: int, *quantiles: float | None) -> dict[str, Any]:
    return {"link": number, "label": "a"} | dict(zip(QUANTILES, quantiles, strict=False))


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [row(0, 1, 2, 3, 4, 5)],
        [row(1, 1, 2, 3, 4, 5)],
        [row(1)],
        [row(0, None, None, None, None, None), row(1, 1, 2, 3, 4, 5), row(2, 2, 2.5, 3, 3.5, 4)],
        [row(0, 1, 2, 3, 4, 5), row(1, -np.inf, 1, 2, np.nan, np.inf)],
        [row(0, 1, 2, 3, 4, 5), row(1, 3, 3, 3, 3, 3)],
        [row(1, 0, 0, 0, 0, 0)],
        [row(1, *[1e300] * 5)],
        [row(1, -1e90, -1, 1e-300, 1, 1e90)],
    ],
)
@pytest.mark.parametrize("reference", [1.0, float("nan"), 1e300])
def test_a_chain_with_gaps_is_still_drawn(
    rows: list[dict[str, Any]], reference: float, pixels: Pixels
) -> None:
    assert pixels(chain_figure(rows, "R0", reference=reference)).std() > 1


def degenerate() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    normal = rng.normal(size=SHAPE)
    holes = np.where(rng.random(SHAPE) < 0.1, np.nan, normal)
    stuck = normal.copy()
    stuck[1] = 0.5
    return {
        "constant": np.full(SHAPE, 2.5),
        "zero": np.zeros(SHAPE),
        "nan": np.full(SHAPE, np.nan),
        "infinite": np.where(normal > 2, np.inf, normal),
        "holes": holes,
        "one draw": np.array([[1.0]]),
        "two draws": np.array([[1.0, 2.0]]),
        "few draws": normal[:, :4],
        "stuck chain": stuck,
        "two values": np.where(normal > 0, 1.0, 0.0),
        "all but one equal": np.where(np.arange(1000).reshape(SHAPE) == 0, 1.0, 0.0),
        "each chain constant": np.repeat(np.arange(4.0)[:, None], 250, axis=1),
        "huge": normal * 1e307,
        "large": normal * 1e95,
        "tiny": normal * 1e-300,
        "small": normal * 1e-180,
        "nearly constant": 1 + normal * 1e-11,
        "wide": np.exp(60 * normal),
        "integers": np.round(normal * 3).astype(int),
        "single precision": normal.astype(np.float32),
    }


@pytest.mark.parametrize("case", degenerate())
def test_degenerate_draws_are_drawn_without_a_warning(make_trace: Make, case: str, pixels: Pixels) -> None:
    bad = degenerate()[case]
    good = np.resize(np.random.default_rng(1).normal(size=SHAPE), bad.shape)
    trace = make_trace(
        posterior={"both": bad, "posterior": bad, "prior": good},
        prior={"both": bad, "posterior": good, "prior": bad},
        sample_stats=None,
    )
    assert pixels(prior_posterior_figure(trace)).std() > 3
    assert pixels(rank_figure(trace, ["both", "prior"])).std() > 3


@pytest.mark.parametrize("case", degenerate())
def test_degenerate_predictions_are_drawn_without_a_warning(
    make_trace: Make, case: str, pixels: Pixels
) -> None:
    draws = degenerate()[case]
    counts = {"one": 1, "few": 12, "many": 80}
    trace = make_trace(
        posterior_predictive={
            name: np.repeat(draws[:, :, None], count, axis=2) for name, count in counts.items()
        },
        observed_data={name: np.resize(draws[0], count) for name, count in counts.items()},
    )
    assert pixels(predictive_figure(trace)).std() > 3


def test_an_empty_trace_is_still_an_image(pixels: Pixels, texts: Texts) -> None:
    for make_figure in FIGURES:
        assert "no " in texts(make_figure(xr.DataTree()))
        assert pixels(make_figure(xr.DataTree())).std() > 1


def test_hostile_names_are_shown_as_text(
    make_trace: Make, rng: np.random.Generator, hostile: str, pixels: Pixels, chain_rows: Rows
) -> None:
    name = hostile.replace("/", "|")  # a slash cannot be in a name inside a tree
    vector = xr.Dataset({name: (("chain", "draw", "d"), rng.normal(size=(2, 40, 2)))}, {"d": [name, "ok"]})
    observed = xr.Dataset({name: ("d", rng.normal(size=2))}, {"d": [name, "ok"]})
    trace = xr.DataTree.from_dict(
        {"posterior": vector, "prior": vector, "posterior_predictive": vector, "observed_data": observed}
    )
    for make_figure in FIGURES:
        assert pixels(make_figure(trace, title=hostile)).std() > 3
    rows = [link | {"label": hostile} for link in chain_rows(3)]
    assert pixels(chain_figure(rows, hostile, reference=3, reference_label=hostile)).std() > 3
