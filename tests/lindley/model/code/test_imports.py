"""What a model imports: modules by digest, distributions by version and content."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lindley.model.code import distributions
from lindley.model.code.digests import file_digest, model_digest, source_digest
from lindley.model.code.imports import Imports, Module
from lindley.model.code.stored import stored_digests, write_modules
from lindley.model.declaration import Declaration, load_file, load_stored

MODEL = """
import os
import pyarrow as pa
{imports}
from lindley import Declaration
def build(batch):
    {inside}
declaration = Declaration(name="mine", build=build, schema=pa.schema([("id", pa.int64())]), row_key=("id",))
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that Python finds modules in; what was imported from it is forgotten."""
    folder = tmp_path / "path"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    # Two versions of a file within a second have the same bytecode to Python.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield folder
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            sys.modules.pop(name)


def loaded(tmp_path: Path, imports: str = "", inside: str = "return None") -> Declaration:
    file = tmp_path / "mine.py"
    file.write_text(MODEL.format(imports=imports, inside=inside))
    return load_file(file)


def test_a_model_that_imports_distributions_only_has_the_digest_of_its_file(tmp_path: Path) -> None:
    made = loaded(tmp_path, "import numpy, scipy.stats")
    assert made.imports.modules == {}
    assert made.imports.distributions == ("numpy", "pyarrow", "scipy")
    assert made.model_digest == source_digest(made.source_text)
    stated = made.imports.as_dict()
    assert stated["distributions"]["scipy"] == importlib.metadata.version("scipy")
    assert stated["contents"] == {}


@pytest.mark.parametrize("inside", [False, True])
def test_a_module_that_changes_makes_another_model(tmp_path: Path, path: Path, inside: bool) -> None:
    module = path / "a_helper.py"
    module.write_text("SCALE = 1.0\n")
    how = {"inside": "import a_helper"} if inside else {"imports": "import a_helper"}
    one = loaded(tmp_path, **how)
    module.write_text("# A comment.\nSCALE = 1.0\n")
    same = loaded(tmp_path, **how)
    module.write_text("SCALE = 0.5\n")
    other = loaded(tmp_path, **how)
    assert list(one.imports.modules) == ["a_helper"]
    assert one.model_digest == same.model_digest != other.model_digest
    if not inside:  # the process that imported it before runs the new code too
        assert one.build.__globals__["a_helper"].SCALE == 1.0
        assert other.build.__globals__["a_helper"].SCALE == 0.5


def test_modules_are_followed_through_packages_relative_imports_and_names(tmp_path: Path, path: Path) -> None:
    package = path / "a_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "first.py").write_text("from . import second\nfrom .third import X\n")
    (package / "second.py").write_text("from importlib import import_module\nimport_module('a_loose_one')\n")
    (package / "third.py").write_text("X = 1\n")
    (package / "unused.py").write_text("import never\n")
    (path / "a_loose_one.py").write_text("import a_package.first\n")
    made = loaded(tmp_path, "from a_package.first import X")
    wanted = {"a_package", "a_package.first", "a_package.second", "a_package.third", "a_loose_one"}
    assert set(made.imports.modules) == wanted


def install(folder: Path, code: str, version: str = "1.0") -> None:
    """Put a distribution into a folder, as an installer does."""
    (folder / "a_dist.py").write_text(code)
    info = folder / f"a_dist_maker-{version}.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: a_dist_maker\nVersion: {version}\n")
    (info / "RECORD").write_text(f"a_dist.py,,\n{info.name}/METADATA,,\n")
    (info / "top_level.txt").write_text("a_dist\n")
    for name in ("_version", "_content", "_required", "_candidates", "_listed"):
        getattr(distributions, name).cache_clear()


def test_a_distribution_is_known_by_its_version_and_its_content(tmp_path: Path, path: Path) -> None:
    install(path, "SCALE = 1.0\n")
    one = loaded(tmp_path, "import a_dist")
    assert one.imports.modules == {}
    assert one.imports.as_dict()["distributions"]["a-dist-maker"] == "1.0"
    before = one.imports.as_dict()["contents"]
    assert set(before) == {"a-dist-maker"}
    install(path, "SCALE = 0.5\n")
    again = loaded(tmp_path, "import a_dist")
    assert again.model_digest == one.model_digest
    assert again.imports.as_dict()["contents"]["a-dist-maker"] != before["a-dist-maker"]
    # A module beside it that it does not list is not its own.
    (path / "a_stray.py").write_text("")
    assert list(loaded(tmp_path, "import a_stray").imports.modules) == ["a_stray"]
    install(path, "")  # so that what was cached is forgotten


@given(st.dictionaries(st.sampled_from("abc"), st.sampled_from(["0" * 64, "1" * 64])))
def test_the_digest_of_a_model_depends_on_each_name_and_digest(modules: dict[str, str]) -> None:
    found = model_digest("f" * 64, modules)
    assert found == model_digest("f" * 64, dict(reversed(modules.items())))
    assert (found == "f" * 64) == (not modules)
    for name in modules:
        assert found != model_digest("f" * 64, modules | {name: "2" * 64})
        assert found != model_digest("f" * 64, {k: v for k, v in modules.items() if k != name})


def test_stored_modules_are_imported_in_place_of_others(tmp_path: Path, path: Path) -> None:
    (path / "a_helper.py").write_text("SCALE = 1.0\n")
    made = loaded(tmp_path, "import a_helper")
    write_modules(made.imports.modules, tmp_path / "one.zip")
    write_modules(made.imports.modules, tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    assert stored_digests(tmp_path / "one.zip") == made.imports.digests
    (path / "a_helper.py").write_text("SCALE = 0.5\n")
    now = loaded(tmp_path, "import a_helper")
    current, before = sys.modules["a_helper"], list(sys.path)
    stored = load_stored(tmp_path / "mine.py", tmp_path / "one.zip")
    assert stored.model_digest == made.model_digest != now.model_digest
    assert stored.build.__globals__["a_helper"].SCALE == 1.0
    assert sys.modules["a_helper"] is current
    assert sys.path == before


@pytest.mark.parametrize("data", [b"", b"PK\x05\x06", b"no archive", bytes(range(256))])
def test_other_files_are_no_archive(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(ValueError, match="no archive"):
        stored_digests(tmp_path / "x.zip")


def test_files_that_are_no_python_are_known_by_their_bytes(tmp_path: Path) -> None:
    assert file_digest(b"\x7fELF\x00") != file_digest(b"\x7fELF\x01")
    assert file_digest(b"x = 1") == file_digest(b"x = 1  # one\r\n") == source_digest("x = 1")
    made = Imports({"a.b": Module("0", "a/b.so", b"\x00")})
    write_modules(made.modules, tmp_path / "x.zip")
    assert stored_digests(tmp_path / "x.zip") == {"a.b": file_digest(b"\x00")}
