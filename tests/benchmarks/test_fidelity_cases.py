"""The fidelity cases: reading of folders, and agreement of the models with the references."""

import functools
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.gradient import jacobian
from pytensor.graph.replace import graph_replace

from benchmarks.fidelity.cases import CASES, MODELS, Case, CaseRefused, load_cases, model_file
from lindley.batch.batch import batch_from_frame
from lindley.errors import DeclarationRefused
from lindley.model.graph import take_apart
from lindley.target.density import target

NAMES = sorted(path.stem for path in MODELS.glob("*.py"))
#: Stan solves these equations with tolerances of its own, the models by Runge-Kutta steps.
ODE = {"hudson_lynx_hare-lotka_volterra": 1e-5, "sir-sir": 1e-5}
COMPILE = {"mode": "FAST_COMPILE", "on_unused_input": "ignore"}


def read(name: str, file: str) -> dict[str, Any]:
    return json.loads((CASES / name / file).read_text())


@functools.cache
def case(name: str) -> Case:
    return load_cases(CASES, [name])[0]


class Translation:
    """A case's model at parameters of the reference."""

    def __init__(self, name: str) -> None:
        self.case = case(name)
        self.model = self.build(pd.concat(self.case.batches).sort_values("row"))
        names = tuple(rv.name for rv in self.model.free_RVs)
        graph = take_apart(self.case.declaration, self.model, names)
        self.shapes = [variable.block.shape for variable in graph.free]
        inputs = [rv.type(f"{rv.name}_input") for rv in self.model.free_RVs]
        parameters, *values = graph_replace(
            [self.parameters(), *graph.coordinates_of_values()],
            dict(zip(self.model.free_RVs, inputs, strict=True)),
        )
        slopes = [
            pt.reshape(matrix, (len(self.case.reference.names), -1))
            for matrix in jacobian(parameters, inputs, vectorize=True)
        ]
        self.map = pytensor.function(inputs, [parameters, pt.concatenate(slopes, axis=1)], **COMPILE)
        self.values = pytensor.function(inputs, values, **COMPILE)
        value_inputs = [self.model.rvs_to_values[rv] for rv in self.model.free_RVs]
        prior = self.model.logp([*self.model.free_RVs, *self.model.potentials], jacobian=False)
        rows = sum(self.model.logp(self.model.observed_RVs, sum=False))
        self.log_prior = pytensor.function(value_inputs, prior, **COMPILE)
        self.log_likelihood = pytensor.function(value_inputs, rows, **COMPILE)

    def build(self, frame: pd.DataFrame):
        batch = batch_from_frame(frame, self.case.declaration)
        assert batch.rows == len(frame)
        return self.case.declaration.build(batch.frame())

    def parameters(self):
        """Return the reference's parameters in its order, by name and label."""
        elements = []
        for name in self.case.reference.names:
            base, _, label = name.rstrip("]").partition("[")
            variable = self.model[base]
            if label:
                (dim,) = self.model.named_vars_to_dims[base]
                variable = variable[self.model.coords[dim].index(label)]
            elements.append(variable)
        return pt.stack(elements)

    def at(self, theta: dict[str, float]) -> tuple[list[np.ndarray], float]:
        """Return the coordinates of a checkpoint, and log |d reference / d free variables| there."""
        goal = np.array([theta[name] for name in self.case.reference.names])
        # 0.75 is in the support of everything; from there Newton's steps lead to the checkpoint.
        x = np.full(len(goal), 0.75)
        for _ in range(20):
            reached, slopes = self.map(*self.pieces(x))
            x = x + np.linalg.solve(slopes, goal - reached)
        reached, slopes = self.map(*self.pieces(x))
        np.testing.assert_allclose(reached, goal, rtol=1e-9)
        return self.values(*self.pieces(x)), np.linalg.slogdet(slopes)[1]

    def pieces(self, x: np.ndarray) -> list[np.ndarray]:
        sizes = [int(np.prod(shape, dtype=int)) for shape in self.shapes]
        return [
            piece.reshape(shape)
            for piece, shape in zip(np.split(x, np.cumsum(sizes)[:-1]), self.shapes, strict=True)
        ]

    def give(self, frame: pd.DataFrame) -> None:
        """Put a batch's data into the model that is compiled already."""
        other = self.build(frame)
        for data in self.model.data_vars:
            self.model.set_data(data.name, other[data.name].get_value())


