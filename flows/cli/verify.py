"""Commands on the integrity of chains: verify, recheck, acknowledge, head, sign, keygen."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from flows.cli.chain import print_others
from flows.cli.members.one import check_proof
from flows.cli.output import (
    FAILURE,
    Chain,
    Json,
    notify,
    open_here,
    out,
    print_json,
    progress_bar,
    unless,
)
from flows.monitoring.verified import remember_verification
from lindley.errors import UnknownChain, UnknownLink
from lindley.names import KEY_VARIABLE, divided
from lindley.report.text import counted
from lindley.verification.check import Checked, Checks, Unread, check
from lindley.verification.rules import Severity
from lindley.workspace import Workspace

if TYPE_CHECKING:
    from lindley.inference.sampling import Progress
    from lindley.ledger.protocol import Ledger
    from lindley.verification.rules import Report

Known = Annotated[
    list[Path] | None,
    typer.Option("--known", help="What `lindley acknowledge` wrote: its findings are no errors."),
]
_SEVERITIES = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.KNOWN: "cyan"}
_COLOURS = {"identical": "green", "within Monte Carlo error": "green", "differs": "red"}


@unless(check_proof)
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
    known: Known = None,
    reproduce: Annotated[
        bool,
        typer.Option(
            "--reproduce", help="Fit the links again and compare. Executes the code stored with them."
        ),
    ] = False,
    link: Annotated[
        list[int] | None, typer.Option("--link", help="With --reproduce: only this link; may be repeated.")
    ] = None,
    monte_carlo: Annotated[
        bool,
        typer.Option(
            "--monte-carlo",
            help="With --reproduce: accept differences within Monte Carlo error, as from another processor.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Recompute every digest and check every rule. Exit code 1: a rule is violated.

    This executes no code of a chain. Only --reproduce executes the model code that is stored beside each
    link; use it on chains whose authors you would let run code here.
    """
    checks = Checks(
        keys=tuple(key or ()),
        witnesses=tuple(witness or ()),
        known=tuple(known or ()),
        reproduce=reproduce,
        links=tuple(link or ()),
        bitwise=not monte_carlo,
    )
    _refuse_unfit(chain, checks)
    ledger = open_here()
    if chain:
        found: list[Checked | Unread] = [_check(ledger, chain, checks)]
        others: list[str] = []
    else:
        names, others = divided(ledger.chains())
        found = [_or_error(ledger, name, checks) for name in names]
    documents = [item.as_dict() for item in found]
    ok = all(document["ok"] for document in documents)
    if as_json:
        print_json(documents[0] if chain else {"chains": documents, "ok": ok, "not_chains": others})
    else:
        for item in found:
            print_checked(item) if isinstance(item, Checked) else _print_unread(item)
        print_others(others)
        if not found:
            out.print("There are no chains.")
    if not ok:
        raise typer.Exit(FAILURE)


def recheck(
    chain: Chain,
    statement: Annotated[
        Path, typer.Argument(help="What `lindley head` wrote after a complete verification.")
    ],
    key: Annotated[
        list[Path] | None,
        typer.Option("--key", help="Public key (PEM): statement and links must be signed by one of those."),
    ] = None,
    known: Known = None,
    as_json: Json = False,
) -> None:
    """Verify what is new since a statement in full, and of older links record and batch only.

    The chain must still have the history that the statement has. Other files of older links, such as traces,
    are not read: `lindley verify` finds a change in them. Exit code 1: a rule is violated.
    """
    checks = Checks(keys=tuple(key or ()), since=statement, known=tuple(known or ()))
    found = _check(open_here(), chain, checks)
    if as_json:
        print_json(found.as_dict())
    else:
        print_checked(found)
    if not found.report.ok:
        raise typer.Exit(FAILURE)


def _check(ledger: Ledger, chain: str, checks: Checks) -> Checked:
    with ExitStack() as bars:
        found = check(ledger, chain, checks, progress=_bars(bars, chain), notify=notify)
    remember_verification(Workspace.from_environment(), found)
    return found


def _or_error(ledger: Ledger, chain: str, checks: Checks) -> Checked | Unread:
    """Verify one chain of several: whatever is wrong with it, the others are verified."""
    try:
        return _check(ledger, chain, checks)
    except Exception as error:
        return Unread.of(chain, error)


def _print_unread(item: Unread) -> None:
    message = escape(str(item.error))
    out.print(f"[bold]{escape(item.chain)}[/bold]: [red]cannot be verified[/red]: {message}", soft_wrap=True)


