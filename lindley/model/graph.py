"""The user's PyMC model, taken apart: free variables, carried variables, prior and likelihood terms.

The model stays as it is. The log density is taken in PyMC's own value-variable space, where a
carried variable's value variable *is* its coordinates; the prior terms of carried variables can then
be left out and the rest evaluated at any coordinates.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

with warnings.catch_warnings():
    # PyTensor warns at import when no BLAS is linked for its C backend, which is not used here.
    warnings.filterwarnings("ignore", message="PyTensor could not link to a BLAS")
    import pymc as pm

from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Constant, Variable
from pytensor.graph.traversal import ancestors
from pytensor.tensor.random.type import RandomType

from lindley.errors import LindleyError, ModelRefused
from lindley.model.coordinates import Block, Coordinates
from lindley.model.declaration import Declaration
from lindley.model.refusals import (
    imputed,
    require_continuous,
    require_declared_potentials,
    require_each_row_once,
    require_known,
    require_nuts,
)
from lindley.model.tensors import plain

#: Transforms of single elements, by PyMC's names.
_ELEMENTWISE = ("log", "logodds", "interval", "log_exp_m1", "circular")
#: Constants smaller than this are structure (shapes, small vectors of hyperparameters), not data.
DATA_SIZE = 8


@dataclass(frozen=True)
class FreeVariable:
    """A free variable of the model with its value variable and the shape of both.

    Parameters
    ----------
    lengths
        The value's shape, where it follows the rows: numbers, and variables of the graph. Empty where it is
        the block's.
    """

    name: str
    rv: Variable
    value: Variable
    block: Block
    lengths: tuple[Any, ...] = ()


@dataclass(frozen=True)
class ModelGraph:
    """A built model, with its carried variables and those that are local to the batch.

    Parameters
    ----------
    model
        The user's model, unmodified.
    carried, local
        Free variables, in the model's order.
    unsized
        The same model with data of any length for the arrays that it holds as constants; None where there
        is none. Targets are made of it, so that one compilation serves batches of all lengths.
    sized
        Why there is none; empty where none is needed.
    """

    declaration: Declaration
    model: Any
    carried: tuple[FreeVariable, ...]
    local: tuple[FreeVariable, ...]
    unsized: ModelGraph | None = None
    sized: str = ""

    @property
    def compilable(self) -> ModelGraph:
        """The model that targets are made of."""
        return self.unsized or self

    @property
    def coordinates(self) -> Coordinates:
        """Coordinates of the carried variables."""
        return Coordinates(tuple(variable.block for variable in self.carried))

    @property
    def free(self) -> tuple[FreeVariable, ...]:
        """Carried, then local variables: the order of the sampler's vector."""
        return self.carried + self.local

    @property
    def size(self) -> int:
        """Length of the sampler's vector."""
        return sum(variable.block.size for variable in self.free)

    def coordinates_of_values(self) -> list[Variable]:
        """Return each free variable's coordinates as an expression of its natural-scale value."""
        return [self.coordinates_of(variable.rv, variable.rv) for variable in self.free]

    def coordinates_of(self, rv: Variable, value: Variable) -> Variable:
        """Return the coordinates of a free variable as an expression of a natural-scale value."""
        transform = self.model.rvs_to_transforms[rv]
        return plain(value if transform is None else transform.forward(value, *rv.owner.inputs))

    def prior_potentials(self) -> list[Variable]:
        """Return the potentials that are part of the prior."""
        return [p for p in self.model.potentials if self.declaration.potentials[p.name] == "prior"]

    def prior_variables(self) -> list[Variable]:
        """Return the variables whose terms the matched prior replaces."""
        return [variable.rv for variable in self.carried] + self.prior_potentials()

    def batch_variables(self) -> list[Variable]:
        """Return the variables whose terms stay in every link: local priors and the likelihood."""
        return [variable.rv for variable in self.local] + self.likelihood_variables()

    def likelihood_variables(self) -> list[Variable]:
        """Return the observed variables and the potentials that belong to the likelihood."""
        chosen = [p for p in self.model.potentials if self.declaration.potentials[p.name] == "likelihood"]
        return list(self.model.observed_RVs) + chosen


def slices(variables: Sequence[FreeVariable]) -> Iterator[tuple[FreeVariable, slice]]:
    """Yield each variable with its place in the vector of all of them."""
    stop = 0
    for variable in variables:
        start, stop = stop, stop + variable.block.size
        yield variable, slice(start, stop)


