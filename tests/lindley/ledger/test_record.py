"""Records: one canonical form, every field of its type, and nothing but LedgerCorrupt for anything else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lindley.errors import LedgerCorrupt
from lindley.ledger.record import LINK_SHAPE, SCHEMA, Kind, canonical, digest, genesis_record, parse
from lindley.shapes import ANY, misfits
from tests.support.fakes import MemoryLedger
from tests.support.forging import each_leaf, replaced

MODEL = {
    "digest": "a" * 64, "carried": ["beta"], "carry": {"i0": "i_end"}, "observed": [], "row_key": ["id"],
    "constants": {"scale": 2.5}, "context": 3, "by": [],
}  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def record(coins_chain: MemoryLedger) -> dict[str, Any]:
    """The record of a link that is not the first."""
    return parse(coins_chain.run_of("coins", 2).files["record.json"])


def refusal(data: bytes) -> str:
    with pytest.raises(LedgerCorrupt) as caught:
        parse(data)
    return caught.value.found


class TestCanonicalForm:
    def test_it_is_that_of_rfc_8785(self) -> None:
        value = {"b": 1.0, "a": [1e21, 0.1, -0.0, "\u20ac\n<\x01"], "\ufb33": None, "\U0001f600": True}
        expected = '{"a":[1e+21,0.1,0,"€\\n<\\u0001"],"b":1,"😀":true,"\ufb33":null}'
        assert canonical(value) == expected.encode()

    def test_large_numbers_survive_reading_back(self, record: dict[str, Any]) -> None:
        metrics = {
            "a": 1e15,
            "b": 2.0**53,
            "c": -1e16,
            "d": 123456789012345680.0,
            "e": 1e21,
            "f": 1e300,
            "g": -0.0,
        }
        data = canonical(record | {"metrics": record["metrics"] | metrics})
        assert parse(data)["metrics"] == record["metrics"] | metrics
        assert canonical(parse(data)) == data

    def test_the_digest_is_the_sha256_of_the_bytes(self) -> None:
        assert digest(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


class TestParsing:
    def test_a_genesis_record_reads_back(self) -> None:
        record = genesis_record("chain", MODEL)
        assert parse(canonical(record)) == record
        assert (record["kind"], record["schema"], record["previous"], record["prior"]) == (
            Kind.GENESIS, SCHEMA, None, None,
        )  # fmt: skip

    def test_the_record_of_a_link_reads_back(self, record: dict[str, Any]) -> None:
        assert parse(canonical(record)) == record

    @pytest.mark.parametrize(
        "change",
        [
            lambda data: data + b"\n",
            lambda data: b" " + data,
            lambda data: data.replace(b'":', b'": ', 1),
            lambda data: json.dumps(json.loads(data), sort_keys=False, separators=(",", ":")).encode(
                "utf-16"
            ),
            lambda data: b"\xef\xbb\xbf" + data,
            lambda data: data.replace(b'"kind"', b'"\\u006bind"'),
            lambda data: data.replace(b'"chains":4', b'"chains":4.0'),
            lambda data: data.replace(b'{"artifacts"', b'{"artifacts":{},"artifacts"'),
        ],
    )
    def test_other_bytes_of_the_same_values_are_refused(self, record: dict[str, Any], change: Any) -> None:
        changed = change(canonical(record))
        assert changed != canonical(record)
        assert refusal(changed)

    def test_each_field_is_needed_and_no_other_is_known(self, record: dict[str, Any]) -> None:
        for name in record.keys() - {"schema", "kind"}:
            assert f"{name} is missing" in refusal(
                canonical({key: value for key, value in record.items() if key != name})
            )
        assert "remark is unknown" in refusal(canonical(record | {"remark": "x"}))

    def test_a_later_schema_is_named(self, record: dict[str, Any]) -> None:
        assert "lindley-record/2" in refusal(canonical(record | {"schema": "lindley-record/2"}))
        assert "'fork'" in refusal(canonical(record | {"kind": "fork"}))

    def test_a_leaf_of_another_type_is_named_by_its_place(self, record: dict[str, Any]) -> None:
        leaves = list(each_leaf(record))
        assert len(leaves) > 60
        for path, value in leaves:
            # A number where there is text and the other way round; null where there is neither.
            other: Any = 3.5 if isinstance(value, str) else "x" if not isinstance(value, list | dict) else 7
            if path[0] == "sampler":
                other = []  # sampler settings are numbers or text
            found = refusal(canonical(replaced(record, path, other)))
            assert str(path[-1]) in found or path[0] in {"schema", "kind"}, (path, found)

    def test_true_is_no_number(self, record: dict[str, Any]) -> None:
        assert "rows is True" in refusal(canonical(replaced(record, ("batch", "rows"), True)))
        assert "r_hat_max is False" in refusal(canonical(replaced(record, ("metrics", "r_hat_max"), False)))

    @pytest.mark.parametrize("bad", ["A" * 64, "a" * 63, "a" * 65, "g" * 64, "a" * 64 + "\n", ""])
    def test_digests_are_64_hexadecimal_digits(self, record: dict[str, Any], bad: str) -> None:
        assert "previous is" in refusal(canonical(record | {"previous": bad}))

    def test_thresholds_that_the_gate_needs_are_needed(self, record: dict[str, Any]) -> None:
        needed = LINK_SHAPE["thresholds"].keys() - {ANY}
        assert needed <= record["thresholds"].keys()
        for name in sorted(needed):
            kept = {key: value for key, value in record["thresholds"].items() if key != name}
            assert f"thresholds.{name} is missing" in refusal(canonical(record | {"thresholds": kept}))


class TestHostileBytes:
    """Whatever is read, the answer is a record or LedgerCorrupt."""

    @given(st.binary(max_size=200))
    @example(b"")
    @example(b"\xff\xfe")
    @example(b"[" * 200_000)
    @example(b'{"a":' * 200_000)
    @example(b"1" * 10_000)
    @example(b"-0")
    @example(b"1e999")
    @example(b"NaN")
    def test_any_bytes(self, data: bytes) -> None:
        refusal(data)

    @given(JSON)
    def test_any_json(self, value: Any) -> None:
        refusal(json.dumps(value).encode())

    @settings(max_examples=200)
    @given(JSON, st.data())
    def test_any_value_in_any_place_of_a_record(self, value: Any, data: Any) -> None:
        record = genesis_record("chain", MODEL)
        path = data.draw(st.sampled_from([path for path, _ in each_leaf(record)]))
        changed = replaced(record, path, value)
        raw = json.dumps(changed, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
        try:
            again = parse(raw.encode("utf-8", "surrogatepass"))
        except LedgerCorrupt:
            return
        assert canonical(again) == raw.encode()

    @pytest.mark.parametrize("depth", [10, 500, 990, 5000, 100_000])
    def test_deep_nesting(self, depth: int) -> None:
        text = canonical(genesis_record("chain", MODEL)).decode()
        nested = text.replace('"carry":{"i0":"i_end"}', f'"carry":{"[" * depth}{"]" * depth}')
        assert nested != text
        refusal(nested.encode())

    @pytest.mark.parametrize(
        "literal",
        ['"\\ud800"', "1e400", "-Infinity", "NaN", "9007199254740993", "1" * 5000, '{"\\udfff":"x"}'],
    )
    def test_values_without_a_canonical_form(self, record: dict[str, Any], literal: str) -> None:
        text = canonical(record).decode()
        for field in ('"attempt":1', '"origin":"coins-010.csv"', '"carry":{}'):
            changed = text.replace(field, f"{field.partition(':')[0]}:{literal}")
            assert changed != text
            refusal(changed.encode())


class TestShapes:
    def test_what_fits_has_no_misfits(self) -> None:
        shape = {"a": int, "b": [str], "c": ({"d": float}, None), ANY: bool}
        assert list(misfits({"a": 1, "b": [], "c": None, "x": True}, shape)) == []
        assert list(misfits({"a": 1, "b": ["y"], "c": {"d": 2}}, shape)) == []

    def test_each_misfit_is_named(self) -> None:
        shape = {"a": int, "b": [[str]], "c": ({"d": float}, None)}
        found = list(misfits({"a": 1.5, "b": [["x"], [1]], "c": {"d": "y"}, "e": 1}, shape))
        assert found == ["a is 1.5", "b[1][0] is 1", "c.d is 'y'", "e is unknown"]
        assert list(misfits({"a": 1, "b": {}}, shape)) == ["c is missing", "b is an object"]
        assert list(misfits([], shape)) == ["the record is an array"]

    def test_long_values_are_cut(self) -> None:
        (found,) = misfits({"a": "x" * 1000}, {"a": int})
        assert len(found) < 80
