"""Rules on one link of a panel: its members against its rows, its batch, its root, and the link before.

They take the place of the rules on a link with one belief (`NOT_OF_PANELS`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lindley.batch.digest import content_digest
from lindley.inference.diagnostics.gate import Thresholds
from lindley.ledger.record import Artifact, Kind
from lindley.model.declaration import BY_CONTENT, BY_POSITION
from lindley.model.policy import PanelPolicy
from lindley.panel.index import BUCKETS, Index, roots_table
from lindley.panel.key import MemberKey
from lindley.panel.members import split_by
from lindley.panel.replay import Members
from lindley.panel.row import ACCEPTED, QUARANTINED, WITHDRAWN, MemberRow
from lindley.panel.serving.stored import pointers_of
from lindley.panel.summary import counts_of, gate_of, metrics_of, samplers_of
from lindley.seeds import derive_seed
from lindley.verification.case import Case, GatheredChain
from lindley.verification.rules import rule
from lindley.verification.version_rules import certificate_of

#: Rules on a belief, its draws and what accumulates: a panel has them by member.
NOT_OF_PANELS = frozenset({"R08", "R09", "R11", "R12", "R14", "R15", "R16", "R25"})
#: Members that one finding names.
_NAMED = 3


@rule(
    "P01",
    "the tables of a panel can be read, and each member is in it once",
    "a damaged table, a member that is there twice",
)
def tables(case: Case, chain: GatheredChain) -> Iterator[str]:
    """The columns of the members' key are those of genesis. Rows are sorted by key; each key is canonical and
    has these columns. Each row is of the link itself.
    """
    files, by = case.gathered.panel, case.record["panel"]["by"]
    root = chain.root()
    if root is not None and by != root["model"]["by"]:
        yield f"members by {', '.join(root['model']['by'])} expected, found {', '.join(by)[:60]}"
    for name in ("rows", "entries", "roots"):
        if getattr(files, name, None) is None:
            yield f"the table of {name} cannot be read"
    rows = _rows(case)
    keys = [row.key.canonical for row in rows]
    if keys != sorted(set(keys)):
        yield "the members are not sorted by key, or one is there twice"
    wrong = [row for row in rows if row.link != case.number or {n for n, _ in row.key.values} != set(by)]
    if wrong and not case.copied:
        yield f"rows of another link or with other columns: {_named(wrong)}"


@rule(
    "P02",
    "the root is that of all members' leaves",
    "a changed member or leaf, also where the digests of files were changed with it; a changed root",
)
def root_of_all(case: Case, _chain: GatheredChain) -> Iterator[str]:
    """It is computed from the rows of all links (section 12.2); so are the roots of the buckets."""
    members, files = case.members, case.gathered.panel
    if members is None or files is None:
        return  # P01 or R03 reports it, here or in a link before
    if members.index.root.hex() != case.record["panel"]["root"]:
        yield f"root {members.index.root.hex()[:12]} expected, found {case.record['panel']['root'][:12]}"
    if files.roots is not None and not files.roots.equals(roots_table(members.index.roots)):
        yield f"the roots of the {BUCKETS:,} buckets are not those of the members"


@rule("P03", "the index points at the newest row of each member", "a changed pointer, a lost member")
def pointers(case: Case, _chain: GatheredChain) -> Iterator[str]:
    """It holds what changed since the checkpoint, or all members (section 12.3), with leaf, link, status,
    conflict and sampler of the row.
    """
    members, files, stated = case.members, case.gathered.panel, case.record["panel"]
    if members is None or files is None or files.entries is None:
        return
    index: Index = members.index
    if not files.entries.equals(index.own):
        yield f"{index.own.num_rows:,} entries expected, found {files.entries.num_rows:,}, or others"
    if (stated["checkpoint"], stated["written"]) != (index.checkpoint_link, index.written):
        yield f"a checkpoint in link {index.checkpoint_link} expected, found {stated['checkpoint']}"


@rule(
    "P04",
    "each member follows from its row before: prior leaf, prior belief, and the belief that it keeps",
    "a prior that the member never had, a quarantined member with another belief",
)
def priors(case: Case, _chain: GatheredChain) -> Iterator[str]:
    """`prior` is the leaf before and `before` its link, null for a new member. In an update the fit starts
    from the belief before, or further back where the batches between are among `replayed`; without a belief
    from the model's priors, or the population that the record names. In an amendment it starts from the
    model's priors. A member whose fit did not pass has the belief that it had. `origin` of a belief states
    the same.
    """
    before = case.members_before
    if before is None or case.copied:
        return
    wrong = [row for row in _rows(case) if not _follows(case, row, before)]
    if wrong:
        yield f"another prior, or another belief than before: {_named(wrong)}"


def _follows(case: Case, row: MemberRow, before: Members) -> bool:
    """Whether a row follows from the one before."""
    older, attempt = before.rows.get(row.key.canonical.decode()), row.attempt
    leaf, link = (older.hash.hex(), older.link) if older is not None else (None, None)
    if (row.prior, attempt["before"]) != (leaf, link):
        return False
    matched = older.matched.digest if older is not None and older.matched is not None else None
    stated = (attempt["began"], attempt["started_from"], attempt["start"], attempt["replayed"])
    if not any(stated == found for found in _beginnings(case, row, older)):
        return False
    if row.status == WITHDRAWN:
        return row.matched is None and row.state is None and case.record["kind"] != Kind.UPDATE
    if row.status == ACCEPTED:
        return row.matched is not None and row.state is not None and _stated(case, row)
    kept = row.matched.digest if row.matched is not None else None
    return kept == matched and row.state == (older.state if older is not None else None)


def _beginnings(
    case: Case, row: MemberRow, older: MemberRow | None
) -> Iterator[tuple[int | None, str | None, str, list[int]]]:
    """Give where the fit of a row may start: link and digest of a belief, a word for it, links between."""
    if case.record["kind"] != Kind.UPDATE:
        yield None, None, "model", row.attempt["replayed"]  # P06 checks the links
        return
    if older is None or older.matched is None:
        population = case.record["panel"]["population"]
        yield None, population, "population" if population else "model", []
        return
    found: MemberRow | None = older
    links: list[int] = []
    while found is not None and found.matched is not None and found.state is not None:
        yield found.link, found.matched.digest, "belief", links
        origin = found.state["origin"]
        if origin["population"]:
            return
        links = [*origin["links"], *links]
        if origin["start"] is None:
            yield None, None, "model", links
            return
        # An earlier link each time: rows that lead in a circle end here.
        found = case.row_of(origin["start"], row.key) if origin["start"] < found.link else None


def _stated(case: Case, row: MemberRow) -> bool:
    """Whether what a row states of how its belief came about is what its fit states."""
    attempt, state = row.attempt, row.state or {}
    origin = state["origin"]
    start = None if attempt["began"] is None else case.row_of(attempt["began"], row.key)
    before = start.state["batches"] if start is not None and start.state is not None else 0
    own = [case.number] if row.batch is not None else []
    links = [number for number in origin["links"] if number not in own]
    return (
        (origin["start"], origin["population"]) == (attempt["began"], attempt["start"] == "population")
        and links == attempt["replayed"]
        and len(origin["links"]) == len(links) + len(own)
        and state["batches"] == before + len(origin["links"])
    )


@rule(
    "P05",
    "counts, samplers, metrics and the gate follow from the members",
    "an edited count, a failed member that passes for one that passed",
)
def counts(case: Case, _chain: GatheredChain) -> Iterator[str]:
    """A member is accepted if its fit passed the thresholds; independent draws are within the limits of their
    certificate, and the policy asks for them. The link passes if the fraction of those that
    did not is below the policy's.
    """
    members, record, rows = case.members, case.record, _rows(case)
    if members is None:
        return
    if case.link and not record["gate"]["passed"]:
        yield "a link that failed the gate is a link"
    if case.copied:
        return
    limits = Thresholds(**record["thresholds"])
    stated, policy = record["panel"], PanelPolicy(**record["panel"]["policy"])
    expected: dict[str, tuple[Any, Any]] = {
        "counts": (counts_of(rows, members.index.members), stated["counts"]),
        "samplers": (samplers_of(rows), stated["samplers"]),
        "metrics": (metrics_of(rows, members.index.members, limits), record["metrics"]),
        "gate": (gate_of(rows, policy, record["kind"]).as_dict(), record["gate"]),
    }
    for name, (wanted, found) in expected.items():
        if wanted != found:
            yield f"{name} {str(wanted)[:120]} expected, found {str(found)[:120]}"
    fitted = [row for row in rows if row.status != WITHDRAWN]
    sampled = [row for row in fitted if row.attempt["settings"]]  # none where the fit raised an error
    wrong = [row for row in sampled if any(certificate_of(row.attempt["settings"], record["policy"]))]
    if wrong:
        yield f"draws without their certificate, or that the policy does not ask for: {_named(wrong)}"
    wrong = [row for row in fitted if (row.status == ACCEPTED) != _passed(row, record["thresholds"])]
    if wrong:
        yield f"an assessment that contradicts the metrics: {_named(wrong)}"


def _passed(row: MemberRow, limits: dict[str, float]) -> bool:
    """Whether the metrics of a fit are within the thresholds, as far as they are stated."""
    attempt, found = row.attempt, row.attempt["metrics"]
    beyond = [
        found.get("r_hat_max", 0.0) > limits["r_hat"],
        min(found.get("ess_bulk_min", 1e9), found.get("ess_tail_min", 1e9)) < limits["ess"],
        found.get("divergence_rate", 0.0) > limits["divergences"],
    ]
    return bool(attempt["passed"]) and not attempt["error"] and not any(beyond)


@rule(
    "P06",
    "the members of an update are those of its batch, each with its own rows",
    "rows that were given to another member, a member that was left out",
)
def own_rows(case: Case, _chain: GatheredChain) -> Iterator[str]:
    """`batch` of a leaf is the content digest of the rows of the link's batch with this key. A member of
    another kind of link that has no rows in its batch has none. A retract fits the members with rows in what
    it takes out, a correction those whose rows are others, a rebase all; each on all its batches that count.
    """
    table, by = case.gathered.batch, tuple(case.record["panel"]["by"])
    if case.copied or _unread(case) or (case.record["batch"] and table is None):
        return  # R07 or P01 reports it
    held = {} if table is None else split_by(table, by)
    digests = {key: content_digest(rows) for key, rows in held.items()}
    stated = {row.key: row.batch for row in _rows(case)}
    every = case.record["kind"] == Kind.UPDATE
    # Which members a correction leaves as they are is compared below.
    keys = {*digests, *stated} if every else stated.keys()
    wrong = [key for key in keys if digests.get(key) != stated.get(key)]
    if wrong:
        yield f"rows of the batch and members differ: {_keys(wrong)}"
    if not every:
        yield from _fitted_again(case)


def _fitted_again(case: Case) -> Iterator[str]:
    """Compare the members of an amendment, and the links that each is fitted on, with what counts."""
    touched = _touched(case)
    rows = {row.key: row for row in _rows(case)}
    if rows.keys() != touched:
        yield f"other members than those whose rows changed: {_keys([*(rows.keys() ^ touched)])}"
    left: dict[MemberKey, list[int]] = {key: [] for key in rows}
    for other in case.others():
        for key in _moved(other) & rows.keys():
            left[key].append(other.number)
    wrong = [key for key, row in rows.items() if row.attempt["replayed"] != left[key]]
    if wrong:
        yield f"members that are fitted on other batches than those that count: {_keys(wrong)}"


def _touched(case: Case) -> set[MemberKey]:
    """Return the members that an amendment has to fit."""
    if case.record["kind"] == Kind.REBASE:
        return {key for other in case.others() for key in _moved(other)}
    known = [case.known(record) for record in case.record["retracted"] if record in case.counted_before]
    gone = [other for other in known if other is not None]
    moved = {key for other in gone for key in _moved(other)}
    if case.record["kind"] != Kind.CORRECT:
        return moved
    own, old = _digests(case), dict[MemberKey, list[str]]()
    for other in gone:
        for key, found in _digests(other).items():
            if key in _moved(other):
                old.setdefault(key, []).append(found)
    return {key for key in {*own, *moved} if old.get(key) != ([own[key]] if key in own else [])}


def _digests(case: Case) -> dict[MemberKey, str]:
    """Return the content digest of each member's rows in a link's batch."""
    table = case.gathered.batch
    held = {} if table is None else split_by(table, tuple(case.record["panel"]["by"]))
    return {key: content_digest(rows) for key, rows in held.items()}


def _moved(case: Case) -> set[MemberKey]:
    """Return the members whose belief counts a link's own rows.

    A correction fits only members whose rows changed; for the others it counts the rows that they had.
    """
    found = {row.key for row in _rows(case) if row.status == ACCEPTED and row.batch is not None}
    if case.record["kind"] == Kind.CORRECT:
        replaced = [case.known(record) for record in case.record["retracted"]]
        before = {key for other in replaced if other is not None for key in _moved(other)}
        found |= (before & _digests(case).keys()) - {row.key for row in _rows(case)}
    return found


@rule("P07", "no member counts two rows with one row key", "rows counted twice by a member")
def rows_once(case: Case, _chain: GatheredChain) -> Iterator[str]:
    """Rows of a member that a link quarantined do not count there."""
    if not case.link or case.record["batch"] is None:
        return
    mine = counted_keys(case)
    for other in case.others():
        if other is case or not other.record["batch"]:
            continue
        shared = mine & counted_keys(other)
        if shared:
            yield f"{len(shared)} row keys are also in link {other.link}"


def counted_keys(case: Case) -> frozenset[Any]:
    """Return the row keys of a link's batch that its members count."""
    table, record = case.gathered.batch, case.record
    if table is None or _unread(case):
        return frozenset()
    key, by = tuple(record["batch"]["row_key"]), tuple(record["panel"]["by"])
    if key == BY_POSITION or not set(by) <= set(table.column_names):
        return frozenset()
    refused = {row.key for row in _rows(case) if row.status == QUARANTINED}
    if key != BY_CONTENT and not set(key) <= set(table.column_names):
        return frozenset()
    columns = table.column_names if key == BY_CONTENT else list(key)
    return frozenset(
        tuple(map(str, values.values()))
        for member, rows in split_by(table, by).items()
        if member not in refused
        for values in rows.select(columns).to_pylist()
    )