def build(declaration: Declaration, frame: Any, *, context: Any = None, constants: Any = None) -> Any:
    """Call the user's function and return its model.

    Parameters
    ----------
    declaration
        The chain's declaration.
    frame
        The batch's rows.
    context
        Rows before the batch, for a declaration that asks for them; none of them by default.
    constants
        Frozen constants, for a declaration that has them.

    Raises
    ------
    ModelRefused
        If the function raises, or returns anything but a model with free and observed variables.
    """
    try:
        model = declaration.build(frame, **declaration.extras(frame, context, constants))
    except LindleyError:
        raise
    except Exception as error:
        raise ModelRefused(
            f"The model of {declaration.name} could not be built from the batch",
            found=f"{type(error).__name__}: {error}",
            todo="call the declaration's build function on this batch and correct the cause",
        ) from error
    if not isinstance(model, pm.Model):
        raise ModelRefused(
            f"The build function of {declaration.name} did not return a model",
            expected="a pymc.Model",
            found=type(model).__name__,
            todo="end the function with `return model`",
        )
    if not model.free_RVs:
        raise ModelRefused(
            f"The model of {declaration.name} has no free variable",
            expected="at least one continuous free variable, whose belief can be updated",
            found=f"observed variables {[rv.name for rv in model.observed_RVs]}",
            todo="give the model a parameter with a prior",
        )
    if not model.observed_RVs and not model.potentials:
        raise ModelRefused(
            f"The model of {declaration.name} has no observed variable",
            expected="at least one variable with observed=..., taken from the batch",
            found="free variables only",
            todo="pass the batch's outcomes as observed",
        )
    return model


def take_apart(declaration: Declaration, model: Any, carried: tuple[str, ...]) -> ModelGraph:
    """Split a built model by the names of its carried variables.

    Raises
    ------
    ModelRefused
        If a free variable is discrete or PyMC would not sample it with NUTS, a name in the declaration is
        not in the model, or a potential is not declared.
    """
    require_continuous(declaration, model)
    require_nuts(declaration, model)
    shapes = shapes_of(model)
    free = {rv.name: _free_variable(model, rv, shapes) for rv in model.free_RVs}
    require_known(declaration, model, carried, free)
    require_declared_potentials(declaration, model)
    require_each_row_once(declaration, model)
    return ModelGraph(
        declaration=declaration,
        model=model,
        carried=tuple(variable for name, variable in free.items() if name in carried),
        local=tuple(variable for name, variable in free.items() if name not in carried),
    )


def carried_variables(declaration: Declaration, frame: Any, constants: Any = None) -> tuple[str, ...]:
    """Return the names of the carried variables: declared, or derived from the first batch's rows.

    Raises
    ------
    ModelRefused
        If the model cannot be built; see also `default_carried`.
    """
    if declaration.carried is not None:
        return declaration.carried
    return default_carried(declaration, build(declaration, frame, constants=constants), frame, constants)


def default_carried(
    declaration: Declaration, model: Any, frame: Any, constants: Any = None
) -> tuple[str, ...]:
    """Return the free variables whose size does not depend on the batch, imputed values left out.

    The model is built a second time from the batch's rows twice over: labels stay the same, and variables
    with one element per row double in size.

    Raises
    ------
    ModelRefused
        If the second build fails; the error states how to declare `carried` instead.
    """
    import pandas as pd  # to save start-up time: only the first link of a chain needs it

    try:
        rows = pd.concat([frame, frame], ignore_index=True)
        twice = declaration.build(rows, **declaration.extras(rows, None, constants))
    except Exception as error:
        raise ModelRefused(
            f"Lindley could not find out which variables of {declaration.name} to carry",
            expected="a model that can also be built from the batch's rows twice over",
            found=f"{type(error).__name__}: {error}",
            todo="declare carried=(...) with the names of the variables whose belief is carried forward",
        ) from error
    before, after = shapes_of(model), shapes_of(twice)
    kept = (rv.name for rv in model.free_RVs if before[rv.name] == after.get(rv.name))
    names = tuple(name for name in kept if name not in imputed(model))
    if not names:
        raise ModelRefused(
            f"No free variable of {declaration.name} can be carried by default",
            expected="at least one free variable whose size does not depend on the batch",
            found=f"{', '.join(rv.name for rv in model.free_RVs)}, which grow with the rows",
            todo="declare carried=(...) or give the model a parameter shared by all rows",
        )
    return names


