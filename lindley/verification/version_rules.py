"""Rules on one version: what its record states against what is there.

Those on what a link counts are in `lindley.verification.counting_rules`, those on the chain as a whole in
`lindley.verification.chain_rules`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from lindley.addresses import public
from lindley.inference.diagnostics.monitor import Observation, moved, watched
from lindley.inference.sampling import APPROXIMATION, CHANGED
from lindley.ledger.chain import DECISION_TAGS, version_tags
from lindley.ledger.record import PLOTS, PULLED, WITH_BATCH, Artifact, Kind, canonical, digest
from lindley.ledger.writing import whole_note
from lindley.model.code.digests import model_digest
from lindley.model.coordinates import Coordinates
from lindley.report.note import without_foot
from lindley.seeds import derive_seed
from lindley.verification.case import Case, GatheredChain
from lindley.verification.rules import At, Severity, rule

#: Files that no record lists: plots, what MLflow writes beside a belief when it is loaded from a local store,
#: and the signature over the record's digest, which the signature rules check.
_PLOTS = frozenset(f"{Artifact.PLOTS}{name}.png" for name in PLOTS)
_UNLISTED = frozenset({"belief/registered_model_meta", Artifact.SIGNATURE})


@rule(
    "R05",
    "the version's tags are those of its record",
    "changed tag: status, previous, prior, batch, metrics, ...",
)
def tags(case: Case, chain: GatheredChain) -> Iterator[str]:
    """Section 5 derives them."""
    expected = version_tags(case.record, case.gathered.version.record) | {"lindley.chain": chain.name}
    expected = dict.fromkeys(DECISION_TAGS, "") | expected
    yield from _differences("tag", expected, case.gathered.version.tags)


@rule(
    "R06",
    "every artifact of the record is there with its digest, and no other but plots by their names",
    "changed, lost or added file",
)
def artifacts(case: Case, _chain: GatheredChain) -> Iterator[str]:
    """Files that the record does not list: `signature.dsse.json`, `belief/registered_model_meta`, and
    `plots/NAME.png` with the names of section 4.
    """
    listed, held = case.record["artifacts"], case.gathered.artifacts
    if case.gathered.vouched:  # of the files, only the batch was read
        listed = {path: digest for path, digest in listed.items() if path == Artifact.BATCH}
    for path in sorted(listed):
        if path not in held:
            yield f"artifact {path} is missing"
        elif held[path] != listed[path]:
            yield f"artifact {path}: sha256 {listed[path][:12]} expected, found {held[path][:12]}"
    # Plots are drawn from the trace after the record is written, and can be drawn again.
    for path in sorted(set(held) - set(listed) - _UNLISTED):
        if path not in _PLOTS:
            yield f"artifact {path} is not in the record"


@rule(
    "R08",
    "the draws and the matched prior have the digests of the record",
    "changed posterior, also where the digests of its files in the record were changed with it",
)
def posterior(case: Case, _chain: GatheredChain) -> Iterator[str]:
    """The matched prior also has the coordinates, family, reason, moments and shrinkage of the record and
    covers the carried variables; the distances are those of the coordinates.
    """
    stated, item = case.record["posterior"], case.gathered
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


@rule(
    "R09",
    "the matched prior is what its family gives on the draws",
    "a matched prior that does not follow from the draws",
)
def matching(case: Case, _chain: GatheredChain) -> Iterator[str]:
    """Recomputed from draws and weights, it equals the stored one to 1e-9 relative to each array's largest
    entry, 1e-3 where it is not normal. Not checked where `moments` is `information`.
    """
    held, again = case.gathered.matched, case.gathered.rematched
    if held is None or case.gathered.draws_digest is None:
        return  # R08 reports it
    if again is None:
        yield "the draws cannot be matched"
        return
    if held.moments == "information":
        return  # This needs prior and gradients as well: only reproducing the fit can check it.
    if held.arrays().keys() != again.arrays().keys():
        yield "the matched prior is of another family than its draws"
        return
    for (name, one), two in zip(held.arrays().items(), again.arrays().values(), strict=True):
        scale = np.abs(two).max(initial=0.0)
        # Another BLAS may sum in another order; a triangular map that is not linear comes from an iteration,
        # which is less exact.
        exact = 1e-9 if again.map.normal or name == "weights" else 1e-3
        if one.shape != two.shape or not np.allclose(one, two, rtol=exact, atol=exact * scale):
            yield f"{name} of the matched prior is not that of the draws"


@rule(
    "R10",
    "the link's previous is the head before it, and its prior is an earlier link",
    "spliced or reordered links",
)
def order(case: Case, chain: GatheredChain) -> Iterator[str]:
    """The prior may also be genesis; `chain` is this chain."""
    record, head = case.record, case.gathered.version.previous  # a version on another head is no link
    if case.link and record["previous"] != head:
        yield f"previous {head[:12]} expected, found {record['previous'][:12]}"
    if record["chain"] != chain.name:
        yield f"chain {chain.name} expected, found {record['chain']}"
    if record["prior"] != chain.genesis_digest and record["prior"] not in case.earlier:
        yield f"prior {record['prior'][:12]} is no earlier link"


@rule(
    "R11", "the prior that was used is the posterior of the prior link", "a fit on another prior than stated"
)
def prior_used(case: Case, chain: GatheredChain) -> Iterator[str]:
    """`prior_belief` is that link's `posterior.matched`; null after genesis."""
    if not case.prior_is_readable(chain):
        return
    wanted = case.prior["posterior"]["matched"] if case.prior else None
    if case.record["prior_belief"] != wanted:
        yield f"prior belief {str(wanted)[:12]} expected, found {str(case.record['prior_belief'])[:12]}"


