"""Models that cannot be updated as declared, refused by name before anything is compiled or sampled."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pymc.variational.minibatch_rv import MinibatchRandomVariable as _Scaled
from pytensor.graph.basic import Variable
from pytensor.graph.traversal import io_toposort

from lindley.errors import LindleyError, ModelRefused, reason
from lindley.model._compat import other_step_method
from lindley.model.declaration import Declaration
from lindley.model.tensors import plain

#: Modules of operations whose log density is known: PyMC's own, and those that it makes of a user's function.
_KNOWN = ("pymc.", "pytensor.", "abc")
#: How PyMC names the missing values of an observed variable, which it makes a free variable.
UNOBSERVED = "_unobserved"


def imputed(model: Any) -> set[str]:
    """Return the names of the free variables that PyMC made of missing values of observed variables."""
    observed = {str(rv.name).removesuffix("_observed") for rv in model.observed_RVs}
    return {rv.name for rv in model.free_RVs if str(rv.name).removesuffix(UNOBSERVED) in observed}


def require_continuous(declaration: Declaration, model: Any) -> None:
    """Refuse discrete free variables, which no gradient leads through."""
    discrete = [model.values_to_rvs[value].name for value in model.discrete_value_vars]
    if not discrete:
        return
    missing = set(discrete) & imputed(model)
    todo = "sum it out of the model (pm.Mixture, or pymc-extras' marginalize), or observe it"
    if missing:
        todo = "leave rows with missing outcomes out of the batch: PyMC would impute discrete values"
    raise ModelRefused(
        f"The model of {declaration.name} has the discrete free variable {discrete[0]!r}",
        expected="continuous free variables only",
        found=f"discrete {', '.join(discrete)}",
        todo=todo,
    )


def require_nuts(declaration: Declaration, model: Any) -> None:
    """Refuse free variables that PyMC would not sample with NUTS, e.g. the trees of pymc-bart.

    Such a variable has a step method of its own because its density cannot lead NUTS; NUTS would move it
    under a flat density, and the other variables would be wrong without a sign of it.
    """
    for rv in model.free_RVs:
        method = other_step_method(rv)
        if method is not None:
            raise ModelRefused(
                f"The free variable {rv.name!r} of {declaration.name} cannot be sampled with NUTS",
                expected="free variables that PyMC gives to NUTS, the sampler of every link",
                found=f"PyMC would sample {rv.name!r} with {method}",
                todo="fit this model with pm.sample by itself, or replace the variable by one with a density",
            )
        if not type(rv.owner.op).__module__.startswith(_KNOWN) and _is_flat(model, rv):
            raise ModelRefused(
                f"The free variable {rv.name!r} of {declaration.name} has no density that leads NUTS",
                expected="a log density that depends on the variable's value",
                found=f"the same log density for every value, from {type(rv.owner.op).__name__}",
                todo="use pm.Flat if a flat prior is meant; else fit this model with pm.sample by itself",
            )


def _is_flat(model: Any, rv: Variable) -> bool:
    """Whether a variable's own log density has no gradient by its value, around the starting point."""
    value = model.rvs_to_values[rv]
    density = pt.sum(plain(model.logp(vars=[rv], jacobian=False, sum=False)[0]))
    try:
        gradient = pt.grad(density, value, disconnected_inputs="ignore")
    except Exception:  # without a gradient it is refused by the name of the operation, later
        return False
    function = pytensor.function(
        model.value_vars, plain(gradient), mode="FAST_COMPILE", on_unused_input="ignore"
    )
    point, rng = model.initial_point(random_seed=0), np.random.default_rng(0)
    values = [np.asarray(point[v.name]) for v in model.value_vars]
    moved = [[v + rng.uniform(-0.5, 0.5, v.shape) for v in values] for _ in range(2)]
    return not any(np.any(function(*at)) for at in moved)


