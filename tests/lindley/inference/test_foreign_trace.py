"""Traces as other libraries write them: read where only the spelling differs, else refused with counts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pymc as pm
import pytest
import xarray as xr

from lindley.errors import LedgerCorrupt, ModelRefused
from lindley.inference.foreign_trace import coordinates_of, quantities_of
from lindley.ledger.netcdf import read_zarr_trace
from lindley.model.declaration import Declaration
from lindley.model.graph import ModelGraph, take_apart

CHAINS, DRAWS = 2, 100


@pytest.fixture(scope="module")
def graph() -> ModelGraph:
    with pm.Model(coords={"g": ["2020", "b", "c"]}) as model:
        share = pm.Beta("share", 1, 1)
        effect = pm.Normal("effect", 0, 1, dims="g")
        pm.Normal("y", share + effect.sum(), 1, observed=np.zeros(2))
    declaration = Declaration(name="m", build=lambda batch: model, schema=None, row_key=("id",))
    return take_apart(declaration, model, ("share", "effect"))


def draws() -> xr.Dataset:
    rng = np.random.default_rng(3)
    size = (CHAINS, DRAWS)
    return xr.Dataset(
        {
            "share": (("chain", "draw"), rng.uniform(0.2, 0.8, size)),
            "effect": (("chain", "draw", "g"), rng.normal(size=(*size, 3)) + np.arange(3)),
        },
        coords={"g": ["2020", "b", "c"]},
    )


def taken(dataset: xr.Dataset, graph: ModelGraph) -> tuple[np.ndarray, tuple[str, ...]]:
    found, notes = quantities_of(xr.DataTree.from_dict({"posterior": dataset}), graph)
    return found.u, notes


@pytest.fixture(scope="module")
def straight(graph: ModelGraph) -> np.ndarray:
    u, notes = taken(draws(), graph)
    assert notes == ()
    return u


def flat(pattern: str) -> xr.Dataset:
    """The draws with one variable for each element, as Stan's readers have them."""
    found = draws()
    parts = {pattern.format(place): found["effect"].isel(g=place - 1, drop=True) for place in (1, 2, 3)}
    return found.drop_vars(["effect", "g"]).assign(parts)


SAME = {
    "stacked with levels": draws().stack(sample=("chain", "draw")),
    "levels as coordinates": draws().stack(sample=("chain", "draw")).reset_index("sample"),
    "bytes": draws().assign_coords(g=np.array([b"2020", b"b", b"c"])),
    "padded": draws().assign_coords(g=np.array(["2020 ", "b   ", "c   "])),
    "brackets": flat("effect[{}]"),
    "dots": flat("effect.{}"),
    "from one": draws().rename(g="effect_dim_0").assign_coords(effect_dim_0=[1, 2, 3]),
}


@pytest.mark.parametrize("spelling", SAME)
def test_another_spelling_is_the_same_trace(spelling: str, graph: ModelGraph, straight: np.ndarray) -> None:
    u, notes = taken(SAME[spelling], graph)
    np.testing.assert_array_equal(u, straight)
    assert notes == ()


def test_draws_without_chains_are_one_chain_and_it_is_said(graph: ModelGraph, straight: np.ndarray) -> None:
    stacked = draws().stack(sample=("chain", "draw")).drop_vars(["sample", "chain", "draw"])
    u, notes = taken(stacked.assign_coords(sample=np.arange(CHAINS * DRAWS)), graph)
    np.testing.assert_array_equal(u, straight.reshape(1, -1, straight.shape[-1]))
    assert "no chains" in notes[0]


def test_years_as_floats_are_labels(straight: np.ndarray) -> None:
    with pm.Model(coords={"g": [2020, 2021, 2022]}) as model:
        share = pm.Beta("share", 1, 1)
        effect = pm.Normal("effect", 0, 1, dims="g")
        pm.Normal("y", share + effect.sum(), 1, observed=np.zeros(2))
    declaration = Declaration(name="m", build=lambda batch: model, schema=None, row_key=("id",))
    reversed_years = draws().assign_coords(g=[2022.0, 2021.0, 2020.0])
    u, _ = taken(reversed_years, take_apart(declaration, model, ("share", "effect")))
    np.testing.assert_array_equal(u[..., 1:], straight[..., :0:-1])


