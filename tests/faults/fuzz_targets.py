"""What `tests.faults.fuzz` gives hostile bytes to: per target a strategy of inputs, and what reads one."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

_TOKENS = (
    b"", b"\0", b'"', b",", b"\n", b"\r\n", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"PAR1", b"ARROW1",
    b"NaN", b"-0", b"1e999", b"9" * 40, b"=1+1", b"\\ud800", b"[" * 2000, b'{"a":' * 500, b"\x7f" * 9,
    b"null", b"true", b"\xff\xff\xff\x7f", b"\x80\x80\x80\x80\x08", b"a" * 70_000,
)  # fmt: skip


# -- mutations ----------------------------------------------------------------------------------------


def mutated(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """Valid bytes, changed in a few places."""
    place = st.integers(0, 2**16 - 1)
    change = st.one_of(
        st.tuples(st.just("flip"), place, st.integers(0, 7)),
        st.tuples(st.just("byte"), place, st.integers(0, 255)),
        st.tuples(st.just("cut"), place, st.integers(1, 64)),
        st.tuples(st.just("twice"), place, st.integers(1, 64)),
        st.tuples(st.just("insert"), place, st.integers(0, len(_TOKENS) - 1)),
        st.tuples(st.just("end"), place, st.just(0)),
        st.tuples(st.just("splice"), place, st.integers(0, len(seeds) - 1)),
    )
    changes = st.lists(change, min_size=1, max_size=6)
    return st.builds(lambda data, done: _changed(data, done, seeds), st.sampled_from(seeds), changes)


def _changed(data: bytes, changes: list[tuple[str, int, int]], seeds: list[bytes]) -> bytes:
    for kind, place, value in changes:
        at = place * (len(data) + 1) >> 16
        head, tail = data[:at], data[at:]
        if kind == "flip" and tail:
            data = head + bytes([tail[0] ^ (1 << value)]) + tail[1:]
        elif kind == "byte" and tail:
            data = head + bytes([value]) + tail[1:]
        elif kind == "cut":
            data = head + tail[value:]
        elif kind == "twice":
            data = head + tail[:value] + tail
        elif kind == "insert":
            data = head + _TOKENS[value] + tail
        elif kind == "end":
            data = head
        elif kind == "splice":
            data = head + seeds[value][at:]
    return data


#: Values that no writer produces.
_TEXT = st.sampled_from(
    ["", "x", "..", "../a", "a/b", "-", "=1+1", "<b>", "\0", "\n", "\ud800", "é" * 99, "x" * 5000, "*", "id"]
) | st.text(max_size=6)
_LEAF = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(width=64)
    | _TEXT
    | st.sampled_from(["f" * 64, 0, -1, 2**53, 1e308, [], {}])
)
_VALUE = st.recursive(
    _LEAF, lambda item: st.lists(item, max_size=3) | st.dictionaries(_TEXT, item, max_size=3), max_leaves=6
)


# -- targets ------------------------------------------------------------------------------------------


def _declaration() -> Any:
    from tests.support.fakes import declare

    return declare(Path(tempfile.mkdtemp(prefix="lindley-fuzz-")))


def _table() -> Any:
    import pyarrow as pa

    return pa.table({"id": list(range(40)), "k": [3] * 40, "n": pa.array([10] * 40, pa.int32())})


def _files(extension: str, seeds: list[bytes]) -> tuple[st.SearchStrategy[Any], Callable[[Any], None]]:
    """Bytes of files that become batches of the chain ``coins``."""
    from lindley.batch.reading import read_batch

    declaration = _declaration()
    path = Path(tempfile.mkdtemp(prefix="lindley-fuzz-")) / f"batch{extension}"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        assert len(read_batch(path, declaration).digest) == 64

    return mutated(seeds), read


def csv() -> tuple[st.SearchStrategy[Any], Callable[[Any], None]]:
    """CSV files."""
    rows = "".join(f"{i},{i % 5},10\r\n" for i in range(30))
    seeds = [f"id,k,n\r\n{rows}", 'n,"k",id\n10,"3",1\n\n10,"4","2"\n', "\ufeffid,k,n\n1,,\n"]
    return _files(".csv", [text.encode() for text in seeds])


def parquet() -> tuple[st.SearchStrategy[Any], Callable[[Any], None]]:
    """Parquet files, plain and compressed, with and without dictionaries and checksums."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    seeds = []
    for options in (
        {"compression": "none", "use_dictionary": False},
        {"compression": "zstd", "write_page_checksum": True},
        {"compression": "snappy", "data_page_version": "2.0", "row_group_size": 9},
        {"compression": "gzip", "version": "1.0"},
    ):
        buffer = pa.BufferOutputStream()
        pq.write_table(_table(), buffer, **options)
        seeds.append(buffer.getvalue().to_pybytes())
    return _files(".parquet", seeds)


