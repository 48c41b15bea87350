"""The speed benchmark's page and command, the processes that it starts, and scenarios that fail."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.speed import article, first_hour, measure, orchestration, page, run, streams, targets
from benchmarks.speed.measure import Row
from benchmarks.speed.posterior import Reference
from lindley.batch.reading import read_batch
from lindley.model.declaration import load_declaration
from tests.benchmarks.test_speed import NAN, row

RAN = page.Ran("2026-01-02", "finished", 3.2, "make", "a machine", "Python 3")


class TestPage:
    def test_only_the_text_between_the_marks_is_written(self, tmp_path: Path) -> None:
        path = tmp_path / "performance.md"
        path.write_text(f"before\n\n{page.BEGIN}\nstale\n{page.END}\n\nafter\n")
        rows = [row(), row(link=3, seconds=2.0), row("pymc_rebuilt", 2, 8.0), row("pymc_rebuilt", 3, 24.0)]
        page.write_page(path, rows, {"warm": RAN})
        text = path.read_text()
        assert text.startswith(f"before\n\n{page.BEGIN}\n")
        assert text.endswith(f"{page.END}\n\nafter\n")
        assert "stale" not in text
        assert "| lindley | warm | 2 to 3 | 1.5 | 3 | 1,000 | 3 | - | yes |" in text
        assert "| pymc_rebuilt | warm | 2 to 3 | 16 | 32 | 1,000 | 32 | 10 | yes |" in text
        assert "10.0 times | met |" in text
        assert "| warm | 2026-01-02 | finished | 3 | `make` |" in text
        assert "Machine: a machine." in text
        assert "Not run: cold, first_hour, growth, orchestration, sir_article, hierarchical." in text
        page.write_page(path, rows, {"warm": RAN})
        assert path.read_text() == text

    @pytest.mark.parametrize("text", ["", page.BEGIN, f"{page.END}{page.BEGIN}", 2 * (page.BEGIN + page.END)])
    def test_a_page_without_the_marks_is_refused(self, text: str, tmp_path: Path) -> None:
        path = tmp_path / "performance.md"
        path.write_text(text)
        with pytest.raises(ValueError, match=r"performance\.md does not hold"):
            page.write_page(path, [], {})
        assert path.read_text() == text

    def test_the_page_reports_unfinished_scenarios_and_quoted_rows(self) -> None:
        quoted = row("pymc3_article", 1, scenario="sir_article", process="quoted", seconds=NAN)
        late = replace(RAN, outcome="not done in time", machine="another")
        text = page.body([row(), quoted, row("x", gate="refused")], {"warm": late, "cold": RAN})
        assert "**Not finished: not done in time.**" in text
        assert "quoted, not measured here" in text
        assert "| x | warm | 2 to 2 | 1 | 2 | 1,000 | 2 | 1 | 0 of 1 |" in text
        assert "Machine (warm): another." in text
        assert "Machine (cold): a machine." in text

    def test_a_link_from_the_models_own_priors_stands_by_itself(self) -> None:
        text = page.body([row(link=1, seconds=7.0), row()], {})
        assert "| lindley | warm | 1 | 7 |" in text
        assert "| lindley | warm | 2 to 2 | 1 |" in text

    def test_the_repositorys_page_is_written_from_its_results(self, tmp_path: Path) -> None:
        copy = tmp_path / "performance.md"
        copy.write_text(run.PAGE.read_text())
        runs = page.read_runs(run.RESULTS.with_name("results-runs.json"))
        page.write_page(copy, measure.ordered(measure.read(run.RESULTS)), runs)
        assert copy.read_text() == run.PAGE.read_text()

    def test_runs_are_read_as_they_were_written(self, tmp_path: Path) -> None:
        page.write_runs(tmp_path / "runs.json", {"warm": RAN})
        assert page.read_runs(tmp_path / "runs.json") == {"warm": RAN}
        assert page.read_runs(tmp_path / "none.json") == {}

    def test_machine_and_versions_hold_no_path(self) -> None:
        assert "cores" in page.machine()
        assert "/" not in page.versions()
        assert "pymc 6" in page.versions()


class TestCommand:
    @pytest.fixture
    def reference(self, tmp_path: Path) -> Path:
        (tmp_path / "reference" / "article").mkdir(parents=True)
        (tmp_path / "reference" / run.STREAM).touch()
        return tmp_path / "reference"

    def arguments(self, reference: Path, *more: str) -> list[str]:
        out = reference.parent / "out" / "results.csv"
        return ["--reference", str(reference), "--out", str(out), "--only", "warm", *more]

    def test_without_reference_data_nothing_runs(self, tmp_path: Path, capsys) -> None:
        assert run.main(["--reference", str(tmp_path)]) == 2
        assert "regression_batches.parquet" in capsys.readouterr().err

    def test_a_late_scenario_is_reported_and_the_others_keep_their_rows(
        self, reference: Path, capsys
    ) -> None:
        out = reference.parent / "out" / "results.csv"
        measure.write(out, [row(scenario="cold", process="cold"), row()])
        assert run.main(self.arguments(reference, "--minutes", "0")) == 1
        assert [found.scenario for found in measure.read(out)] == ["cold"]
        runs = json.loads(out.with_name("results-runs.json").read_text())
        assert runs["warm"]["outcome"] == run.LATE
        assert str(reference) not in json.dumps(runs)
        assert "not finished: warm (not done in time" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("ending", "outcome", "code"),
        [
            ("", run.FINISHED, 0),
            ("raise SystemExit(3)", "failed (exit code 3)", 1),
            ("time.sleep(600)", run.LATE, 1),
        ],
    )
    def test_rows_come_from_a_process_however_it_ends(
        self,
        ending: str,
        outcome: str,
        code: int,
        reference: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A worker that writes two rows and then ends, fails or hangs."""
        lines = [json.dumps({"row": row(seconds=value).as_dict()}) for value in (1.0, 3.0)]
        script = reference.parent / "worker.py"
        script.write_text(
            "import sys, time\n"
            "where = sys.argv[sys.argv.index('--lines') + 1]\n"
            f"open(where, 'a').write({chr(10).join(lines) + chr(10)!r})\n{ending}\n"
        )
        real = subprocess.Popen

        def popen(command: list[str], **options: object) -> subprocess.Popen:
            if command[1:3] != ["-m", "benchmarks.speed.worker"]:
                return real(command, **options)
            return real([command[0], str(script), *command[3:]], **options)

        begun, late = time.monotonic(), []

        def take(part: run.Part, *rest: object) -> None:
            real_take(part, *rest)
            if len(part.rows) == 2 and "sleep" in ending:
                late.append(True)

        # The clock goes on when both rows are there, so that a slow machine changes nothing.
        real_take = run._take
        monkeypatch.setattr(run, "_take", take)
        clock = SimpleNamespace(monotonic=lambda: begun + 600 * bool(late), sleep=time.sleep)
        monkeypatch.setattr(run, "time", clock)
        monkeypatch.setattr(run.subprocess, "Popen", popen)
        assert run.main(self.arguments(reference, "--minutes", "5")) == code
        out = reference.parent / "out" / "results.csv"
        assert [(found.seconds, found.repeats) for found in measure.read(out)] == [(2.0, 2)]
        assert page.read_runs(out.with_name("results-runs.json"))["warm"].outcome == outcome

    def test_the_command_on_the_page_has_no_folders(self) -> None:
        found = run._command(["--reference", "/a", "--out=/b", "--only", "warm", "--page", "/c"])
        assert found == "python -m benchmarks.speed.run --only warm"


