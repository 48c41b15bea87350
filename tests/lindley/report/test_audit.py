from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from lindley.report.audit import MAX_ROWS
from lindley.report.figures import audit_figure
from lindley.report.style import INK
from lindley.report.tables import audit_rows

Pixels = Callable[[Figure], np.ndarray]
Png = Callable[[Figure], bytes]
Texts = Callable[[Figure], str]


def audit(error: list[float], sd_ratio: list[float] | None = None, names: list[str] | None = None):
    """An audit as `lindley.operations.audit.audit_table` returns it."""
    count = len(error)
    return pd.DataFrame(
        {
            "sequential_mean": 2.0 + 0.5 * np.array(error),
            "sequential_sd": 0.5 * np.array(sd_ratio or [1.0] * count),
            "pooled_mean": [2.0] * count,
            "pooled_sd": [0.5] * count,
            "error": error,
            "sd_ratio": sd_ratio or [1.0] * count,
            "error_q05": error,
            "error_q95": error,
        },
        index=pd.Index(names or [f"p{i}" for i in range(count)], name="parameter", dtype=object),
    )


def dots(figure: Figure) -> list[list[float]]:
    """Values of the dots of each panel, from the top."""
    marked = [[line for line in axes.lines if line.get_marker() == "o"] for axes in figure.axes]
    return [lines[0].get_xdata().tolist() if lines else [] for lines in marked]


def labels(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].get_yticklabels()]


def has_ink(image: np.ndarray) -> bool:
    wanted = [int(INK[i : i + 2], 16) for i in (1, 3, 5)]
    return bool((np.abs(image - wanted).max(axis=2) < 3).sum() > 15)


# -- the figure ---------------------------------------------------------------------------------------


def test_parameters_come_with_the_one_that_is_furthest_off_on_top(pixels: Pixels, texts: Texts) -> None:
    figure = audit_figure(audit([0.05, -0.4, 0.2], [1.1, 0.9, 1.0]), title="coins, link 4")
    assert labels(figure) == ["p1", "p2", "p0"]
    assert dots(figure) == [[-0.4, 0.2, 0.05], [0.9, 1.0, 1.1]]
    low, high = figure.axes[0].get_ylim()
    assert low > high  # the first row is on top
    assert "coins, link 4" in texts(figure).split(" | ")
    assert "difference of means, pooled sds" in texts(figure)
    assert "sequential sd / pooled sd" in texts(figure)
    assert "not shown" not in texts(figure)
    image = pixels(figure)
    assert image.std() > 5
    assert has_ink(image)


def test_all_dots_and_the_band_of_agreement_are_in_view() -> None:
    for table in (audit([3.0, -0.01], [0.2, 4.0]), audit([1e-9], [1.0]), audit([-200.0, 1e5], [1e-3, 50.0])):
        figure = audit_figure(table)
        for axes, values, band in zip(figure.axes, dots(figure), [(-0.1, 0.1), (0.95, 1.05)], strict=True):
            low, high = axes.get_xlim()
            assert low <= min(*values, *band)
            assert high >= max(*values, *band)


def test_the_same_audit_gives_the_same_bytes(png: Png) -> None:
    table = audit([0.05, -0.4, 0.2])
    assert png(audit_figure(table)) == png(audit_figure(table)) != png(audit_figure(-table))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_left_out_and_counted(bad: float, texts: Texts, png: Png) -> None:
    figure = audit_figure(audit([0.3, bad, 0.1, 0.2], [1.0, 1.0, bad, 1.1]))
    assert labels(figure) == ["p0", "p3"]
    assert dots(figure) == [[0.3, 0.2], [1.0, 1.1]]
    assert "2 more parameters are not shown" in texts(figure)
    assert png(figure).startswith(b"\x89PNG")


@pytest.mark.parametrize("table", [audit([]), audit([np.nan], [np.nan])], ids=["no rows", "none finite"])
def test_an_empty_audit_states_that_it_is_empty(table: pd.DataFrame, texts: Texts, png: Png) -> None:
    figure = audit_figure(table)
    assert "nothing to compare" in texts(figure)
    assert ("1 more parameters" in texts(figure)) == (len(table) == 1)
    assert png(figure).startswith(b"\x89PNG")


def test_of_many_parameters_the_worst_are_shown_and_the_rest_counted(pixels: Pixels, texts: Texts) -> None:
    errors = np.random.default_rng(6).normal(0, 0.1, 300)
    figure = audit_figure(audit(errors.tolist()))
    worst = errors[np.argsort(-np.abs(errors))][:MAX_ROWS]
    assert dots(figure)[0] == worst.tolist()
    assert f"{300 - MAX_ROWS} more parameters are not shown" in texts(figure)
    height, width, _ = pixels(figure).shape
    assert 800 < height < 4000
    assert width < 2500


def test_a_hostile_label_is_only_text(hostile: str, png: Png) -> None:
    figure = audit_figure(audit([0.2, 0.1], names=[hostile, "b"]))
    first, second = labels(figure)
    assert len(first) < 40
    assert second == "b"
    assert png(figure).startswith(b"\x89PNG")


# -- the rows -----------------------------------------------------------------------------------------


def test_a_row_is_readable() -> None:
    assert audit_rows(audit([-0.3], [0.9])) == [
        {
            "parameter": "p0",
            "sequential": "1.85 ± 0.45",
            "pooled": "2.00 ± 0.50",
            "error": "-0.30 sd",
            "sd ratio": "0.90",
        }
    ]


def test_rows_come_worst_first_and_what_is_undefined_last() -> None:
    table = audit([0.1, np.nan, -0.5, np.inf, 0.2], [1.0, np.nan, 1.0, 1.0, np.inf])
    rows = audit_rows(table)
    assert [row["parameter"] for row in rows] == ["p3", "p2", "p4", "p0", "p1"]
    assert (rows[-1]["error"], rows[-1]["sd ratio"]) == ("n/a", "n/a")
    assert all("nan" not in text for row in rows for text in row.values())


def test_no_rows_are_no_rows() -> None:
    assert audit_rows(audit([])) == []


def test_every_parameter_has_a_row() -> None:
    errors = np.random.default_rng(7).normal(0, 0.1, 500)
    rows = audit_rows(audit(errors.tolist()))
    order = np.argsort(-np.abs(errors))
    assert [row["parameter"] for row in rows] == [f"p{i}" for i in order]


def test_a_hostile_name_stays_on_one_line(hostile: str) -> None:
    shown = audit_rows(audit([0.1], names=[hostile]))[0]["parameter"]
    assert shown.isprintable()
    assert 0 < len(shown) <= 60


def test_two_parameters_of_one_name_are_two_rows() -> None:
    """Labels of a summary are unique where dims are; a file may differ."""
    table = audit([0.1, 0.2], names=["a", "a"])
    assert [row["error"] for row in audit_rows(table)] == ["+0.20 sd", "+0.10 sd"]
    assert dots(audit_figure(table))[0] == [0.2, 0.1]
