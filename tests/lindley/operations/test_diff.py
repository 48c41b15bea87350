"""Two beliefs side by side, against exact distances."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from lindley.errors import UnknownLink
from lindley.model.declaration import Declaration
from lindley.operations.diff import diff, joint_distance
from tests.support import amendments
from tests.support.fakes import MemoryLedger, coins
from tests.support.fits import CHAINS, DRAWS


@pytest.fixture(scope="module")
def ledger(five_chain: MemoryLedger, declaration: Declaration) -> MemoryLedger:
    """Five links; 6 takes out the third batch, 7 replaces the second one."""
    ledger = five_chain.clone()
    amendments.retract(ledger, declaration, 3)
    amendments.correct(ledger, declaration, 2, coins(declaration, 10, k=9, origin="revised.csv"))
    return ledger


class TestDistances:
    @pytest.mark.parametrize(("shift", "ratio"), [(0.0, 1.0), (0.5, 1.0), (0.0, 2.0), (-3.0, 0.3)])
    def test_one_coordinate_is_what_integration_gives(self, shift: float, ratio: float) -> None:
        x = np.linspace(-40, 40, 400_001)
        p, q = stats.norm.pdf(x), stats.norm.pdf(x, shift, ratio)
        exact = np.sqrt(max(1 - np.trapezoid(np.sqrt(p * q), x), 0))
        logs = stats.norm.logpdf(x) - stats.norm.logpdf(x, shift, ratio)
        jeffreys = np.trapezoid((p - q) * logs, x)
        one = np.ones((1, 1))
        found = joint_distance(np.zeros(1), one, np.array([shift]), one * ratio**2)
        # The rule's error and rounding of 1 - 1, whose root it is.
        assert found == pytest.approx((exact, jeffreys), abs=1e-6)

    def test_both_are_symmetric_and_do_not_depend_on_the_scale(self) -> None:
        rng = np.random.default_rng(1)
        a, b, scale = (rng.standard_normal((3, 3)) for _ in range(3))
        a, b, mean = a @ a.T + np.eye(3), b @ b.T + np.eye(3), rng.standard_normal(3)
        found = joint_distance(np.zeros(3), a, mean, b)
        assert joint_distance(mean, b, np.zeros(3), a) == pytest.approx(found)
        other = joint_distance(np.zeros(3), scale @ a @ scale.T, scale @ mean, scale @ b @ scale.T)
        assert other == pytest.approx(found)

    def test_a_singular_covariance_has_none(self) -> None:
        found = joint_distance(np.zeros(2), np.ones((2, 2)), np.zeros(2), np.eye(2))
        assert np.isnan(found).all()


class TestDiff:
    def test_a_belief_and_itself(self, ledger: MemoryLedger) -> None:
        found = diff(ledger, "coins@3", "coins@3")
        row = found.parameters.loc["theta"]
        assert (row["shift"], row["sd_ratio"], row["distance"]) == (0, 1, 0)
        assert found.hellinger == pytest.approx(0, abs=1e-6)
        assert found.divergence == pytest.approx(0, abs=1e-9)
        assert (found.batches["a"], found.batches["b"], found.same_model) == ([], [], True)

    def test_parameters_are_those_of_the_summaries_and_the_distance_that_of_the_draws(
        self, ledger: MemoryLedger
    ) -> None:
        from lindley.ledger.history import find_link

        one, two = find_link(ledger, "coins@1"), find_link(ledger, "coins@5")
        found = diff(ledger, "coins@1", "coins@5")
        row, a, b = found.parameters.loc["theta"], one.summary().loc["theta"], two.summary().loc["theta"]
        for name in ("mean", "sd", "q05", "q95"):
            assert (row[f"a_{name}"], row[f"b_{name}"]) == (a[name], b[name])
        pooled = np.sqrt((a["sd"] ** 2 + b["sd"] ** 2) / 2)
        assert row["shift"] == pytest.approx((b["mean"] - a["mean"]) / pooled)
        # Sorted draws of equal number and weight: the distance is their mean absolute difference.
        theta = [np.sort(link.trace()["posterior"]["theta"].values.ravel()) for link in (one, two)]
        assert len(theta[0]) == CHAINS * DRAWS
        assert row["distance"] == pytest.approx(np.abs(theta[0] - theta[1]).mean() / pooled)
        u = [link.trace()["coordinates"]["u"].values.ravel() for link in (one, two)]
        exact = joint_distance(
            u[0].mean(keepdims=True), np.atleast_2d(u[0].var()), u[1].mean(keepdims=True),
            np.atleast_2d(u[1].var()),
        )  # fmt: skip
        assert (found.hellinger, found.divergence) == pytest.approx(exact)
        assert found.coordinates == 1

    def test_which_batches_only_one_of_them_counts(self, ledger: MemoryLedger) -> None:
        found = diff(ledger, "coins@5", "coins@head").batches
        assert [(batch["link"], batch["origin"]) for batch in found["a"]] == [
            (2, "coins-010.csv"), (3, "coins-020.csv"),
        ]  # fmt: skip
        assert [(batch["link"], batch["origin"], batch["rows"]) for batch in found["b"]] == [
            (7, "revised.csv", 4)
        ]
        assert [batch["link"] for batch in found["both"]] == [1, 4, 5]

    def test_it_is_json(self, ledger: MemoryLedger) -> None:
        document = diff(ledger, "coins@1", "coins").as_dict()
        again = json.loads(json.dumps(document, allow_nan=False))
        assert again["a"]["link"] == 1
        assert (again["b"]["link"], again["b"]["kind"]) == (7, "correct")
        assert [row["parameter"] for row in again["parameters"]] == ["theta"]

    def test_a_link_that_is_none_is_told(self, ledger: MemoryLedger) -> None:
        with pytest.raises(UnknownLink):
            diff(ledger, "coins@1", "coins@9")
