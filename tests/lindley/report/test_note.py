from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from lindley.report.note import FOOT_LIMIT, NOTE_LIMIT, NotedLink, link_note, with_foot, without_foot

PARSER = MarkdownIt("commonmark").enable("table")
Make = Callable[..., pd.DataFrame]


@dataclass(frozen=True)
class Gate:
    passed: bool = True
    reasons: Sequence[str] = ()
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class Dropped:
    rows: int


@dataclass(frozen=True)
class Batch:
    origin: str
    rows: int
    dropped: Dropped | None = None


def note_of(summary: pd.DataFrame, gate: Gate | None = None, *, kind: str = "update", **link: Any) -> str:
    return link_note(summary, NotedLink(**{"chain": "c", "kind": kind} | link), gate or Gate())


def paragraph(note: str) -> str:
    return note.split("\n\n")[1]


def test_a_note_states_what_changed(make_summary: Make) -> None:
    summary = make_summary(["beta", "R0"], sd_ratio=[0.5, 0.25], sd=[0.2, 0.1])
    text = link_note(
        summary,
        NotedLink(chain="covid_sir", kind="update", number=3, prior=2, batch=Batch("week_03.csv", 7)),
        Gate(warnings=["k-hat 0.62 is above 0.5"]),
    )
    digests = {"record": "ab" * 32, "batch": "cd" * 32}
    note = with_foot(text, digests, {"MLflow run": "http://127.0.0.1:5000/#/experiments/1/runs/a_b"})
    assert without_foot(note) == text
    assert note == (
        "### `covid_sir`, link 3: update\n\n"
        "Batch `week_03.csv` (7 rows) updated the posterior of link 2. `R0` moved most, up by 0.50 prior sd, "
        "from 2.90 ± 0.40 to 3.10 ± 0.10. At the median of 2 parameters the intervals are 2.67 times "
        "narrower (`R0`: 4 times narrower; `beta`: 2 times narrower). The fit passed its gate. "
        "Warnings: k-hat 0.62 is above 0.5.\n\n"
        "| parameter | prior mean ± sd | posterior mean ± sd | 90% interval | movement |\n"
        "| --- | ---: | ---: | ---: | ---: |\n"
        "| `beta` | 2.90 ± 0.40 | 3.00 ± 0.20 | 2.80 to 3.40 | +0.25 sd, sd ratio 0.50 |\n"
        "| `R0` | 2.90 ± 0.40 | 3.10 ± 0.10 | 2.80 to 3.40 | +0.50 sd, sd ratio 0.25 |\n\n"
        "Digests: record `abababababab`, batch `cdcdcdcdcdcd`\n\n"
        "[MLflow run](http://127.0.0.1:5000/#/experiments/1/runs/a_b)"
    )


def test_a_failed_gate_comes_first_with_its_reasons(make_summary: Make) -> None:
    gate = Gate(passed=False, reasons=["17 divergences", "R-hat 1.20 of mu is above 1.01."])
    note = note_of(make_summary(["mu"]), gate, status="quarantined")
    assert "**The fit failed its gate:** 17 divergences; R-hat 1.20 of mu is above 1.01. " in note
    assert "quarantined: it is kept, and the head did not move" in note
    assert "passed" not in note


@pytest.mark.parametrize(
    ("number", "status", "name"),
    [
        (3, "accepted", "link 3"),
        (None, "accepted", "a link not yet registered"),
        (None, "quarantined", "a quarantined version"),
    ],
)
def test_a_heading_names_the_link(make_summary: Make, number: int | None, status: str, name: str) -> None:
    note = note_of(make_summary(["mu"]), number=number, status=status)
    assert note.startswith(f"### `c`, {name}: update\n")


def test_a_superseded_link_is_no_part_of_the_chain(make_summary: Make) -> None:
    note = note_of(make_summary(["mu"]), status="superseded")
    assert "superseded and not part of the chain" in note


def test_an_improper_prior_has_no_movement(make_summary: Make) -> None:
    nan = [math.nan]
    summary = make_summary(["mu"], prior_mean=nan, prior_sd=[math.inf], sd_ratio=nan, shift=nan)
    note = note_of(summary, batch=Batch("a.csv", 1))
    assert "Batch `a.csv` (1 row) updated the model's own priors." in note
    assert "movement is not measured" in note
    assert "| `mu` | improper | 3.00 ± 0.11 | 2.80 to 3.40 | n/a |" in note


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (0.5, "2 times narrower"),
        (2.0, "2 times wider"),
        (1.001, "as wide as before"),
        (0.9, "1.11 times narrower"),
    ],
)
def test_one_parameter_speaks_for_itself(make_summary: Make, ratio: float, words: str) -> None:
    note = note_of(make_summary(["mu"], sd_ratio=[ratio], shift=[-0.5]))
    assert "`mu` moved down by 0.50 prior sd" in note
    assert f"The interval of `mu` is {words}." in note


