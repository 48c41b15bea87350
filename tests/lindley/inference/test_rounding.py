"""Draws that are shown are rounded far below what they are uncertain by, whatever their scale."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from lindley.inference.groups import DIGITS, rounded
from lindley.ledger.netcdf import read_trace, write_trace

ERROR = 2.0**-DIGITS
RNG = np.random.default_rng(5)
NORMAL = RNG.normal(size=(4, 1500))


@pytest.mark.parametrize(
    "values",
    [
        NORMAL,
        1e9 + NORMAL,  # dates in seconds, levels far from zero
        1e-200 * NORMAL,
        1e200 * NORMAL,
        np.exp(20 * NORMAL),  # over many orders of magnitude
        RNG.standard_cauchy((4, 1500)),
        np.stack([NORMAL, 1e6 * NORMAL], axis=-1),
    ],
    ids=["near zero", "far from zero", "tiny", "huge", "many scales", "heavy tails", "elements"],
)
def test_each_number_is_near_itself_and_on_the_scale_of_its_spread(values: np.ndarray) -> None:
    found = rounded(values)
    low, high = np.quantile(values, (0.25, 0.75), axis=(0, 1))
    assert (np.abs(found - values) <= ERROR * np.minimum(np.abs(values), high - low)).all()
    assert (np.sign(found) == np.sign(values)).all()
    assert (rounded(found) == found).all()


@pytest.mark.parametrize(
    "values",
    [
        np.full((4, 100), 0.0),
        np.full((4, 100), 0.1),
        np.full((4, 100), np.nan),
        np.array([[1.0, np.inf, -np.inf, np.nan]]),
        np.array([[5e-324, 1e308, -1e308, 2.0**-1022]]),
        np.empty((4, 0)),
        np.arange(8).reshape(2, 4),
        np.array([[True, False]]),
        1e17 + 16 * np.arange(8.0).reshape(2, 4),  # further digits than a double has
    ],
    ids=["zero", "constant", "missing", "infinite", "ends", "none", "integers", "booleans", "no room"],
)
def test_what_has_no_scale_stays_what_it_is(values: np.ndarray) -> None:
    found = rounded(values)
    assert found.dtype == values.dtype
    np.testing.assert_allclose(found, values, rtol=ERROR)


def test_the_file_takes_less_than_half_and_what_is_carried_is_exact(tmp_path) -> None:
    dims = ("chain", "draw")
    shown = {f"x{i}": (dims, rounded(RNG.normal(i, 1 + i, (4, 1500)))) for i in range(9)}
    carried = xr.Dataset({"u": ((*dims, "coordinate"), RNG.normal(size=(4, 1500, 2)))})
    tree = xr.DataTree.from_dict({"/posterior": xr.Dataset(shown), "/coordinates": carried})
    write_trace(tree, tmp_path / "trace.nc")
    again = read_trace(tmp_path / "trace.nc")
    assert again.equals(tree)
    exact = 8 * 6000 * 2
    assert (tmp_path / "trace.nc").stat().st_size < exact + 0.5 * 8 * 6000 * 9