@pytest.mark.parametrize("name", NAMES)
class TestModels:
    def test_the_model_agrees_with_the_reference_at_its_checkpoints(self, name: str) -> None:
        translation = Translation(name)
        bounds = read(name, "spec.json")["splits"]["original"]["bounds"]
        checkpoints = read(name, "reference.json")["checkpoints"]
        tolerance = ODE.get(name, 1e-6)
        constants = []
        for checkpoint in checkpoints:
            values, log_det = translation.at(checkpoint["theta"])
            rows = translation.log_likelihood(*values)
            by_batch = [rows[start:stop].sum() for start, stop in pairwise(bounds)]
            np.testing.assert_allclose(by_batch, checkpoint["loglik_per_batch"], rtol=tolerance)
            np.testing.assert_allclose(rows.sum(), checkpoint["loglik"], rtol=tolerance)
            constants.append(translation.log_prior(*values) - log_det - checkpoint["logprior"])
        # The references leave out the constants of flat, half and truncated priors.
        assert len(constants) == 5
        np.testing.assert_allclose(constants, constants[0], atol=1e-6)
        # A batch by itself, in the same compiled function.
        translation.give(translation.case.batches[-1])
        alone = translation.log_likelihood(*values).sum()
        np.testing.assert_allclose(alone, checkpoint["loglik_per_batch"][-1], rtol=tolerance)

    def test_one_compiled_function_serves_all_batches(self, name: str) -> None:
        declaration = case(name).declaration
        links = []
        for frame in case(name).batches[:2]:
            model = declaration.build(batch_from_frame(frame, declaration).frame())
            carried = tuple(variable.name for variable in model.free_RVs)
            links.append(target(take_apart(declaration, model, carried), genesis=False))
        assert links[0].digest == links[1].digest
        assert links[0].inlined == links[1].inlined == 0

    def test_its_batches_are_those_of_the_original_split(self, name: str) -> None:
        spec = read(name, "spec.json")
        bounds = spec["splits"]["original"]["bounds"]
        assert [len(frame) for frame in case(name).batches] == np.diff(bounds).tolist()
        together = pd.concat(case(name).batches)
        assert together["row"].tolist() == list(range(spec["n_rows"]))
        assert list(together.columns) == case(name).declaration.schema.names
        assert len(case(name).reference.names) == spec["n_params"]


def test_every_reference_case_has_a_model_and_six_are_hard() -> None:
    assert sorted(path.parent.name for path in CASES.glob("*/spec.json")) == NAMES
    assert [name for name in NAMES if not case(name).regular] == [
        "dugongs_data-dugongs_model",
        "eight_schools-eight_schools_noncentered",
        "hudson_lynx_hare-lotka_volterra",
        "low_dim_gauss_mix-low_dim_gauss_mix",
        "sir-sir",
        "surgical_data-surgical_model",
    ]


MODEL = '''
import pyarrow as pa
import pymc as pm
from lindley import Declaration

def build(batch):
    """y ~ Normal(mu, 1)."""
    with pm.Model() as model:
        mu = pm.Normal("mu", 0, 1)
        pm.Normal("y", mu, 1, observed=pm.Data("observed", batch["y"].to_numpy()))
    return model

declaration = Declaration(
    name="made_up",
    build=build,
    schema=pa.schema([("row", pa.int64()), ("y", pa.float64())]),
    row_key=("row",),
)
'''
SPEC = {"family": "Gaussian linear regression", "splits": {"original": {"bounds": [0, 2, 5]}}}
REFERENCE = {
    "param_order": ["mu", "tau"],
    "params": {
        "mu": {"mean": 1.0, "sd": 2.0, "q05": -1.0, "q95": 3.0, "more": 0},
        "tau": {"mean": 5.0, "sd": 6.0, "q05": 4.0, "q95": 7.0},
    },
    "corr": [[1.0, 0.5], [0.5, 1.0]],
}


