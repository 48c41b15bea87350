"""Records of the first schema: they are read, verified, and continued by links of the second."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path

import pytest
import xarray as xr

from lindley.errors import LedgerCorrupt
from lindley.ledger import bundle
from lindley.ledger.chain import version_tags
from lindley.ledger.netcdf import draws_digest, read_trace, write_trace
from lindley.ledger.record import SCHEMA, canonical, digest, parse
from lindley.ledger.record_schema import _ADDED, _ADDED_GENESIS
from lindley.model.declaration import Declaration
from lindley.operations.plan import plan_update
from lindley.seeds import derive_seed
from lindley.verification.gather import gather, verify_chain
from tests.support import refits
from tests.support.fakes import MemoryLedger, append, coins
from tests.support.forging import Record, record_of

NAME, OLD = "coins", "lindley-record/1"
#: Figures that the first schema did not have.
LATER_FIGURES = ("trusted", "doubt", "drift", "replayed", "log_score")


def as_schema_1(record: Record) -> Record:
    """Return a record without what the second schema added."""
    found = copy.deepcopy(record) | {"schema": OLD}
    for name, (fields, _) in (_ADDED_GENESIS if record["kind"] == "genesis" else _ADDED).items():
        for field in fields:
            del (found[name] if name else found)[field]
    for name in LATER_FIGURES if "metrics" in found else ():
        found["metrics"].pop(name, None)
    return found


def old_matched(data: bytes, folder: Path) -> bytes:
    """Return a matched prior as the first schema wrote it."""
    before, after = folder / "before.nc", folder / "after.nc"
    before.write_bytes(data)
    with xr.open_dataset(before, engine="h5netcdf") as dataset:
        old = dataset.load().drop_vars("margins")
    for name in ("moments", "shrinkage"):
        del old.attrs[name]
    old.to_netcdf(after, engine="h5netcdf")
    return after.read_bytes()


def old_trace(data: bytes, folder: Path) -> tuple[bytes, str]:
    """Return a trace without weights, and the digest of its draws."""
    path = folder / "trace.nc"
    path.write_bytes(data)
    tree = read_trace(path)
    tree["coordinates"] = xr.DataTree(tree["coordinates"].to_dataset().drop_vars("weight"))
    write_trace(tree, path)
    return path.read_bytes(), draws_digest(read_trace(path))


def downgrade(ledger: MemoryLedger, folder: Path) -> None:
    """Rewrite a whole chain as the first schema had it, from genesis on, each digest following."""
    model = ledger.models[NAME]
    root = ledger.runs[model.genesis_run].files
    root["genesis.json"] = canonical(as_schema_1(parse(root["genesis.json"])))
    renamed = {model.genesis: digest(root["genesis.json"])}
    model.genesis = head = digest(root["genesis.json"])
    for number, version in sorted(model.versions.items()):
        run = ledger.run_of(NAME, number)
        record = as_schema_1(record_of(ledger, NAME, number))
        run.files[bundle.MATCHED_PRIOR] = old_matched(run.files[bundle.MATCHED_PRIOR], folder)
        run.files[bundle.TRACE], record["posterior"]["draws"] = old_trace(run.files[bundle.TRACE], folder)
        record["previous"], record["prior"] = renamed[record["previous"]], renamed[record["prior"]]
        if record["previous"] == model.genesis:
            seed = derive_seed(head, record["batch"]["digest"], record["model"]["digest"])
            record["sampler"]["seed"] = str(seed)
        record["artifacts"] = {
            name: hashlib.sha256(data).hexdigest()
            for name, data in run.files.items()
            if name != bundle.RECORD
        }
        run.files[bundle.RECORD] = canonical(record)
        renamed[version.tags["lindley.record"]] = digest(run.files[bundle.RECORD])
        version.tags = version_tags(record, digest(run.files[bundle.RECORD]))
        run.tags |= version.tags
        for name in LATER_FIGURES:
            del run.metrics[name]


@pytest.fixture(scope="module")
def old_chain(declaration: Declaration, tmp_path_factory: pytest.TempPathFactory) -> MemoryLedger:
    """Two links, and one in quarantine, of the first schema."""
    ledger = MemoryLedger()
    append(ledger, declaration, coins(declaration, 0))
    append(ledger, declaration, coins(declaration, 10, k=4))
    append(ledger, declaration, coins(declaration, 20, k=9), passed=False)
    downgrade(ledger, tmp_path_factory.mktemp("old"))
    return ledger


@pytest.fixture
def ledger(old_chain: MemoryLedger) -> MemoryLedger:
    return old_chain.clone()


def test_what_came_later_is_completed_as_it_was_then(ledger: MemoryLedger) -> None:
    genesis = ledger.genesis(NAME)
    assert genesis is not None
    root = parse(genesis)
    assert (root["schema"], root["model"]["constants"], root["model"]["context"]) == (OLD, {}, 0)
    record = record_of(ledger, NAME, 2)
    assert record["schema"] == OLD
    assert (record["replayed"], record["policy"], record["forgetting"]) == ([], {}, {})
    assert (record["model"]["constants"], record["batch"]["context"]) == ({}, None)
    posterior = record["posterior"]
    assert (posterior["moments"], posterior["shrinkage"], posterior["pooled"]) == ("draws", 0.0, "")
    assert (posterior["distances"], posterior["doubts"]) == ({}, [])


@pytest.mark.parametrize("field", ["replayed", "policy"])
def test_a_record_of_one_schema_with_fields_of_the_other_is_none(ledger: MemoryLedger, field: str) -> None:
    record = as_schema_1(record_of(ledger, NAME, 2))
    assert parse(canonical(record))["kind"] == "update"
    with pytest.raises(LedgerCorrupt, match=f"{field} is unknown"):
        parse(canonical(record | {field: record_of(ledger, NAME, 2)[field]}))
    with pytest.raises(LedgerCorrupt, match=f"{field} is missing"):
        parse(canonical(record | {"schema": SCHEMA}))


def test_nothing_is_found_on_such_a_chain(ledger: MemoryLedger) -> None:
    evidence = gather(ledger, NAME)
    for item in evidence.versions:
        assert item.matched is not None
        assert (item.matched.moments, item.matched.shrinkage, item.matched.map.warped) == (
            "draws",
            0.0,
            False,
        )
        assert item.rematched is not None
    report = verify_chain(ledger, NAME)
    assert report.findings == ()
    assert len(report.links) == 2


def test_its_digests_still_hold_it_together(ledger: MemoryLedger) -> None:
    """The old forms do not weaken what is checked."""
    for path, rule in ((bundle.TRACE, "R06"), (bundle.MATCHED_PRIOR, "R06"), (bundle.RECORD, "R04")):
        changed = ledger.clone()
        changed.flip(NAME, 2, path)
        assert rule in {finding.rule for finding in verify_chain(changed, NAME).findings}


def test_it_is_continued_by_a_link_of_the_second_schema(
    ledger: MemoryLedger, declaration: Declaration
) -> None:
    plan = plan_update(ledger, declaration, coins(declaration, 30))
    assert plan.prior is not None
    assert plan.before is not None
    assert (plan.link, plan.replayed, plan.prior.trusted, plan.prior.doubt) == (3, (), True, 0)
    assert (plan.prior.covered, plan.prior.log_score) == (1, None)
    assert plan.constants == {}
    assert append(ledger, declaration, coins(declaration, 30)).link == 3
    record = record_of(ledger, NAME, 4)
    assert (record["schema"], record["metrics"]["trusted"], record["metrics"]["doubt"]) == (SCHEMA, 1, 0)
    assert record["prior"] == record["previous"] == ledger.models[NAME].versions[2].tags["lindley.record"]
    assert verify_chain(ledger, NAME).findings == ()
    assert "link 1" in str(plan_update(ledger, declaration, coins(declaration, 0)).noop)


def test_a_pooled_refit_takes_its_batches(ledger: MemoryLedger, declaration: Declaration) -> None:
    assert refits.rebase(ledger, declaration).link == 3
    record = record_of(ledger, NAME, 4)
    assert (record["schema"], len(record["replayed"])) == (SCHEMA, 2)
    assert verify_chain(ledger, NAME).findings == ()
