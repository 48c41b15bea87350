from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pandas as pd

from lindley.report.tables import parameter_rows, parameter_values

Make = Callable[..., pd.DataFrame]


def test_a_parameter_row_is_readable(make_summary: Make) -> None:
    assert parameter_rows(make_summary(["R0"])) == [
        {
            "parameter": "R0",
            "prior": "2.90 ± 0.40",
            "posterior": "3.00 ± 0.11",
            "90% interval": "2.80 to 3.40",
            "shift": "+0.25 sd",
            "sd ratio": "0.28",
            "R-hat": "1.001",
            "ESS bulk": "1888",
            "ESS tail": "1700",
        }
    ]


def test_missing_numbers_are_shown_as_missing(make_summary: Make) -> None:
    summary = make_summary(["R0"], r_hat=[np.nan], ess_bulk=[np.nan], prior_mean=[np.nan], prior_sd=[np.nan])
    row = parameter_rows(summary.drop(columns=["ess_tail", "shift", "q05", "q95"]))[0]
    assert (row["prior"], row["R-hat"], row["ESS bulk"], row["ESS tail"]) == ("n/a", "n/a", "n/a", "n/a")
    assert (row["shift"], row["90% interval"]) == ("n/a", "n/a")


def test_only_a_prior_without_a_finite_sd_is_improper(make_summary: Make) -> None:
    row = parameter_rows(make_summary(["R0"], prior_mean=[np.nan], prior_sd=[np.inf]))[0]
    assert row["prior"] == "improper"


def test_a_constant_is_one_number(make_summary: Make) -> None:
    row = parameter_rows(make_summary(["one"], mean=[1.0], sd=[0.0], q05=[1.0], q95=[1.0]))[0]
    assert (row["posterior"], row["90% interval"]) == ("1", "1")


def test_rows_keep_the_order_and_duplicates_of_the_summary(make_summary: Make) -> None:
    assert [row["parameter"] for row in parameter_rows(make_summary(["b", "a", "b"]))] == ["b", "a", "b"]


def test_a_hostile_label_stays_on_one_line(make_summary: Make, hostile: str) -> None:
    shown = parameter_rows(make_summary([hostile]))[0]["parameter"]
    assert shown.isprintable()
    assert 0 < len(shown) <= 80


def test_values_are_json_at_full_precision(make_summary: Make) -> None:
    summary = make_summary(["R0"], mean=[1 / 3], shift=[math.inf], r_hat=[math.nan])
    row = parameter_values(summary)[0]
    assert json.loads(json.dumps(row, allow_nan=False))["mean"] == 1 / 3
    assert row["parameter"] == "R0"
    assert row["shift"] is None
    assert row["r_hat"] is None
