"""The registry of the verifier's rules, and the findings that they give.

A rule is a generator without side effects. Its scope determines its arguments; it yields a message for each
violation, or an `At` where the message belongs to a particular link or version. The docstring of a rule
gives its details. `python -m lindley.verification.table` writes all of it into docs/ledger-format.md.

To add a rule, write it in the module of its scope and add a tamper test that breaks it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any


class Scope(StrEnum):
    """What a rule examines, and so which arguments it takes.

    ``CHAIN``: a `GatheredChain` and the `Chain` that it defines. ``VERSION`` and, of a panel's link,
    ``PANEL``: a `Case` and its `GatheredChain`. ``SIGNATURE``: a
    `SignedLink`. ``WITNESS``: a `WitnessCase`. ``REPRODUCE``: a `Reproduced`.
    """

    CHAIN = "chain"
    VERSION = "version"
    PANEL = "panel"
    SIGNATURE = "signature"
    WITNESS = "witness"
    REPRODUCE = "reproduce"


_LETTERS = {
    "R": Scope.VERSION,
    "P": Scope.PANEL,
    "S": Scope.SIGNATURE,
    "W": Scope.WITNESS,
    "V": Scope.REPRODUCE,
}
#: The scopes of the rules that are always checked; the others are checked on request.
ALWAYS = (Scope.CHAIN, Scope.VERSION, Scope.PANEL)


class Severity(StrEnum):
    """How bad a finding is.

    ``ERROR``: do not trust the chain as it is. ``WARNING``: the next writer repairs it, or it concerns no
    link. ``KNOWN``: an error that a person has acknowledged.
    """

    ERROR = "error"
    WARNING = "warning"
    KNOWN = "known"


@dataclass(frozen=True)
class Finding:
    """A violated rule.

    Parameters
    ----------
    rule
        Number of the rule.
    link, version
        Place in the chain and version number; None where there is none.
    message
        What was expected and what was found.
    state
        Digest of everything that was read of the version: another change of it gives another one. Empty where
        there is no version.
    """

    rule: str
    link: int | None
    version: int | None
    message: str
    severity: Severity = Severity.ERROR
    state: str = ""


@dataclass(frozen=True)
class At:
    """A message of a rule with the place that it belongs to; see `Finding`."""

    message: str
    link: int | None = None
    version: int | None = None
    severity: Severity = Severity.ERROR


@dataclass(frozen=True)
class Rule:
    """A registered rule.

    Parameters
    ----------
    number
        Letter and two digits; the order of rules and findings.
    sentence
        What holds on a sound chain, in one sentence; shown beside findings.
    broken_by
        Changes that violate it.
    check
        The function; see `Scope` for its arguments.
    """

    number: str
    sentence: str
    broken_by: str
    scope: Scope
    check: Callable[..., Iterator[str | At]]

    @property
    def details(self) -> str:
        """The docstring of the function, as one line."""
        return " ".join(inspect.cleandoc(self.check.__doc__ or "").split())


_rules: dict[str, Rule] = {}


def rule[**P](
    number: str, sentence: str, broken_by: str = "", scope: Scope | None = None
) -> Callable[[Callable[P, Iterator[Any]]], Callable[P, Iterator[Any]]]:
    """Register a function as a rule; see `Rule`. The scope follows from the number's letter by default."""

    def register(check: Callable[P, Iterator[Any]]) -> Callable[P, Iterator[Any]]:
        if number in _rules:
            raise ValueError(f"two rules have the number {number}")
        _rules[number] = Rule(number, sentence, broken_by, scope or _LETTERS[number[0]], check)
        return check

    return register


def rules_of(*scopes: Scope) -> list[Rule]:
    """Return the registered rules of some scopes, in the order of their numbers."""
    return sorted((item for item in _rules.values() if item.scope in scopes), key=lambda item: item.number)


def sentences(*scopes: Scope) -> dict[str, str]:
    """Return the sentences of the rules of some scopes by number."""
    return {item.number: item.sentence for item in rules_of(*scopes)}


def findings(
    scope: Scope,
    *arguments: Any,
    link: int | None = None,
    version: int | None = None,
    without: Container[str] = (),
) -> Iterator[Finding]:
    """Check the rules of one scope but some; `link` and `version` are the place of messages without one."""
    for item in rules_of(scope):
        if item.number in without:
            continue
        for found in item.check(*arguments):
            at = found if isinstance(found, At) else At(found, link, version)
            yield Finding(item.number, at.link, at.version, at.message, at.severity)


@dataclass(frozen=True)
class Report:
    """The verifier's result.

    Parameters
    ----------
    chain
        Name of the chain.
    links
        One description per link, oldest first.
    findings
        In the order of version and rule.
    rules
        The sentences of the rules that were checked, by number.
    vouched
        Number of links of which only record and batch were read, because a statement vouches for them.
    """

    chain: str
    links: tuple[dict[str, Any], ...]
    findings: tuple[Finding, ...]
    rules: dict[str, str] = field(default_factory=lambda: sentences(*ALWAYS))
    vouched: int = 0

    @property
    def ok(self) -> bool:
        """Whether there are only warnings, or none."""
        return self.first_error is None

    @property
    def first_error(self) -> Finding | None:
        """The first finding that is an error; None if there is none."""
        return next((finding for finding in self.findings if finding.severity == Severity.ERROR), None)

    def extended(self, rules: dict[str, str], found: Sequence[Finding]) -> Report:
        """Return the report with further rules and findings, in the report's order."""
        return replace(self, findings=in_order([*self.findings, *found]), rules=self.rules | rules)


def in_order(found: Sequence[Finding]) -> tuple[Finding, ...]:
    """Sort findings by version, then by rule."""
    return tuple(sorted(found, key=lambda finding: (finding.version or 0, finding.rule)))
