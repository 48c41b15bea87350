"""Compare the last posterior of a method with the reference, and assess the difference."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from benchmarks.fidelity.cases import Case, Reference
from benchmarks.fidelity.methods import METHODS, Outcome
from lindley.inference.trace import weighted_row
from lindley.prior.matching import weighted_moments

#: Columns of results.csv.
COLUMNS = (
    "case",
    "batches",
    "method",
    "parameter",
    "mean_error_sd",
    "sd_ratio",
    "q05_error_sd",
    "q95_error_sd",
    "flagged",
)
#: Parameter of the row that holds the largest difference of correlations, and of a method that failed.
CORRELATION, FAILED = "(correlation)", "(failed)"

Row = dict[str, Any]


@dataclass(frozen=True)
class Bars:
    """Largest errors of a result that counts as right.

    Parameters
    ----------
    mean
        Largest |mean difference| in reference sds.
    ratio
        Smallest and largest sd ratio.
    correlation
        Largest difference of correlations.
    """

    mean: float
    ratio: tuple[float, float]
    correlation: float


REGULAR = Bars(0.1, (0.95, 1.05), 0.05)
HARD = Bars(0.2, (0.9, 1.1), np.inf)


@dataclass(frozen=True)
class Summary:
    """Largest errors of a method in a case.

    Parameters
    ----------
    mean_error, correlation
        Largest |mean difference| in reference sds, and largest difference of correlations.
    ratios
        Smallest and largest sd ratio.
    flagged, failed
        Whether the method flagged its result, or has none.
    """

    mean_error: float
    ratios: tuple[float, float]
    correlation: float
    flagged: bool
    failed: bool = False

    def right(self, bars: Bars) -> bool:
        """Whether all errors are within the bars; a value that the reference lacks (NaN) is not compared."""
        if self.failed:
            return False
        low, high = self.ratios
        return not (
            self.mean_error > bars.mean
            or low < bars.ratio[0]
            or high > bars.ratio[1]
            or self.correlation > bars.correlation
        )


@dataclass(frozen=True)
class Counts:
    """Number of cases by assessment.

    Parameters
    ----------
    cases
        All.
    right
        Right and not flagged.
    defects
        Wrong and not flagged, or failed.
    nuisances
        Right and flagged.
    warned
        Wrong and flagged.
    missed
        Regular cases among `warned`: they count as missed although they were flagged.
    """

    cases: int
    right: int
    defects: int
    nuisances: int
    warned: int
    missed: int


def rows_of(case: Case, method: str, outcome: Outcome) -> list[Row]:
    """Return a case's rows of results.csv: one per parameter of the reference, then the correlations.

    Raises
    ------
    KeyError
        If the model has no parameter of the reference's name.
    """
    reference = case.reference
    missing = [name for name in reference.names if name not in outcome.draws]
    if missing:
        raise KeyError(f"the model of {case.name} has no {', '.join(missing)}")
    draws = np.column_stack([outcome.draws[name] for name in reference.names])
    common = {"case": case.name, "batches": len(case.batches), "method": method, "flagged": outcome.flagged}
    errors = _errors(draws, outcome.weights, reference)
    rows = [
        common | {"parameter": name} | {key: float(values[i]) for key, values in errors.items()}
        for i, name in enumerate(reference.names)
    ]
    nothing = dict.fromkeys(("sd_ratio", "q05_error_sd", "q95_error_sd"), np.nan)
    last = {"parameter": CORRELATION, "mean_error_sd": _correlation_error(draws, outcome.weights, reference)}
    return [{key: row[key] for key in COLUMNS} for row in [*rows, common | nothing | last]]


def failed_row(case: str, batches: int, method: str) -> Row:
    """Return the row of a method that has no result."""
    row: Row = dict.fromkeys(COLUMNS, np.nan)
    return row | {
        "case": case,
        "batches": batches,
        "method": method,
        "parameter": FAILED,
        "flagged": False,
    }


def summarise(rows: Iterable[Row]) -> Summary:
    """Return the largest errors in the rows of one method in one case."""
    rows = list(rows)
    if not rows or any(row["parameter"] == FAILED for row in rows):
        return Summary(np.nan, (np.nan, np.nan), np.nan, False, failed=True)
    own = [row for row in rows if row["parameter"] != CORRELATION]
    ratios = [row["sd_ratio"] for row in own]
    return Summary(
        mean_error=_worst(np.nanmax, [row["mean_error_sd"] for row in own]),
        ratios=(_worst(np.nanmin, ratios), _worst(np.nanmax, ratios)),
        correlation=_worst(
            np.nanmax, [row["mean_error_sd"] for row in rows if row["parameter"] == CORRELATION]
        ),
        flagged=any(row["flagged"] for row in rows),
    )


def assess(summary: Summary, regular: bool) -> str:
    """Return ``right``, ``nuisance`` (but flagged), ``warned`` (wrong, flagged), ``defect`` or ``failed``."""
    if summary.failed:
        return "failed"
    if summary.right(REGULAR if regular else HARD):
        return "nuisance" if summary.flagged else "right"
    return "warned" if summary.flagged else "defect"


def count(rows: Sequence[Row], regular: dict[str, bool]) -> Counts:
    """Count the assessments of Lindley's results.

    Parameters
    ----------
    rows
        Rows of results.csv.
    regular
        Whether a case is regular, by name; holds every requested case.
    """
    found = {
        case: assess(summarise(_select(rows, case, "lindley")), is_regular)
        for case, is_regular in regular.items()
    }
    assessments = list(found.values())
    return Counts(
        cases=len(found),
        right=assessments.count("right"),
        defects=assessments.count("defect") + assessments.count("failed"),
        nuisances=assessments.count("nuisance"),
        warned=assessments.count("warned"),
        missed=sum(regular[case] for case, word in found.items() if word == "warned"),
    )


def table(rows: Sequence[Row], regular: dict[str, bool], seconds: dict[tuple[str, str], float]) -> Table:
    """Return the table to print: one line per case and method."""
    shown = Table(title="Last posterior against the reference (mean errors in reference sds)")
    shown.add_column("case", overflow="fold")
    for name in ("batches", "kind", "method", "mean error", "sd ratio", "correlation", "flagged", "seconds"):
        shown.add_column(name, justify="left" if name in ("kind", "method", "flagged") else "right")
    shown.add_column("assessment")
    for case, is_regular in regular.items():
        for method in METHODS:
            own = _select(rows, case, method)
            if not own:
                continue
            summary = summarise(own)
            first = method == METHODS[0]
            shown.add_row(
                case if first else "",
                str(own[0]["batches"]) if first else "",
                ("regular" if is_regular else "hard") if first else "",
                method,
                *(["failed", "", ""] if summary.failed else _errors_shown(summary)),
                "flagged" if summary.flagged else "",
                f"{seconds[case, method]:.0f}" if (case, method) in seconds else "",
                assess(summary, is_regular) if first else "",
                end_section=method == METHODS[-1],
            )
    return shown


def _errors_shown(summary: Summary) -> list[str]:
    low, high = summary.ratios
    return [f"{summary.mean_error:.3f}", f"{low:.3f} to {high:.3f}", f"{summary.correlation:.3f}"]


def _select(rows: Sequence[Row], case: str, method: str) -> list[Row]:
    return [row for row in rows if row["case"] == case and row["method"] == method]


def _worst(how: Any, values: list[float]) -> float:
    """Return the largest or smallest value; NaN where there is none."""
    return float(how(values)) if not np.isnan(values).all() else np.nan


def _errors(draws: np.ndarray, weights: np.ndarray | None, reference: Reference) -> dict[str, np.ndarray]:
    """Return differences of moments and quantiles, arrays [parameter]."""
    finite = np.isfinite(draws).all(axis=0)
    rows = [weighted_row(column, weights) for column in np.where(finite, draws, 0.0).T]
    own = {name: np.array([row[name] for row in rows]) for name in ("mean", "sd", "q05", "q95")}
    errors = {
        "mean_error_sd": np.abs(own["mean"] - reference.mean) / reference.sd,
        "sd_ratio": own["sd"] / reference.sd,
        "q05_error_sd": np.abs(own["q05"] - reference.q05) / reference.sd,
        "q95_error_sd": np.abs(own["q95"] - reference.q95) / reference.sd,
    }
    # Draws that are not finite are wrong; NaN stands for a value that the reference lacks.
    return {name: np.where(finite, values, np.inf) for name, values in errors.items()}


def _correlation_error(draws: np.ndarray, weights: np.ndarray | None, reference: Reference) -> float:
    """Return the largest difference of correlations; 0 for a single parameter."""
    if draws.shape[1] < 2:
        return 0.0
    if not np.isfinite(draws).all() or not (draws.std(axis=0) > 0).all():
        return np.inf
    off = ~np.eye(draws.shape[1], dtype=bool)
    equal = np.full(len(draws), 1 / len(draws))
    covariance = weighted_moments(draws, equal if weights is None else weights)[1]
    sd = np.sqrt(np.diag(covariance))
    difference = np.abs(covariance / np.outer(sd, sd) - reference.correlation)[off]
    return _worst(np.nanmax, difference.tolist())
