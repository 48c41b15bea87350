"""Records: the canonical JSON documents whose sha256 is a link's identity.

docs/ledger-format.md specifies the fields; `GENESIS_SHAPE`, `LINK_SHAPE` and `PANEL_SHAPE` state
them as data (`lindley.shapes`). No field of a record is optional.
Canonical form is RFC 8785 (JCS).
"""

from __future__ import annotations

import hashlib
import json
import re
from enum import StrEnum
from typing import Any

import rfc8785

from lindley.errors import LedgerCorrupt
from lindley.shapes import ANY, misfits

SCHEMA = "lindley-record/1"


class Kind(StrEnum):
    """What a record records: the start of a chain, or how a link came about."""

    GENESIS = "genesis"
    UPDATE = "update"
    IMPORT = "import"
    REBASE = "rebase"
    RETRACT = "retract"
    CORRECT = "correct"
    ROLLBACK = "rollback"
    BRANCH = "branch"


class Status(StrEnum):
    """What became of a link: of its version, and in the end of its run.

    ``ACCEPTED`` and ``QUARANTINED``: the gate's assessment. ``CANDIDATE``: it passed, and a person decides.
    ``REJECTED``: a person's decision against another version. ``SUPERSEDED``: no link, another writer was
    first. Of runs without a version: ``ABANDONED`` (its writer died), ``CORRUPT`` (the store did not return
    what was written).
    """

    ACCEPTED = "accepted"
    QUARANTINED = "quarantined"
    CANDIDATE = "candidate"
    REJECTED = "rejected"
    SUPERSEDED = "superseded"
    ABANDONED = "abandoned"
    CORRUPT = "corrupt"


class Artifact(StrEnum):
    """Names of a link's files."""

    RECORD = "record.json"
    BATCH = "batch.parquet"
    TRACE = "trace.nc"
    SUMMARY = "summary.csv"
    MATCHED_PRIOR = "matched_prior.nc"
    MODEL = "model.py"
    AUDIT = "audit.csv"
    #: Of a panel: the members that changed, where each member's row is, and the roots of its buckets.
    #: The first two are among the files of the registered model, which predicts with them.
    MEMBERS = "belief/artifacts/rows.parquet"
    INDEX = "belief/artifacts/index.parquet"
    ROOTS = "members/roots.parquet"
    #: Of a panel: in which runs the registered model finds the members that the link did not change.
    POINTERS = "belief/artifacts/members.json"
    #: Draws of a panel's members, where the policy keeps some.
    DRAWS = "members/draws.parquet"
    #: The modules that the model imports and that belong to no installed distribution; only if there are any.
    MODULES = "modules.zip"
    SIGNATURE = "signature.dsse.json"
    #: Folder of the plots, which are drawn from the trace and not part of the record.
    PLOTS = "plots/"


#: What a version is registered as. Each of them has a run whose state is the same, or `SUPERSEDED`.
REGISTERED = (Status.ACCEPTED, Status.QUARANTINED, Status.CANDIDATE, Status.REJECTED)
#: Names of the plots.
PLOTS = ("prior_posterior", "ranks", "posterior_predictive", "audit")
#: Kinds of links that go to an earlier belief: they count what that one counts.
MOVES = (Kind.ROLLBACK, Kind.BRANCH)
#: Kinds of links that have a batch of their own.
WITH_BATCH = (Kind.UPDATE, Kind.CORRECT)
#: Kinds of links that a pull makes, which state what was pulled.
PULLED = (Kind.UPDATE, Kind.CORRECT, Kind.RETRACT)
#: Links at most that one amendment takes out: their digests must fit into a tag.
MOST_RETRACTED = 50
#: Quarantined batches at most that join one link, for the same reason.
MOST_JOINED = 50
DIGEST = re.compile(r"[0-9a-f]{64}")
#: What a person decides on a candidate.
APPROVED, REJECTED = "approved", "rejected"
VERDICT = re.compile(f"{APPROVED}|{REJECTED}")
_TEXTS = {ANY: str}
_NUMBERS = {ANY: float}
_DIGESTS = {ANY: DIGEST}

