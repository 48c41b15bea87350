from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib import pyplot
from matplotlib.figure import Figure
from PIL import Image

from lindley.report.density import MAX_PANELS
from lindley.report.draws import choose, group, scalars
from lindley.report.figures import (
    chain_figure,
    predictive_figure,
    prior_posterior_figure,
    rank_figure,
    save,
)
from lindley.report.ranks import MAX_DRAWS, MAX_ROWS, TRACE_DRAWS
from lindley.report.style import ALARM, POSTERIOR, PRIOR, numeric, sheet

Make = Callable[..., xr.DataTree]
Pixels = Callable[[Figure], np.ndarray]
Png = Callable[[Figure], bytes]
Texts = Callable[[Figure], str]
Rows = Callable[..., list[dict[str, Any]]]
SHAPE = (4, 250)
FIGURES = [prior_posterior_figure, rank_figure, predictive_figure]


def has_colour(image: np.ndarray, colour: str) -> bool:
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return bool((np.abs(image - wanted).max(axis=2) < 3).sum() > 15)


@pytest.mark.parametrize("make_figure", FIGURES)
def test_an_image_is_a_png_with_something_on_it(
    make_trace: Make, make_figure: Callable[..., Figure], pixels: Pixels
) -> None:
    image = pixels(make_figure(make_trace()))
    assert image.shape[0] > 200
    assert image.shape[1] > 600
    assert image.std() > 10
    assert has_colour(image, POSTERIOR)


@pytest.mark.parametrize("make_figure", FIGURES)
def test_the_same_trace_gives_the_same_bytes(
    make_trace: Make, make_figure: Callable[..., Figure], png: Png
) -> None:
    trace = make_trace()
    assert png(make_figure(trace)) == png(make_figure(trace))


def test_figures_may_be_made_in_threads_and_leave_none_open_in_pyplot(
    make_trace: Make, png: Png, chain_rows: Rows
) -> None:
    trace = make_trace()
    makers = [lambda: chain_figure(chain_rows(5), "R0"), lambda: predictive_figure(trace)]
    makers += [lambda: rank_figure(trace, ["R0"]), lambda: prior_posterior_figure(trace, ["R0"])]
    alone = [png(make_figure()) for make_figure in makers]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda make_figure: png(make_figure()), makers * 2))
    assert together == alone * 2
    assert pyplot.get_fignums() == []


def test_a_file_holds_no_version_or_date(make_trace: Make, tmp_path: Path) -> None:
    path = tmp_path / "ranks.png"
    figure = rank_figure(make_trace())
    save(figure, path)
    with Image.open(path) as image:
        assert set(image.info) <= {"dpi"}
    assert figure.axes == []


def test_prior_and_posterior_are_both_drawn_and_labelled(
    make_trace: Make, pixels: Pixels, texts: Texts
) -> None:
    figure = prior_posterior_figure(make_trace(), ["beta"], title="covid_sir, link 3")
    assert "covid_sir, link 3" in texts(figure).split(" | ")
    label = figure.axes[0].get_xlabel()
    before, after = label.split(" → ")
    assert before.startswith("2.")
    assert after.startswith("1.7")
    assert has_colour(pixels(figure), PRIOR)


def test_without_a_prior_only_the_posterior_is_drawn(make_trace: Make, texts: Texts) -> None:
    figure = prior_posterior_figure(make_trace(prior=None), ["beta"])
    assert "→" not in figure.axes[0].get_xlabel()
    assert "beta" in texts(figure).split(" | ")


def test_a_prior_of_another_shape_is_left_out(make_trace: Make) -> None:
    figure = prior_posterior_figure(make_trace(prior={"beta": np.ones((1, 50, 2))}), ["beta"])
    assert "→" not in figure.axes[0].get_xlabel()


def test_parameters_are_named_by_variable_or_label(make_trace: Make, texts: Texts) -> None:
    figure = prior_posterior_figure(make_trace(), ["theta[south, west]", "R0", "nope"])
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[:2] == ["R0", "theta[south, west]"]
    assert "not in the trace: nope" in texts(figure)
    assert "not in the trace: nope" in texts(rank_figure(make_trace(), ["R0", "nope"]))


