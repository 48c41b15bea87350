"""The picture of one parameter along a chain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lindley.history import find_link, history
from lindley.ledger import Ledger
from lindley.report.figures import chain_figure, save

_LEVELS = {"q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95}


def draw_chain(
    ledger: Ledger,
    chain: str,
    parameter: str,
    path: Path,
    *,
    reference: float | None = None,
    reference_label: str = "reference",
) -> Path:
    """Draw a scalar parameter's intervals link by link into a PNG file; return its path.

    Parameters
    ----------
    parameter
        Name of a scalar variable of the posterior, free or derived.
    path
        The file, overwritten if it exists.
    reference, reference_label
        A value to compare with, and what it is.

    Raises
    ------
    UnknownChain
        If there is no such chain.
    """
    rows: list[dict[str, Any]] = []
    for view in history(ledger, chain):
        trace = find_link(ledger, f"{chain}@{view.number}").trace()
        if not rows and parameter in trace["prior"].data_vars:
            rows.append({"link": 0, "label": "prior", **_quantiles(trace["prior"][parameter])})
        rows.append(
            {"link": view.number, "label": str(view.number), **_quantiles(trace["posterior"][parameter])}
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure = chain_figure(rows, parameter, reference=reference, reference_label=reference_label)
    save(figure, path)
    return path


def _quantiles(draws: Any) -> dict[str, float]:
    return {name: float(draws.quantile(level)) for name, level in _LEVELS.items()}
