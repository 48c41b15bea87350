"""The key of a member: which values of the `by` columns its rows have.

A key has two forms. Its canonical form is JSON (RFC 8785): an object from column to value, where a date is
``{"date": "2026-11-30"}``. Its text form is for people and command lines: ``sales[store=12,sku="a b"]``. A
value or column name that could be taken for something else is a JSON string, all ASCII, so that no text of a
file can control a terminal or end the brackets.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any

from lindley.errors import MemberRefused
from lindley.ledger.record import canonical
from lindley.names import check_chain_name

#: A value of a key column.
type Value = str | int | bool | date
#: Bytes of a canonical key at most, so that a proof stays below 2 KB.
MOST_BYTES = 256
#: Integers beyond it have no exact form in JSON.
MOST = 2**53 - 1
_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,62}")
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,15})")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_QUOTED = re.compile(r'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*"')
_TOKEN = re.compile(r"[A-Za-z0-9_.-]+")
_WORDS = {"true": True, "false": False}


@dataclass(frozen=True)
class MemberKey:
    """The key of a member.

    Parameters
    ----------
    values
        Pairs of column and value, in the order of `Declaration.by`.
    """

    values: tuple[tuple[str, Value], ...]

    @classmethod
    def of(cls, values: Mapping[str, Value]) -> MemberKey:
        """Return the key with these values by column.

        Raises
        ------
        MemberRefused
            If it is empty, or a value is no text, integer, boolean or date, or has no exact form.
        """
        return cls(tuple((str(name), _checked(name, value)) for name, value in values.items())).sized()

    def sized(self) -> MemberKey:
        """Return the key itself.

        Raises
        ------
        MemberRefused
            If it is empty, or too long for a proof.
        """
        if not self.values or len(self.canonical) > MOST_BYTES:
            raise MemberRefused(
                "The key of a member was refused",
                expected=f"one value or more, {MOST_BYTES} bytes at most as JSON",
                found=f"{len(self.values)} values, {len(self.canonical)} bytes",
                todo="use shorter values in the columns of `by`, for example codes instead of names",
            )
        return self

    @cached_property
    def canonical(self) -> bytes:
        """The canonical form; members are sorted by it."""
        return canonical({name: _as_json(value) for name, value in self.values})

    @property
    def document(self) -> dict[str, Any]:
        """The canonical form as JSON values."""
        return {name: _as_json(value) for name, value in self.values}

    def __str__(self) -> str:
        """Return the text form without the chain: ``store=12,sku=88``."""
        return ",".join(f"{_name(name)}={_text(value)}" for name, value in self.values)


def member_text(chain: str, key: MemberKey) -> str:
    """Return the text form of a member: ``sales[store=12,sku=88]``."""
    return f"{chain}[{key}]"


def parse_member(text: str) -> tuple[str, MemberKey, str]:
    """Read the text form of a member, with the place of a link behind it or without.

    Returns
    -------
    tuple
        Name of the chain, key of the member, and the word behind ``@`` (empty without one).

    Raises
    ------
    MemberRefused
        If the text is no member.
    NameRefused
        If the chain's name is none.
    """
    chain, _, rest = text.partition("[")
    values: dict[str, Value] = {}
    place = 0
    while True:
        name, place = _read_name(text, rest, place)
        if rest[place : place + 1] != "=" or name in values:
            raise _no_member(text, "a column twice" if name in values else "no = behind a column")
        values[name], place = _read_value(text, rest, place + 1)
        end, place = rest[place : place + 1], place + 1
        if end == "]":
            break
        if end != ",":
            raise _no_member(text, f"{end or 'an end'!r} behind a value")
    behind = rest[place:]
    if behind and not behind.startswith("@"):
        raise _no_member(text, f"{behind[:20]!r} behind the brackets")
    return check_chain_name(chain), MemberKey.of(values), behind[1:]


def key_from(document: Mapping[str, Any], by: tuple[str, ...] = ()) -> MemberKey:
    """Return the key of a canonical form that was read as JSON, its columns in the order `by`.

    Raises
    ------
    MemberRefused
        If it is no key.
    """
    if by and set(by) != set(document):
        raise MemberRefused(
            "The key of a member has other columns than its panel",
            expected=", ".join(by),
            found=", ".join(map(str, document))[:200],
            todo="name every column of `by` once, and no other",
        )
    return MemberKey.of({name: _from_json(name, document[name]) for name in by or document})


def read_key(text: str | bytes, by: tuple[str, ...] = ()) -> MemberKey:
    """Return the key whose canonical form this text is; see `key_from`."""
    found = json.loads(text)
    if not isinstance(found, dict):
        raise MemberRefused("The key of a member was refused", expected="a JSON object", found=str(text)[:80])
    return key_from(found, by)


def _checked(name: str, value: Any) -> Value:
    """Return a value of a key column, or refuse it."""
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise _refused(name, value) from None
        return value
    if isinstance(value, bool) or type(value) is date or (isinstance(value, int) and abs(value) <= MOST):
        return value
    raise _refused(name, value)


def _refused(name: str, value: Any) -> MemberRefused:
    return MemberRefused(
        f"A value of the key column {name!r} was refused",
        expected="text, an integer below 2^53, a boolean or a date",
        found=f"{type(value).__name__} {value!r}"[:120],
        todo="declare the columns of `by` with such a type, and give every row a value",
    )


def _as_json(value: Value) -> Any:
    return {"date": value.isoformat()} if isinstance(value, date) else value


def _from_json(name: str, value: Any) -> Value:
    if isinstance(value, dict) and value.keys() == {"date"} and _DATE.fullmatch(str(value["date"])):
        return _date(name, value["date"])
    return _checked(name, value)


def _date(name: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise _refused(name, text) from None


def _name(name: str) -> str:
    return name if _BARE.fullmatch(name) else json.dumps(name)


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, int):
        return str(value)
    return value if _BARE.fullmatch(value) and value not in _WORDS else json.dumps(value)


def _read_name(text: str, rest: str, place: int) -> tuple[str, int]:
    quoted = _QUOTED.match(rest, place)
    if quoted:
        return str(json.loads(quoted[0])), quoted.end()
    bare = _BARE.match(rest, place)
    if bare is None:
        raise _no_member(text, "no column where one is expected")
    return bare[0], bare.end()


def _read_value(text: str, rest: str, place: int) -> tuple[Value, int]:
    quoted = _QUOTED.match(rest, place)
    if quoted:
        return str(json.loads(quoted[0])), quoted.end()
    token = _TOKEN.match(rest, place)
    word = token[0] if token else ""
    if token is None:
        raise _no_member(text, "no value behind =")
    if word in _WORDS:
        return _WORDS[word], token.end()
    if _INTEGER.fullmatch(word):
        return int(word), token.end()
    if _DATE.fullmatch(word):
        return _date("value", word), token.end()
    if not _BARE.fullmatch(word):
        raise _no_member(text, f"{word!r}, which must be quoted")
    return word, token.end()


def _no_member(text: str, found: str) -> MemberRefused:
    return MemberRefused(
        f"{text[:120]!r} does not name a member",
        expected="CHAIN[column=value,column=value], for example sales[store=12,sku=88]",
        found=found,
        todo='put quotes around text with other signs than letters and digits: sales[sku="a b"]',
    )
