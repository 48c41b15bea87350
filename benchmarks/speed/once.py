"""One update of a rival in a process of its own: ``python -m benchmarks.speed.once WHAT FOLDER ...``."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr


def main() -> None:
    """Make one link."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("rebuilt", "pooled", "sampling"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("chain")
    parser.add_argument("link", type=int)
    parser.add_argument("files", type=Path, nargs="+")
    options = parser.parse_args()
    # Imported here to save start-up time where only a trace is read; a measured process pays for it anyway.
    from benchmarks.speed import rivals
    from benchmarks.speed.targets import TARGETS

    target = TARGETS[options.chain]
    if options.what != "sampling":
        from benchmarks.speed.registry import Registry

        registry = Registry(options.folder, options.chain)
        rivals.Pymc(registry, target, pooled=options.what == "pooled").update(options.link, options.files)
        return
    prior = np.load(options.folder / "prior.npz")
    bound = rivals.bound(target, prior["mean"], prior["factor"], pd.read_parquet(options.files[-1]))
    rivals.sampled(bound, options.link).to_netcdf(options.folder / "trace.nc", engine="h5netcdf")


def read_trace(folder: Path) -> xr.DataTree:
    """Return the trace that a process left."""
    with xr.open_datatree(folder / "trace.nc", engine="h5netcdf") as tree:
        return tree.load()


if __name__ == "__main__":
    main()
