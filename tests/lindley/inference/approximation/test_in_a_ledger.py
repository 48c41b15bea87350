"""A chain with the policy `auto` in a ledger: its records verify, and its links reproduce bit by bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from lindley.batch.batch import batch_from_frame
from lindley.inference.sampling import APPROXIMATION, FitSettings
from lindley.ledger.registration import register_link
from lindley.model.declaration import load_file
from lindley.operations.log import log_plan
from lindley.operations.plan import fit_plan
from lindley.operations.update import plan_update
from lindley.verification.gather import verify_chain
from lindley.verification.reproduce import reproduce_links
from tests.support.fakes import MODEL, MemoryLedger
from tests.support.forging import record_of

NAME = "coins"


def test_links_by_independent_draws_verify_and_reproduce(tmp_path: Path) -> None:
    path = tmp_path / f"{NAME}.py"
    path.write_text(MODEL.replace("Policy(", 'Policy(sampler="auto", '))
    ledger, declaration, rng = MemoryLedger(), load_file(path), np.random.default_rng(5)
    for number in range(2):
        frame = pd.DataFrame({"id": np.arange(10) + 10 * number, "k": rng.binomial(20, 0.3, 10), "n": 20})
        plan = plan_update(ledger, declaration, batch_from_frame(frame, declaration))
        plan = replace(plan, settings=FitSettings(draws=400, tune=300))
        assert register_link(ledger, log_plan(ledger, plan, fit_plan(plan))).status == "accepted"
        record = record_of(ledger, NAME, number + 1)
        assert record["policy"]["sampler"] == "auto"
        assert record["sampler"]["sampler"] == APPROXIMATION
        assert record["sampler"]["k_hat"] < record["sampler"]["k_hat_limit"]
    assert verify_chain(ledger, NAME).findings == ()
    assert {link.result.name for link in reproduce_links(ledger, NAME)} == {"IDENTICAL"}
