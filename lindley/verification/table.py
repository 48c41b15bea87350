"""Write the tables of rules in docs/ledger-format.md: `python -m lindley.verification.table`."""

from __future__ import annotations

from pathlib import Path

from lindley.verification import reproduce, signature_rules, verifier
from lindley.verification.rules import ALWAYS, Scope, rules_of

#: The modules that register rules; importing them fills the registry.
MODULES = (*verifier.RULE_MODULES, signature_rules, reproduce)
PAGE = Path(__file__).parents[2] / "docs" / "ledger-format.md"
#: The tables of the page by the name in their markers: the scopes of their rules.
TABLES = {"rules": ALWAYS, "rules-on-request": (Scope.SIGNATURE, Scope.WITNESS, Scope.REPRODUCE)}
#: The option of `lindley verify` that asks for the rules of a scope.
_OPTIONS = {Scope.SIGNATURE: "--key", Scope.WITNESS: "--witness", Scope.REPRODUCE: "--reproduce"}


def table(*scopes: Scope) -> str:
    """Return the rules of some scopes as a Markdown table."""
    asked = any(scope in _OPTIONS for scope in scopes)
    heads = ["rule", *(["option"] if asked else []), "holds when", "broken by"]
    rows = [heads, ["---"] * len(heads)]
    for item in rules_of(*scopes):
        option = [f"`{_OPTIONS[item.scope]}`"] if asked else []
        rows.append([item.number, *option, f"{item.sentence}. {item.details}", item.broken_by])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def with_tables(page: str) -> str:
    """Return the text of a page with every table rewritten between its markers.

    Raises
    ------
    ValueError
        If the markers of a table are missing.
    """
    for name, scopes in TABLES.items():
        begin, end = f"<!-- {name}: begin, written by lindley.verification.table -->", f"<!-- {name}: end -->"
        before, found, rest = page.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise ValueError(f"the markers of the table {name!r} are missing")
        page = f"{before}{begin}\n\n{table(*scopes)}\n\n{end}{after}"
    return page


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