def test_too_many_parameters_are_capped_and_counted(
    make_trace: Make, rng: np.random.Generator, texts: Texts
) -> None:
    posterior = {"long": rng.normal(size=(*SHAPE, 90)), "alpha": rng.normal(size=SHAPE)}
    figure = prior_posterior_figure(make_trace(posterior=posterior))
    assert f"{MAX_PANELS} of 91 parameters" in texts(figure)
    assert "alpha" in texts(figure).split(" | ")
    assert sum(axes.get_visible() for axes in figure.axes) == MAX_PANELS


def test_an_interval_beyond_the_panel_has_an_arrow(make_trace: Make, rng: np.random.Generator) -> None:
    trace = make_trace(
        posterior={"mu": rng.normal(0, 0.001, SHAPE)}, prior={"mu": rng.normal(0, 1000, (1, 500))}
    )
    figure = prior_posterior_figure(trace)
    low, high = figure.axes[0].get_xlim()
    assert high - low < 0.2
    assert {line.get_marker() for line in figure.axes[0].lines} >= {"<", ">"}


def test_a_prior_far_wider_than_the_panel_is_no_stick(make_trace: Make, rng: np.random.Generator) -> None:
    wide, spike = rng.normal(0, 1e6, (1, 500)), rng.normal(0, 1, (1, 500)) * 1e-6
    posterior = {"mu": rng.normal(0, 1, SHAPE)}
    sticks = []
    for prior in (wide, spike):
        axes = prior_posterior_figure(make_trace(posterior=posterior, prior={"mu": prior})).axes[0]
        sticks.append(
            sum(np.ptp(path.vertices[:, 0]) == 0 for lines in axes.collections for path in lines.get_paths())
        )
    assert sticks == [0, 3]


def test_areas_are_equal_inside_the_panel(make_trace: Make, rng: np.random.Generator) -> None:
    trace = make_trace(posterior={"mu": rng.normal(0, 1, SHAPE)}, prior={"mu": rng.normal(0, 8, (1, 2000))})
    axes = prior_posterior_figure(trace).axes[0]
    curves = [line.get_xydata() for line in axes.lines if len(line.get_xdata()) > 100]
    areas = [float(np.trapezoid(curve[:, 1], curve[:, 0])) for curve in curves]
    assert areas == pytest.approx([1, 1], abs=0.05)
    low, high = axes.get_ylim()
    assert all(low < 0 <= curve[:, 1].max() < high for curve in curves)


def test_ranks_of_chains_that_disagree_are_marked(make_trace: Make, rng: np.random.Generator) -> None:
    apart = rng.normal(size=SHAPE) + np.array([[0], [0], [0], [3]])
    agreed, alarmed = (
        rank_figure(make_trace(posterior={"mu": draws})).axes[1] for draws in (rng.normal(size=SHAPE), apart)
    )
    marked = [sum(len(marks.get_offsets()) for marks in axes.collections) for axes in (agreed, alarmed)]
    assert marked[0] == 0
    assert marked[1] > 50
    assert "p=0.00" in alarmed.texts[0].get_text()
    highest = [max(np.abs(line.get_ydata()).max() for line in axes.lines) for axes in (agreed, alarmed)]
    assert highest[0] < 0.1
    assert highest[1] > 0.5


def test_ranks_of_many_draws_are_thinned(make_trace: Make, rng: np.random.Generator) -> None:
    figure = rank_figure(make_trace(posterior={"mu": rng.normal(size=(4, 3000))}, sample_stats=None))
    assert {len(line.get_xdata()) for line in figure.axes[0].lines} == {TRACE_DRAWS}
    assert max(len(line.get_xdata()) for line in figure.axes[1].lines) <= MAX_DRAWS


def test_the_worst_r_hat_comes_first_when_not_all_fit(
    make_trace: Make, rng: np.random.Generator, texts: Texts
) -> None:
    many = rng.normal(size=(*SHAPE, 30))
    many[3, :, 17] += 5
    figure = rank_figure(make_trace(posterior={"x": many}))
    assert figure.axes[0].get_title(loc="left") == "x[17]"
    assert f"{MAX_ROWS} of 30 parameters, highest R-hat first" in texts(figure)


def test_divergences_are_marked(make_trace: Make, pixels: Pixels) -> None:
    diverging = np.zeros(SHAPE, dtype=bool)
    calm = rank_figure(make_trace(sample_stats={"diverging": diverging}), ["beta"])
    diverging[2, 100:120] = True
    rough = rank_figure(make_trace(sample_stats={"diverging": diverging}), ["beta"])
    entries = [[text.get_text() for text in figure.legends[0].get_texts()] for figure in (calm, rough)]
    assert "divergence" not in entries[0]
    assert "divergence" in entries[1]
    assert not has_colour(pixels(calm), ALARM)
    assert has_colour(pixels(rough), ALARM)


