"""A chain that starts from a trace: labels and dims, how its match is assessed, and starting again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from lindley.errors import LedgerUnavailable, ModelRefused
from lindley.inference.sampling import FitSettings
from lindley.ledger.registration import register_link
from lindley.model.coordinates import Block
from lindley.model.declaration import Declaration, load_file
from lindley.model.relabelling import in_order
from lindley.operations.log import log_plan
from lindley.operations.plan import fit_plan
from lindley.operations.update import plan_update
from lindley.verification.gather import verify_chain
from tests.support import fakes, refits
from tests.support.fakes import MemoryLedger, append, coins
from tests.support.forging import record_of
from tests.support.refits import import_trace

AGES, REGIONS, WARDS = ["young", "middle", "old"], ["east", "west"], ["north", "south"]
CHAINS, DRAWS = 2, 60

#: A table of effects by age and region, one effect per ward, a scale, and state that passes on.
MODEL = """
import pandas as pd, pyarrow as pa, pymc as pm
from lindley import Declaration

def build(batch):
    coords = {"age": ["young", "middle", "old"], "region": ["east", "west"], "ward": ["north", "south"]}
    with pm.Model(coords=coords) as model:
        table = pm.Normal("table", 0, 1, dims=("age", "region"))
        effect = pm.HalfNormal("effect", 1, dims="ward")
        start = pm.Normal("start", 0, 1, dims="ward")
        pm.Deterministic("end", 0.9 * start, dims="ward")
        pm.Normal("y", table.sum() + effect.sum() + start.sum(), 1, observed=batch["y"].to_numpy())
    return model

