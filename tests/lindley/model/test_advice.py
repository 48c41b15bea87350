"""Advice names the arrays to wrap in pm.Data, and only where that would save a compilation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pymc as pm
import pytest

from lindley.model.advice import _column, advice, data_held_as_constants
from lindley.model.free_lengths import GROWING
from lindley.model.graph import ModelGraph, build, default_carried, take_apart
from tests.lindley.inference.test_step import declared, rows

FRAME = rows(np.arange(30.0) + 0.5)


def wrapped(batch: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        b = pm.Normal("b", 0, 1, shape=2)
        x = pm.Data("x", np.column_stack([np.ones(len(batch)), batch["y"]]))
        pm.Normal("y", x @ b, 1.0, observed=pm.Data("seen", batch["y"].to_numpy()))
    return model


def inlined(batch: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        b = pm.Normal("b", 0, 1, shape=2)
        x = np.column_stack([np.ones(len(batch)), batch["y"]])
        line = pm.Deterministic("line", x @ b)
        pm.Normal("y", line, 1.0, observed=batch["y"].to_numpy())
    return model


def taken(model: Callable[[pd.DataFrame], pm.Model], count: int) -> ModelGraph:
    frame, declaration = rows(np.arange(float(count)) + 0.5), declared(model)
    built = build(declaration, frame)
    return take_apart(declaration, built, default_carried(declaration, built, frame))


def test_data_that_the_model_holds_are_named_by_their_use() -> None:
    assert data_held_as_constants(taken(inlined, 30), FRAME) == [
        "column y: the observed values of y",
        "float64 30 x 2 in line",
    ]
    assert data_held_as_constants(taken(wrapped, 30), FRAME) == []


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ('x = 1\npm.Normal("y", observed=batch["b"].to_numpy())', "column b, line 2: "),
        ("batch.a + batch.b", ""),
        ("a, b = batch.a, batch['b']", ""),
        ("", ""),
    ],
)
def test_of_equal_columns_the_one_that_the_code_takes_is_named(source: str, wanted: str) -> None:
    values = np.array([1.0, 2.0])
    assert _column(values, {"a": values, "b": values, "c": values + 1}, source) == wanted
    assert _column(values, {"b": values}, "") == "column b: "


@pytest.mark.parametrize(("count", "before", "sized"), [(0, False, ""), (2, True, ""), (2, False, GROWING)])
def test_nothing_is_said_where_nothing_could_be_saved(count: int, before: bool, sized: str) -> None:
    graph = replace(taken(inlined, 30), sized=sized)
    assert advice(graph, FRAME, inlined=count, compiled_before=before, seconds=9.0) == ()


def test_the_sentence_says_what_it_cost_and_what_to_do() -> None:
    graph = replace(taken(inlined, 30), sized="an operation cannot be made for other lengths")
    (sentence,) = advice(graph, FRAME, inlined=2, compiled_before=False, seconds=8.04)
    assert "column y: the observed values of y; float64 30 x 2 in line" in sentence
    assert "took 8.0 s" in sentence
    assert "cannot be made for other lengths, so that" in sentence
    assert "pm.Data" in sentence
