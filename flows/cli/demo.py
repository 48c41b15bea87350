"""The demo: the 1978 influenza outbreak in an English boarding school, two days at a time."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import typer

from flows import environment
from flows.cli.chain import print_log
from flows.cli.output import FAILURE, notify, out, print_json, progress_bar
from flows.cli.verify import print_report
from flows.sequences.split import drop_batches
from lindley.errors import UnknownChain
from lindley.workspace import Workspace

CHAIN, PARAMETER = "boarding_school_flu", "R0"
#: Grinsztajn et al. 2021, Statistics in Medicine 40:6209: beta 1.73, gamma 0.54.
PUBLISHED_R0 = 3.2


def show(folder: Path, as_json: bool) -> None:
    """Run the chain in `folder`, then show its log, its verification and its plot.

    Every batch is a Prefect flow run in this process on an embedded server, and every link a version
    in an MLflow registry in the folder. A second run changes nothing: the batches are in the chain.

    Raises
    ------
    UnknownChain
        If Lindley's example models and data are missing.
    """
    workspace = prepare(folder)
    source = _examples() / "data" / f"{CHAIN}.csv"
    paths = drop_batches(workspace, CHAIN, str(source))
    notify(f"{len(paths)} batches of two days; starting the embedded Prefect server")
    from flows.inprocess import run_flow  # imports Prefect, whose environment is now prepared

    results = []
    for path in paths:
        with progress_bar(f"{CHAIN} <- {Path(path).name}") as progress:
            results.append(run_flow(workspace, progress, "update.update", CHAIN, path))
        notify(results[-1].message)
    _report(workspace, [result.as_dict() for result in results], as_json)


def prepare(folder: Path) -> Workspace:
    """Make `folder` the working folder of this process, whatever servers the environment names."""
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME", "LINDLEY_DATA"):
        os.environ.pop(name, None)
    os.environ["LINDLEY_HOME"] = str(folder)
    os.environ["LINDLEY_MODELS"] = str(_examples() / "models")
    folder.mkdir(parents=True, exist_ok=True)
    return environment.prepare(Workspace.from_environment(folder), quiet=True)


def _examples() -> Path:
    """Return the folder that holds Lindley's example models and data."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / "models" / f"{CHAIN}.py").is_file():
        raise UnknownChain(
            "The demo's model and data are missing",
            expected=f"models/{CHAIN}.py and data/{CHAIN}.csv in {folder}",
            found="no such files",
            todo="run the demo from a clone of the repository",
        )
    return folder


def _report(workspace: Workspace, results: list[dict[str, object]], as_json: bool) -> None:
    from lindley.ledger.backend import open_ledger
    from lindley.ledger.history import history
    from lindley.operations.plots import draw_chain  # with the ledger's libraries
    from lindley.verification.gather import verify_chain

    ledger = open_ledger(workspace)
    views = history(ledger, CHAIN)
    report = verify_chain(ledger, CHAIN)
    plot = draw_chain(
        ledger,
        CHAIN,
        PARAMETER,
        workspace.root / f"{PARAMETER}.png",
        reference=PUBLISHED_R0,
        reference_label="published (whole outbreak)",
    )
    if as_json:
        links = [asdict(view) for view in views]
        print_json({"chain": CHAIN, "updates": results, "links": links, "ok": report.ok, "plot": str(plot)})
    else:
        out.print()
        print_log(CHAIN, views[::-1])
        out.print()
        print_report(report)
        out.print(f"Plot of {PARAMETER} by batch: {_near(plot)}", soft_wrap=True, markup=False)
        out.print(
            f"Open the UIs: LINDLEY_HOME={_near(workspace.root)} lindley ui", soft_wrap=True, markup=False
        )
    if not report.ok or any(result["status"] == "quarantined" for result in results):
        raise typer.Exit(FAILURE)


def _near(path: Path) -> Path:
    """Return the path relative to the current folder if it is below it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