declaration = Declaration(
    name="table", build=build, row_key=("id",), carried=("table", "effect", "start"), carry={"start": "end"},
    schema=pa.schema([("id", pa.int64()), ("y", pa.float64())]),
)
"""


def declared(folder: Path, text: str = MODEL) -> Declaration:
    path = folder / "model.py"
    path.write_text(text, encoding="utf-8")
    return load_file(path)


def posterior() -> xr.Dataset:
    """Draws that say of which element they are, in the order of the model."""
    rng = np.random.default_rng(7)
    size = (CHAINS, DRAWS)
    table = rng.normal(size=(*size, 3, 2)) * 0.1 + 10 * np.arange(3)[:, None] + np.arange(2)
    effect = np.exp(rng.normal(size=(*size, 2)) * 0.1 + np.arange(2))
    end = rng.normal(size=(*size, 2)) * 0.1 + np.arange(2)
    return xr.Dataset(
        {
            "table": (("chain", "draw", "age", "region"), table),
            "effect": (("chain", "draw", "ward"), effect),
            "start": (("chain", "draw", "ward"), end / 0.9),
            "end": (("chain", "draw", "ward"), end),
        },
        coords={"age": AGES, "region": REGIONS, "ward": WARDS},
    )


def written(folder: Path, draws: xr.Dataset) -> Path:
    path = folder / "trace.nc"
    xr.DataTree.from_dict({"/posterior": draws}).to_netcdf(path, engine="h5netcdf")
    return path


def imported(folder: Path, draws: xr.Dataset, text: str = MODEL) -> dict[str, Any]:
    """Import draws and return the record of the link."""
    ledger, declaration = MemoryLedger(), declared(folder, text)
    found = import_trace(ledger, declaration, written(folder, draws))
    assert (found.status, found.link) == ("accepted", 1)
    assert verify_chain(ledger, declaration.name).findings == ()
    return record_of(ledger, declaration.name, 1)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return imported(tmp_path_factory.mktemp("straight"), posterior())


# -- labels and dims ----------------------------------------------------------------------------------


def by_position(draws: xr.Dataset) -> xr.Dataset:
    """The draws as a trace of a model without dims has them."""
    found = {}
    for name, array in draws.data_vars.items():
        dims = ("chain", "draw", *(f"{name}_dim_{i}" for i in range(array.ndim - 2)))
        found[name] = xr.DataArray(array.values, dims=dims)
        found[name] = found[name].assign_coords(
            {dim: np.arange(n) for dim, n in zip(dims[2:], array.shape[2:], strict=True)}
        )
    return xr.Dataset(found)


def flattened(draws: xr.Dataset) -> xr.Dataset:
    """The draws with the table as one row."""
    flat = draws["table"].values.reshape(CHAINS, DRAWS, 6)
    return draws.drop_vars("table").assign(table=(("chain", "draw", "cell"), flat))


@pytest.mark.parametrize(
    "other",
    [
        lambda d: d.isel(ward=[1, 0]),
        lambda d: d.isel(age=[2, 0, 1], region=[1, 0], ward=[1, 0]),
        lambda d: d.transpose("region", "draw", "ward", "age", "chain"),
        lambda d: d.transpose("ward", "region", "age", "chain", "draw").isel(age=[1, 2, 0], ward=[1, 0]),
        lambda d: d.rename(ward="district").isel(district=[1, 0]),
        by_position,
    ],
    ids=["labels", "all labels", "dims", "labels and dims", "another name", "positions"],
)
def test_the_order_of_labels_and_dims_in_a_trace_does_not_matter(
    other: Any, straight: dict[str, Any], tmp_path: Path
) -> None:
    record = imported(tmp_path, other(posterior()))
    assert record["posterior"]["matched"] == straight["posterior"]["matched"]
    assert record["posterior"]["draws"] == straight["posterior"]["draws"]
    assert record["posterior"]["coordinates"] == straight["posterior"]["coordinates"]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (lambda d: d.assign_coords(ward=["north", "wets"]), ["'effect'", "wets", "missing: south"]),
        (lambda d: d.assign_coords(ward=["north", "north"]), ["more than once: north", "missing: south"]),
        (lambda d: d.assign_coords(ward=[0, 1]), ["does not have: 0, 1", "assign_coords"]),
        (lambda d: d.isel(ward=[0]), ["missing: south"]),
        (lambda d: d.rename(ward="district").assign_coords(district=["a", "b"]), ["does not have: a, b"]),
        (lambda d: by_position(d).isel(effect_dim_0=[0]), ["'effect' has another shape", "(1,)"]),
        (flattened, ["'table' has another shape", "(6,)"]),
    ],
)
def test_labels_and_shapes_that_are_not_the_models_are_refused(
    other: Any, said: list[str], tmp_path: Path
) -> None:
    ledger = MemoryLedger()
    with pytest.raises(ModelRefused) as caught:
        import_trace(ledger, declared(tmp_path), written(tmp_path, other(posterior())))
    assert [part for part in said if part not in str(caught.value)] == []
    assert ledger.chains() == []


def test_state_is_matched_by_the_labels_of_the_variable_that_it_comes_from(
    straight: dict[str, Any], tmp_path: Path
) -> None:
    draws = posterior()
    turned = draws.assign(end=draws["end"].isel(ward=[1, 0]).drop_vars("ward").rename(ward="left"))
    found = imported(tmp_path, turned.assign_coords(left=["south", "north"]))
    assert found["posterior"]["matched"] == straight["posterior"]["matched"]
    with pytest.raises(ModelRefused, match=r"'start' has other labels.*in end labels"):
        imported(tmp_path, turned.assign_coords(left=["south", "west"]))


def test_a_number_and_one_number_are_the_same() -> None:
    one = xr.DataArray(np.arange(6.0).reshape(2, 3), dims=("chain", "draw"), name="x")
    assert in_order(one, Block("x", (1,), (1,), "identity", ("ward",), (("north",),))).shape == (2, 3, 1)
    row = one.expand_dims("x_dim_0", axis=2)
    assert in_order(row, Block("x", (), (), "identity")).tolist() == one.values.tolist()
    for shape in ((2,), (1, 1)):
        with pytest.raises(ModelRefused, match="another shape"):
            in_order(one, Block("x", shape, shape, "identity"))


@given(
    dims=st.permutations(["chain", "draw", "age", "region"]),
    ages=st.permutations(range(3)),
    regions=st.permutations(range(2)),
    named=st.booleans(),
)
def test_every_order_gives_the_same_draws(
    dims: list[str], ages: list[int], regions: list[int], named: bool
) -> None:
    block = Block("table", (3, 2), (3, 2), "identity", ("age", "region"), (tuple(AGES), tuple(REGIONS)))
    table = posterior()["table"]
    other = table.isel(age=ages, region=regions)
    # A dim of another name is told by its place among those, and here it is the only one.
    other = other.transpose(*dims) if named else other.transpose(*dims).rename(age="years")
    np.testing.assert_array_equal(in_order(other, block), table.values)


def test_dates_are_labels_as_the_model_writes_them() -> None:
    days = np.array(["2020-02-01", "2020-01-01"], dtype="M8[ns]")
    draws = xr.DataArray(np.arange(2.0).reshape(1, 1, 2), dims=("chain", "draw", "day"), coords={"day": days})
    for labels in (("2020-01-01 00:00:00", "2020-02-01 00:00:00"), tuple(str(day) for day in days[::-1])):
        block = Block("x", (2,), (2,), "identity", ("day",), (labels,))
        assert in_order(draws, block).ravel().tolist() == [1.0, 0.0]


# -- how the match is assessed ------------------------------------------------------------------------


def thousands(table: np.ndarray) -> xr.Dataset:
    """Draws of four chains: those of the table as given, the others independent."""
    rng, size = np.random.default_rng(8), table.shape[:2]
    return xr.Dataset(
        {
            "table": (("chain", "draw", "age", "region"), table.reshape(*size, 3, 2)),
            "effect": (("chain", "draw", "ward"), np.exp(rng.normal(size=(*size, 2)))),
            "start": (("chain", "draw", "ward"), rng.normal(size=(*size, 2))),
        },
        coords={"age": AGES, "region": REGIONS, "ward": WARDS},
    )


def doubtful(record: dict[str, Any]) -> list[str]:
    return [warning for warning in record["gate"]["warnings"] if "not trusted" in warning]


def test_a_good_trace_is_trusted_and_says_how_good_its_match_is(tmp_path: Path) -> None:
    record = imported(tmp_path, thousands(np.random.default_rng(9).normal(size=(4, 1000, 6))))
    metrics, held = record["metrics"], record["posterior"]
    assert (metrics["trusted"], held["doubts"], doubtful(record), held["shrinkage"]) == (1, [], [], 0)
    assert set(held["distances"]) >= {"table[young, west]", "effect[north]", "start[south]"}
    assert metrics["match_distance"] == max(held["distances"].values()) < 0.1
    assert 0 < metrics["match_moment"] < 0.5


def test_correlations_are_shrunk_by_what_the_draws_are_worth(tmp_path: Path) -> None:
    rng = np.random.default_rng(10)
    table = np.zeros((4, 1000, 6))
    for draw in range(1, 1000):  # worth about one draw in a hundred
        table[:, draw] = 0.98 * table[:, draw - 1] + rng.normal(size=(4, 6))
    record = imported(tmp_path, thousands(table))
    assert record["metrics"]["ess_bulk_min"] < 100
    assert record["posterior"]["shrinkage"] > 0.01
    assert "correlations shrunk" in record["posterior"]["reason"]


@pytest.mark.parametrize(
    ("family", "reason"),
    [("auto", "held-out log score of"), ("normal", "normal asked for"),
     ("information", "normal asked for; no normal prior to add information to")],
)  # fmt: skip
def test_the_match_is_of_the_family_that_the_policy_asks_for(
    family: str, reason: str, tmp_path: Path
) -> None:
    skewed = np.random.default_rng(11).gamma(2, size=(4, 1000, 6))
    text = MODEL.replace("schema=", f"policy=Policy(family={family!r}), schema=")
    text = text.replace("import Declaration", "import Declaration\nfrom lindley import Policy")
    held = imported(tmp_path, thousands(skewed), text)["posterior"]
    assert held["reason"].startswith(reason)
    assert (held["family"] == "normal") == (family != "auto")


def test_a_trace_of_two_modes_is_not_trusted_and_what_starts_from_it_says_so(
    declaration: Declaration, tmp_path: Path
) -> None:
    rng = np.random.default_rng(12)
    modes = expit(rng.normal(0, 0.2, (4, 500)) + rng.choice([-1.5, 1.5], (4, 500)))
    ledger, name = MemoryLedger(), declaration.name
    draws = xr.Dataset({"theta": (("chain", "draw"), modes)})
    assert import_trace(ledger, declaration, written(tmp_path, draws)).link == 1
    start = record_of(ledger, name, 1)
    assert start["metrics"]["trusted"] == 0
    assert start["metrics"]["match_distance"] == start["posterior"]["distances"]["theta"] > 0.1
    assert "margin of the matched prior off by" in start["posterior"]["doubts"][0]
    assert start["posterior"]["doubts"][0] in doubtful(start)[0]
    assert start["gate"]["passed"]
    # There is nothing behind it to fit again: links start from it, and count it.
    for number, ids in ((2, 0), (3, 10)):
        plan = replace(
            plan_update(ledger, declaration, coins(declaration, ids)), settings=FitSettings(draws=400)
        )
        assert plan.origin.prior is not None
        link = register_link(ledger, log_plan(ledger, plan, fit_plan(plan)))
        assert (link.status, link.link) == ("accepted", number)
        record = record_of(ledger, name, number)
        assert record["metrics"]["doubt"] == 1
        assert any("could not be trusted" in warning for warning in record["gate"]["warnings"])
    assert record_of(ledger, name, 2)["prior"] == start_of(ledger, name)
    assert verify_chain(ledger, name).findings == ()


def start_of(ledger: MemoryLedger, name: str) -> str:
    return ledger.models[name].versions[1].tags["lindley.record"]


# -- starting again -----------------------------------------------------------------------------------


class Interrupted(MemoryLedger):
    """A ledger whose store fails at the first upload, in one of two ways."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.errors = [error]

    def upload(self, run_id: str, folder: Path) -> None:
        if self.errors:
            self.kill(run_id)
            raise self.errors.pop()
        super().upload(run_id, folder)


