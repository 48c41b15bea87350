"""The methods that the benchmark compares.

All of them sample with the same engine in the same coordinates; they differ only in the prior that they
derive from the posterior of the batch before. ``pooled`` fits all rows at once; its Monte Carlo error is the
floor of every comparison.
"""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import xarray as xr
from pytensor.graph.basic import Constant
from pytensor.graph.traversal import ancestors

from benchmarks.fidelity.cases import Case
from lindley.batch.batch import Batch, batch_from_frame
from lindley.inference import groups
from lindley.inference.diagnostics.gate import Thresholds
from lindley.inference.info import Fit
from lindley.inference.inputs import Data, Options, Start
from lindley.inference.memory_chain import MemoryChain, advance, refit
from lindley.inference.sampling import FitSettings
from lindley.inference.step import fit
from lindley.model.declaration import Declaration
from lindley.model.graph import carried_variables
from lindley.model.natural_scale import element_labels
from lindley.prior.belief import Belief
from lindley.prior.matched import MatchedPrior
from lindley.prior.triangular import TriangularMap, joint_normal
from lindley.seeds import derive_seed

with warnings.catch_warnings():
    # pymc-extras imports a constant from a deprecated place of better-optimize.
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    from pymc_extras.utils.prior import prior_from_idata

METHODS = ("lindley", "marginal", "prior_from_idata", "pooled")


@dataclass(frozen=True)
class Settings:
    """Sampling settings of the benchmark.

    Parameters
    ----------
    fit
        Settings of every fit.
    again
        Settings of a second fit, which Lindley and the pooled fit make if the gate refuses the first. An
        update would quarantine the batch and keep its head.
    thresholds
        Thresholds of the gate.
    """

    fit: FitSettings = field(default_factory=FitSettings)
    again: FitSettings = field(
        default_factory=lambda: FitSettings(tune=2000, draws=3000, target_accept=0.99, attempts=1)
    )
    thresholds: Thresholds = field(default_factory=Thresholds)


@dataclass(frozen=True)
class Outcome:
    """Result of a method in a case.

    Parameters
    ----------
    draws
        Array [draw] by label, e.g. ``beta[1]``: the last posterior on its natural scale.
    flags
        Warnings of the method about its own result.
    seconds
        Wall-clock seconds.
    weights
        Calibrated weights [draw] of the draws, for every method alike (see `lindley.prior.stein`); None for
        equal ones.
    notes
        By which sampler fits were made, where the policy is ``auto``.
    """

    draws: dict[str, np.ndarray]
    flags: tuple[str, ...]
    seconds: float
    weights: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    @property
    def flagged(self) -> bool:
        """Whether the method warns about its own result."""
        return bool(self.flags)


@dataclass(frozen=True)
class Run:
    """A chain after all batches.

    Parameters
    ----------
    chain
        The chain.
    last
        The newest fit.
    refused
        Places of the batches whose fit the gate refused twice, with the reasons; the chain goes on with them.
    metrics
        Metrics of each fit.
    refits
        Number of pooled refits that the policy triggered.
    samplers
        Of each fit why independent draws were not accepted; empty where they were, or where none were tried.
    """

    chain: MemoryChain
    last: Fit
    refused: dict[int, str]
    metrics: tuple[dict[str, float], ...]
    refits: int = 0
    samplers: tuple[str, ...] = ()


def run(case: Case, method: str, settings: Settings | None = None) -> Outcome:
    """Run a case by one of `METHODS`."""
    begun = time.perf_counter()
    settings, notes = settings or Settings(), ()
    if method == "lindley":
        found = run_chain(case.name, case.declaration, case.batches, settings)
        last, flags = found.last, flags_of(found, settings.thresholds)
        notes = _samplers(found) if case.declaration.policy.sampler == "auto" else ()
    elif method == "pooled":
        last, flags = _pooled(case, settings)
    else:
        last, flags = _rival(case, {"marginal": marginals, "prior_from_idata": idata_prior}[method], settings)
    return Outcome(
        labelled(last), flags, time.perf_counter() - begun, last.sampled.calibration.weights, notes
    )


def _samplers(found: Run) -> tuple[str, ...]:
    """Return how many fits were made by independent draws, and why others were not."""
    declined = Counter(why for why in found.samplers if why)
    taken = len(found.samplers) - declined.total()
    whys = (f"{count} by NUTS: {why}" for why, count in declined.items())
    return (f"{taken} of {len(found.samplers)} fits by independent draws", *whys)


