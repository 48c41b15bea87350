from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from lindley.report.tables import log_rows, parameter_rows, parameter_values, short

Make = Callable[..., pd.DataFrame]


@dataclass
class Line:
    number: int | None = 1
    version: int | None = 1
    kind: str = "update"
    status: str = "accepted"
    record_digest: str | None = "ab" * 32
    previous: str | None = "cd" * 32
    batch_digest: str | None = "ef" * 32
    origin: str | None = "week_01.csv"
    rows: int | None = 7
    created: str | None = "2026-01-02T03:04:05.678+00:00"
    reasons: tuple[str, ...] = field(default=())


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


def test_missing_numbers_are_said_to_be_missing(make_summary: Make) -> None:
    summary = make_summary(["R0"], r_hat=[np.nan], ess_bulk=[np.nan], prior_mean=[np.nan], prior_sd=[np.nan])
    row = parameter_rows(summary.drop(columns=["ess_tail", "shift", "q05", "q95"]))[0]
    assert (row["prior"], row["R-hat"], row["ESS bulk"], row["ESS tail"]) == ("improper", "n/a", "n/a", "n/a")
    assert (row["shift"], row["90% interval"]) == ("n/a", "n/a")


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


def test_a_log_is_newest_first() -> None:
    lines = [
        Line(number=1),
        Line(number=None, version=2, status="quarantined", reasons=("17 divergences", "R-hat 1.2\nof mu")),
    ]
    newest, oldest = log_rows(iter(lines))
    assert oldest == {
        "link": "1",
        "version": "1",
        "kind": "update",
        "status": "accepted",
        "record": "abababababab",
        "previous": "cdcdcdcdcdcd",
        "batch": "week_01.csv efefefefefef",
        "rows": "7",
        "created": "2026-01-02 03:04:05",
        "why": "",
    }
    assert (newest["link"], newest["why"]) == ("-", "17 divergences; R-hat 1.2 of mu")


def test_a_link_without_a_batch_has_dashes() -> None:
    line = Line(
        version=None,
        record_digest=None,
        previous=None,
        batch_digest=None,
        origin=None,
        rows=None,
        created=None,
    )
    row = log_rows([line])[0]
    assert {row[name] for name in ("version", "record", "previous", "batch", "rows", "created")} == {"-"}
    assert short("") == "-"