#: Row keys: how many, the content digest of their table, and the first of them as texts.
_KEYS = {"rows": int, "digest": DIGEST, "keys": [[str]]}
#: An attempt to sample the posterior, or a mode of it.
_ATTEMPT = {
    "of": str,
    "number": int,
    "start": str,
    "tune": int,
    "draws": int,
    "target_accept": float,
    "figures": _NUMBERS,
    "passed": bool,
}
#: What a link observed of its batch, and the state of the monitor after it.
_MONITOR = {
    "observed": {
        "pulls": _NUMBERS,
        "share": _NUMBERS,
        "conflict": (float, None),
        "fit": (float, None),
        "setting": str,
    },
    "state": {
        "links": int,
        "setting": str,
        "statistics": {
            ANY: {"links": int, "squares": float, "information": float, "wealth": [{ANY: float}]},
        },
        "alarm": ({"statistic": str, "kind": str, "sign": float, "link": int}, None),
    },
}
#: What is fixed for the life of a chain, as genesis and every link state it.
_FIXED_MODEL = {"digest": DIGEST, "carried": [str], "carry": _TEXTS, "constants": _NUMBERS}
GENESIS_SHAPE = {
    "schema": str,
    "kind": str,
    "chain": str,
    "previous": None,
    "prior": None,
    "model": _FIXED_MODEL | {"observed": [str], "row_key": [str], "context": int, "by": [str]},
    "branch": ({"chain": str, "record": DIGEST}, None),
}
#: What every link states, whether it holds one belief or those of a panel.
_COMMON = {
    "schema": str,
    "kind": str,
    "chain": str,
    "previous": DIGEST,
    "prior": DIGEST,
    "replayed": [DIGEST],
    "retracted": [DIGEST],
    "joined": [DIGEST],
    "source": (
        {"kind": str, "address": str, "version": _TEXTS, "since": (_TEXTS, None), "complete": bool},
        None,
    ),
    "decision": ({"candidate": DIGEST, "verdict": VERDICT, "who": str, "why": str}, None),
    "batch": (
        {
            "digest": DIGEST,
            "rows": int,
            "row_key": [str],
            "key_ranges": {ANY: [str]},
            "origin": str,
            "context": ({"rows": int, "digest": DIGEST}, None),
            "dropped": ({"rows": int, "digest": DIGEST, "links": [DIGEST]}, None),
            "changes": ({"revised": _KEYS, "added": _KEYS, "removed": _KEYS}, None),
            "object": ({"e_tag": str, "version": (str, None)}, None),
        },
        None,
    ),
    "policy": {
        "family": str,
        "refit_rows": int,
        "replay": int,
        "rebase_every": (int, None),
        "rebase_at_budget": (float, None),
        "rebase_at_drift": (float, None),
        "rebase_rows": int,
        "robust": float,
        "conflict": str,
        "join_quarantined": bool,
        "sampler": str,
        "approve": str,
        "approve_next": str,
        "forget": {ANY: dict},
    },
    "thresholds": {"r_hat": float, "ess": float, "divergences": float} | _NUMBERS,
    "metrics": _NUMBERS,
    "gate": {"passed": bool, "reasons": [str], "warnings": [str]},
    "libraries": _TEXTS,
    "artifacts": {ANY: DIGEST},
    "note": DIGEST,
}
_IMPORTS = {"imports": {"modules": _DIGESTS, "distributions": _TEXTS, "contents": _DIGESTS}}
LINK_SHAPE = _COMMON | {
    "prior_belief": (DIGEST, None),
    "model": _FIXED_MODEL
    | {"graph": str, "likelihood": _TEXTS, "genesis": {ANY: _TEXTS}, "inlined_constants": int}
    | _IMPORTS
    | {
        "structure": re.compile(r"([0-9a-f]{64})?"),
        "not_drawn": _TEXTS,
        "rows": {"add_up": (bool, None), "why": [str]},
    },
    "posterior": {
        "family": str,
        "reason": str,
        "moments": str,
        "shrinkage": float,
        "distances": _NUMBERS,
        "doubts": [str],
        "pooled": str,
        "coordinates": [
            {
                "name": str,
                "shape": [int],
                "value_shape": [int],
                "transform": str,
                "dims": [str],
                "labels": [[str]],
            }
        ],
        "matched": DIGEST,
        "draws": DIGEST,
    },
    "hindsight": {"in_sight": int, "unseen": {"mean": _NUMBERS, "log_sd": _NUMBERS, "rest": float}},
    "forgetting": dict,
    "monitor": (_MONITOR, None),
    "sampler": {ANY: (str, float)},
    "attempts": [_ATTEMPT],
}
PANEL_SHAPE = _COMMON | {
    "model": _FIXED_MODEL | _IMPORTS,
    "panel": {
        "by": [str],
        "root": DIGEST,
        "checkpoint": int,
        "written": int,
        "counts": dict.fromkeys(("members", "changed", "accepted", "quarantined", "withdrawn", "new"), int),
        "samplers": {ANY: int},
        "population": (DIGEST, None),
        "policy": {"quarantine_from": float, "new": str, "draws": int},
    },
}