@rule("R12", "the seed is derived from the head's, the batch's and the model's digests", "a chosen seed")
def seed(case: Case, chain: GatheredChain) -> Iterator[str]:
    """Section 3.6 gives the formula; a copy has none of its own."""
    record = case.record
    if not case.fitted or (record["previous"] != chain.genesis_digest and case.before is None):
        return  # R23 compares a copy with the link that was fitted
    if record["kind"] in WITH_BATCH and record["batch"] is None:
        return  # R07 reports it
    batch = record["batch"]["digest"] if record["batch"] else record["kind"]
    start = case.before["posterior"]["matched"] if case.before else chain.genesis_digest
    wanted = str(derive_seed(start, batch, record["model"]["digest"]))
    if record["sampler"].get("seed") != wanted:
        yield f"seed {wanted} expected, found {record['sampler'].get('seed')}"


@rule(
    "R15",
    "the gate's assessment follows from the metrics and thresholds, and only fits that passed, or that a "
    "person approved, are links",
    "an assessment that was edited, or does not follow",
)
def gate(case: Case, _chain: GatheredChain) -> Iterator[str]:
    """It also follows from the policy on conflicts. What is stated of each attempt to sample follows from the
    thresholds too, and the attempt that was kept has the sampler's settings, and in a posterior of one mode
    the figures of the metrics. Independent draws are within the limits of their certificate, and the policy
    asks for them. Imports and copies: only that links passed.
    """
    metrics, limits, found = case.record["metrics"], case.record["thresholds"], case.record["gate"]
    if case.link and not found["passed"] and case.record["decision"] is None:
        yield "a fit that failed the gate is a link"
    if not case.fitted:
        return
    strict = case.record["policy"]["conflict"] == "quarantine"
    bad = [
        strict and metrics.get("conflict_p", 1.0) < limits.get("conflict_warn", 0.0),
        *_beyond(metrics, limits),
    ]
    if found["passed"] == any(bad) or found["passed"] == bool(found["reasons"]):
        yield f"gate {'passed' if found['passed'] else 'refused'}, but the metrics contradict it"
    yield from _attempts(case.record)
    yield from certificate_of(case.record["sampler"], case.record["policy"])


def certificate_of(sampler: dict[str, Any], policy: dict[str, Any]) -> Iterator[str]:
    """Compare the certificate of independent draws with its limits, and their use with the policy."""
    auto = policy["sampler"] == "auto"
    if sampler.get("sampler") != APPROXIMATION:
        if auto == ("declined" not in sampler):
            yield "why independent draws were not accepted is stated where none were tried, or left out"
        return
    if not auto:
        yield "independent draws, which the policy does not ask for"
    names = ("k_hat", "k_hat_limit", "efficiency", "efficiency_limit")
    found = [sampler.get(name) for name in names]
    k_hat, most, efficiency, least = (x if isinstance(x, int | float) else np.nan for x in found)
    if not (k_hat < most and efficiency >= least):
        yield "independent draws were accepted beyond the limits of their certificate"


