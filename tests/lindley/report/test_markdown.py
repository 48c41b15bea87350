from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from lindley.report.markdown import code, escape, link, table
from lindley.report.text import UNNAMED, one_line

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
SPECIAL = st.text(st.sampled_from("\\`*_{}[]()#+-.!~|<>&\"'$@:=1a \n"), min_size=1, max_size=40)


def tokens(markdown: str) -> list[Token]:
    return [child for token in PARSER.parse(markdown) for child in (token, *(token.children or []))]


def literal(markdown: str) -> str:
    """Return what a reader sees, and fail if any of it is structure other than a paragraph or code."""
    kinds = {token.type for token in tokens(markdown)}
    assert kinds <= {"paragraph_open", "paragraph_close", "inline", "text", "text_special", "code_inline"}
    return "".join(
        token.content for token in tokens(markdown) if token.type in ("text", "text_special", "code_inline")
    )


@given(st.text() | SPECIAL)
def test_escaped_text_is_read_as_it_was_written(text: str) -> None:
    assert literal(escape(text)) == one_line(text, 300)


@given(st.text() | SPECIAL)
def test_a_name_is_read_as_it_was_written(text: str) -> None:
    assert literal(code(text)) == one_line(text, 60)


def test_hostile_names_are_literal(hostile: str) -> None:
    assert literal(code(hostile)) == one_line(hostile, 60)
    assert literal(escape(hostile)) == one_line(hostile, 300)


@given(st.text() | SPECIAL, st.text() | SPECIAL)
def test_a_cell_stays_in_its_cell(first: str, second: str) -> None:
    found = [token.type for token in tokens(table(["a", "b"], [[code(first), escape(second)]]))]
    assert found.count("td_open") == 2
    assert found.count("tr_open") == 2


@pytest.mark.parametrize("text", ["@head", "http://a.b", "www.evil.example", ":smile:"])
def test_nothing_becomes_a_mention_an_address_or_an_emoji(text: str) -> None:
    escaped = escape(text)
    assert not any(part in escaped for part in ("@", "http://", "www.", ":smile:"))


def test_a_name_is_monospace_where_that_is_safe() -> None:
    assert code("beta_0[north, 2]") == "`beta_0[north, 2]`"


@given(SPECIAL)
def test_a_link_leads_where_it_says(tail: str) -> None:
    address = "https://host.example/#/runs/" + tail
    opened = [token for token in tokens(link("run", address)) if token.type == "link_open"]
    assert len(opened) == 1
    assert str(opened[0].attrs["href"]).startswith("https://host.example/#/runs/")


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "",
        "/local",
        "http://",
        "http://[",
        "https://a.b/" + "x" * 500,
    ],
)
def test_an_address_that_is_not_a_web_page_is_left_out(address: str) -> None:
    assert link("run", address) == "run"


@given(st.text(), st.integers(2, 100))
def test_one_line_is_short_visible_and_never_empty(text: str, limit: int) -> None:
    shown = one_line(text, limit)
    assert shown.isprintable()
    assert 0 < len(shown) <= max(limit, len(UNNAMED))


def test_one_line_keeps_both_ends() -> None:
    assert one_line("beta[" + "x" * 100 + ", 17]", 20) == "beta[xxxxxxxx…x, 17]"