@pytest.mark.parametrize(
    "kind",
    ["genesis", "retract", "correct", "rollback", "branch", "rebase", "import", "update"],
)
def test_every_kind_has_its_sentence(make_summary: Make, kind: str) -> None:
    text = paragraph(note_of(make_summary(["mu"], shift=[0.0]), kind=kind, prior=4))
    alone = {"genesis": "own priors", "rebase": "together", "import": "imported"}
    assert alone.get(kind, "posterior of link 4") in text.split(".")[0]
    assert "No parameter moved." in text


def test_what_no_longer_counts_is_named(make_summary: Make) -> None:
    text = paragraph(note_of(make_summary(["mu"]), kind="retract", taken_out=["link 3 (a_b.csv)", "link 4"]))
    assert "Taken out: link 3" in text
    assert "link 4." in text
    for dropped, words in (
        (1, "1 row of the file was already counted and left out."),
        (1200, "1,200 rows of the file were"),
    ):
        batch = Batch("a.csv", 3, Dropped(dropped))
        assert words in paragraph(note_of(make_summary(["mu"]), batch=batch))


def test_an_empty_summary_has_no_table() -> None:
    note = note_of(pd.DataFrame(), kind="genesis")
    assert "|" not in note
    assert "not measured" not in note


def test_many_parameters_leave_those_that_moved_most_in_their_order(make_summary: Make) -> None:
    shift = np.arange(200.0)
    shift[[3, 150]] = [-999, np.nan]
    note = note_of(make_summary([f"x[{i}]" for i in range(200)], shift=shift))
    rows = [line.split("`")[1] for line in note.splitlines() if line.startswith("| `")]
    assert len(note) <= NOTE_LIMIT
    assert rows == ["x[3]", *(f"x[{i}]" for i in range(201 - len(rows), 200))]
    assert f"The {len(rows)} of 200 parameters that moved most" in note


def test_a_hostile_name_changes_nothing_but_its_own_text(make_summary: Make, hostile: str) -> None:
    text = link_note(
        make_summary([hostile, "ok"]),
        NotedLink(chain="c", kind=hostile, batch=Batch(hostile, 2)),
        Gate(passed=False, reasons=[hostile], warnings=[hostile]),
    )
    note = with_foot(text, {hostile: "ab" * 32}, {hostile: "https://host.example/"})
    assert without_foot(note) == text
    parsed = PARSER.parse(note)
    blocks = [token.type for token in parsed if token.type.endswith("_open")]
    assert blocks.count("paragraph_open") == 3
    assert blocks.count("td_open") == 10
    inline = [child for token in parsed for child in token.children or []]
    assert sum(child.type == "link_open" for child in inline) == 1
    assert {child.type for child in inline} <= {
        "text", "text_special", "code_inline", "strong_open", "strong_close", "link_open", "link_close",
    }  # fmt: skip


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.text(max_size=100), min_size=1, max_size=60), limit=st.integers(200, 5000))
def test_a_note_is_never_longer_than_its_limit(make_summary: Make, names: list[str], limit: int) -> None:
    note = link_note(
        make_summary(names),
        NotedLink(chain="c", kind="update"),
        Gate(passed=False, reasons=["&" * 400, *names], warnings=names),
        limit=limit,
    )
    assert len(note) <= limit
    whole = with_foot(note, {"record": "ab" * 32}, dict.fromkeys(names, "https://host.example/" + "x" * 350))
    assert len(whole) <= limit + FOOT_LIMIT
    assert without_foot(whole) == note


def test_the_worst_note_fits_the_registry_whole(make_summary: Make) -> None:
    worst = "&" * 500
    text = link_note(
        make_summary([worst] * 50),
        NotedLink(chain="c" * 63, kind="update", batch=Batch(worst, 10**9), status="superseded"),
        Gate(passed=False, reasons=[worst] * 9, warnings=[worst] * 9),
    )
    digests = {f"digest {i}": "f" * 64 for i in range(9)}
    note = with_foot(text, digests, {f"link {i}": "https://host.example/" + "x" * 170 for i in range(9)})
    assert len(note) <= NOTE_LIMIT
    assert note.count("](https://") == 3  # as many as fit, each whole
    assert note.endswith(")")
