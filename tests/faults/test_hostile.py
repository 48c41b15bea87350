"""Hostile input: bombs, markup, formulas, and secrets that must not be shown."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pymc as pm
import pytest
import xarray as xr

from lindley.addresses import public
from lindley.batch.batch import batch_from_frame
from lindley.batch.reading import read_batch
from lindley.errors import BatchRefused, KeyRefused, LedgerCorrupt, LedgerUnavailable
from lindley.inference import trace
from lindley.inference.diagnostics.gate import Gate
from lindley.ledger import bundle
from lindley.ledger.mlflow.failures import translated
from lindley.ledger.mlflow.store import MlflowLedger
from lindley.ledger.netcdf import read_matched_prior, read_trace
from lindley.ledger.record import Artifact
from lindley.ledger.signing import generate
from lindley.model.declaration import Declaration
from lindley.names import KEY_VARIABLE
from lindley.operations.audit import audit_table
from lindley.report.note import NotedLink, link_note
from lindley.verification.gather import verify_chain
from lindley.workspace import Workspace
from tests.support.fakes import MemoryLedger, append, coins
from tests.support.forging import forge

NAME, WORD = "coins", "hunter2-Zq9"
HEAD = 5  # of `coins_chain`
ROOT = Path(__file__).parents[2]

# -- bombs --------------------------------------------------------------------------------------------

#: Reads a file in a process that may not take more than 1 GiB beside what it has after importing.
_READER = """
import os, resource, sys
from pathlib import Path
from lindley.batch.reading import read_batch
from lindley.model.declaration import load_file
from lindley.errors import BatchRefused
declaration = load_file(Path(sys.argv[1]))
taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
resource.setrlimit(resource.RLIMIT_AS, (taken + 2**30, taken + 2**30))
for name in sys.argv[2:]:
    try:
        read_batch(Path(name), declaration)
        print(name, "was read")
    except BatchRefused as error:
        print("refused", str(error)[:150])
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def zeros(path: Path, rows: int, names: tuple[str, ...] = ("id", "k", "n")) -> Path:
    """Write a Parquet file of zeros: runs of one value, a few bytes each."""
    table = pa.table({name: np.zeros(rows, np.int64) for name in names})
    pq.write_table(table, path, compression="zstd", data_page_size=2**30, row_group_size=rows)
    return path


