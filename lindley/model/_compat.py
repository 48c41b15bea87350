"""What Lindley uses of PyMC's choice of step methods that has no public address.

`STEP_METHODS`, ``_competence``
    `pymc.sample` gives each free variable to the step method that calls itself most competent; packages such
    as pymc-bart append theirs to the list. Neither the list nor the comparison is exported from `pymc`.
    `assign_step_methods` would also derive the model's gradient once for each variable.

`tests/lindley/model/test_refusals.py` fails by name when one of these changes.
"""

from __future__ import annotations

from typing import Any

from pymc.step_methods import NUTS, STEP_METHODS
from pytensor.graph.basic import Variable


def other_step_method(rv: Variable) -> str | None:
    """Return the step method that PyMC would give a differentiable free variable to; None for NUTS."""
    methods: list[Any] = list(STEP_METHODS)
    chosen = max(methods, key=lambda method: max(method._competence(rv, True)))
    return None if chosen is NUTS else str(chosen.__name__)