def canonical(value: Any) -> bytes:
    """Return the canonical bytes of a record or another JSON value (RFC 8785)."""
    return bytes(rfc8785.dumps(value))


def digest(data: bytes) -> str:
    """Return the sha256 of bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def require_digest(what: str, expected: object, found: str, of: str = "sha256") -> None:
    """Refuse something that was read from a ledger and has another digest than the recorded one.

    Raises
    ------
    LedgerCorrupt
        If the digests differ.
    """
    if found != expected:
        raise LedgerCorrupt(f"{what} is not the recorded one", expected=f"{of} {expected}", found=found)


def parse(data: bytes) -> dict[str, Any]:
    """Read the bytes of a record.

    Raises
    ------
    LedgerCorrupt
        If the bytes are not the canonical form of a record of this schema and a known kind, with exactly
        the fields and types of its shape.
    """
    try:
        record = json.loads(data, parse_int=_number)
    except (ValueError, RecursionError) as error:
        raise _corrupt(f"no JSON ({type(error).__name__})") from error
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise _corrupt(f"schema {record.get('schema')!r}" if isinstance(record, dict) else "no object")
    if record.get("kind") not in list(Kind):
        raise _corrupt(f"kind {record.get('kind')!r}")
    wrong = list(misfits(record, _shape_of(record)))
    if wrong:
        raise _corrupt("; ".join(wrong[:5]))
    try:
        again = canonical(record)
    except (ValueError, RecursionError) as error:  # text that has no UTF-8 form is a plain ValueError
        raise _corrupt(f"values without a canonical form ({error})") from error
    if again != data:
        raise _corrupt("bytes that are not in canonical form")
    return record


def _shape_of(record: dict[str, Any]) -> dict[str, Any]:
    """Return the shape that a record must have."""
    if record["kind"] == Kind.GENESIS:
        return GENESIS_SHAPE
    return PANEL_SHAPE if "panel" in record else LINK_SHAPE


def genesis_record(chain: str, model: dict[str, Any], branch: dict[str, str] | None = None) -> dict[str, Any]:
    """Return the root record of a chain: its model, no data, no draws.

    Parameters
    ----------
    chain, model
        Name of the chain, and what is fixed for its life.
    branch
        Of a branch, ``chain`` and ``record`` of the link that it starts from.
    """
    return {
        "schema": SCHEMA,
        "kind": Kind.GENESIS,
        "chain": chain,
        "previous": None,
        "prior": None,
        "model": model,
        "branch": branch,
    }


def is_copied(record: dict[str, Any]) -> bool:
    """Whether a link has its prior's belief, without a fit of its own."""
    kind = record["kind"]
    return kind in MOVES or (kind == Kind.RETRACT and not record["replayed"])


def needs_approval(record: dict[str, Any]) -> bool:
    """Whether the policy wants a person's approval before this fit becomes the head.

    Beliefs that were not fitted here need none: a copy was the belief of a link before, and an import is a
    person's own command.
    """
    if record["kind"] == Kind.IMPORT or is_copied(record):
        return False
    limit = record["thresholds"].get("conflict_warn", 0.0)
    conflicts = record["metrics"].get("conflict_p", 1.0) < limit
    return {"always": True, "conflict": conflicts}.get(record["policy"]["approve"], False)


def status_of(record: dict[str, Any]) -> Status:
    """Return what a version of a record is registered as."""
    decision = record["decision"]
    if decision is not None:
        return Status.ACCEPTED if decision["verdict"] == APPROVED else Status.REJECTED
    if not record["gate"]["passed"]:
        return Status.QUARANTINED
    return Status.CANDIDATE if needs_approval(record) else Status.ACCEPTED


def _number(text: str) -> int | float:
    """Read an integer; one beyond 2^53 was a float when it was written."""
    return int(text) if len(text) < 16 else float(text)


def _corrupt(found: str) -> LedgerCorrupt:
    expected = f"the canonical JSON of a {SCHEMA} record"
    return LedgerCorrupt("A record cannot be read", expected=expected, found=found)
