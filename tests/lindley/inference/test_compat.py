"""What the sampler imports is imported when it is used, and by everybody else as always."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lindley.inference._compat import CompiledPyMCModel, _later, nutpie


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A heavy module, and one that imports it."""
    (tmp_path / "heavy_thing.py").write_text("weight = 7\n")
    (tmp_path / "uses_heavy.py").write_text(
        "import heavy_thing\n\n\ndef f():\n    return heavy_thing.weight\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("heavy_thing", "uses_heavy"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.usefixtures("packages")
def test_a_module_is_imported_when_it_is_used() -> None:
    with _later("heavy_thing"):
        user = importlib.import_module("uses_heavy")
    assert "heavy_thing" not in sys.modules
    assert user.f() == 7
    assert sys.modules["heavy_thing"].__file__


@pytest.mark.usefixtures("packages")
def test_others_import_the_module_itself() -> None:
    with _later("heavy_thing"):
        importlib.import_module("uses_heavy")
    assert importlib.import_module("heavy_thing").__file__


@pytest.mark.usefixtures("packages")
def test_a_module_that_is_there_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    held = importlib.import_module("heavy_thing")
    with _later("heavy_thing"):
        user = importlib.import_module("uses_heavy")
    assert user.heavy_thing is held is sys.modules["heavy_thing"]


@pytest.mark.usefixtures("packages")
def test_an_import_that_fails_leaves_no_stand_in() -> None:
    with pytest.raises(ZeroDivisionError), _later("heavy_thing"):
        raise ZeroDivisionError
    assert "heavy_thing" not in sys.modules


LOOK = "changed: mend lindley/inference/_compat.py and sampling.py, then the test"


def test_a_model_of_machine_code_has_the_fields_that_are_given() -> None:
    fields = set(inspect.signature(CompiledPyMCModel).parameters)
    given = {
        *("compiled_logp_func", "compiled_expand_func", "logp_func", "expand_func", "initial_point_func"),
        *("shared_data", "shared_var_keys", "user_data", "n_expanded", "shape_info", "dims"),
        *("_n_dim", "_shapes", "_coords", "reparameterized_names"),
    }
    assert given <= fields, f"nutpie.compile_pymc.CompiledPyMCModel {LOOK}"
    required = {
        name
        for name, parameter in inspect.signature(CompiledPyMCModel).parameters.items()
        if parameter.default is parameter.empty
    }
    assert required <= given, f"nutpie.compile_pymc.CompiledPyMCModel {LOOK}"


def test_a_model_of_python_functions_is_made_and_its_raw_trace_is_arrow() -> None:
    wanted = {"make_initial_point_fn"}
    found = set(inspect.signature(nutpie.compiled_pyfunc.from_pyfunc).parameters)
    assert wanted <= found, f"nutpie.compiled_pyfunc.from_pyfunc {LOOK}"
    wanted = {"return_raw_trace", "progress_callback", "progress_rate", "save_warmup"}
    assert wanted <= set(inspect.signature(nutpie.sample).parameters), f"nutpie.sample {LOOK}"
    model = nutpie.compiled_pyfunc.from_pyfunc(
        1,
        lambda: lambda x: (float(-0.5 * x @ x), -x),
        lambda *_: lambda x: {"x": np.array(x)},
        [np.dtype("float64")],
        [(1,)],
        ["x"],
        make_initial_point_fn=lambda seed: np.ones(1),
    )
    settings = {"chains": 1, "tune": 50, "draws": 20, "seed": 1, "save_warmup": False, "progress_bar": False}
    trace = nutpie.sample(model, **settings, return_raw_trace=True)
    assert hasattr(trace, "get_arrow_trace"), f"the raw trace of nutpie.sample {LOOK}"
    draws, statistics = trace.get_arrow_trace()
    assert "x" in pa.record_batch(draws[0]).schema.names
    wanted = {"tuning", "diverging", "energy", "n_steps", "step_size", "depth"}
    assert wanted <= set(pa.record_batch(statistics[0]).schema.names), f"nutpie's statistics {LOOK}"
