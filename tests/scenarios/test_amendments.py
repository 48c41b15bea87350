"""Retraction and correction through the sampler and a real MLflow registry, against exact answers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lindley import Policy
from lindley.batch.batch import batch_from_frame
from lindley.ledger.backend import open_ledger
from lindley.ledger.history import find_link, history
from lindley.ledger.reading import find_chain
from lindley.ledger.registration import register_link
from lindley.model.declaration import load_declaration, load_file
from lindley.operations.log import log_plan
from lindley.operations.plan import fit_plan
from lindley.operations.retract import plan_correct, plan_retract
from lindley.operations.update import plan_update
from lindley.verification.gather import verify_chain
from lindley.workspace import Workspace
from tests.support.oracles import beta_binomial

ROOT = Path(__file__).parents[2]
VINTAGE = ROOT / "data/reference/covid" / "usa_confirmed_vintage_2020-04-22.csv"
BATCHES, BAD, ROWS = 10, 3, 10
#: Each update starts from the link before: what was withdrawn has to come out of a belief that holds it.
APART = Policy(refit_rows=1)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("amendments")
    return open_ledger(
        Workspace(
            root=root,
            models=ROOT / "models",
            landing=root / "landing",
            store=root / "store",
            rejected=root / "rejected",
            tracking_uri=f"sqlite:///{root / 'mlflow.db'}",
        )
    )


def append(ledger, declaration, frame, origin):
    plan = plan_update(ledger, declaration, batch_from_frame(frame, declaration, origin=origin))
    assert plan.noop is None
    found = register_link(ledger, log_plan(ledger, plan, fit_plan(plan)))
    assert found.status == "accepted"
    return found


def done(ledger, plan):
    assert plan.noop is None
    found = register_link(ledger, log_plan(ledger, plan, fit_plan(plan)))
    assert found.status == "accepted"
    return found


def error_of(ledger, chain, sds):
    """The Monte Carlo error of the head's mean, and of the log of its sd, in sds.

    Each fit that led to the head left an error of its sd over the root of its ESS, which is watered down by
    the data after it: by the ratio of variances.

    Parameters
    ----------
    sds
        Exact sds of the belief after each of these fits, by link.
    """
    ess = {view.number: view.metrics["ess_bulk_min"] for view in history(ledger, chain)}
    head = sds[max(sds)]
    assert all(ess[number] > 400 for number in sds)
    weight = {number: head**2 / sd**2 for number, sd in sds.items()}
    mean = sum(weight[n] ** 2 * sd**2 / head**2 / ess[n] for n, sd in sds.items())
    spread = sum(weight[n] ** 2 / (2 * ess[n]) for n in sds)
    return np.sqrt(mean), np.sqrt(spread)


def assert_exact(ledger, chain, parameter, exact, sds):
    row = find_link(ledger, chain).summary().loc[parameter]
    mean, spread = error_of(ledger, chain, sds)
    assert abs(row["mean"] - exact.mean()) < 5 * mean * exact.std()
    assert abs(np.log(row["sd"] / exact.std())) < 5 * spread
    return row


@pytest.fixture(scope="module")
def frames():
    """Ten batches; all trials of the third succeeded, which is what came of a broken counter."""
    rng = np.random.default_rng(10)
    made = [
        pd.DataFrame({"id": np.arange(start, start + ROWS), "k": rng.binomial(20, 0.3, ROWS), "n": 20})
        for start in range(0, BATCHES * ROWS, ROWS)
    ]
    made[BAD - 1]["k"] = 20
    return made


def exact_of(frames):
    rows = pd.concat(frames)
    return beta_binomial(rows["k"].to_numpy(), rows["n"].to_numpy())


@pytest.fixture(scope="module")
def ten(ledger, frames):
    """The chain of all ten."""
    declaration = replace(load_declaration("beta_binomial", ROOT / "models"), policy=APART)
    for number, frame in enumerate(frames, 1):
        append(ledger, declaration, frame, f"{number:02d}.csv")
    return declaration


def sds_at(links, frames):
    """Exact sds after the first links; they count one batch each."""
    return {number: exact_of(frames[:number]).std() for number in links}


def test_without_the_third_of_ten_batches_the_chain_is_that_of_the_other_nine(ledger, ten, frames, tmp_path):
    plan = plan_retract(ledger, ten, [str(BAD)])
    assert len(plan.batches) == BATCHES - BAD
    assert done(ledger, plan).link == BATCHES + 1
    left = [frame for number, frame in enumerate(frames, 1) if number != BAD]
    exact = exact_of(left)
    # It was fitted on the belief of the second link, or of an earlier one that hindsight went back to.
    start = find_chain(ledger, "beta_binomial").prior(find_chain(ledger, "beta_binomial").links[-1])
    before = range(1, start.number + 1) if start else ()
    row = assert_exact(
        ledger, "beta_binomial", "theta", exact, sds_at(before, frames) | {BATCHES + 1: exact.std()}
    )
    # The chain with it was somewhere else.
    assert abs(exact_of(frames).mean() - exact.mean()) > 5 * exact.std()
    assert verify_chain(ledger, "beta_binomial").findings == ()
    path = tmp_path / "nine.py"
    code = (ROOT / "models" / "beta_binomial.py").read_text(encoding="utf-8")
    path.write_text(code.replace('name="beta_binomial"', 'name="nine"'), encoding="utf-8")
    nine = replace(load_file(path), policy=APART)
    for number, frame in enumerate(left, 1):
        append(ledger, nine, frame, f"{number:02d}.csv")
    sds = sds_at(range(1, BATCHES), left)
    other = assert_exact(ledger, "nine", "theta", exact, sds)
    errors = [
        error_of(ledger, "nine", sds),
        error_of(ledger, "beta_binomial", sds_at(before, frames) | {BATCHES + 1: exact.std()}),
    ]
    mean, spread = (np.hypot(*both) for both in zip(*errors, strict=True))
    assert abs(row["mean"] - other["mean"]) < 5 * mean * exact.std()
    assert abs(np.log(row["sd"] / other["sd"])) < 5 * spread


def test_a_corrected_batch_gives_what_it_would_have_given_in_its_place(ledger, ten, frames):
    rng = np.random.default_rng(11)
    right = frames[4].assign(k=rng.binomial(20, 0.6, ROWS))
    batch = batch_from_frame(right, ten, origin="revised.csv")
    assert done(ledger, plan_correct(ledger, ten, "05.csv", batch)).status == "accepted"
    chain = find_chain(ledger, "beta_binomial")
    assert [link.number for link in chain.at_head] == [1, 2, 4, chain.links[-1].number, 6, 7, 8, 9, 10]
    counted = {link.number: frames[link.number - 1] for link in chain.at_head[:3]}
    exact = exact_of([*counted.values(), right, *frames[5:]])
    sds, start = {chain.links[-1].number: exact.std()}, chain.prior(chain.links[-1])
    while start is not None:  # the fits that led to where it started
        sds[start.number] = exact_of([frames[link.number - 1] for link in chain.counted(start)]).std()
        start = chain.prior(start)
    assert_exact(ledger, "beta_binomial", "theta", exact, sds)
    assert verify_chain(ledger, "beta_binomial").findings == ()


COUNTS = """
import pyarrow as pa
import pymc as pm

