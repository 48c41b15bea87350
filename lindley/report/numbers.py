"""Format numbers for people: with as many digits as the standard deviation supports."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

#: The quantiles of a summary, by the name of their column.
QUANTILES = {"q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95}
#: Text for a missing number.
MISSING = "n/a"
#: Significant digits of a number without a standard deviation.
ALONE_DIGITS = 4
#: A double has no more significant digits than these.
DOUBLE_DIGITS = 16
#: Magnitudes from `FIXED_FROM` to below `FIXED_BELOW` are written without an exponent.
FIXED_FROM, FIXED_BELOW = 1e-4, 1e7


def finite_or_none(value: Any) -> Any:
    """Return a value for JSON, which has no numbers that are not finite: None in their place."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def format_number(value: float | None, sd: float | None = None, *, digits: int = ALONE_DIGITS) -> str:
    """Return `value` with the digits that its standard deviation supports.

    Digits go down to the second significant digit of `sd`, so the text differs from the value by at
    most a twentieth of the sd, and a small sd is never shown as zero. Whole digits are never
    rounded away from a number written without an exponent.

    Parameters
    ----------
    value
        The number; NaN and None give ``n/a``, here and in the functions below.
    sd
        Its standard deviation, in the same unit.
    digits
        Significant digits without a positive finite sd.
    """
    value = _float(value)
    if math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if sd is None or not _positive(sd):
        return _alone(value, digits)
    decimals = _decimals(float(sd))
    if value:
        decimals = min(decimals, DOUBLE_DIGITS - _exponent(value))
    if _plain(max(abs(value), float(sd))):
        return _unsigned_zero(f"{value:.{max(decimals, 0)}f}")
    places = _exponent(value) + decimals if value else 0
    if value == 0 or places < 0:
        return "0"
    return f"{value:.{min(places, DOUBLE_DIGITS)}e}"


def format_pair(mean: float | None, sd: float | None) -> str:
    """Return ``mean ± sd``, both with the digits that the sd supports.

    Very large and very small pairs share one exponent: ``(1.234 ± 0.012)e-07``.
    """
    mean, sd = _float(mean), _float(sd)
    if math.isnan(mean) and math.isnan(sd):
        return MISSING
    if sd == 0:  # a constant
        return format_number(mean)
    if not (math.isfinite(mean) and _positive(sd)) or _plain(max(abs(mean), sd)):
        return f"{format_number(mean, sd)} ± {format_number(sd, sd)}"
    exponent = _exponent(max(abs(mean), sd))
    decimals = min(max(_decimals(sd) + exponent, 0), DOUBLE_DIGITS)
    if decimals == DOUBLE_DIGITS:  # the sd is too small beside the mean for a common exponent
        return f"{format_number(mean, sd)} ± {format_number(sd, sd)}"
    # Decimal scales exactly where a power of ten would leave the range of a double.
    shown = [_unsigned_zero(f"{Decimal(repr(x)).scaleb(-exponent):.{decimals}f}") for x in (mean, sd)]
    return f"({shown[0]} ± {shown[1]})e{exponent:+03d}"


def format_interval(low: float | None, high: float | None, sd: float | None = None) -> str:
    """Return ``low to high``, with the digits that the standard deviation supports."""
    low, high = _float(low), _float(high)
    if math.isnan(low) and math.isnan(high):
        return MISSING
    if low == high and sd == 0:  # a constant
        return format_number(low)
    return f"{format_number(low, sd)} to {format_number(high, sd)}"


def format_shift(shift: float | None) -> str:
    """Return a movement in prior standard deviations, signed: ``+0.53 sd``."""
    shift = _float(shift)
    if math.isnan(shift):
        return MISSING
    digits = 2 if abs(shift) < 10 else 1
    return f"{shift:+.{digits}f} sd" if abs(shift) < FIXED_BELOW else f"{shift:+.1e} sd"


def format_ratio(ratio: float | None) -> str:
    """Return a ratio of two standard deviations with two significant digits or more: ``0.27``."""
    ratio = _float(ratio)
    if not math.isfinite(ratio):
        return MISSING if math.isnan(ratio) else format_number(ratio)
    return (
        f"{ratio:.2f}" if 0.1 <= abs(ratio) < 10 else f"{ratio:.2g}" if abs(ratio) < 0.1 else f"{ratio:.3g}"
    )


def format_r_hat(r_hat: float | None) -> str:
    """Return an R-hat with three decimals; its size beyond 100 carries no information."""
    r_hat = _float(r_hat)
    if math.isnan(r_hat):
        return MISSING
    return f"{r_hat:.3f}" if r_hat < 100 else "above 100"


def _float(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _positive(sd: float) -> bool:
    return math.isfinite(sd) and sd > 0


def _plain(magnitude: float) -> bool:
    return magnitude == 0 or FIXED_FROM <= magnitude < FIXED_BELOW


def _exponent(value: float) -> int:
    """Return the decimal exponent of a number other than zero, as its shortest notation has it."""
    return Decimal(repr(value)).adjusted()


def _decimals(sd: float) -> int:
    """Return the decimal places down to the second significant digit of the *rounded* sd."""
    return 1 - int(f"{sd:.1e}".partition("e")[2])


def _alone(value: float, digits: int) -> str:
    if not _plain(abs(value)):
        return f"{value:.{digits - 1}e}"
    decimals = max(digits - 1 - (_exponent(value) if value else 0), 0)
    text = f"{value:.{decimals}f}"
    return _unsigned_zero(text.rstrip("0").rstrip(".") if "." in text else text)


def _unsigned_zero(text: str) -> str:
    return text[1:] if text.startswith("-") and not text.strip("-0.") else text
