"""A registered belief predicts with every kind of column that a schema admits, from a frame and from JSON."""

from __future__ import annotations

import datetime as dt
import json
from base64 import b64encode
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.pyfunc import load_model
from mlflow.pyfunc.scoring_server import infer_and_parse_data

from lindley.batch.batch import batch_from_frame
from lindley.errors import BatchRefused
from lindley.ledger.mlflow.packaging import save_belief
from lindley.ledger.netcdf import write_netcdf
from lindley.model.declaration import Declaration, load_file
from lindley.serving.inputs import input_columns, neutral_frame, read_inputs

HEAD = """
import pandas as pd
import pyarrow as arrow
import pandera.pandas as pandera
import pymc as pm
from lindley import Declaration

def build(batch):
    with pm.Model() as model:
        mean = pm.Normal("mean", 0, 1)
        mu = mean + pm.Data("x", batch["x"].to_numpy())
        pm.Normal("y", mu, 1, observed=pm.Data("v", batch["y"].to_numpy()))
    return model

"""
KINDS: dict[str, pa.DataType] = {
    "n": pa.int64(),
    "small": pa.int8(),
    "big": pa.uint64(),
    "single": pa.float32(),
    "half": pa.float16(),
    "price": pa.decimal128(9, 2),
    "flag": pa.bool_(),
    "text": pa.string(),
    "word": pa.dictionary(pa.int32(), pa.string()),
    "raw": pa.binary(),
    "fixed": pa.binary(3),
    "day": pa.date32(),
    "day_ms": pa.date64(),
    "at": pa.timestamp("us"),
    "berlin": pa.timestamp("us", "Europe/Berlin"),
    "utc": pa.timestamp("ns", "UTC"),
    "clock": pa.time64("us"),
    "clock_s": pa.time32("s"),
    "lasted": pa.duration("us"),
}
ARROW = (
    HEAD
    + f"""
fields = [arrow.field("id", arrow.int64(), nullable=False), arrow.field("x", arrow.float64(), nullable=False)]
fields += [arrow.field(n, k) for n, k in {{{", ".join(f'"{n}": KIND({n!r})' for n in KINDS)}}}.items()]
fields += [arrow.field("y", arrow.float64(), nullable=False)]
schema = arrow.schema(fields)
declaration = Declaration(name="kinds", build=build, schema=schema, row_key=("id",), observed=("y",))
"""
)
PANDERA = (
    HEAD
    + """
C = pandera.Column
schema = pandera.DataFrameSchema({
    "id": C(int), "x": C(float), "lab": C("category"), "grade": C(pd.CategoricalDtype(["a", "b"])),
    "note": C(str, required=False, nullable=True), "n": C("Int64", nullable=True),
    "ok": C("boolean", nullable=True), "when": C("datetime64[us, UTC]"), "y": C(float, pandera.Check.gt(10))},
    checks=pandera.Check(lambda frame: frame["y"] > frame["x"]), unique=["id"])
declaration = Declaration(name="kinds", build=build, schema=schema, row_key=("id",), observed=("y",))
"""
)


def arrow_source() -> str:
    """The model file, with each type as Python source."""
    special = {"word": "arrow.dictionary(arrow.int32(), arrow.string())", "price": "arrow.decimal128(9, 2)",
               "fixed": "arrow.binary(3)", "flag": "arrow.bool_()", "half": "arrow.float16()",
               "single": "arrow.float32()", "day": "arrow.date32()", "day_ms": "arrow.date64()",
               "at": 'arrow.timestamp("us")', "berlin": 'arrow.timestamp("us", "Europe/Berlin")',
               "utc": 'arrow.timestamp("ns", "UTC")', "clock": 'arrow.time64("us")',
               "clock_s": 'arrow.time32("s")', "lasted": 'arrow.duration("us")'}  # fmt: skip
    source = ARROW
    for name, kind in KINDS.items():
        source = source.replace(f"KIND({name!r})", special.get(name, f"arrow.{kind}()"))
    return source


def registered(folder: Path, source: str) -> tuple[Declaration, Any]:
    """A chain's declaration, and its belief as MLflow loads it."""
    (folder / "model.py").write_text(source)
    declaration = load_file(folder / "model.py")
    draws = xr.Dataset({"mean": ("sample", np.random.default_rng(0).normal(size=50))})
    write_netcdf(draws, folder / "draws.nc")
    save_belief(folder, declaration, folder / "draws.nc")
    return declaration, load_model(str(folder / "belief"))


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Declaration, Any]:
    return registered(tmp_path_factory.mktemp("kinds"), arrow_source())


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Declaration, Any]:
    return registered(tmp_path_factory.mktemp("checked"), PANDERA)