def test_bombs_are_refused_within_a_memory_limit(tmp_path: Path, declaration: Declaration) -> None:
    texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(200_000, np.int32)), ["9" * 100_000])
    pq.write_table(pa.table({"id": texts, "k": texts, "n": texts}), tmp_path / "texts.parquet")
    (tmp_path / "field.csv").write_text('id,k,n\n1,3,"' + "9" * 100_000_000 + '"\n')
    (tmp_path / "columns.csv").write_text(",".join(f"c{i}" for i in range(200_000)) + "\n1\n")
    (tmp_path / "zip.csv").write_bytes(b"PK\x03\x04" + b"\0" * 1000)
    (tmp_path / "gzip.csv").write_bytes(b"\x1f\x8b" + b"\0" * 1000)
    (tmp_path / "zstd.parquet").write_bytes(b"\x28\xb5\x2f\xfd" + b"\0" * 1000)
    zeros(tmp_path / "rows.parquet", 2**26)  # 1.6 GB when decoded
    zeros(tmp_path / "columns.parquet", 2**20, tuple(f"c{i}" for i in range(900)))  # 7.5 GB
    files = sorted(path for path in tmp_path.iterdir() if path.suffix in {".csv", ".parquet"})
    for bomb in ("rows.parquet", "columns.parquet", "texts.parquet"):
        assert (tmp_path / bomb).stat().st_size < 5_000_000  # GBs when decoded
    done = subprocess.run(
        [sys.executable, "-c", _READER, str(declaration.file), *map(str, files)],
        capture_output=True, text=True, timeout=600, check=False, cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    *lines, peak = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(lines) == len(files) == 8
    assert all(line.startswith("refused") for line in lines), lines
    assert int(peak.split()[1]) < 2 * 2**20  # in kB


def test_a_bomb_among_the_artifacts_is_a_finding(coins_chain: MemoryLedger, tmp_path: Path) -> None:
    """The verifier reads what any writer stored: it must neither crash nor run out of memory."""
    ledger = coins_chain.clone()
    zeros(tmp_path / "zeros.parquet", 2**20, tuple(f"c{i}" for i in range(900)))
    with h5py.File(tmp_path / "zeros.nc", "w") as file:
        for group in ("coordinates", "posterior"):
            file.create_dataset(f"{group}/u", (4, 10**10, 1), chunks=(1, 10**6, 1), dtype="f8")
    with h5py.File(tmp_path / "prior.nc", "w") as file:
        file.create_dataset("quadratic", (10**4, 10**4, 10**4), chunks=(1, 100, 100), dtype="f8")
    assert (tmp_path / "zeros.nc").stat().st_size < 100_000
    files = {
        Artifact.BATCH: (tmp_path / "zeros.parquet").read_bytes(),
        Artifact.TRACE: (tmp_path / "zeros.nc").read_bytes(),
        Artifact.MATCHED_PRIOR: (tmp_path / "prior.nc").read_bytes(),
        # Too deep for Python's parser, which says that it has no memory.
        Artifact.MODEL: b"-" * 200_000 + b"1",
    }
    forge(ledger, NAME, HEAD, files=files)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {(f.rule, f.version) for f in verify_chain(ledger, NAME).findings}
    assert {("R07", HEAD), ("R08", HEAD), ("R17", HEAD)} <= found
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # in kB: one GiB
    for read, name in ((read_trace, "zeros.nc"), (read_matched_prior, "prior.nc")):
        with pytest.raises(LedgerCorrupt):
            read(tmp_path / name)


# -- markup and formulas ------------------------------------------------------------------------------

MARKUP = "<img src=x onerror=alert(1)>"


@pytest.mark.parametrize("origin", [f"{MARKUP}.csv", "a](javascript:alert(1)).csv", "x\n# y\x1b[31m.csv"])
def test_a_hostile_file_name_is_only_text(declaration: Declaration, origin: str) -> None:
    ledger = MemoryLedger()
    append(ledger, declaration, coins(declaration, 0, origin=origin))
    run = ledger.run_of(NAME, 1)
    for note in (run.run.note, ledger.models[NAME].versions[1].description):
        assert MARKUP not in note
        assert "](javascript" not in outside_code(note)
        assert "\x1b" not in note
        assert "\n# y" not in note
    assert verify_chain(ledger, NAME).ok


GRAPH: Any = SimpleNamespace(
    free=(SimpleNamespace(name="beta", rv=pm.Normal.dist()),),
    coordinates=SimpleNamespace(variables=("beta",)),
)


def outside_code(note: str) -> str:
    """Return Markdown without its code spans, in which everything is literal."""
    return re.sub(r"`[^`]*`", "", note)


def labelled(label: str) -> xr.DataTree:
    """Return a trace of a variable whose only label comes from data."""
    u = np.random.default_rng(1).normal(size=(4, 100, 1))
    posterior = xr.Dataset(
        {"beta": (("chain", "draw", "place"), u)}, coords={"place": np.array([label], dtype=object)}
    )
    return xr.DataTree.from_dict(
        {"posterior": posterior, "coordinates": xr.Dataset({"u": (("c", "d", "x"), u)})}
    )


FORMULAS = [
    "=1+1",
    "+1",
    "-1+1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    '"=1',
    "x,=1",
    "\n=1+1,",
    '",=HYPERLINK("http://x")',
]


@pytest.mark.parametrize("label", FORMULAS)
def test_no_cell_of_an_exported_table_begins_a_formula(label: str, tmp_path: Path) -> None:
    """A label stands in brackets behind the variable's name, and quotes keep it one cell."""
    table = trace.summary(labelled(label), GRAPH)
    for name, exported in (
        (Artifact.SUMMARY, table),
        (Artifact.AUDIT, audit_table(table, table)),
    ):
        path = tmp_path / name
        bundle.write_csv(exported, path)
        with path.open(newline="") as file:
            header, *rows = list(csv.reader(file))
        assert len(rows) == 1
        assert len(rows[0]) == len(header)
        assert rows[0][0] == f"beta[{label}]"
        for cell in (*header, *rows[0]):
            assert not cell.startswith(("=", "+", "@", "\t", "\r", "\n")), cell
            if cell.startswith("-"):
                float(cell)
        assert list(pd.read_csv(path, index_col="parameter").index) == [f"beta[{label}]"]


@pytest.mark.parametrize("label", [MARKUP, "</td><script>x</script>", "a|b`c", "[x](javascript:1)"])
def test_a_hostile_label_is_only_text_in_a_note(label: str) -> None:
    summary = trace.summary(labelled(label), GRAPH)
    note = link_note(summary, NotedLink(chain=NAME, kind="update"), Gate(passed=True))
    assert "<" not in note
    assert "](javascript" not in outside_code(note)


def test_hostile_values_of_cells_are_refused_with_a_short_sentence(
    tmp_path: Path, declaration: Declaration
) -> None:
    for value in (MARKUP, "=cmd|' /C calc'!A0", "9" * 10_000, "\x1b[2J", "1e400"):
        path = tmp_path / "a.csv"
        text = io.StringIO()
        csv.writer(text).writerows([["id", "k", "n"], [1, value, 10]])
        path.write_text(text.getvalue())
        with pytest.raises(BatchRefused) as caught:
            read_batch(path, declaration)
        assert len(str(caught.value)) < 1000
        assert "\x1b" not in str(caught.value)
    with pytest.raises(BatchRefused):
        batch_from_frame(pd.DataFrame({"id": [1], "k": [MARKUP], "n": [10]}), declaration)


# -- secrets ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("to http://alice:hunter2@host:5000/api failed", "to http://host:5000/api failed"),
        ("postgresql+psycopg2://a:p@ss@host/db?x=1", "postgresql+psycopg2://host/db?x=1"),
        ("'https://token@host'", "'https://host'"),
        ("http://host/a@b and user@example.org", "http://host/a@b and user@example.org"),
        ("sqlite:////tmp/a@b/mlflow.db", "sqlite:////tmp/a@b/mlflow.db"),
    ],
)
def test_addresses_are_shown_without_user_and_password(text: str, shown: str) -> None:
    assert public(text) == shown