def test_draws_that_are_no_numbers_are_counted(graph: ModelGraph) -> None:
    dead = draws()
    dead["share"][1, :] = np.nan
    with pytest.raises(ModelRefused, match=r"NaN or infinite in share; chain 1: 100 of 100"):
        taken(dead, graph)
    one = draws()
    one["effect"][0, 7, 1] = np.nan
    with pytest.raises(ModelRefused, match=r"in effect; chain 0: 1 of 100"):
        taken(one, graph)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_one_draw_on_the_edge_is_moved_inside(kind: type, graph: ModelGraph, straight: np.ndarray) -> None:
    edge = draws().astype(kind)
    edge["share"][1, 5] = 1.0
    u, notes = taken(edge, graph)
    assert np.isfinite(u).all()
    # The coordinate of the largest number below 1: log(p / (1 - p)).
    inside = float(np.nextafter(kind(1), kind(0)))
    assert u[1, 5, 0] == pytest.approx(np.log(inside / (1 - inside)), rel=1e-6)
    assert "1 of 200 draws lay on the edge" in notes[0]
    if kind is np.float64:
        others = np.ones((CHAINS, DRAWS), bool)
        others[1, 5] = False
        np.testing.assert_array_equal(u[others], straight[others])


@pytest.mark.parametrize(("value", "count"), [(1.0, 20), (1.5, 1)], ids=["many on the edge", "outside"])
def test_what_rounding_does_not_explain_is_refused(value: float, count: int, graph: ModelGraph) -> None:
    outside = draws()
    outside["share"][0, :count] = value
    with pytest.raises(ModelRefused, match=rf"impossible values of share.* in {count} of 200 draws"):
        taken(outside, graph)


def test_coordinates_are_those_of_the_transform(graph: ModelGraph) -> None:
    values = {"share": np.array([[0.25]]), "effect": np.array([[[1.0, 2.0, 3.0]]])}
    np.testing.assert_allclose(coordinates_of(values, graph)[0, 0], [np.log(1 / 3), 1, 2, 3], atol=1e-14)


class TestZarr:
    @pytest.mark.filterwarnings("ignore")
    @pytest.mark.parametrize("version", [2, 3])
    def test_a_store_is_read_as_the_file_is(self, tmp_path: Path, version: int) -> None:
        tree = xr.DataTree.from_dict({"posterior": draws()})
        tree.to_zarr(tmp_path / "trace.zarr", zarr_format=version)
        found = read_zarr_trace(tmp_path / "trace.zarr")
        xr.testing.assert_equal(found["posterior"].to_dataset(), draws())

    @pytest.mark.filterwarnings("ignore")
    def test_a_codec_that_runs_code_is_refused(self, tmp_path: Path) -> None:
        folder = tmp_path / "trace.zarr"
        xr.DataTree.from_dict({"posterior": draws()}).to_zarr(folder, zarr_format=2)
        path = folder / "posterior" / "share" / ".zarray"
        stated = json.loads(path.read_text())
        path.write_text(json.dumps(stated | {"filters": [{"id": "pickle", "protocol": 5}]}))
        with pytest.raises(LedgerCorrupt, match="the codec 'pickle'"):
            read_zarr_trace(folder)

    @pytest.mark.filterwarnings("ignore")
    def test_links_are_not_followed(self, tmp_path: Path) -> None:
        folder = tmp_path / "trace.zarr"
        xr.DataTree.from_dict({"posterior": draws()}).to_zarr(folder, zarr_format=2)
        (folder / "posterior" / "more").symlink_to("/etc")
        with pytest.raises(LedgerCorrupt, match="a link"):
            read_zarr_trace(folder)
