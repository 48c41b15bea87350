"""Gathering gathered: everything is read, nothing is executed, and no content can stop it."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lindley.batch.reading import load_batch
from lindley.errors import NameRefused, UnknownChain
from lindley.ledger.record import Artifact, canonical, digest, parse
from lindley.model.declaration import Declaration
from lindley.verification.gather import gather, verify_chain
from lindley.verification.verifier import verify
from tests.support.fakes import MemoryLedger, append, coins
from tests.support.forging import forge, record_of

NAME = "coins"


@pytest.fixture(scope="module")
def single(declaration: Declaration) -> MemoryLedger:
    """One link."""
    ledger = MemoryLedger()
    append(ledger, declaration, coins(declaration, 0))
    return ledger


class TestGathering:
    def test_everything_a_rule_looks_at_is_there(
        self, single: MemoryLedger, declaration: Declaration, tmp_path: Path
    ) -> None:
        found = gather(single, NAME)
        (item,) = found.versions
        record = record_of(single, NAME, 1)
        assert found.genesis is not None
        assert (found.name, found.genesis_digest, found.head_hint) == (NAME, digest(found.genesis), 1)
        assert found.registered_runs == (item.version.run_id,)
        assert item.record == canonical(record)
        assert item.artifacts == record["artifacts"]
        assert Artifact.RECORD not in item.artifacts
        assert (item.batch_digest, item.key_ranges) == (record["batch"]["digest"], {"id": ["int:0", "int:3"]})
        assert item.draws_digest == record["posterior"]["draws"]
        assert (item.source, item.modules) == (declaration.model_digest, {})
        assert item.matched is not None
        assert item.rematched is not None
        assert item.matched.digest == item.rematched.digest == record["posterior"]["matched"]
        assert item.run_tags is not None
        assert item.run_tags["lindley.record"] == item.version.record
        assert item.run_metrics is not None
        assert item.run_metrics["r_hat_max"] == record["metrics"]["r_hat_max"]
        path = single.download(item.version.run_id, tmp_path, Artifact.BATCH)
        assert item.batch == load_batch(path, declaration).table.replace_schema_metadata(
            pq.read_schema(path).metadata
        )

    def test_an_unknown_chain_is_said_to_be_unknown(self, single: MemoryLedger) -> None:
        with pytest.raises(UnknownChain, match="coins"):
            gather(single, "other")
        with pytest.raises(NameRefused):
            gather(single, "../coins")

    def test_a_changed_genesis_record_does_not_end_it(self, single: MemoryLedger) -> None:
        ledger = single.clone()
        stated = ledger.models[NAME].genesis
        ledger.runs[ledger.models[NAME].genesis_run].files["genesis.json"] = b"{}"
        found = gather(ledger, NAME)
        assert (found.genesis, found.genesis_digest) == (None, stated)
        assert {f.rule for f in verify(found).findings} == {"R01"}

    def test_a_missing_genesis_record_does_not_end_it(self, single: MemoryLedger) -> None:
        ledger = single.clone()
        ledger.runs[ledger.models[NAME].genesis_run].files.clear()
        assert "R01" in {f.rule for f in verify_chain(ledger, NAME).findings}


class TestHostileContent:
    def test_no_code_is_executed(self, single: MemoryLedger, tmp_path: Path) -> None:
        ledger = single.clone()
        trap = tmp_path / "executed"
        code = f"import pathlib\npathlib.Path({str(trap)!r}).touch()\nraise SystemExit(3)\n".encode()
        forge(ledger, NAME, 1, files={Artifact.MODEL: code, "belief/belief_model.py": code})
        assert {f.rule for f in verify_chain(ledger, NAME).findings} == {"R17"}
        assert not trap.exists()

    @pytest.mark.parametrize("path", [Artifact.BATCH, Artifact.TRACE, Artifact.MATCHED_PRIOR, Artifact.MODEL])
    @pytest.mark.parametrize(
        "garbage", [b"", b"\x00" * 64, b"PAR1\xff\xff\xff\x7fPAR1", b"\x89HDF\r\n\x1a\n\x02"]
    )
    def test_garbage_is_a_finding(self, single: MemoryLedger, path: str, garbage: bytes) -> None:
        ledger = single.clone()
        ledger.run_of(NAME, 1).files[path] = garbage
        report = verify_chain(ledger, NAME)
        assert next(f.rule for f in report.findings) == "R06"

    @pytest.mark.parametrize("path", [Artifact.BATCH, Artifact.TRACE, Artifact.MATCHED_PRIOR])
    def test_damage_anywhere_is_a_finding(self, single: MemoryLedger, path: str) -> None:
        """Whatever the readers make of damaged files, the verifier ends with findings."""
        rng = random.Random(7)
        intact = single.run_of(NAME, 1).files[path]
        for position in [*range(0, 24, 4), *(rng.randrange(len(intact)) for _ in range(14))]:
            ledger = single.clone()
            damaged = bytearray(intact)
            damaged[position : position + 8] = rng.randbytes(8)
            ledger.run_of(NAME, 1).files[path] = bytes(damaged)
            assert "R06" in {f.rule for f in verify_chain(ledger, NAME).findings}
        ledger = single.clone()
        ledger.run_of(NAME, 1).files[path] = intact[: len(intact) // 2]
        assert "R06" in {f.rule for f in verify_chain(ledger, NAME).findings}

    def test_a_matched_prior_with_other_blocks_is_a_finding(self, single: MemoryLedger) -> None:
        intact = single.run_of(NAME, 1).files[Artifact.MATCHED_PRIOR]
        assert intact.count(b'"theta"') == 1
        for text in (b'"th\xffta"', b'"theta,', b"[theta]", b" theta "):
            ledger = single.clone()
            files = {Artifact.MATCHED_PRIOR: intact.replace(b'"theta"', text)}
            forge(ledger, NAME, 1, files=files)
            assert {f.rule for f in verify_chain(ledger, NAME).findings} == {"R08"}, text

    def test_a_batch_without_its_key_is_a_finding(self, single: MemoryLedger) -> None:
        ledger = single.clone()
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pandas(pd.DataFrame({"x": [1.0, None]})), buffer)
        forge(ledger, NAME, 1, files={Artifact.BATCH: buffer.getvalue()})
        assert {f.rule for f in verify_chain(ledger, NAME).findings} == {"R07"}

    def test_files_named_like_paths_stay_where_they_are_read(self, single: MemoryLedger) -> None:
        """A belief's folder has names of every kind; each is compared by its whole path."""
        ledger = single.clone()
        ledger.run_of(NAME, 1).files |= {"belief/a b/ü.txt": b"", "belief/..png": b"x"}
        messages = [f.message for f in verify_chain(ledger, NAME).findings]
        assert messages == [
            "artifact belief/..png is not in the record",
            "artifact belief/a b/ü.txt is not in the record",
        ]

    def test_what_mlflow_writes_beside_a_belief_is_no_finding(self, single: MemoryLedger) -> None:
        ledger = single.clone()
        ledger.run_of(NAME, 1).files["belief/registered_model_meta"] = b"model_name: coins\n"
        assert verify_chain(ledger, NAME).findings == ()

    def test_an_import_has_no_batch(self, single: MemoryLedger) -> None:
        ledger = single.clone()
        del ledger.run_of(NAME, 1).files[Artifact.BATCH]
        forge(ledger, NAME, 1, lambda record: record.update(kind="import", batch=None))
        (item,) = gather(ledger, NAME).versions
        assert (item.batch, item.batch_digest, item.key_ranges) == (None, None, None)
        assert verify_chain(ledger, NAME).findings == ()

    def test_an_import_beside_which_a_batch_lies_is_a_finding(
        self, single: MemoryLedger, declaration: Declaration
    ) -> None:
        ledger = single.clone()
        append(ledger, declaration, coins(declaration, 10))
        forge(ledger, NAME, 1, lambda record: record.update(kind="import", batch=None))
        assert parse(ledger.run_of(NAME, 1).files[Artifact.RECORD])["batch"] is None
        assert "R10" in {f.rule for f in verify_chain(ledger, NAME).findings}
