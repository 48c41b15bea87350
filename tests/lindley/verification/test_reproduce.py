"""Reproduced links: sampled draws come out again, and draws that were not sampled are detected."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from lindley.batch.batch import batch_from_frame
from lindley.errors import UnknownLink
from lindley.inference.sampling import FitSettings
from lindley.ledger.chain import Version
from lindley.ledger.netcdf import (
    draws_digest,
    read_matched_prior,
    read_trace,
    write_matched_prior,
    write_trace,
)
from lindley.ledger.record import Artifact
from lindley.ledger.registration import register_link
from lindley.model.declaration import Declaration, load_declaration
from lindley.operations.log import log_plan
from lindley.operations.plan import fit_plan
from lindley.operations.rebase import plan_rebase
from lindley.operations.update import plan_update
from lindley.prior.matched import rematch
from lindley.verification import reproduce
from lindley.verification.gather import verify_chain
from lindley.verification.reproduce import Reproduced, reproduce_links, with_reproduced
from tests.support.fakes import MemoryLedger
from tests.support.forging import forge, record_of

MODELS = Path(__file__).parents[3] / "models"
NAME = "beta_binomial"
SETTINGS = FitSettings(draws=500, tune=300)
#: Too few draws for the gate, so that the link is sampled again.
SHORT = FitSettings(draws=100, tune=300)
LINKS, REBASED = 3, 4


@pytest.fixture(scope="module")
def sampled() -> MemoryLedger:
    """Three updates and a pooled refit, really sampled."""
    ledger, declaration = MemoryLedger(), load_declaration(NAME, MODELS)
    rng = np.random.default_rng(5)
    for number in range(LINKS):
        frame = pd.DataFrame({"id": np.arange(10) + 10 * number, "k": rng.binomial(20, 0.3, 10), "n": 20})
        settings = SHORT if number == 1 else SETTINGS
        plan = replace(
            plan_update(ledger, declaration, batch_from_frame(frame, declaration)), settings=settings
        )
        logged = log_plan(ledger, plan, fit_plan(plan))
        assert register_link(ledger, logged).status == "accepted"
    _rebase(ledger, declaration)
    assert verify_chain(ledger, NAME).findings == ()
    return ledger


def _rebase(ledger: MemoryLedger, declaration: Declaration) -> None:
    plan = replace(plan_rebase(ledger, declaration), settings=SETTINGS)
    logged = log_plan(ledger, plan, fit_plan(plan))
    assert register_link(ledger, logged).link == REBASED


def reproduced(ledger: MemoryLedger, *links: int, **options: Any) -> list[Reproduced]:
    return list(reproduce_links(ledger, NAME, links, **options))


def stored(ledger: MemoryLedger) -> Any:
    runs = {i: (run.status, run.tags, run.metrics, run.files) for i, run in ledger.runs.items()}
    return copy.deepcopy((ledger.models, runs))


def forge_draws(ledger: MemoryLedger, number: int, folder: Path, change: Any) -> None:
    """Put other draws into a link and compute anew everything that the rules hold against them."""
    run = ledger.run_of(NAME, number)
    path = folder / "forged.nc"
    path.write_bytes(run.files[Artifact.TRACE])
    tree = read_trace(path)
    change(tree)
    write_trace(tree, path)
    (folder / "held.nc").write_bytes(run.files[Artifact.MATCHED_PRIOR])
    held = read_matched_prior(folder / "held.nc")
    group = tree["coordinates"]
    matched = rematch(group["u"].values.reshape(-1, 1), group["weight"].values.ravel(), held)
    write_matched_prior(matched, folder / "matched.nc")

    def edit(record: dict[str, Any]) -> None:
        record["posterior"] |= {"draws": draws_digest(tree), "matched": matched.digest}

    files = {
        Artifact.TRACE: path.read_bytes(),
        Artifact.MATCHED_PRIOR: (folder / "matched.nc").read_bytes(),
    }
    forge(ledger, NAME, number, edit, files=files)


def swap_chains(tree: xr.DataTree) -> None:
    for group in ("coordinates", "posterior"):
        for variable in tree[group].data_vars:
            values = tree[group][variable].values
            tree[group][variable].values[...] = values[::-1].copy()


def move(tree: xr.DataTree) -> None:
    u = tree["coordinates"]["u"]
    u.values[...] = u.values + 0.5 * u.values.std()
    tree["posterior"]["theta"].values[...] = 1 / (1 + np.exp(-u.values[..., 0]))


def test_a_sampled_chain_is_identical(sampled: MemoryLedger) -> None:
    before = stored(sampled)
    attempts = record_of(sampled, NAME, 2)["attempts"]
    assert len(attempts) > 1
    found = reproduced(sampled)
    assert [(item.link, item.result, item.detail) for item in found] == [
        (number, "identical", "") for number in range(1, REBASED + 1)
    ]
    assert with_reproduced(verify_chain(sampled, NAME), found).ok
    assert stored(sampled) == before  # nothing was written


@pytest.mark.parametrize("change", [swap_chains, move])
def test_forged_draws_are_found_by_fitting_again_alone(
    sampled: MemoryLedger, tmp_path: Path, change: Any
) -> None:
    ledger = sampled.clone()
    del ledger.models[NAME].versions[REBASED]
    ledger.runs = {k: r for k, r in ledger.runs.items() if r.tags.get("lindley.kind") != "rebase"}
    ledger.models[NAME].head = LINKS
    forge_draws(ledger, LINKS, tmp_path, change)
    plain = verify_chain(ledger, NAME)
    assert plain.ok, plain.findings
    found = reproduced(ledger, LINKS)
    assert [item.result for item in found] == ["differs"]
    report = with_reproduced(plain, found)
    assert [(f.rule, f.link) for f in report.findings] == [("V01", LINKS)]
    assert not report.ok
    # Chains in another order are draws of the same posterior, and are found bit by bit only.
    assert (reproduced(ledger, LINKS, bitwise=False)[0].result == "differs") is (change is move)


def test_forged_figures_and_statements_are_found(sampled: MemoryLedger) -> None:
    ledger = sampled.clone()

    def forged(record: dict[str, Any]) -> None:
        record["metrics"].update(divergences=7.0)
        record["model"]["not_drawn"] = {"y": "its distribution has no random function"}
        record["model"]["rows"] = {"add_up": None, "why": ["the batch has too few rows to be split"]}

    forge(ledger, NAME, REBASED, forged)
    assert verify_chain(ledger, NAME).ok
    (found,) = reproduced(ledger, REBASED)
    assert (found.result, found.detail) == (
        "differs",
        "the same draws, but another value of divergences, list of what cannot be drawn, "
        "statement of whether rows add up",
    )


def test_with_other_libraries_draws_agree_within_monte_carlo_error(
    sampled: MemoryLedger, tmp_path: Path
) -> None:
    ledger = sampled.clone()

    def other(record: dict[str, Any]) -> None:
        record["libraries"]["nutpie"] = "0.1"

    forge(ledger, NAME, REBASED, other)
    assert reproduced(ledger, REBASED)[0].result == "identical"
    forge_draws(ledger, REBASED, tmp_path, swap_chains)
    assert reproduced(ledger, REBASED)[0] == Reproduced(
        REBASED, REBASED, "within Monte Carlo error", "fitted with other versions of nutpie"
    )
    forge_draws(ledger, REBASED, tmp_path, move)
    (found,) = reproduced(ledger, REBASED)
    assert found.result == "differs"
    assert "mean of coordinate 1" in found.detail


def test_links_that_cannot_be_fitted_again_say_why(sampled: MemoryLedger) -> None:
    ledger = sampled.clone()
    ledger.models[NAME].versions[1].tags["lindley.kind"] = "import"
    ledger.flip(NAME, 2, Artifact.MODEL)
    batch = Artifact.BATCH
    ledger.run_of(NAME, 3).files[batch] = ledger.run_of(NAME, 2).files[batch]
    forge(ledger, NAME, REBASED, lambda record: record["sampler"].update(first_draws=0))
    found = reproduced(ledger)
    assert {item.result for item in found} == {"not reproducible"}
    assert [item.failed for item in found] == [False, True, True, True]
    assert "sampled elsewhere" in found[0].detail
    assert "model code of link 2" in found[1].detail
    assert "batch of link 3" in found[2].detail
    assert "sampler settings" in found[3].detail
    report = with_reproduced(verify_chain(sampled, NAME), found)
    assert [(f.rule, f.link) for f in report.findings] == [("V02", 2), ("V02", 3), ("V02", 4)]


def test_a_link_that_is_not_there(sampled: MemoryLedger) -> None:
    with pytest.raises(UnknownLink, match="no link 9"):
        reproduced(sampled, 9)


@pytest.mark.parametrize("attempt", [1, 2, 3])
def test_settings_of_the_first_attempt_are_those_it_began_with(attempt: int) -> None:
    first = FitSettings(attempts=3, ess=700)
    kept = first
    for number in range(2, attempt + 1):
        kept = kept.retried(number, diverged=False) if attempt == 3 else kept.longer(333.0)
    sampler = kept.as_dict() | first.as_first() | {"attempt": float(attempt), "seed": "1"}
    assert reproduce._settings({"sampler": sampler}) == first


def test_a_view_of_the_ledger_before_a_link_cannot_be_written_to(sampled: MemoryLedger) -> None:
    chain = reproduce.find_chain(sampled, NAME)
    view = reproduce._Before(sampled, NAME, chain, chain.links[2])
    seen: list[Version] = view.versions(NAME)
    assert [version.number for version in seen] == [1, 2]
    assert view.head_hint(NAME) == 2
    for name in reproduce._WRITES:
        assert callable(getattr(sampled, name))
        with pytest.raises(AttributeError, match="writes nothing"):
            getattr(view, name)


def test_a_repeated_fit_keeps_the_record(sampled: MemoryLedger) -> None:
    record = record_of(sampled, NAME, 2)
    assert dataclasses.asdict(reproduce._thresholds(record)) == record["thresholds"]
