"""Write `reference/commands.md` from the command line itself, before Sphinx reads the sources."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import typer.main
from sphinx.application import Sphinx
from sphinx.config import Config

from flows.cli.__main__ import app as command_line

PAGE = "reference/commands.md"
_HEAD = """# Command line

One section for each command, as `lindley COMMAND --help` prints it.

| exit code | meaning |
| --- | --- |
| 0 | done, or nothing to do (the batch is in the chain already) |
| 1 | failed: sampler, ledger, server; `sweep`: a rejected file or a stopped chain; `verify`: a finding; \
`calibrate`: ranks that are not uniform |
| 2 | input to correct: name, file, schema, declaration, model, usage |
| 3 | fitted, but the head did not move: quarantined by the gate, or a candidate for approval |

An error is one paragraph on standard error: what happened, expected, found, to do. With `--json`, which every
command takes, standard output is one JSON document, also for an error. `up`, `ui`, `worker` and `watch` print
theirs when they start, and another if an error ends them. Only a wrong use of a command (an unknown option, a
missing argument) is reported on standard error alone.
"""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = parameter.default
    if value is None or value is False or value in ((), []):
        return ""
    if value is True:
        return parameter.opts[0].removeprefix("--")
    return f"`{getattr(value, 'value', value)}`"


def _rows(command: Any) -> list[str]:
    rows = []
    for parameter in command.params:
        if getattr(parameter, "hidden", False) or parameter.name in {"help", "json_", "as_json"}:
            continue
        option = parameter.param_type_name == "option"
        names = [*parameter.opts, *parameter.secondary_opts] if option else [parameter.name.upper()]
        rows.append(
            f"| {', '.join(f'`{name}`' for name in names)} "
            f"| {_cell(getattr(parameter, 'help', None) or '')} | {_default(parameter)} |"
        )
    return rows


def _usage(name: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    words = [f"{p.name.upper()}{'...' if p.nargs == -1 else ''}" for p in arguments]
    return " ".join(
        ["lindley", name, *(w if p.required else f"[{w}]" for p, w in zip(arguments, words, strict=True))]
    )


def _section(name: str, command: Any) -> list[str]:
    rows = _rows(command)
    table = ["| argument, option | meaning | default |", "| --- | --- | --- |", *rows, ""] if rows else []
    return [
        f"## {name}",
        "",
        "```text",
        f"{_usage(name, command)} [OPTIONS]",
        "```",
        "",
        inspect.cleandoc(command.help or ""),
        "",
        *table,
    ]


def page() -> str:
    """Return the page: one section for each command, in the order of `lindley --help`."""
    group = typer.main.get_command(command_line)
    lines = [_HEAD]
    for name, command in group.commands.items():
        if not command.hidden:
            lines += _section(name, command)
    return "\n".join(lines)


def _write(app: Sphinx, _config: Config) -> None:
    path = Path(app.srcdir) / PAGE
    text = page()
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.connect("config-inited", _write)  # before Sphinx looks for sources
    return {"parallel_read_safe": True, "parallel_write_safe": True}
