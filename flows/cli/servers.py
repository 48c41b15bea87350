"""Commands that run until Ctrl-C: up, ui, worker, watch."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Annotated

import typer
from rich.markup import escape

from flows import environment
from flows.cli.output import Json, notify, out, print_json
from flows.monitoring import json_logs
from flows.server.up import (
    NOTIFY,
    POOL,
    RUNS_AT_ONCE,
    Options,
    Stack,
    StartFailed,
    deployments_file,
    stack,
    stop_signals,
)
from flows.server.warm_pool import RUNS, Bounds, default_memory
from lindley.addresses import public
from lindley.workspace import Workspace

MlflowPort = Annotated[int, typer.Option("--mlflow-port", min=0, max=65535, help="0 takes a free port.")]
ForeignRuns = Annotated[
    bool,
    typer.Option(
        "--foreign-runs/--no-foreign-runs",
        help="Also carry out runs with a command, environment or flow of their own: everyone who may start "
        "a run then runs commands here.",
    ),
]
Notify = Annotated[
    str,
    typer.Option(
        "--notify",
        help="Webhook that gets the events of all chains; stays until another one is given.",
        envvar=NOTIFY,
        show_default=False,
    ),
]
PagesPort = Annotated[int, typer.Option("--pages-port", min=0, max=65535, help="0 takes a free port.")]
Pool = Annotated[str, typer.Option(help="Name of the work pool, of type process.")]
PrefectPort = Annotated[int, typer.Option("--prefect-port", min=0, max=65535, help="0 takes a free port.")]


def up(
    mlflow_port: MlflowPort = 5000,
    prefect_port: PrefectPort = 4200,
    pages_port: PagesPort = 5078,
    watcher: Annotated[bool, typer.Option("--watch/--no-watch", help="Watch the landing folder.")] = True,
    foreign_runs: ForeignRuns = False,
    webhook: Notify = "",
    as_json: Json = False,
) -> None:
    """Run everything on this machine: servers, the pages of all chains, deployments, worker and watcher.

    Ctrl-C stops everything. If MLFLOW_TRACKING_URI or PREFECT_API_URL names a server, that server is used and
    none is started. Logs are in .lindley/logs/.
    """
    options = Options(
        mlflow_port=mlflow_port,
        prefect_port=prefect_port,
        pages_port=pages_port,
        watcher=watcher,
        foreign_runs=foreign_runs,
        webhook=webhook,
    )
    _run(options, as_json)


def ui(
    mlflow_port: MlflowPort = 5000,
    prefect_port: PrefectPort = 4200,
    pages_port: PagesPort = 5078,
    as_json: Json = False,
) -> None:
    """Run the pages of MLflow, Prefect and all chains on loopback, without a worker. Ctrl-C stops them."""
    options = Options(
        mlflow_port=mlflow_port, prefect_port=prefect_port, pages_port=pages_port, servers_only=True
    )
    _run(options, as_json)


def _run(options: Options, as_json: bool) -> None:
    workspace = Workspace.from_environment()
    # An error is reported after everything has ended, so that its paragraph is printed last.
    with stop_signals() as stop:
        with stack(workspace, options, notify, stop) as running:
            if not stop.is_set():
                _print_addresses(running, as_json)
            running.supervise()
            notify("Stopping")
        notify("Stopped")


def _print_addresses(running: Stack, as_json: bool) -> None:
    mlflow, prefect = public(running.servers.mlflow), public(running.servers.prefect)
    workspace = running.workspace
    if as_json:
        print_json(
            {
                "mlflow": mlflow,
                "prefect": prefect,
                "pages": running.servers.pages,
                "landing": workspace.drop_here,
                "logs": str(workspace.root / ".lindley" / "logs"),
            }
        )
        return
    out.print(f"[bold]MLflow[/bold]   {escape(mlflow)}", soft_wrap=True)
    out.print(f"[bold]Prefect[/bold]  {escape(prefect)}", soft_wrap=True)
    out.print(f"[bold]Chains[/bold]   {escape(running.servers.pages)}", soft_wrap=True)
    if not running.options.servers_only:
        out.print(f"Drop files into {escape(workspace.drop_here)}/CHAIN/", soft_wrap=True)
    out.print("Ctrl-C stops everything.")


def deploy(
    pool: Pool = POOL, foreign_runs: ForeignRuns = False, webhook: Notify = "", as_json: Json = False
) -> None:
    """Put the work pool, the deployments and the automation on the Prefect server. `lindley up` does it.

    What is there already is replaced. The deployments are those of prefect.yaml in the working folder, or
    Lindley's own.
    """
    workspace = environment.prepare(Workspace.from_environment(), worker=True)
    _need_prefect("deploy to", todo="set PREFECT_API_URL; `lindley up` deploys by itself")
    from flows.server.deploy import AUTOMATION  # imports Prefect
    from flows.server.deploy import deploy as put

    file = deployments_file(workspace)
    put(file, pool, foreign_runs=foreign_runs, notify=webhook)
    if as_json:
        print_json({"pool": pool, "deployments": str(file), "automation": AUTOMATION})
        return
    out.print(
        f"Work pool {escape(pool)}, the deployments of {escape(str(file))}, and the automation",
        soft_wrap=True,
    )
    out.print(f"  {escape(AUTOMATION)}", soft_wrap=True)


def worker(
    pool: Pool = POOL,
    limit: Annotated[int, typer.Option(min=1, help="Flow runs at the same time.")] = RUNS_AT_ONCE,
    memory: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="MiB of memory above which a process is replaced; by default half of the machine's in all.",
            show_default=False,
        ),
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Runs after which a process is replaced.")] = RUNS,
    foreign_runs: ForeignRuns = False,
    as_json: Json = False,
) -> None:
    """Carry out the flow runs of a work pool in warm processes. `lindley up` starts a worker.

    Runs of other flows, and runs that bring a command or an environment, fail unless --foreign-runs allows
    them. Ctrl-C stops the worker and its runs.
    """
    workspace = environment.prepare(Workspace.from_environment(), worker=True)
    _need_prefect("take flow runs from", todo="run `lindley up`, which starts a worker")
    from flows.server.worker import serve  # imports Prefect

    if as_json:
        print_json({"pool": pool, "prefect": public(os.environ["PREFECT_API_URL"])})
    most = default_memory(limit) if memory is None else memory * 2**20
    bounds = Bounds(limit=limit, memory=most, runs=runs)
    asyncio.run(serve(workspace, pool, bounds, foreign_runs=foreign_runs))


def _need_prefect(what: str, *, todo: str) -> None:
    if "PREFECT_API_URL" not in os.environ:
        raise StartFailed(
            f"There is no Prefect server to {what}",
            expected="`lindley up` running in this folder, or PREFECT_API_URL",
            found="neither",
            todo=todo,
        )


def watch(as_json: Json = False) -> None:
    """Watch the landing folder and send the Prefect server an event for each complete file."""
    workspace = environment.prepare(Workspace.from_environment())
    _need_prefect(
        "send events to", todo="run `lindley up`, which watches too, or run `lindley sweep` regularly"
    )
    from flows.server.watch import watch as watch_folder  # imports Prefect

    if as_json:
        address = public(os.environ["PREFECT_API_URL"])
        print_json({"landing": workspace.drop_here, "prefect": address})
    json_logs.configure(logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    with stop_signals() as stop:
        watch_folder(workspace, stop)
