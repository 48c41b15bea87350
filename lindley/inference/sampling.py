"""Sample a bound target with nutpie: draws of x and of every quantity of the model, and their convergence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lindley.errors import FitFailed
from lindley.inference._compat import CompiledPyMCModel, nutpie
from lindley.inference.diagnostics.convergence import Convergence, convergence
from lindley.inference.diagnostics.gate import Thresholds, refusals
from lindley.model.policy import Policy
from lindley.target.engine import Bound
from lindley.target.native import expand
from lindley.target.native_calls import Density
from lindley.target.quantities import Quantities

Progress = Callable[[int, int], None]
Start = Callable[[np.random.Generator], np.ndarray]

#: Starting points tried per chain and way to draw them before the fit is given up.
_START_TRIES = 50
#: Statistics that are kept: nutpie's names and ArviZ's.
_STATS = {name: name for name in ("diverging", "energy", "n_steps", "step_size")} | {"depth": "tree_depth"}
#: Names of samplers in a record: NUTS, and independent draws (`lindley.inference.approximation`).
NUTS, APPROXIMATION = "nutpie.nuts", "lindley.approximation"
#: Settings that further attempts change.
CHANGED = ("tune", "draws", "target_accept")
#: Largest ratio of an attempt's draws to those of the attempt before: where that passed, and where not.
_LONGER_AT_MOST, _RETRY_AT_MOST = 8.0, 4.0
#: Ratio of the draws that the gate needs to those of an attempt up to which more of them do not help.
_AMPLE = 0.5


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """How a target is sampled.

    Parameters
    ----------
    chains, tune, draws
        Chains, warm-up steps per chain (discarded) and kept draws per chain.
    target_accept
        Mean acceptance probability that the step size is tuned for.
    attempts
        Largest number of attempts; see `retried` and `longer`.
    ess
        Effective sample size wanted, of the coordinate that has the smallest (bulk ESS). A smaller one is
        accepted when the attempts are used up; the limits of the gate are in `Thresholds`.
    """

    chains: int = 4
    tune: int = 500
    draws: int = 1500
    target_accept: float = 0.9
    attempts: int = 3
    ess: int = 400

    def __post_init__(self) -> None:
        """Refuse settings under which the diagnostics are undefined."""
        if self.chains < 2 or self.tune < 50 or self.draws < 100 or self.attempts < 1 or self.ess < 1:
            raise FitFailed(
                "The sampler settings were refused",
                expected="at least 2 chains (for R-hat), 50 warm-up steps, 100 draws, 1 attempt, an ESS of 1",
                found=f"{self.as_dict()}",
                todo="ask for more",
            )

    @classmethod
    def of(cls, policy: Policy) -> FitSettings:
        """Return the settings of a chain."""
        return cls(ess=policy.ess, attempts=1 + policy.retries)

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-able values."""
        return {"sampler": NUTS} | asdict(self)

    def as_first(self) -> dict[str, Any]:
        """Return the settings that further attempts change, named ``first_...``."""
        return {f"first_{name}": getattr(self, name) for name in CHANGED}

    def retried(self, number: int, *, diverged: bool, missing: float = 1.0) -> FitSettings:
        """Return the settings of an attempt after one that the gate refused.

        The second one has twice the warm-up, at least twice the draws unless there were plenty, and smaller
        steps. Where that did not
        help, the next ones have twice the warm-up and draws again, and still smaller steps where draws
        diverged.

        Parameters
        ----------
        number
            Of the attempt, from 2 on.
        diverged
            Whether more draws of the attempt before diverged than the gate allows.
        missing
            Ratio of the draws that the gate needs to those of the attempt before, as far as it is known.
        """
        smaller = 1 - (1 - self.target_accept) / 4
        factor = min(max(missing, 2.0), _RETRY_AT_MOST) if missing > _AMPLE else 1.0
        longer = replace(self, tune=2 * self.tune, draws=int(np.ceil(self.draws * factor)))
        return replace(longer, target_accept=smaller) if number == 2 or diverged else longer

    def at_most(self, draws: int) -> FitSettings:
        """Return the settings with at most so many draws per chain."""
        return replace(self, draws=min(self.draws, draws))

    def longer(self, ess: float) -> FitSettings:
        """Return the settings of the next attempt after one that reached this effective sample size."""
        # A tenth more than proportional: the ESS of the next fit is an estimate as well.
        factor = min(1.1 * self.ess / max(ess, 1.0), _LONGER_AT_MOST)
        return replace(self, draws=int(np.ceil(self.draws * factor)))


