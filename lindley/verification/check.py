"""Verify a chain by its rules and, on request, by signatures, witnesses and reproduced fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lindley.errors import AcknowledgementRefused, LedgerCorrupt, LindleyError, WitnessRefused
from lindley.report.text import one_line

if TYPE_CHECKING:
    from lindley.inference.sampling import Progress
    from lindley.ledger.protocol import Ledger
    from lindley.verification.reproduce import Reproduced
    from lindley.verification.rules import Report

#: Bytes of a statement at most: a head statement of a million links has 70 MB.
_MOST_BYTES = 2**27


@dataclass(frozen=True, kw_only=True)
class Checks:
    """What to check of a chain beside the rules that are always checked.

    Parameters
    ----------
    keys
        Files of public keys; every link must be signed by one of them. Empty: signatures are not checked.
    witnesses
        Files of head statements whose history the chain must still have.
    since
        File of a head statement: of the links that it states only record and batch are read. It is a witness
        too.
    known
        Files of acknowledgements; the findings in them are no errors.
    reproduce
        Whether to fit links again; executes the code that is stored beside them.
    links
        Numbers of the links to fit again; all of them by default.
    newest
        Fit only so many of the newest links again; 0 for no limit.
    bitwise
        See `lindley.verification.reproduce.reproduce_links`.
    """

    keys: tuple[Path, ...] = ()
    witnesses: tuple[Path, ...] = ()
    since: Path | None = None
    known: tuple[Path, ...] = ()
    reproduce: bool = False
    links: tuple[int, ...] = ()
    newest: int = 0
    bitwise: bool = True


@dataclass(frozen=True)
class Checked:
    """A chain's report, and the links that were fitted again."""

    report: Report
    reproduced: tuple[Reproduced, ...] = ()

    @property
    def message(self) -> str:
        """The result in one sentence."""
        report, wrong = self.report, self.report.first_error
        counted = f"{len(report.links)} link{'' if len(report.links) == 1 else 's'}"
        if wrong is None:
            again = f", {len(self.reproduced)} fitted again" if self.reproduced else ""
            counted += f", {report.vouched} by record and batch only" if report.vouched else ""
            return f"{report.chain}: verified ({counted}, {len(report.rules)} rules{again})"
        where = f"link {wrong.link}" if wrong.link else f"version {wrong.version or '-'}"
        return f"{report.chain}: {wrong.rule} {where}: {one_line(wrong.message, 300)}"

    def rows(self) -> list[dict[str, str]]:
        """Return one row of text per finding and per link that was fitted again."""
        found = [(f.severity, f.rule, f.link, f.version, f.message) for f in self.report.findings] + [
            (r.result, "reproduce", r.link, r.version, r.detail) for r in self.reproduced
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
        """Return it as JSON-able values; docs/guides/verify-and-sign.md describes them."""
        report = self.report
        return {
            "chain": report.chain,
            "ok": report.ok,
            "links": list(report.links),
            "vouched": report.vouched,
            "rules": [{"id": name, "title": title} for name, title in report.rules.items()],
            "findings": [asdict(finding) for finding in report.findings],
            "reproduced": [asdict(link) for link in self.reproduced],
        }


@dataclass(frozen=True)
class Unread:
    """A chain of several that could not be verified, and why; the others were."""

    chain: str
    error: LindleyError

    @classmethod
    def of(cls, chain: str, error: Exception) -> Unread:
        """Return the chain with its error; one that Lindley did not raise itself is wrapped."""
        if not isinstance(error, LindleyError):
            found = f"{type(error).__name__}: {error}"
            error = LedgerCorrupt(f"The verification of {chain} stopped at an unexpected error", found=found)
        return cls(chain, error)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-able values."""
        return {"chain": self.chain, "ok": False, "error": self.error.as_dict()}


def check(
    ledger: Ledger,
    chain: str,
    checks: Checks,
    *,
    progress: Callable[[int], Progress | None] = lambda _: None,
    notify: Callable[[str], object] = lambda _: None,
) -> Checked:
    """Verify a chain.

    Parameters
    ----------
    ledger, chain
        Which chain, and where it is.
    checks
        What to check beside the rules.
    progress
        Returns the callback of a link's fit by its number.
    notify
        Receives one sentence per link that was fitted again.

    Raises
    ------
    LindleyError
        If there is no such chain or link, or a key or a witness cannot be used.
    """
    from lindley.verification.gather import envelopes, verify_chain  # imports the numerical stack

    keys = list[Any]()
    if checks.keys:
        from lindley.ledger.signing import public_key  # only checking signatures waits for the cryptography

        keys = [public_key(path) for path in checks.keys]
    witnesses = [
        read_witness(path) for path in (*checks.witnesses, *([checks.since] if checks.since else []))
    ]
    written = ("acknowledgement", "lindley acknowledge", AcknowledgementRefused)
    known = [_read(path, *written) for path in checks.known]
    vouched = _vouched(witnesses[-1], keys, chain) if checks.since else frozenset[str]()
    report = verify_chain(ledger, chain, vouched)
    if keys or witnesses:
        from lindley.verification.signature_rules import with_signatures, with_witness  # the cryptography

        if keys:
            report = with_signatures(report, envelopes(ledger, chain), keys)
        for witness in witnesses:
            report = with_witness(report, witness, keys)
    if not checks.reproduce:
        return Checked(_acknowledged(report, known, keys))
    from lindley.verification.reproduce import reproduce_links, with_reproduced  # imports the sampler

    reproduced, links = [], checks.links
    if checks.newest and not links:
        links = tuple(int(line["link"]) for line in report.links)[-checks.newest :]
    for item in reproduce_links(ledger, chain, links, bitwise=checks.bitwise, progress=progress):
        reproduced.append(item)
        notify(f"{chain} link {item.link}: {item.result} {item.detail}".rstrip())
    return Checked(_acknowledged(with_reproduced(report, reproduced), known, keys), tuple(reproduced))


def _vouched(statement: bytes, keys: list[Any], chain: str) -> frozenset[str]:
    """Return the records that a head statement vouches for; none where it is not signed by a key given."""
    from lindley.verification.signature_rules import head_statement  # the cryptography

    predicate, problem = head_statement(statement, keys, chain)
    return frozenset() if keys and problem else frozenset(predicate["records"])


def _acknowledged(report: Report, known: list[bytes], keys: list[Any]) -> Report:
    """Return a report with what people know of its findings."""
    if known:
        from lindley.verification.signature_rules import with_known  # the cryptography

        for data in known:
            report = with_known(report, data, keys)
    return report


def read_witness(path: Path) -> bytes:
    """Return the head statement in a file.

    Raises
    ------
    WitnessRefused
        If it cannot be read.
    """
    return _read(path, "witness", "lindley head", WitnessRefused)


def _read(path: Path, what: str, command: str, refused: type[LindleyError]) -> bytes:
    """Return a statement that a command wrote to a file; `refused` is raised where it cannot be read."""
    cause = None
    try:
        with path.open("rb") as file:  # which may have no end, as a device
            data = file.read(_MOST_BYTES + 1)
        found = f"more than {_MOST_BYTES:,} bytes"
    except (OSError, ValueError) as error:  # the last: a path that no file can have
        cause, data = error, b""
        found = (error.strerror if isinstance(error, OSError) else None) or str(error)
    if cause is None and len(data) <= _MOST_BYTES:
        return data
    raise refused(
        f"The {what} {path.name!r} cannot be read",
        expected=f"the file that `{command} CHAIN` wrote",
        found=found,
        todo="correct the path",
    ) from cause
