"""Write one page for each module of `lindley` below `reference/generated`, before Sphinx reads the sources.

The packages stand in the order of the `layers` contract in `pyproject.toml`: upper ones import lower ones.
Modules are not imported here; their first docstring lines are read from the syntax tree.
"""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config

ROOT = Path(__file__).parent.parent.parent
FOLDER = "reference/generated"


def layers() -> list[str]:
    """Return the names below `lindley`, upper layers first, as the import contract lists them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    contract = next(c for c in contracts if c["type"] == "layers" and c.get("containers") == ["lindley"])
    return [name.strip() for layer in contract["layers"] for name in layer.split("|")]


def _summary(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())


def _modules(path: Path, name: str) -> list[tuple[str, Path]]:
    """Return the public modules of a package in `path`, each with its file; of a module, none."""
    if path.suffix:
        return []
    found = []
    for entry in sorted(path.iterdir()):
        if entry.name.startswith("_"):
            continue
        if entry.suffix == ".py":
            found.append((f"{name}.{entry.stem}", entry))
        elif (entry / "__init__.py").exists():
            found.append((f"{name}.{entry.name}", entry))
    return found


def _file(path: Path) -> Path:
    return path if path.suffix else path / "__init__.py"


def _table(modules: list[tuple[str, Path]], folder: str = "") -> list[str]:
    rows = [f"| [{name}]({folder}{name}.md) | {_summary(_file(path))} |" for name, path in modules]
    return ["| module | |", "| --- | --- |", *rows, ""]


def _toctree(names: list[str]) -> list[str]:
    entries = [f"{name.rpartition('.')[2]} <{name}>" for name in names]
    return ["```{toctree}", ":hidden:", ":maxdepth: 1", "", *entries, "```", ""]


def pages() -> dict[str, str]:
    """Return the text of each page by its name below the folder."""
    root = ROOT / "lindley"
    top = []
    for name in layers():
        path = root / name
        top.append((f"lindley.{name}", path if path.is_dir() else path.with_suffix(".py")))
    texts = {
        "packages.md": "\n".join(
            [
                "# Modules of lindley",
                "",
                "For people who change Lindley. Each package imports only from those below it in this table.",
                "",
                *_table(top),
                *_toctree([name for name, _ in top]),
            ]
        )
    }
    queue = list(top)
    while queue:
        name, path = queue.pop(0)
        modules = _modules(path, name)
        queue += modules
        options = ["   :members:", "   :ignore-module-all:"]
        lines = [f"# {name}", "", "```{eval-rst}", f".. automodule:: {name}", *options, "```", ""]
        if modules:
            lines += [*_table(modules), *_toctree([module for module, _ in modules])]
        texts[f"{name}.md"] = "\n".join(lines)
    return texts


def _write(app: Sphinx, _config: Config) -> None:
    folder = Path(app.srcdir) / FOLDER
    folder.mkdir(exist_ok=True)
    texts = pages()
    for stale in folder.glob("*.md"):
        if stale.name not in texts:
            stale.unlink()
    for name, text in texts.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.connect("config-inited", _write)  # before Sphinx looks for sources
    return {"parallel_read_safe": True, "parallel_write_safe": True}
