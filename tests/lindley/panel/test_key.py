"""Keys of members: one canonical form, and a text form that no value can break."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lindley.errors import MemberRefused, NameRefused
from lindley.names import is_member
from lindley.panel.key import MOST_BYTES, MemberKey, key_from, member_text, parse_member, read_key

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
VALUE = TEXT | st.integers(1 - 2**53, 2**53 - 1) | st.booleans() | st.dates()
KEYS = st.dictionaries(TEXT, VALUE, min_size=1, max_size=3)


def small(values: dict[str, object]) -> MemberKey | None:
    try:
        return MemberKey.of(values)  # type: ignore[arg-type]
    except MemberRefused:
        return None


@given(KEYS)
def test_text_and_canonical_form_are_read_back(values: dict[str, object]) -> None:
    key = small(values)
    if key is None:
        return
    text = member_text("sales", key)
    assert parse_member(text) == ("sales", key, "")
    assert parse_member(f"{text}@head") == ("sales", key, "head")
    assert text.isascii() or all(c.isprintable() for c in text)
    assert text.isprintable()
    assert is_member(text)
    assert read_key(key.canonical, tuple(values)) == key
    assert len(key.canonical) <= MOST_BYTES


@given(KEYS, KEYS)
def test_keys_are_equal_exactly_when_their_texts_are(one: dict[str, object], two: dict[str, object]) -> None:
    keys = small(one), small(two)
    if None in keys:
        return
    first, second = ({(n, type(v), v) for n, v in key.values} for key in keys if key is not None)
    same = keys[0].canonical == keys[1].canonical  # type: ignore[union-attr]
    assert same == (first == second)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("sales[store=12,sku=88]", {"store": 12, "sku": 88}),
        ('sales[sku="a b"]', {"sku": "a b"}),
        ('sales[sku="12"]', {"sku": "12"}),
        ("sales[on=true,day=2026-11-30]", {"on": True, "day": date(2026, 11, 30)}),
        ('sales["odd name"=-3]', {"odd name": -3}),
        ('sales[sku="\\u001b[31m]"]', {"sku": "\x1b[31m]"}),
    ],
)
def test_forms(text: str, values: dict[str, object]) -> None:
    name, key, place = parse_member(text)
    assert (name, dict(key.values), place) == ("sales", values, "")
    assert member_text("sales", key) == text


@pytest.mark.parametrize(
    "text",
    [
        "sales[", "sales[]", "sales[store]", "sales[store=]", "sales[store=1", "sales[store=1,]",
        "sales[store=1,store=2]", "sales[store=1]x", "sales[store=1.5]", "sales[store=007]",
        "sales[day=2026-02-30]", 'sales[sku="a]', "sales[store=99999999999999999]", "sales[store = 1]",
        'sales[sku="\\ud800"]',
    ],
)  # fmt: skip
def test_what_is_no_member_is_refused(text: str) -> None:
    with pytest.raises(MemberRefused) as caught:
        parse_member(text)
    assert caught.value.todo


def test_the_name_of_a_chain_is_checked() -> None:
    with pytest.raises(NameRefused):
        parse_member("../etc[store=1]")


@pytest.mark.parametrize("value", [1.5, None, 2**53, float("nan"), b"x", "\ud800"])
def test_other_values_are_refused(value: object) -> None:
    with pytest.raises(MemberRefused, match="store"):
        MemberKey.of({"store": value})  # type: ignore[dict-item]


def test_a_key_has_the_columns_of_its_panel_and_is_short() -> None:
    with pytest.raises(MemberRefused, match="other columns"):
        key_from({"store": 1}, ("store", "sku"))
    with pytest.raises(MemberRefused):
        MemberKey.of({"store": "x" * MOST_BYTES})
