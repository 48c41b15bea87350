"""Compare the hierarchical COVID-19 chain with a pooled fit that shares only the model with it.

``python -m benchmarks.fidelity.hierarchical``: eleven months through the chain, with a country that joins and
one that stops, then all months at once by PyMC and nutpie. It also compares the first prior of the country
that joins with the hierarchy's predictive distribution in a pooled fit of the months before.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import nutpie
import pandas as pd
from scipy import stats

from benchmarks.fidelity.methods import labelled
from lindley.batch.batch import Batch, batch_from_frame
from lindley.inference.info import Fit
from lindley.inference.inputs import Data, Options
from lindley.inference.memory_chain import MemoryChain, advance
from lindley.inference.rehearsal import prior_draws
from lindley.model.declaration import Declaration, load_declaration
from lindley.seeds import derive_seed
from tests.models.covid_pooled import pooled

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "data/reference/covid/time_series_covid19_confirmed_global.csv.gz"
NEW, JOINS = "South Africa", 5
#: Means within 0.2 pooled sds and sds within a tenth: the bars of hard cases.
BARS = (0.2, 0.9, 1.1)


def main() -> int:
    """Run the comparison and return the exit code: 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, default=SOURCE, help="Johns Hopkins' global file")
    parser.add_argument("--replay", type=int, help="batches that may be fitted again, for the model's policy")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("hierarchical.csv"))
    options = parser.parse_args()
    if not options.source.is_file():
        print(f"There is no {options.source.name}; name it with --source")
        return 2
    begun = time.perf_counter()
    declaration = load_declaration("covid_hierarchical", ROOT / "models")
    if options.replay is not None:
        declaration = replace(declaration, policy=replace(declaration.policy, replay=options.replay))
    frames = [frame for _, frame in declaration.split(str(options.source))]  # type: ignore[misc]
    last, joining = _chain(declaration, frames)
    print(f"chain: {time.perf_counter() - begun:.0f} s")
    table = _compare(labelled(last), last.sampled.calibration.weights, _pooled(frames))
    # Warnings about the sampler and about the month's data do not concern the matches.
    other = ("diverged", "conflicts with its prior")
    warnings = [text for text in last.assessment.gate.warnings if not any(word in text for word in other)]
    print("the last link warns: " + ("; ".join(warnings) or "nothing"))
    table["flagged"] = bool(warnings)
    table.to_csv(options.out)
    print(table.to_string(float_format=lambda v: f"{v:.3f}"))
    distance = _new_country(joining, _pooled(frames[: JOINS - 1]))
    print(f"{NEW}'s first prior of log R0 against the hierarchy's predictive distribution: {distance}")
    print(f"total {time.perf_counter() - begun:.0f} s")
    mean, low, high = BARS
    right = (table["error"].abs() <= mean).all() and table["sd_ratio"].between(low, high).all()
    return int(not (right or table["flagged"].any()))


def _chain(declaration: Declaration, frames: list[pd.DataFrame]) -> tuple[Fit, dict[str, np.ndarray]]:
    """Run the chain; returns its last fit, and the first prior of the country that joins."""
    chain, joining = MemoryChain(), {}
    for month, frame in enumerate(frames, start=1):
        batch: Batch = batch_from_frame(frame, declaration, f"month {month}")
        before = chain.head
        seed = derive_seed("covid_hierarchical", str(month))
        data = Data(declaration=declaration, batches=(batch,), carried=declaration.carried or ())
        chain, last = advance(chain, data, Options(seed=seed))
        metrics = last.assessment.metrics
        print(
            f"month {month:2d}: {last.problem.pooled or 'one':5s} R-hat {metrics['r_hat_max']:.3f} "
            f"ESS {metrics['ess_bulk_min']:.0f} log predictive {metrics.get('log_predictive', np.nan):.1f} "
            f"{chain.head.matched.family} {'trusted' if chain.head.trusted else 'not trusted'} "
            f"{'; '.join(last.assessment.gate.reasons)}",
            flush=True,
        )
        if month == JOINS and before is not None:
            found = prior_draws(last.problem, before.matched, seed=seed)
            countries = list(last.problem.graph.model.coords["country"])
            joining = {name: v[:, countries.index(NEW)] if v.ndim > 1 else v for name, v in found.items()}
    return last, joining


def _pooled(frames: list[pd.DataFrame]) -> dict[str, np.ndarray]:
    """Fit all months at once with PyMC and nutpie; returns draws by label."""
    compiled = nutpie.compile_pymc_model(pooled(frames))
    trace = nutpie.sample(
        compiled, chains=4, tune=1000, draws=1500, target_accept=0.9, seed=1, progress_bar=False
    )
    found = {}
    for name, array in trace.posterior.data_vars.items():
        flat = array.values.reshape(array.shape[0] * array.shape[1], -1)
        labels = [str(v) for v in array[array.dims[2]].values] if array.ndim == 3 else [""]
        if array.ndim <= 3 and len(labels) == flat.shape[1]:
            found |= {
                f"{name}[{label}]" if label else str(name): flat[:, i] for i, label in enumerate(labels)
            }
    return found


def _compare(
    sequential: dict[str, np.ndarray], weights: np.ndarray, reference: dict[str, np.ndarray]
) -> pd.DataFrame:
    """Compare means and sds of the common parameters."""
    rows = {}
    for name in sorted(set(sequential) & set(reference)):
        mean = weights @ sequential[name]
        sd = np.sqrt(weights @ (sequential[name] - mean) ** 2)
        own = reference[name]
        rows[name] = {
            "sequential_mean": mean,
            "pooled_mean": own.mean(),
            "error": (mean - own.mean()) / own.std(),
            "sd_ratio": sd / own.std(),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("parameter")


def _new_country(prior: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> str:
    """Compare the first prior of the country that joins with the hierarchy's predictive distribution."""
    rng = np.random.default_rng(2)

    def log_r0(source: dict[str, np.ndarray], one: np.ndarray, two: np.ndarray) -> np.ndarray:
        log_lambda = source["log_lambda_mean"] + source["log_lambda_sd"] * one
        return log_lambda - source["log_mu_mean"] - source["log_mu_sd"] * two

    count = len(reference["log_mu_mean"])
    wanted = log_r0(reference, rng.standard_normal(count), rng.standard_normal(count))
    found = log_r0(prior, prior["lambda_offset"], prior["mu_offset"])
    distance = stats.wasserstein_distance(found, wanted) / wanted.std()
    return (
        f"mean {found.mean():.3f} for {wanted.mean():.3f}, sd {found.std():.3f} for {wanted.std():.3f}, "
        f"Wasserstein distance {distance:.3f} sds"
    )


if __name__ == "__main__":
    sys.exit(main())