def values(kind: pa.DataType) -> st.SearchStrategy[Any]:
    """Values of a type, as Python has them."""
    stamps = st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1))
    times = st.times()
    if pa.types.is_integer(kind):
        low, high = (np.iinfo(kind.to_pandas_dtype()).min, np.iinfo(kind.to_pandas_dtype()).max)
        return st.integers(max(int(low), -(2**53)), min(int(high), 2**53))
    if pa.types.is_floating(kind):
        return st.floats(width={2: 16, 4: 32}[kind.bit_width // 8], allow_nan=False, allow_infinity=False)
    if pa.types.is_timestamp(kind) and kind.tz:
        return stamps.map(lambda at: at.replace(tzinfo=dt.UTC))
    found: dict[str, st.SearchStrategy[Any]] = {
        "decimal": st.decimals(-9999999, 9999999, places=2),
        "bool": st.booleans(),
        "string": st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8),
        "binary": st.binary(max_size=8),
        "fixed": st.binary(min_size=3, max_size=3),
        "date": st.dates(dt.date(1700, 1, 1), dt.date(2200, 1, 1)),
        "timestamp": stamps,
        "time32": times.map(lambda clock: clock.replace(microsecond=0)),
        "time64": times,
        "duration": st.timedeltas(dt.timedelta(-9999), dt.timedelta(9999)),
    }
    text = "string" if pa.types.is_dictionary(kind) else str(kind)
    return next(found[name] for name in found if text.startswith(name))


def spelled(value: Any) -> Any:
    """A value in JSON, as a program would write it."""
    match value:
        case bytes():
            return b64encode(value).decode()
        case Decimal():
            return float(value)
        case dt.timedelta():
            return pd.Timedelta(value).isoformat()
        case dt.date() | dt.time():
            return value.isoformat()
    return value


def from_json(model: Any, records: list[dict[str, Any]], orient: str) -> pd.DataFrame:
    """Rows as MLflow's server reads them from a request."""
    held = json.loads(json.dumps([{name: spelled(value) for name, value in row.items()} for row in records]))
    names = list(records[0])
    split = {"columns": names, "data": [[row[name] for name in names] for row in held]}
    body = {"dataframe_records": held} if orient == "records" else {"dataframe_split": split}
    return infer_and_parse_data(body, model.metadata.get_input_schema())


ROWS = st.fixed_dictionaries({name: st.none() | values(kind) for name, kind in KINDS.items()})


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(ROWS, min_size=1, max_size=3), orient=st.sampled_from(["records", "split"]))
def test_every_kind_predicts_from_a_frame_and_from_json(
    kinds: tuple[Declaration, Any], rows: list[dict[str, Any]], orient: str
) -> None:
    declaration, model = kinds
    records = [{"id": place, "x": 0.5 * place} | row for place, row in enumerate(rows)]
    schema = pa.schema([field for field in declaration.schema if field.name != "y"])
    table = pa.Table.from_pylist(records, schema)
    frame = pd.DataFrame({name: table.column(name).to_pylist() for name in table.column_names}, dtype=object)
    sent = from_json(model, records, orient)
    whole = batch_from_frame(frame.assign(y=0.5), declaration).frame()
    for inputs in (frame, sent):
        pd.testing.assert_frame_equal(read_inputs(inputs, declaration).frame, whole)
    for inputs in (frame, sent, table.to_pandas()):
        answer = model.predict(inputs)
        assert list(answer["id"]) == list(range(len(rows)))
        assert np.isfinite(answer["mean"]).all()


def test_the_signature_leaves_types_to_lindley_and_the_metadata_state_them(
    kinds: tuple[Declaration, Any],
) -> None:
    declaration, model = kinds
    columns = {c.name: (c.type, c.required) for c in input_columns(declaration) or ()}
    assert columns["berlin"] == ("timestamp[us, tz=Europe/Berlin]", True)
    assert (columns["id"][1], columns["y"][1]) == (False, False)
    assert model.metadata.metadata["columns"]["price"] == "decimal128(9, 2)"
    assert len(neutral_frame(declaration, 2)) == 2


def test_a_pandera_schema_predicts_with_categories_gaps_and_optional_columns(
    checked: tuple[Declaration, Any],
) -> None:
    """Its checks of outcomes and keys do not stand in the way where there are none."""
    _, model = checked
    row = {
        "x": 1.5,
        "lab": "p",
        "grade": "a",
        "n": None,
        "ok": None,
        "when": dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
    }
    typed = pd.DataFrame({
        "x": [1.5], "lab": pd.Categorical(["p"]), "grade": pd.Categorical(["a"], ["a", "b"]),
        "n": pd.array([None], "Int64"), "ok": pd.array([None], "boolean"),
        "when": pd.to_datetime(["2024-01-01T00:00Z"]),
    })  # fmt: skip
    expected = model.predict(typed)
    for inputs in (pd.DataFrame([row]), from_json(model, [row], "split"), from_json(model, [row], "records")):
        pd.testing.assert_frame_equal(model.predict(inputs), expected)
    assert len(model.predict(typed.assign(note="a", id=[1]))) == 1
    with pytest.raises(Exception, match="categories that the schema does not declare"):
        model.predict(typed.assign(grade="z"))


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("n", 1.5, "cannot be read as int64 without loss.*1.5 in row 1"),
        ("small", 300, "300 in row 1"),
        ("price", 1.555, "1.555"),
        ("berlin", "2024-01-01T00:00:00", "time zone|without loss"),
        ("raw", "?", "bytes in base64"),
        ("lasted", "soon", "durations such as"),
        ("single", 1e300, "1e[+]300"),
        ("text", 7, "wrong type"),
        ("day", "2024-13-01", "2024-13-01"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    kinds: tuple[Declaration, Any], column: str, value: Any, words: str
) -> None:
    declaration, model = kinds
    row = dict.fromkeys(KINDS) | {"x": 0.0, column: value}
    with pytest.raises(BatchRefused, match=words):
        read_inputs(pd.DataFrame([row]), declaration)
    with pytest.raises(Exception, match=words) as caught:
        model.predict(pd.DataFrame([row]))
    assert caught.value.get_http_status_code() == 400
    caught.value.message = f"Failed to predict data '{row}'. \nError"  # as MLflow's server does
    answer = json.loads(caught.value.serialize_as_json())["message"]
    assert "\n" not in answer
    assert "Failed" not in answer
