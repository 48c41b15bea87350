"""The commands that put chains to use: predictions over HTTP and for a file, and pages."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from flows.cli.output import Json, notify, open_here, out, print_json
from lindley.verification.loading import Brought, checked_link
from lindley.workspace import Workspace

_KEYS = typer.Option("--key", help="Public key (PEM): the link must be signed by it.")
_WITNESSES = typer.Option(
    "--witness", help="What `lindley head` wrote: the chain must still have that history."
)
_SEEN = typer.Option(help="Folder that remembers the newest head; an older one is refused.")


def serve(
    chains: Annotated[
        list[str], typer.Argument(help="NAME follows the head; NAME@3 stays.", metavar="NAME[@LINK]...")
    ],
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 5077,
    host: Annotated[
        str, typer.Option(help="Address of this machine; beyond 127.0.0.1 LINDLEY_SERVE_TOKEN has to be set.")
    ] = "127.0.0.1",
    request_mb: Annotated[int, typer.Option(min=1, max=1024, help="Megabytes of a request at most.")] = 16,
    key: Annotated[list[Path] | None, _KEYS] = None,
    witness: Annotated[list[Path] | None, _WITNESSES] = None,
    seen: Annotated[Path | None, _SEEN] = None,
    as_json: Json = False,
) -> None:
    """Answer predictions over HTTP with the newest link of each chain, checked before its code runs.

    POST rows to /invocations, as to `mlflow models serve`; /chains/NAME/invocations where there are several
    chains. /belief, /history, /healthz and /metrics (Prometheus) say what answers. A link that is registered
    answers within two seconds; where it fails its checks the one before goes on answering.
    """
    from flows.live.following import Follower, resolved  # the readers import the numerical stack
    from flows.live.listening import listening_socket, run, token_for
    from flows.live.predictions import Predictions

    token = token_for(host)
    ledger = open_here()
    brought = Brought(keys=tuple(key or ()), witnesses=tuple(witness or ()), seen=seen)
    followers = [Follower(ledger, each, brought, notify) for each in resolved(ledger, chains)]
    bound = listening_socket(host, port)
    served = Predictions({f.chain: f for f in followers}, token=token, most_bytes=request_mb * 2**20)
    shown = host if ":" not in host else f"[{host}]"
    address = f"http://{shown}:{bound.getsockname()[1]}"
    if as_json:
        print_json({"address": address, "chains": [f.snapshot.identity for f in followers]})
    else:
        for follower in followers:
            place = "" if len(followers) == 1 else f"/chains/{follower.chain}"
            number = follower.snapshot.link.view.number
            out.print(f"{escape(follower.chain)} link {number} answers at {address}{place}/invocations")
        out.print("Newer links take over as they are registered (Ctrl+C ends the server)")
    stop = threading.Event()
    threads = [threading.Thread(target=f.follow, args=(stop,), daemon=True) for f in followers]
    for thread in threads:
        thread.start()
    try:
        run(served.app, bound, token=token)
    except KeyboardInterrupt:
        pass
    finally:
        stop.set()
        for thread in threads:
            thread.join(5)


def predict(
    reference: Annotated[str, typer.Argument(help="NAME for the head, or NAME@3.", metavar="NAME[@LINK]")],
    file: Annotated[Path, typer.Argument(help="Rows as in a batch, outcomes left out: CSV or Parquet.")],
    to: Annotated[Path, typer.Option("--out", help="The Parquet file that is written.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the predictive draws.")] = 0,
    key: Annotated[list[Path] | None, _KEYS] = None,
    witness: Annotated[list[Path] | None, _WITNESSES] = None,
    seen: Annotated[Path | None, _SEEN] = None,
    as_json: Json = False,
) -> None:
    """Predict for the rows of a file of any length, 10,000 rows at a time, with a link that was checked.

    The result has mean, sd and quantiles for each row; its metadata name chain, link, record digest, seed and
    the file.
    """
    from flows.live.prediction_files import predict_file  # the readers import the numerical stack

    brought = Brought(keys=tuple(key or ()), witnesses=tuple(witness or ()), seen=seen)
    stated = predict_file(checked_link(open_here(), reference, brought), file, to, seed=seed)
    if as_json:
        print_json(stated | {"out": str(to)})
    else:
        line = f"{to}: {stated['rows']:,} rows by {stated['chain']} link {stated['link']}, record "
        out.print(escape(line + stated["record"][:12]), soft_wrap=True)


def pages(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")
    ] = 5078,
    as_json: Json = False,
) -> None:
    """Show all chains in a browser: an index, a page for each chain and one for each link. Only reads.

    Only browsers of this machine and user are answered. `lindley report` writes a chain's page as a file.
    """
    from flows.live.listening import listening_socket, run  # imports the server
    from flows.live.pages import Pages

    served = Pages(open_here(), Workspace.from_environment())
    bound = listening_socket("127.0.0.1", port)
    address = f"http://127.0.0.1:{bound.getsockname()[1]}"
    if as_json:
        print_json({"address": address})
    else:
        out.print(f"All chains at {address} (Ctrl+C ends it)")
    with suppress(KeyboardInterrupt):
        run(served.app, bound)
