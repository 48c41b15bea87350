"""Keys, statements and envelopes: what is accepted, what is refused, and what is never shown."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from lindley.errors import KeyRefused
from lindley.ledger import signing

STATEMENT = signing.link_statement(
    chain="coins", link=1, record="a" * 64, kind="update", previous="b" * 64, batch="c" * 64
)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key.pem"
    signing.generate(path)
    return path


def signer(path: Path):
    found = signing.signer_from_environment({signing.KEY_VARIABLE: str(path)})
    assert found is not None
    return found


def public(path: Path):
    return signing.public_key(path.with_name(path.name + ".pub"))


class TestKeys:
    def test_a_pair_is_made_for_its_owner_alone_and_never_overwritten(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "key.pem"
        keyid = signing.generate(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert public(path).keyid == keyid
        before = path.read_bytes()
        with pytest.raises(KeyRefused, match="exists"):
            signing.generate(path)
        path.rename(tmp_path / "new" / "other.pem")
        with pytest.raises(KeyRefused, match=r"key\.pem\.pub"):  # the public one alone is enough
            signing.generate(path)
        assert (tmp_path / "new" / "other.pem").read_bytes() == before

    def test_a_folder_that_cannot_be_written_to(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(KeyRefused, match="cannot be written"):
            signing.generate(tmp_path / "file" / "key.pem")

    def test_no_variable_no_signer(self) -> None:
        assert signing.signer_from_environment({}) is None
        assert signing.signer_from_environment({signing.KEY_VARIABLE: "  "}) is None

    def test_a_key_is_taken_from_a_path_or_as_text(self, key: Path) -> None:
        text = key.read_text()
        for value in (str(key), text, text.replace("\n", "\\n"), f"\n{text}\n"):
            assert signing.signer_from_environment({signing.KEY_VARIABLE: value}).public_key == public(key)

    @pytest.mark.parametrize(
        "kind", ["nonsense", "curve", "passphrase", "public", "folder", "nowhere", "nul"]
    )
    def test_what_is_no_key_is_refused_and_not_shown(self, key: Path, tmp_path: Path, kind: str) -> None:
        options = (Encoding.PEM, PrivateFormat.PKCS8)
        private = ed25519.Ed25519PrivateKey.generate()
        value = {
            "nonsense": lambda: "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n",
            "curve": lambda: (
                generate_private_key(SECP256R1()).private_bytes(*options, NoEncryption()).decode()
            ),
            "passphrase": lambda: private.private_bytes(*options, BestAvailableEncryption(b"x")).decode(),
            "public": lambda: key.with_name("key.pem.pub").read_text(),
            "folder": lambda: str(tmp_path),
            "nowhere": lambda: str(tmp_path / "secret-name"),
            "nul": lambda: "secret-name\0",
        }[kind]()
        with pytest.raises(KeyRefused) as caught:
            signing.signer_from_environment({signing.KEY_VARIABLE: value})
        said = f"{caught.value} {caught.value.__cause__}"
        assert "secret-name" not in said
        for line in value.splitlines():
            assert line.startswith("-----") or line not in said
        assert caught.value.__cause__ is None

    def test_a_private_key_is_no_public_key(self, key: Path, tmp_path: Path) -> None:
        with pytest.raises(KeyRefused, match="holds a private key"):
            signing.public_key(key)
        for content in (b"", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", b"\xff" * 99):
            (tmp_path / "bad.pub").write_bytes(content)
            with pytest.raises(KeyRefused, match="no public key"):
                signing.public_key(tmp_path / "bad.pub")
        with pytest.raises(KeyRefused, match="Cannot read"):
            signing.public_key(tmp_path / "nowhere.pub")


class TestEnvelopes:
    def test_what_was_signed_comes_out(self, key: Path) -> None:
        data = signing.sealed(STATEMENT, signer(key))
        assert data == signing.sealed(STATEMENT, signer(key))  # Ed25519 draws nothing at random
        found = signing.opened(data, [public(key)])
        assert (found.statement, found.problem, found.keyid) == (STATEMENT, None, public(key).keyid)

    def test_it_is_the_envelope_and_the_statement_of_the_specifications(self, key: Path) -> None:
        """Checked by hand, without the library: DSSE's pre-authentication encoding, in-toto's fields."""
        envelope = json.loads(signing.sealed(STATEMENT, signer(key)))
        assert envelope["payloadType"] == "application/vnd.in-toto+json"
        payload = base64.b64decode(envelope["payload"], validate=True)
        statement = json.loads(payload)
        assert statement["_type"] == "https://in-toto.io/Statement/v1"
        assert statement["subject"] == [{"name": "coins/1", "digest": {"sha256": "a" * 64}}]
        assert statement["predicateType"] == "urn:lindley:link:v1"
        kind = envelope["payloadType"].encode()
        pae = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
        (signature,) = envelope["signatures"]
        private = signer(key)._private_key
        private.public_key().verify(base64.b64decode(signature["sig"]), pae)  # raises if it does not fit

    def test_any_of_several_keys_is_accepted_and_another_is_not(self, key: Path, tmp_path: Path) -> None:
        signing.generate(tmp_path / "other.pem")
        data, other = signing.sealed(STATEMENT, signer(key)), public(tmp_path / "other.pem")
        assert signing.opened(data, [other, public(key)]).problem is None
        assert signing.opened(data, [other]).problem == signing.Problem.OTHER_KEY
        assert signing.opened(data, []).problem == signing.Problem.OTHER_KEY

    def test_a_signature_under_a_borrowed_key_id_is_invalid(self, key: Path, tmp_path: Path) -> None:
        signing.generate(tmp_path / "other.pem")
        envelope = json.loads(signing.sealed(STATEMENT, signer(tmp_path / "other.pem")))
        envelope["signatures"][0]["keyid"] = public(key).keyid
        assert signing.opened(json.dumps(envelope).encode(), [public(key)]).problem == signing.Problem.INVALID

    def test_no_byte_can_be_changed(self, key: Path) -> None:
        data, accepted = signing.sealed(STATEMENT, signer(key)), public(key)
        for position in range(len(data)):
            changed = bytearray(data)
            changed[position] ^= 1
            found = signing.opened(bytes(changed), [accepted])
            # What changes neither payload nor signature is in the way base64 and JSON are written.
            assert found.problem or found.statement == STATEMENT

    @given(st.binary(max_size=200) | st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda item: st.lists(item, max_size=3)
        | st.dictionaries(st.sampled_from(["payload", "payloadType", "signatures", "sig", "keyid"]), item),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode()))  # fmt: skip
    def test_hostile_bytes_are_unreadable_and_no_crash(self, data: bytes) -> None:
        found = signing.opened(data, [])
        assert (found.statement is None) == (found.problem == signing.Problem.UNREADABLE)
        assert found.problem

    def test_deep_and_huge_envelopes_are_unreadable(self) -> None:
        for data in (b"[" * 100_000, b" " * (signing.MOST_BYTES + 1)):
            assert signing.opened(data, []).problem == signing.Problem.UNREADABLE
