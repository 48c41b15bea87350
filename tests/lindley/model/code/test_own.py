"""Modules beside a model file: part of its code, its alone, and stored with a link."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from lindley.errors import DeclarationRefused
from lindley.model.code.digests import source_digest
from lindley.model.code.stored import stored_digests, write_modules
from lindley.model.declaration import Declaration, declared_chains, load_file, load_stored
from lindley.model.structure import structure

MODEL = """
import pyarrow as pa
{imports}
from lindley import Declaration
def build(batch):
{inside}
declaration = Declaration(name="mine", build=build, schema=pa.schema([("id", pa.int64())]), row_key=("id",))
"""


def loaded(folder: Path, imports: str = "", inside: str = "return None", name: str = "mine") -> Declaration:
    """Write a model file and load it; helpers beside it are there already."""
    folder.mkdir(exist_ok=True)
    lines = "\n".join(f"    {line}" for line in inside.splitlines())
    (folder / f"{name}.py").write_text(MODEL.format(imports=imports, inside=lines))
    return load_file(folder / f"{name}.py")


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / (name.replace("__", "/").replace("//init/", "/__init__") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_a_module_beside_the_file_is_part_of_the_model(tmp_path: Path) -> None:
    write(tmp_path, helpers="SCALE = 1.0\n")
    one = loaded(tmp_path, "import helpers", "return helpers.SCALE")
    write(tmp_path, helpers="# A comment.\nSCALE = 1.0\n")
    same = loaded(tmp_path, "import helpers", "return helpers.SCALE")
    write(tmp_path, helpers="SCALE = 0.5\n")
    other = loaded(tmp_path, "import helpers", "return helpers.SCALE")
    assert one.imports.digests == {"helpers": source_digest("SCALE = 1.0")}
    assert one.model_digest == same.model_digest != other.model_digest
    assert (one.build(None), other.build(None)) == (1.0, 0.5)
    assert "helpers" not in sys.modules
    assert importlib.util.find_spec("helpers") is None


@pytest.mark.parametrize(
    ("imports", "inside"),
    [
        ("from shared.deep import first", "return first.VALUE"),
        ("import shared.deep.first", "return shared.deep.first.VALUE"),
        ("import shared.deep.first as it", "return it.VALUE"),
        ("from shared.deep.first import VALUE", "return VALUE"),
        ("from shared.deep.first import *", "return VALUE"),
        ("from .shared.deep import first", "return first.VALUE"),
        ("", "from shared.deep import first\nreturn first.VALUE"),
        ("", "import importlib\nreturn importlib.import_module('shared.deep.first').VALUE"),
        ("from importlib import import_module", "return import_module('shared.deep.first').VALUE"),
        ("import importlib.util", "return importlib.import_module('shared.deep.first').VALUE"),
        ("", "return __import__('shared.deep.first').deep.first.VALUE"),
    ],
)
def test_every_way_to_import_them_works_stored_too(tmp_path: Path, imports: str, inside: str) -> None:
    write(
        tmp_path,
        shared____init__="",
        shared__deep__first="import loose\nfrom . import second\nfrom ..third import X\nVALUE = second.Y + X",
        shared__deep__second="def late():\n    import loose\n    return loose.ONE\nY = late()",
        shared__third="from shared.deep import second\nX = 10",
        loose="ONE = 1",
        unused="1 / 0",
    )
    made = loaded(tmp_path, imports, inside)
    assert made.build(None) == 11
    names = {"shared", "shared.deep.first", "shared.deep.second", "shared.third", "loose"}
    assert set(made.imports.digests) == names
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    write_modules(made.imports.modules, elsewhere / "modules.zip")
    assert stored_digests(elsewhere / "modules.zip") == made.imports.digests
    (elsewhere / "model.py").write_text(made.source_text)
    write(tmp_path, loose="ONE = 2")
    stored = load_stored(elsewhere / "model.py", elsewhere / "modules.zip")
    assert stored.model_digest == made.model_digest
    assert stored.build(None) == 11
    assert load_file(tmp_path / "mine.py").build(None) == 12
    assert made.build(None) == 11  # also what it imports only now
    assert stored.build(None) == 11


def test_modules_of_one_name_in_two_folders_do_not_mix(tmp_path: Path) -> None:
    late = "import helpers\nreturn helpers.NAME, helpers.inner()"
    text = "NAME = {!r}\ndef inner():\n    import deeper\n    return deeper.NAME\n"
    made = [
        loaded(write(tmp_path / one, helpers=text.format(one), deeper=f"NAME = {one!r}"), "", late)
        for one in ("north", "south")
    ]
    assert [each.build(None) for each in made] == [("north", "north"), ("south", "south")]
    assert made[0].model_digest != made[1].model_digest


def test_what_is_saved_after_the_file_was_read_does_not_run(tmp_path: Path) -> None:
    """The record must hold the code that ran."""
    made = loaded(write(tmp_path, helpers="NAME = 'read'"), "", "import helpers\nreturn helpers.NAME")
    write(tmp_path, helpers="NAME = 'saved later'")
    assert made.build(None) == "read"
    assert made.imports.digests == {"helpers": source_digest("NAME = 'read'")}


def test_names_of_lindley_and_python_mean_these_and_others_the_files(tmp_path: Path) -> None:
    """A file named as a package that Lindley uses is the model's own for it, and for nothing else."""
    write(tmp_path, lindley="1 / 0", json="1 / 0", tasks="X = 1", flows____init__="X = 2", mine2="1 / 0")
    inside = "import json, tasks, flows\nreturn json.loads('3') + tasks.X + flows.X"
    made = loaded(tmp_path, "", inside, name="mine")
    assert made.build(None) == 6
    assert set(made.imports.digests) == {"tasks", "flows"}
    import flows as ours

    assert not hasattr(ours, "X")


