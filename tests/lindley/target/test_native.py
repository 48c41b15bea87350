"""Machine code of a graph: what Python computes, bit by bit, for any prior, batch and number of points."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.raise_op import Assert

from lindley.errors import FitFailed
from lindley.inference.sampling import FitSettings, sample
from lindley.target import native
from lindley.target.engine import Function, bind, by_point, numba_function
from lindley.target.quantities import Quantities

x = pt.vector("x", shape=(3,))
loc, table = pt.vector("loc", shape=(3,)), pt.matrix("table")
count, flag, weight = pt.lvector("count"), pt.vector("flag", dtype="bool"), pt.scalar("weight")
INPUTS = [x, loc, table, count, flag, weight]
TWICE = Quantities(u=x, carried=1.0 * x, values={"twice": 2 * x}, deterministics={}, log_likelihood=pt.sum(x))


def compiled(inputs: list[Any], outputs: list[Any]) -> Function:
    return Function(inputs, outputs, numba_function(inputs, outputs))


@pytest.fixture(scope="module")
def density() -> Function:
    value = -0.5 * weight * pt.sum((x - loc) ** 2) + pt.sum(pt.cos(table @ x)) + pt.sum(count[flag] * x[0])
    return compiled(INPUTS, [value, pt.grad(value, x)])


@pytest.fixture(scope="module")
def quantities() -> Function:
    outputs = [
        x * weight,
        pt.sum(x),
        table * x[None, :],
        count + 1,
        x > loc,
        pt.floor(x[0]).astype("int32"),
        pt.outer(x, x)[None],
    ]
    return compiled(INPUTS, outputs)


def arguments(seed: int, rows: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [
        rng.normal(size=3),
        rng.normal(size=(rows, 3)),
        rng.integers(0, 9, size=rows),
        rng.random(rows) < 0.5,
        np.array(rng.uniform(0.5, 2)),
    ]


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_a_density_is_what_python_computes_for_data_of_any_length(density: Function, rows: int) -> None:
    given = arguments(rows, rows)
    points = np.random.default_rng(1).normal(size=(300, 3))
    values, gradients = density.density(given).at(points)
    wanted = [density(point, *given) for point in points]
    np.testing.assert_array_equal(values, [value for value, _ in wanted])
    np.testing.assert_array_equal(gradients, [gradient for _, gradient in wanted])
    value, gradient = density.density(given)(points[5])
    assert value == values[5]
    np.testing.assert_array_equal(gradient, gradients[5])


@pytest.mark.parametrize("rows", [0, 1, 7])
@pytest.mark.parametrize("points", [1, 2, 127, 128, 401])
def test_a_table_equals_the_values_of_python_for_all_types_and_threads(
    quantities: Function, rows: int, points: int
) -> None:
    given = arguments(rows, rows)
    at = np.random.default_rng(2).normal(size=(points, 3))
    found = quantities.table(given).at(at)
    rowwise = [quantities(point, *given) for point in at]
    for i, column in enumerate(found):
        wanted = np.array([np.array(row[i]) for row in rowwise])
        assert column.dtype == wanted.dtype
        assert column.shape == wanted.shape
        np.testing.assert_array_equal(column, wanted)


def test_arrays_of_other_types_and_orders_are_converted(density: Function) -> None:
    given = arguments(4, 5)
    other = [given[0], np.asfortranarray(given[1]), given[2].astype("int32"), given[3], np.float64(given[4])]
    point = np.array([[0.1, 0.2, 0.3]])
    for one, two in zip(density.density(given).at(point), density.density(other).at(point), strict=True):
        np.testing.assert_array_equal(one, two)


def test_two_priors_of_one_function_do_not_mix(density: Function) -> None:
    one, two = density.density(arguments(1, 4)), density.density(arguments(2, 4))
    point = np.array([[0.1, 0.2, 0.3]])
    before = one.at(point)[0]
    assert two.at(point)[0] != before
    assert one.at(point)[0] == before


def test_the_data_live_as_long_as_the_target(density: Function) -> None:
    given = arguments(3, 50)
    bound = density.density([np.array(a) for a in given])
    rubbish = [np.full((50, 3), 7.0) for _ in range(200)]
    point = np.array([[0.4, 0.2, -0.3]])
    assert bound.at(point)[0] == density(point[0], *given)[0]
    assert len(rubbish) == 200


def failing() -> Function:
    """A graph that raises where x[0] is negative."""
    checked = Assert("x[0] is negative")(x, pt.ge(x[0], 0))
    return compiled([x], [pt.sum(checked), 2 * x])


def test_a_density_that_raises_is_nan_there_and_goes_on_elsewhere() -> None:
    points = np.array([[1.0, 0, 0], [-1.0, 0, 0], [4.0, 0, 0]])
    values, _ = failing().density([]).at(points)
    np.testing.assert_array_equal(values, [1.0, np.nan, 4.0])


def test_a_quantity_that_raises_is_told() -> None:
    with pytest.raises(FitFailed, match="cannot be computed at a draw"):
        failing().table([]).at(np.array([[1.0, 0, 0], [-1.0, 0, 0]]))


def test_a_quantity_whose_shape_changes_from_draw_to_draw_is_refused() -> None:
    ragged = compiled([x], [x[x > 0]])
    assert ragged.table([]).at(np.ones((2, 3)))[0].shape == (2, 3)
    with pytest.raises(FitFailed, match="same shapes"):
        ragged.table([]).at(np.array([[1.0, 1.0, 1.0], [-1.0, 1.0, 1.0]]))


def test_the_outer_function_comes_from_the_disk_the_second_time(density: Function) -> None:
    arrays = arguments(1, 2)
    density.density(arrays)
    again = native.density_code(density._jitted, INPUTS, density._outputs)
    assert again.function.cache_hits == 1


def test_another_graph_has_another_outer_function(density: Function) -> None:
    value = pt.sum(x * loc)
    other = compiled([x, loc], [value, pt.grad(value, x)])
    point = np.array([1.0, 2.0, 3.0])
    assert other.density([np.ones(3)])(point)[0] == 6.0
    assert density.density(arguments(1, 2)).code.address != other.density([np.ones(3)]).code.address


def test_what_cannot_go_by_address_is_left_to_python() -> None:
    held = pytensor.shared(np.array([1.0, 2.0, 3.0]))
    assert isinstance(held, SharedVariable)
    value = pt.sum(x * held)
    kept = compiled([x], [value, pt.grad(value, x)])
    assert not kept.is_native
    bound = bind(3, TWICE, kept, lambda: compiled([x], TWICE.flat()), [])
    assert bound.density is None
    values, gradients = bound.log_densities(np.ones((2, 3)))
    np.testing.assert_array_equal(values, [6.0, 6.0])
    np.testing.assert_array_equal(gradients, [[1.0, 2.0, 3.0]] * 2)


def both() -> tuple[Any, Any]:
    """The same target as machine code and called by Python."""
    value = -0.5 * pt.sum((x - loc) ** 2) - pt.sum(pt.exp(-x))
    inner, outer = compiled([x, loc], [value, pt.grad(value, x)]), compiled([x, loc], TWICE.flat())
    given = np.array([0.5, 1.0, 2.0])
    machine = bind(3, TWICE, inner, lambda: outer, [given])
    python = replace(
        machine,
        density=None,
        table=lambda points: by_point(lambda x: outer(x, given), (points,), outer.count),
    )
    return machine, python


def test_both_ways_sample_the_same_draws_bit_by_bit() -> None:
    machine, python = both()
    settings = FitSettings(chains=2, tune=100, draws=200)
    one, two = (
        sample(b, start=lambda rng: rng.standard_normal(3), settings=settings, seed=7)
        for b in (machine, python)
    )
    np.testing.assert_array_equal(one.x, two.x)
    np.testing.assert_array_equal(one.quantities.values["twice"], two.quantities.values["twice"])
    for name, values in one.stats.items():
        np.testing.assert_array_equal(values, two.stats[name])


def test_a_model_that_diverges_is_reported_and_does_not_stop() -> None:
    funnel = pt.switch(x[0] > 1.5, np.nan, -0.5 * pt.sum(x**2))
    bounded = compiled([x], [funnel, pt.grad(funnel, x)])
    bound = bind(3, TWICE, bounded, lambda: compiled([x], TWICE.flat()), [])
    draws = sample(
        bound, start=lambda rng: np.full(3, 0.5), settings=FitSettings(chains=2, tune=200, draws=200), seed=1
    )
    assert draws.stats["diverging"].any()
    assert np.isfinite(draws.x).all()
    assert (draws.x[..., 0] <= 1.5).all()
