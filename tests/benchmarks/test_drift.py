"""The drift benchmark itself: two tiny streams through the command, and assessments of made-up links."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.drift import chains, run, table
from benchmarks.drift.streams import Stream, batches, every_stream
from lindley.inference.diagnostics.gate import Thresholds, cautions
from lindley.inference.diagnostics.monitor import Alarm
from lindley.model.declaration import load_file
from lindley.prior.belief import Audited


def made(**changed: object) -> pd.DataFrame:
    """One link that is right and unflagged, with changes."""
    row = {
        "stream": "one",
        "family": "static",
        "model": "line",
        "link": 1,
        "kind": "update",
        "rows": 10,
        "true_error": 0.01,
        "stated_error": 0.02,
        "monte_carlo": 0.01,
        "flags": "",
        "refused": "",
        "seconds": 0.3,
        "code": "abc",
    }
    return pd.DataFrame([row | changed])


class TestAssessment:
    @pytest.mark.parametrize(
        ("changed", "within", "wrong", "flagged"),
        [
            ({}, True, False, False),
            ({"true_error": 0.021}, False, False, False),
            # Beyond 0.1 and three standard errors.
            ({"true_error": 0.129}, False, False, False),
            ({"true_error": 0.131}, False, True, False),
            ({"true_error": 0.131, "monte_carlo": 0.02}, False, False, False),
            ({"true_error": 0.3, "stated_error": 0.4, "flags": "drift"}, True, True, True),
            ({"true_error": np.nan}, False, True, False),
            # A link that states no error states no bound.
            ({"stated_error": np.nan}, False, False, False),
            # Conflict concerns the batch, k-hat the next link: neither says that this belief is wrong.
            ({"flags": "conflict match divergences"}, True, False, False),
            ({"flags": "conflict doubt"}, True, False, True),
        ],
    )
    def test_a_link(self, changed: dict, within: bool, wrong: bool, flagged: bool) -> None:
        found = table.assessed(made(**changed)).iloc[0]
        assert (found["within"], found["wrong"], found["flagged"]) == (within, wrong, flagged)

    def test_links_are_counted(self) -> None:
        links = pd.concat(
            [
                made(),
                made(true_error=0.5),
                made(true_error=0.5, flags="drift"),
                made(flags="doubt conflict"),
                # Neither right nor wrong: no nuisance.
                made(true_error=0.11, stated_error=0.22, flags="drift"),
                made(true_error=0.9, refused="R-hat 1.2"),
            ]
        )
        found = table.summarise(table.assessed(links), "static")
        assert (found.links, found.wrong, found.unflagged, found.largest) == (5, 2, 1, 0.5)
        assert (found.within, found.nuisance, found.refused, found.alarmed) == (0.6, 0.2, 1 / 6, 0.2)
        assert (found.ratio, found.visible) == pytest.approx((2, 2))
        assert set(found.missed) == {"within", "unflagged", "nuisance"}

    def test_all_bars_can_be_met_and_missed(self) -> None:
        assert table.summarise(table.assessed(made()), "static").missed == ()
        assert table.summarise(table.assessed(made(stated_error=0.031)), "static").missed == ("ratio",)
        # What has no effect on a report misses no bar, however far the two are apart.
        found = table.summarise(table.assessed(made(true_error=1e-5, stated_error=1e-4)), "static")
        assert (found.ratio, found.missed) == (pytest.approx(10), ())

    def test_every_warning_of_the_gate_has_a_kind(self) -> None:
        bad = dict.fromkeys(("budget", "doubt", "drift", "sd_error", "k_hat"), 2.0)
        bad |= {"divergence_rate": 0.001, "match_efficiency": 0.1, "conflict_p": 1e-9}
        bad |= {"unmeasured": 1.0} | Audited(0.3, 0.1, 1).as_metrics()
        found = {chains.kind(text) for text in cautions(bad, Thresholds(), assessable=True, least_known="a")}
        assert found == {"budget", "doubt", "drift", "sd", "match", "divergences", "conflict", "unmeasured"}
        alarms = [
            Alarm(name, kind, 1, 9).text
            for name in ("fit", "conflict", "pull of a")
            for kind in ("jump", "slope")
        ]
        assert {chains.kind(text) for text in alarms} == {"monitor"}
        assert chains.kind("the gate refused a fit at first, and it was sampled again: x") == "again"
        assert chains.kind("a warning that is new") == "other"
        assert "other" in chains.ERROR_KINDS

    def test_the_page_is_written_between_its_marks(self, tmp_path: Path) -> None:
        page = tmp_path / "page.md"
        page.write_text("before\n" + "\n".join(table.MARKS) + "\nafter\n")
        text = table.markdown(table.by_family(table.assessed(made())))
        for _ in range(2):
            table.write_page(page, text)
        assert page.read_text().startswith("before\n")
        assert page.read_text().endswith("\nafter\n")
        assert page.read_text().count("| static | 1 | 1 | 100.0% | 2.0 | 2.0 |") == 1
        page.write_text(table.MARKS[0])
        with pytest.raises(ValueError, match="once"):
            table.write_page(page, text)


class TestStreams:
    def test_a_stream_follows_from_its_name(self) -> None:
        for stream in every_stream()[::23]:
            first, again = batches(stream), batches(stream)
            assert len(first) == stream.links
            assert {len(frame) for frame in first} == {stream.rows}
            assert all(one.equals(two) for one, two in zip(first, again, strict=True))

    def test_the_known_jumps_are_those_of_the_generator_that_found_them(self) -> None:
        """Low 2, high 20 after 20 of 45 batches of 10 rows, seed 1."""
        counts = pd.concat(batches(next(s for s in every_stream() if s.name == "known-poisson-tenfold")))["n"]
        rate = np.where(np.arange(450) < 200, 2.0, 20.0)
        assert (counts.to_numpy() == np.random.default_rng(1).poisson(rate)).all()

    @pytest.mark.parametrize(
        ("changed", "low", "high"),
        [({}, -0.5, 0.5), ({"slope": 2.0}, 1.5, 2.5), ({"jump": 40.0, "at": 0.25}, 1.5, 2.5)],
    )
    def test_the_level_moves_as_stated(self, changed: dict, low: float, high: float) -> None:
        # 40 posterior sds after 400 rows are 2 sds of one row.
        stream = Stream(name="s", family="drifting", model="line", links=80, rows=20, **changed)
        frames = batches(stream)
        start, end = (pd.concat(part)["y"].mean() for part in (frames[:2], frames[-2:]))
        assert low < end - start < high


def test_two_tiny_streams_through_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Files, table, exit code; a second run continues the first one, other code starts again."""
    tiny = [
        Stream(name=f"tiny-{k}", family="static", model="poisson", links=3, rows=4, base=4.0) for k in (1, 2)
    ]
    page, out = tmp_path / "README.md", tmp_path / "results.csv"
    page.write_text("\n".join(table.MARKS))
    monkeypatch.setattr(run, "every_stream", lambda: tiny)
    work = tmp_path / "work"
    arguments = ["--work", str(work), "--out", str(out), "--page", str(page), "--jobs", "1"]

    assert run.main([*arguments, "--only", "tiny-1"]) in (0, 1)
    assert not out.exists(), "a part of the streams replaces no result"
    first = (work / "tiny-1.csv").read_bytes()
    links = pd.read_csv(work / "tiny-1.csv")
    assert tuple(links.columns) == (*chains.COLUMNS, "code")
    assert links["link"].tolist() == [1, 2, 3]
    assert links["rows"].tolist() == [4, 8, 12]
    # Fits by NUTS of a conjugate model: within five standard errors of the exact posterior.
    assert (links["true_error"] < 5 * links["monte_carlo"]).all()

    assert run.main(arguments) in (0, 1)
    assert (work / "tiny-1.csv").read_bytes() == first
    assert "2 streams, 1 of them finished before" in capsys.readouterr().out
    assert "| static | 2 | 6 |" in page.read_text()
    with out.open() as file:
        assert [row["stream"] for row in csv.DictReader(file)] == ["tiny-1", "tiny-2"]

    out.unlink()
    assert run.main([*arguments, "--sample", "1"]) in (0, 1)
    assert "1 of the 2 streams, drawn at random" in page.read_text()
    with out.open() as file:
        assert len(list(csv.DictReader(file))) == 1

    asked = itertools.count()
    monkeypatch.setattr(run, "code_digest", lambda: "other")
    monkeypatch.setattr(run, "write_stream", lambda *_: next(asked))
    assert run.main(arguments) == 1
    assert next(asked) == 2


def test_a_stream_that_fails_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no luck")

    monkeypatch.setattr(run, "write_stream", broken)
    assert run.main(["--only", "known-line-0", "--jobs", "1", "--work", str(tmp_path)]) == 1
    assert "known-line-0: failed: RuntimeError: no luck" in capsys.readouterr().out
    assert run.main(["--only", "no such stream", "--work", str(tmp_path)]) == 2


@pytest.mark.parametrize("model", sorted({stream.model for stream in every_stream()}))
def test_models_can_be_built_from_their_streams(model: str) -> None:
    stream = next(s for s in every_stream() if s.model == model)
    built = load_file(chains.MODELS / f"{model}.py").build(batches(stream)[0])
    assert np.isfinite(sum(built.point_logps().values()))
