"""Coordinates are matched by variable and label: labels may appear, vanish or change their order."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lindley.errors import CoordinatesMismatch
from lindley.model.coordinates import Block, Coordinates, align

LABELS = list("abcdef")


def scalar(name="sigma", transform="log") -> Block:
    return Block(name, (), (), transform)


def vector(labels, name="theta", transform="identity", dims=("group",)) -> Block:
    shape = (len(labels),)
    return Block(name, shape, shape, transform, dims, (tuple(labels),))


def table(rows, columns, name="beta") -> Block:
    shape = (len(rows), len(columns))
    return Block(name, shape, shape, "identity", ("row", "column"), (tuple(rows), tuple(columns)))


def of(*blocks) -> Coordinates:
    return Coordinates(tuple(blocks))


def flipped(coordinates, flip) -> Coordinates:
    return Coordinates(coordinates.blocks[::-1]) if flip else coordinates


label_sets = st.lists(st.sampled_from(LABELS), min_size=1, max_size=4, unique=True)
models = st.lists(
    st.tuples(label_sets, st.booleans()).map(lambda x: flipped(of(scalar(), vector(x[0])), x[1])),
    min_size=1,
    max_size=4,
)


def check(layout, belief, batches):
    """Hold a layout against its definition, in sets and names."""
    union = layout.coordinates.names
    known = set() if belief is None else set(belief.names)
    everything = known.union(*(model.names for model in batches))
    assert len(set(union)) == len(union)
    assert set(union) == everything
    assert layout.coordinates.variables == batches[-1].variables
    assert [union[i] for i in layout.belief_at] == ([] if belief is None else belief.names)
    assert sorted([*layout.belief_at, *layout.new_at]) == list(range(len(union)))
    for model, place, first in zip(batches, layout.model_at, layout.first_seen, strict=True):
        assert [union[i] for i in place] == model.names
        assert first.tolist() == [name not in known for name in model.names]
        known |= set(model.names)


@given(st.none() | models.map(lambda found: found[0]), models)
def test_every_coordinate_stands_where_its_name_does(belief, batches):
    layout = align(belief, batches)
    check(layout, belief, batches)
    same = belief is None or set(belief.names) == set(batches[0].names)
    assert layout.plain == (len(batches) == 1 and same)


@given(models, st.data())
def test_the_order_is_the_newest_models_where_it_brings_all_labels(batches, data):
    every = sorted({label for model in batches for b in model.blocks if b.labels for label in b.labels[0]})
    newest = of(vector(data.draw(st.permutations(every))), scalar())
    layout = align(None, [*batches, newest])
    assert layout.coordinates == newest
    np.testing.assert_array_equal(layout.model_at[-1], np.arange(newest.size))


def test_labels_that_the_newest_model_lacks_come_in_order_of_appearance():
    layout = align(of(vector("ca")), [of(vector("ad")), of(vector("db"))])
    assert layout.coordinates.names == ["theta[c]", "theta[a]", "theta[d]", "theta[b]"]


@given(
    label_sets,
    st.lists(st.sampled_from(list("xyz")), min_size=1, max_size=3, unique=True),
    st.lists(label_sets, min_size=1, max_size=3),
)
def test_one_dim_of_a_table_may_change_its_labels(first, columns, later):
    belief = of(table(first, columns))
    batches = [of(table(rows, columns[::-1])) for rows in later]
    check(align(belief, batches), belief, batches)


def test_labels_of_two_dims_at_once_leave_cells_nowhere():
    with pytest.raises(CoordinatesMismatch, match=r"beta\[a, y\], beta\[b, x\] in neither"):
        align(of(table("a", "x")), [of(table("b", "y"))])
    # With the full list of all dims but one no cell is nowhere.
    layout = align(of(table("a", "x")), [of(table("ab", "x")), of(table("ab", "xy"))])
    assert layout.coordinates.names == [f"beta[{r}, {c}]" for r, c in product("ab", "xy")]


def test_a_variable_of_which_only_a_part_is_labelled_the_same_is_matched_by_label():
    layout = align(of(vector("ab"), scalar()), [of(scalar(), vector("bc"))])
    assert layout.coordinates.names == ["sigma", "theta[a]", "theta[b]", "theta[c]"]
    assert layout.belief_at.tolist() == [1, 2, 0]
    assert layout.new_at.tolist() == [3]
    assert layout.model_at[0].tolist() == [0, 2, 3]
    assert layout.first_seen[0].tolist() == [False, False, True]


def simplex(labels):
    return Block("p", (len(labels),), (len(labels) - 1,), "simplex", ("group",), (tuple(labels),))


def unlabelled(count, dims=()):
    labels = (tuple(str(i) for i in range(count)),) if dims else ()
    return Block("theta", (count,), (count,), "identity", dims, labels)


@pytest.mark.parametrize(
    ("belief", "model", "message"),
    [
        ([scalar(), vector("ab")], [vector("ab")], r"no free variable for the carried 'sigma'"),
        ([vector("ab")], [scalar(), vector("ab")], r"carried variable 'sigma' is not in the chain's belief"),
        ([scalar()], [scalar(transform="interval(0, 1)")], r"support of the carried variable 'sigma'"),
        ([vector("ab")], [vector("ab", dims=("team",))], r"dims of the carried variable 'theta'"),
        ([vector("ab")], [unlabelled(2)], r"dims of the carried variable 'theta'"),
        ([unlabelled(2)], [unlabelled(3)], r"shape of the carried variable 'theta'"),
        ([unlabelled(2, ("g",))], [unlabelled(3, ("g",))], r"size of the carried variable 'theta'"),
        ([vector("01")], [vector("a")], r"size of the carried variable 'theta'"),
        ([simplex("abc")], [simplex("abd")], r"labels of the carried variable 'p'.*mix them"),
        ([simplex("abc")], [simplex("acb")], r"labels of the carried variable 'p'.*mix them"),
    ],
)
def test_what_cannot_be_matched_is_refused_by_name(belief, model, message):
    with pytest.raises(CoordinatesMismatch, match=f"(?s){message}"):
        align(of(*belief), [of(*model)])
    # Among batches as between belief and batch.
    with pytest.raises(CoordinatesMismatch, match=f"(?s){message}"):
        align(None, [of(*belief), of(*model)])


def test_the_same_labels_of_a_variable_whose_coordinates_mix_them_are_matched():
    layout = align(of(simplex("abc")), [of(simplex("abc"))])
    assert layout.plain
    assert layout.coordinates.names == ["p[0]", "p[1]"]
