from __future__ import annotations

import math
import re

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from lindley.report.numbers import (
    finite_or_none,
    format_interval,
    format_number,
    format_pair,
    format_r_hat,
    format_ratio,
    format_shift,
)

# Rounding the very largest doubles up leaves the range in which the text could be read back.
values = st.floats(min_value=-1e308, max_value=1e308)
sds = st.floats(min_value=0, max_value=1e308, exclude_min=True)
ordinary_sds = st.floats(min_value=1e-30, max_value=1e30)


@pytest.mark.parametrize(
    ("value", "sd", "text"),
    [
        (3.2187, 0.112, "3.22"),
        (3.2187, 0.0112, "3.219"),
        (0.112, 0.112, "0.11"),
        (12345.6, 120.0, "12346"),
        (-0.004, 1.0, "0.0"),
        (0.0, 0.11, "0.00"),
        (9.96, 9.96, "10"),
        (1.2346e-7, 1.1e-9, "1.235e-07"),
        (1.2346e12, 1.1e10, "1.235e+12"),
        (1e-9, 1e9, "0"),
        (763.0, None, "763"),
        (0.5, None, "0.5"),
        (1.73205, None, "1.732"),
        (123456.0, None, "123456"),
        (1.5e-9, None, "1.500e-09"),
        (-0.0, None, "0"),
        (2.5, 0.0, "2.5"),
        (2.5, math.nan, "2.5"),
        (math.nan, 1.0, "n/a"),
        (math.inf, 1.0, "inf"),
        (-math.inf, None, "-inf"),
    ],
)
def test_a_number_has_the_digits_its_sd_supports(value: float, sd: float | None, text: str) -> None:
    assert format_number(value, sd) == text


@given(values, sds)
@example(1e7, 1e6)
@example(0.99999, 1e-5)
def test_the_text_is_within_a_twentieth_of_the_sd(value: float, sd: float) -> None:
    rounding = 1e-15 * abs(value)
    assert abs(float(format_number(value, sd)) - value) <= 0.0506 * sd + rounding


@given(sds)
def test_a_small_sd_is_never_shown_as_zero(sd: float) -> None:
    text = format_number(sd, sd)
    assert float(text) > 0
    assert float(text) == pytest.approx(sd, rel=0.051)


@given(values)
def test_a_number_alone_keeps_four_digits(value: float) -> None:
    assert float(format_number(value)) == pytest.approx(value, rel=5.1e-4, abs=5e-324)


@given(values, sds)
def test_a_number_is_short_and_has_no_negative_zero(value: float, sd: float) -> None:
    text = format_number(value, sd)
    assert len(text) <= 24
    assert not re.fullmatch(r"-0(\.0*)?", text)


@pytest.mark.parametrize(
    ("mean", "sd", "text"),
    [
        (3.2187, 0.112, "3.22 ± 0.11"),
        (1e-7, 1e-8, "(1.00 ± 0.10)e-07"),
        (1.234567e12, 1.1e10, "(1.235 ± 0.011)e+12"),
        (-2e-6, 3e-5, "(-0.2 ± 3.0)e-05"),
        (0.0, 1e-9, "(0.0 ± 1.0)e-09"),
        (1.0, 0.0, "1"),
        (1.0, 1e-12, "1.0000000000000 ± 1.0e-12"),
        (math.nan, math.nan, "n/a"),
        (1.0, math.nan, "1 ± n/a"),
        (math.inf, math.inf, "inf ± inf"),
    ],
)
def test_a_pair_shares_its_digits(mean: float, sd: float, text: str) -> None:
    assert format_pair(mean, sd) == text


@given(values, ordinary_sds)
def test_a_pair_reads_back(mean: float, sd: float) -> None:
    assume(abs(mean) < 1e200)
    text = format_pair(mean, sd)
    common = re.fullmatch(r"\((.*) ± (.*)\)(e.*)", text)
    shown = [part + common[3] for part in common.groups()[:2]] if common else text.split(" ± ")
    assert abs(float(shown[0]) - mean) <= 0.0506 * sd + 1e-15 * abs(mean)
    assert float(shown[1]) == pytest.approx(sd, rel=0.051)


def test_an_interval_has_the_digits_of_the_sd() -> None:
    assert format_interval(3.0512, 3.4123, 0.112) == "3.05 to 3.41"
    assert format_interval(math.nan, math.nan, 0.1) == "n/a"


@pytest.mark.parametrize(
    ("shift", "text"), [(0.5249, "+0.52 sd"), (-12.34, "-12.3 sd"), (1e9, "+1.0e+09 sd"), (math.nan, "n/a")]
)
def test_a_shift_is_signed(shift: float, text: str) -> None:
    assert format_shift(shift) == text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (0.284, "0.28"),
        (0.00123, "0.0012"),
        (1.0, "1.00"),
        (123.4, "123"),
        (math.nan, "n/a"),
        (math.inf, "inf"),
    ],
)
def test_a_ratio_keeps_two_digits(ratio: float, text: str) -> None:
    assert format_ratio(ratio) == text


@pytest.mark.parametrize(
    ("r_hat", "text"), [(1.00449, "1.004"), (4.8e15, "above 100"), (math.inf, "above 100"), (math.nan, "n/a")]
)
def test_an_r_hat_has_three_decimals(r_hat: float, text: str) -> None:
    assert format_r_hat(r_hat) == text


def test_none_is_a_missing_number() -> None:
    assert {format_number(None), format_pair(None, None), format_interval(None, None)} == {"n/a"}
    assert {format_shift(None), format_ratio(None), format_r_hat(None)} == {"n/a"}


@pytest.mark.parametrize(("digits", "text"), [(2, "12346"), (4, "12346"), (7, "12345.68")])
def test_digits_without_an_sd(digits: int, text: str) -> None:
    assert format_number(12345.678, digits=digits) == text
    assert [finite_or_none(value) for value in (1.5, math.inf, math.nan, "a", None)] == [
        1.5,
        None,
        None,
        "a",
        None,
    ]
