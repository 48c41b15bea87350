"""The streams: what moves in each, and its rows. A stream follows from its name alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np
import pandas as pd

from lindley.seeds import derive_seed

FAMILIES = ("static", "drifting", "jumping", "heteroscedastic", "heavy-tailed", "sparse")
#: Number of predictors of the regressions.
PREDICTORS = {"regression6": 5, "regression20": 19}
TRIALS = 20
LEVELS = np.linspace(-2, 2, 9)


@dataclass(frozen=True, kw_only=True)
class Stream:
    """A stream of batches for one of the models in `models/`.

    Parameters
    ----------
    name, family, model
        Its name, one of `FAMILIES`, and the model's file.
    links, rows
        Number of batches, and rows of each.
    base
        Level at the start: the rate or probability, the noise's sd, or the intercept of logits and log rates.
    slope
        How far the level moves along the stream, in sds of one row's noise.
    jump, at
        How far the level jumps, in posterior sds, and at which share of the stream.
    factor
        By which the rate, the odds or the noise's sd is multiplied there.
    spread
        How the noise's sd differs between rows: its log has this slope in time.
    tail
        Degrees of freedom of the noise; of counts, the shape of a Gamma by which each row's mean is
        multiplied. Infinite for none.
    key
        What the seed follows from; the name by default.
    """

    name: str
    family: str
    model: str
    links: int
    rows: int
    base: float = 1.0
    slope: float = 0.0
    jump: float = 0.0
    at: float = 0.5
    factor: float = 1.0
    spread: float = 0.0
    tail: float = np.inf
    key: int | None = None

    @property
    def total(self) -> int:
        """Number of rows."""
        return self.links * self.rows

    def rng(self) -> np.random.Generator:
        """Return the source of the stream's rows."""
        return np.random.default_rng(self.key if self.key is not None else derive_seed("drift", self.name))


def batches(stream: Stream) -> list[pd.DataFrame]:
    """Return the batches of a stream, oldest first."""
    rng, count = stream.rng(), stream.total
    shift, noise = _movement(stream, rng)
    columns = _ROWS[stream.model](stream, rng, shift, noise)
    frame = pd.DataFrame({"row": np.arange(count)} | columns)
    return [frame.iloc[k : k + stream.rows].reset_index(drop=True) for k in range(0, count, stream.rows)]


