"""Many or long simulated streams with a known posterior: coverage of intervals, and accumulated errors.

The many streams sample exactly (in closed form, or by inverse CDF on a grid), because NUTS would take days;
calibration, matching, trust, replay and hindsight are Lindley's own functions. The long chain is sampled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm
from scipy import stats
from threadpoolctl import threadpool_limits

from benchmarks.fidelity.methods import Settings, run_chain
from lindley.inference.diagnostics.gate import Thresholds
from lindley.inference.diagnostics.hindsight import Shift, View, chosen, kept_in_sight, shift, to_undo, view
from lindley.inference.diagnostics.importance import importance
from lindley.inference.diagnostics.match_quality import match_distances, match_doubts
from lindley.inference.memory_chain import MemoryChain
from lindley.inference.sampling import FitSettings
from lindley.model.coordinates import Block, Coordinates
from lindley.model.declaration import Declaration
from lindley.model.policy import Policy
from lindley.prior.belief import Belief
from lindley.prior.matched import MatchedPrior, match
from lindley.prior.stein import calibrate
from lindley.prior.triangular import TriangularMap, joint_normal
from lindley.seeds import derive_seed

COLUMNS = ("simulation", "method", "update", "metric", "value", "standard_error", "low", "high", "met")
#: 90% intervals reach that many sds.
REACH = float(stats.norm.ppf(0.95))
#: Draws of each exact sample.
DRAWS = 1000

Row = dict[str, Any]


def row(
    simulation: str,
    method: str,
    update: int,
    metric: str,
    value: float,
    error: float = np.nan,
    bar: tuple[float, float] | None = None,
) -> Row:
    """Return a row of simulations.csv; `met` is empty if the value has no bar."""
    low, high = bar or (np.nan, np.nan)
    values = (simulation, method, update, metric, value, error, float(low), float(high))
    return dict(zip(COLUMNS, (*values, "" if bar is None else bool(low <= value <= high)), strict=True))


# 90% intervals of a correlated regression.

BETA = np.array([1.0, -0.5, 0.25])
EQUICORRELATION, BATCHES, ROWS = 0.95, 10, 200
#: Sd of the coefficients' first prior.
WIDE = 10.0


@threadpool_limits.wrap(limits=1, user_api="blas")
def regression_coverage(streams: int) -> list[Row]:
    """Return coverage after each batch of `streams` simulated streams, Lindley's beside marginal matching.

    Lindley's must be 0.90 within 2.6 standard errors at every batch; that of marginal matching falls to
    0.42 (data/reference/article/marginal_way_coverage.json, 2,000 streams in closed form).
    """
    rng = np.random.default_rng(derive_seed("correlated regression", str(streams)))
    kinds = {"lindley": _match_calibrated, "marginal": _match_margins}
    inside = {kind: np.empty((streams, BATCHES)) for kind in kinds}
    warped = 0
    for stream in range(streams):
        beliefs = {kind: joint_normal(np.zeros(3), WIDE * np.eye(3)) for kind in kinds}
        for batch in range(BATCHES):
            gram, moment = _regression_batch(rng)
            for kind, matching in kinds.items():
                mean, covariance = _conjugate(beliefs[kind], gram, moment)
                close = np.abs(mean - BETA) <= REACH * np.sqrt(np.diag(covariance))
                inside[kind][stream, batch] = close.mean()
                beliefs[kind] = matching(mean, covariance, rng)
            if not beliefs["lindley"].normal:
                # The conjugate update needs a normal; the share of other matches is reported.
                warped += 1
                matched = MatchedPrior(_coordinates(3), beliefs["lindley"])
                beliefs["lindley"] = matched.as_joint_normal().map
    rows = []
    for kind, hits in inside.items():
        errors = hits.std(axis=0, ddof=1) / np.sqrt(streams)
        for batch, (value, error) in enumerate(zip(hits.mean(axis=0), errors, strict=True)):
            bar = None
            if kind == "lindley":
                bar = (0.90 - 2.6 * error, 0.90 + 2.6 * error)
            elif batch == BATCHES - 1:
                bar = (0.415 - 2.6 * error, 0.425 + 2.6 * error)
            rows.append(
                row("correlated regression", kind, batch + 1, "coverage", float(value), float(error), bar)
            )
    share = warped / (streams * BATCHES)
    return [*rows, row("correlated regression", "lindley", BATCHES, "matches not normal", share)]


def _regression_batch(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return X'X and X'y of a batch y = X beta + Normal(0, 1)."""
    shared = rng.standard_normal((ROWS, 1))
    own = rng.standard_normal((ROWS, 3))
    x = np.sqrt(EQUICORRELATION) * shared + np.sqrt(1 - EQUICORRELATION) * own
    y = x @ BETA + rng.standard_normal(ROWS)
    return x.T @ x, x.T @ y


