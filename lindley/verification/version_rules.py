"""The verifier's rules on one version: what its record states against what is there.

Rules R05 to R12 and R15 to R18 of docs/ledger-format.md; those on what a link counts are in
`lindley.verification.counting_rules`, those on the chain as a whole in `lindley.verification.verifier`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from lindley.ledger.artifact_names import PLOTS, SIGNATURE
from lindley.ledger.chain import version_tags
from lindley.ledger.record import WITH_BATCH, Kind
from lindley.model.coordinates import Coordinates
from lindley.prior.triangular import ARRAYS
from lindley.seeds import derive_seed
from lindley.verification.case import Case, GatheredChain
from lindley.verification.counting_rules import ACT_CHECKS

#: Files that no record lists: what MLflow writes beside a belief when it is loaded from a local store, and
#: the signature, which is made over the record's digest (`lindley.verification.signatures` checks it).
_UNLISTED = frozenset({"belief/registered_model_meta", SIGNATURE})


def _tags(case: Case, chain: GatheredChain) -> Iterator[str]:
    expected = version_tags(case.record, case.evidence.version.record) | {"lindley.chain": chain.name}
    yield from _differences("tag", expected, case.evidence.version.tags)


def _artifacts(case: Case, _chain: GatheredChain) -> Iterator[str]:
    listed, held = case.record["artifacts"], case.evidence.artifacts
    for path in sorted(listed):
        if path not in held:
            yield f"artifact {path} is missing"
        elif held[path] != listed[path]:
            yield f"artifact {path}: sha256 {listed[path][:12]} expected, found {held[path][:12]}"
    # Plots are drawn from the trace after the record is written, and can be drawn again.
    for path in sorted(set(held) - set(listed) - _UNLISTED):
        if not path.startswith(PLOTS):
            yield f"artifact {path} is not in the record"


def _batch(case: Case, chain: GatheredChain) -> Iterator[str]:
    stated, item, root = case.record["batch"], case.evidence, chain.root()
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


def _posterior(case: Case, _chain: GatheredChain) -> Iterator[str]:
    stated, item = case.record["posterior"], case.evidence
    if item.matched is None:
        yield "the matched prior cannot be read"
    elif item.matched.digest != stated["matched"]:
        yield f"matched prior {stated['matched'][:12]} expected, found {item.matched.digest[:12]}"
    elif item.matched.coordinates.as_list() != stated["coordinates"]:
        yield "the matched prior's coordinates are not the record's"
    else:
        for name in ("family", "reason", "moments", "shrinkage"):
            if getattr(item.matched, name) != stated[name]:
                yield f"{name} {str(stated[name])[:40]} of the matched prior expected, found another"
    names = set(Coordinates.from_list(stated["coordinates"]).names)
    if stated["distances"] and set(stated["distances"]) != names:
        yield "the distances are not those of the coordinates"
    if {block["name"] for block in stated["coordinates"]} != set(case.record["model"]["carried"]):
        yield "the coordinates are not those of the carried variables"
    if item.draws_digest != stated["draws"]:
        yield f"draws {stated['draws'][:12]} expected, found {str(item.draws_digest)[:12]}"


def _matching(case: Case, _chain: GatheredChain) -> Iterator[str]:
    held, again = case.evidence.matched, case.evidence.rematched
    if held is None or case.evidence.draws_digest is None:
        return  # R08 says so
    if again is None:
        yield "the draws cannot be matched"
        return
    if held.moments == "information":
        return  # Prior and gradients are needed as well: only fitting again can tell.
    for name, one, two in zip(ARRAYS, held.arrays(), again.arrays(), strict=True):
        scale = np.abs(two).max(initial=0.0)
        # Another BLAS may sum in another order; a bent map comes from an iteration, which is less exact.
        exact = 1e-9 if again.map.normal else 1e-3
        if one.shape != two.shape or not np.allclose(one, two, rtol=exact, atol=exact * scale):
            yield f"{name} of the matched prior is not that of the draws"


def _order(case: Case, chain: GatheredChain) -> Iterator[str]:
    record = case.record
    if case.link and record["previous"] != case.previous:
        yield f"previous {str(case.previous)[:12]} expected, found {record['previous'][:12]}"
    if record["chain"] != chain.name:
        yield f"chain {chain.name} expected, found {record['chain']}"
    if record["prior"] != chain.genesis_digest and record["prior"] not in case.priors:
        yield f"prior {record['prior'][:12]} is no earlier link"


def _prior_used(case: Case, chain: GatheredChain) -> Iterator[str]:
    if not case.prior_is_readable(chain):
        return
    wanted = case.prior["posterior"]["matched"] if case.prior else None
    if case.record["prior_belief"] != wanted:
        yield f"prior belief {str(wanted)[:12]} expected, found {str(case.record['prior_belief'])[:12]}"


def _seed(case: Case, chain: GatheredChain) -> Iterator[str]:
    record = case.record
    if record["kind"] == "import" or (record["previous"] != chain.genesis_digest and case.before is None):
        return
    if case.copied:
        return  # R23 holds it against the link that was fitted
    if record["kind"] in WITH_BATCH and record["batch"] is None:
        return  # R07 says so
    batch = record["batch"]["digest"] if record["batch"] else record["kind"]
    start = case.before["posterior"]["matched"] if case.before else chain.genesis_digest
    wanted = str(derive_seed(start, batch, record["model"]["digest"]))
    if record["sampler"].get("seed") != wanted:
        yield f"seed {wanted} expected, found {record['sampler'].get('seed')}"


def _gate(case: Case, _chain: GatheredChain) -> Iterator[str]:
    metrics, limits, gate = case.record["metrics"], case.record["thresholds"], case.record["gate"]
    if case.link and not gate["passed"]:
        yield "a fit that failed the gate is a link"
    if case.record["kind"] == "import" or case.copied:
        return
    strict = case.record["policy"].get("conflict") == "quarantine"
    bad = [
        strict and metrics.get("conflict_p", 1.0) < limits.get("conflict_warn", 0.0),
        metrics.get("r_hat_max", np.inf) > limits["r_hat"],
        metrics.get("ess_bulk_min", 0) < limits["ess"],
        metrics.get("ess_tail_min", 0) < limits["ess"],
        metrics.get("divergence_rate", 1) > limits["divergences"],
    ]
    if gate["passed"] == any(bad) or gate["passed"] == bool(gate["reasons"]):
        yield f"gate {'passed' if gate['passed'] else 'refused'}, but the figures say otherwise"


def _budget(case: Case, chain: GatheredChain) -> Iterator[str]:
    record = case.record
    if record["kind"] == "import" or case.copied or not case.prior_is_readable(chain):
        return
    metrics = record["metrics"]
    yield from _accumulated(case)
    size = sum(math.prod(block["value_shape"]) for block in record["posterior"]["coordinates"])
    # A fit that did not move has no ESS, and then no budget either.
    ess = max(min(metrics.get("ess_bulk_min", np.nan), metrics.get("ess_tail_min", np.nan)), 1.0)
    # Calibration makes draws worth more, never less.
    ess = max(metrics.get("match_ess", ess), ess)
    before = case.prior["metrics"].get("budget", 0.0) if case.prior else 0.0
    wanted = before + (size + 1) / ess
    if not np.isclose(metrics.get("budget", np.nan), wanted, rtol=1e-9, equal_nan=True):
        yield f"budget {wanted:.6g} expected, found {metrics.get('budget')}"


def _accumulated(case: Case) -> Iterator[str]:
    """Whether the match is trusted, and what is counted along the chain."""
    record, metrics = case.record, case.record["metrics"]
    trusted = float(not record["posterior"]["doubts"])
    if metrics.get("trusted") != trusted:
        yield f"trusted {trusted:.0f} expected, found {metrics.get('trusted')}"
    before = case.prior["metrics"] if case.prior else {"trusted": 1.0}
    doubt = before.get("doubt", 0.0) + (before.get("trusted", 1.0) == 0)
    if metrics.get("doubt") != doubt:
        yield f"doubt {doubt:.0f} expected, found {metrics.get('doubt')}"
    if metrics.get("replayed") != len(record["replayed"]) - (record["kind"] not in WITH_BATCH):
        yield f"replayed {len(record['replayed'])} expected, found {metrics.get('replayed')}"
    base = case.prior if record["kind"] == Kind.CORRECT else case.before
    score = base["metrics"].get("log_score") if base else 0.0
    if record["batch"] and {"log_score", "log_predictive"} <= set(metrics) and score is not None:
        wanted = score + metrics["log_predictive"]
        if not np.isclose(metrics["log_score"], wanted, rtol=1e-9, atol=1e-9):
            yield f"log score {wanted:.6g} expected, found {metrics['log_score']}"


def _model(case: Case, chain: GatheredChain) -> Iterator[str]:
    stated = case.record["model"]["digest"]
    root = chain.root()
    if root is not None and case.record["model"]["constants"] != root["model"]["constants"]:
        yield "the frozen constants are not those of genesis"
    if case.evidence.model_digest != stated:
        yield f"model {stated[:12]} expected, found {str(case.evidence.model_digest)[:12]}"


def _run(case: Case, _chain: GatheredChain) -> Iterator[str]:
    item = case.evidence
    if item.run_tags is None or item.run_metrics is None:
        yield f"run {item.version.run_id or 'none'} is missing"
        return
    place = f"/{item.version.run_id}/artifacts/belief"
    if item.version.source and not item.version.source.rstrip("/").endswith(place):
        yield f"the version's source ends with {place} expected, found {item.version.source[-120:]!r}"
    wanted = {k: v for k, v in version_tags(case.record, item.version.record).items() if v}
    yield from _differences("run tag", wanted, item.run_tags)
    for name, value in case.record["metrics"].items():
        held = item.run_metrics.get(name)
        if held is None or not np.isclose(held, value, rtol=1e-12, atol=0):
            yield f"run metric {name}: {value!r} expected, found {held!r}"


def _differences(what: str, expected: dict[str, str], held: dict[str, str]) -> Iterator[str]:
    for name in sorted(expected):
        if held.get(name, "") != expected[name]:
            yield f"{what} {name}: {expected[name][:60]!r} expected, found {held.get(name, '')[:60]!r}"


CHECKS: dict[str, Callable[[Case, GatheredChain], Iterator[str]]] = {
    "R05": _tags,
    "R06": _artifacts,
    "R07": _batch,
    "R08": _posterior,
    "R09": _matching,
    "R10": _order,
    "R11": _prior_used,
    "R12": _seed,
    "R15": _gate,
    "R16": _budget,
    "R17": _model,
    "R18": _run,
    **ACT_CHECKS,
}