def test_a_file_with_the_name_of_a_distribution_does_not_import_itself(tmp_path: Path) -> None:
    made = loaded(tmp_path, "import filelock", "return filelock.FileLock", name="filelock")
    assert made.imports.modules == {}
    assert made.build(None) is importlib.import_module("filelock").FileLock
    # Nor does a folder without modules, or without `__init__.py`, hide one.
    write(tmp_path / "numpy", data="")
    assert loaded(tmp_path, "import numpy", "return numpy.pi").build(None) == pytest.approx(3.14159, abs=1e-5)


def test_a_module_that_is_not_there_is_named_as_the_file_names_it(tmp_path: Path) -> None:
    write(tmp_path, helpers="import helpers.more", shared__one="")
    for imports, named in (("import helpers", "helpers.more"), ("import shared.two", "shared.two")):
        with pytest.raises(DeclarationRefused, match=f"No module named '{named}'"):
            loaded(tmp_path, imports)


def test_two_modules_of_one_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One beside the file, and one on Python's path that another module there imports."""
    monkeypatch.syspath_prepend(write(tmp_path / "path", an_outer="import a_twin", a_twin="X = 1"))
    write(tmp_path / "models", a_twin="X = 2")
    with pytest.raises(DeclarationRefused, match="two modules are named a_twin"):
        loaded(tmp_path / "models", "import a_twin, an_outer")
    for name in ("an_outer", "a_twin"):
        sys.modules.pop(name, None)


def test_helpers_are_no_chains(tmp_path: Path) -> None:
    loaded(write(tmp_path, helpers="X = 1"), "import helpers")
    assert declared_chains(tmp_path) == ["mine"]


def test_the_structure_of_a_model_is_the_same_in_every_folder(tmp_path: Path) -> None:
    """On another machine, too: classes of the model's own are known by their names in its code."""
    scaled = (
        "import pymc as pm\nfrom pymc.logprob.transforms import Transform\n"
        "class Twice(Transform):\n"
        "    name = 'twice'\n"
        "    def forward(self, value, *inputs):\n        return value * 2\n"
        "    def backward(self, value, *inputs):\n        return value / 2\n"
        "    def log_jac_det(self, value, *inputs):\n        return value * 0\n"
    )
    inside = (
        "import pymc as pm\n"
        "with pm.Model() as model:\n"
        "    x = pm.Normal('x', transform=Twice(), default_transform=None)\n"
        "    pm.Normal('y', x, observed=[1.0, 2.0])\n"
        "return model"
    )
    made = [
        loaded(tmp_path / "in_the_file", scaled, inside),
        loaded(tmp_path / "again", scaled, inside),
        loaded(write(tmp_path / "north", helpers=scaled), "from helpers import Twice", inside),
        loaded(write(tmp_path / "south", helpers=scaled), "from helpers import Twice", inside),
    ]
    found = [structure(each.build(None)) for each in made]
    assert found[0] == found[1] != found[2] == found[3]


def test_threads_that_load_one_file_get_whole_models(tmp_path: Path) -> None:
    write(
        tmp_path,
        helpers="import time\ntime.sleep(0.01)\nfrom shared import one\nX = one.X",
        shared__one="X = 1",
    )
    loaded(tmp_path, "import helpers", "return helpers.X")
    code = (
        "import json, sys\nfrom concurrent.futures import ThreadPoolExecutor\nfrom pathlib import Path\n"
        "from lindley.model.declaration import load_file\n"
        "with ThreadPoolExecutor(8) as pool:\n"
        "    made = list(pool.map(lambda _: load_file(Path(sys.argv[1])), range(40)))\n"
        "print(json.dumps([each.build(None) for each in made]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "mine.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [1] * 40