def _conjugate(belief: TriangularMap, gram: np.ndarray, moment: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and covariance of the coefficients after a batch, from a joint normal belief."""
    factor = belief.linear + np.diag(np.exp(belief.log_width))
    precision = np.linalg.inv(factor @ factor.T)
    covariance = np.linalg.inv(precision + gram)
    return covariance @ (precision @ belief.loc + moment), covariance


def _match_calibrated(mean: np.ndarray, covariance: np.ndarray, rng: np.random.Generator) -> TriangularMap:
    """Match draws of a normal posterior, with its exact scores, as Lindley does."""
    factor = np.linalg.cholesky(covariance)
    draws = mean + rng.standard_normal((DRAWS, len(mean))) @ factor.T
    scores = -np.linalg.solve(covariance, (draws - mean).T).T
    return _matched(draws, scores)[0].map


def _match_margins(mean: np.ndarray, covariance: np.ndarray, rng: np.random.Generator) -> TriangularMap:
    """Match draws of a normal posterior by independent normals."""
    draws = mean + rng.standard_normal((DRAWS, len(mean))) @ np.linalg.cholesky(covariance).T
    return joint_normal(draws.mean(axis=0), np.diag(draws.std(axis=0, ddof=1)))


def _matched(draws: np.ndarray, scores: np.ndarray) -> tuple[MatchedPrior, np.ndarray]:
    """Calibrate and match independent draws as `lindley.inference.step.fit` does; returns the weights too."""
    half = len(draws) // 2
    calibration = calibrate(draws, scores, len(draws))
    halves = tuple(
        calibrate(draws[part], scores[part], half) for part in (slice(None, half), slice(half, None))
    )
    matched = match(draws, _coordinates(draws.shape[1]), calibration=calibration, halves=halves)
    return matched, calibration.weights


def _coordinates(size: int) -> Coordinates:
    return Coordinates((Block("x", (size,), (size,), "identity"),))


# A long chain of real fits.

PREDICTORS = ("x1", "x2", "x3", "x4")
LONG_ROWS = 50


def build_long(batch: pd.DataFrame) -> pm.Model:
    """Return y ~ Normal(x b, sigma) with b ~ Normal(0, 10) and sigma ~ HalfNormal(5)."""
    with pm.Model(coords={"predictor": PREDICTORS}) as model:
        x = pm.Data("x", batch[list(PREDICTORS)].to_numpy())
        y = pm.Data("observed", batch["y"].to_numpy())
        b = pm.Normal("b", 0, 10, dims="predictor")
        sigma = pm.HalfNormal("sigma", 5)
        pm.Normal("y", x @ b, sigma, observed=y)
    return model


LONG = Declaration(
    name="long_chain",
    build=build_long,
    schema=pa.schema([("row", pa.int64()), *((name, pa.float64()) for name in ("y", *PREDICTORS))]),
    row_key=("row",),
    observed=("y",),
)


def long_chain(updates: int) -> list[Row]:
    """Return sd ratio and mean error of a chain of real fits at about 1,000 ESS each.

    The last belief's sd ratio to the posterior of all rows (by quadrature) must be within 0.95 and 1.05. The
    1,000 draws of the last fit have a Monte Carlo error of 2%; their ratio is reported without a bar.
    """
    rng = np.random.default_rng(derive_seed("long chain", str(updates)))
    count = updates * LONG_ROWS
    # Correlated predictors, so that the joint shape matters.
    x = np.sqrt(0.7) * rng.standard_normal((count, 1)) + np.sqrt(0.3) * rng.standard_normal((count, 4))
    y = x @ np.array([1.0, -0.5, 0.25, 0.0]) + rng.normal(0, 1.5, count)
    rows = pd.DataFrame(x, columns=list(PREDICTORS)).assign(y=y, row=np.arange(count))
    frames = [rows.iloc[start : start + LONG_ROWS] for start in range(0, count, LONG_ROWS)]
    settings = Settings(fit=FitSettings(chains=4, tune=300, draws=250))
    found = run_chain("long chain", LONG, frames, settings)
    mean, sd = long_reference(x, y)
    head = found.chain.head
    carried = head.matched.map.sample(rng, 200_000)
    carried[:, -1] = np.exp(carried[:, -1])  # sigma, from its log
    values = found.last.draws.quantities.values
    drawn = np.column_stack([values["b"].reshape(-1, 4), values["sigma"].ravel()])
    rows = []
    for kind, draws in (("lindley", carried), ("lindley, draws", drawn)):
        ratios = draws.std(axis=0) / sd
        error = np.abs(draws.mean(axis=0) - mean) / sd
        held = kind == "lindley"
        for name, value in (("smallest sd ratio", ratios.min()), ("largest sd ratio", ratios.max())):
            rows.append(
                row("long chain", kind, updates, name, float(value), bar=(0.95, 1.05) if held else None)
            )
        rows.append(row("long chain", kind, updates, "largest mean error in sds", float(error.max())))
    ess = float(np.median([metrics["ess_bulk_min"] for metrics in found.metrics]))
    replayed = float(np.mean(found.chain.replayed))
    return [
        *rows,
        row("long chain", "lindley", updates, "median ESS of a fit", ess),
        row("long chain", "lindley", updates, "batches fitted again, per update", replayed),
        row("long chain", "lindley", updates, "drift", head.drift),
        row("long chain", "lindley", updates, "budget", head.budget),
        row("long chain", "lindley", updates, "fits refused", float(len(found.refused))),
    ]


def long_reference(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and sd of b and sigma given all rows: normal given sigma, which is integrated on a grid."""
    count, size = x.shape
    gram, moment, square = x.T @ x, x.T @ y, y @ y
    residual = np.sqrt(np.mean((y - x @ np.linalg.solve(gram, moment)) ** 2))
    grid = residual + np.linspace(-8, 9, 801) * residual / np.sqrt(2 * count)
    log_weight, means, variances = [], [], []
    for sigma in grid:
        precision = gram / sigma**2 + np.eye(size) / WIDE**2
        covariance = np.linalg.inv(precision)
        mean = covariance @ moment / sigma**2
        fit = square / sigma**2 - mean @ precision @ mean + np.linalg.slogdet(precision)[1]
        log_weight.append(-count * np.log(sigma) - 0.5 * fit - 0.5 * (sigma / 5) ** 2)
        means.append([*mean, sigma])
        variances.append([*np.diag(covariance), 0.0])
    weight = np.exp(np.array(log_weight) - max(log_weight))
    weight /= weight.sum()
    mean = weight @ np.array(means)
    variance = weight @ (np.array(variances) + (np.array(means) - mean) ** 2)
    return mean, np.sqrt(variance)


# A rare event: the rate of a Poisson process, in its logarithm.

RATE, RATE_ROWS, UPDATES = 0.02, 20, 50
#: Gamma(shape, rate) prior of the rate: mean 0.1, five times the truth.
PRIOR = (1.0, 10.0)
SHOWN = (1, 5, 10, 20, 50)
GRID = np.linspace(-20.0, 2.0, 4401)
#: A match for every batch, so that what is measured is replay and hindsight.
WINDOW = replace(Policy().window, rows=1)

LogDensity = Callable[[np.ndarray], np.ndarray]


class Batch(NamedTuple):
    """Rows and events of a batch."""

    rows: int
    events: int


@dataclass(frozen=True)
class Posterior:
    """A posterior of the log rate: its prior (None for genesis), and rows and events since."""

    start: TriangularMap | None
    rows: int
    events: int

    def log_density(self, u: np.ndarray) -> np.ndarray:
        """Return the log density, up to a constant, of points [point, 1]."""
        x = u[..., 0]
        before = self.start.log_density(u) if self.start else PRIOR[0] * x - PRIOR[1] * np.exp(x)
        return before + self.events * x - self.rows * np.exp(x)

    def score(self, u: np.ndarray) -> np.ndarray:
        """Return its slope at points [point, 1]."""
        if self.start is None:
            before = PRIOR[0] - PRIOR[1] * np.exp(u)
        else:
            z = self.start.inverse(u)[0]
            before = self.start.gradient_in_u(z, -z)
        return before + self.events - self.rows * np.exp(u)

    def quantiles(self, at: np.ndarray) -> np.ndarray:
        """Return quantiles at probabilities [point], by the grid."""
        log_density = self.log_density(GRID[:, None])
        density = np.exp(log_density - log_density.max())
        cumulated = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
        return np.interp(at, cumulated / cumulated[-1], GRID)


@threadpool_limits.wrap(limits=1, user_api="blas")
def rate_coverage(streams: int) -> list[Row]:
    """Return coverage of 90% intervals of a rate of 0.02 over 50 updates of 20 rows; it must be 0.88.

    Compared on the same streams: the exact posterior, and normals matched to the log rate without replay and
    hindsight (in one dimension independent marginals and prior_from_idata are the same).
    """
    kinds = ("lindley", "marginal", "exact")
    inside = {kind: np.zeros((streams, UPDATES)) for kind in kinds}
    ratios = {kind: np.zeros(streams) for kind in kinds}
    again = np.zeros((streams, UPDATES))
    flagged = np.zeros(streams)
    truth = np.log(RATE)
    for stream in range(streams):
        rng = np.random.default_rng(derive_seed("rate", str(streams), str(stream)))
        events = rng.poisson(RATE * RATE_ROWS, UPDATES)
        chain, normal = MemoryChain(), None
        for update in range(UPDATES):
            batch = Batch(RATE_ROWS, int(events[update]))
            chain, posterior = _advance(chain, batch, rng)
            again[stream, update] = chain.replayed[-1]
            own = Posterior(normal, *batch)
            draws = own.quantiles(rng.random(DRAWS))
            normal = joint_normal(np.array([draws.mean()]), np.array([[draws.std(ddof=1)]]))
            exact = Posterior(None, RATE_ROWS * (update + 1), int(events[: update + 1].sum()))
            ends = {}
            for kind, found in (("lindley", posterior), ("marginal", own), ("exact", exact)):
                low, high = ends[kind] = found.quantiles(np.array([0.05, 0.95]))
                inside[kind][stream, update] = low <= truth <= high
        flagged[stream] = chain.head.doubt > 0 or chain.head.drift > Thresholds().drift_warn
        for kind in kinds:
            ratios[kind][stream] = np.ptp(ends[kind]) / np.ptp(ends["exact"])
    rows = []
    for kind in kinds:
        for update in SHOWN:
            hits = inside[kind][:, update - 1]
            error = hits.std(ddof=1) / np.sqrt(streams)
            bar = (0.88, 1.0) if kind == "lindley" else None
            rows.append(row("rate of 0.02", kind, update, "coverage", float(hits.mean()), float(error), bar))
        for name, value in (("smallest", ratios[kind].min()), ("largest", ratios[kind].max())):
            rows.append(
                row("rate of 0.02", kind, UPDATES, f"{name} width ratio of an interval", float(value))
            )
    for name, value in (("batches fitted again, per update", again), ("share of chains flagged", flagged)):
        rows.append(row("rate of 0.02", "lindley", UPDATES, name, float(value.mean())))
    return rows


def _advance(chain: MemoryChain, batch: Batch, rng: np.random.Generator) -> tuple[MemoryChain, Posterior]:
    """Update as `lindley.inference.memory_chain.advance` does, with an exact sampler."""
    thresholds = Thresholds()
    start, again = chain.starting_point(batch.rows, WINDOW)
    prior, remaining = start.prior, start.behind
    fitted: list[Any] = [*again, batch]
    while True:
        posterior = _posterior(prior, fitted)
        draws = posterior.quantiles(rng.random(DRAWS))[:, None]
        undo, seen = 0, None
        if prior is not None:
            undo, seen = _look_back(prior, remaining[: prior.sight + 1], draws, fitted)
        if not undo:
            break
        for segment in remaining[:undo]:
            prior, fitted = segment.start(), [*segment.batches(), *fitted]
        remaining = remaining[undo:]
    matched, weights = _matched(draws, posterior.score(draws))
    sampled = importance(matched.map, posterior.log_density, rng=rng)
    distances, moment = match_distances(draws, weights, matched.map, rng)
    doubt = prior.doubt + (not prior.trusted) if prior else 0
    trusted = not match_doubts(sampled, distances, moment, thresholds)
    belief = Belief(matched=matched, budget=0.0, trusted=trusted, doubt=doubt)
    if seen is not None:
        belief = replace(belief, drift=seen.drift, sight=seen.sight, unseen=seen.unseen)
    replayed = (*chain.replayed, len(fitted) - 1)
    grown: tuple[Any, ...] = (*chain.batches, batch)
    return MemoryChain((*chain.beliefs, belief), grown, replayed), posterior


def _look_back(
    prior: Belief, behind: Sequence[Any], draws: np.ndarray, fitted: Sequence[Any]
) -> tuple[int, View | None]:
    """Decide as `lindley.inference.diagnostics.look_back` does which batches are fitted again."""
    beliefs = [prior, *(segment.start() for segment in behind)]
    points = draws[chosen(len(draws))]
    # Assessed on the log rate and the rate: updates assess natural-scale values too.
    values = np.column_stack([points, np.exp(points)])
    exact = np.array([_posterior(made.start(), made.batches()).log_density(points) for made in behind])
    ratios = exact - np.array([upper.matched.map.log_density(points) for upper in beliefs[: len(behind)]])

    def holds(again: int) -> bool:
        batches = sum(segment.count for segment in behind[:again]) + len(fitted) - 1
        return WINDOW.stretches_to(RATE_ROWS * (batches + 1), batches, apart=False)

    def moved(first: int) -> Shift:
        return shift(points, values, ratios[first:].sum(axis=0))

    undo = to_undo(moved, len(behind), holds, Thresholds().shift_trust)
    kept = kept_in_sight([segment.rows for segment in behind], 10 * RATE_ROWS)
    return undo, None if undo else view(points, values, ratios, prior.matched.coordinates.names, prior, kept)


def _posterior(prior: Belief | None, batches: Sequence[Any]) -> Posterior:
    start = None if prior is None else prior.matched.map
    return Posterior(start, sum(b.rows for b in batches), sum(b.events for b in batches))
