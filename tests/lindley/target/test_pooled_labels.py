"""New labels within batches that are fitted together: one table, for any belief before."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm
import pytest

from lindley.batch.batch import Batch, batch_from_frame
from lindley.cache import Recent
from lindley.errors import CoordinatesMismatch
from lindley.inference.info import Info
from lindley.inference.inputs import Data, Options, Start
from lindley.inference.sampling import FitSettings
from lindley.inference.step import step
from lindley.model.declaration import Declaration
from lindley.model.policy import Policy
from lindley.operations.audit import audit_table
from lindley.prior.belief import Belief
from lindley.prior.matched import MatchedPrior
from lindley.prior.triangular import joint_normal
from lindley.target import prepare
from lindley.target.problem import Problem
from lindley.timing import Phases

SCHEMA = pa.schema([("id", pa.int64()), ("group", pa.string()), ("y", pa.float64())])


def hierarchy(batch: pd.DataFrame) -> pm.Model:
    """A mean for each label of the batch around a common one."""
    groups = sorted(set(batch["group"]))
    with pm.Model(coords={"group": groups}) as model:
        top = pm.Normal("top", 0, 2)
        theta = pm.Normal("theta", top, 1, dims="group")
        which = pm.Data("which", batch["group"].map(groups.index).to_numpy())
        pm.Normal("y", theta[which], 0.5, observed=pm.Data("values", batch["y"].to_numpy()))
    return model


def with_potential(batch: pd.DataFrame) -> pm.Model:
    model = hierarchy(batch)
    with model:
        pm.Potential("soft", -(model["theta"].sum() ** 2))
    return model


def declared(build: Callable[[pd.DataFrame], pm.Model], **options: object) -> Declaration:
    return Declaration(
        name="chain",
        build=build,
        schema=SCHEMA,
        row_key=("id",),
        carried=("top", "theta"),
        **options,  # type: ignore[arg-type]
    )


def batches_of(declaration: Declaration, *groups: str) -> list[Batch]:
    rng = np.random.default_rng(1)
    return [
        batch_from_frame(
            pd.DataFrame({"id": 100 * i + np.arange(len(g)), "group": list(g), "y": rng.normal(size=len(g))}),
            declaration,
        )
        for i, g in enumerate(groups)
    ]


def prepared(declaration: Declaration, batches: list[Batch], prior: MatchedPrior | None = None) -> Problem:
    assert declaration.carried is not None
    return prepare.prepare(prior, batches, declaration, declaration.carried, Phases(), None)


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "_additive", Recent(256, lambda _: 1))


@pytest.mark.parametrize("labelled_first", [True, False])
def test_how_batches_are_brought_together_does_not_depend_on_what_was_seen_before(
    labelled_first: bool,
) -> None:
    declaration = declared(hierarchy)
    same, come = batches_of(declaration, "ab", "ab"), batches_of(declaration, "aa", "ab")
    order = [come, same] if labelled_first else [same, come]
    assert [prepared(declaration, batches).pooled for batches in order] == ["rows", "rows"]


def test_labels_that_come_after_a_belief_are_compared_in_their_own_coordinates() -> None:
    declaration = declared(hierarchy)
    older, newer = batches_of(declaration, "aa", "ab")
    coordinates = prepared(declaration, [newer]).coordinates
    rng = np.random.default_rng(2)
    prior = MatchedPrior(coordinates, joint_normal(rng.normal(size=3), np.eye(3) + 0.3 * np.tri(3)))
    together = prepared(declaration, [older, newer], prior)
    prepare._additive.put(declaration.build, False)
    apart = prepared(declaration, [older, newer], prior)
    assert (together.pooled, apart.pooled) == ("rows", "terms")
    x = rng.normal(size=(5, 3))
    np.testing.assert_allclose(
        together.bound.log_densities(x)[0], apart.bound.log_densities(x)[0], rtol=1e-10
    )


def test_the_summary_has_the_labels_that_left_and_so_has_the_audit() -> None:
    declaration = declared(hierarchy, policy=Policy(replay=0, family="normal"))
    older, newer = batches_of(declaration, "aabb", "bbcc")

    def run(prior: Belief | None, seed: int, *batches: Batch) -> tuple[Belief, Info]:
        data = Data(declaration=declaration, batches=batches, carried=("top", "theta"))
        settings = FitSettings(draws=500, tune=300)
        return step(Start(prior=prior), data, Options(seed=seed, settings=settings))

    first, _ = run(None, 1, older)
    second, info = run(first, 2, newer)
    _, pooled = run(None, 3, older, newer)
    assert list(info.summary.index) == ["top", "theta[b]", "theta[c]", "theta[a]"]
    # Its prior is the belief before, which has it.
    place = first.matched.coordinates.names.index("theta[a]")
    exact = first.matched.map.sample(np.random.default_rng(0), 100_000)[:, place].std()
    assert info.summary.loc["theta[a]", "prior_sd"] == pytest.approx(exact, rel=5 / np.sqrt(2 * 1000))
    table = audit_table(info.summary, pooled.summary)
    assert set(table.index) == {"top", "theta[a]", "theta[b]", "theta[c]"}
    # Normal matches of a normal posterior: what is left is the Monte Carlo error of two fits' plain draws.
    ess = min(info.summary["ess_bulk"].min(), pooled.summary["ess_bulk"].min())
    assert ess > 400
    assert (table["error"].abs() < 5 * np.sqrt(2 / ess)).all()
    # It equals the value of the belief's own map.
    at = second.matched.coordinates.names.index("theta[a]")
    center = second.matched.map.forward(np.zeros((1, 4)))[0, at]
    assert info.summary.loc["theta[a]", "mean"] == pytest.approx(center, abs=1e-6)


def test_a_prior_potential_of_labels_that_come_is_refused() -> None:
    declaration = declared(with_potential, potentials={"soft": "prior"})
    older, newer = batches_of(declaration, "aa", "ab")
    coordinates = prepared(declaration, [older]).coordinates
    prior = MatchedPrior(coordinates, joint_normal(np.zeros(2), np.eye(2)))
    with pytest.raises(CoordinatesMismatch, match=r"'theta' has new labels, and the prior potential 'soft'"):
        prepared(declaration, [newer], prior)
    assert prepared(declaration, [older], prior).coordinates == coordinates