def shapes_of(model: Any) -> dict[str, tuple[int, ...]]:
    """Return the shape of each free variable and of its value by name, evaluated where one is not static."""
    both = [v for rv in model.free_RVs for v in (rv, model.rvs_to_values[rv])]
    shapes = {variable.name: variable.type.shape for variable in both}
    shapes |= {name: shape for rv in model.free_RVs for name, shape in _labelled_shapes(model, rv).items()}
    if any(None in shape for shape in shapes.values()):
        shapes |= model.eval_rv_shapes()
    return {name: tuple(int(n) for n in shape) for name, shape in shapes.items()}


def _labelled_shapes(model: Any, rv: Variable) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a variable and of its value that its labelled dims give; empty where they do not.

    Evaluating them instead compiles a function.
    """
    transform, dims = model.rvs_to_transforms[rv], model.named_vars_to_dims.get(rv.name) or ()
    labels = [model.coords.get(dim) for dim in dims]
    elementwise = transform is None or transform.name in _ELEMENTWISE
    if not elementwise or not dims or len(dims) != rv.type.ndim or any(one is None for one in labels):
        return {}
    shape = tuple(len(one) for one in labels)
    return {rv.name: shape, model.rvs_to_values[rv].name: shape}


def _free_variable(model: Any, rv: Variable, shapes: dict[str, tuple[int, ...]]) -> FreeVariable:
    """Describe one free variable."""
    value, shape = model.rvs_to_values[rv], shapes[str(rv.name)]
    dims = tuple(model.named_vars_to_dims.get(rv.name) or ())
    labels = tuple(_labels(model, rv.name, dim, n) for dim, n in zip(dims, shape, strict=False))
    block = Block(
        name=rv.name,
        shape=shape,
        value_shape=shapes[value.name],
        transform=_transform_text(model, rv),
        dims=dims,
        labels=labels,
    )
    return FreeVariable(name=rv.name, rv=rv, value=value, block=block)


def _labels(model: Any, name: str, dim: str, length: int) -> tuple[str, ...]:
    """Return the labels of a dim as text; positions when the model gives none."""
    values = model.coords.get(dim)
    labels = tuple(str(v) for v in (range(length) if values is None else values))
    if len(set(labels)) != len(labels):
        raise ModelRefused(
            f"The dim {dim!r} of the variable {name!r} has the same label twice",
            expected="labels that differ as text",
            found=f"{sorted({label for label in labels if labels.count(label) > 1})[:5]}",
            todo="make the labels of the dim unique",
        )
    return labels


def _transform_text(model: Any, rv: Variable) -> str:
    """Name the transform and its bounds; refuse bounds that depend on the batch."""
    transform = model.rvs_to_transforms[rv]
    if transform is None:
        return "identity"
    if hasattr(transform, "args_fn"):
        found = transform.args_fn(*rv.owner.inputs)
    elif hasattr(transform, "lower"):  # pymc.dims: its bounds are constants
        found = [plain(bound).eval(mode="FAST_COMPILE") for bound in (transform.lower, transform.upper)]
    else:
        return str(transform.name)
    bounds = [_bound_text(rv.name, bound) for bound in found]
    return f"{transform.name}({', '.join(bounds)})"


def _bound_text(name: str, bound: Any) -> str:
    """Write one bound of an interval as text."""
    if bound is None:
        return "none"
    if not isinstance(bound, Variable):
        return repr(np.asarray(bound, dtype=float).tolist())
    if isinstance(bound, Constant):
        return repr(np.asarray(bound.data, dtype=float).tolist())
    inputs = [v for v in ancestors([bound]) if v.owner is None and not isinstance(v, Constant)]
    data = [v for v in inputs if isinstance(v, SharedVariable) and not isinstance(v.type, RandomType)]
    if any(v.name for v in data):
        raise ModelRefused(
            f"The support of the free variable {name!r} depends on the batch",
            expected="bounds that are constants or depend on other parameters",
            found=f"bounds computed from {[v.name for v in inputs if getattr(v, 'name', None)]}",
            todo="make the bounds constants, so that the variable means the same in every link",
        )
    if not inputs:
        return repr(np.asarray(bound.eval(mode="FAST_COMPILE"), dtype=float).tolist())
    return "conditional"


def is_data(constant: Constant, observed: set[Variable]) -> bool:
    """Whether a constant of a graph is data of the batch rather than structure."""
    value: Any = constant.data
    if not isinstance(value, np.ndarray) or value.ndim == 0:
        return False
    return constant in observed or value.size >= DATA_SIZE
