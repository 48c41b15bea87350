"""When a pooled refit follows by itself."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from lindley.ledger.chain import Chain, ChainLink, Version
from lindley.model.declaration import Declaration
from lindley.model.policy import Forgetting, Policy
from lindley.operations.rebase import rebase_due
from lindley.prior.belief import Audited


def chain_of(*kinds: str, **metrics: float) -> Chain:
    """A chain with links of these kinds; the head has these figures."""
    versions = [
        Version(
            number=n, kind=kind, record=f"r{n}", previous=f"r{n - 1}", prior=f"r{n - 1}",
            batch="" if kind in ("rebase", "import") else f"b{n}", status="accepted", run_id=f"{n}",
            rows=5,
            metrics=metrics if n == len(kinds) else {},
        )
        for n, kind in enumerate(kinds, 1)
    ]  # fmt: skip
    return Chain("r0", tuple(ChainLink(n, v) for n, v in enumerate(versions, 1)), (), ())


@pytest.mark.parametrize(
    ("policy", "kinds", "budget", "due"),
    [
        ({}, ["update"] * 50, 9.0, False),
        ({"rebase_every": 3}, ["update"] * 2, 9.0, False),
        ({"rebase_every": 3}, ["update"] * 3, 0.0, True),
        ({"rebase_every": 3}, ["update"] * 3 + ["rebase"], 9.0, False),
        ({"rebase_every": 3}, ["update"] * 3 + ["rebase"] + ["update"] * 2, 0.0, False),
        ({"rebase_every": 3}, ["update"] * 3 + ["rebase"] + ["update"] * 3, 0.0, True),
        ({"rebase_at_budget": 0.5}, ["update"] * 2, 0.49, False),
        ({"rebase_at_budget": 0.5}, ["update"] * 2, 0.5, True),
        # The first link is the pooled fit.
        ({"rebase_at_budget": 0.5}, ["update"], 0.5, False),
        ({"rebase_at_budget": 0.5, "rebase_rows": 10}, ["update"] * 2, 0.5, True),
        ({"rebase_at_budget": 0.5, "rebase_rows": 9}, ["update"] * 2, 0.5, False),
        ({"rebase_at_budget": 0.5}, ["update", "rebase"], 0.9, False),
        ({"rebase_every": 1}, ["import"], 9.0, False),
        ({"rebase_every": 1}, [], 0.0, False),
    ],
)
def test_a_refit_is_due_by_links_or_budget_and_never_twice(
    declaration: Declaration, policy: dict[str, Any], kinds: list[str], budget: float, due: bool
) -> None:
    declared = dataclasses.replace(declaration, policy=Policy(**policy))
    why = rebase_due(chain_of(*kinds, budget=budget), declared)
    assert (why is not None) == due
    if due:
        assert str(next(iter(policy.values()))) in str(why)


@pytest.mark.parametrize(
    ("kinds", "drift", "due"),
    [(["update"] * 2, 0.09, False), (["update"] * 2, 0.1, True), (["update", "rebase"], 0.9, False)],
)
def test_a_refit_is_due_where_matches_have_moved_the_chain(
    declaration: Declaration, kinds: list[str], drift: float, due: bool
) -> None:
    why = rebase_due(chain_of(*kinds, drift=drift, budget=9.0), declaration)
    assert why == ("drift 0.10, the policy allows 0.1; it fits 2 batches, 10 rows" if due else None)
    never = dataclasses.replace(declaration, policy=Policy(rebase_at_drift=None))
    assert rebase_due(chain_of(*kinds, drift=drift, budget=9.0), never) is None


@pytest.mark.parametrize(
    ("metrics", "why"),
    [
        ({"unmeasured": 0.0}, None),
        ({"unmeasured": 1.0}, "1 match whose error only a pooled refit can measure"),
        ({"unmeasured": 0.0} | Audited(0.3, 0.1, 2).as_metrics(), None),
        ({"unmeasured": 3.0} | Audited(0.06, 0.05, 2).as_metrics(), None),
        (
            {"unmeasured": 4.0} | Audited(0.01, 0.05, 2).as_metrics(),
            "4 matches whose error only a pooled refit can measure",
        ),
        (
            {"unmeasured": 3.0} | Audited(0.07, 0.05, 2).as_metrics(),
            "an expected error of 0.11 sds by matches that cannot be measured",
        ),
        # Monte Carlo error alone may be as large.
        ({"unmeasured": 3.0} | Audited(0.25, 0.26, 2).as_metrics(), None),
    ],
)
def test_a_refit_is_due_where_matches_could_not_be_measured(
    declaration: Declaration, metrics: dict[str, float], why: str | None
) -> None:
    found = rebase_due(chain_of(*["update"] * 5, **metrics), declaration)
    assert found == (f"{why}; it fits 5 batches, 25 rows" if why else None)
    never = dataclasses.replace(declaration, policy=Policy(rebase_at_drift=None))
    assert rebase_due(chain_of(*["update"] * 5, **metrics), never) is None


def test_a_refit_that_fails_is_tried_again_less_and_less(declaration: Declaration) -> None:
    """Each update makes a version, and each refit that failed."""
    tried, failed, chain = list[int](), list[Version](), chain_of("update")
    for link in range(2, 41):
        last = chain.links[-1].version
        made = dataclasses.replace(
            last,
            number=max(version.number for version in (last, *failed)) + 1,
            **{"record": f"r{link}", "batch": f"b{link}", "prior": last.record, "previous": last.record},
            metrics={"drift": 0.5},
        )
        chain = Chain("r0", (*chain.links, ChainLink(link, made)), (), tuple(failed))
        if rebase_due(chain, declaration) is not None:
            tried.append(link)
            failed.append(dataclasses.replace(made, number=made.number + 1, kind="rebase", batch=""))
    assert tried == [2, 3, 5, 10, 21]


def test_a_policy_records_its_limit_on_drift_or_that_it_has_none() -> None:
    assert Policy().as_dict()["rebase_at_drift"] == 0.1
    assert Policy(rebase_at_drift=None).as_dict()["rebase_at_drift"] is None
    assert [Policy().refits, Policy(rebase_at_drift=None).refits] == [True, False]
    assert not Policy(forget={"theta": Forgetting(discount=0.9)}).refits
