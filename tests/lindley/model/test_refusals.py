"""What is refused by name before anything is compiled: step methods, gradients, discrete imputation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm
import pytensor.tensor as pt
import pytest
from pymc.logprob.abstract import _logprob
from pymc.step_methods import STEP_METHODS, Metropolis
from pytensor import wrap_py
from pytensor.tensor.random.op import RandomVariable

from lindley.errors import ModelRefused
from lindley.model._compat import other_step_method
from lindley.model.declaration import Declaration
from lindley.model.graph import build, default_carried, take_apart
from lindley.target.density import target
from lindley.target.term import term

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{text}")
    for text in (
        "Data in .* contains missing values",
        "RandomVariable Ops will stop",
        "invalid value encountered",
    )
]

SCHEMA = pa.schema([("id", pa.int64()), ("y", pa.float64())])
FRAME = pd.DataFrame({"id": [1, 2, 3], "y": [0.1, -0.2, 0.3]})


class TreesRV(RandomVariable):
    """Stands for a variable with a sampler of its own, as the trees of pymc-bart: its density is flat."""

    name = "trees"
    signature = "(n)->(n)"
    dtype = "floatX"

    @classmethod
    def rng_fn(cls, rng: Any, x: np.ndarray, size: Any) -> np.ndarray:
        return np.zeros(len(x))


class GoodRV(TreesRV):
    """A distribution of a package that NUTS can sample."""

    name = "good"


TREES, GOOD = TreesRV(), GoodRV()


@_logprob.register(TreesRV)
def _flat(op: Any, values: Any, *inputs: Any, **kwargs: Any) -> Any:
    return pt.zeros_like(values[0])


@_logprob.register(GoodRV)
def _standard(op: Any, values: Any, *inputs: Any, **kwargs: Any) -> Any:
    return -0.5 * values[0] ** 2


class Trees(pm.Continuous):
    rv_op = TREES

    @classmethod
    def dist(cls, x: Any, **kwargs: Any) -> Any:
        return super().dist([pt.as_tensor(x)], **kwargs)


class Good(Trees):
    rv_op = GOOD


class TreeSampler(Metropolis):
    """The step method that goes with it."""

    @staticmethod
    def competence(var: Any, has_grad: bool) -> Any:
        ours = isinstance(var.owner.op, TreesRV)
        return pm.step_methods.compound.Competence.IDEAL if ours else 0


def with_free(kind: type, frame: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        f = kind("f", frame["id"].to_numpy(dtype=float), initval=np.zeros(len(frame)))
        b = pm.Normal("b", 0, 1)
        pm.Normal("y", f + b, 1, observed=frame["y"].to_numpy())
    return model


def taken(function: Any, frame: pd.DataFrame = FRAME, carried: tuple[str, ...] = ("b",)) -> Any:
    declaration = Declaration(name="chain", build=function, schema=SCHEMA, row_key=("id",), carried=carried)
    return take_apart(declaration, build(declaration, frame), carried)


def test_a_variable_that_pymc_gives_to_another_step_method_is_refused_by_name():
    STEP_METHODS.append(TreeSampler)
    try:
        with pytest.raises(ModelRefused, match="'f'") as caught:
            taken(lambda frame: with_free(Trees, frame))
        assert "TreeSampler" in caught.value.found
    finally:
        STEP_METHODS.remove(TreeSampler)


def test_a_flat_density_of_an_unknown_distribution_is_refused_by_name():
    with pytest.raises(ModelRefused, match=r"'f'.*no density") as caught:
        taken(lambda frame: with_free(Trees, frame))
    assert "TreesRV" in caught.value.found


def test_an_unknown_distribution_with_a_density_is_taken():
    assert [v.name for v in taken(lambda frame: with_free(Good, frame)).local] == ["f"]


def test_what_pymc_gives_to_nuts_and_flat_priors_of_pymc_are_taken():
    def flat(frame: pd.DataFrame) -> pm.Model:
        with pm.Model() as model:
            b = pm.Flat("b")
            custom = pm.CustomDist("c", logp=pt.zeros_like)
            pm.Normal("y", b + custom, 1, observed=frame["y"].to_numpy())
        return model

    graph = taken(flat, carried=("b", "c"))
    assert graph.coordinates.variables == ("b", "c")
    assert {other_step_method(v.rv) for v in graph.free} == {None}


@wrap_py(itypes=[pt.dscalar, pt.dvector], otypes=[pt.dvector])
def curve(b, x):
    return b * x


def black_box(frame: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        b = pm.Normal("b", 0, 1)
        mean = curve(pm.math.exp(b), pt.as_tensor(frame["y"].to_numpy()))
        pm.Normal("y", mean, 1, observed=frame["y"].to_numpy())
    return model


def simulator(frame: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        b = pm.Normal("b", 0, 1)
        pm.Simulator("y", lambda rng, b, size: rng.normal(b, 1, size), b, observed=frame["y"].to_numpy())
    return model


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("function", "name"), [(black_box, "curve"), (simulator, "Simulator_y")])
def test_an_operation_without_a_gradient_is_refused_by_name(function, name):
    graph = taken(function)
    for derive in (
        lambda: target(graph, genesis=True),
        lambda: target(graph, genesis=False),
        lambda: term(graph),
    ):
        with pytest.raises(ModelRefused, match=f"without a gradient: {name}"):
            derive()


def test_a_distribution_without_a_log_density_is_refused():
    def random_only(frame: pd.DataFrame) -> pm.Model:
        with pm.Model() as model:
            b = pm.Normal("b", 0, 1)
            pm.CustomDist(
                "y",
                b,
                random=lambda b, rng=None, size=None: rng.normal(b, 1, size),
                observed=frame["y"].to_numpy(),
            )
        return model

    with pytest.raises(ModelRefused, match="log density of chain cannot be derived"):
        target(taken(random_only), genesis=True)


def imputing(kind: Any, frame: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        b = pm.HalfNormal("b", 1)
        kind("y", b, observed=np.ma.masked_invalid(frame["y"].to_numpy()))
    return model


GAPS = FRAME.assign(y=[1.0, np.nan, 3.0])


def test_imputed_values_are_local_even_where_their_number_stays():
    def first_rows(frame: pd.DataFrame) -> pm.Model:  # twice the rows have no more missing values than these
        return imputing(pm.Normal, frame.head(3))

    declaration = Declaration(name="chain", build=first_rows, schema=SCHEMA, row_key=("id",))
    model = build(declaration, GAPS)
    assert default_carried(declaration, model, GAPS) == ("b",)
    assert [v.name for v in take_apart(declaration, model, ("b",)).local] == ["y_unobserved"]


def test_a_discrete_outcome_with_missing_values_is_refused_with_the_way_out():
    with pytest.raises(ModelRefused, match="y_unobserved") as caught:
        taken(lambda frame: imputing(pm.Poisson, frame), GAPS)
    assert "missing outcomes" in caught.value.todo
