"""Tries on what is read as text: records, tags, signatures, keys, witnesses, what a reader has seen."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from lindley.ledger import signing
from lindley.ledger.record import Artifact, canonical, digest, parse
from lindley.model.declaration import Declaration
from lindley.verification import signatures
from lindley.verification.check import Checks, check
from lindley.verification.loading import Brought, checked_link
from tests.faults.attacks.table import Surface, refused, verdict
from tests.support.fakes import MemoryLedger, append, coins

NAME, HEAD = "coins", 3
DOCUMENTS = Surface("records and statements", "documents")
#: A name with marks that turn and hide text, a control sequence, and markup.
HOSTILE = "a\u202egpj.csv\u200b\x1b[2J<script>alert(1)</script>\x00\x9b31m"


@dataclass
class Documents:
    """A signed chain of three links in memory, a clone for each try, with keys and a folder."""

    ledger: MemoryLedger
    keys: Path
    folder: Path

    def write(self, data: bytes) -> str:
        """Put other bytes in the place of the newest record, with all tags to match; return the verdict."""
        run, version = self.ledger.run_of(NAME, HEAD), self.ledger.models[NAME].versions[HEAD]
        run.files[Artifact.RECORD] = data
        version.tags["lindley.record"] = run.tags["lindley.record"] = digest(data)
        return verdict(self.ledger, NAME)

    @property
    def record(self) -> bytes:
        return self.ledger.run_of(NAME, HEAD).files[Artifact.RECORD]

    @property
    def envelope(self) -> dict:
        found: dict = json.loads(self.ledger.run_of(NAME, HEAD).files[Artifact.SIGNATURE])
        return found

    def sign(self, data: bytes) -> str:
        """Put another envelope in the place of the newest one; return the rules that report it."""
        self.ledger.run_of(NAME, HEAD).files[Artifact.SIGNATURE] = data
        report = check(self.ledger, NAME, Checks(keys=(self.keys / "own.pub",))).report
        errors = sorted({finding.rule for finding in report.findings if finding.severity == "error"})
        return " ".join(["found", *errors]) if errors else "harmless: it verifies"


@contextmanager
def documents(declaration: Declaration, folder: Path) -> Iterator[Callable[[Path], Documents]]:
    """Make the chain once; give a function that returns the ground of one try."""
    keys = folder / "keys"
    for name in ("own", "thief"):
        signing.generate(keys / name)
    ledger = MemoryLedger()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(signing.KEY_VARIABLE, str(keys / "own"))
        for start in (0, 10, 20):
            append(ledger, declaration, coins(declaration, start))
    yield lambda scratch: Documents(ledger.clone(), keys, scratch)


# -- records ------------------------------------------------------------------------------------------

_EDITS: dict[str, Callable[[bytes], bytes]] = {
    "with one key twice, the last one genuine": lambda d: b'{"chain":"dice",' + d[1:],
    "with one key twice, the last one false": lambda d: d[:-1] + b',"chain":"dice"}',
    "behind a byte order mark": lambda d: b"\xef\xbb\xbf" + d,
    "in UTF-16": lambda d: d.decode().encode("utf-16"),
    "with a second document behind it": lambda d: d + d,
    "with a line feed behind it": lambda d: d + b"\n",
    "with NaN": lambda d: d.replace(b'"divergences":0', b'"divergences":NaN'),
    "with Infinity": lambda d: d.replace(b'"divergences":0', b'"divergences":Infinity'),
    "with 1e999": lambda d: d.replace(b'"divergences":0', b'"divergences":1e999'),
    "with an integer of 5,000 digits": lambda d: d.replace(b'"rows":4', b'"rows":4' + b"0" * 5000),
    "with a negative zero": lambda d: d.replace(b'"divergences":0', b'"divergences":-0'),
    "nested 200,000 deep": lambda d: b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
    "of 20 MB": lambda d: d[:-1] + b',"x":"' + b"y" * 20_000_000 + b'"}',
    "with a key in a look-alike form": lambda d: d.replace(b'"chain":', '"\uff43hain":'.encode()),
    "with a key that a normalisation would merge": lambda d: d[:-1] + ',"\u212aind":"update"}'.encode(),
    "with half of a surrogate pair": lambda d: d.replace(b'"origin":"', b'"origin":"\\ud800'),
    "with an escaped form of a plain letter": lambda d: d.replace(b'"chain":', b'"\\u0063hain":'),
    "as YAML": lambda _: b"schema: !!python/object/apply:os.system ['true']\n",
    "as a pickle": lambda _: (
        b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x04true\x94\x85\x94R\x94."
    ),
    "that is empty": lambda _: b"",
}


@DOCUMENTS.each("a record", _EDITS, "found R03")
def record(ground: Documents, edit: Callable[[bytes], bytes]) -> str:
    """Each is forged with all tags to match."""
    changed = edit(ground.record)
    assert changed != ground.record
    return ground.write(changed)


@DOCUMENTS.attempt("a hostile text as the origin of a batch, printed by the note and by `log`", "harmless")
def origin(ground: Documents) -> str:
    from lindley.ledger.history import history
    from lindley.names import for_terminal

    stated = parse(ground.record)
    stated["batch"]["origin"] = HOSTILE
    version = ground.ledger.models[NAME].versions[HEAD]
    version.tags["lindley.origin"] = HOSTILE
    ground.write(canonical(stated))
    shown = for_terminal(history(ground.ledger, NAME)[0].origin)
    assert shown.isprintable(), ascii(shown)
    return "harmless: it is shown escaped"


_TAGS = {
    "with a space behind": "lindley.record ",
    "in other case": "LINDLEY.RECORD",
    "with a Cyrillic letter": "lindley.rec\u043erd",
    "with a zero-width joiner": "lindley.\u200drecord",
}


@DOCUMENTS.each("a second tag like lindley.record,", _TAGS, "harmless")
def tag(ground: Documents, name: str) -> str:
    ground.ledger.models[NAME].versions[HEAD].tags[name] = "f" * 64
    found = verdict(ground.ledger, NAME)
    return "harmless: it is no tag of Lindley's" if found == "nothing" else found


_VALUES = {
    "as JSON nested 4,000 deep": "[" * 4000,
    "as JSON with NaN and 1e999": '{"r_hat_max":NaN,"log_score":1e999}',
    "as a number of 500,000 digits": "9" * 500_000,
    "as a hostile text": HOSTILE,
}


@DOCUMENTS.each("every tag of a version but its digest and status", _VALUES, "found R05")
def tags(ground: Documents, text: str) -> str:
    from lindley.ledger.history import history

    held = ground.ledger.models[NAME].versions[HEAD].tags
    for name in held.keys() - {"lindley.record", "lindley.status", "lindley.previous"}:
        held[name] = text
    refused(lambda: history(ground.ledger, NAME))  # it lists, or says in a sentence why not
    return verdict(ground.ledger, NAME)


# -- signatures and keys ------------------------------------------------------------------------------

_ENVELOPES: dict[str, tuple[str, Callable[[dict], object]]] = {
    "of another payload type": ("S02", lambda e: e | {"payloadType": "text/html"}),
    "whose payload was changed": ("S02", lambda e: e | {"payload": "e30="}),
    "without signatures": ("S03", lambda e: e | {"signatures": []}),
    "with the key's name and a false signature": (
        "S02",
        lambda e: e | {"signatures": [{"keyid": e["signatures"][0]["keyid"], "sig": "AA=="}]},
    ),
    "nested 100,000 deep": ("S02", lambda _: b"[" * 100_000),
    "of 20 MB": ("S02", lambda _: b" " * 20_000_000),
    "that is a list": ("S02", lambda e: [e]),
}


def _envelopes() -> None:
    for words, (rule, edit) in _ENVELOPES.items():

        def envelope(ground: Documents, edit: Callable[[dict], object]) -> str:
            made = edit(ground.envelope)
            return ground.sign(made if isinstance(made, bytes) else json.dumps(made).encode())

        DOCUMENTS.each("an envelope", {words: edit}, f"found {rule}")(envelope)


_envelopes()


@DOCUMENTS.attempt("an envelope with a second signature, by a stranger", "harmless")
def second_signature(ground: Documents) -> str:
    held = ground.envelope
    held["signatures"].append({"keyid": "0" * 64, "sig": "AA=="})
    return ground.sign(json.dumps(held).encode())


@DOCUMENTS.attempt("the newest link signed by a thief's key under the name of the genuine one", "found S02")
def stolen_name(ground: Documents) -> str:
    thief = signing.signer_from_environment({signing.KEY_VARIABLE: str(ground.keys / "thief")})
    assert thief is not None
    statement = signing.opened(json.dumps(ground.envelope).encode(), []).statement
    assert statement is not None
    made = json.loads(signing.sealed(statement, thief))
    made["signatures"][0]["keyid"] = ground.envelope["signatures"][0]["keyid"]
    return ground.sign(json.dumps(made).encode())


def _public(path: Path) -> str:
    return refused(lambda: signing.public_key(path))


@DOCUMENTS.attempt("a public key of another kind (RSA)", "refused")
def key_rsa(ground: Documents) -> str:
    text = generate_private_key(65537, 2048).public_key()
    path = ground.folder / "rsa.pub"
    path.write_bytes(text.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return _public(path)


@DOCUMENTS.attempt("a public key that is a link to /dev/zero", "refused")
def key_endless(ground: Documents) -> str:
    (ground.folder / "zero.pub").symlink_to("/dev/zero")
    return _public(ground.folder / "zero.pub")


@DOCUMENTS.attempt("a private key as a public one", "refused")
def key_private(ground: Documents) -> str:
    return _public(ground.keys / "own")


@DOCUMENTS.attempt("a private key that others can read", "refused")
def key_readable(ground: Documents) -> str:
    path = ground.folder / "key"
    path.write_bytes((ground.keys / "own").read_bytes())
    path.chmod(0o640)
    return refused(lambda: signing.signer_from_environment({signing.KEY_VARIABLE: str(path)}))


@DOCUMENTS.attempt("a key pair written over a link that somebody put there", "refused")
def key_over_link(ground: Documents) -> str:
    (ground.folder / "new").symlink_to(ground.folder / "elsewhere")
    outcome = refused(lambda: signing.generate(ground.folder / "new"))
    assert not (ground.folder / "elsewhere").exists()
    return outcome


@DOCUMENTS.attempt("a key pair under a umask that lets everyone read", "harmless")
def key_umask(ground: Documents) -> str:
    before = os.umask(0)
    try:
        signing.generate(ground.folder / "open")
    finally:
        os.umask(before)
    mode = (ground.folder / "open").stat().st_mode & 0o777
    return "harmless: mode 600" if mode == 0o600 else f"mode {mode:o}"


@DOCUMENTS.attempt("a private key of another kind (RSA), as the text of the variable", "refused")
def key_text(ground: Documents) -> str:
    key = generate_private_key(65537, 2048)
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return refused(lambda: signing.signer_from_environment({signing.KEY_VARIABLE: text}))


# -- witnesses and what was seen ----------------------------------------------------------------------


def _witnessed(ground: Documents, path: Path) -> str:
    return refused(lambda: check(ground.ledger, NAME, Checks(witnesses=(path,))).report.ok)


@DOCUMENTS.attempt("a witness that is a link to /dev/zero", "refused")
def witness_endless(ground: Documents) -> str:
    (ground.folder / "zero").symlink_to("/dev/zero")
    return _witnessed(ground, ground.folder / "zero")


@DOCUMENTS.attempt("a witness whose name has NUL", "refused")
def witness_nul(ground: Documents) -> str:
    return _witnessed(ground, Path("a\0b"))


@DOCUMENTS.attempt("a rolled-back store, with an unsigned witness of the older head", "found W01")
def witness_rolled_back(ground: Documents) -> str:
    older = ground.ledger
    del older.models[NAME].versions[HEAD]
    older.models[NAME].head = HEAD - 1
    for run in older.runs.values():
        run.tags.pop("lindley.state", None)
    path = ground.folder / "head.json"
    path.write_bytes(signatures.head_of(older, NAME, None))
    report = check(older, NAME, Checks(witnesses=(path,), keys=(ground.keys / "own.pub",))).report
    rules = sorted({finding.rule for finding in report.findings if finding.severity == "error"})
    return " ".join(["found", *rules])


_SEEN = {
    "nested 100,000 deep": "[" * 100_000,
    "with link 1e999": '{"link": 1e999, "record": "x"}',
    "with link -1, which would count from the other end": '{"link": -1, "record": "RECORD"}',
    "with link 0": '{"link": 0, "record": "RECORD"}',
    "with link true": '{"link": true, "record": "x"}',
}


@DOCUMENTS.each("the file of what a reader has seen", _SEEN, "refused")
def seen(ground: Documents, text: str) -> str:
    record = ground.ledger.models[NAME].versions[HEAD].tags["lindley.record"]
    (ground.folder / f"{NAME}.json").write_text(text.replace("RECORD", record))
    return refused(lambda: checked_link(ground.ledger, NAME, Brought(seen=ground.folder)).view.number)


@DOCUMENTS.attempt("the file of what a reader has seen is a link to another file", "harmless")
def seen_link(ground: Documents) -> str:
    target = ground.folder / "target"
    first = ground.ledger.models[NAME].versions[1].tags["lindley.record"]
    target.write_text(json.dumps({"link": 1, "record": first}))
    before = target.read_text()
    (ground.folder / f"{NAME}.json").symlink_to(target)
    checked_link(ground.ledger, NAME, Brought(seen=ground.folder))
    return "harmless: the other file stays" if target.read_text() == before else "the other file is changed"


@DOCUMENTS.attempt(
    "what was seen lies in a folder that is deleted between two readings",
    "threat model",
    "What a reader has seen",
)
def seen_deleted(ground: Documents) -> str:
    checked_link(ground.ledger, NAME, Brought(seen=ground.folder / "seen"))
    (ground.folder / "seen" / f"{NAME}.json").unlink()
    del ground.ledger.models[NAME].versions[HEAD]
    ground.ledger.models[NAME].head = HEAD - 1
    link = checked_link(ground.ledger, NAME, Brought(seen=ground.folder / "seen"))
    return "threat model: an older head is accepted" if link.view.number == HEAD - 1 else "noticed"
