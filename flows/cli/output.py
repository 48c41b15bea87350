"""What all commands have in common: where they print, how errors end them, `--json`."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from flows import environment
from flows.monitoring.json_logs import json_wanted, log_line
from flows.unexpected import Unexpected, unexpected
from lindley.errors import FitFailed, LedgerCorrupt, LindleyError
from lindley.names import for_terminal
from lindley.workspace import Workspace

if TYPE_CHECKING:
    from flows.sequences.result import Result
    from lindley.ledger.protocol import Ledger

#: Exit codes, as the README lists them.
FAILURE, USER_ERROR, QUARANTINED = 1, 2, 3

#: What commands raise of the command line itself.
_OF_TYPER = (typer.Exit, typer.Abort, typer.BadParameter)

Chain = Annotated[str, typer.Argument(help="Name of the chain.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


class Terminal(Console):
    """A console whose text, wherever it comes from, cannot control the terminal.

    Tags, file names, reasons and names of runs may hold escape sequences. Colours are no text: they are added
    afterwards.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Render as `Console` does, with unprintable characters escaped."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(for_terminal(segment.text), segment.style)


out = Terminal(highlight=False)
err = Terminal(stderr=True, highlight=False)


def exit_code(error: LindleyError) -> int:
    """Return 1 for what no other command line would have avoided, 2 for what the user can correct."""
    lasting = isinstance(error, FitFailed | LedgerCorrupt | Unexpected)
    return FAILURE if error.transient or lasting else USER_ERROR


def command[**P](function: Callable[P, None]) -> Callable[P, None]:
    """Return a command that ends with one paragraph, whatever is raised.

    The function has the parameter `as_json`. Of an error that nothing foresaw a log has the traceback.
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except LindleyError as error:
            shown, code = error, exit_code(error)
        except _OF_TYPER:
            raise
        except Exception as error:
            shown, code = unexpected(error, f"lindley {function.__name__.removesuffix('_trace')}"), FAILURE
        else:
            return
        if kwargs["as_json"]:
            print_json({"error": shown.as_dict()})
        err.print(f"[red]{escape(str(shown))}[/red]", soft_wrap=True)
        raise typer.Exit(code)

    return run


def print_json(value: Any) -> None:
    """Print a value as JSON, plain: no colour, no wrapping; unprintable characters are escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=str)
    print("".join(c if c == "\n" or for_terminal(c) == c else json.dumps(c)[1:-1] for c in text))


def print_result(result: Result, as_json: bool, below: Table | None = None) -> None:
    """Print what became of a chain, and a table below it; ends the command where the head did not move."""
    if as_json:
        print_json(result.as_dict())
    else:
        colours = {"accepted": "green", "audited": "green", "quarantined": "yellow", "candidate": "magenta"}
        colour = colours.get(result.status, "cyan")
        say(f"[{colour}]{result.status}[/{colour}] {escape(result.message)}")
        for warning in result.warnings:
            say(f"[yellow]warning[/yellow] {escape(warning)}", indent=2)
        for sentence in result.highlights:
            say(escape(sentence), indent=2)
        for label, value in (("run", result.run_url or result.run_id), ("version", result.version_url)):
            if value:
                say(f"{label:8}{escape(value)}", indent=2)
        for sentence in result.notes:
            say(f"[dim]{escape(sentence)}[/dim]", indent=2)
        if below is not None:
            out.print(below)
    if result.status in ("quarantined", "candidate"):
        raise typer.Exit(QUARANTINED)


def say(markup: str, *, indent: int = 0, hang: int = 2, console: Console = out) -> None:
    """Print a paragraph; on a terminal it is broken between words, elsewhere it stays one line.

    Parameters
    ----------
    markup
        Text in Rich's markup; what is not ours is escaped.
    indent, hang
        Columns before the paragraph, and before its further lines in addition.
    """
    if not console.is_terminal:
        console.print(" " * indent + markup, soft_wrap=True)
        return
    text = Text.from_markup(markup)
    width = max(console.width - indent - hang, 20)
    first, *rest = text.wrap(console, width) or [text]
    console.print(Text(" " * indent) + first, soft_wrap=True)
    for line in rest:
        console.print(Text(" " * (indent + hang)) + line, soft_wrap=True)