def run_chain(name: str, declaration: Declaration, frames: Sequence[pd.DataFrame], settings: Settings) -> Run:
    """Run Lindley's chain over frames as updates would; seeds follow from the name and the place."""
    chain, last = MemoryChain(), None
    refused: dict[int, str] = {}
    metrics, samplers = [], list[str]()
    carried: tuple[str, ...] = ()
    refits = 0
    for place, frame in enumerate(frames):
        batch = _batch(frame, declaration, place)
        carried = carried or carried_variables(declaration, batch.frame())
        data = Data(declaration=declaration, batches=(batch,), carried=carried)
        for attempt, chosen in enumerate((settings.fit, settings.again)):
            options = Options(
                seed=_seed(name, place, attempt), settings=chosen, thresholds=settings.thresholds
            )
            grown, last = advance(chain, data, options)
            if last.assessment.gate.passed:
                break
        if not last.assessment.gate.passed:
            refused[place] = "; ".join(last.assessment.gate.reasons)
        chain = grown
        metrics.append(last.assessment.metrics)
        samplers.append(last.provenance.sampler.get("declined", ""))
        limit = declaration.policy.rebase_at_drift
        if limit is not None and grown.head.drift >= limit:
            options = replace(options, seed=_seed(name, place, 2), settings=settings.fit)
            grown, found = refit(grown, data, options)
            if found.assessment.gate.passed:  # otherwise an update would quarantine it
                chain, last, refits = grown, found, refits + 1
    if last is None:
        raise ValueError(f"{name} has no batch")
    return Run(chain, last, refused, tuple(metrics), refits, tuple(samplers))


def flags_of(found: Run, thresholds: Thresholds) -> tuple[str, ...]:
    """Return Lindley's warnings about the belief that it reports.

    The quality of the newest match concerns the next link, and beliefs that were replaced by a later fit of
    the same batches concern none: neither counts.
    """
    head = found.chain.head
    flags = []
    if head.doubt > 0:
        flags.append(f"doubt {head.doubt}")
    if head.drift > thresholds.drift_warn:
        flags.append(f"drift {head.drift:.2f}")
    if head.budget > thresholds.budget_warn:
        flags.append(f"budget {head.budget:.2f}")
    error = found.last.assessment.metrics.get("sd_error", 0.0)
    if error > thresholds.sd_warn:
        flags.append(f"an sd known to {error:.0%}")
    place = len(found.chain.beliefs) - 1
    for segment in found.chain.behind(place):
        if place in found.refused:
            flags.append(f"fit {place + 1} refused: {found.refused[place]}")
        place -= segment.count
    return tuple(flags)


def labelled(found: Fit) -> dict[str, np.ndarray]:
    """Return a fit's draws by label: free variables and deterministics on their natural scale."""
    graph = found.problem.graph
    drawn = found.draws.quantities
    tree = groups.assemble(graph, found.problem.coordinates, drawn.named, drawn.carried)
    posterior = tree["posterior"].dataset
    columns = {}
    for array in posterior.data_vars.values():
        flat = array.values.reshape(array.shape[0] * array.shape[1], -1)
        columns |= dict(zip(element_labels(array), flat.T, strict=True))
    return columns


def _pooled(case: Case, settings: Settings) -> tuple[Fit, tuple[str, ...]]:
    """Fit all rows in one table."""
    rows = pd.concat(case.batches, ignore_index=True)
    batch = batch_from_frame(rows, case.declaration, "all rows")
    carried = carried_variables(case.declaration, batch.frame())
    data = Data(declaration=case.declaration, batches=(batch,), carried=carried)
    for attempt, chosen in enumerate((settings.fit, settings.again)):
        options = Options(seed=derive_seed(case.name, "pooled", str(attempt)), settings=chosen)
        found = fit(Start(), data, options)
        if found.assessment.gate.passed:
            return found, ()
    return found, found.assessment.gate.reasons