def test_few_observations_are_drawn_one_by_one_under_their_labels(make_trace: Make) -> None:
    figure = predictive_figure(make_trace())
    axes = figure.axes[0]
    assert axes.get_xticklabels()[0].get_text() == "1978-01-22"
    assert axes.get_xlabel() == "day"
    assert axes.get_title(loc="right").endswith("of 14 inside 90%")


def test_an_observation_outside_its_interval_is_marked(
    make_trace: Make, rng: np.random.Generator, texts: Texts
) -> None:
    def check(observed: np.ndarray) -> Figure:
        predicted = {"y": rng.normal(size=(*SHAPE, 5))}
        return predictive_figure(make_trace(posterior_predictive=predicted, observed_data={"y": observed}))

    inside, outside = check(np.zeros(5)), check(np.array([0, 0, 9.0, 0, 0]))
    assert "5 of 5 inside 90%" in texts(inside)
    assert "4 of 5 inside 90%" in texts(outside)
    marked = [line for line in outside.axes[0].lines if line.get_marker() == "D"]
    assert marked[0].get_xdata().tolist() == [2]


@pytest.mark.parametrize(
    ("kind", "axis"),
    [("counts", "share of observations"), ("reals", "share up to the value"), ("lognormal", "share")],
)
def test_many_observations_are_drawn_as_shares(
    make_trace: Make, rng: np.random.Generator, kind: str, axis: str
) -> None:
    sample = {
        "counts": lambda size: rng.binomial(6, 0.3, size),
        "reals": lambda size: rng.normal(size=size),
        "lognormal": lambda size: np.exp(4 * rng.normal(size=size)),
    }[kind]
    trace = make_trace(
        posterior_predictive={"y": sample((*SHAPE, 300)), "z": sample((*SHAPE, 300))},
        observed_data={"y": sample(300), "z": sample(300)},
    )
    figure = predictive_figure(trace)
    assert len(figure.axes) == 2
    assert figure.axes[0].get_ylabel().startswith(axis)
    if kind == "lognormal":
        labels = [float(text.get_text()) for text in figure.axes[0].get_xticklabels()]
        assert labels == sorted(labels)
        # No matter how many powers of ten the values span, half of the places are around the median.
        assert labels[0] < 1e-3
        assert labels[-1] > 1e3
        assert 1e-2 < np.median(labels) < 1e2


def test_binary_observations_are_drawn_as_frequencies(make_trace: Make, rng: np.random.Generator) -> None:
    trace = make_trace(
        posterior_predictive={"hit": rng.random((*SHAPE, 12)) < 0.4},
        observed_data={"hit": rng.random(12) < 0.4},
    )
    assert predictive_figure(trace).axes[0].get_ylabel() == "share of observations"


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ({"posterior_predictive": None}, "no posterior predictive draws"),
        ({"observed_data": None, "posterior_predictive": None}, "no observed data"),
        ({"posterior_predictive": {"other": np.ones((2, 5, 3))}}, "no posterior predictive draws"),
        ({"observed_data": {"cases": np.full(14, np.nan)}}, "no finite observations"),
        ({"posterior_predictive": {"cases": np.full((2, 5, 14), np.inf)}}, "no finite predictive draws"),
        ({"observed_data": {"cases": np.array(["a"] * 14)}}, "not numbers"),
        ({"observed_data": {f"y{i}": np.ones(2) for i in range(9)}}, "8 of 9 observed variables"),
    ],
)
def test_what_cannot_be_checked_is_reported(
    make_trace: Make, groups: dict[str, Any], words: str, texts: Texts
) -> None:
    assert words in texts(predictive_figure(make_trace(**groups)))


def test_a_prediction_of_another_shape_is_reported(texts: Texts) -> None:
    predicted = xr.Dataset({"y": (("chain", "draw", "b"), np.ones((2, 5, 4)))})
    observed = xr.Dataset({"y": ("a", np.ones(3))})
    trace = xr.DataTree.from_dict({"observed_data": observed, "posterior_predictive": predicted})
    assert "predicted shape (4,) is not the observed (3,)" in texts(predictive_figure(trace))


