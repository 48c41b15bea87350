"""Reading snapshots: versions, blocks of text, web servers and buckets that answer, fail or are slow."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lindley import Snapshot
from lindley.arrivals.sources import places, rows
from lindley.arrivals.sources.protocol import Pulled
from lindley.arrivals.sources.rows import pieces, text_blocks
from lindley.errors import BatchRefused, DeclarationRefused, SourceUnavailable
from lindley.model.declaration import Declaration
from tests.support import servers

TEXT = b"id,k,n\n1,3,10\n2,4,10\n"


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "is_complete", lambda path, **_: path.is_file())


def read(source: Snapshot, folder: Path, since: dict[str, str] | None = None) -> Pulled:
    scratch = folder / f"scratch-{time.monotonic_ns()}"
    scratch.mkdir()
    found = source.read(since, scratch, folder)
    assert found is not None
    return found


# -- blocks of rows -----------------------------------------------------------------------------------

_CELL = st.text(st.sampled_from('ab,"\n é'), max_size=6)


@given(st.lists(st.tuples(_CELL, _CELL), max_size=12), st.integers(1, 40))
def test_blocks_have_the_rows_of_the_whole_text(cells: list[tuple[str, str]], size: int) -> None:
    def row(values: tuple[str, ...]) -> str:
        return ",".join('"' + value.replace('"', '""') + '"' for value in values) + "\n"

    header = row(("x", "y"))
    text = (header + "".join(row(pair) for pair in cells)).encode()
    found = list(text_blocks(io.BytesIO(text), size))
    assert all(block.startswith(header.encode()) for block in found)
    assert header.encode() + b"".join(block.removeprefix(header.encode()) for block in found) == text


def test_a_file_that_counts_its_rows_is_one_block() -> None:
    text = b",x\n" + b"".join(b"%d,1\n" % i for i in range(50))
    assert list(text_blocks(io.BytesIO(text), 16)) == [text]


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet"])
def test_large_files_come_in_pieces(
    declaration: Declaration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr(rows, "TEXT_BLOCK", 4096)
    path, wanted = tmp_path / f"rows.{ending}", 150_000 if ending == "parquet" else 2000
    if ending == "parquet":
        pq.write_table(pa.table({"id": range(wanted), "k": [3] * wanted, "n": [10] * wanted}), path)
    else:
        text = b"id,k,n\n" + b"".join(b"%d,3,10\n" % i for i in range(wanted))
        path.write_bytes(gzip.compress(text) if ending == "csv.gz" else text)
    pulled = Pulled(version={}, path=path, name="rows", complete=True)
    tables = [table for _, table in pieces(pulled, declaration)]
    assert len(tables) > 2
    assert max(table.num_rows for table in tables) < wanted / 2
    assert pa.concat_tables(tables)["id"].to_pylist() == list(range(wanted))


def test_folders_are_read_with_their_partitions(declaration: Declaration, tmp_path: Path) -> None:
    for number in (1, 2):
        folder = tmp_path / "table" / f"n={number}0"
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"id": [number], "k": [3]}), folder / "part.parquet")
        (folder / "_SUCCESS").touch()
    pulled = read(Snapshot("table"), tmp_path)
    tables = pa.concat_tables([table for _, table in pieces(pulled, declaration)])
    assert tables.to_pylist() == [{"id": 1, "k": 3, "n": 10}, {"id": 2, "k": 3, "n": 20}]


def test_a_cut_file_and_a_split_that_fails(declaration: Declaration, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv.gz"
    path.write_bytes(gzip.compress(TEXT * 99)[:-20])
    pulled = Pulled(version={}, path=path, name="rows", complete=True)
    with pytest.raises(BatchRefused, match="cut off"):
        list(pieces(pulled, declaration))

    def split(_: str) -> Iterator[Any]:
        raise KeyError("day")

    with pytest.raises(BatchRefused, match=r"split of coins.*KeyError"):
        list(pieces(pulled, replace(declaration, split=split)))


# -- disks ----------------------------------------------------------------------------------------------


def test_the_version_is_the_content(tmp_path: Path) -> None:
    path, source = tmp_path / "rows.csv", Snapshot("rows.csv")
    path.write_bytes(TEXT)
    first = read(source, tmp_path)
    assert first.version == {"sha256": hashlib.sha256(TEXT).hexdigest()}
    os.utime(path, (1, 1))
    assert source.read(first.version, tmp_path / "unused", tmp_path) is None


def test_a_file_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, write = tmp_path / "rows.csv", places._write
    path.write_bytes(TEXT)

    def grows(*given: Any) -> str:
        digest = write(*given)
        path.write_bytes(TEXT + b"3,3,10\n")
        return digest

    monkeypatch.setattr(places, "_write", grows)
    with pytest.raises(SourceUnavailable, match="changed while it was read"):
        read(Snapshot("rows.csv"), tmp_path)


def test_what_is_not_there_and_what_takes_too_long(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable, match="not there"):
        read(Snapshot("none.csv"), tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceUnavailable, match="no file in a batch format"):
        read(Snapshot("empty"), tmp_path)
    (tmp_path / "rows.csv").write_bytes(TEXT)
    with pytest.raises(SourceUnavailable, match="not read within"):
        read(Snapshot("rows.csv", timeout=1e-9), tmp_path)


# -- secrets --------------------------------------------------------------------------------------------


def test_a_password_in_the_declaration_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(DeclarationRefused, match="holds a password") as refused:
        Snapshot("https://me:hush@example.org/rows.csv")
    assert "hush" not in str(refused.value)
    source = Snapshot("http://me:${WORD}@127.0.0.1:1/rows.csv?token=hush#x")
    assert source.address == "http://127.0.0.1:1/rows.csv"
    monkeypatch.delenv("WORD", raising=False)
    with pytest.raises(SourceUnavailable, match="environment variable WORD"):
        read(source, tmp_path)
    monkeypatch.setenv("WORD", "hush")
    with pytest.raises(SourceUnavailable) as down:
        read(source, tmp_path)
    assert "hush" not in f"{down.value} {source!r} {down.value.__cause__}"


# -- the web --------------------------------------------------------------------------------------------


class Web(http.server.BaseHTTPRequestHandler):
    """A server with one file, which can be missing, cut off or slow."""

    def do_GET(self) -> None:
        status, length = {"/gone.csv": (404, 0), "/cut.csv": (200, 1000)}.get(self.path, (200, len(TEXT)))
        self.send_response(status)
        self.send_header("ETag", '"one"')
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.path.startswith("/slow"):
            time.sleep(2)
        if status == 200:
            self.wfile.write(TEXT)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_file_on_the_web(web: str, tmp_path: Path) -> None:
    found = read(Snapshot(f"{web}/rows.csv?key=hush"), tmp_path)
    assert found.version == {"sha256": hashlib.sha256(TEXT).hexdigest(), "etag": '"one"'}
    assert (found.path.read_bytes(), found.name) == (TEXT, "rows.csv")


@pytest.mark.parametrize(
    ("path", "match"), [("gone.csv", "404"), ("cut.csv", "RemoteProtocolError"), ("slow.csv", "ReadTimeout")]
)
def test_a_web_server_that_fails(web: str, tmp_path: Path, path: str, match: str) -> None:
    with pytest.raises(SourceUnavailable, match=match) as error:
        read(Snapshot(f"{web}/{path}", timeout=0.5), tmp_path)
    assert error.value.transient


# -- buckets --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with servers.s3(tmp_path_factory.mktemp("s3")) as access, pytest.MonkeyPatch.context() as environment:
        for name, value in access.items():
            environment.setenv(name, value)
        environment.setenv("AWS_ENDPOINT_URL", access["MLFLOW_S3_ENDPOINT_URL"])
        yield boto3.client("s3", endpoint_url=access["MLFLOW_S3_ENDPOINT_URL"])


@pytest.mark.e2e
def test_files_and_folders_of_a_bucket(bucket: Any, declaration: Declaration, tmp_path: Path) -> None:
    bucket.put_object(Bucket=servers.BUCKET, Key="in/a.csv", Body=TEXT)
    bucket.put_object(Bucket=servers.BUCKET, Key="in/b.csv", Body=b"id,k,n\n3,3,10\n")
    bucket.put_object(Bucket=servers.BUCKET, Key="in/_temporary/c.csv", Body=b"half")
    bucket.put_object(Bucket=servers.BUCKET, Key="inner.csv", Body=b"another")
    one = read(Snapshot(f"s3://{servers.BUCKET}/in/a.csv"), tmp_path)
    assert one.path.read_bytes() == TEXT
    assert one.version["sha256"] == hashlib.sha256(TEXT).hexdigest()
    assert one.version["etag"].strip('"') == hashlib.md5(TEXT, usedforsecurity=False).hexdigest()
    source = Snapshot(f"s3://{servers.BUCKET}/in/")
    whole = read(source, tmp_path)
    tables = pa.concat_tables([table for _, table in pieces(whole, declaration)])
    assert tables["id"].to_pylist() == [1, 2, 3]
    assert source.read(whole.version, tmp_path / "again", tmp_path) is None
    bucket.put_object(Bucket=servers.BUCKET, Key="in/b.csv", Body=b"id,k,n\n3,4,10\n")
    assert read(source, tmp_path).version != whole.version
    with pytest.raises(SourceUnavailable, match="NotFound"):
        read(Snapshot(f"s3://{servers.BUCKET}/in/none.csv"), tmp_path)


@pytest.mark.e2e
def test_an_object_that_is_replaced_while_it_is_read(
    bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put_object(Bucket=servers.BUCKET, Key="moving/a.csv", Body=TEXT)
    listed = places._listed

    def replaced(*given: Any) -> Any:
        found = listed(*given)
        bucket.put_object(Bucket=servers.BUCKET, Key="moving/a.csv", Body=TEXT + b"3,3,10\n")
        return found

    monkeypatch.setattr(places, "_listed", replaced)
    with pytest.raises(SourceUnavailable, match="Precondition"):
        read(Snapshot(f"s3://{servers.BUCKET}/moving/"), tmp_path)
