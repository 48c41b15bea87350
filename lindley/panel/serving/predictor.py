"""Predictions for rows of many members: each row is routed by its key, and only those members are read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pytensor
import xarray as xr
from pytensor.graph.replace import vectorize_graph

from lindley.cache import Recent
from lindley.errors import BatchRefused, LindleyError, ModelRefused
from lindley.inference.members.population import FEWEST, population
from lindley.model import graph
from lindley.model.coordinates import Block
from lindley.model.declaration import Declaration
from lindley.model.natural_scale import natural_scale
from lindley.panel.key import MemberKey
from lindley.panel.members import check_keys, places_by
from lindley.panel.row import MemberRow
from lindley.prior.matched import MatchedPrior
from lindley.seeds import derive_seed
from lindley.serving.inputs import typed_inputs
from lindley.serving.predict import MOST_VALUES, SERVING_DRAWS, Predictor
from lindley.serving.rows import Inputs, Rows

#: Bytes of members' draws that a predictor keeps.
_KEPT = 2**26
#: Where a new member starts, in words of `PanelPolicy.new`.
_POPULATION = "population"
_NAMED = 3


class MemberSource(Protocol):
    """Where the members of a panel are read from, each checked against its leaf."""

    def newest(self, keys: Sequence[MemberKey]) -> dict[MemberKey, MemberRow]:
        """Return the newest rows of members; those that are no members are left out."""

    def everyone(self) -> list[MemberKey]:
        """Return the keys of all members, sorted."""


@dataclass(frozen=True)
class _Part:
    """What is predicted for one member: columns of each variable, and the positions of its rows."""

    key: MemberKey
    rows: np.ndarray
    summaries: list[dict[str, Any]]


class MemberPredictor:
    """The beliefs of a panel's members that answer again and again.

    Equal rows of a member get equal numbers, whatever rows of other members are beside them.

    Parameters
    ----------
    declaration
        The panel's.
    members
        Where the members are read from.
    constants
        Frozen constants of preprocessing.
    """

    def __init__(
        self, declaration: Declaration, members: MemberSource, constants: Mapping[str, float] | None = None
    ) -> None:
        self.declaration = declaration
        self._members, self._constants = members, dict(constants or {})
        self._held: Recent[Predictor] = Recent(_KEPT, lambda held: 4096 + int(held.draws.nbytes))
        self._first: Predictor | None = None
        self._population: list[MatchedPrior] = []

    def predict(self, inputs: pd.DataFrame | Rows, *, seed: int = 0) -> pd.DataFrame:
        """Summarise the posterior predictive distributions of the members of the inputs.

        Parameters
        ----------
        inputs
            Rows as in a batch, with the columns of `by`. Observed columns and the rest of the row key may be
            missing; row keys may repeat.
        seed
            Seed of the predictive draws; each member has a stream of its own.

        Returns
        -------
        pandas.DataFrame
            As `lindley.serving.predict.Predictor.predict` returns, with the columns of `by`.

        Raises
        ------
        BatchRefused
            If a row belongs to no member that has a belief, the inputs do not fit the schema, or the model
            cannot predict for them.
        """
        return pd.concat([pd.DataFrame(part) for part in self.columns(inputs, seed=seed)], ignore_index=True)

    def columns(self, inputs: pd.DataFrame | Rows, *, seed: int = 0) -> list[dict[str, Any]]:
        """Return what `predict` does, as columns by name for each observed variable."""
        name, by = self.declaration.name, self.declaration.by
        if isinstance(inputs, Rows):
            inputs = inputs.frame
        absent = [column for column in by if column not in inputs and column not in inputs.index.names]
        if absent:
            raise BatchRefused(
                f"The inputs do not say which members of {name} they belong to",
                expected=f"the columns {', '.join(by)}",
                found=f"no {', '.join(absent)}",
                todo="add the columns of the key",
            )
        read, table = typed_inputs(inputs, self.declaration)
        if len(table) > MOST_VALUES:
            raise BatchRefused(
                "There are too many rows for one prediction",
                expected=f"at most {MOST_VALUES:,} rows",
                found=f"{len(table):,}",
                todo="predict for some of the rows at a time",
            )
        check_keys(table, self.declaration)
        places = {key: np.array(rows) for key, rows in places_by(table, by).items()}
        beliefs = self._beliefs(list(places))
        keys = _given(inputs, self.declaration)
        parts = []
        for key, rows in places.items():
            own = _some(read, rows, keys)
            predictor = self._predictor(key, *beliefs[key], own.frame)
            stream = derive_seed(str(seed), key.canonical.decode())
            parts.append(_Part(key, read.order[rows], predictor.summaries(own, seed=stream)))
        return _joined(parts, len(table))

    def _beliefs(self, keys: list[MemberKey]) -> dict[MemberKey, tuple[str, MatchedPrior]]:
        """Return the belief of each member behind what identifies it."""
        rows, found = self._members.newest(keys), dict[MemberKey, tuple[str, MatchedPrior]]()
        for key in keys:
            row = rows.get(key)
            if row is not None and row.matched is not None:
                found[key] = (row.hash.hex(), row.matched)
        unknown = [key for key in keys if key not in found]
        if unknown:
            common = self._of_population(unknown)
            found |= dict.fromkeys(unknown, (common.digest, common))
        return found

    def _of_population(self, unknown: list[MemberKey]) -> MatchedPrior:
        """Return the prior of members without a belief, where the declaration starts them from the others."""
        policy, by = self.declaration.panel, ", ".join(self.declaration.by)
        named = ", ".join(f"[{key}]" for key in unknown[:_NAMED])
        if policy.new == _POPULATION and not self._population:
            every = self._members.everyone()
            rows = self._members.newest(every)
            held = [rows[key].matched for key in every if key in rows]
            beliefs = [matched for matched in held if matched is not None]
            if len(beliefs) >= FEWEST:
                self._population.append(population(beliefs))
        if not self._population:
            more = f" and {len(unknown) - _NAMED:,} more" if len(unknown) > _NAMED else ""
            raise BatchRefused(
                f"Rows of the inputs belong to no member of {self.declaration.name} that has a belief",
                expected=f"keys ({by}) of members; `lindley members {self.declaration.name}` lists them",
                found=named + more,
                todo="leave these rows out, update the panel with rows of these members, or declare "
                'PanelPolicy(new="population"), so that new members have the distribution of the others',
            )
        return self._population[0]

    def _predictor(
        self, key: MemberKey, identity: str, matched: MatchedPrior, frame: pd.DataFrame
    ) -> Predictor:
        """Return what predicts from a belief: its draws are the same whenever they are made."""

        def made() -> Predictor:
            seed = derive_seed(identity, key.canonical.decode())
            model = partial(self._model, frame)
            draws = draws_of(matched, model, seed, self._constants)
            return Predictor(draws, self.declaration.member, self._first)

        found = self._held.get((identity, key), made)
        self._first = self._first or found
        return found

    def _model(self, frame: pd.DataFrame) -> Any:
        return graph.build(self.declaration.member, frame, constants=self._constants)


def draws_of(
    matched: MatchedPrior, model: Callable[[], Any], seed: int, constants: Mapping[str, float]
) -> xr.Dataset:
    """Draw from a matched prior what a prediction takes; see `lindley.serving.draws.serving_draws`.

    Parameters
    ----------
    matched
        A member's belief.
    model
        Builds the model of some of the member's rows; only called for transforms of several elements.
    seed
        Of the draws.
    constants
        Frozen constants of preprocessing.

    Returns
    -------
    xarray.Dataset
        Variables [sample, ...] on their natural scale, with labels.

    Raises
    ------
    ModelRefused
        If a variable cannot be taken to its natural scale.
    """
    u = matched.map.sample(np.random.default_rng(seed), SERVING_DRAWS)
    found: dict[str, Any] = {}
    labels: dict[str, Any] = {}
    blocks, start = list[tuple[Block, np.ndarray]](), 0
    for block in matched.coordinates.blocks:
        blocks.append((block, u[:, start : start + block.size].reshape(-1, *block.value_shape)))
        start += block.size
    natural: dict[str, np.ndarray] = {}
    for block, values in blocks:
        alone = None if block.mixes else natural_scale(block.transform, values)
        if alone is not None:
            natural[block.name] = alone
    if len(natural) < len(blocks):
        natural = by_model(model(), {block.name: values for block, values in blocks})
    for block, _ in blocks:
        axes = [f"{block.name}_{axis}" for axis in range(len(block.shape))]
        dims = list(block.dims) if len(block.dims) == len(block.shape) else axes
        found[block.name] = (("sample", *dims), natural[block.name])
        labels |= {dim: np.array(each, str) for dim, each in zip(block.dims, block.labels, strict=False)}
    return xr.Dataset(found, coords=labels, attrs={"constants": json.dumps(dict(constants))})


def by_model(model: Any, coordinates: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Take coordinates [sample, ...] of variables to their natural scale by a model's own transforms.

    Raises
    ------
    ModelRefused
        If the model has other variables or shapes.
    """
    names = list(coordinates)
    try:
        variables = [model[name] for name in names]
        values = [model.rvs_to_values[variable] for variable in variables]
        many = [value.type.clone(shape=(None, *value.type.shape))() for value in values]
        natural = model.replace_rvs_by_values(variables)
        outputs = vectorize_graph(natural, dict(zip(values, many, strict=True)))
        compute = pytensor.function(many, outputs, mode="FAST_COMPILE", on_unused_input="ignore")
        found = compute(*(coordinates[name] for name in names))
    except LindleyError:
        raise
    except Exception as error:  # a model's own transforms raise errors of any type
        raise ModelRefused(
            "The parameters of a member cannot be taken to their natural scale",
            expected=f"a model with the variables {', '.join(names)}, as when the belief was made",
            found=f"{type(error).__name__}: {str(error)[:200]}",
            todo="predict with rows that have the labels of the member's belief",
        ) from error
    return dict(zip(names, map(np.asarray, found), strict=True))


