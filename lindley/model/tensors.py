"""Variables of `pymc.dims`, whose axes have names, as the plain tensors that targets are made of.

PyMC's dims API builds models from labelled tensors (PyTensor's ``xtensor``). Their values are ordinary
tensors with the dims in a fixed order; names are resolved while the graph is built and cost nothing later.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytensor
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

_lock = threading.RLock()


@contextmanager
def interpreted() -> Iterator[None]:
    """Let PyTensor compile nothing in C within a block, for functions that are called a few times.

    The steps of a scan it compiles in C whatever the mode: a minute for a Kalman filter.
    """
    with _lock, pytensor.config.change_flags(cxx=""):
        yield


def named_dims(variable: Variable) -> tuple[str, ...] | None:
    """Return the dims of a labelled tensor, in the order of its axes; None for a plain tensor."""
    return getattr(variable.type, "dims", None)


def plain(variable: Any) -> Variable:
    """Return a variable as a plain tensor."""
    return variable if named_dims(variable) is None else variable.values


def alike(tensor: Variable, variable: Variable) -> Variable:
    """Return a plain tensor in the place of a variable: with its dims, where it has some."""
    dims = named_dims(variable)
    if dims is None:
        return tensor
    from pytensor.xtensor import as_xtensor  # to save start-up time: few models have named dims

    return as_xtensor(tensor, dims=dims)


def placeholder(variable: Variable, name: str | None = None) -> tuple[Variable, Variable]:
    """Return a plain input, and what stands for a variable in a graph of this input."""
    kind = variable.type
    if named_dims(variable) is None:
        made = kind(name=name)
        return made, made
    made = pt.tensor(name, dtype=kind.dtype, shape=kind.shape)
    return made, alike(made, variable)