@rule(
    "P08",
    "the seed of a member is derived from its prior's, its rows' and the model's digests",
    "a chosen seed",
)
def seeds(case: Case, chain: GatheredChain) -> Iterator[str]:
    """For a member without a prior, genesis takes its place. Members without rows in the link's batch are not
    checked.
    """
    model = case.record["model"]["digest"]
    wrong = [
        row
        for row in _rows(case)
        if row.batch is not None
        and row.attempt["seed"]
        != str(derive_seed(row.attempt["started_from"] or chain.genesis_digest, row.batch, model))
    ]
    if wrong and not case.copied:
        yield f"another seed than the one that follows: {_named(wrong)}"


@rule(
    "P09",
    "the registered model finds each member in the run of the link that wrote it",
    "a pointer to the run of another chain, an index or constants that were swapped for others",
)
def pointers_of_model(case: Case, _chain: GatheredChain) -> Iterator[str]:
    """`members.json` names the run of each link that the index points to, and the digest of the checkpoint
    (section 12.4). That of a copy is its prior's.
    """
    members, files = case.members, case.gathered.panel
    if members is None or files is None or case.copied:
        return
    index, links = members.index, case.walked.links

    def run(number: int) -> str:
        return links[number - 1].version.run_id if number <= len(links) else ""

    at = index.checkpoint_link
    held = case.earlier.get(links[at - 1].version.record) if 0 < at <= len(links) else None
    sha256 = held.record["artifacts"].get(Artifact.INDEX, "") if held is not None else ""
    record = case.record
    about = {"chain": record["chain"], "by": record["panel"]["by"], "constants": record["model"]["constants"]}
    if files.pointers != pointers_of(index, case.number, run, sha256, about):
        yield f"{Artifact.POINTERS} does not name the runs of the links that wrote the members"


def _rows(case: Case) -> tuple[MemberRow, ...]:
    """Return the rows of a link; none where they cannot be read, which P01 reports."""
    files = case.gathered.panel
    return files.rows if files is not None and files.rows is not None else ()


def _unread(case: Case) -> bool:
    return case.gathered.panel is None or case.gathered.panel.rows is None


def _named(rows: list[MemberRow]) -> str:
    return _keys([row.key for row in rows])


def _keys(keys: list[MemberKey]) -> str:
    shown = ", ".join(f"[{key}]" for key in sorted(keys, key=lambda key: key.canonical)[:_NAMED])
    return f"{shown} and {len(keys) - _NAMED:,} more" if len(keys) > _NAMED else shown
