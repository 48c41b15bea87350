"""Predictions for files: block by block the same rows, the belief named, nothing overwritten."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from flows.cli import serve as command
from flows.cli.__main__ import app
from flows.live import prediction_files
from flows.live.prediction_files import predict_file
from lindley.errors import BatchRefused, BatchUnreadable, LindleyError
from lindley.ledger.history import Link, find_link
from lindley.model.declaration import Declaration
from tests.support import fakes


@pytest.fixture(scope="module")
def ledger(declaration: Declaration) -> fakes.MemoryLedger:
    made = fakes.MemoryLedger()
    fakes.append(made, declaration, fakes.coins(declaration, 0))
    return made


@pytest.fixture(scope="module")
def link(ledger: fakes.MemoryLedger) -> Link:
    return find_link(ledger, "coins")


@pytest.fixture
def rows() -> pd.DataFrame:
    return pd.DataFrame({"id": np.arange(25), "n": 10 ** (1 + np.arange(25) % 3)})


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".parquet"])
def test_a_file_is_predicted_block_by_block(
    ending: str, link: Link, rows: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction_files, "BLOCK_ROWS", 10)
    source, target = tmp_path / f"rows{ending}", tmp_path / "new" / "found.parquet"
    rows.to_parquet(source) if ending == ".parquet" else rows.to_csv(source, index=False)
    stated = predict_file(link, source, target, seed=3)
    found = pq.read_table(target)
    assert stated["rows"] == 25
    held = json.loads(found.schema.metadata[b"lindley"])
    assert (held["chain"], held["link"], held["record"]) == ("coins", 1, link.view.record_digest)
    assert held["seed"] == 3
    frame = found.to_pandas()
    assert frame["row"].tolist() == list(range(25))
    assert frame["id"].astype(int).tolist() == list(range(25))
    pd.testing.assert_frame_equal(
        frame.loc[:9, ["mean", "sd", "q05", "q95"]],
        link.predict(rows.head(10), seed=3)[["mean", "sd", "q05", "q95"]],
        check_exact=True,
    )
    assert (frame["mean"] / rows["n"]).between(0.2, 0.5).all()
    # Blocks do not repeat one another's draws.
    equal = rows["n"] == 10
    assert frame.loc[equal, "mean"].nunique() > 3
    assert [path.name for path in target.parent.iterdir()] == ["found.parquet"]


@pytest.mark.parametrize(
    ("name", "text", "out", "words", "kind"),
    [
        ("rows.csv", "n\n10.5\n", "out.parquet", "'10.5' in row 1", BatchRefused),
        ("rows.csv", "n\n", "out.parquet", "no rows", BatchRefused),
        ("rows.csv", "", "out.parquet", "cannot be read", BatchUnreadable),
        ("rows.parquet", "none", "out.parquet", "cannot be read", BatchUnreadable),
        ("rows.xlsx", "none", "out.parquet", "ends in .parquet, .csv", BatchUnreadable),
        ("rows.csv", "n\n10\n", "out.csv", "new file that ends in .parquet", LindleyError),
        ("rows.csv", "n\n10\n", "there.parquet", "exists", LindleyError),
    ],
)
def test_what_cannot_be_predicted_or_written_leaves_nothing(
    name: str, text: str, out: str, words: str, kind: type[LindleyError], link: Link, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    (tmp_path / "there.parquet").write_text("held")
    with pytest.raises(kind, match=words):
        predict_file(link, tmp_path / name, tmp_path / out)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "there.parquet"])
    assert (tmp_path / "there.parquet").read_text() == "held"


def test_a_refused_row_is_named_by_its_block(
    link: Link, rows: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction_files, "BLOCK_ROWS", 10)
    rows.loc[12, "n"] = -1
    rows.to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(BatchRefused, match=r"after the first 10: .*n < 0"):
        predict_file(link, tmp_path / "rows.csv", tmp_path / "found.parquet")


def test_the_command_says_what_it_wrote(
    ledger: fakes.MemoryLedger, rows: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "open_here", lambda: ledger)
    rows.to_csv(tmp_path / "rows.csv", index=False)
    arguments = ["predict", "coins", str(tmp_path / "rows.csv"), "--out", str(tmp_path / "found.parquet")]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["rows"] == 25
    assert CliRunner().invoke(app, arguments).exit_code == 2
