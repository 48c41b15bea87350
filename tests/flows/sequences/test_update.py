"""One batch, step by step, with the real core, a ledger in memory and no sampler."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import pytest

from flows.cli.sequence import existing
from flows.sequences.steps import MOST_RACES
from flows.sequences.update import update_one
from lindley.batch.reading import read_batch
from lindley.errors import (
    BatchRefused,
    BatchUnreadable,
    FitFailed,
    LedgerUnavailable,
    LostRace,
    OverlapRefused,
    UnknownChain,
)
from lindley.ledger.history import history
from tests.support import fakes


def stored(workspace) -> list[Path]:
    return sorted((workspace.store / "coins").glob("*"))


def test_a_landed_file_becomes_a_link_and_moves_to_the_store(steps, workspace, ledger, land, published):
    path = land("a.csv")
    result = update_one(steps, workspace, "coins", path)
    (view,) = history(ledger, "coins")
    assert (result.status, result.link, result.version, result.file) == ("accepted", 1, 1, "a.csv")
    assert (result.record_digest, result.run_id) == (view.record_digest, view.run_id)
    assert not path.exists()
    assert stored(workspace) == [Path(result.stored)] == [workspace.store / f"coins/{view.batch_digest}.csv"]
    assert len(published) == 1
    json.dumps(result.as_dict())


def test_a_file_from_elsewhere_is_copied(steps, workspace, land, tmp_path):
    path = land("a.csv").rename(tmp_path / "mine.csv")
    assert update_one(steps, workspace, "coins", path).status == "accepted"
    assert path.exists()
    assert len(stored(workspace)) == 1


def test_a_folder_of_parquet_files_is_one_batch_and_stays(steps, workspace, ledger, land, tmp_path):
    file, folder = land("a.csv"), tmp_path / "mine"
    frame = pd.read_csv(file)
    file.unlink()
    for place in range(len(frame)):
        part = folder / f"id={frame['id'][place]}"
        part.mkdir(parents=True)
        frame.drop(columns="id").iloc[[place]].to_parquet(part / "part-0.parquet", index=False)
    result = update_one(steps, workspace, "coins", Path(existing(folder)))
    (view,) = history(ledger, "coins")
    assert (result.status, view.rows) == ("accepted", len(frame))
    assert stored(workspace) == [workspace.store / f"coins/{view.batch_digest}.parquet"]
    assert len(list(folder.rglob("*.parquet"))) == len(frame)


def test_a_link_to_a_file_is_copied_not_moved(steps, workspace, land, tmp_path):
    target = land("a.csv").rename(tmp_path / "mine.csv")
    link = workspace.landing / "coins" / "link.csv"
    link.symlink_to(target)
    update_one(steps, workspace, "coins", link)
    assert link.is_symlink()
    assert not stored(workspace)[0].is_symlink()


def test_the_same_batch_again_changes_nothing_and_leaves_the_landing_folder(
    steps, workspace, ledger, land, fits
):
    update_one(steps, workspace, "coins", land("a.csv"))
    again = land("b.csv")
    result = update_one(steps, workspace, "coins", again)
    assert result.status == "unchanged"
    assert "already in coins as link 1" in result.message
    assert len(fits.plans) == len(history(ledger, "coins")) == len(stored(workspace)) == 1
    assert not again.exists()


def test_rows_that_count_already_are_left_out_only_where_that_is_asked_for(steps, workspace, land):
    update_one(steps, workspace, "coins", land("a.csv"))
    with pytest.raises(OverlapRefused):
        update_one(steps, workspace, "coins", land("late.csv", 3))
    result = update_one(steps, workspace, "coins", land("late.csv", 3), on_overlap="drop")
    assert (result.status, result.dropped) == ("accepted", 2)
    assert asdict(result)["dropped"] == 2


def test_a_fit_that_fails_the_gate_is_quarantined_and_the_file_archived(steps, workspace, ledger, land, fits):
    update_one(steps, workspace, "coins", land("a.csv"))
    fits.passed = False
    result = update_one(steps, workspace, "coins", land("b.csv", 5))
    assert (result.status, result.link, result.version) == ("quarantined", None, 2)
    assert result.reasons == ("R-hat 1.3100 of theta, at most 1.01 allowed",)
    assert "the head did not move" in result.message
    assert [view.number for view in history(ledger, "coins")] == [1]
    assert len(stored(workspace)) == 2

    again = update_one(steps, workspace, "coins", land("b.csv", 5))
    assert again.status == "quarantined"
    assert len(fits.plans) == 2


@pytest.mark.parametrize(
    ("text", "said_of"),
    [
        ("id,k,n\n1,3,ten\n", "'ten'"),
        ("id,k\n1,3\n", "column"),
        ("id,k,n\n", "no rows"),
        ("", "empty"),
    ],
)
def test_a_landed_file_at_fault_moves_to_rejected_with_its_reason(
    steps, workspace, ledger, land, said, text, said_of
):
    path = land("bad.csv", text=text or " ")
    if not text:
        path.write_bytes(b"")
    with pytest.raises(BatchRefused) as caught:
        update_one(steps, workspace, "coins", path)
    moved = workspace.rejected / "coins" / "bad.csv"
    reason = json.loads((workspace.rejected / "coins" / "bad.csv.reason.json").read_text())
    assert reason["happened"] == caught.value.happened
    assert moved.exists()
    assert not path.exists()
    assert said == ["bad.csv was moved to rejected/coins/bad.csv"]
    assert ledger.chains() == []
    assert said_of in str(caught.value)


def test_rows_that_are_in_the_chain_already_are_a_fault_of_the_file(steps, workspace, land):
    update_one(steps, workspace, "coins", land("a.csv", 1))
    with pytest.raises(BatchRefused, match="shares 2 row keys"):
        update_one(steps, workspace, "coins", land("b.csv", 3))
    assert (workspace.rejected / "coins" / "b.csv").exists()


def test_a_file_at_fault_from_elsewhere_stays(steps, workspace, tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text("id,k,n\n1,3,ten\n")
    with pytest.raises(BatchRefused):
        update_one(steps, workspace, "coins", path)
    assert path.exists()
    assert not (workspace.rejected / "coins").exists()


@pytest.mark.parametrize("error", [FitFailed("It failed"), LedgerUnavailable("It is down")])
def test_a_failure_that_is_not_the_files_own_leaves_it_in_the_landing_folder(
    steps, workspace, land, fits, error
):
    path = land("a.csv")
    fits.error = error
    with pytest.raises(type(error)):
        update_one(steps, workspace, "coins", path)
    assert path.exists()
    assert not (workspace.rejected / "coins").exists()


def test_an_unknown_chain_keeps_its_files(steps, workspace, land):
    path = land("a.csv", chain="dice")
    with pytest.raises(UnknownChain, match="declared chains: coins"):
        update_one(steps, workspace, "dice", path)
    assert path.exists()


def test_a_batch_that_lost_the_race_is_fitted_again(steps, workspace, ledger, land, fits, said):
    declaration = fakes.declare(workspace.models)
    update_one(steps, workspace, "coins", land("a.csv"))
    rivals = iter([20, 30])

    def rival() -> None:
        start = next(rivals, None)
        if start is not None:
            fakes.append(ledger, declaration, fakes.coins(declaration, start))

    fits.during = rival
    result = update_one(steps, workspace, "coins", land("b.csv", 5))
    assert (result.status, result.link) == ("accepted", 4)
    assert [plan.link for plan in fits.plans] == [1, 2, 3, 4]
    assert len(said) == 2


def test_the_race_for_a_new_chain_is_one_too(steps, workspace, ledger, land, fits):
    declaration = fakes.declare(workspace.models)

    def rival() -> None:
        if not ledger.chains():
            fakes.append(ledger, declaration, fakes.coins(declaration, 20))

    fits.during = rival
    assert update_one(steps, workspace, "coins", land("a.csv")).link == 2


def test_a_race_claimed_at_logging_counts_as_lost(steps, workspace, land):
    calls = []

    def log(*args):
        calls.append(args)
        if len(calls) == 1:
            raise LostRace("Another writer started the chain first")
        return steps.log(*args)

    assert update_one(replace(steps, log=log), workspace, "coins", land("a.csv")).status == "accepted"
    assert len(calls) == 2


def test_the_race_is_not_run_for_ever(steps, workspace, land):
    def log(*_):
        raise LostRace("Another writer was first")

    path = land("a.csv")
    with pytest.raises(LostRace, match=f"{MOST_RACES} times"):
        update_one(replace(steps, log=log), workspace, "coins", path)
    assert path.exists()


def test_a_file_that_another_run_took_is_nothing_to_do(steps, workspace, fits):
    result = update_one(steps, workspace, "coins", workspace.landing / "coins" / "a.csv")
    assert result.status == "gone"
    assert "another run took it" in result.message
    assert fits.plans == []


def test_so_is_one_that_goes_while_it_is_read(steps, workspace, land):
    def read(path, declaration):
        path.unlink()
        return read_batch(path, declaration)

    result = update_one(replace(steps, read=read), workspace, "coins", land("a.csv"))
    assert result.status == "gone"


def test_a_file_that_is_not_there_and_not_landed_is_an_error(steps, workspace, tmp_path):
    with pytest.raises(BatchUnreadable):
        update_one(steps, workspace, "coins", tmp_path / "no.csv")


def test_an_unfinished_file_is_left_alone(steps, workspace, land, fits):
    path = land("a.parquet", minutes=0.5, text="PAR1 and then nothing")
    assert update_one(steps, workspace, "coins", path).status == "unfinished"
    assert path.exists()
    assert fits.plans == []


def test_people_are_shown_the_link_only_when_the_file_is_archived(steps, workspace, land):
    def publish(*_):
        assert stored(workspace)
        raise RuntimeError("no page")

    with pytest.raises(RuntimeError, match="no page"):
        update_one(replace(steps, publish=publish), workspace, "coins", land("a.csv"))


def test_a_change_of_the_model_needs_a_word(steps, workspace, ledger, land):
    update_one(steps, workspace, "coins", land("a.csv"))
    fakes.declare(workspace.models, code="\nLATER = 1\n")
    path = land("b.csv", 5)
    with pytest.raises(Exception, match="--accept-model-change"):
        update_one(steps, workspace, "coins", path)
    assert path.exists()
    assert update_one(steps, workspace, "coins", path, accept_model_change=True).link == 2


# -- pictures ---------------------------------------------------------------------------------------


def test_pictures_come_when_the_link_is_registered_and_its_file_archived(steps, workspace, ledger, land):
    path, seen = land("a.csv"), []

    def draw(at, runs) -> None:
        seen.append((dict(runs), len(at.versions("coins")), path.exists(), len(stored(workspace))))

    result = update_one(replace(steps, draw=draw), workspace, "coins", path)
    assert seen == [({result.run_id: result.record_digest}, 1, False, 1)]


def test_pictures_that_a_killed_process_did_not_draw_come_with_the_next_update(
    steps, workspace, ledger, land, drawn
):
    killed = replace(steps, draw=lambda *_: None)
    first = update_one(killed, workspace, "coins", land("a.csv"))
    second = update_one(steps, workspace, "coins", land("b.csv", 5))
    assert [set(runs) for runs in drawn] == [{first.run_id, second.run_id}]


def test_a_batch_that_counts_already_completes_the_head(steps, workspace, ledger, land, drawn):
    killed = replace(steps, draw=lambda *_: None)
    first = update_one(killed, workspace, "coins", land("a.csv"))
    assert update_one(steps, workspace, "coins", land("b.csv")).status == "unchanged"
    assert update_one(steps, workspace, "coins", land("c.csv")).status == "unchanged"
    assert drawn == [(first.run_id,), ()]


def test_a_quarantined_fit_has_its_pictures_too(steps, workspace, land, fits, drawn):
    fits.passed = False
    result = update_one(steps, workspace, "coins", land("a.csv"))
    assert (result.status, drawn) == ("quarantined", [(result.run_id,)])


def test_a_lost_race_is_not_drawn(steps, workspace, ledger, land, fits, drawn):
    declaration = fakes.declare(workspace.models)
    fakes.append(ledger, declaration, fakes.coins(declaration, 50))

    def overtake() -> None:
        fits.during = lambda: None
        fakes.append(ledger, declaration, fakes.coins(declaration, 90))

    fits.during = overtake
    result = update_one(steps, workspace, "coins", land("a.csv"))
    winner = ledger.versions("coins")[1].run_id
    assert [set(runs) for runs in drawn] == [{result.run_id, winner}]


def test_a_file_whose_name_is_not_utf8_is_rejected(steps, workspace, land):
    path = land("good.csv")
    bad = path.with_name("bad\udcff.csv")
    path.rename(bad)
    with pytest.raises(BatchRefused, match=r"bad\\udcff.csv was refused"):
        update_one(steps, workspace, "coins", bad)
    assert (workspace.rejected / "coins" / "bad_xff.csv").exists()


# -- quarantined batches that join ----------------------------------------------------------------------


def joins(workspace, name="coins"):
    code = (
        "\nfrom dataclasses import replace\ndeclaration = replace(declaration, policy=Policy(refit_rows=1))\n"
    )
    fakes.declare(workspace.models, name, code=code)


def test_a_quarantined_batch_joins_and_the_result_says_so(steps, workspace, ledger, land, fits):
    joins(workspace)
    update_one(steps, workspace, "coins", land("a.csv"))
    fits.passed = False
    assert update_one(steps, workspace, "coins", land("b.csv", start=10)).status == "quarantined"
    fits.passed = True
    result = update_one(steps, workspace, "coins", land("c.csv", start=20))
    assert (result.link, result.fitted, result.joined) == (2, 2, ("b.csv",))
    assert result.message.endswith("it also counts b.csv, quarantined before")
    assert history(ledger, "coins")[1].joined == ("b.csv",)


def test_where_the_fit_with_it_fails_the_update_is_fitted_without(steps, workspace, ledger, land, fits, said):
    joins(workspace)
    update_one(steps, workspace, "coins", land("a.csv"))
    fits.passed = False
    update_one(steps, workspace, "coins", land("b.csv", start=10))

    def fit(plan):
        fits.passed = not plan.joined
        return fits(plan)

    result = update_one(replace(steps, fit=fit), workspace, "coins", land("c.csv", start=20))
    assert (result.link, result.fitted, result.joined) == (2, 1, ())
    assert result.warnings == ("1 quarantined batch is not counted: b.csv",)
    assert any("the fit fails the gate; this is fitted without" in sentence for sentence in said)
    assert [len(plan.batches) for plan in fits.plans[-2:]] == [2, 1]
