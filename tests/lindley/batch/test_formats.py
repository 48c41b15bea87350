"""The registry of batch formats: a format needs one entry, and the documentation has the table."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from lindley.arrivals.landing import archive, is_complete
from lindley.batch import formats
from lindley.batch.batch import as_schema
from lindley.batch.expected import Expected
from lindley.batch.formats import FORMATS, TABLE_BEGIN, TABLE_END, Format, any_of, format_of, markdown_table
from lindley.batch.limits import Limits
from lindley.batch.reading import read_table
from lindley.errors import BatchRefused, BatchUnreadable

SCHEMA = as_schema(pa.schema([("n", pa.int64())]))
ROWS = pa.table({"n": [1, 2, 3]})
ROOT = Path(__file__).parents[3]


def _read(name: str, data: bytes, expected: Expected) -> pa.Table:
    return pa.ipc.open_file(io.BytesIO(data)).read_all()


ARROW = Format(
    name="Feather",
    extension=".arrow",
    content="a Feather file",
    notes="for this test",
    read=_read,
    magic=b"ARROW1",
    complete=lambda file: file.read().endswith(b"ARROW1"),
)


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of a format that only this test has."""
    monkeypatch.setattr(formats, "FORMATS", (*FORMATS, ARROW))
    path = tmp_path / "Week.ARROW"
    with pa.ipc.new_file(path, ROWS.schema) as file:
        file.write_table(ROWS)
    return path


def test_names_and_extensions_are_distinct() -> None:
    assert len({form.name for form in FORMATS}) == len({form.extension for form in FORMATS}) == len(FORMATS)
    assert all(form.extension == form.extension.lower() and form.extension[0] == "." for form in FORMATS)


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_an_extension_is_found_in_any_case(form: Format) -> None:
    assert format_of(Path(f"a/week{form.extension.upper()}")) is form
    assert format_of(Path(f"week{form.extension}.zip")) is None


def test_the_documentation_has_the_table_of_formats() -> None:
    page = (ROOT / "docs/guides/landing-folder.md").read_text(encoding="utf-8")
    found = page.partition(TABLE_BEGIN)[2].partition(TABLE_END)[0].strip()
    assert found == markdown_table()


def test_a_format_is_added_by_one_entry(added: Path) -> None:
    assert read_table(added, Expected(schema=SCHEMA)).equals(ROWS)
    with pytest.raises(BatchRefused, match="at most 2 rows"):
        read_table(added, Expected(schema=SCHEMA, limits=Limits(rows=2)))
    renamed = added.rename(added.with_name("week.parquet"))
    with pytest.raises(BatchUnreadable, match="a Feather file"):
        read_table(renamed, Expected(schema=SCHEMA))


def test_bytes_under_the_extension_of_an_added_format_are_checked(added: Path) -> None:
    added.write_bytes(b"n\n1\n")
    with pytest.raises(BatchUnreadable, match="is not a Feather file"):
        read_table(added, Expected(schema=SCHEMA))


def test_a_file_of_an_added_format_is_complete_when_it_ends_as_one(added: Path) -> None:
    def complete(path: Path, *, after: float) -> bool:
        return is_complete(path, clock=lambda: path.stat().st_mtime + after, sleep=lambda _: None)

    whole = added.read_bytes()
    assert complete(added, after=2)
    added.write_bytes(whole[:-1])
    assert not complete(added, after=2)
    assert complete(added, after=60)


def test_the_store_knows_a_file_of_an_added_format(added: Path, tmp_path: Path) -> None:
    digest = "ab" * 32
    first = archive(added, tmp_path / "store", "chain", digest)
    (again := tmp_path / "again.csv").write_text("n\n1\n2\n3\n")
    assert archive(again, tmp_path / "store", "chain", digest) == first
    assert (first.suffix, again.exists()) == (".arrow", False)


def test_alternatives_read_as_a_sentence() -> None:
    assert [any_of(["a"]), any_of(["a", "b"]), any_of(["a", "b", "c"])] == ["a", "a or b", "a, b or c"]


def test_text_has_no_magic_and_is_known_by_what_it_is_not() -> None:
    csv, _, parquet = FORMATS
    assert csv.disguised(b"n\n1\n") is None
    assert csv.disguised(b"PAR1") == "a Parquet file"
    assert parquet.disguised(b"PAR1") is None
    assert parquet.disguised(b"n\n1\n") == "a file that begins with b'n\\n1\\n'"
    assert replace(csv, magic=b"n").disguised(b"n\n1\n") is None