@dataclass(frozen=True)
class Draws:
    """Draws of the sampler, with the quantities of the model and the sampler's statistics.

    Parameters
    ----------
    x
        Array [chain, draw, x].
    quantities
        Arrays [chain, draw, ...].
    stats
        Arrays [chain, draw]: ``diverging`` (bool), ``energy``, ``n_steps``, ``step_size``, ``tree_depth``.
    """

    x: np.ndarray
    quantities: Quantities[np.ndarray]
    stats: dict[str, np.ndarray]


@dataclass(frozen=True)
class Sampling:
    """Draws of the sampler and how well it did.

    Parameters
    ----------
    draws
        The draws, with every quantity of the model.
    names
        Names of the x: carried coordinates, then local ones.
    points
        Array [chain, draw, x] of them.
    convergence
        R-hat and effective sample sizes, per coordinate.
    divergence_rate
        Fraction of draws that diverged.
    reasons
        Why the gate refuses the fit; empty where it passes.
    """

    draws: Draws
    names: list[str]
    points: np.ndarray
    convergence: Convergence
    divergence_rate: float
    reasons: tuple[str, ...]

    @property
    def figures(self) -> dict[str, float]:
        """What the gate goes by, by the name of the metric; only finite ones."""
        converged = self.convergence
        found = {
            "r_hat_max": float(converged.r_hat.max()),
            "ess_bulk_min": float(converged.ess_bulk.min()),
            "ess_tail_min": float(converged.ess_tail.min()),
            "divergence_rate": self.divergence_rate,
        }
        return {name: value for name, value in found.items() if np.isfinite(value)}


def sample(
    bound: Bound,
    *,
    start: Start,
    settings: FitSettings,
    seed: int,
    otherwise: Start | None = None,
    choices: int = 1,
    progress: Progress | None = None,
) -> Draws:
    """Sample the target and evaluate every quantity at every draw.

    Parameters
    ----------
    bound
        The target.
    start, otherwise
        Draw a starting point [x] from a generator; one with a density that is not finite is drawn again, at
        last by the second.
    choices
        Starting points that are drawn for each chain, of which it takes the one with the highest density: a
        draw of a wide prior may be where a sampler does not find its way.
    settings
        Chains, draws, warm-up.
    seed
        Seed of starting points and sampler; the same seed gives the same draws, bit by bit.
    progress
        Called from another thread with the number of steps done and of all steps, over all chains.

    Raises
    ------
    FitFailed
        If no starting point has a finite density, or the sampler stops.
    """
    total = settings.chains * (settings.tune + settings.draws)

    def report(chains: Any) -> None:
        if progress is not None:
            progress(min(total, sum(chain.finished_draws for chain in chains)), total)

    starting_point = partial(_start, bound, start, otherwise or start, choices)
    starting_point(seed)  # Raises here, with a clear message, rather than in a sampler thread.
    density = bound.density
    model = _interpreted(bound, starting_point) if density is None else _native(density, starting_point)
    try:
        trace = nutpie.sample(
            model,
            chains=settings.chains,
            tune=settings.tune,
            draws=settings.draws,
            target_accept=settings.target_accept,
            seed=seed % 2**63,
            cores=min(settings.chains, 4),
            save_warmup=False,
            progress_bar=False,
            progress_rate=250,
            progress_callback=None if progress is None else report,
            # As Arrow: nutpie's way to ArviZ takes longer than sampling a small model.
            return_raw_trace=True,
        )
    except BaseException as error:
        # A panic in the sampler's threads derives from BaseException.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise FitFailed(
            "The sampler stopped",
            expected="a finite log density and gradient along the way",
            found=str(error).strip().splitlines()[0],
            todo="check the model on this batch: likelihood of impossible observations, divisions by zero",
        ) from error
    if progress is not None:
        progress(total, total)
    x, stats = _collected(trace, bound.size)
    return Draws(x=x, quantities=bound.evaluate(x), stats=stats)