def make(
    parent: Path, name: str = "mine", model: str = "model.py", spec: Any = SPEC, reference: Any = REFERENCE
) -> Path:
    """Write a case folder with five rows y = 0, 10, ..., 40 and return the folder of cases."""
    path = parent / name
    path.mkdir()
    data = pd.DataFrame({"other": "a", "y": np.arange(5) * 10.0, "batch": [2, 1, 2, 1, 1]})
    data.to_parquet(path / "data.parquet")
    (path / "spec.json").write_text(json.dumps(spec))
    (path / "reference.json").write_text(json.dumps(reference))
    if model:
        (path / model).write_text(MODEL)
    return parent


def loaded_rows(folder: Path) -> list[list[int]]:
    (one,) = load_cases(folder)
    return [frame["row"].tolist() for frame in one.batches]


class TestFolders:
    def test_a_case_brings_its_own_model_batches_and_reference(self, tmp_path: Path) -> None:
        (tmp_path / "notes").mkdir()
        (one,) = load_cases(make(tmp_path))
        assert (one.name, one.regular, one.declaration.name) == ("mine", True, "made_up")
        assert [list(frame.columns) for frame in one.batches] == [["row", "y"]] * 2
        assert [frame["y"].tolist() for frame in one.batches] == [[0, 10], [20, 30, 40]]
        assert [frame.index.tolist() for frame in one.batches] == [[0, 1], [0, 1, 2]]
        assert one.declaration.file == (tmp_path / "mine" / "model.py").resolve()
        assert one.reference.names == ("mu", "tau")
        assert (one.reference.mean.tolist(), one.reference.sd.tolist()) == ([1, 5], [2, 6])
        assert (one.reference.q05.tolist(), one.reference.q95.tolist()) == ([-1, 4], [3, 7])
        assert one.reference.correlation.tolist() == [[1, 0.5], [0.5, 1]]

    def test_rows_are_cut_after_the_permutation(self, tmp_path: Path) -> None:
        split = {"perm": [4, 0, 3, 1, 2], "bounds": [0, 1, 5]}
        assert loaded_rows(make(tmp_path, spec={"splits": {"original": split}})) == [[4], [0, 3, 1, 2]]

    def test_the_first_split_is_used_where_none_is_called_original(self, tmp_path: Path) -> None:
        splits = {"early": {"bounds": [0, 4, 5]}, "late": {"bounds": [0, 1, 5]}}
        assert loaded_rows(make(tmp_path, spec={"splits": splits})) == [[0, 1, 2, 3], [4]]

    def test_without_splits_the_column_batch_defines_the_batches(self, tmp_path: Path) -> None:
        assert loaded_rows(make(tmp_path, spec={"family": "ODE"})) == [[1, 3, 4], [0, 2]]
        assert not load_cases(tmp_path)[0].regular

    def test_only_requested_cases_are_loaded(self, tmp_path: Path) -> None:
        for name in ("b", "a", "c"):
            make(tmp_path, name)
        assert [one.name for one in load_cases(tmp_path)] == ["a", "b", "c"]
        assert [one.name for one in load_cases(tmp_path, ["c", "a"])] == ["a", "c"]
        with pytest.raises(
            CaseRefused, match=r"does not hold the requested cases.*subfolder d .*Found: a, b, c"
        ):
            load_cases(tmp_path, ["d"])

    def test_a_folder_without_cases_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(CaseRefused, match=r"data\.parquet, spec\.json, reference\.json"):
            load_cases(tmp_path)

    def test_a_single_file_of_another_name_is_the_model(self, tmp_path: Path) -> None:
        assert load_cases(make(tmp_path, model="other.py"))[0].declaration.file.name == "other.py"

    def test_the_benchmark_has_a_model_for_a_known_name(self, tmp_path: Path) -> None:
        make(tmp_path, "dogs-dogs", model="")
        assert model_file(tmp_path / "dogs-dogs") == MODELS / "dogs-dogs.py"
        with pytest.raises(CaseRefused, match="none called t_n_avoid, t_n_shock"):
            load_cases(tmp_path)

    def test_a_missing_model_is_refused_with_what_was_expected(self, tmp_path: Path) -> None:
        with pytest.raises(CaseRefused, match=r"mine has no model\. Expected: model\.py .*models/mine\.py"):
            load_cases(make(tmp_path, model=""))

    def test_two_models_are_refused_unless_one_is_called_model(self, tmp_path: Path) -> None:
        make(tmp_path, model="a.py")
        (tmp_path / "mine" / "b.py").write_text(MODEL)
        with pytest.raises(CaseRefused, match=r"many models.*Found: a\.py, b\.py"):
            load_cases(tmp_path)
        (tmp_path / "mine" / "model.py").write_text(MODEL)
        assert load_cases(tmp_path)[0].declaration.file.name == "model.py"

    def test_a_model_file_without_a_declaration_is_refused(self, tmp_path: Path) -> None:
        make(tmp_path)
        (tmp_path / "mine" / "model.py").write_text("x = 1\n")
        with pytest.raises(DeclarationRefused, match="exactly one"):
            load_cases(tmp_path)

    def test_a_schema_without_column_names_is_refused(self, tmp_path: Path) -> None:
        make(tmp_path)
        text = MODEL.replace('pa.schema([("row", pa.int64()), ("y", pa.float64())])', "None")
        (tmp_path / "mine" / "model.py").write_text(text)
        with pytest.raises(CaseRefused, match=r"pyarrow\.Schema.*Found: NoneType"):
            load_cases(tmp_path)

    @pytest.mark.parametrize(
        "split",
        [
            {"bounds": [0, 2, 4]},
            {"bounds": [1, 5]},
            {"bounds": [0, 2, 2, 5]},
            {"bounds": [0]},
            {"bounds": [0, 2, 5], "perm": [0, 1, 2, 3, 3]},
        ],
    )
    def test_a_split_that_does_not_cut_all_rows_is_refused(self, tmp_path: Path, split: dict) -> None:
        with pytest.raises(CaseRefused, match="The split of the case mine was refused"):
            load_cases(make(tmp_path, spec={"splits": {"original": split}}))

    def test_neither_splits_nor_a_batch_column_is_refused(self, tmp_path: Path) -> None:
        make(tmp_path, spec={})
        pd.DataFrame({"y": [1.0]}).to_parquet(tmp_path / "mine" / "data.parquet")
        with pytest.raises(CaseRefused, match="does not define its batches"):
            load_cases(tmp_path)

    @pytest.mark.parametrize(
        ("change", "found"),
        [
            ({"param_order": ["mu", "nu"]}, "KeyError"),
            ({"corr": [[1.0]]}, "shape"),
            ({"corr": [[1.0], [0.5, 1.0]]}, "ValueError"),
        ],
    )
    def test_an_incomplete_reference_is_refused(self, tmp_path: Path, change: dict, found: str) -> None:
        with pytest.raises(CaseRefused, match=f"The reference of the case mine .*{found}"):
            load_cases(make(tmp_path, reference=REFERENCE | change))

    def test_a_file_that_is_no_json_is_refused(self, tmp_path: Path) -> None:
        make(tmp_path)
        (tmp_path / "mine" / "spec.json").write_text("{")
        with pytest.raises(CaseRefused, match=r"Expected: JSON in spec\.json"):
            load_cases(tmp_path)
