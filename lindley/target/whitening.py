"""The map from whitened points to coordinates as a compiled function, for pools."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytensor.tensor as pt

from lindley.prior.triangular import TriangularMap, joint_normal
from lindley.target.density import graph_digest, map_inputs, unwhiten
from lindley.target.engine import Graph, compiled
from lindley.target.native_calls import Words
from lindley.target.native_pool import Part


@cache
def _whitening(size: int) -> Graph:
    """Derive the map of so many coordinates.

    Its free inputs are the whitened point z and `pull`, which weighs the coordinates, both [coordinate], then
    arrays in the order of `lindley.prior.triangular.ARRAYS`. Its functions are ``forward``, u(z), and
    ``back``, the gradient by z of u(z) . pull.
    """
    z, pull = pt.vector("z", shape=(size,)), pt.vector("pull", shape=(size,))
    arrays = map_inputs(size)
    u = unwhiten(z, arrays)
    back = pt.grad(pt.sum(u * pull), z)
    return Graph(
        free=(z, pull, *arrays.values()),
        example=(np.zeros(size), np.zeros(size), *joint_normal(np.zeros(size), np.eye(size)).arrays()),
        functions={"forward": [u], "back": [back]},
        digest=graph_digest([u, back]),
    )


def whitened(map_: TriangularMap) -> tuple[Part, Part]:
    """Return a map's functions ``forward`` and ``back`` as machine code."""
    graph = _whitening(map_.size)
    functions, _ = compiled(graph)
    data = Words.of(map_.arrays(), graph.free[2:])
    # The first vector is z, the third one `pull`: as for a batch, its coordinates and its state's cotangent.
    forward, back = (Part(functions[name].part({0: 0, 2: 1}), data) for name in ("forward", "back"))
    return forward, back