def _given(inputs: pd.DataFrame, declaration: Declaration) -> pd.DataFrame:
    """Return the columns of key and row key as they were given."""
    if any(name is not None for name in inputs.index.names):
        inputs = inputs.reset_index()
    names = dict.fromkeys((*declaration.by, *declaration.row_key))
    return inputs[[name for name in names if name in inputs]]


def _some(read: Inputs, rows: np.ndarray, keys: pd.DataFrame) -> Inputs:
    """Return some rows of the inputs, in their order there, with their keys."""
    own = keys.iloc[read.order[rows]]
    return replace(
        read,
        held=read.frame.iloc[rows].reset_index(drop=True),
        order=np.arange(len(rows)),
        keys={str(name): own[name].array for name in own},
    )


def _joined(parts: Sequence[_Part], rows: int) -> list[dict[str, Any]]:
    """Return the columns of all members by variable, those of a value for each row in the order of rows."""
    names = dict.fromkeys(each["variable"] for part in parts for each in part.summaries)
    found = []
    for name in names:
        frames, positions = [], []
        for part in parts:
            each = next(item for item in part.summaries if item["variable"] == name)
            frame = pd.DataFrame(each)
            if len(frame) == len(part.rows):
                frame["row"] = part.rows
                positions.append(part.rows)
            else:  # not one value for each row: these name their member, and count its values
                frame = frame.assign(**{column: str(value) for column, value in part.key.values})
            frames.append(frame)
        whole = pd.concat(frames, ignore_index=True)
        if sum(map(len, positions)) == rows == len(whole):
            whole = whole.sort_values("row", ignore_index=True, kind="stable")
        columns = {str(column): whole[column].array for column in whole.columns if column != "variable"}
        found.append({"variable": name} | columns)
    return found
