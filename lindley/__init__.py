"""Lindley: sequential Bayesian updating with an auditable chain of posteriors."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lindley.api import load, runs, verify
    from lindley.arrivals.sources.delta import Delta
    from lindley.arrivals.sources.snapshot import Snapshot
    from lindley.arrivals.sources.sql import Sql
    from lindley.errors import LindleyError
    from lindley.ledger.history import Link
    from lindley.model.declaration import BY_CONTENT, BY_POSITION, Declaration
    from lindley.model.policy import REST, Forgetting, PanelPolicy, Policy

__version__ = "0.2.0.dev0"
__all__ = [
    "BY_CONTENT",
    "BY_POSITION",
    "REST",
    "Declaration",
    "Delta",
    "Forgetting",
    "LindleyError",
    "Link",
    "PanelPolicy",
    "Policy",
    "Snapshot",
    "Sql",
    "__version__",
    "load",
    "runs",
    "verify",
]

_HOMES = {
    "BY_CONTENT": "lindley.model.declaration",
    "BY_POSITION": "lindley.model.declaration",
    "Declaration": "lindley.model.declaration",
    "Delta": "lindley.arrivals.sources.delta",
    "Forgetting": "lindley.model.policy",
    "LindleyError": "lindley.errors",
    "Link": "lindley.ledger.history",
    "PanelPolicy": "lindley.model.policy",
    "Policy": "lindley.model.policy",
    "REST": "lindley.model.policy",
    "Snapshot": "lindley.arrivals.sources.snapshot",
    "Sql": "lindley.arrivals.sources.sql",
    "load": "lindley.api",
    "runs": "lindley.api",
    "verify": "lindley.api",
}


def __getattr__(name: str) -> Any:
    """Import on first use: `lindley --help` must not wait for PyMC and MLflow."""
    if name not in _HOMES:
        raise AttributeError(f"module 'lindley' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