def _attempts(record: dict[str, Any]) -> Iterator[str]:
    """Compare what was tried with the thresholds, the sampler's settings and the metrics."""
    sampler, metrics, limits = record["sampler"], record["metrics"], record["thresholds"]
    tried = record["attempts"]
    for one in tried:
        if one["passed"] == any(_beyond(one["figures"], limits)):
            found = "passed" if one["passed"] else "failed"
            yield f"attempt {one['number']} {found}, but its figures contradict it"
        if one["number"] > sampler.get("attempts", 0):
            yield f"attempt {one['number']} of {sampler.get('attempts')}"
    kept = [one for one in tried if one["of"] in ("", "part 0") and one["number"] == sampler.get("attempt")]
    if not kept or any(kept[0][name] != sampler.get(name) for name in CHANGED):
        yield "the attempt that was kept is not stated, or has other settings than the sampler"
    elif metrics.get("modes", 1.0) <= 1 and all(one["of"] == "" for one in tried):
        names = ("r_hat_max", "ess_bulk_min", "ess_tail_min", "divergence_rate")
        if any(kept[0]["figures"].get(name) != metrics.get(name) for name in names):
            yield "the attempt that was kept has other figures than the metrics"


def _beyond(figures: dict[str, float], limits: dict[str, float]) -> list[bool]:
    """Return which diagnostics of a fit are beyond the gate's thresholds."""
    return [
        figures.get("r_hat_max", np.inf) > limits["r_hat"],
        figures.get("ess_bulk_min", 0) < limits["ess"],
        figures.get("ess_tail_min", 0) < limits["ess"],
        figures.get("divergence_rate", 1) > limits["divergences"],
    ]


@rule(
    "R25",
    "the monitor's state follows from the state before and what the link observed",
    "an alarm that was edited away, an observation that was changed",
)
def monitored(case: Case, chain: GatheredChain) -> Iterator[str]:
    """The state before is that of the head before an update; in another fit of a single batch it is that of
    the prior link. Other fits, and those from genesis, begin without one. The metric `moving` is 1 if an
    alarm stands. Not checked on imports and copies.
    """
    if not case.fitted or not case.prior_is_readable(chain):
        return
    record, prior = case.record, case.prior
    if record["kind"] == Kind.UPDATE:
        if case.before is None and record["previous"] != chain.genesis_digest:
            return  # R10 and R03 report it
        prior = case.before
    elif len(record["replayed"]) + (record["kind"] in WITH_BATCH) != 1:
        prior = None
    found = record["monitor"] or {}
    if prior is None:
        if found or "moving" in record["metrics"]:
            yield "a monitor's state without a belief before it"
        return
    if not found:
        yield "no monitor's state, but a belief before the batch"
        return
    wanted = watched(prior["monitor"] or {}, Observation.of(found["observed"]))
    if found != json.loads(canonical(wanted)):
        yield "the monitor's state does not follow from the one before and the observation"
    moving = float(moved(wanted) is not None)
    if record["metrics"].get("moving") != moving:
        yield f"moving {moving:.0f} expected, found {record['metrics'].get('moving')}"


@rule(
    "R17",
    "the model's code is the code that is recorded, and its constants are those of genesis",
    "changed `model.py`, changed, lost or added modules, changed constants",
)
def model(case: Case, chain: GatheredChain) -> Iterator[str]:
    """The stored code, modules included, has the digest `model.digest` (section 3.4)."""
    stated, modules = case.record["model"]["digest"], case.record["model"]["imports"]["modules"]
    held = case.gathered
    root = chain.root()
    if root is not None and case.record["model"]["constants"] != root["model"]["constants"]:
        yield "the frozen constants are not those of genesis"
    if held.modules != modules:
        names = sorted(name for name, _ in set(modules.items()) ^ set((held.modules or {}).items()))
        yield f"the stored modules are not those of the record: {', '.join(dict.fromkeys(names))[:200]}"
    found = model_digest(held.source, modules) if held.source is not None else None
    if found != stated:
        yield f"model {stated[:12]} expected, found {str(found)[:12]}"


