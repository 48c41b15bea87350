"""Rules on what a link adds to those before it: batches, what it counts and takes out, what accumulates."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from lindley.batch.digest import content_digest, row_digests
from lindley.batch.row_keys import changes_between, order_of, ranges_disjoint
from lindley.ledger.lineage import last_rows
from lindley.ledger.record import WITH_BATCH, Artifact, Kind
from lindley.model.coordinates import Coordinates
from lindley.model.declaration import BY_CONTENT, BY_POSITION
from lindley.prior.belief import Audited
from lindley.verification.case import Case, GatheredChain
from lindley.verification.rules import rule

#: What a link that goes back to an earlier belief states anew; the rest is as its prior states it.
_ANEW = frozenset(
    {
        "schema",
        "kind",
        "chain",
        "previous",
        "prior",
        "prior_belief",
        "replayed",
        "retracted",
        "joined",
        "source",
        "batch",
        "decision",
        "note",
    }
)


@rule(
    "R07",
    "the batch has the content digest, rows, key ranges and context of the record",
    "changed batch, also where the file's digest in the record was changed with it",
)
def batch(case: Case, chain: GatheredChain) -> Iterator[str]:
    """Its row key is that of genesis. An update and a correct have a batch, other kinds have none. The
    context is the last rows of what counts before the batch.
    """
    stated, item, root = case.record["batch"], case.gathered, chain.root()
    kind = case.record["kind"]
    if (stated is None) == (kind in WITH_BATCH):
        yield f"a link of kind {kind} {'without' if stated is None else 'with'} a batch"
    if stated is None:
        return
    if root is not None and stated["row_key"] != root["model"]["row_key"]:
        yield f"the row key of genesis expected, found {', '.join(stated['row_key'])[:60]}"
    if item.batch is None:
        yield "the batch cannot be read"
        return
    if item.batch_digest != stated["digest"]:
        yield f"batch {stated['digest'][:12]} expected, found {str(item.batch_digest)[:12]}"
    if item.batch.num_rows != stated["rows"]:
        yield f"{stated['rows']} rows expected, found {item.batch.num_rows}"
    if item.key_ranges != stated["key_ranges"]:
        yield f"key ranges {stated['key_ranges']} expected, found {item.key_ranges}"
    if root is not None and case.link is not None:
        yield from _context(case, item.batch, root["model"]["context"])


def _context(case: Case, table: pa.Table, wanted: int) -> Iterator[str]:
    """Compare the context of a batch with the last rows before it, as many as genesis wants."""
    own = case.gathered.version.record
    before = case.counted[: case.counted.index(own)] if own in case.counted else case.counted
    tables = list[pa.Table]()
    for record in before if wanted else ():
        other = case.known(record)
        if other is None or other.gathered.batch is None:
            return  # R03 or R07 reports the one that cannot be read
        tables.append(other.gathered.batch)
    rows, stated = last_rows(reversed(tables), table, wanted), case.record["batch"]["context"]
    expected = {"rows": rows.num_rows, "digest": content_digest(rows)} if wanted else None
    if stated != expected:
        found = stated and stated["rows"]
        yield f"context of {expected and expected['rows']} rows expected, found {found} or other ones"


@rule("R13", "no link counts a batch twice", "a batch counted twice")
def batch_once(case: Case, _chain: GatheredChain) -> Iterator[str]:
    """No two batches that it counts have one digest, those of quarantined versions that joined included."""
    # Batches that some link counts together are also counted together by the link that brought the later one.
    for other, mine in _pairs(case):
        digest = mine.record["batch"]["digest"]
        if other.record["batch"]["digest"] == digest:
            yield f"batch {digest[:12]} is already counted in {_named(other)}"


@rule("R14", "no link counts two batches with one row key", "rows counted twice")
def rows_once(case: Case, _chain: GatheredChain) -> Iterator[str]:
    """Key ranges prove most pairs disjoint; the keys of the others are compared."""
    for other, mine in _pairs(case):
        shared = _shared_keys(other, mine)
        if shared:
            yield f"{shared} row keys of {_named(mine)} are also in {_named(other)}"


def _pairs(case: Case) -> Iterator[tuple[Case, Case]]:
    """Give each pair of a batch that a link counts and one that counts from it on."""
    if not case.link:
        return
    earlier = [other for other in case.others() if other.record["batch"]]
    for mine in case.brought():
        if mine.record["batch"]:
            yield from ((other, mine) for other in earlier)
            earlier.append(mine)


def _named(case: Case) -> str:
    """Name a link, or a quarantined version."""
    return f"link {case.link}" if case.link else f"version {case.gathered.version.number}"


def _shared_keys(one: Case, two: Case) -> int:
    """Return how many row keys two links share."""
    if ranges_disjoint(one.gathered.key_ranges or {}, two.gathered.key_ranges or {}):
        return 0
    key, sets = tuple(one.record["batch"]["row_key"]), list[set[Any]]()
    if key == BY_POSITION:
        return 0
    for table in (one.gathered.batch, two.gathered.batch):
        if table is None or not set(order_of(table, key)) <= set(table.column_names):
            return 0
        rows = row_digests(table) if key == BY_CONTENT else table.select(key).to_pylist()
        sets.append({json.dumps(row, default=str) for row in rows})
    return len(sets[0] & sets[1])


@rule(
    "R21",
    "the batches fitted again are those that the link counts and its prior does not",
    "a batch left out of a fit, counted twice by it, or fitted although it was taken out",
)
def replayed(case: Case, chain: GatheredChain) -> Iterator[str]:
    """What the link counts (section 6.1) begins with what `prior` counts; `replayed` names the rest without
    the link itself, each once and in order. A rebase starts from genesis or an import, and so has all
    batches.
    """
    record = case.record
    if record["kind"] == Kind.IMPORT or case.link is None:
        return
    known = len(case.counted_prior)
    if case.counted[:known] != case.counted_prior:
        yield "the prior counts batches that the link does not count, or in another order"
        return
    missing = [digest for digest in case.counted[known:] if digest != case.gathered.version.record]
    if record["replayed"] != missing:
        yield f"batches of {len(missing)} links since the prior expected, found {len(record['replayed'])}"
    if record["kind"] == Kind.REBASE and record["prior"] != chain.genesis_digest:
        kind = (case.prior or {}).get("kind")
        if kind != Kind.IMPORT:
            yield f"a pooled refit starts from genesis or an import, not from a link of kind {kind}"


@rule(
    "R22",
    "what a link takes out or leaves out is counted by the head before it",
    "an amendment of what does not count",
)
def amendments(case: Case, chain: GatheredChain) -> Iterator[str]:
    """`retracted` names what its kind allows (section 2.2); a quarantined version that it names has a lower
    number, and its batch is not counted by the head before. The links of `batch.dropped` are
    counted by the head before as well. A rollback goes to an earlier link; a link of kind `branch` starts
    from the one that genesis names.
    """
    if case.link is None:
        return
    record, gone = case.record, case.record["retracted"]
    held = case.waiting_before
    kind, stray = record["kind"], set(gone) - set(case.counted_before) - held
    fits = {
        Kind.RETRACT: len(gone) > 0,
        Kind.CORRECT: len(gone) > 0 and not held & set(gone),
        Kind.UPDATE: set(gone) <= held,
    }.get(kind, not gone)
    if not fits or len(set(gone)) != len(gone):
        yield f"a link of kind {kind} takes out {len(gone)} batches"
    for digest in sorted(stray):
        yield f"the head before it does not count link {digest[:12]}, which it takes out"
    dropped = (record["batch"] or {}).get("dropped") or {"links": []}
    for digest in sorted(set(dropped["links"]) - set(case.counted_before)):
        yield f"the head before it does not count link {digest[:12]}, whose rows were left out"
    if kind == Kind.ROLLBACK and record["prior"] not in case.earlier:
        yield "a rollback goes to no earlier link"
    start = (chain.branch() or {}).get("record")
    if kind == Kind.BRANCH and (record["prior"] != start or record["previous"] != start):
        yield "a branch starts from the link that its genesis names"


@rule(
    "R28",
    "a correction states which rows it revises, adds and removes",
    "a revised row that the record does not name",
)
def changed(case: Case, _chain: GatheredChain) -> Iterator[str]:
    """`batch.changes` follows from the batch and from those that it replaces, by row key; it is null in an
    update, and where no columns identify a row.
    """
    stated = case.record["batch"]
    if stated is None or case.link is None or case.gathered.batch is None:
        return
    key, found = tuple(stated["row_key"]), stated["changes"]
    olds = [case.known(digest) for digest in case.record["retracted"]]
    tables = [old.gathered.batch for old in olds if old is not None and old.gathered.batch is not None]
    corrects = case.record["kind"] == Kind.CORRECT
    if corrects and (len(tables) < len(olds) or not tables):
        return  # R03, R07 or R22 reports the one that cannot be read
    if not all(set(order_of(case.gathered.batch, key)) <= set(table.column_names) for table in tables):
        return
    changes = changes_between(case.gathered.batch, key, tables) if corrects else None
    if found != (changes and changes.as_dict()):
        rows = {name: found[name]["rows"] for name in found} if found else None
        yield f"other changes than those of its rows: {rows}"


@rule(
    "R26",
    "what joins a link was quarantined before it and does not count yet",
    "a version that joins twice, or was never refused",
)
def joining(case: Case, _chain: GatheredChain) -> Iterator[str]:
    """`joined` names, each once, quarantined updates with lower numbers whose records the head before it does
    not count; only an update does. R13 and R14 hold for their batches, R21 for their place in the fit.
    """
    named = case.record["joined"]
    if case.place is None or not named:
        return
    if case.record["kind"] != Kind.UPDATE:
        yield f"a link of kind {case.record['kind']} with quarantined batches"
    for digest in sorted(set(named) - {version.record for version in case.place.joined}):
        yield f"no version that was quarantined before it has the record {digest[:12]}"
    for digest in sorted(set(named) & set(case.counted_before)):
        yield f"the head before it counts {digest[:12]} already"
    if len(set(named)) != len(named):
        yield "a quarantined version is named twice"


@rule(
    "R23",
    "a belief without a fit of its own is that of its prior",
    "a rollback to a belief that the chain never had",
)
def copied(case: Case, _chain: GatheredChain) -> Iterator[str]:
    """Record and artifacts of a copy are those of its prior (section 2.2)."""
    if not case.copied or case.prior is None:
        return  # R03, R10 and R22 report why
    record, prior = case.record, case.prior
    for name in sorted(record.keys() - _ANEW - {"artifacts"}):
        if record[name] != prior[name]:
            yield f"{name} is not that of the link whose belief it has"
    files = {path: held for path, held in prior["artifacts"].items() if path != Artifact.BATCH}
    if record["artifacts"] != files:
        yield "the artifacts are not those of the link whose belief it has"


@rule("R16", "what accumulates along the chain is that of the link before plus this fit's", "edited metrics")
def accumulated(case: Case, chain: GatheredChain) -> Iterator[str]:
    """`budget` is the prior link's plus (d + 1) over the larger of `match_ess` and ESS (with several modes
    over `match_ess`); `doubt` is the prior link's plus one if that one was not trusted; `modes_lost` is the
    prior link's, or one more; `trusted` is 1 if there are no doubts; `replayed` is the number of batches
    named; `log_score` is that of the head before (in a correct: of the prior link) plus `log_predictive`;
    hindsight keeps at most one match more in sight than the prior link, none after genesis, and states the
    harm of the others by coordinate; `unmeasured` is the prior link's or one more, 0 after genesis; what the
    last pooled refit measured of such matches is that of the head before, or this rebase's;
    `unmeasured_error` and `stated_error` follow from these, `drift` and `monte_carlo_error`. Not checked on
    imports and copies.
    """
    if not case.fitted or not case.prior_is_readable(chain):
        return
    record, metrics, prior = case.record, case.record["metrics"], case.prior
    before = prior["metrics"] if prior else {"trusted": 1.0}
    own_batch = record["kind"] in WITH_BATCH
    expected = {
        "trusted": float(not record["posterior"]["doubts"]),
        "doubt": before.get("doubt", 0.0) + (before.get("trusted") == 0),
        "replayed": len(record["replayed"]) - (not own_batch),
    }
    for name, wanted in expected.items():
        if metrics.get(name) != wanted:
            yield f"{name} {wanted:.0f} expected, found {metrics.get(name)}"
    lost, least = metrics.get("modes_lost", 0.0), before.get("modes_lost", 0.0)
    if not least <= lost <= least + 1:
        yield f"modes lost {least:.0f} or {least + 1:.0f} times expected, found {lost}"
    wanted = before.get("budget", 0.0) + _budget_of(record)
    if not np.isclose(metrics.get("budget", np.nan), wanted, rtol=1e-9, equal_nan=True):
        yield f"budget {wanted:.6g} expected, found {metrics.get('budget')}"
    yield from _hindsight(record, prior)
    yield from _unmeasured(record, prior, case.before)
    base = prior if record["kind"] == Kind.CORRECT else case.before
    score = base["metrics"].get("log_score") if base else 0.0
    if record["batch"] and {"log_score", "log_predictive"} <= set(metrics) and score is not None:
        wanted = score + metrics["log_predictive"]
        if not np.isclose(metrics["log_score"], wanted, rtol=1e-9, atol=1e-9):
            yield f"log score {wanted:.6g} expected, found {metrics['log_score']}"


def _hindsight(record: dict[str, Any], prior: dict[str, Any] | None) -> Iterator[str]:
    """Describe what is stated of earlier matches and cannot be."""
    found = record["hindsight"]
    most = prior["hindsight"]["in_sight"] + 1 if prior else 0
    if not 0 <= found["in_sight"] <= most:
        yield f"at most {most} matches in sight expected, found {found['in_sight']}"
    names = set(Coordinates.from_list(record["posterior"]["coordinates"]).names)
    if not {*found["unseen"]["mean"], *found["unseen"]["log_sd"]} <= names:
        yield "harm of matches out of sight is stated of other coordinates"


def _unmeasured(
    record: dict[str, Any], prior: dict[str, Any] | None, before: dict[str, Any] | None
) -> Iterator[str]:
    """Describe what is stated of matches that hindsight could not measure and cannot be."""
    metrics, base = record["metrics"], prior["metrics"].get("unmeasured", 0.0) if prior else 0.0
    found = metrics.get("unmeasured")
    if found not in ({base, base + 1} if prior else {0.0}):
        yield f"{base:.0f} unmeasured matches expected, or one more after a link, found {found}"
        return
    earlier = before["metrics"] if before else {}
    audited, wanted = Audited.of(metrics), Audited.of(earlier)
    if record["kind"] == Kind.REBASE and earlier.get("unmeasured"):
        ratios = (max(metrics.get(f"audit_sd_ratio_{end}", 1.0), 1e-300) for end in ("min", "max"))
        most = max(metrics.get("audit_error", 0.0), *(abs(np.log(ratio)) for ratio in ratios))
        noise = np.hypot(*(of.get("monte_carlo_error", 0.0) for of in (earlier, metrics)))
        least = Audited.measured(0.0, noise, int(earlier["unmeasured"]), wanted).error
        if audited is None or not (
            audited.matches == earlier["unmeasured"]
            and least * (1 - 1e-9) <= audited.error <= max(least, most) * (1 + 1e-9)
            and np.isclose(audited.monte_carlo, noise, rtol=1e-9)
        ):
            yield (
                f"an error of {least:.6g} to {max(least, most):.6g} by {earlier['unmeasured']:.0f} matches "
                f"expected, with a Monte Carlo error of {noise:.6g}, found {audited}"
            )
    elif audited != wanted:
        yield f"the last audit's {wanted} expected, found {audited}"
    yield from _stated(metrics, audited, int(found))


def _stated(metrics: dict[str, float], audited: Audited | None, matches: int) -> Iterator[str]:
    """Describe what does not follow from what was measured of matches, and from Monte Carlo error."""
    expected = audited.expected(matches) if audited is not None and matches else None
    if metrics.get("unmeasured_error") != expected:
        yield f"an unmeasured error of {expected} expected, found {metrics.get('unmeasured_error')}"
    if "stated_error" not in metrics:
        return
    if matches and audited is None:
        yield "an error is stated, but matches behind the link were never measured"
        return
    own = metrics.get("monte_carlo_error", np.nan)
    wanted = metrics.get("drift", 0.0) + (audited.bound(matches, own) if audited is not None else own)
    if not np.isclose(metrics["stated_error"], wanted, rtol=1e-9):
        yield f"a stated error of {wanted:.6g} expected, found {metrics['stated_error']:.6g}"


def _budget_of(record: dict[str, Any]) -> float:
    """Return what one fit adds to the budget: (d + 1)/ESS, NaN without an ESS."""
    metrics = record["metrics"]
    size = sum(math.prod(block["value_shape"]) for block in record["posterior"]["coordinates"])
    # A fit that did not move has no ESS, and then no budget either.
    ess = max(min(metrics.get("ess_bulk_min", np.nan), metrics.get("ess_tail_min", np.nan)), 1.0)
    stated = metrics.get("match_ess", ess)
    # Calibration makes draws worth more, never less; the weights of several modes have an ESS of their own.
    return float((size + 1) / (max(stated, ess) if metrics.get("modes", 1.0) <= 1 else stated))
