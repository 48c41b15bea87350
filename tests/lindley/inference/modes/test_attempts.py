"""A fit that its gate refuses is sampled again, and record, reason and warning state what was tried."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm
import pytest

from lindley.batch.batch import batch_from_frame
from lindley.errors import DeclarationRefused, ModelRefused
from lindley.inference.diagnostics.gate import Thresholds
from lindley.inference.inputs import Data, Options, Start, most_draws, require_memory
from lindley.inference.modes.attempts import MIDDLE, MODE, PRIOR, Attempt, resumed, tried
from lindley.inference.sampling import APPROXIMATION, FitSettings
from lindley.inference.step import step
from lindley.model.declaration import Declaration
from lindley.model.policy import Policy

SHORT = FitSettings(tune=100, draws=100)
#: R-hat that no chains reach.
NEVER = Thresholds(r_hat=0.9)


def one_mean(batch: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        mu = pm.Normal("mu", 0, 10)
        pm.Normal("y", mu, 1.0, observed=pm.Data("y_values", batch["y"].to_numpy()))
    return model


DECLARATION = Declaration(
    name="chain",
    build=one_mean,
    schema=pa.schema([("id", pa.int64()), ("y", pa.float64())]),
    row_key=("id",),
)


def fitted(settings: FitSettings, thresholds: Thresholds = NEVER):
    frame = pd.DataFrame({"id": np.arange(3), "y": [0.1, 0.4, -0.3]})
    data = Data(declaration=DECLARATION, batches=(batch_from_frame(frame, DECLARATION),), carried=("mu",))
    return step(Start(), data, Options(seed=1, settings=settings, thresholds=thresholds))[1]


def test_a_fit_with_too_few_draws_is_sampled_again_until_it_passes():
    info = fitted(SHORT, Thresholds())
    provenance, metrics = info.fit.provenance, info.metrics
    first, *again = provenance.attempts
    assert info.gate.passed
    assert len(again) == provenance.sampler["attempt"] - 1 >= 1
    assert [one["passed"] for one in provenance.attempts] == [False] * len(again) + [True]
    assert first["figures"]["ess_bulk_min"] < 400 <= again[-1]["figures"]["ess_bulk_min"]
    assert again[-1]["figures"] == {name: metrics[name] for name in again[-1]["figures"]}
    assert len(again[-1]["figures"]) == 4
    assert all(2 <= b["draws"] / a["draws"] <= 4 for a, b in pairwise(provenance.attempts))
    assert (first["start"], again[0]["start"]) == ("prior", "middle")
    (warning,) = (text for text in info.gate.warnings if "sampled again" in text)
    assert "100 warm-up steps and 100 draws" in warning


def test_a_fit_that_never_passes_is_refused_with_all_attempts():
    info = fitted(SHORT)
    attempts = info.fit.provenance.attempts
    assert not info.gate.passed
    assert info.fit.provenance.sampler["attempt"] == len(attempts) == 3
    assert [one["tune"] for one in attempts] == [100, 200, 400]
    # Smaller steps once; again only where draws diverge.
    assert [round(one["target_accept"], 4) for one in attempts] == [0.9, 0.975, 0.975]
    assert any("R-hat" in reason and "mu" in reason for reason in info.gate.reasons[:-1])
    assert info.gate.reasons[-1].startswith("3 attempts: 100 warm-up steps and 100 draws")
    assert not any("sampled again" in warning for warning in info.gate.warnings)


def test_without_retries_a_fit_is_sampled_once():
    none = FitSettings.of(Policy(retries=0))
    assert none.attempts == 1
    info = fitted(replace(SHORT, attempts=none.attempts))
    assert len(info.fit.provenance.attempts) == 1
    assert info.gate.reasons[-1].startswith("1 attempt: ")
    with pytest.raises(DeclarationRefused, match="retries"):
        Policy(retries=-1)


def test_steps_get_smaller_while_draws_diverge():
    second = FitSettings().retried(2, diverged=False)
    assert second.target_accept == pytest.approx(0.975)
    assert second.retried(3, diverged=True).target_accept == pytest.approx(0.99375)
    assert second.retried(3, diverged=False).target_accept == second.target_accept


def test_a_retry_has_the_draws_that_are_missing_and_fit_into_memory():
    first = FitSettings(draws=1000)
    draws = [first.retried(2, diverged=False, missing=missing).draws for missing in (0.4, 0.8, 2.5, 40.0)]
    assert draws == [1000, 2000, 2500, 4000]  # where there were plenty, more do not help
    most = most_draws(10_000, first)
    require_memory(10_000, first.at_most(most))
    with pytest.raises(ModelRefused):
        require_memory(10_000, replace(first, draws=most + 1))
    assert first.at_most(most) == first


def stated(kept: Attempt, **more: Any) -> dict[str, Any]:
    """Return what a record states of a fit that kept an attempt."""
    sampler = kept.settings.as_dict() | {"attempt": kept.number} | more
    return {"sampler": sampler, "attempts": [kept.as_dict()]}


def test_a_fit_begins_with_what_the_one_before_needed():
    """At as many draws as its effective sample size asks for, between the policy's and those it had."""
    first, limits = FitSettings(), Thresholds()
    needed = replace(first, tune=1000, draws=6000, target_accept=0.975)

    def after(ess: float, number: int = 2, settings: FitSettings = needed, **more: Any) -> FitSettings:
        figures = {"ess_bulk_min": ess + 1, "ess_tail_min": ess, "r_hat_max": 1.0}
        return resumed(first, stated(Attempt("", number, settings, MIDDLE, figures, True), **more), limits)

    assert after(1200.0) == replace(needed, draws=2400)
    assert after(9000.0) == replace(needed, draws=first.draws)
    assert after(300.0) == needed
    assert after(1200.0, number=1) == replace(needed, draws=2400)  # the third one begins like the second
    assert after(1200.0, settings=first) == first
    assert after(1200.0, sampler=APPROXIMATION) == first


def test_what_a_mode_or_a_refused_attempt_had_is_not_taken_up():
    first, limits = FitSettings(), Thresholds()
    longer = replace(first, draws=4000)
    figures = {"ess_bulk_min": 500.0, "ess_tail_min": 500.0}
    for of, passed in (("mode 1", True), ("", False)):
        assert resumed(first, stated(Attempt(of, 2, longer, MODE, figures, passed)), limits) == first
    undefined = Attempt("", 2, longer, MIDDLE, {"ess_bulk_min": 500.0}, True)
    assert resumed(first, stated(undefined), limits) == first
    assert resumed(first, {"sampler": {"library": "stan"}, "attempts": []}, limits) == first


def test_attempts_in_words():
    figures = {"r_hat_max": 1.2345, "ess_bulk_min": 90.0, "ess_tail_min": 50.2, "divergence_rate": 0.021}
    stuck = {"divergence_rate": 0.0}
    first = Attempt("", 1, FitSettings(), PRIOR, figures, False)
    second = Attempt("mode 1", 2, FitSettings().retried(2, diverged=True), MIDDLE, stuck, False)
    assert tried([first, second]) == (
        "2 attempts: 500 warm-up steps and 1,500 draws, acceptance 0.9, from draws of the prior (R-hat "
        "1.234, ESS 50, 2.10% diverged); mode 1: 1,000 warm-up steps and 3,000 draws, acceptance 0.975, from "
        "near its middle (R-hat undefined, ESS undefined, 0.00% diverged)"
    )
    assert tried([]) == ""