@rule(
    "R29",
    "what was pulled continues from a version of the source that the chain had in full",
    "a gap between two versions of a source, a password in its address",
)
def pulled(case: Case, _chain: GatheredChain) -> Iterator[str]:
    """`source` is null in kinds that no pull makes. `source.since`, if there is one, is the `source.version`
    of an earlier record with the same `address` whose `complete` is true: of a link, or of a quarantined
    version whose batch joined one. The address has no user and no password.
    """
    found, kind = case.record["source"], case.record["kind"]
    if found is None or case.place is None:
        return
    if kind not in PULLED:
        yield f"a link of kind {kind} with a source"
    if public(found["address"]) != found["address"]:
        yield "the address of the source has a user or a password"
    before = [*case.earlier.values(), *case.refused.values()]
    if found["since"] is None or None in before:
        return
    stated = [known.record["source"] for known in before if known is not None and known.record["source"]]
    wanted = (found["address"], found["since"], True)
    if wanted not in [(other["address"], other["version"], other["complete"]) for other in stated]:
        yield f"no earlier link completes the version {str(found['since'])[:80]} of the source"


@rule(
    "R18",
    "the run is there, the version is made from it, and its tags and metrics are the record's",
    "lost run, version pointed elsewhere, changed run tag or metric",
)
def run(case: Case, _chain: GatheredChain) -> Iterator[str]:
    """The version's `source`, and the place from which MLflow loads it, is the `belief/` of the run."""
    item = case.gathered
    if item.run_tags is None or item.run_metrics is None:
        yield f"run {item.version.run_id or 'none'} is missing"
        return
    place = f"/{item.version.run_id}/artifacts/belief"
    for what, address in (("source", item.version.source), ("place to load from", item.loaded_from)):
        if address and not address.rstrip("/").endswith(place):
            yield f"the version's {what} ends with {place} expected, found {address[-120:]!r}"
    wanted = {k: v for k, v in version_tags(case.record, item.version.record).items() if v}
    yield from _differences("run tag", wanted, item.run_tags)
    for name, value in case.record["metrics"].items():
        held = item.run_metrics.get(name)
        if held is None or not np.isclose(held, value, rtol=1e-12, atol=0):
            yield f"run metric {name}: {value!r} expected, found {held!r}"


@rule(
    "R32",
    "charts, parameters, notes and logged models, which people read, are those of the record and its table",
    "changed metric `mean/*`, parameter, note of a run, description of a version or logged model",
)
def shown(case: Case, _chain: GatheredChain) -> Iterator[At]:
    """Each finding is a *warning*: nothing is computed from them. Metrics by parameter and the run's
    parameters follow from `record.json` and `summary.csv`; section 5 states what a note consists of; a logged
    model states the record's digest.
    """
    item = case.gathered
    addresses = {"flow run": (item.run_tags or {}).get("lindley.flow_run_url", "")}
    for what, text in (("note of the run", item.run_note), ("description", item.version.description)):
        if text is None:
            continue  # R18 reports that there is no run
        body = without_foot(text)
        if digest(body.encode("utf-8", "surrogatepass")) != case.record["note"]:
            message = f"the {what} is not the one that the record states"
        elif text != whole_note(body, case.record, item.version.record, addresses):
            message = f"the digests below the {what} are not those of the record"
        else:
            continue
        yield At(message, case.link, item.version.number, Severity.WARNING)
    for what, wanted, held in (
        ("run parameter", item.parameters or {}, item.run_params),
        ("run metric", item.charts or {}, item.run_metrics),
    ):
        for name in sorted(wanted):
            if held is not None and held.get(name) != wanted[name]:
                message = f"{what} {name}: {wanted[name]!r:.60} expected, found {held.get(name)!r:.60}"
                yield At(message, case.link, item.version.number, Severity.WARNING)
    for model, stated in sorted(item.run_models.items()):
        if stated != item.version.record:
            message = (
                f"logged model {model}: record {item.version.record[:12]} expected, found {stated[:12]!r}"
            )
            yield At(message, case.link, item.version.number, Severity.WARNING)


def _differences(what: str, expected: dict[str, str], held: dict[str, str]) -> Iterator[str]:
    for name in sorted(expected):
        if held.get(name, "") != expected[name]:
            yield f"{what} {name}: {expected[name][:60]!r} expected, found {held.get(name, '')[:60]!r}"