def test_an_error_and_its_causes_hold_no_password() -> None:
    import traceback

    with pytest.raises(LedgerUnavailable) as caught, translated("try"):
        raise OSError(f"API request to http://alice:{WORD}@host/api failed")
    assert WORD not in "".join(traceback.format_exception(caught.value))
    workspace = Workspace(*[Path()] * 5, tracking_uri=f"http://alice:{WORD}@host")
    assert WORD not in repr(workspace)


def test_no_command_shows_the_password_of_a_server_that_is_down(
    tmp_path: Path, declaration: Declaration
) -> None:
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "LINDLEY_HOME": str(tmp_path),
        "LINDLEY_MODELS": str(declaration.file.parent),
        "MLFLOW_TRACKING_URI": f"http://alice:{WORD}@127.0.0.1:9",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "LINDLEY_SIGNING_KEY": "",
    }
    (tmp_path / "a.csv").write_text("id,k,n\n1,3,10\n")
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "update", NAME, str(tmp_path / "a.csv"), "--direct", "--json"],
        capture_output=True, text=True, timeout=600, check=False, env=environment, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "127.0.0.1:9" in done.stderr
    assert WORD not in done.stdout + done.stderr
    assert not any(WORD.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_no_secret_of_the_environment_is_in_a_ledger(
    tmp_path: Path, declaration: Declaration, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, root = tmp_path / "keys", tmp_path / "ledger"
    generate(keys / "key.pem")
    secret = (keys / "key.pem").read_text().splitlines()[1]
    monkeypatch.setenv(KEY_VARIABLE, (keys / "key.pem").read_text())
    monkeypatch.setenv("LINDLEY_MLFLOW_UI", f"http://alice:{WORD}@mlflow.example.org")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", WORD)
    root.mkdir()
    ledger = MlflowLedger(f"sqlite:///{root / 'mlflow.db'}", root)
    monkeypatch.setattr(
        MlflowLedger, "package", lambda self, folder, *_: (folder / "belief").mkdir()
    )  # the servable model takes seconds and holds draws and code
    registered = append(ledger, declaration, coins(declaration, 0))
    assert registered.run_url.startswith("http://mlflow.example.org/#/")
    assert verify_chain(ledger, NAME).ok
    stored = [path for path in root.rglob("*") if path.is_file()]
    assert any(path.name == Artifact.SIGNATURE for path in stored)
    for path in stored:
        data = path.read_bytes()
        assert WORD.encode() not in data, path
        assert secret.encode() not in data, path


def test_a_bad_key_claims_no_chain(declaration: Declaration, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = MemoryLedger()
    monkeypatch.setenv(KEY_VARIABLE, json.dumps({"key": WORD}))
    with pytest.raises(KeyRefused) as caught:
        append(ledger, declaration, coins(declaration, 0))
    assert WORD not in str(caught.value)
    assert (ledger.models, ledger.runs) == ({}, {})
