"""Separated modes: found, weighted by their evidence, carried as a mixture; or the link says so."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm
import pytest
from scipy import stats

from lindley.batch.batch import batch_from_frame
from lindley.errors import FitFailed
from lindley.inference.diagnostics import pulls
from lindley.inference.inputs import Data, Options
from lindley.inference.memory_chain import MemoryChain, advance, refit
from lindley.inference.sampling import FitSettings, _start
from lindley.ledger.netcdf import read_matched_prior, write_matched_prior
from lindley.ledger.record import Artifact
from lindley.ledger.registration import register_link
from lindley.model.declaration import Declaration, load_declaration
from lindley.model.policy import Forgetting, Policy
from lindley.operations.log import log_plan
from lindley.operations.plan import fit_plan
from lindley.operations.update import plan_update
from lindley.target.engine import Bound
from lindley.target.prepare import prepare
from lindley.target.problem import Starts
from lindley.timing import Phases
from lindley.verification.gather import verify_chain
from lindley.verification.reproduce import reproduce_links
from tests.support.fakes import MemoryLedger
from tests.support.forging import forge, record_of

SETTINGS = FitSettings(draws=400, tune=300)
SCHEMA = pa.schema([("id", pa.int64()), ("square", pa.float64()), ("y", pa.float64())])
ROWS, SIGMA = 5, 2.0
GRID = np.linspace(-14, 14, 28_001)


def build_root(batch: pd.DataFrame, center: float = 3.0) -> pm.Model:
    """Rows about the square of theta, and rows about theta."""
    with pm.Model() as model:
        theta = pm.Normal("theta", pm.Data("center", center), 5)
        square = pm.Data("square", batch["square"].to_numpy())
        mean = square * theta**2 + (1 - square) * theta
        pm.Normal("y", mean, SIGMA, observed=pm.Data("y_values", batch["y"].to_numpy()))
    return model


def build_labels(batch: pd.DataFrame) -> pm.Model:
    """Two components whose labels only the prior tells apart."""
    with pm.Model() as model:
        low, high = pm.Normal("low", -0.3, 2), pm.Normal("high", 0.3, 2)
        means = pm.math.stack([low, high])
        pm.NormalMixture(
            "y", w=[0.5, 0.5], mu=means, sigma=1.0, observed=pm.Data("y_values", batch["y"].to_numpy())
        )
    return model


def build_from_zero(batch: pd.DataFrame) -> pm.Model:
    return build_root(batch, 0.0)


class Chain:
    """A chain in memory that is fed batch after batch."""

    def __init__(self, build=build_root, carried=("theta",), **policy):
        self.declaration = Declaration(
            name="chain",
            build=build,
            schema=SCHEMA,
            row_key=("id",),
            carried=carried,
            policy=Policy(**policy),
        )
        self.chain, self.fits, self.rows = MemoryChain(), [], 0

    def batch(self, y, square):
        ids = np.arange(len(y)) + self.rows
        self.rows += len(y)
        return batch_from_frame(pd.DataFrame({"id": ids, "square": square, "y": y}), self.declaration)

    def data(self, *batches):
        return Data(declaration=self.declaration, batches=batches, carried=self.declaration.carried)

    def feed(self, y, square=1.0):
        options = Options(seed=len(self.fits), settings=SETTINGS)
        self.chain, found = advance(self.chain, self.data(self.batch(y, square)), options)
        self.fits.append(found)
        return found


def share(found, name="theta"):
    """Weight of the draws below 0, in the match and of plain draws, of the last fit."""
    values = found.draws.quantities.values[name].ravel()
    return found.sampled.calibration.weights[values < 0].sum(), np.mean(values < 0)


def squares(rng, truth=-4.0, rows=ROWS):
    return truth**2 + SIGMA * rng.standard_normal(rows)


def exact_root(log_density, y, square):
    mean = square * GRID**2 + (1 - square) * GRID
    return log_density + stats.norm.logpdf(y[:, None], mean, SIGMA).sum(axis=0)


def below(log_density):
    density = np.exp(log_density - log_density.max())
    return density[GRID < 0].sum() / density.sum()


@pytest.fixture(scope="module")
def root():
    """Sixteen batches about the square, then two about theta, whose truth is the less probable root."""
    rng, chain = np.random.default_rng(0), Chain(replay=0)
    density, exact = stats.norm.logpdf(GRID, 3, 5), []
    for number in range(18):
        square = float(number < 16)
        y = squares(rng) if square else -4 + SIGMA * rng.standard_normal(ROWS)
        density = exact_root(density, y, square)
        exact.append(below(density))
        chain.feed(y, square)
    return chain, exact


def test_both_square_roots_keep_their_weights(root):
    chain, exact = root
    for found, wanted in zip(chain.fits[:16], exact, strict=False):
        assert found.assessment.gate.passed
        assert (found.belief.matched.family, found.assessment.metrics["modes"]) == ("mixture", 2)
        assert share(found) == (pytest.approx(wanted, abs=0.005), pytest.approx(wanted, abs=0.006))
        assert found.belief.trusted
        assert found.assessment.metrics["modes_lost"] == 0


def test_rows_about_theta_decide_for_the_root_that_seemed_less_probable(root):
    chain, exact = root
    last = chain.fits[-1]
    assert exact[-1] == pytest.approx(1.0, abs=1e-9)
    assert (last.belief.matched.family, last.assessment.metrics["modes"]) == ("normal", 1)
    assert share(last) == (pytest.approx(1.0), 1.0)
    mean = last.sampled.calibration.weights @ last.sampled.carried
    assert mean == pytest.approx(-4.0, abs=0.2)


def test_the_score_is_that_of_both_modes(root):
    """Summed over the chain it is the log marginal likelihood, by quadrature on a grid."""
    chain, _ = root
    rng, density = np.random.default_rng(0), stats.norm.logpdf(GRID, 3, 5)
    for number in range(16):
        density = exact_root(density, squares(rng), 1.0)
        if number in (0, 15):
            exact = np.log(np.exp(density - density.max()).sum() * (GRID[1] - GRID[0])) + density.max()
            assert chain.fits[number].assessment.metrics["log_score"] == pytest.approx(exact, abs=0.05)


def test_a_batch_that_rules_out_a_mode_does_not_conflict(root):
    """Rows about theta rule out mode +4, of weight 0.72: the other mode foresaw them."""
    chain, _ = root
    p = [found.assessment.metrics["conflict_p"] for found in chain.fits[1:17]]
    assert p[-1] > 0.01
    assert stats.kstest(p, "uniform").pvalue > 0.001
    assert {found.assessment.metrics["moving"] for found in chain.fits[1:17]} == {0.0}


def test_labels_keep_their_weights(monkeypatch):
    monkeypatch.setattr(pulls, "_MOST", 250)  # simulated batches: the weights do not depend on them
    rng, chain = np.random.default_rng(0), Chain(build_labels, ("low", "high"), replay=0)
    grid = np.linspace(-6, 6, 401)
    low, high = np.meshgrid(grid, grid, indexing="ij")
    density = stats.norm.logpdf(low, -0.3, 2) + stats.norm.logpdf(high, 0.3, 2)
    for _ in range(20):
        y = np.where(rng.random(15) < 0.5, -2.0, 2.0) + rng.standard_normal(15)
        for one in y:
            density = density + np.logaddexp(stats.norm.logpdf(one, low), stats.norm.logpdf(one, high))
        found = chain.feed(y)
        assert found.assessment.gate.passed
    exact = np.exp(density - density.max())
    wanted = exact[low < high].sum() / exact.sum()
    values = found.draws.quantities.values
    ordered = (values["low"] < values["high"]).ravel()
    assert found.belief.matched.family == "mixture"
    assert found.sampled.calibration.weights[ordered].sum() == pytest.approx(wanted, abs=0.01)


def test_batches_that_are_fitted_again_meet_both_modes():
    """Replay and a pooled refit start from genesis."""
    rng, chain = np.random.default_rng(3), Chain(build_from_zero)
    for _ in range(3):
        found = chain.feed(squares(rng))
    pooled = refit(chain.chain, chain.data(chain.chain.batches[-1]), Options(seed=9, settings=SETTINGS))[1]
    for one in (found, pooled):
        assert one.assessment.metrics["modes"] == 2
        assert share(one)[0] == pytest.approx(0.5, abs=0.01)


def test_a_mode_that_no_chain_reached_is_looked_for(monkeypatch):
    """All chains start at the root where the prior is, as they did before they started from the prior."""

    def one_side(self, rng):
        return np.full(self.size, 4.0) + 0.1 * rng.standard_normal(self.size)

    monkeypatch.setattr(Starts, "dispersed", one_side)
    found = Chain(replay=0).feed(squares(np.random.default_rng(0)))
    assert found.assessment.metrics["modes"] == 2
    assert share(found)[0] == pytest.approx(0.277, abs=0.01)


@pytest.mark.parametrize("family", ["normal", "sinh-arcsinh"])
def test_modes_that_the_family_cannot_carry_are_said_from_then_on(family):
    rng, chain = np.random.default_rng(0), Chain(family=family, replay=0)
    for number in range(3):
        found = chain.feed(squares(rng))
        warnings = found.assessment.gate.warnings
        assert found.assessment.metrics["modes_lost"] == found.belief.modes_lost >= 1
        assert any("could not carry separated modes" in warning for warning in warnings)
        if not number:
            assert any(f"2 separated modes are carried as one {family}" in one for one in warnings)


def test_the_family_mixture_is_a_normal_for_each_mode():
    rng, chain = np.random.default_rng(0), Chain(family="mixture", replay=0)
    matched = chain.feed(squares(rng)).belief.matched
    assert matched.family == "mixture"
    assert {part.family for _, part in matched.components} == {"normal"}
    assert chain.feed(np.full(3, -4.0), 0.0).belief.matched.family == "normal"


def test_a_mixture_is_widened_mode_by_mode():
    chain = Chain(forget={"theta": Forgetting(discount=0.5)})
    rng = np.random.default_rng(0)
    first, second = (chain.feed(squares(rng)) for _ in range(2))
    assert second.assessment.metrics["modes"] == 2
    assert share(second)[0] == pytest.approx(share(first)[0], abs=0.02)


def test_chains_start_from_draws_of_the_prior():
    chain = Chain()
    batch = chain.batch(np.full(3, 16.0), 1.0)
    problem = prepare(None, [batch], chain.declaration, ("theta",), Phases())
    rng = np.random.default_rng(0)
    starts = np.array([problem.starts.dispersed(rng)[0] for _ in range(200)])
    assert starts.mean() == pytest.approx(3, abs=4 * 5 / np.sqrt(200))
    assert starts.std() == pytest.approx(5, rel=0.25)
    belief = chain.feed(squares(rng)).belief
    later = prepare(belief.matched, [batch], chain.declaration, ("theta",), Phases())
    z = np.array([later.starts.dispersed(rng)[0] for _ in range(200)])
    assert z.std() == pytest.approx(1, rel=0.25)


def test_a_start_without_a_density_is_drawn_again():
    """Half the prior is ruled out; where all of it is, the second way to draw a start is taken."""

    def log_density(x):
        return (-1.0 if x[0] > 0 else -np.inf), np.zeros(1)

    bound = Bound(size=1, names=None, log_density=log_density, table=None)
    starts = [_start(bound, lambda rng: rng.standard_normal(1), np.zeros, 1, seed) for seed in range(20)]
    assert min(starts)[0] > 0
    assert _start(bound, lambda rng: -np.ones(1), lambda rng: np.ones(1), 8, 0)[0] == 1.0
    with pytest.raises(FitFailed, match="No starting point"):
        _start(bound, lambda rng: -np.ones(1), lambda rng: -np.ones(1), 8, 0)


def test_a_chain_starts_from_the_best_of_its_draws():
    bound = Bound(size=1, names=None, log_density=lambda x: (-(x[0] ** 2), -2 * x), table=None)
    rng = np.random.default_rng(4)
    draws = [rng.standard_normal(1) for _ in range(8)]
    found = _start(bound, lambda rng: rng.standard_normal(1), np.zeros, 8, 4)
    assert found == min(draws, key=np.abs)


def test_the_same_seed_gives_the_same_modes():
    y = squares(np.random.default_rng(0))
    one, two = (Chain().feed(y) for _ in range(2))
    assert one.belief.matched.digest == two.belief.matched.digest
    np.testing.assert_array_equal(one.sampled.carried, two.sampled.carried)
    assert replace(one.belief, matched=two.belief.matched) == two.belief


CODE = '''"""Square roots."""

import pyarrow as pa
import pymc as pm

from lindley import Declaration


def build(batch):
    with pm.Model() as model:
        theta = pm.Normal("theta", pm.Data("center", 3.0), 5)
        square = pm.Data("square", batch["square"].to_numpy())
        mean = square * theta**2 + (1 - square) * theta
        pm.Normal("y", mean, 2.0, observed=pm.Data("y_values", batch["y"].to_numpy()))
    return model


declaration = Declaration(
    name="roots",
    build=build,
    schema=pa.schema([("id", pa.int64()), ("square", pa.float64()), ("y", pa.float64())]),
    row_key=("id",),
)
'''


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    """Two links whose posterior has two modes."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "roots.py").write_text(CODE)
    ledger, declaration, rng = MemoryLedger(), load_declaration("roots", folder), np.random.default_rng(0)
    for number in range(2):
        frame = pd.DataFrame({"id": np.arange(5) + 5 * number, "square": 1.0, "y": squares(rng)})
        plan = plan_update(ledger, declaration, batch_from_frame(frame, declaration))
        plan = replace(plan, settings=SETTINGS)
        assert register_link(ledger, log_plan(ledger, plan, fit_plan(plan))).status == "accepted"
    return ledger


def test_links_with_modes_verify_and_come_out_again(ledger):
    assert verify_chain(ledger, "roots").findings == ()
    assert {link.result for link in reproduce_links(ledger, "roots")} == {"identical"}
    assert {record_of(ledger, "roots", link)["posterior"]["family"] for link in (1, 2)} == {"mixture"}


def test_other_weights_of_modes_are_found(ledger, tmp_path):
    """R09 recomputes them from the draws that are kept of each mode."""
    ledger = ledger.clone()
    path = tmp_path / "prior.nc"
    path.write_bytes(ledger.run_of("roots", 2).files[Artifact.MATCHED_PRIOR])
    held = read_matched_prior(path)
    other = replace(held, map=replace(held.map, weights=held.map.weights[::-1].copy()))
    write_matched_prior(other, path)
    files = {Artifact.MATCHED_PRIOR: path.read_bytes()}
    forge(ledger, "roots", 2, lambda r: r["posterior"].update(matched=other.digest), files=files)
    findings = verify_chain(ledger, "roots").findings
    assert {finding.rule for finding in findings} == {"R09"}
    assert "weights of the matched prior" in findings[0].message
