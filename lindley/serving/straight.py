"""Build functions that only pass columns on: their graph depends on the rows in nothing but its data.

PyMC takes some 10 ms to build a model, half of what a request may take. A function of assignments and calls
of distributions, without a branch, a loop or a computation on values, builds the same graph from all frames
of one length and type, with columns of the frame as its data. What is not seen to be so is built anew for
each request.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any, Literal

import pymc as pm
import pytensor.tensor as pt

from lindley.model.declaration import Declaration

#: What an expression is: the frame, columns of it, their array, a variable of the graph, or none of these.
_Kind = Literal["frame", "columns", "array", "tensor", "other"]
#: Distributions whose constructors look at no value of their arguments.
_DISTRIBUTIONS = (
    *("AsymmetricLaplace", "Bernoulli", "Beta", "BetaBinomial", "Binomial", "Cauchy", "ChiSquared"),
    *("Exponential", "Gamma", "Geometric", "HalfCauchy", "HalfNormal", "HalfStudentT", "InverseGamma"),
    *("Laplace", "LogNormal", "Logistic", "NegativeBinomial", "Normal", "Poisson", "SkewNormal"),
    *("StudentT", "Uniform", "VonMises", "Weibull"),
)
_FUNCTIONS = (
    *("abs", "cos", "dot", "exp", "expm1", "invlogit", "log", "log1p", "maximum", "minimum"),
    *("sigmoid", "sin", "sqr", "sqrt", "tanh"),
)
#: Arguments on which the shape of a variable depends, or its name.
_STRUCTURE = {
    *("name", "shape", "size", "dims", "total_size", "transform", "default_transform"),
    *("initval", "coords"),
}


class _NotStraight(Exception):
    """A statement or expression that is not known to be independent of the rows' values."""


def used_columns(declaration: Declaration) -> frozenset[str] | None:
    """Return the columns that a declaration's build function passes on; None if it may do more than that."""
    build = declaration.build
    code = getattr(build, "__code__", None)
    if declaration.code is None or code is None or declaration.context or build.__closure__:
        return None
    try:
        found = [
            node
            for node in ast.parse(declaration.code).body
            if isinstance(node, ast.FunctionDef) and node.name == code.co_name
        ]
        if len(found) != 1 or found[0].lineno != code.co_firstlineno or found[0].decorator_list:
            return None
        return _Function(build.__globals__, found[0]).columns()
    except (SyntaxError, ValueError, RecursionError, _NotStraight):
        return None