def arrow() -> tuple[st.SearchStrategy[Any], Callable[[Any], None]]:
    """Arrow files and streams under the name of a Parquet file: no format of batches."""
    import pyarrow as pa

    seeds = []
    for make in (pa.ipc.new_file, pa.ipc.new_stream):
        buffer = pa.BufferOutputStream()
        with make(buffer, _table().schema) as writer:
            writer.write_table(_table())
        seeds.append(buffer.getvalue().to_pybytes())
    return _files(".parquet", [*seeds, b"PAR1" + seeds[0] + b"PAR1"])


def _chain() -> tuple[Any, Any]:
    from tests.support.fakes import MemoryLedger, append, coins

    ledger, declaration = MemoryLedger(), _declaration()
    for start in (0, 10):
        append(ledger, declaration, coins(declaration, start))
    return ledger, declaration


def records() -> tuple[st.SearchStrategy[Any], Callable[[Any], None]]:
    """Bytes of records of all kinds, and tags of versions."""
    from lindley.ledger.chain import read_version, version_tags, walk
    from lindley.ledger.record import parse

    ledger, _ = _chain()
    seeds = [ledger.run_of("coins", number).files["record.json"] for number in (1, 2)]
    seeds.append(ledger.genesis("coins"))
    names = list(ledger.models["coins"].versions[2].tags)

    def read(data: bytes) -> None:
        text = data.decode("utf-8", "surrogateescape")[:400]
        walk("", [read_version(1, "run", "", dict.fromkeys(names, text))])
        record = parse(data)
        if record["kind"] != "genesis":
            read_version(1, "run", "", version_tags(record, "0" * 64))

    return mutated(seeds), read


def rules() -> tuple[st.SearchStrategy[Any], Callable[[Any], None]]:
    """Records whose digests are right and whose values are anything, held against every rule."""
    import dataclasses

    from lindley.ledger.chain import version_tags
    from lindley.ledger.record import canonical, digest, parse
    from lindley.verification.gather import gather
    from lindley.verification.verifier import verify
    from tests.support.forging import each_leaf, replaced

    ledger, _ = _chain()
    chain = gather(ledger, "coins")
    first, second = chain.versions
    record = parse(second.record)
    paths = [path[:length] for path, _ in each_leaf(record) for length in range(1, len(path) + 1)]
    edits = st.lists(st.tuples(st.sampled_from(sorted(set(paths), key=repr)), _VALUE), min_size=1, max_size=3)

    def read(changes: list[tuple[tuple[str | int, ...], Any]]) -> None:
        changed = record
        for path, value in changes:
            try:
                changed = replaced(changed, path, value)
            except (LookupError, TypeError):
                continue
        try:
            data = canonical(changed)
        except (ValueError, RecursionError):
            data = json.dumps(changed).encode()
        parse(data)
        if changed == record:
            return
        version = dataclasses.replace(
            second.version, record=digest(data), tags=version_tags(changed, digest(data))
        )
        gathered = dataclasses.replace(second, record=data, version=version)
        assert verify(dataclasses.replace(chain, versions=(first, gathered))).findings

    return edits, read


