"""The structure of a model: a digest of the graph that its code builds from given rows.

Two builds from the same rows by the same code and libraries have one structure. A digest that differs shows
other code, or a model that depends on something else than its rows: an environment variable, a file, a
module found by a computed name. Rows are not part of it; constants that are too small for data are.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Constant, Variable
from pytensor.graph.fg import AbstractFunctionGraph
from pytensor.graph.op import Op
from pytensor.graph.traversal import toposort
from pytensor.graph.type import Type
from pytensor.tensor.random.type import RandomType

from lindley.model.code.own import public_name
from lindley.model.graph import is_data
from lindley.model.tensors import plain

#: Constants are compared to so many significant digits: another processor may round differently.
_DIGITS = 9
#: Below this a constant is zero: what is left where terms cancel is noise.
_ZERO = 1e-12
#: Packages whose distributions have densities of their own, by version.
_KNOWN = ("pymc", "pytensor")
_PLAIN = (bool, int, float, complex, str, bytes, type(None), np.dtype, np.generic)


def structure(model: Any) -> str:
    """Return the digest of a model's structure.

    It covers names, dims, transforms, what each variable is computed from, types without lengths, and
    constants of fewer than eight elements; where a distribution is the user's own, log densities too. It does
    not cover the rows.
    """
    values = model.rvs_to_values
    named = {**{rv.name: rv for rv in model.basic_RVs}, **{v.name: v for v in model.deterministics}}
    named |= {v.name: v for v in model.potentials}
    outputs = [plain(named[name]) for name in sorted(named)]
    terms = sorted([*model.basic_RVs, *model.potentials], key=lambda v: str(v.name))
    own = any(_package(node.op) not in _KNOWN for node in toposort(outputs))
    densities = [plain(term) for term in model.logp(vars=terms, sum=False)] if own else []
    walk = _Walk({values[rv] for rv in model.observed_RVs})
    walk.names = {values[rv]: str(rv.name) for rv in model.free_RVs}
    hashes = walk.of([*outputs, *densities])
    free = sorted(model.free_RVs, key=lambda v: str(v.name))
    meant = [
        [rv.name, list(model.named_vars_to_dims.get(rv.name) or ()), _transform(model, rv)] for rv in free
    ]
    return _sha([sorted(named), hashes, meant])


def _package(op: Op) -> str:
    return type(op).__module__.partition(".")[0]


def _class(kind: type) -> str:
    """Return the name of a class; one of a model's own has it in any folder and on any machine."""
    return f"{public_name(kind.__module__)}.{kind.__qualname__}"


def _transform(model: Any, rv: Variable) -> str:
    transform = model.rvs_to_transforms[rv]
    return "" if transform is None else _class(type(transform))


class _Walk:
    """Digests of variables by what they are computed from; equal ones have equal digests.

    Parameters
    ----------
    observed
        Value variables of the outcomes, which are data whatever their size.
    """

    def __init__(self, observed: set[Variable]) -> None:
        self.observed = observed
        self.names: Mapping[Variable, str] = {}

    def of(self, outputs: Sequence[Variable], inputs: Sequence[Variable] = ()) -> list[str]:
        """Return the digests of variables.

        Parameters
        ----------
        inputs
            Inputs of an inner graph, known by their place.
        """
        found = {v: _sha(["input", place, _type(v.type)]) for place, v in enumerate(inputs)}
        for node in toposort(outputs, blockers=list(inputs)):
            below = [self._leaf(v, found) for v in node.inputs]
            operation = self._value(node.op)
            for place, variable in enumerate(node.outputs):
                found[variable] = _sha([operation, place, _type(variable.type), below])
        return [self._leaf(v, found) for v in outputs]

    def _leaf(self, variable: Variable, found: dict[Variable, str]) -> str:
        if variable not in found:
            found[variable] = _sha(self._described(variable))
        return found[variable]

    def _described(self, variable: Variable) -> list[object]:
        """Describe a variable that is not computed."""
        if isinstance(variable.type, RandomType):
            return ["generator"]
        if variable in self.names:
            return ["value", self.names[variable]]
        if isinstance(variable, Constant) and not is_data(variable, self.observed):
            return ["constant", self._value(variable.data)]
        if isinstance(variable, SharedVariable | Constant) or variable in self.observed:
            return ["data", _type(variable.type)]
        return ["free", str(variable.name), _type(variable.type)]

    def _value(self, value: Any) -> object:
        """Describe an operation, one of its properties, or the value of a constant."""
        found: object = _class(type(value))
        if isinstance(value, Op):
            found = self._operation(value)
        elif isinstance(value, AbstractFunctionGraph):
            found = self.of(value.outputs, value.inputs)
        elif isinstance(value, Variable):
            found = self._described(value)
        elif isinstance(value, Type):
            found = _type(value)
        elif isinstance(value, np.ndarray):
            found = [str(value.dtype), [_rounded(item) for item in value.ravel().tolist()], value.ndim]
        elif isinstance(value, _PLAIN):
            found = _rounded(value)
        elif isinstance(value, Mapping):
            found = sorted(([repr(key), self._value(item)] for key, item in value.items()), key=repr)
        elif isinstance(value, tuple | list):
            found = [self._value(item) for item in value]
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            found = [[f.name, self._value(getattr(value, f.name))] for f in dataclasses.fields(value)]
        return found

    def _operation(self, op: Any) -> object:
        """Describe an operation: its class, its properties, and the graph that it holds."""
        kind = type(op)
        properties = [[name, self._value(getattr(op, name))] for name in getattr(op, "__props__", None) or ()]
        inner = getattr(op, "fgraph", None)
        held = [] if not isinstance(inner, AbstractFunctionGraph) else self._value(inner)
        return [public_name(kind.__module__), kind.__qualname__, properties, held]


def _type(kind: Type) -> list[str | int]:
    """Describe a type without lengths."""
    return [type(kind).__name__, str(getattr(kind, "dtype", "")), int(getattr(kind, "ndim", 0))]


def _rounded(value: Any) -> str:
    """Return a value as text, real numbers rounded."""
    if isinstance(value, float | np.floating):
        number = float(value)
        return "0" if abs(number) < _ZERO else f"{number:.{_DIGITS}g}"
    return repr(value.item() if isinstance(value, np.generic) else value)


def _sha(value: object) -> str:
    return hashlib.sha256(repr(value).encode("utf-8", "backslashreplace")).hexdigest()