def _refuse_unfit(chain: str | None, checks: Checks) -> None:
    """Refuse options that do not go together, before anything is read."""
    if chain is None and (checks.witnesses or checks.links or checks.known):
        raise UnknownChain(
            "A witness, an acknowledgement and a link's number belong to one chain",
            expected="the chain's name beside --witness, --known or --link",
            found="no chain",
            todo="run `lindley verify CHAIN ...`",
        )
    if not checks.reproduce and (checks.links or not checks.bitwise):
        raise UnknownLink(
            "--link and --monte-carlo are options of --reproduce",
            expected="--reproduce beside them",
            found="no --reproduce",
            todo="add --reproduce, or leave them out: without it every link is checked",
        )


def _bars(bars: ExitStack, chain: str) -> Callable[[int], Progress | None]:
    """Return what shows the progress of one fit after the other."""

    def progress(link: int) -> Progress | None:
        bars.close()
        return bars.enter_context(progress_bar(f"reproduce {chain} link {link}"))

    return progress


def print_checked(checked: Checked) -> None:
    """Print a report, and the links that were fitted again."""
    print_report(checked.report)
    for item in checked.reproduced:
        colour = _COLOURS.get(item.result, "yellow")
        detail = f": {escape(item.detail)}" if item.detail else ""
        out.print(f"  link {item.link} [{colour}]{item.result}[/{colour}]{detail}", soft_wrap=True)


def print_report(report: Report) -> None:
    """Print the findings of a report."""
    partly = f", {report.vouched} by record and batch only" if report.vouched else ""
    rules = f"{counted(len(report.links), 'link')}{partly}, {len(report.rules)} rules"
    result = "[green]verified[/green]" if report.ok else "[red]not as recorded[/red]"
    out.print(f"[bold]{escape(report.chain)}[/bold]: {result} ({rules})")
    for finding in report.findings:
        colour = _SEVERITIES[finding.severity]
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
    known: Known = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="The statement is JSON anyway; errors are too.")
    ] = False,
) -> None:
    """Print a statement of a chain's head; keep it where writers of the ledger cannot change it.

    `lindley verify CHAIN --witness FILE` checks later whether the chain still has that history. The chain
    is verified first: of one that is not as recorded no statement is printed.
    """
    from lindley.ledger.signer import signer_from_environment
    from lindley.verification.signatures import head_of, no_key

    signer = signer_from_environment() if sign_it else None
    if sign_it and signer is None:
        raise no_key()
    print(head_of(open_here(), chain, signer, known or ()).decode())


def acknowledge(
    chain: Chain,
    why: Annotated[str, typer.Option("--why", help="Why the findings are no reason for alarm.")],
    who: Annotated[str, typer.Option("--who", help="Your name; by default that of your account.")] = "",
    sign_it: Annotated[bool, typer.Option("--sign", help="In an envelope, signed by your key.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="The statement is JSON anyway; errors are too.")
    ] = False,
) -> None:
    """Print a statement that you know the errors that `lindley verify` finds in a chain now.

    Keep it where writers of the ledger cannot change it. `lindley verify CHAIN --known FILE` then reports
    these findings as known; a new one, or another change of the same version, is an error.
    """
    from lindley.ledger.signer import signer_from_environment
    from lindley.verification.signatures import known_of, no_key

    signer = signer_from_environment() if sign_it else None
    if sign_it and signer is None:
        raise no_key()
    print(known_of(open_here(), chain, who=who or getpass.getuser(), why=why, signer=signer).decode())


def sign(chain: Chain, known: Known = None, as_json: Json = False) -> None:
    """Sign the links of a chain that have no signature yet, after it was verified.

    Where LINDLEY_SIGNING_KEY is set, updates sign their links themselves.
    """
    from lindley.ledger.signer import signer_from_environment
    from lindley.verification.signatures import sign_links

    signed = sign_links(open_here(), chain, signer_from_environment(), known or ())
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
    from lindley.ledger.signing import generate

    keyid = generate(path)
    if as_json:
        print_json({"keyid": keyid, "private": str(path), "public": f"{path}.pub"})
        return
    out.print(f"Key {keyid[:12]}: {escape(str(path))}, public {escape(str(path))}.pub", soft_wrap=True)
    out.print(f"To sign links: {KEY_VARIABLE}={escape(str(path))}", soft_wrap=True)
