"""The content digest: what must not change it, what must, and that its form never changes silently."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import json
import struct
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lindley.batch.digest import FORMAT, content_digest
from lindley.errors import BatchRefused

_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_SECONDS = st.integers(-(2**31), 2**33)

#: A type and a strategy of its values, for every family.
KINDS: dict[str, tuple[pa.DataType, st.SearchStrategy[object]]] = {
    "bool": (pa.bool_(), st.booleans()),
    "int": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "float": (pa.float64(), st.floats(allow_nan=True)),
    "string": (pa.string(), st.text(max_size=8)),
    "binary": (pa.binary(), st.binary(max_size=8)),
    "date": (pa.date32(), st.dates()),
    "timestamp": (pa.timestamp("s"), _SECONDS),
    "timestamptz": (pa.timestamp("s", "UTC"), _SECONDS),
    "time": (pa.time32("s"), st.integers(0, 86_399)),
    "duration": (pa.duration("s"), _SECONDS),
    "decimal": (pa.decimal128(20, 4), st.decimals(-(10**12), 10**12, places=4)),
}


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """Tables of up to 4 columns of any kind and up to 8 rows, with nulls."""
    kinds = draw(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=4))
    names = draw(st.lists(st.text(max_size=4), min_size=len(kinds), max_size=len(kinds), unique=True))
    rows = draw(st.integers(0, 8))
    columns = {}
    for name, kind in zip(names, kinds, strict=True):
        arrow, values = KINDS[kind]
        cells = draw(st.lists(st.none() | values, min_size=rows, max_size=rows))
        columns[name] = pa.array(cells, arrow)
    return pa.table(columns)


def _one(values: list[object], kind: pa.DataType, name: str = "x") -> str:
    return content_digest(pa.table({name: pa.array(values, kind)}))


@given(tables(), st.randoms(use_true_random=False))
def test_independent_of_row_order_column_order_and_chunks(table: pa.Table, random) -> None:
    order = list(range(table.num_rows))
    random.shuffle(order)
    shuffled = table.take(pa.array(order, pa.int64()))
    shuffled = shuffled.select(random.sample(table.column_names, table.num_columns))
    cut = random.randint(0, table.num_rows)
    chunked = pa.concat_tables([shuffled.slice(0, cut), shuffled.slice(cut)])
    noted = chunked.replace_schema_metadata({"written by": "another program"})
    assert content_digest(noted) == content_digest(table)


@given(tables())
def test_independent_of_dictionary_and_run_end_encoding(table: pa.Table) -> None:
    encoded, runs = {}, {}
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        encoded[name] = column.dictionary_encode()
        runs[name] = pa.compute.run_end_encode(column)
    assert content_digest(pa.table(encoded)) == content_digest(table)
    assert content_digest(pa.table(runs)) == content_digest(table)


@given(tables())
@settings(max_examples=50)
def test_independent_of_file_format(table: pa.Table) -> None:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    assert content_digest(pq.read_table(io.BytesIO(buffer.getvalue()))) == content_digest(table)
    buffer = io.BytesIO()
    pyarrow.feather.write_feather(table, buffer)
    assert content_digest(pyarrow.feather.read_table(io.BytesIO(buffer.getvalue()))) == content_digest(table)


@given(st.sampled_from(sorted(KINDS)), st.data())
def test_every_change_of_a_cell_is_seen(name: str, data: st.DataObject) -> None:
    kind, values = KINDS[name]
    cells = data.draw(st.lists(st.none() | values, min_size=1, max_size=6))
    row = data.draw(st.integers(0, len(cells) - 1))
    new = data.draw(st.none() | values)
    assume(_bits(cells[row]) != _bits(new))
    changed = [*cells[:row], new, *cells[row + 1 :]]
    assert _one(changed, kind) != _one(cells, kind)


def _bits(value: object) -> object:
    if isinstance(value, float):
        return "nan" if value != value else struct.pack(">d", value)
    return value


@given(tables(), st.data())
def test_rows_are_a_multiset(table: pa.Table, data: st.DataObject) -> None:
    assume(table.num_rows > 0)
    row = data.draw(st.integers(0, table.num_rows - 1))
    doubled = pa.concat_tables([table, table.slice(row, 1)])
    fewer = pa.concat_tables([table.slice(0, row), table.slice(row + 1)])
    assert len({content_digest(each) for each in (table, doubled, fewer)}) == 3


@given(st.lists(st.none() | st.integers(0, 127), max_size=6))
def test_integer_width_and_sign_do_not_matter(values: list[int | None]) -> None:
    kinds = (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())
    assert len({_one(values, kind) for kind in kinds}) == 1


def test_large_unsigned_integers_are_not_negative_ones() -> None:
    assert _one([2**64 - 1], pa.uint64()) != _one([-1], pa.int64())
    assert _one([2**63], pa.uint64()) != _one([-(2**63)], pa.int64())


@given(st.lists(st.none() | st.text(max_size=6), max_size=6))
def test_kinds_of_text_and_bytes_do_not_matter(values: list[str | None]) -> None:
    assert len({_one(values, kind) for kind in (pa.string(), pa.large_string(), pa.string_view())}) == 1
    raw = [None if value is None else value.encode() for value in values]
    assert len({_one(raw, kind) for kind in (pa.binary(), pa.large_binary(), pa.binary_view())}) == 1
    assert _one(["a", "b"], pa.string()) != _one([b"a", b"b"], pa.binary())
    assert _one([b"ab"], pa.binary(2)) == _one([b"ab"], pa.binary())


@given(st.lists(st.none() | st.integers(-(2**33), 2**33), max_size=6))
def test_units_of_timestamps_and_durations_do_not_matter(seconds: list[int | None]) -> None:
    for make in (pa.timestamp, pa.duration):
        digests = {
            _one([None if s is None else s * per for s in seconds], make(unit))
            for unit, per in _PER_SECOND.items()
        }
        assert len(digests) == 1


def test_units_of_times_and_dates_do_not_matter() -> None:
    times = {_one([3661 * per], kind) for per, kind in (
        (1, pa.time32("s")), (10**3, pa.time32("ms")), (10**6, pa.time64("us")), (10**9, pa.time64("ns")),
    )}  # fmt: skip
    assert len(times) == 1
    assert _one([dt.date(2020, 1, 2)], pa.date32()) == _one([dt.date(2020, 1, 2)], pa.date64())


@given(st.lists(st.integers(0, 2**32), min_size=1, max_size=4))
def test_a_zone_written_differently_does_not_matter_but_its_absence_does(seconds: list[int]) -> None:
    zones = {_one(seconds, pa.timestamp("s", zone)) for zone in ("UTC", "Etc/UTC", "+00:00", "Europe/Paris")}
    assert len(zones) == 1
    assert _one(seconds, pa.timestamp("s")) not in zones


def test_timestamps_beyond_nanoseconds_and_single_nanoseconds() -> None:
    far = 10**12  # the year 33658: no nanoseconds since 1970 fit 64 bits
    assert _one([far], pa.timestamp("s")) == _one([far * 10**6], pa.timestamp("us"))
    assert _one([1], pa.timestamp("ns")) != _one([2], pa.timestamp("ns"))
    assert _one([-1], pa.timestamp("ns")) != _one([1], pa.timestamp("ns"))


def test_floats_count_every_bit() -> None:
    nan, null = _one([float("nan")], pa.float64()), _one([None], pa.float64())
    digests = [nan, null] + [_one([v], pa.float64()) for v in (0.0, -0.0, 0.1, np.nextafter(0.1, 1), np.inf)]
    assert len(set(digests)) == len(digests)


def test_nan_payloads_are_one_nan() -> None:
    bits = np.array([0x7FF8000000000000, 0xFFF8000000000001, 0x7FF0000000000001], np.uint64)
    payloads = bits.view(np.float64)
    assert len({content_digest(pa.table({"x": pa.array(payloads[i : i + 1])})) for i in range(3)}) == 1


@given(st.floats(width=32))
def test_narrow_floats_are_widened_exactly(value: float) -> None:
    assert _one([value], pa.float32()) == _one([value], pa.float64())


def test_float32_is_not_rounded_to_the_decimal_it_shows() -> None:
    assert _one([0.1], pa.float32()) != _one([0.1], pa.float64())
    assert _one([np.float16(1.5)], pa.float16()) == _one([1.5], pa.float64())


def test_decimals_count_by_value() -> None:
    same = {
        _one([Decimal("1.5")], pa.decimal128(5, 1)),
        _one([Decimal("1.500")], pa.decimal128(38, 3)),
        _one([Decimal("1.5")], pa.decimal256(60, 30)),
    }
    assert len(same) == 1
    assert _one([Decimal("1.6")], pa.decimal128(5, 1)) not in same
    assert _one([Decimal("-1.5")], pa.decimal128(5, 1)) not in same
    assert _one([Decimal("0.00")], pa.decimal128(5, 2)) == _one([Decimal(0)], pa.decimal128(5, 0))
    digits = "1234567890123456789012345678901234567"  # more than the default context would keep
    assert _one([Decimal(digits + "1")], pa.decimal128(38, 0)) != _one(
        [Decimal(digits + "2")], pa.decimal128(38, 0)
    )


def test_type_families_differ() -> None:
    values = [
        _one([1], pa.int64()),
        _one([1.0], pa.float64()),
        _one(["1"], pa.string()),
        _one([b"1"], pa.binary()),
        _one([True], pa.bool_()),
        _one([Decimal(1)], pa.decimal128(5, 0)),
        _one([dt.date(1970, 1, 2)], pa.date32()),
        _one([86_400], pa.timestamp("s")),
        _one([86_400], pa.timestamp("s", "UTC")),
        _one([86_400], pa.duration("s")),
        _one([1], pa.time32("s")),
    ]
    assert len(set(values)) == len(values)
    nulls = [_one([None], kind) for kind in (pa.int64(), pa.float64(), pa.string(), pa.null())]
    assert len(set(nulls)) == len(nulls)


def test_names_and_shapes_count() -> None:
    digests = {
        content_digest(pa.table({"a": [1], "b": [2]})),
        content_digest(pa.table({"a": [2], "b": [1]})),
        content_digest(pa.table({"a": [1], "c": [2]})),
        content_digest(pa.table({"a": [1]})),
        content_digest(pa.table({"a": pa.array([], pa.int64())})),
        content_digest(pa.table({})),
        content_digest(pa.table({"x": ["ab", "c"]})),
        content_digest(pa.table({"x": ["a", "bc"]})),
        content_digest(pa.table({"x": ["a"], "y": ["bc"]})),
        content_digest(pa.table({"x": ["ab"], "y": ["c"]})),
    }
    assert len(digests) == 10


def test_pandas_and_arrow_agree() -> None:
    frame = pd.DataFrame(
        {"n": [2, 1], "s": pd.Categorical(["b", "a"]), "t": pd.to_datetime(["2020", "2021"])}
    )
    table = pa.table({
        "s": ["a", "b"],
        "n": pa.array([1, 2], pa.int8()),
        "t": pa.array([dt.datetime(2021, 1, 1), dt.datetime(2020, 1, 1)], pa.timestamp("s")),
    })  # fmt: skip
    assert content_digest(pa.Table.from_pandas(frame)) == content_digest(table)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([[1]], pa.list_(pa.int64())),
        ([{"a": 1}], pa.struct([("a", pa.int64())])),
        ([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
        ([b"0" * 16], pa.uuid()),
        ([(1, 2, 3)], pa.month_day_nano_interval()),
    ],
    ids=str,
)
def test_types_without_a_canonical_form_are_refused_by_name(values: list[object], kind: pa.DataType) -> None:
    column = pa.array(values, kind) if not isinstance(kind, pa.BaseExtensionType) else None
    column = (
        column
        if column is not None
        else pa.ExtensionArray.from_storage(kind, pa.array(values, pa.binary(16)))
    )
    with pytest.raises(BatchRefused, match="'nest'"):
        content_digest(pa.table({"a": [1], "nest": column}))


def test_repeated_names_and_broken_dates_are_refused() -> None:
    with pytest.raises(BatchRefused, match="distinct column names"):
        content_digest(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]))
    with pytest.raises(BatchRefused, match="'d'"):
        content_digest(pa.table({"d": pa.array([1], pa.int64()).cast(pa.timestamp("ms")).view(pa.date64())}))


def test_canonical_form_as_documented() -> None:
    """An independent encoder, written from the documentation for one table."""
    table = pa.table({"z": [3, None], "é": ["b", "a"], "f": [0.5, float("nan")]})
    columns = [["f", "float"], ["z", "int"], ["é", "string"]]
    header = json.dumps(
        {"columns": columns, "format": FORMAT, "rows": 2}, ensure_ascii=False, separators=(",", ":")
    )
    rows = [
        b"\1" + struct.pack(">d", 0.5) + b"\1" + struct.pack(">q", 3) + b"\1" + hashlib.sha256(b"b").digest(),
        b"\1" + bytes.fromhex("7ff8000000000000") + b"\0" + bytes(8) + b"\1" + hashlib.sha256(b"a").digest(),
    ]
    expected = hashlib.sha256((header + "\n").encode() + b"".join(sorted(rows))).hexdigest()
    assert content_digest(table) == expected


def test_golden_digests() -> None:
    """Frozen: if one of these changes, the format has changed and needs another name."""
    counts = pa.table({"day": [dt.date(1978, 1, 22), dt.date(1978, 1, 23)], "in_bed": [3, 8]})
    assert content_digest(counts) == "cd8c5ef3d69cbb6909ee99efba42af431cd454e28738a34966c6ac16ef0fb822"
    everything = pa.table({
        "bool": [True, False, None],
        "int": pa.array([1, -(2**63), None]),
        "unsigned": pa.array([2**64 - 1, 0, None], pa.uint64()),
        "float": [0.1, -0.0, float("nan")],
        "text": ["", "naïve", None],
        "bytes": [b"", b"\x00\xff", None],
        "date": [dt.date(1, 1, 1), dt.date(9999, 12, 31), None],
        "naive": pa.array([-1, 10**18, None], pa.timestamp("ns")),
        "aware": pa.array([-1, 10**12, None], pa.timestamp("ms", "UTC")),
        "time": [dt.time(23, 59, 59, 999_999), dt.time(0), None],
        "duration": pa.array([-1, 1, None], pa.duration("us")),
        "decimal": [Decimal("-1.50"), Decimal("1200.00"), None],
        "nothing": pa.nulls(3),
    })  # fmt: skip
    assert content_digest(everything) == "c1dd3a14be7251f9ef0809c6756efcff3c81977f5647fe0d75f1ab3688a5d881"
