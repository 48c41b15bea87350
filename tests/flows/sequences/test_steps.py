"""What holds for every sequence: its command and its flow have its name and its parameters."""

from __future__ import annotations

import inspect

import pytest

from flows import amend, rebase, update
from flows.sequences import amend as amendments
from flows.sequences import rebase as refits
from flows.sequences import update as updates

SEQUENCES = [
    (update.update, updates.update),
    (rebase.rebase, refits.rebase),
    (amend.retract, amendments.retract),
    (amend.correct, amendments.correct),
    (amend.rollback, amendments.rollback),
    (amend.branch, amendments.branch),
    (amend.approve, amendments.approve),
    (amend.reject, amendments.reject),
]


@pytest.mark.parametrize(("flow", "sequence"), SEQUENCES, ids=lambda made: getattr(made, "name", ""))
def test_a_flow_has_the_name_and_the_parameters_of_its_sequence(flow, sequence) -> None:
    """`flows.cli.sequence.run` finds the flow by the sequence's module and name."""
    assert (flow.name, flow.fn.__name__) == (sequence.__name__, sequence.__name__)
    assert flow.fn.__module__ == sequence.__module__.replace("flows.sequences.", "flows.")
    wanted = list(inspect.signature(flow.fn).parameters)
    assert list(inspect.signature(sequence).parameters)[2:][: len(wanted)] == wanted
