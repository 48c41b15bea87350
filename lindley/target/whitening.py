"""The map from whitened points to coordinates as a compiled function, for targets that are put together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from lindley.prior.triangular import TriangularMap, joint_normal
from lindley.target.density import graph_digest, map_inputs, unwhiten
from lindley.target.engine import Function, compiled
from lindley.target.native_calls import Words
from lindley.target.native_pool import Part, Whitened


@dataclass(frozen=True)
class Whitening:
    """Symbolic map of a number of coordinates.

    Parameters
    ----------
    z, pull
        Inputs [coordinate]: the whitened point, and what weighs the coordinates.
    arrays
        Inputs in the order of `lindley.prior.triangular.ARRAYS`.
    digest
        Of its structure.
    functions
        ``forward`` gives u(z), ``back`` the gradient by z of u(z) . pull.
    """

    z: Variable
    pull: Variable
    arrays: tuple[Variable, ...]
    digest: str
    functions: dict[str, list[Variable]]

    @property
    def inputs(self) -> tuple[Variable, ...]:
        """All inputs of the compiled functions."""
        return (self.z, self.pull, *self.arrays)

    @property
    def outputs(self) -> list[Variable]:
        """All outputs: what identifies the graph."""
        return [output for outputs in self.functions.values() for output in outputs]

    def try_out(self, _name: str, function: Function) -> None:
        """Run a function once, which compiles what is left to compile."""
        size = self.z.type.shape[0]
        arrays = joint_normal(np.zeros(size), np.eye(size)).arrays()
        function(np.zeros(size), np.zeros(size), *arrays)


@cache
def _whitening(size: int) -> Whitening:
    """Derive the map of so many coordinates."""
    z, pull = pt.vector("z", shape=(size,)), pt.vector("pull", shape=(size,))
    arrays = map_inputs(size)
    u = unwhiten(z, arrays)
    back = pt.grad(pt.sum(u * pull), z)
    return Whitening(
        z=z,
        pull=pull,
        arrays=tuple(arrays.values()),
        digest=graph_digest([u, back]),
        functions={"forward": [u], "back": [back]},
    )


def whitened(map_: TriangularMap, constant: float, weight: float) -> Whitened:
    """Return a map as machine code; see `lindley.target.native_pool.Whitened`."""
    graph = _whitening(map_.size)
    functions, _ = compiled(graph)
    # The first vector is z, the third one what pulls: as with a batch's coordinates and state.
    codes = {name: function.part({0: 0, 2: 1}) for name, function in functions.items()}
    data = Words(map_.arrays(), graph.arrays)
    return Whitened(
        forward=Part(codes["forward"], data),
        back=Part(codes["back"], data),
        constant=constant,
        weight=weight,
    )