@pytest.fixture(params=[LedgerUnavailable("The store is down"), KeyboardInterrupt()], ids=["store", "ctrl-c"])
def claimed(request: pytest.FixtureRequest, declaration: Declaration, tmp_path: Path) -> Interrupted:
    """A chain that an import claimed and left without links."""
    ledger = Interrupted(request.param)
    with pytest.raises(type(request.param)):
        import_trace(ledger, declaration, refits.trace(tmp_path / "trace.nc"))
    assert ledger.chains() == ["coins"]
    assert ledger.versions("coins") == []
    return ledger


def test_an_import_that_was_cut_off_can_be_tried_again(
    claimed: Interrupted, declaration: Declaration, tmp_path: Path
) -> None:
    assert import_trace(claimed, declaration, refits.trace(tmp_path / "trace.nc")).link == 1
    assert [run.tags.get("lindley.state") for run in claimed.runs.values()] == [None, "abandoned", "accepted"]
    append(claimed, declaration, coins(declaration, 0))
    assert verify_chain(claimed, "coins").findings == ()
    with pytest.raises(ModelRefused, match="exists already"):
        import_trace(claimed, declaration, refits.trace(tmp_path / "trace.nc"))


def test_one_of_another_model_cannot(claimed: Interrupted, tmp_path: Path) -> None:
    other = fakes.declare(tmp_path, code="OTHER = 1\n")
    before = len(claimed.runs)
    with pytest.raises(ModelRefused, match="exists already"):
        import_trace(claimed, other, refits.trace(tmp_path / "trace.nc"))
    assert (len(claimed.runs), claimed.versions("coins")) == (before, [])


def test_a_chain_whose_first_batch_was_quarantined_is_not_imported_into(
    claimed: Interrupted, declaration: Declaration, tmp_path: Path
) -> None:
    append(claimed, declaration, coins(declaration, 0), passed=False)
    with pytest.raises(ModelRefused, match="exists already"):
        import_trace(claimed, declaration, refits.trace(tmp_path / "trace.nc"))
