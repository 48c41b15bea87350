"""Verifying a chain in every way that is asked for: rules, signatures, witnesses, fitting again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lindley.errors import WitnessRefused
from lindley.report.text import one_line

if TYPE_CHECKING:
    from lindley.inference.sampling import Progress
    from lindley.ledger import Ledger
    from lindley.verification.reproduce import Replayed
    from lindley.verification.verifier import Finding, Report


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What to hold a chain against, beside the rules.

    Parameters
    ----------
    keys
        Files of public keys; every link must be signed by one of them. None: signatures are not looked at.
    witnesses
        Files of head statements whose history the chain must still have.
    replay
        Whether to fit links again; executes the code that is stored beside them.
    links
        Numbers of the links to fit again; all of them by default.
    newest
        Fit only so many of the newest links again; 0 for no limit.
    bitwise
        See `lindley.verification.reproduce.replay_links`.
    """

    keys: tuple[Path, ...] = ()
    witnesses: tuple[Path, ...] = ()
    replay: bool = False
    links: tuple[int, ...] = ()
    newest: int = 0
    bitwise: bool = True


@dataclass(frozen=True)
class Checked:
    """A chain's report, and what became of the links that were fitted again."""

    report: Report
    replays: tuple[Replayed, ...] = ()

    @property
    def first(self) -> Finding | None:
        """The first thing that is wrong; None where there are warnings at most."""
        return next((f for f in self.report.findings if f.severity == "error"), None)

    @property
    def message(self) -> str:
        """What was found, in one sentence."""
        report, wrong = self.report, self.first
        counted = f"{len(report.links)} link{'' if len(report.links) == 1 else 's'}"
        if wrong is None:
            again = f", {len(self.replays)} fitted again" if self.replays else ""
            return f"{report.chain}: verified ({counted}, {len(report.rules)} rules{again})"
        where = f"link {wrong.link}" if wrong.link else f"version {wrong.version or '-'}"
        return f"{report.chain}: {wrong.rule} {where}: {one_line(wrong.message, 300)}"

    def rows(self) -> list[dict[str, str]]:
        """Return one row of text per finding and per link that was fitted again."""
        found = [(f.severity, f.rule, f.link, f.version, f.message) for f in self.report.findings] + [
            (r.verdict, "replay", r.link, r.version, r.detail) for r in self.replays
        ]
        return [
            {
                "chain": self.report.chain,
                "what": what,
                "rule": rule,
                "link": str(link or "-"),
                "version": str(version or "-"),
                "message": one_line(message, 300),
            }
            for what, rule, link, version, message in found
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-able values; docs/guides/operate.md describes them."""
        report = self.report
        return {
            "chain": report.chain,
            "ok": report.ok,
            "links": list(report.links),
            "rules": [{"id": name, "title": title} for name, title in report.rules.items()],
            "findings": [asdict(finding) for finding in report.findings],
            "replays": [replayed.as_dict() for replayed in self.replays],
        }


def check(
    ledger: Ledger,
    chain: str,
    asked: Asked,
    *,
    progress: Callable[[int], Progress | None] = lambda _: None,
    notify: Callable[[str], object] = lambda _: None,
) -> Checked:
    """Verify a chain.

    Parameters
    ----------
    ledger, chain
        Which chain, and where it is.
    asked
        What else to hold it against.
    progress, say
        Take the progress of a fit by its link's number, and a sentence for the log.

    Raises
    ------
    LindleyError
        If there is no such chain or link, or a key or a witness cannot be used.
    """
    from lindley.verification.gather import verify_chain  # imports the numerical stack

    keys = [_key(path) for path in asked.keys]
    witnesses = [_witness(path) for path in asked.witnesses]
    report = verify_chain(ledger, chain)
    if keys:
        from lindley.verification.signatures import envelopes, with_signatures

        report = with_signatures(report, envelopes(ledger, report), keys)
    for witness in witnesses:
        from lindley.verification.signatures import with_witness

        report = with_witness(report, witness, keys)
    if not asked.replay:
        return Checked(report)
    from lindley.verification.reproduce import replay_links, with_replays  # imports the sampler

    replays = []
    for replayed in replay_links(
        ledger, chain, _links(report, asked), bitwise=asked.bitwise, progress=progress
    ):
        replays.append(replayed)
        notify(f"{chain} link {replayed.link}: {replayed.verdict} {replayed.detail}".rstrip())
    return Checked(with_replays(report, replays), tuple(replays))


def _links(report: Report, asked: Asked) -> Sequence[int]:
    """Return the numbers of the links to fit again; none of them stands for all."""
    numbers = [int(line["link"]) for line in report.links]
    return numbers[-asked.newest :] if asked.newest and not asked.links else asked.links


def _key(path: Path) -> Any:
    from lindley.ledger.signing import public_key  # only whoever checks signatures waits for the cryptography

    return public_key(path)


def _witness(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise WitnessRefused(
            f"The witness {path.name!r} cannot be read",
            expected="the file that `lindley head CHAIN` wrote",
            found=error.strerror or str(error),
            todo="correct the path",
        ) from error