def _movement(stream: Stream, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the level's shift in sds of one row's noise, and the noise's sd over the base, by row."""
    # Batches move as a whole, as data that arrive together do.
    batch = np.repeat(np.arange(stream.links), stream.rows)
    after = batch >= round(stream.at * stream.links)
    before = max(1, round(stream.at * stream.links)) * stream.rows
    shift = stream.slope * batch / max(stream.links - 1, 1) + after * stream.jump / np.sqrt(before)
    noise = np.exp(stream.spread * batch / max(stream.links - 1, 1)) * np.where(after, stream.factor, 1.0)
    return shift, noise


def _poisson(
    stream: Stream, rng: np.random.Generator, shift: np.ndarray, noise: np.ndarray
) -> dict[str, np.ndarray]:
    mean = stream.base * noise + shift * np.sqrt(stream.base)
    if np.isfinite(stream.tail):
        mean = mean * rng.gamma(stream.tail, 1 / stream.tail, stream.total)
    return {"n": rng.poisson(mean)}


def _binomial(
    stream: Stream, rng: np.random.Generator, shift: np.ndarray, noise: np.ndarray
) -> dict[str, np.ndarray]:
    odds = stream.base / (1 - stream.base) * noise
    mean = odds / (1 + odds) + shift * np.sqrt(stream.base * (1 - stream.base) / TRIALS)
    mean = np.clip(mean, 0.001, 0.999)
    if np.isfinite(stream.tail):
        mean = rng.beta(mean * stream.tail, (1 - mean) * stream.tail)
    trials = np.full(stream.total, TRIALS)
    return {"k": rng.binomial(trials, mean), "trials": trials}


def _scale(
    stream: Stream, rng: np.random.Generator, shift: np.ndarray, noise: np.ndarray
) -> dict[str, np.ndarray]:
    # The sd of one row's information about the log of a scale is 1 / sqrt(2).
    return {"y": stream.base * noise * np.exp(shift / np.sqrt(2)) * _noise(stream, rng)}


def _line(
    stream: Stream, rng: np.random.Generator, shift: np.ndarray, noise: np.ndarray
) -> dict[str, np.ndarray]:
    x = rng.normal(size=stream.total)
    return {"x": x, "y": 1 + 0.5 * x + stream.base * (shift + noise * _noise(stream, rng))}


def _regression(
    stream: Stream, rng: np.random.Generator, shift: np.ndarray, noise: np.ndarray
) -> dict[str, np.ndarray]:
    size = PREDICTORS[stream.model]
    # Equicorrelated at 0.5, with an intercept.
    x = np.sqrt(0.5) * (rng.normal(size=(stream.total, 1)) + rng.normal(size=(stream.total, size)))
    x[:, 0] = 1.0
    y = x @ rng.normal(size=size) + stream.base * (shift + noise * _noise(stream, rng))
    return {f"x{i}": x[:, i] for i in range(size)} | {"y": y}


def _heteroscedastic(
    stream: Stream, rng: np.random.Generator, shift: np.ndarray, noise: np.ndarray
) -> dict[str, np.ndarray]:
    x, w = rng.normal(size=stream.total), rng.choice(np.linspace(-1, 1, 5), size=stream.total)
    y = 1 + 0.5 * x + stream.base * (shift + noise * np.exp(0.5 * w) * _noise(stream, rng))
    return {"x": x, "w": w, "y": y}


def _student(
    stream: Stream, rng: np.random.Generator, shift: np.ndarray, noise: np.ndarray
) -> dict[str, np.ndarray]:
    return {"y": 1 + stream.base * (shift + noise * _noise(stream, rng))}


def _linked(
    stream: Stream, rng: np.random.Generator, shift: np.ndarray, noise: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    x = rng.choice(LEVELS, size=stream.total)
    slope = 0.5
    if np.isfinite(stream.tail):
        slope = slope * rng.standard_t(stream.tail, stream.total)
    return x, stream.base + slope * x + np.log(noise)


def _logistic(
    stream: Stream, rng: np.random.Generator, shift: np.ndarray, noise: np.ndarray
) -> dict[str, np.ndarray]:
    x, predictor = _linked(stream, rng, shift, noise)
    # One row's sd about the logit is 2 at even odds; half of that, so that two sds do not decide everything.
    return {"x": x, "y": rng.binomial(1, 1 / (1 + np.exp(-predictor - shift)))}


def _loglinear(
    stream: Stream, rng: np.random.Generator, shift: np.ndarray, noise: np.ndarray
) -> dict[str, np.ndarray]:
    x, predictor = _linked(stream, rng, shift, noise)
    level = predictor + shift / np.exp(stream.base / 2)
    return {"x": x, "n": rng.poisson(np.exp(np.minimum(level, 8.0)))}


def _noise(stream: Stream, rng: np.random.Generator) -> np.ndarray:
    """Return noise of unit scale by row."""
    if stream.model == "student" and not np.isfinite(stream.tail):
        return rng.standard_t(4, stream.total)
    if np.isfinite(stream.tail):
        return rng.standard_t(stream.tail, stream.total)
    return rng.normal(size=stream.total)


_ROWS = {
    "poisson": _poisson,
    "binomial": _binomial,
    "scale": _scale,
    "line": _line,
    "regression6": _regression,
    "regression20": _regression,
    "heteroscedastic": _heteroscedastic,
    "student": _student,
    "logistic": _logistic,
    "loglinear": _loglinear,
}


# --- which streams there are

#: Batches and rows of each: from some hundred rows to 10,000.
_SIZES = (
    (30, 10),
    (60, 10),
    (20, 100),
    (45, 30),
    (60, 100),
    (20, 30),
    (100, 20),
    (40, 200),
    (200, 10),
    (25, 300),
)
_SPARSE_SIZES = ((20, 5), (50, 20), (30, 6), (100, 5), (40, 10), (200, 20), (60, 5))
_BASE = {"poisson": 4.0, "binomial": 0.3, "logistic": -0.5, "loglinear": 0.5}
_LOCATIONS = ("line", "regression6", "student", "heteroscedastic", "regression20")
_RATES = ("poisson", "binomial", "loglinear", "logistic", "scale")
_MODELS = tuple(model for pair in zip(_RATES, _LOCATIONS, strict=True) for model in pair)


def every_stream() -> list[Stream]:
    """Return all streams: those on which chains went wrong in silence before, and 200 more."""
    made = {
        "static": _static(),
        "drifting": _drifting(),
        "jumping": _jumping(),
        "heteroscedastic": _heteroscedastic_streams(),
        "heavy-tailed": _heavy_tailed(),
        "sparse": _sparse(),
    }
    counts = {
        "static": 40,
        "drifting": 40,
        "jumping": 40,
        "heteroscedastic": 26,
        "heavy-tailed": 26,
        "sparse": 28,
    }
    return [*_known(), *(s for family, count in counts.items() for s in islice(made[family], count))]


def _known() -> Iterator[Stream]:
    """Yield the streams whose chains were wrong in silence when the benchmark was written."""
    jumps = (
        ("doubles", 2.0, 2.0, 20, 45, 2),
        ("tenfold", 2.0, 10.0, 20, 45, 1),
        ("triples", 2.0, 3.0, 20, 60, 3),
    )
    for what, low, factor, jump, links, key in jumps:
        yield Stream(
            name=f"known-poisson-{what}",
            family="jumping",
            model="poisson",
            links=links,
            rows=10,
            base=low,
            factor=factor,
            at=jump / links,
            key=key,
        )
    for slope, links in ((0.0, 45), (1.2, 30), (1.6, 45), (2.0, 45)):
        family = "drifting" if slope else "static"
        yield Stream(
            name=f"known-line-{slope:g}", family=family, model="line", links=links, rows=10, slope=slope
        )


def _named(family: str, model: str, size: tuple[int, int], number: int, **moves: float) -> Stream:
    links, rows = size
    name = f"{family}-{number:02d}-{model}-{links}x{rows}"
    settings = {"base": _BASE.get(model, 1.0)} | moves
    return Stream(name=name, family=family, model=model, links=links, rows=rows, **settings)


def _sized(
    models: tuple[str, ...], sizes: tuple[tuple[int, int], ...]
) -> Iterator[tuple[int, str, tuple[int, int]]]:
    """Yield number, model and size: the sizes move on by one at each round of the models."""
    for number, model in enumerate(cycle(models)):
        yield number, model, sizes[(number + number // len(models)) % len(sizes)]


def _static() -> Iterator[Stream]:
    for number, model, size in _sized(_MODELS, _SIZES):
        yield _named("static", model, size, number)


def _drifting() -> Iterator[Stream]:
    slopes = cycle((0.3, 2.0, 0.6, 1.2, 0.9, 1.6, 0.45))
    for number, model, size in _sized(_MODELS, _SIZES[1:] + _SIZES[:1]):
        yield _named("drifting", model, size, number, slope=next(slopes))


def _jumping() -> Iterator[Stream]:
    jumps, factors = cycle((2.0, 8.0, 4.0, 6.0, 3.0)), cycle((2.0, 6.0, 3.0, 4.0))
    places = cycle((0.25, 0.5, 0.75))
    for number, model, size in _sized(_MODELS, _SIZES[2:] + _SIZES[:2]):
        moved = {"factor": next(factors)} if model in _RATES else {"jump": next(jumps)}
        yield _named("jumping", model, size, number, at=next(places), **moved)


def _heteroscedastic_streams() -> Iterator[Stream]:
    models = ("heteroscedastic", "line", "heteroscedastic", "regression6", "scale", "student", "regression20")
    spreads = cycle((0.7, -0.7, 1.4, -1.4))
    for number, model, size in _sized(models, _SIZES):
        # The model's own noise is heteroscedastic; that of the others also changes in time.
        spread = next(spreads) if model != "heteroscedastic" or number % 4 else 0.0
        yield _named("heteroscedastic", model, size, number, spread=spread)


def _heavy_tailed() -> Iterator[Stream]:
    models = (
        "student",
        "line",
        "poisson",
        "regression6",
        "scale",
        "heteroscedastic",
        "binomial",
        "regression20",
    )
    tails = {"poisson": 1.0, "binomial": 4.0}
    for number, model, size in _sized(models, _SIZES[1:]):
        yield _named("heavy-tailed", model, size, number, tail=tails.get(model, 3.0 if number % 2 else 2.2))


def _sparse() -> Iterator[Stream]:
    models = ("poisson", "line", "logistic", "poisson", "binomial", "regression20", "loglinear", "student",
              "heteroscedastic", "poisson", "regression6", "scale")  # fmt: skip
    bases = {"poisson": 0.02, "binomial": 0.002, "logistic": -3.5, "loglinear": -3.0}
    for number, model, size in _sized(models, _SPARSE_SIZES):
        yield _named("sparse", model, size, number, base=bases.get(model, 1.0))
