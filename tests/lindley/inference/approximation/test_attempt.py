"""A chain that tries independent draws first: right where they are accepted, NUTS where they are not."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm
import pytest
from scipy import stats

from lindley.batch.batch import batch_from_frame
from lindley.errors import DeclarationRefused
from lindley.inference.approximation.attempt import unsound
from lindley.inference.inputs import Data, Options, Start
from lindley.inference.sampling import APPROXIMATION, NUTS, FitSettings
from lindley.inference.step import fit
from lindley.model.declaration import Declaration
from lindley.model.policy import Policy
from tests.support.oracles import regression

COLUMNS = ("x", "y")
FIELDS = [pa.field("id", pa.int64(), nullable=False)] + [pa.field(name, pa.float64()) for name in COLUMNS]
SETTINGS = FitSettings(draws=1000, tune=400)


def line(batch: pd.DataFrame) -> pm.Model:
    """A regression whose exact posterior `tests.support.oracles.regression` computes."""
    with pm.Model(coords={"term": ["one", "x"]}) as model:
        b, sigma = pm.Normal("b", 0, 10, dims="term"), pm.HalfNormal("sigma", 5)
        x = np.column_stack([np.ones(len(batch)), batch["x"]])
        pm.Normal("y", x @ b, sigma, observed=batch["y"].to_numpy())
    return model


def heavy(batch: pd.DataFrame) -> pm.Model:
    """One outcome of a normal with a Cauchy prior far away: tails that no proposal covers."""
    with pm.Model() as model:
        b = pm.Cauchy("b", 0, 1)
        pm.Normal("y", b, 50.0, observed=batch["y"].to_numpy())
    return model


def declared(build, **policy) -> Declaration:
    policy = Policy(**{"sampler": "auto", "refit_rows": 1, "rebase_at_drift": None} | policy)
    return Declaration(name="chain", build=build, schema=pa.schema(FIELDS), row_key=("id",), policy=policy)


def frame(rows: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(rows)
    return pd.DataFrame(
        {"id": np.arange(rows) + 1000 * seed, "x": x, "y": 1 + 2 * x + rng.standard_normal(rows)}
    )


def fitted(declaration, rows, carried, prior=None, settings=SETTINGS, seed=5):
    data = Data(declaration=declaration, batches=(batch_from_frame(rows, declaration),), carried=carried)
    return fit(Start(prior=prior), data, Options(seed=seed, settings=settings))


@pytest.fixture(scope="module")
def links():
    """Two links of the regression by independent draws."""
    declaration, frames = declared(line), [frame(25, 1), frame(40, 2)]
    first = fitted(declaration, frames[0], ("b", "sigma"))
    return frames, [first, fitted(declaration, frames[1], ("b", "sigma"), first.belief)]


def test_links_by_independent_draws_have_the_exact_posterior(links) -> None:
    frames, fits = links
    for count, found in enumerate(fits, start=1):
        rows = pd.concat(frames[:count])
        x = np.column_stack([np.ones(len(rows)), rows["x"]])
        exact = regression(x, rows["y"].to_numpy(), ("one", "x"))
        assert found.provenance.sampler["sampler"] == APPROXIMATION
        values = found.draws.quantities.values
        points = np.concatenate([values["b"], values["sigma"][..., None]], axis=-1).reshape(-1, 3)
        ess = found.sampled.sampling.convergence.ess_min
        assert found.assessment.gate.passed
        assert ess > 1000
        # The second link starts from a match, whose error comes on top.
        tolerance = 4.5 / np.sqrt(ess) + 0.02 * (count - 1)
        assert np.abs((points.mean(axis=0) - exact.mean) / exact.sd).max() < tolerance
        assert np.abs(np.log(points.std(axis=0) / exact.sd)).max() < tolerance


def test_the_certificate_is_stated_and_within_its_limits(links) -> None:
    for found in links[1]:
        stated = found.provenance.sampler
        assert stated["k_hat"] < stated["k_hat_limit"] <= 0.5
        assert stated["efficiency"] >= stated["efficiency_limit"]
        assert stated["ascents"] >= 2
        assert "declined" not in stated
        assert len(found.provenance.attempts) == 1


def test_the_same_step_gives_the_same_draws(links) -> None:
    frames, fits = links
    again = fitted(declared(line), frames[0], ("b", "sigma"))
    assert again.belief.matched.digest == fits[0].belief.matched.digest
    assert np.array_equal(again.draws.x, fits[0].draws.x)


def test_more_draws_are_taken_until_enough_are_effective(links) -> None:
    few = replace(SETTINGS, draws=100, ess=700)
    found = fitted(declared(line), links[0][0], ("b", "sigma"), settings=few)
    stated = found.provenance.sampler
    assert stated["sampler"] == APPROXIMATION
    assert (stated["first_draws"], stated["draws"]) == (100, found.draws.x.shape[1])
    assert stated["draws"] > 100
    assert found.sampled.sampling.convergence.ess_min >= 700


def test_nuts_samples_what_is_not_certified() -> None:
    rows = pd.DataFrame({"id": [1], "x": [0.0], "y": [20.0]})
    found = fitted(declared(heavy), rows, ("b",), settings=replace(SETTINGS, draws=2000))
    stated = found.provenance.sampler
    assert stated["sampler"] == NUTS
    assert "k-hat" in stated["declined"] or "efficiency" in stated["declined"]
    grid = np.linspace(-400, 400, 200_001)
    density = np.exp(stats.cauchy.logpdf(grid) + stats.norm.logpdf(20, grid, 50))
    below = np.cumsum(density) / density.sum()
    ess = found.sampled.sampling.convergence.ess_min
    b = found.draws.quantities.values["b"].ravel()
    for level in (0.25, 0.5, 0.75):
        assert abs((b < np.interp(level, below, grid)).mean() - level) < 4.5 * 0.5 / np.sqrt(ess)


def problem(**given):
    """What `unsound` looks at, of a plain problem but for what is given."""
    policy = Policy(sampler="auto", robust=given.pop("robust", 0.0))
    declaration = SimpleNamespace(carry=given.pop("carry", {}), policy=policy)
    circular = SimpleNamespace(circular=np.array([given.pop("circular", False)]))
    graph = SimpleNamespace(declaration=declaration)
    plain = {"local_names": (), "components": (), "genesis": False, "coordinates": circular, "graph": graph}
    return SimpleNamespace(**plain | given)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({}, ""),
        ({"local_names": ("effect",)}, "local variables"),
        ({"carry": {"start": "end"}}, "state"),
        ({"components": ((0.5, None), (0.5, None))}, "mixture"),
        ({"robust": 0.1}, "mixture"),
        ({"robust": 0.1, "genesis": True}, ""),
        ({"circular": True}, "circular"),
    ],
)
def test_it_is_not_tried_where_it_would_be_unsound(given, why: str) -> None:
    assert why in unsound(problem(**given))
    assert bool(why) == bool(unsound(problem(**given)))


def test_another_sampler_is_refused() -> None:
    with pytest.raises(DeclarationRefused, match="nuts or auto"):
        Policy(sampler="vi")
