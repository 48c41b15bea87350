"""Plain numbers are read quickly, and exactly as `read_inputs` reads them; everything else is left to it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.live.scoring import _json
from lindley.errors import BatchRefused
from lindley.model.declaration import BY_CONTENT, Declaration
from lindley.serving.inputs import read_inputs
from lindley.serving.rows import Inputs, Numbers, Rows

KINDS = {"id": pa.int64(), "n": pa.int16(), "x": pa.float64(), "z": pa.float32(), "y": pa.float64()}
SCHEMA = pa.schema([pa.field(name, kind, nullable=name == "z") for name, kind in KINDS.items()])
#: Values of columns: mostly what fits, and what does not fit in each way.
_VALUES = (
    st.integers(-5, 5),
    st.integers(-(2**15) - 1, 2**15),
    st.integers(2**53 - 1, 2**53 + 2) | st.integers(2**63 - 1, 2**63),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([1.0, -0.0, 0.0, 1e39, float("nan"), float("inf")]),
    st.integers(0, 3) | st.floats(-1, 1),
    st.integers(0, 3) | st.booleans() | st.none() | st.just("1"),
)


def declared(key: tuple[str, ...] = ("id",), order_by: tuple[str, ...] | None = None) -> Declaration:
    return Declaration(
        name="line", build=lambda _: None, schema=SCHEMA, row_key=key, observed=("y",), order_by=order_by
    )  # fmt: skip


@st.composite
def tables(draw: st.DrawFn) -> dict[str, list[Any]]:
    length = draw(st.integers(1, 6))
    names = draw(st.permutations(["id", "n", "x", "z"])) + draw(st.sampled_from([[], ["y"], ["other"]]))
    names = [name for name in names if name != "id" or draw(st.booleans())]
    usual = {"id": _VALUES[0], "n": _VALUES[0]}
    return {
        name: draw(
            st.lists(
                draw(st.sampled_from([usual.get(name, _VALUES[3])] * 8 + list(_VALUES))),
                min_size=length,
                max_size=length,
            )
        )
        for name in names
    }


def same(found: Inputs, expected: Inputs) -> None:
    pd.testing.assert_frame_equal(found.frame, expected.frame, check_exact=True)
    np.testing.assert_array_equal(found.order, expected.order)
    assert found.without == expected.without
    assert list(found.keys) == list(expected.keys)
    for name, values in expected.keys.items():
        assert list(found.keys[name]) == list(values)


@given(
    tables(),
    st.sampled_from([("id",), ("id", "n"), BY_CONTENT]),
    st.sampled_from([None, ("x",), ("n", "x")]),
    st.booleans(),
)
@settings(max_examples=400, deadline=None)
def test_what_is_read_quickly_is_what_is_read_in_full(
    columns: dict[str, list[Any]], key: tuple[str, ...], order_by: tuple[str, ...] | None, as_frame: bool
) -> None:
    declaration = declared(key, order_by)
    rows = Rows.of(pd.DataFrame(columns)) if as_frame else Rows(columns)
    assert rows is not None
    found = Numbers(declaration).read(rows)
    if found is not None:
        same(found, read_inputs(pd.DataFrame(columns), declaration))


def test_most_requests_are_read_quickly() -> None:
    columns: dict[str, list[Any]] = {"id": [3, 1], "n": [1, 2], "x": [0.5, 1.5], "z": [1, 2]}
    numbers = Numbers(declared())
    for rows in (Rows(columns), Rows.of(pd.DataFrame(columns)), Rows.of(pd.DataFrame(columns, dtype=object))):
        assert rows is not None
        found = numbers.read(rows)
        assert found is not None
        same(found, read_inputs(pd.DataFrame(columns), declared()))
        assert found.frame["id"].tolist() == [1, 3]
        assert found.frame["y"].tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("n", [1.0, 2.0]), ("n", [True, 2]), ("n", [1, None]), ("n", [2**15, 1]), ("x", ["1", "2"]),
        ("x", [float("nan"), 1.0]), ("x", [2**53 + 1, 1]), ("id", [2**63, 1]), ("z", [1e39, 1.0]),
        ("z", [2**24 + 1, 1]), ("w", [1, 2]),
    ],
)  # fmt: skip
def test_what_needs_more_is_left_to_the_full_checks(column: str, values: list[Any]) -> None:
    columns: dict[str, list[Any]] = {"id": [3, 1], "n": [1, 2], "x": [0.5, 1.5], "z": [1.0, 2.0]}
    assert Numbers(declared()).read(Rows(columns | {column: values})) is None


def test_schemas_that_are_not_all_numbers_are_left_to_the_full_checks() -> None:
    schema = SCHEMA.append(pa.field("t", pa.timestamp("us")))
    mixed = Declaration(name="line", build=lambda _: None, schema=schema, row_key=("id",))
    assert Numbers(mixed).read(Rows({name: [1] for name in KINDS})) is None
    indexed = pd.DataFrame({"n": [1]}, index=pd.Index([1], name="id"))
    assert Rows.of(indexed) is None
    assert Rows.of(pd.DataFrame([[1, 2]], columns=["n", "n"])) is None
    with pytest.raises(BatchRefused, match="no rows"):
        read_inputs(Rows({}).frame, declared())
    with pytest.raises(ValueError, match="same length"):
        Rows({"a": [1], "b": [1, 2]})


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@given(_JSON, st.booleans())
@settings(max_examples=200, deadline=None)
def test_json_is_read_as_python_reads_it(value: Any, escaped: bool) -> None:
    body = json.dumps(value, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    try:
        expected = repr(json.loads(body))
    except ValueError:
        with pytest.raises(ValueError, match=""):
            _json(body)
    else:
        assert repr(_json(body)) == expected
