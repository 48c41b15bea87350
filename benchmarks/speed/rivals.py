"""The usual ways with PyMC 6. Imports nothing of Lindley, because a cold process would pay for it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
import xarray as xr
from threadpoolctl import threadpool_limits

from benchmarks.speed.measure import REBUILT, REFIT
from benchmarks.speed.posterior import Found, found_in
from benchmarks.speed.registry import Registry
from benchmarks.speed.targets import Target

with warnings.catch_warnings():
    # pymc-extras imports a constant from a deprecated place of better-optimize.
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    from pymc_extras.utils.prior import prior_from_idata

#: nutpie's compiled models of this process, by chain.
_COMPILED: dict[str, Any] = {}


@dataclass
class Pymc:
    """PyMC 6 with its defaults, a model built anew for each batch, and the article's logging.

    Parameters
    ----------
    registry
        Registry of the traces.
    target
        The model.
    pooled
        Fit all files so far with the model's own priors, in place of the newest file with the joint normal
        of the trace before.
    """

    registry: Registry
    target: Target
    pooled: bool = False
    chains: int = 4

    @property
    def method(self) -> str:
        return REFIT if self.pooled else REBUILT

    def ready(self, link: int, files: Sequence[Path]) -> bool:
        return True

    def update(self, link: int, files: Sequence[Path]) -> None:
        before = None if self.pooled else self.registry.head_trace()
        frame = pd.concat([pd.read_parquet(file) for file in (files if self.pooled else files[-1:])])
        # Matrices are small; Lindley's own fit has the same limit.
        with threadpool_limits(1, user_api="blas"), pm.Model():
            variables = self.target.priors() if before is None else self._priors_of(before)
            self.target.likelihood(variables, self.target.data(frame))
            trace = pm.sample(chains=self.chains, cores=self.chains, random_seed=link, progressbar=False)
        self.registry.log(
            trace,
            {"prior": "own" if before is None else "joint normal of the trace before", "rows": len(frame)},
            {"code version": "1", "data version": files[-1].stem, "prior from": str(link - 1)},
        )

    def _priors_of(self, trace: xr.DataTree) -> dict[str, Any]:
        """Return the joint normal of a trace by pymc-extras, in the model's own coordinates."""
        plain = [name for name in self.target.variables if self.target.transforms[name] is None]
        transformed = {name: way for name, way in self.target.transforms.items() if way is not None}
        made: dict[str, Any] = prior_from_idata(trace, var_names=plain, **transformed)
        return made

    def found(self) -> Found:
        trace = self.registry.head_trace()
        return found_in(known(trace), self.target.variables)

    def links(self, link: int) -> int:
        return 1 if self.pooled else link


def bound(target: Target, mean: np.ndarray, factor: np.ndarray, frame: pd.DataFrame) -> Any:
    """Bind a prior and a batch to nutpie's compiled function of a model; compiles once in a process."""
    import nutpie  # here to save start-up time: `Pymc` leaves the import to PyMC

    data = target.data(frame)
    if target.chain not in _COMPILED:
        _COMPILED[target.chain] = nutpie.compile_pymc_model(whitened_model(target, mean, factor, data))
    return _COMPILED[target.chain].with_data(prior_mean=mean, prior_factor=factor, **data)


def sampled(compiled: Any, seed: int) -> xr.DataTree:
    """Sample a compiled model with nutpie itself and Lindley's default settings."""
    import nutpie  # as above

    from lindley.inference.sampling import FitSettings  # as above

    settings = FitSettings()
    trace: xr.DataTree = nutpie.sample(
        compiled,
        chains=settings.chains,
        tune=settings.tune,
        draws=settings.draws,
        cores=settings.chains,
        target_accept=settings.target_accept,
        seed=seed,
        save_warmup=False,
        progress_bar=False,
    )
    return trace


def whitened_model(
    target: Target, mean: np.ndarray, factor: np.ndarray, data: dict[str, np.ndarray]
) -> pm.Model:
    """Return the model with a joint normal prior, in coordinates in which that is standard normal."""
    with pm.Model() as model:
        z = pm.Normal("z", shape=target.size)
        u = pm.Data("prior_mean", mean) + pm.Data("prior_factor", factor) @ z
        variables, begun = {}, 0
        for name, shape in target.shapes.items():
            size = int(np.prod(shape, dtype=int))
            value, begun = u[begun : begun + size].reshape(shape), begun + size
            way = target.transforms[name]
            variables[name] = pm.Deterministic(name, value if way is None else way.backward(value))
        target.likelihood(variables, {key: pm.Data(key, values) for key, values in data.items()})
    return model


def known(trace: xr.DataTree | None) -> xr.DataTree:
    """Return a trace after the first update."""
    if trace is None:
        raise RuntimeError("no update has run yet")
    return trace