from lindley import Declaration


def build(batch):
    with pm.Model() as model:
        ratio = pm.Gamma("ratio", alpha=2, beta=2)
        expected = pm.Data("expected", batch["expected"].to_numpy())
        pm.Poisson("new", ratio * expected, observed=pm.Data("cases", batch["new"].to_numpy()))
    return model


declaration = Declaration(
    name="reported",
    build=build,
    row_key=("date",),
    observed=("new",),
    schema=pa.schema([("date", pa.date32()), ("new", pa.int64()), ("expected", pa.float64())]),
)
"""


def test_a_week_that_was_revised_counts_as_it_is_known_now(ledger, tmp_path):
    """US cases as published on 22 April 2020, weeks from 9 March; the second week is corrected later."""
    (tmp_path / "reported.py").write_text(COUNTS, encoding="utf-8")
    declaration = load_file(tmp_path / "reported.py")
    table = pd.read_csv(VINTAGE, parse_dates=["date"]).set_index("date").diff()
    # A ratio to the published trend: weeks with another level are then no conflict.
    table["expected"] = table["vintage_2020_04_22"].rolling(7, center=True).mean()

    def week(number, column):
        rows = table.loc["2020-03-09":].iloc[7 * (number - 1) : 7 * number].reset_index()
        new = rows[column].astype("int64")
        return rows[["date", "expected"]].assign(new=new, date=rows["date"].dt.date)

    published = [week(number, "vintage_2020_04_22") for number in range(1, 5)]
    for number, frame in enumerate(published, 1):
        append(ledger, declaration, frame, f"week-{number}.csv")
    revised = week(2, "final")
    assert not revised["new"].equals(published[1]["new"])
    batch = batch_from_frame(revised, declaration, origin="week-2-revised.csv")
    plan = plan_correct(ledger, declaration, "week-2.csv", batch)
    assert done(ledger, plan).link == 5

    def exact(frames):
        rows = pd.concat(frames)
        return stats.gamma(2 + rows["new"].sum(), scale=1 / (2 + rows["expected"].sum()))

    now = exact([published[0], revised, *published[2:]])
    chain = find_chain(ledger, "reported")
    assert [link.number for link in chain.at_head] == [1, 5, 3, 4]
    start = chain.prior(chain.links[-1])
    sds = {5: now.std()} | ({1: exact(published[:1]).std()} if start is not None else {})
    assert_exact(ledger, "reported", "ratio", now, sds)
    # The revision matters: without it the belief is far off.
    assert abs(exact(published).mean() - now.mean()) > 3 * now.std()
    assert verify_chain(ledger, "reported").findings == ()