def test_missing_observations_and_lost_draws_are_left_out_and_counted(
    make_trace: Make, rng: np.random.Generator, texts: Texts
) -> None:
    predicted = rng.normal(size=(2, 50, 6))
    predicted[0, :10, 3] = np.nan
    observed = np.array([0, 0, np.nan, 0, 0, 0])
    trace = make_trace(posterior_predictive={"y": predicted}, observed_data={"y": observed})
    assert "5 of 5 inside 90%, 10 of 100 draws not finite" in texts(predictive_figure(trace))


def test_a_chain_sharpens_link_by_link(pixels: Pixels, texts: Texts, chain_rows: Rows) -> None:
    figure = chain_figure(chain_rows(7), "R0", reference=3.2, reference_label="published")
    assert "after link 7: median 3.20, 90% interval 2.97 to 3.43" in texts(figure)
    assert [text.get_text() for text in figure.legends[0].get_texts()][-1] == "published 3.2"
    labels = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert labels == ["prior", *(f"batch {i}" for i in range(1, 8))]
    low, high = figure.axes[0].get_ylim()
    assert 3.2 - 1.64 > low > -5
    assert 3.2 + 1.64 < high < 10
    image = pixels(figure)
    assert all(has_colour(image, colour) for colour in (PRIOR, POSTERIOR, ALARM))


def test_a_chain_is_deterministic_and_long_ones_have_few_labels(png: Png, chain_rows: Rows) -> None:
    assert png(chain_figure(chain_rows(400), "R0")) == png(chain_figure(chain_rows(400), "R0"))
    assert len(chain_figure(chain_rows(400), "R0").axes[0].get_xticks()) < 30


def test_labels_are_those_of_a_summary(make_trace: Make) -> None:
    posterior = group(make_trace(), "posterior")
    assert [scalar.label for scalar in scalars(posterior)] == [
        "beta", "R0", "theta[north]", "theta[south, west]", "theta[east]",
    ]  # fmt: skip
    chosen, total, unknown = choose(posterior, ["theta", "zeta"], 2)
    assert [scalar.label for scalar in chosen] == ["theta[north]", "theta[south, west]"]
    assert (total, unknown) == (3, ["zeta"])


def test_labels_without_coordinates_are_positions_and_times_keep_their_hour() -> None:
    draws = (("chain", "draw", "d"), np.ones((2, 5, 2)))
    hours = np.array(["2026-01-01T00", "2026-01-01T06"], dtype="datetime64[ns]")
    bare, timed = xr.Dataset({"x": draws, "fixed": ("d", [1, 2])}), xr.Dataset({"x": draws}, {"d": hours})
    assert [scalar.label for scalar in scalars(bare)] == ["x[0]", "x[1]"]
    assert [scalar.label for scalar in scalars(timed)] == ["x[2026-01-01 00:00:00]", "x[2026-01-01 06:00:00]"]


def test_observations_of_many_dims_and_without_draws(rng: np.random.Generator, texts: Texts) -> None:
    observed = xr.Dataset({"y": (("a", "b"), rng.normal(size=(3, 4))), "z": ("a", np.ones(3))})
    predicted = xr.Dataset(
        {"y": (("chain", "draw", "a", "b"), rng.normal(size=(2, 50, 3, 4))), "z": ("a", np.ones(3))}
    )
    figure = predictive_figure(
        xr.DataTree.from_dict({"observed_data": observed, "posterior_predictive": predicted})
    )
    assert "of 12 inside 90%" in texts(figure)
    assert "has no chain and draw" in texts(figure)


@pytest.mark.parametrize(
    ("low", "high"),
    [(0, 0.5), (-1, 1), (1e6, 2e6), (1e90, 2e90), (1 - 2.5e-9, 1 + 2.5e-9), (-1e-180, 1e-180)],
)
def test_ticks_have_labels_of_their_own(low: float, high: float) -> None:
    figure, panels = sheet(1, 1, panel=(3, 2), gap=(0, 0), title="ticks")
    axes = panels[0, 0]
    axes.set_xlim(low, high)
    numeric(axes.xaxis, 5)
    figure.canvas.draw()
    labels = [text.get_text() for text in axes.get_xticklabels()]
    assert 3 <= len(labels) == len(set(labels)) <= 8
    assert max(len(label) for label in labels) < 9
    common = axes.xaxis.get_offset_text().get_text()
    assert bool(common) == (high > 1e5 or high < 1e-5 or high - low < 1e-5)