def _rival(
    case: Case, matching: Callable[[Fit], TriangularMap], settings: Settings
) -> tuple[Fit, tuple[str, ...]]:
    """Update batch by batch with another matching, without replay and hindsight; a refused fit goes on.

    Refusals are kept as flags, because users of these methods would see the sampler's warnings too.
    """
    policy = replace(case.declaration.policy, replay=0, family="normal")
    declaration = replace(case.declaration, policy=policy)
    belief: Belief | None = None
    carried: tuple[str, ...] = ()
    flags = []
    for place, frame in enumerate(case.batches):
        batch = _batch(frame, declaration, place)
        carried = carried or carried_variables(declaration, batch.frame())
        data = Data(declaration=declaration, batches=(batch,), carried=carried)
        options = Options(seed=_seed(case.name, place, 0), settings=settings.fit)
        found = fit(Start(prior=belief), data, options)
        if not found.assessment.gate.passed:
            flags.append(f"fit {place + 1} refused: {'; '.join(found.assessment.gate.reasons)}")
        if place + 1 < len(case.batches):
            belief = Belief(MatchedPrior(found.problem.coordinates, matching(found)), budget=0.0)
    return found, tuple(flags)


def marginals(found: Fit) -> TriangularMap:
    """Return independent normals with the mean and sd of each coordinate's draws, as the article does."""
    draws = found.draws.quantities.carried.reshape(-1, found.problem.coordinates.size)
    return joint_normal(draws.mean(axis=0), np.diag(draws.std(axis=0, ddof=1)))


def idata_prior(found: Fit) -> TriangularMap:
    """Return the joint normal that `pymc_extras.utils.prior.prior_from_idata` makes of a fit's draws.

    The function is called as its users do, inside a model, with the transforms named by hand; its mean and
    Cholesky factor are read from the graph that it builds, so that the same engine can use them.
    """
    graph = found.problem.graph
    groups, wanted = {}, {}
    for variable in graph.carried:
        values = found.draws.quantities.values[variable.name]
        dims = ("chain", "draw", *(f"{variable.name}_dim_{i}" for i in range(values.ndim - 2)))
        groups[variable.name] = (dims, values)
        wanted[variable.name] = {"transform": _by_hand(graph.model, variable.rv)}
    idata = xr.DataTree.from_dict({"/posterior": xr.Dataset(groups)})
    with pytensor.config.change_flags(mode="FAST_COMPILE"), pm.Model() as throw_away:
        prior_from_idata(idata, name="lindley_base", **wanted)
    mean, factor = _read_back(throw_away)
    # The transforms are right if the means are those of the draws in the model's coordinates.
    own = found.draws.quantities.carried.reshape(-1, len(mean))
    np.testing.assert_allclose(mean, own.mean(axis=0), atol=1e-6 * own.std(axis=0).max(), rtol=1e-6)
    return joint_normal(mean, factor)


def _by_hand(model: pm.Model, rv: Any) -> Any:
    """Return a variable's transform in a form that needs no inputs: interval bounds become numbers."""
    transform = model.rvs_to_transforms[rv]
    if transform is None or not hasattr(transform, "args_fn"):
        return transform
    bounds = transform.args_fn(*rv.owner.inputs)
    lower, upper = (None if bound is None else bound.eval(mode="FAST_COMPILE") for bound in bounds)
    return pm.distributions.transforms.Interval(bounds_fn=lambda *_: (lower, upper))


def _read_back(model: pm.Model) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and Cholesky factor, constants of the sum ``mean + factor @ base`` in a model's graph."""
    for node in ancestors(model.deterministics):
        if node.owner is None or node.owner.inputs == [] or str(node.owner.op) != "Add":
            continue
        mean, product = node.owner.inputs
        # The product passes through a squeeze.
        while product.owner is not None and type(product.owner.op).__name__ == "DimShuffle":
            product = product.owner.inputs[0]
        inner = product.owner.inputs[0] if product.owner is not None else None
        if isinstance(mean, Constant) and isinstance(inner, Constant) and inner.ndim == 2:
            return np.array(mean.data, dtype=float), np.array(inner.data, dtype=float)
    raise RuntimeError("prior_from_idata no longer writes mean + factor @ base")


def _batch(frame: pd.DataFrame, declaration: Declaration, place: int) -> Batch:
    return batch_from_frame(frame, declaration, f"batch {place + 1}")


def _seed(name: str, place: int, attempt: int) -> int:
    return derive_seed(name, str(place), *(["again"] * attempt))
