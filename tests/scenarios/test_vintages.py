"""Real versions of a file that grows and is revised, pulled one after another, against an exact fit."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flows.direct import core_steps
from flows.sequences.pull import pull
from lindley.inference.sampling import FitSettings
from lindley.ledger.reading import find_chain, read_record
from lindley.ledger.record import Kind
from lindley.operations.plan import fit_plan
from lindley.workspace import Workspace
from tests.support.fakes import MemoryLedger

VINTAGES = sorted((Path(__file__).parents[2] / "data" / "reference" / "flusight").glob("as_of_*.csv"))[::2]
NAME = "admissions"
#: Each fit starts from the belief before it, or from the newest one without revised rows: what was revised
#: has to come out of a belief that holds it.
MODEL = '''"""Weekly admissions: a curve of time for the logarithm, with known noise."""

import numpy as np
import pyarrow as pa
import pymc as pm

from lindley import Declaration, Policy, Snapshot

COLUMNS = {"date": pa.date32(), "location": pa.string(), "location_name": pa.string(), "value": pa.float64()}


def features(batch):
    weeks = (batch["date"].to_numpy("datetime64[D]") - np.datetime64("2025-01-01")).astype(float) / 70
    return np.column_stack([np.ones_like(weeks), weeks, weeks**2])


def build(batch):
    rows = batch[batch["value"].notna()]
    with pm.Model() as model:
        beta = pm.Normal("beta", 0, 5, shape=3)
        mu = pm.math.dot(features(rows), beta)
        pm.Normal("y", mu, 1.5, observed=np.log1p(rows["value"].to_numpy()))
    return model


declaration = Declaration(
    name="admissions",
    build=build,
    schema=pa.schema([pa.field(name, kind, nullable=name == "value") for name, kind in COLUMNS.items()]),
    row_key=("date", "location"),
    observed=("value",),
    missing=("NA",),
    source=Snapshot("target.csv"),
    policy=Policy(refit_rows=1, rebase_at_drift=None),
)
'''


def exact(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return means and sds of the coefficients given all rows, in closed form."""
    rows = frame[frame["value"].notna()]
    days = (pd.to_datetime(rows["date"]).to_numpy("datetime64[D]") - np.datetime64("2025-01-01")).astype(
        float
    )
    weeks = days / 70
    x = np.column_stack([np.ones_like(weeks), weeks, weeks**2])
    precision = np.eye(3) / 25 + x.T @ x / 1.5**2
    covariance = np.linalg.inv(precision)
    return covariance @ x.T @ np.log1p(rows["value"].to_numpy()) / 1.5**2, np.sqrt(np.diag(covariance))


@pytest.fixture(scope="module")
def pulled(tmp_path_factory: pytest.TempPathFactory) -> tuple[MemoryLedger, list[set[tuple[str, str]]]]:
    """The chain after all versions, and what was revised in each of them."""
    root, ledger = tmp_path_factory.mktemp("vintages"), MemoryLedger()
    workspace = Workspace(
        root=root, models=root, landing=root / "l", store=root / "s", rejected=root / "r", tracking_uri=""
    )
    (root / f"{NAME}.py").write_text(MODEL, encoding="utf-8")
    settings = FitSettings(tune=300, draws=600)
    steps = replace(
        core_steps(plots=False),
        open_ledger=lambda _: ledger,
        fit=lambda plan: fit_plan(replace(plan, settings=settings)),
    )
    revised, before = list[set[tuple[str, str]]](), pd.DataFrame()
    for vintage in VINTAGES:
        shutil.copy2(vintage, root / "target.csv")
        now = pd.read_csv(vintage, dtype=str, keep_default_na=False).set_index(["date", "location"])["value"]
        if len(before):
            both = before.index.intersection(now.index)
            revised.append({tuple(row) for row in both[before.loc[both] != now.loc[both]]})
        before = now
        result = pull(steps, workspace, NAME)
        assert result.status == "accepted", result.message
    return ledger, revised


def test_the_final_belief_is_the_fit_to_the_last_version(
    pulled: tuple[MemoryLedger, list[set[tuple[str, str]]]],
) -> None:
    ledger, _ = pulled
    head = find_chain(ledger, NAME).head
    assert head is not None
    record = read_record(ledger, head)
    mean, sd = exact(pd.read_csv(VINTAGES[-1]))
    summary = pd.read_csv(
        pd.io.common.BytesIO(ledger.run_of(NAME, head.version.number).files["summary.csv"]), index_col=0
    )
    ess = record["metrics"]["ess_bulk_min"]
    assert ess > 400
    # Each fit adds the Monte Carlo error of its match: of a normal posterior sd over the root of the ESS,
    # times the square root of the number of fits that a belief goes through, at four standard errors.
    tolerance = 4 * np.sqrt(len(find_chain(ledger, NAME).links) / ess)
    for place in range(3):
        ours = summary.loc[f"beta[{place}]"]
        assert abs(ours["mean"] - mean[place]) < tolerance * sd[place]
        assert abs(np.log(ours["sd"] / sd[place])) < tolerance


def test_every_revised_row_is_named_in_a_record(
    pulled: tuple[MemoryLedger, list[set[tuple[str, str]]]],
) -> None:
    ledger, revised = pulled
    links = find_chain(ledger, NAME).links
    records = [read_record(ledger, link) for link in links if link.version.kind == Kind.CORRECT]
    named = [{tuple(key) for key in record["batch"]["changes"]["revised"]["keys"]} for record in records]
    assert named == revised
    assert [len(rows) for rows in named] == [22, 51]
    assert [link.version.kind for link in links] == ["update"] + ["correct", "update"] * 2
    # One correction for all revisions of a pull, also where several batches held the rows.
    assert max(len(record["retracted"]) for record in records) > 1
