"""Members of a panel: each is updated by itself, exactly as one chain of its own would be."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm
import pytest

from lindley.batch.batch import batch_from_frame
from lindley.inference.info import Fit
from lindley.inference.inputs import Data, Options, Start
from lindley.inference.members.fitting import fit_members
from lindley.inference.members.result import APPROXIMATION, NUTS, MemberFit
from lindley.inference.members.task import MemberOptions, MemberTask
from lindley.inference.sampling import FitSettings
from lindley.inference.step import fit
from lindley.model.declaration import Declaration
from lindley.model.policy import Policy
from tests.support.oracles import normal_mean

SCHEMA = pa.schema([pa.field("id", pa.int64(), nullable=False), pa.field("y", pa.float64(), nullable=False)])
OPTIONS = MemberOptions(carried=("mu",), settings=FitSettings(draws=700, tune=300), draws=50)


def known_noise(batch: pd.DataFrame) -> pm.Model:
    """The mean of one member's rows, with known noise: conjugate."""
    if (batch["y"] == 99.0).any():
        raise ValueError("99 stands for a missing value")
    with pm.Model() as model:
        mu = pm.Normal("mu", 0.0, 10.0)
        pm.Normal("y", mu, 2.0, observed=batch["y"].to_numpy())
    return model


DECLARATION = Declaration(
    name="panel", build=known_noise, schema=SCHEMA, row_key=("id",), policy=Policy(sampler="auto")
)


def task(number: int, y, **given) -> MemberTask:
    frame = pd.DataFrame({"id": np.arange(len(y)), "y": np.asarray(y, dtype=float)})
    return MemberTask(key=(number,), batch=batch_from_frame(frame, DECLARATION), seed=100 + number, **given)


def fitted(tasks, options=OPTIONS, declaration=DECLARATION) -> list[MemberFit]:
    return list(fit_members(declaration, tasks, options))


@pytest.fixture(scope="module")
def tasks() -> list[MemberTask]:
    rng = np.random.default_rng(1)
    found = [task(number, rng.normal(number, 2.0, rows)) for number, rows in enumerate((9, 1, 30))]
    return [*found, task(3, [1.0, 99.0])]


@pytest.fixture(scope="module")
def fits(tasks: list[MemberTask]) -> list[MemberFit]:
    return fitted(tasks)


def rows_of(one: MemberTask) -> np.ndarray:
    return one.batch.frame()["y"].to_numpy()


def test_each_member_has_the_posterior_of_its_own_rows(tasks, fits) -> None:
    for one, found in zip(tasks[:3], fits[:3], strict=True):
        exact = normal_mean(rows_of(one))
        mean, sd = found.summary["mu"]["mean"], found.summary["mu"]["sd"]
        ess = found.metrics["ess_bulk_min"]
        assert found.key == one.key
        assert found.passed
        assert ess > 400
        assert abs(mean - exact.mean()) < 5 * exact.std() / np.sqrt(ess)
        assert abs(sd / exact.std() - 1) < 5 / np.sqrt(2 * ess)
        assert found.summary["mu"]["q05"] < mean < found.summary["mu"]["q95"]
        assert found.matched is not None
        assert found.started_from is None
        assert len(found.draws["mu"]) == OPTIONS.draws


def test_the_policy_rules_how_members_are_sampled(tasks) -> None:
    given = {"build": known_noise, "schema": SCHEMA, "row_key": ("id",), "observed": ("y",)}
    assert Declaration(name="one", **given).policy.sampler == "nuts"
    several = Declaration(name="several", by=("id",), **given | {"row_key": ("y",)})
    assert (several.policy.sampler, several.member.policy.sampler) == ("auto", "auto")
    asked = replace(several, policy=Policy(sampler="nuts"))
    assert asked.member.policy.sampler == asked.policy.as_dict()["sampler"] == "nuts"


def test_members_have_a_certificate_or_the_draws_of_nuts(tasks, fits) -> None:
    for found in fits[:3]:
        assert found.sampler == APPROXIMATION
        assert found.certificate["k_hat"] < found.certificate["k_hat_limit"]
        assert found.certificate["efficiency"] >= found.certificate["efficiency_limit"]
        assert not found.declined
    (other,) = fitted([tasks[0]], declaration=replace(DECLARATION, policy=Policy(sampler="nuts")))
    assert (other.sampler, other.certificate, other.declined) == (NUTS, {}, "")
    # Both have the same posterior, within the Monte Carlo error of their plain draws.
    exact = normal_mean(rows_of(tasks[0]))
    ess = min(one.metrics["ess_bulk_min"] for one in (other, fits[0]))
    assert abs(other.summary["mu"]["q05"] - fits[0].summary["mu"]["q05"]) < 5 * 2.2 * exact.std() / np.sqrt(
        ess
    )


def test_a_member_that_cannot_be_fitted_fails_alone(tasks, fits) -> None:
    assert [one.passed for one in fits] == [True, True, True, False]
    assert fits[3].belief is None
    assert fits[3].error == "ModelRefused"
    assert "99 stands for a missing value" in fits[3].reasons[0]


def test_order_and_company_do_not_change_a_result(tasks, fits) -> None:
    again = {found.key: found for found in fitted([tasks[2], tasks[0]])}
    for found in (fits[0], fits[2]):
        other = again[found.key]
        assert other.matched.digest == found.matched.digest
        assert other.metrics == found.metrics
        assert other.summary == found.summary
        assert np.array_equal(other.draws["mu"], found.draws["mu"])


def test_a_member_is_what_a_chain_of_its_rows_is(tasks, fits) -> None:
    """Also the link after: it starts from the belief before, or from a matched prior alone."""
    second = task(0, [2.0, 3.0, 1.0], prior=fits[0].belief)
    found = fitted([second, replace(second, prior=fits[0].matched)])
    chain: Fit = fit(
        Start(prior=fits[0].belief),
        Data(declaration=DECLARATION, batches=(second.batch,), carried=("mu",)),
        Options(seed=second.seed, settings=OPTIONS.settings),
    )
    ess = min(chain.assessment.metrics["match_ess"], found[0].metrics["match_ess"])
    exact = normal_mean(np.concatenate([rows_of(tasks[0]), rows_of(second)]))
    own, other = (one.map for one in (found[0].matched, chain.belief.matched))
    assert abs(own.mean() - other.mean()) < 5 * exact.std() * np.sqrt(2 / ess)
    assert found[0].started_from == found[1].started_from == fits[0].matched.digest
    assert found[0].metrics["log_predictive"] == pytest.approx(
        chain.assessment.metrics["log_predictive"],
        abs=5 * np.hypot(*(one["log_predictive_se"] for one in (found[0].metrics, chain.assessment.metrics)))
        + 1e-6,
    )
    assert {"conflict_p", "budget", "drift", "log_score"} <= found[0].metrics.keys()
    assert found[1].metrics["log_score"] == pytest.approx(found[1].metrics["log_predictive"])
