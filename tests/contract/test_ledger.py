"""What every ledger promises (`lindley.ledger.protocol`), held against every backend alike."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lindley.errors import LedgerCorrupt
from lindley.ledger.protocol import Ledger, Run
from lindley.ledger.record import canonical
from tests.contract.chains import GENESIS, HOSTILE, tags_of
from tests.contract.conftest import Backend

NAMES = [
    "beta[x1]",
    "beta.x1",
    "beta[x1",
    "beta[x, 1]",
    "beta[x,1]",
    "beta[x.1]",
    "beta[x][1]",
    "beta x1",
    "beta/x1",
    "beta//x1",
    "beta/x1/",
    "beta/./x1",
    "beta[a/../b]",
    "beta[]",
    "beta",
    "/beta",
    ".",
    "..",
    " ",
    "ß²",
    "中文[省, 市]",
    "a" * 250,
    "a" * 251,
    "a" * 252,
    "a" * 300 + "b",
    "a" * 300 + "c",
    "$\\beta_1$",
    "<b>",
    "line\nbreak",
    "x\u0301",
]


def _files(folder: Path) -> dict[str, bytes]:
    """Write files as a link has them; return their bytes by path."""
    files = {
        "record.json": b'{"a":1}',
        "belief/MLmodel": "ä: 1\n".encode(),
        "belief/artifacts/draws.nc": bytes(range(256)) * 50,
        "plots/prior posterior.png": b"\x89PNG\r\n\x1a\n\x00",
        "empty.txt": b"",
    }
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return files


def _read(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


class TestChains:
    def test_an_unknown_chain_is_none(self, ledger: Ledger, chain: str) -> None:
        assert ledger.genesis(chain) is None
        assert ledger.versions(chain) == []
        assert ledger.dead_runs(chain) == []
        assert chain not in ledger.chains()

    def test_a_claimed_chain_returns_its_genesis_record_byte_for_byte(
        self, backend: Backend, chain: str
    ) -> None:
        assert backend.ledger.claim(chain, GENESIS, "what it is") == GENESIS
        assert backend.again().genesis(chain) == GENESIS
        assert backend.ledger.versions(chain) == []
        assert backend.ledger.head_hint(chain) is None
        assert backend.ledger.dead_runs(chain) == []

    def test_a_second_claim_returns_the_first_genesis(self, ledger: Ledger, chain: str) -> None:
        other = canonical({"not": "the first"})
        ledger.claim(chain, GENESIS, "")
        assert ledger.claim(chain, other, "") == GENESIS
        assert ledger.genesis(chain) == GENESIS

    def test_of_claims_at_once_one_wins_and_all_agree(self, ledger: Ledger, chain: str) -> None:
        barrier = threading.Barrier(4)

        def claim(number: int) -> bytes:
            barrier.wait(60)
            return ledger.claim(chain, canonical({"writer": number}), "")

        with ThreadPoolExecutor(4) as threads:
            held = set(threads.map(claim, range(4)))
        assert held == {ledger.genesis(chain)}

    def test_the_place_of_a_chain_s_runs_is_there_with_the_first_of_them(
        self, backend: Backend, chain: str
    ) -> None:
        assert backend.ledger.home(chain) is None
        run_id = backend.ledger.open_run(chain, Run(name="run"))
        home, state = backend.again().home(chain), backend.again().run_state(run_id)
        assert home is not None
        assert state is not None
        assert (home.deleted, state.deleted) == (False, False)

    def test_chains_are_listed_in_order(self, ledger: Ledger, chain: str) -> None:
        names = [f"{chain}-{suffix}" for suffix in ("b", "a", "c")]
        for name in names:
            ledger.claim(name, GENESIS, "")
        assert [name for name in ledger.chains() if name.startswith(f"{chain}-")] == sorted(names)


class TestArtifacts:
    def test_what_was_stored_comes_back(self, backend: Backend, chain: str, tmp_path: Path) -> None:
        ledger, source, target = backend.ledger, tmp_path / "source", tmp_path / "target"
        source.mkdir()
        target.mkdir()
        files = _files(source)
        run_id = ledger.open_run(chain, Run(name="link"))
        ledger.upload(run_id, source)
        backend.again().download(run_id, target)
        assert _read(target) == files
        assert ledger.artifacts(run_id) == {name: len(data) for name, data in files.items()}

    @pytest.mark.parametrize("path", ["record.json", "belief/artifacts/draws.nc", "empty.txt"])
    def test_one_artifact_comes_alone(self, ledger: Ledger, chain: str, tmp_path: Path, path: str) -> None:
        source, target = tmp_path / "source", tmp_path / "target"
        source.mkdir()
        target.mkdir()
        files = _files(source)
        run_id = ledger.open_run(chain, Run(name="link"))
        ledger.upload(run_id, source)
        found = ledger.download(run_id, target, path)
        assert found == target / path
        assert _read(target) == {path: files[path]}

    def test_a_missing_artifact_is_corruption(self, ledger: Ledger, chain: str, tmp_path: Path) -> None:
        source = tmp_path / "source"
        source.mkdir()
        _files(source)
        run_id = ledger.open_run(chain, Run(name="link"))
        ledger.upload(run_id, source)
        for path in ("summary.csv", "belief/none", "none/none"):
            with pytest.raises(LedgerCorrupt, match="missing"):
                ledger.download(run_id, tmp_path / "target", path)

    def test_artifacts_of_an_unknown_run_are_corruption(self, ledger: Ledger, tmp_path: Path) -> None:
        with pytest.raises(LedgerCorrupt):
            ledger.download("f" * 32, tmp_path)
        with pytest.raises(LedgerCorrupt):
            ledger.download("f" * 32, tmp_path, "record.json")


class TestRuns:
    def test_a_run_is_running_until_it_is_closed(self, backend: Backend, chain: str) -> None:
        ledger = backend.ledger
        run_id = ledger.open_run(chain, Run(name="link", tags={"lindley.kind": "update"}, metrics={"m": 0.1}))
        state = backend.again().run_state(run_id)
        assert state is not None
        assert (state.status, state.tags["lindley.kind"], state.metrics) == ("running", "update", {"m": 0.1})
        ledger.close_run(run_id, "finished", "accepted")
        state = ledger.run_state(run_id)
        assert state is not None
        assert (state.status, state.tags["lindley.state"]) == ("finished", "accepted")
        assert state.tags["lindley.kind"] == "update"

    def test_a_run_can_end_without_a_state_and_again_with_one(self, ledger: Ledger, chain: str) -> None:
        run_id = ledger.open_run(chain, Run(name="link"))
        ledger.close_run(run_id, "finished")
        state = ledger.run_state(run_id)
        assert state is not None
        assert state.status == "finished"
        assert "lindley.state" not in state.tags
        ledger.close_run(run_id, "killed", "abandoned")
        state = ledger.run_state(run_id)
        assert state is not None
        assert (state.status, state.tags["lindley.state"]) == ("killed", "abandoned")

    def test_nothing_is_printed(
        self, ledger: Ledger, chain: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        ledger.claim(chain, GENESIS, "")
        run_id = ledger.open_run(chain, Run(name="link", note="note"))
        _files(tmp_path)
        ledger.upload(run_id, tmp_path)
        ledger.register(chain, run_id, tags_of("a" * 64, "b" * 64), "")
        ledger.close_run(run_id, "finished", "accepted")
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize("run_id", ["f" * 32, "nope", "no/such run", "'"])
    def test_an_unknown_run_is_none(self, ledger: Ledger, run_id: str) -> None:
        assert ledger.run_state(run_id) is None

    def test_only_runs_of_dead_processes_are_dead(self, backend: Backend, chain: str) -> None:
        ledger = backend.ledger
        mine = ledger.open_run(chain, Run(name="alive"))
        killed = backend.killed_run(chain)
        assert ledger.dead_runs(chain) == [killed]
        ledger.close_run(killed, "killed", "abandoned")
        assert ledger.dead_runs(chain) == []
        state = ledger.run_state(mine)
        assert state is not None
        assert state.status == "running"

    @pytest.mark.parametrize("text", HOSTILE)
    def test_tags_keep_hostile_text(self, ledger: Ledger, chain: str, text: str) -> None:
        frame = pd.DataFrame({"id": [1, 2], "name": [text, "b"], "x": [0.5, np.nan]})
        run = Run(
            name=text,
            params={f"prior/{text}": text},
            metrics={f"mean/{text}": 1.5},
            tags={"lindley.origin": text},
            note=text,
            frame=frame,
            batch_digest="ab" * 32,
            origin=text,
        )
        state = ledger.run_state(ledger.open_run(chain, run))
        assert state is not None
        assert state.tags["lindley.origin"] == text
        assert list(state.metrics.values()) == [1.5]

    def test_long_values_do_not_stop_a_run(self, ledger: Ledger, chain: str) -> None:
        long = "ä" * 9000
        run = Run(
            name=long, params={"p": long}, tags={"lindley.origin": long}, note=long, origin=long,
            frame=pd.DataFrame({"id": [1]}), batch_digest="ab" * 32,
        )  # fmt: skip
        state = ledger.run_state(ledger.open_run(chain, run))
        assert state is not None
        assert long.startswith(state.tags["lindley.origin"])
        assert len(state.tags["lindley.origin"]) >= 4000

    def test_long_descriptions_do_not_stop_a_link(self, ledger: Ledger, chain: str) -> None:
        ledger.claim(chain, GENESIS, "ä" * 9000)
        run_id = ledger.open_run(chain, Run(name="link"))
        assert ledger.register(chain, run_id, tags_of("a" * 64, "b" * 64), "ä" * 9000) == 1

    def test_different_names_stay_different(self, ledger: Ledger, chain: str) -> None:
        run = Run(
            name="names",
            params={name: f"p{i}" for i, name in enumerate(NAMES)},
            metrics={name: float(i) for i, name in enumerate(NAMES)},
        )
        state = ledger.run_state(ledger.open_run(chain, run))
        assert state is not None
        assert sorted(state.metrics.values()) == [float(i) for i in range(len(NAMES))]

    def test_any_number_of_parameters_and_metrics(self, ledger: Ledger, chain: str) -> None:
        params = {f"prior/beta[{i}]": f"mean={i}" for i in range(230)}
        metrics = {f"mean/beta[{i}]": float(i) for i in range(1100)}
        state = ledger.run_state(ledger.open_run(chain, Run(name="large", params=params, metrics=metrics)))
        assert state is not None
        assert sorted(state.metrics.values()) == [float(i) for i in range(1100)]

    def test_figures_keep_full_precision(self, ledger: Ledger, chain: str) -> None:
        metrics = {"third": 1 / 3, "tiny": 1e-300, "large": -1.7e308, "zero": 0.0}
        state = ledger.run_state(ledger.open_run(chain, Run(name="metrics", metrics=metrics)))
        assert state is not None
        assert dict(state.metrics) == metrics