def notify(sentence: str) -> None:
    """Print a sentence about what goes on, beside the result; a terminal that is gone stops nothing."""
    with suppress(OSError):
        if json_wanted():
            err.print(escape(log_line("lindley", sentence)), soft_wrap=True)
        else:
            say(f"[dim]{escape(sentence)}[/dim]", console=err)


def table(rows: Sequence[Mapping[str, Any]], *, right: Sequence[str] = ()) -> Table:
    """Return a table with the keys of the first row as columns; all text is escaped."""
    made = Table(header_style="bold", box=None, padding=(0, 2, 0, 0))
    for name in rows[0] if rows else ():
        # No narrower than its name: values may break, names must not.
        justify: Literal["left", "right"] = "right" if name in right else "left"
        made.add_column(escape(name), justify=justify, overflow="fold", min_width=len(name))
    for row in rows:
        made.add_row(*(escape(for_terminal(str(value))) for value in row.values()))
    return made


def fitting(rows: Sequence[Mapping[str, Any]], optional: Sequence[str], width: int) -> list[dict[str, Any]]:
    """Return rows without the first optional columns, as many as make a table fit without folding a cell."""
    kept = [dict(row) for row in rows]

    def needed() -> int:
        return sum(max(len(name), *(len(str(row[name])) for row in kept)) + 2 for name in kept[0])

    for name in optional:
        if not kept or needed() <= width:
            break
        kept = [{key: value for key, value in row.items() if key != name} for row in kept]
    return kept


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar of draws on a terminal; gives the callback ``(done, total)`` that moves it."""
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[draws]}"),
        TimeElapsedColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    )
    with bar:
        task = bar.add_task(f"{escape(what)}: preparing", total=None, draws="")

        def move(done: int, total: int) -> None:
            draws = f"{done:,} of {total:,} draws"
            text = f"{escape(what)}: sampling"
            bar.update(task, completed=done, total=total, description=text, draws=draws)

        yield move


def make_ready(folder: Path, names: Sequence[str], happened: str) -> None:
    """Make the folder of ``--out``, before the work begins; nothing there is overwritten.

    Parameters
    ----------
    names
        Files that will be written into it.
    happened
        The refusal's first sentence.

    Raises
    ------
    LindleyError
        If the folder has one of these files.
    """
    there = [name for name in names if (folder / name).exists()]
    if there:
        raise LindleyError(
            happened,
            expected=f"a folder without {' and '.join(names)}",
            found=f"{', '.join(there)} in {folder.name}",
            todo="name another folder with --out",
        )
    folder.mkdir(parents=True, exist_ok=True)


def open_here() -> Ledger:
    """Open the ledger of the working folder, which a command only reads: none is made."""
    from lindley.ledger.backend import living_origin, open_ledger  # imports MLflow

    workspace = environment.prepare(Workspace.from_environment(), quiet=True, prefect=False)
    ledger = open_ledger(workspace, create=False)
    origin = living_origin(ledger)
    if origin is not None:
        notify(
            f"This ledger is a copy of the one in {origin}. MLflow's own commands here act on those files "
            "(`mlflow gc` would delete them); Lindley's do not."
        )
    return ledger


def unless[**P](other: Callable[..., None]) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Return a decorator that lets `other` take the place of a command where its first option is given.

    The command then has the options of both. Both have the parameter `as_json`.
    """
    theirs = inspect.signature(other, eval_str=True).parameters
    first = next(iter(theirs))

    def decorate(function: Callable[P, None]) -> Callable[P, None]:
        mine = inspect.signature(function, eval_str=True).parameters
        more = {name: parameter for name, parameter in theirs.items() if name not in mine}

        @wraps(function)
        def run(*args: P.args, **given: P.kwargs) -> None:
            own = {name: given.pop(name, parameter.default) for name, parameter in more.items()}
            if own[first] is None:
                function(*args, **given)
            else:
                other(**own, as_json=given.get("as_json", False))

        every = [*(p for name, p in mine.items() if name != "as_json"), *more.values(), mine["as_json"]]
        vars(run)["__signature__"] = inspect.Signature(every)
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in every}
        return run

    return decorate