class _Function:
    """The statements of a build function, read in order."""

    def __init__(self, names: Mapping[str, Any], function: ast.FunctionDef) -> None:
        self._globals, self._function = names, function
        arguments = [argument.arg for argument in function.args.args]
        if not arguments or function.args.vararg or function.args.kwarg or function.args.posonlyargs:
            raise _NotStraight
        self._kinds: dict[str, _Kind] = dict.fromkeys(arguments[1:], "other")
        self._kinds |= dict.fromkeys((a.arg for a in function.args.kwonlyargs), "other")
        self._kinds[arguments[0]] = "frame"
        self._models: set[str] = set()
        self._columns: set[str] = set()
        self._callable = {id(getattr(pm, name)) for name in (*_DISTRIBUTIONS, "Data", "Deterministic")}
        for module in (pm.math, pt):
            self._callable |= {id(getattr(module, n)) for n in _FUNCTIONS if hasattr(module, n)}

    def columns(self) -> frozenset[str]:
        """Return the columns that it uses; raise where a statement may look at their values."""
        self._statements(self._function.body)
        return frozenset(self._columns)

    def _statements(self, body: list[ast.stmt]) -> None:
        for statement in body:
            match statement:
                case ast.Expr(value=ast.Constant()) | ast.Pass():
                    pass
                case ast.Expr(value=ast.Call() as call):
                    self._kind(call)
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self._kinds[name] = self._kind(value)
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                    self._kinds[name] = self._kind(value)
                case ast.With(items=[ast.withitem(context_expr=ast.Call() as call, optional_vars=bound)]):
                    self._model(call, bound)
                    self._statements(statement.body)
                case ast.Return(value=ast.Name(id=name)) if name in self._models:
                    pass
                case _:
                    raise _NotStraight

    def _model(self, call: ast.Call, bound: ast.expr | None) -> None:
        """Read the head of ``with pm.Model(...) as model``."""
        given = [*call.args, *(keyword.value for keyword in call.keywords)]
        if self._object(call.func) is not pm.Model or any(self._kind(v) != "other" for v in given):
            raise _NotStraight
        if not isinstance(bound, ast.Name):
            raise _NotStraight
        self._models.add(bound.id)

    def _kind(self, node: ast.expr) -> _Kind:
        """Return what an expression is."""
        match node:
            case ast.Constant():
                return "other"
            case ast.Name(id=name) if name not in self._models:
                return self._kinds.get(name, "other")
            case ast.Attribute(value=value, attr="values") if self._kind(value) == "columns":
                return "array"
            case ast.Attribute(value=value) if self._kind(value) == "other":
                return "other"
            case ast.Subscript(value=value, slice=place):
                return self._subscript(self._kind(value), place)
            case ast.BinOp(left=left, right=right):
                return self._joined({self._kind(left), self._kind(right)})
            case ast.UnaryOp(operand=operand, op=ast.USub()):
                return self._joined({self._kind(operand)})
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                return self._all_other(parts)
            case ast.Dict(keys=keys, values=values):
                return self._all_other([*(key for key in keys if key is not None), *values])
            case ast.Call():
                return self._call(node)
        raise _NotStraight

    def _all_other(self, parts: list[ast.expr]) -> _Kind:
        if any(self._kind(part) != "other" for part in parts):
            raise _NotStraight
        return "other"

    @staticmethod
    def _joined(kinds: set[_Kind]) -> _Kind:
        """Return what an operation on these gives; that of arrays alone would be data that no column is."""
        if kinds == {"other"}:
            return "other"
        if "tensor" in kinds and kinds <= {"tensor", "array", "other"}:
            return "tensor"
        raise _NotStraight

    def _subscript(self, kind: _Kind, place: ast.expr) -> _Kind:
        if kind == "frame":
            names = place.elts if isinstance(place, ast.List) else [place]
            texts = [name.value for name in names if isinstance(name, ast.Constant)]
            if texts and len(texts) == len(names) and all(isinstance(text, str) for text in texts):
                self._columns |= {str(text) for text in texts}
                return "columns"
        elif kind == "tensor" and self._kind(place) in ("array", "tensor", "other"):
            return "tensor"
        elif kind == "other" and self._kind(place) == "other":
            return "other"
        raise _NotStraight

    def _call(self, node: ast.Call) -> _Kind:
        method = node.func
        if (
            isinstance(method, ast.Attribute)
            and method.attr == "to_numpy"
            and not (node.args or node.keywords)
        ):
            if self._kind(method.value) == "columns":
                return "array"
            raise _NotStraight
        if id(self._object(node.func)) not in self._callable:
            raise _NotStraight
        for keyword in node.keywords:
            kind = self._kind(keyword.value)
            if kind == "frame" or keyword.arg is None or (keyword.arg in _STRUCTURE and kind != "other"):
                raise _NotStraight
        if any(isinstance(value, ast.Starred) or self._kind(value) == "frame" for value in node.args):
            raise _NotStraight
        return "tensor"

    def _object(self, node: ast.expr) -> Any:
        """Return the object that a dotted name of the module is."""
        if isinstance(node, ast.Name) and node.id not in self._kinds and node.id in self._globals:
            return self._globals[node.id]
        if isinstance(node, ast.Attribute):
            held = self._object(node.value)
            if held in (pm, pm.math, pt) and hasattr(held, node.attr):
                return getattr(held, node.attr)
        raise _NotStraight
