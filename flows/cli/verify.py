"""Commands that vouch for chains: verify, head, sign, keygen."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from flows.cli.chain import Chain, open_here
from flows.cli.output import FAILURE, Json, fail, notify, out, print_json, progress_bar, reported
from lindley.errors import UnknownChain, UnknownLink
from lindley.names import KEY_VARIABLE
from lindley.verification.check import Asked, Checked, check

if TYPE_CHECKING:
    from lindley.inference.sampling import Progress
    from lindley.verification.verifier import Report

_VERDICTS = {"identical": "green", "within Monte Carlo error": "green", "differs": "red"}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(verify)
    app.command()(head)
    app.command()(sign)
    app.command()(keygen)


def verify(
    chain: Annotated[str | None, typer.Argument(help="All chains by default.", show_default=False)] = None,
    key: Annotated[
        list[Path] | None,
        typer.Option("--key", help="Public key (PEM): every link must be signed by one of those given."),
    ] = None,
    witness: Annotated[
        list[Path] | None,
        typer.Option("--witness", help="What `lindley head` wrote: the chain must still have that history."),
    ] = None,
    replay: Annotated[
        bool,
        typer.Option("--replay", help="Fit the links again and compare. Executes the code stored with them."),
    ] = False,
    link: Annotated[
        list[int] | None, typer.Option("--link", help="With --replay: only this link; may be repeated.")
    ] = None,
    monte_carlo: Annotated[
        bool,
        typer.Option(
            "--monte-carlo", help="With --replay: do not want the same bits, as on another processor."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Recompute every digest and check every rule. Exit code 1: something is not as it should be.

    Digests need no trust in the code of a chain: nothing of it runs. Only --replay executes the model
    code that is stored beside each link; use it on chains whose authors you would let run code here.
    """
    with reported(as_json):
        asked = Asked(
            keys=tuple(key or ()),
            witnesses=tuple(witness or ()),
            replay=replay,
            links=tuple(link or ()),
            bitwise=not monte_carlo,
        )
        _refuse_unfit(chain, asked)
        ledger = open_here()
        found = []
        for name in [chain] if chain else ledger.chains():
            with ExitStack() as bars:
                found.append(check(ledger, name, asked, progress=_bars(bars, name), notify=notify))
    if as_json:
        documents = [checked.as_dict() for checked in found]
        ok = all(checked.report.ok for checked in found)
        print_json(documents[0] if chain else {"chains": documents, "ok": ok})
    else:
        for checked in found:
            print_checked(checked)
        if not found:
            out.print("There are no chains.")
    if not all(checked.report.ok for checked in found):
        raise typer.Exit(FAILURE)


def _refuse_unfit(chain: str | None, asked: Asked) -> None:
    """Refuse what makes no sense together, before anything is read."""
    if chain is None and (asked.witnesses or asked.links):
        raise UnknownChain(
            "A witness and a link's number belong to one chain",
            expected="the chain's name beside --witness or --link",
            found="no chain",
            todo="run `lindley verify CHAIN ...`",
        )
    if not asked.replay and (asked.links or not asked.bitwise):
        raise UnknownLink(
            "--link and --monte-carlo say how links are fitted again",
            expected="--replay beside them",
            found="no --replay",
            todo="add --replay, or leave them out: without it every link is checked",
        )


def _bars(bars: ExitStack, chain: str) -> Callable[[int], Progress | None]:
    """Return what shows the progress of one fit after the other."""

    def progress(link: int) -> Progress | None:
        bars.close()
        return bars.enter_context(progress_bar(f"replay {chain} link {link}"))

    return progress


def print_checked(checked: Checked) -> None:
    """Print what became of a chain."""
    print_report(checked.report)
    for replayed in checked.replays:
        colour = _VERDICTS.get(replayed.verdict, "yellow")
        detail = f": {escape(replayed.detail)}" if replayed.detail else ""
        out.print(f"  link {replayed.link} [{colour}]{replayed.verdict}[/{colour}]{detail}", soft_wrap=True)


def print_report(report: Report) -> None:
    """Print what the verifier found."""
    counted = f"{len(report.links)} link{'' if len(report.links) == 1 else 's'}, {len(report.rules)} rules"
    verdict = "[green]verified[/green]" if report.ok else "[red]not as recorded[/red]"
    out.print(f"[bold]{escape(report.chain)}[/bold]: {verdict} ({counted})")
    for finding in report.findings:
        colour = "red" if finding.severity == "error" else "yellow"
        where = f"link {finding.link}" if finding.link else f"version {finding.version or '-'}"
        title = report.rules.get(finding.rule, "")
        out.print(
            f"  [{colour}]{finding.severity} {finding.rule}[/{colour}] {where}: {escape(finding.message)} "
            f"[dim]({escape(title)})[/dim]",
            soft_wrap=True,
        )


def head(
    chain: Chain,
    sign_it: Annotated[bool, typer.Option("--sign", help="In an envelope, signed by your key.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="The statement is JSON anyway; errors are too.")
    ] = False,
) -> None:
    """Print a statement of a chain's head, to be kept where nobody who can write the ledger can write.

    `lindley verify CHAIN --witness FILE` says later whether the chain still has that history. The chain
    is verified first: nothing is printed of one that is not as recorded.
    """
    with reported(as_json):
        from lindley.ledger.signer import signer_from_environment
        from lindley.verification.signatures import head_of, no_key

        signer = signer_from_environment() if sign_it else None
        if sign_it and signer is None:
            fail(no_key(), as_json)
        print(head_of(open_here(), chain, signer).decode())


def sign(chain: Chain, as_json: Json = False) -> None:
    """Sign the links of a chain that have no signature yet, after it was verified.

    New links are signed by themselves where LINDLEY_SIGNING_KEY is set.
    """
    with reported(as_json):
        from lindley.ledger.signer import signer_from_environment
        from lindley.verification.signatures import no_key, sign_links

        signer = signer_from_environment()
        if signer is None:
            fail(no_key(), as_json)
        signed = sign_links(open_here(), chain, signer)
    if as_json:
        print_json({"chain": chain, "signed": signed})
        return
    links = ", ".join(map(str, signed))
    out.print(f"{escape(chain)}: signed {f'link {links}' if signed else 'nothing, every link is signed'}")


def keygen(
    path: Annotated[Path, typer.Argument(help="The private key; the public one is PATH.pub.")],
    as_json: Json = False,
) -> None:
    """Make a key pair for signatures. The private key is readable by you alone, and never overwritten."""
    with reported(as_json):
        from lindley.ledger.signing import generate

        keyid = generate(path)
    if as_json:
        print_json({"keyid": keyid, "private": str(path), "public": f"{path}.pub"})
        return
    out.print(f"Key {keyid[:12]}: {escape(str(path))}, public {escape(str(path))}.pub", soft_wrap=True)
    out.print(f"To sign links: {KEY_VARIABLE}={escape(str(path))}", soft_wrap=True)