def declarations() -> tuple[st.SearchStrategy[Any], Callable[[Any], None]]:
    """Model files with any values in their declaration, and a batch read by what they declare."""
    from lindley.batch.reading import read_batch
    from lindley.model.declaration import load_file

    folder = Path(tempfile.mkdtemp(prefix="lindley-fuzz-"))
    batch = folder / "batch.csv"
    batch.write_text("id,k,n\n1,3,10\n2,4,10\n")
    good = {
        "name": "coins", "row_key": ("id",), "observed": ("k",), "carried": ("theta",), "carry": {},
        "potentials": {}, "order_by": None, "constants": None, "context": 0, "description": "",
    }  # fmt: skip
    policy = {
        "family": "auto", "replay": 12, "rebase_every": None, "rebase_at_budget": None,
        "rebase_at_drift": None, "rebase_rows": 100_000, "refit_rows": 5000, "robust": 0.0,
        "conflict": "warn", "forget": {}, "sampler": "nuts",
    }  # fmt: skip
    columns = st.lists(st.tuples(_TEXT, st.sampled_from(["int64", "string", "float64", "list_", "nothing"])))
    schema = st.just("[('id', pa.int64()), ('k', pa.int64()), ('n', pa.int64())]") | columns.map(
        lambda pairs: "[" + ", ".join(f"({name!r}, pa.{kind}())" for name, kind in pairs) + "]"
    )
    hostile = _VALUE | st.lists(_TEXT, max_size=3).map(tuple)
    parts = st.tuples(
        st.dictionaries(st.sampled_from(sorted(good)), hostile, max_size=3),
        st.dictionaries(st.sampled_from(sorted(policy)), hostile, max_size=2),
        schema,
    )
    path = folder / "coins.py"

    def read(given: tuple[dict[str, Any], dict[str, Any], str]) -> None:
        fields = ", ".join(f"{name}={value!r}" for name, value in (good | given[0]).items())
        policies = ", ".join(f"{name}={value!r}" for name, value in (policy | given[1]).items())
        text = (
            "import pyarrow as pa\nfrom lindley import Declaration\nfrom lindley import Policy\n"
            "inf, nan = float('inf'), float('nan')\n\ndef build(batch):\n    raise AssertionError\n\n"
            f"declaration = Declaration(build=build, schema=pa.schema({given[2]}), {fields}, "
            f"policy=Policy({policies}))\n"
        )
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        declaration = load_file(path)
        assert len(declaration.model_digest) == 64
        read_batch(batch, declaration)

    return parts, read


def envelopes() -> tuple[st.SearchStrategy[Any], Callable[[Any], None]]:
    """Signatures and witnesses."""
    from lindley.ledger import signing
    from lindley.names import KEY_VARIABLE
    from lindley.verification import signature_rules, signatures
    from lindley.verification.gather import verify_chain

    folder = Path(tempfile.mkdtemp(prefix="lindley-fuzz-"))
    signing.generate(folder / "key")
    signer = signing.signer_from_environment({KEY_VARIABLE: str(folder / "key")})
    keys = [signing.public_key(folder / "key.pub")]
    ledger, _ = _chain()
    report = verify_chain(ledger, "coins")
    heads = [signatures.head_of(ledger, "coins", each) for each in (None, signer)]
    link = signing.link_statement(
        chain="coins", link=1, record="a" * 64, kind="update", previous="b", batch=""
    )

    def read(data: bytes) -> None:
        signing.opened(data, keys)
        signature_rules.with_witness(report, data, keys)

    return mutated([*heads, signing.sealed(link, signer)]), read


#: Targets with their share of the inputs.
TARGETS: dict[str, tuple[Callable[[], Any], int]] = {
    "csv": (csv, 4),
    "parquet": (parquet, 5),
    "arrow": (arrow, 2),
    "records": (records, 4),
    "rules": (rules, 2),
    "declarations": (declarations, 2),
    "envelopes": (envelopes, 2),
}
