"""Starting a chain from a trace, step by step: plan, fit, log, register, draw."""

from __future__ import annotations

from pathlib import Path

from flows.sequences.result import Result
from flows.sequences.steps import Steps, declared, finish, in_turn, make_link
from lindley.names import shown_name
from lindley.workspace import Workspace


@in_turn
def import_trace(steps: Steps, workspace: Workspace, chain: str, trace: Path) -> Result:
    """Start a chain from a trace: its first link has the kind ``import``.

    Raises
    ------
    LindleyError
        If the trace does not fit the chain's model, or the chain has links already.
    """
    declaration = declared(workspace, chain)
    from lindley.operations.import_trace import plan_import  # imports the numerical stack

    made = make_link(steps, workspace, declaration, plan_import, trace)
    return finish(steps, made, lambda made: f"{shown_name(trace)} is {made.place}", file=trace.name)