def picked(draws: Draws, choose: Callable[[np.ndarray], np.ndarray]) -> Draws:
    """Return what `choose` takes of every array [chain, draw, ...] of some draws."""
    quantities = draws.quantities.filled([choose(values) for values in draws.quantities.flat()])
    stats = {name: choose(values) for name, values in draws.stats.items()}
    return Draws(x=choose(draws.x), quantities=quantities, stats=stats)


def assess_sampling(names: list[str], points: np.ndarray, draws: Draws, thresholds: Thresholds) -> Sampling:
    """Compare convergence and divergences of draws with the thresholds.

    Parameters
    ----------
    names, points, draws
        See `Sampling`. The points are the coordinates themselves, since whitening changes only their shape
        and scale.
    thresholds
        Limits of the gate.
    """
    converged = convergence(points)
    rate = float(np.mean(draws.stats.get("diverging", 0.0)))
    reasons = refusals(names, converged, divergences=rate, thresholds=thresholds)
    return Sampling(draws, names, points, converged, rate, reasons)


def _native(density: Density, starting_point: Callable[[int], np.ndarray]) -> Any:
    """Return nutpie's model of a target that is machine code: it samples without Python."""
    size = density.size
    return CompiledPyMCModel(
        compiled_logp_func=density.code,
        compiled_expand_func=expand(),
        initial_point_func=starting_point,
        shared_data={},
        shared_var_keys={},
        user_data=density.words.array(1),
        n_expanded=size,
        shape_info=(["x"], [slice(0, size)], [(size,)]),
        logp_func=density,
        expand_func=None,
        _n_dim=size,
        _shapes={"x": (size,)},
        _coords={},
        dims={},
        reparameterized_names=[],
    )


def _interpreted(bound: Bound, starting_point: Callable[[int], np.ndarray]) -> Any:
    """Return nutpie's model of a target that Python calls."""

    def log_density(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = bound.log_density(np.array(x))
        return float(value), gradient

    return nutpie.compiled_pyfunc.from_pyfunc(
        bound.size,
        lambda: log_density,
        lambda _seed1, _seed2, _chain: lambda x: {"x": np.array(x)},
        [np.dtype("float64")],
        [(bound.size,)],
        ["x"],
        make_initial_point_fn=starting_point,
    )


def _start(bound: Bound, start: Start, otherwise: Start, choices: int, chain_seed: int) -> np.ndarray:
    """Return a starting point with a finite density and gradient.

    It follows from the chain's own seed: chains start in threads, in no fixed order.
    """
    value, rng = np.nan, np.random.default_rng(chain_seed)
    found: list[tuple[float, np.ndarray]] = []
    for tried in range(2 * _START_TRIES):
        point = start(rng) if tried < _START_TRIES else otherwise(rng)
        value, gradient = bound.log_density(np.array(point))
        if np.isfinite(value) and np.isfinite(gradient).all():
            found.append((float(value), point))
        if len(found) == choices or (found and tried >= _START_TRIES - 1):
            return max(found, key=lambda one: one[0])[1]
    raise FitFailed(
        "No starting point has a finite log density",
        expected=f"one among {2 * _START_TRIES} points drawn around the prior",
        found=f"log density {float(value)} at the last one",
        todo="check that the batch is possible under the model, e.g. counts within their bounds",
    )


def _collected(trace: Any, size: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return draws [chain, draw, x] and statistics [chain, draw] of a trace without its warm-up."""
    draws, stats = ([pa.record_batch(chain) for chain in part] for part in trace.get_arrow_trace())
    kept = [pc.invert(chain["tuning"]) for chain in stats]

    def stacked(part: list[pa.RecordBatch], name: str) -> np.ndarray:
        columns = [chain[name].filter(keep) for chain, keep in zip(part, kept, strict=True)]
        return np.stack([np.array(column.flatten() if name == "x" else column) for column in columns])

    x = stacked(draws, "x")
    return x.reshape(len(x), -1, size), {new: stacked(stats, old) for old, new in _STATS.items()}
