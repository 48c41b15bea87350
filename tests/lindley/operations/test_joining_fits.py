"""A quarantined batch that joins, with the real sampler: the belief is the exact posterior of all rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lindley.batch.batch import batch_from_frame
from lindley.inference.diagnostics.gate import Thresholds
from lindley.ledger.history import find_link
from lindley.ledger.reading import find_chain
from lindley.ledger.registration import register_link
from lindley.model.declaration import load_declaration
from lindley.model.policy import Policy
from lindley.operations.log import log_plan
from lindley.operations.plan import fit_plan
from lindley.operations.update import plan_update
from lindley.verification.gather import verify_chain
from tests.support.fakes import MemoryLedger
from tests.support.oracles import normal_mean

MODELS = Path(__file__).parents[3] / "models"
#: No fit has so many effective draws: the gate refuses it.
REFUSING = Thresholds(ess=1e9)


@pytest.mark.parametrize(("policy", "fitted"), [({}, [1, 2, 3, 4]), ({"refit_rows": 1}, [1, 1, 2, 1])])
def test_the_belief_is_the_exact_posterior_of_all_rows(policy, fitted):
    declaration = replace(load_declaration("normal_mean", MODELS), policy=Policy(**policy))
    ledger, found, ess = MemoryLedger(), [], []
    y = np.random.default_rng(5).normal(3, 2, (4, 8))
    y[1] += 4  # missed where it does not count
    for number, values in enumerate(y):
        frame = pd.DataFrame({"id": np.arange(8) + 8 * number, "y": values})
        plan = plan_update(ledger, declaration, batch_from_frame(frame, declaration, f"{number}.csv"))
        refused = number == 1
        plan = replace(plan, thresholds=REFUSING) if refused else plan
        outcome = fit_plan(plan)
        registered = register_link(ledger, log_plan(ledger, plan, outcome))
        assert registered.status == ("quarantined" if refused else "accepted")
        found.append(len(plan.batches))
        ess.append(min(outcome.metrics["ess_bulk_min"], outcome.metrics["ess_tail_min"]))
    assert found == fitted
    assert find_chain(ledger, "normal_mean").waiting == ()
    assert find_link(ledger, "normal_mean@2").view.joined == ("1.csv",)
    report = verify_chain(ledger, "normal_mean")
    assert (report.findings, report.ok) == ((), True)
    # The errors of matches add up; the newest fit is the only one where it has all batches.
    behind = np.array([ess[0], *ess[2:]] if policy else ess[-1:])
    assert behind.min() > 400
    tolerance, exact = 5 * np.sqrt((1 / behind).sum()), normal_mean(y.ravel())
    row = find_link(ledger, "normal_mean@head").summary().loc["mu"]
    assert abs(row["mean"] - exact.mean()) < tolerance * exact.std()
    assert abs(np.log(row["sd"] / exact.std())) < tolerance
