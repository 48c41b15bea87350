"""Files of beliefs from several threads at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from lindley.arrays import read_matched_prior, read_trace, write_matched_prior, write_trace
from lindley.coordinates import Block, Coordinates
from lindley.prior import MatchedPrior
from lindley.transport import joint_normal

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
