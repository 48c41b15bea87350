"""Files of beliefs from several threads at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from lindley.errors import LedgerCorrupt
from lindley.ledger import netcdf
from lindley.ledger.netcdf import read_matched_prior, read_trace, write_matched_prior, write_trace
from lindley.model.coordinates import Block, Coordinates
from lindley.prior.matched import MatchedPrior
from lindley.prior.triangular import joint_normal
from tests.lindley.prior.test_triangular import random_map

SCALAR = Coordinates((Block("a", (), (), "", (), ()), Block("b", (), (), "", (), ())))


def matched(seed: int) -> MatchedPrior:
    rng = np.random.default_rng(seed)
    return MatchedPrior(SCALAR, joint_normal(rng.normal(size=2), np.eye(2)), "", "draws", 0.0)


def tree(seed: int) -> xr.DataTree:
    rng = np.random.default_rng(seed)
    posterior = xr.Dataset({"a": (("chain", "draw"), rng.normal(size=(2, 40)))})
    stats = xr.Dataset({"diverging": (("chain", "draw"), rng.random((2, 40)) < 0.5)})
    return xr.DataTree.from_dict({"/posterior": posterior, "/sample_stats": stats})


@pytest.mark.parametrize("threads", [1, 6])
def test_threads_that_write_and_read_at_once_do_not_harm_each_other(tmp_path: Path, threads: int) -> None:
    def work(seed: int) -> bool:
        prior, trace = tmp_path / f"{seed}.nc", tmp_path / f"{seed}-trace.nc"
        write_matched_prior(matched(seed), prior)
        write_trace(tree(seed), trace)
        return read_matched_prior(prior).digest == matched(seed).digest and read_trace(trace).equals(
            tree(seed)
        )

    with ThreadPoolExecutor(threads) as pool:
        assert all(pool.map(work, range(60)))


@pytest.mark.parametrize("engine", ["netcdf4", "h5netcdf"])
@pytest.mark.parametrize("reason", ["", "plain", "krümmer als gedacht: κ"])
def test_a_matched_prior_is_read_as_either_library_wrote_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, reason: str
) -> None:
    """They store text in different ways, and older files were written by another one than new ones."""
    monkeypatch.setattr(netcdf, "_WRITER", engine)
    rng = np.random.default_rng(3)
    nonlinear = MatchedPrior(SCALAR, random_map(rng, 2), reason, "calibrated", 0.125)
    write_matched_prior(nonlinear, tmp_path / "prior.nc")
    found = read_matched_prior(tmp_path / "prior.nc")
    assert found.digest == nonlinear.digest
    assert (found.reason, found.moments, found.shrinkage) == (reason, "calibrated", 0.125)


def test_arrays_that_are_too_big_are_refused_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_matched_prior(matched(1), tmp_path / "prior.nc")
    monkeypatch.setattr(netcdf, "MOST_BYTES", 100)
    with pytest.raises(LedgerCorrupt, match="bytes in memory"):
        read_matched_prior(tmp_path / "prior.nc")
