"""The map from whitened points to coordinates, compiled for pools; and densities of whitened points.

A target that is compiled as a density of coordinates serves whitened points too: an affine map goes around it
as code that is the same for all models, so that nothing is compiled for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytensor.tensor as pt

from lindley.prior.triangular import TriangularMap, joint_normal
from lindley.target.density import graph_digest, map_inputs, unwhiten
from lindley.target.engine import Bound, Graph, compiled
from lindley.target.native import DENSITY
from lindley.target.native_calls import Density, Words
from lindley.target.native_drivers import driver, mapped
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


def of_whitened(bound: Bound, map_: TriangularMap) -> Bound:
    """Return a target of coordinates as one of points that a map whitens.

    Parameters
    ----------
    bound
        The target; its first x are the map's coordinates.
    map_
        A joint normal's.
    """
    count, factor, slope = map_.size, map_.jacobian(np.zeros(map_.size)), float(map_.log_width.sum())

    def coordinates(points: np.ndarray) -> np.ndarray:
        return np.concatenate([map_.forward(points[..., :count]), points[..., count:]], axis=-1)

    def log_density(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = bound.log_density(coordinates(x))
        gradient = np.array(gradient)
        return float(value) + slope, np.concatenate([factor.T @ gradient[:count], gradient[count:]])

    def table(of: Bound) -> Callable[[np.ndarray], tuple[np.ndarray, ...]]:
        return lambda points: of.table(coordinates(points))

    native = mapped_around(bound.density, map_, slope) if bound.density is not None else None
    found = replace(bound, log_density=native or log_density, table=table(bound), density=native)
    if bound.essential is None:
        return found
    essential = replace(found, names=bound.essential.names, table=table(bound.essential), essential=None)
    return replace(found, essential=essential)


def mapped_around(inner: Density, map_: TriangularMap, constant: float, *, weight: float = 0.0) -> Density:
    """Return a density of coordinates, as machine code, as one of points z that a joint normal whitens.

    Parameters
    ----------
    inner, map_
        The density, whose first x are the map's coordinates, and the joint normal's map.
    constant, weight
        What is added: the constant, and this many times -z'z / 2.
    """
    origin = np.zeros(map_.size)
    numbers = map_.jacobian(origin), map_.forward(origin), np.array([constant, weight])
    arrays = [np.ascontiguousarray(array, dtype=float) for array in numbers]
    one = inner.words.array(1)
    words = [inner.code.address, one.ctypes.data, *(array.ctypes.data for array in arrays), map_.size]
    return Density(driver(mapped, DENSITY), Words(words, (inner, one, arrays)), inner.size)