class TestArticle:
    def document(self) -> dict:
        batch = {
            "seconds": 9.0,
            "cpu_seconds": 18.0,
            "ess_bulk_min": 400.0,
            "r_hat_max": 1.0,
            "divergences": 0,
            "posterior": {"mean": [0.1, 0.0, 0.0, 1.0]},
        }
        return {"settings": {"chains": 4, "draws": 1000}, "batches": [batch, batch | {"divergences": 41}]}

    def test_its_results_become_rows(self) -> None:
        reference = Reference(np.array([0.0, 0, 0, 1]), np.ones(4))
        first, second = article.rows_of(self.document(), [reference] * 2, "warm")
        assert Row(**first).gate == "passed"
        assert (first["link"], first["seconds"], first["mean_error_sd"]) == (1, 9.0, pytest.approx(0.1))
        assert first["mean_error_mcse"] == pytest.approx(2.0)
        # One earlier link in four parameters adds 5/4 of its own squared error.
        assert second["mean_error_mcse"] == pytest.approx(2.0 / 1.5)
        assert second["gate"] == "refused"

    def test_skipping_is_reported(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv(article.PYTHON, raising=False)
        messages: list[str] = []
        article.warm(SimpleNamespace(notify=messages.append), [])
        assert messages[0].startswith("SKIPPED: pymc3_article")

    def test_it_runs_where_a_python_is_given(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A stand-in for the script, which must receive the batches and run twice."""
        folder, document = tmp_path / "article", self.document()
        del document["batches"][1:]
        folder.mkdir()
        (folder / article.DATA).touch()
        (folder / article.SCRIPT).write_text(
            "import pathlib, sys\n"
            "assert pathlib.Path(__file__).with_name('regression_batches.parquet').exists()\n"
            "options = dict(zip(sys.argv[1::2], sys.argv[2::2]))\n"
            "assert options['--batches'] == '1'\n"
            f"pathlib.Path(options['--out-json']).write_text({json.dumps(document)!r})\n"
        )
        monkeypatch.setenv(article.PYTHON, sys.executable)
        rows: list[Row] = []
        (tmp_path / "scratch").mkdir()
        bench = streams.Bench(tmp_path / "scratch", tmp_path, True, rows.append, print)
        references = [Reference(np.zeros(4), np.ones(4))] * 2
        article.warm(bench, references[:1])
        article.cold(bench, references)
        assert [(found.scenario, found.process, found.link) for found in rows] == [
            ("warm", "warm", 1),
            ("cold", "cold", 1),
        ]
        # Warm, the script's own seconds; cold, those of its process.
        assert rows[0].seconds == 9.0
        assert rows[1].seconds != 9.0


class TestOrchestration:
    def test_every_method_has_a_chain_of_its_own(self, tmp_path: Path) -> None:
        names = {"a": "lindley", "b": orchestration.chain_of("lindley+prefect")}
        orchestration.named_copies(tmp_path, names)
        assert {path.name for path in tmp_path.iterdir()} == {"lindley.py", "lindley_prefect.py"}
        found = targets.MODELS.with_name("models") / "regression_stream.py"
        text = (tmp_path / "lindley_prefect.py").read_text()
        assert text.replace('name="lindley_prefect"', 'name="regression_stream"') == found.read_text()

    def test_the_environment_is_restored(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LINDLEY_HOME", "before")
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        bench = streams.Bench(tmp_path, tmp_path, True, print, print)
        with orchestration.environment_of(bench.workspace(tmp_path, "sqlite:///x.db")):
            assert orchestration.os.environ["MLFLOW_TRACKING_URI"] == "sqlite:///x.db"
            assert orchestration.os.environ["LINDLEY_HOME"] != "before"
        assert orchestration.os.environ["LINDLEY_HOME"] == "before"
        assert "MLFLOW_TRACKING_URI" not in orchestration.os.environ

    @pytest.mark.parametrize(
        ("text", "printed"),
        [
            ('{"mlflow": "x", "prefect": "y"}\n', True),
            ('Waiting for prefect\nMore\n{\n "prefect": "y"\n}\n', True),
            ('Waiting for prefect\n{\n "prefect"', False),
            ("", False),
        ],
    )
    def test_the_servers_are_up_when_their_addresses_are_printed(self, text: str, printed: bool) -> None:
        assert orchestration._printed(text) is printed


def test_the_first_hour_has_its_model_and_batches_of_its_schema(tmp_path: Path) -> None:
    declaration = load_declaration(first_hour.CHAIN, first_hour.MODELS)
    read = [read_batch(file, declaration) for file in first_hour.batches(tmp_path)]
    assert [batch.rows for batch in read] == [3] * first_hour.LINKS
    assert len({batch.digest for batch in read}) == first_hour.LINKS