def require_known(
    declaration: Declaration, model: Any, carried: tuple[str, ...], free: Collection[str]
) -> None:
    """Refuse names in the declaration that the model does not have."""
    quantities = set(free) | {d.name for d in model.deterministics}
    wanted = [(name, set(free)) for name in (*carried, *declaration.carry)]
    wanted += [(source, quantities) for source in declaration.carry.values()]
    for name, known in wanted:
        if name not in known:
            raise ModelRefused(
                f"The declaration of {declaration.name} names {name!r}, which the model does not have",
                expected=f"one of {', '.join(sorted(known))}",
                found=name,
                todo="correct the name; or keep what the chain carries since genesis, or start another chain",
            )
    for target in declaration.carry:
        if target not in carried:
            raise ModelRefused(
                f"The declaration of {declaration.name} passes state into {target!r}, which is not carried",
                expected="every key of `carry` among the carried variables",
                found=f"carried {', '.join(carried)}",
                todo=f"add {target!r} to `carried`",
            )


def require_declared_potentials(declaration: Declaration, model: Any) -> None:
    """Refuse undeclared potentials, which could be counted in every link by mistake."""
    unknown = [p.name for p in model.potentials if p.name not in declaration.potentials]
    if unknown:
        raise ModelRefused(
            f"The model of {declaration.name} has the potential {unknown[0]!r}",
            expected="every potential declared as part of the prior or of the likelihood",
            found=f"undeclared {', '.join(unknown)}",
            todo='declare potentials={"' + unknown[0] + '": "prior"} (or "likelihood")',
        )


@contextmanager
def deriving(declaration: Declaration) -> Iterator[None]:
    """Turn what PyMC cannot derive in the block, log densities, into a refusal.

    Raises
    ------
    ModelRefused
        For anything but a `LindleyError`.
    """
    try:
        yield
    except LindleyError:
        raise
    except Exception as error:  # distributions without a log density raise errors of any type
        raise ModelRefused(
            f"The log density of {declaration.name} cannot be derived",
            expected="distributions whose log density PyMC knows",
            found=reason(error),
            todo="run pm.sample on the model by itself; give custom distributions a logp",
        ) from error


def gradient(declaration: Declaration, cost: Variable, wrt: Variable | list[Variable]) -> Any:
    """Return the gradient of a scalar; inputs that it does not depend on have zeros.

    Raises
    ------
    ModelRefused
        If an operation has none: the error names it.
    """
    try:
        return pt.grad(cost, wrt, disconnected_inputs="ignore")
    except Exception as error:  # operations without a gradient raise errors of several types
        blamed = _without_gradient(cost, wrt if isinstance(wrt, list) else [wrt])
        raise ModelRefused(
            f"The model of {declaration.name} has an operation without a gradient: {blamed or 'unknown'}",
            expected="operations of PyTensor with gradients, through which NUTS moves",
            found=reason(error),
            todo="write it with PyTensor's operations, or give the operation a gradient (`Op.grad`); "
            "pm.Simulator and as_op have none",
        ) from error


def _without_gradient(cost: Variable, wrt: list[Variable]) -> str:
    """Name the first operation on the way from some inputs that has no gradient; empty where all have one."""
    moving = set(wrt)
    for node in io_toposort(wrt, [cost]):
        where = [i for i, v in enumerate(node.inputs) if v in moving and _is_float(v)]
        if not where:
            continue
        moving |= set(node.outputs)
        alone = node.clone_with_new_inputs([v.type() for v in node.inputs])
        outputs = [plain(v) for v in alone.outputs if _is_float(v)]
        try:
            if outputs:
                pt.grad(
                    pt.add(*map(pt.sum, outputs), 0.0),
                    [alone.inputs[i] for i in where],
                    disconnected_inputs="ignore",
                )
        except Exception:  # the operation that is looked for, with errors of several types
            own = getattr(node.op, "name", None)
            return str(own or str(node.op).removeprefix("FromFunctionOp").strip("{}"))
    return ""


def _is_float(variable: Variable) -> bool:
    return str(getattr(variable.type, "dtype", "")).startswith("float")


def require_each_row_once(declaration: Declaration, model: Any) -> None:
    """Refuse likelihoods that stand for more rows than the batch has: each batch would count as many."""
    scaled = [rv.name for rv in (*model.observed_RVs, *model.free_RVs) if isinstance(rv.owner.op, _Scaled)]
    if scaled:
        raise ModelRefused(
            f"The model of {declaration.name} gives {scaled[0]} a total_size",
            expected="a likelihood that counts each row of its batch once",
            found=f"total_size= in {', '.join(scaled)}",
            todo="leave total_size out: the chain adds up the batches",
        )
