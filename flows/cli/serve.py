"""The command that serves a belief over HTTP."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from flows.cli.chain import open_here
from flows.cli.output import Json, out, print_json
from flows.server.up import MLFLOW_PROTOCOL as PROTOCOL
from lindley.verification.loading import Brought, checked_link


def serve(
    reference: Annotated[str, typer.Argument(help="NAME for the head, or NAME@3.", metavar="NAME[@LINK]")],
    port: Annotated[int, typer.Option(help="Port on this machine (127.0.0.1).")] = 5077,
    key: Annotated[
        list[Path] | None, typer.Option("--key", help="Public key (PEM): the link must be signed by it.")
    ] = None,
    witness: Annotated[
        list[Path] | None,
        typer.Option("--witness", help="What `lindley head` wrote: the chain must still have that history."),
    ] = None,
    seen: Annotated[
        Path | None, typer.Option(help="Folder that remembers the newest head; an older one is refused.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Answer predictions over HTTP, from files that were checked before any of their code runs.

    POST rows as JSON to /invocations, as to `mlflow models serve`, which runs on a private copy. Only
    programs and pages of this machine and user are answered, as by the servers of `lindley up`.
    """
    brought = Brought(keys=tuple(key or ()), witnesses=tuple(witness or ()), seen=seen)
    link = checked_link(open_here(), reference, brought)
    with tempfile.TemporaryDirectory(prefix="lindley-") as scratch:
        folder = link.download_belief(Path(scratch))
        shown = {"chain": link.chain, "link": link.view.number, "record": link.view.record_digest}
        address = f"http://127.0.0.1:{port}/invocations"
        if as_json:
            print_json(shown | {"address": address})
        else:
            out.print(f"{escape(link.chain)} link {link.view.number} answers at {address} (Ctrl+C ends it)")
        server = [sys.executable, "-P", "-m", "mlflow", "models", "serve", "-m", str(folder)]
        server += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
        try:
            ended = subprocess.run(server, env=guarded_environment(), cwd=scratch, check=False).returncode
        except KeyboardInterrupt:
            ended = 0
    if ended:
        raise typer.Exit(1)


def guarded_environment() -> dict[str, str]:
    """Return the environment in which MLflow's scoring server, which has no check of its own, gets a guard.

    MLflow starts uvicorn by name, whose options may come from the environment. It would also import whatever
    lies in the current folder under a module's name.
    """
    safe = {"UVICORN_HTTP": PROTOCOL, "UVICORN_APP_DIR": sys.prefix, "PYTHONSAFEPATH": "1"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return dict(os.environ) | safe | {"PATH": path}
