"""What arrives, moves, is refused, replaced and interrupted: the same in a folder and in a bucket."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from flows.sequences import files
from flows.sequences.amend import correct
from flows.sequences.update import update, update_one
from flows.server.watch import Watcher
from lindley import failpoints
from lindley.addresses import bucket_of
from lindley.arrivals import bucket
from lindley.arrivals.objects import ObjectVersion
from lindley.arrivals.storage import storage_of
from lindley.atomic import Replaced
from lindley.batch.limits import Limits
from lindley.errors import BatchRefused, FileUnavailable, LindleyError, NameRefused
from lindley.ledger.history import history
from lindley.ledger.record import parse
from lindley.workspace import Workspace
from tests.contract.arrivals import DIGEST, Place, bucket_place, fake_steps, folder_place, rows
from tests.support import fakes
from tests.support.fits import Fits
from tests.support.servers import BUCKET, free_port


@pytest.fixture
def in_bucket(s3: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    place = bucket_place(tmp_path, s3)
    yield place
    place.client.close()


@pytest.fixture(params=["folder", pytest.param("bucket", marks=pytest.mark.e2e)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return folder_place(tmp_path) if request.param == "folder" else request.getfixturevalue("in_bucket")


def test_objects_and_files_arrive_oldest_first_and_half_written_ones_do_not(place: Place) -> None:
    for key in ("b/z.csv", "a/y.csv", "a/x.parquet", "a/.hidden.csv", "a/part.csv.tmp", "a/in/x.csv"):
        place.put(f"landing/{key}", b"1")
        if key in {"b/z.csv", "a/y.csv"}:
            place.later()
    place.put("landing/stray.csv", b"1")
    place.put("landing/Not a chain/a.csv", b"1")
    assert place.waiting() == ["b/z.csv", "a/y.csv", "a/x.parquet"]
    assert {each.path.name: each.why for each in place.storage.arrivals().ignored} == {
        "in": "a folder or special file",
        "stray.csv": "not in the folder of a chain",
        "Not a chain": "the folder's name cannot be a chain",
    }


def test_what_is_accepted_moves_once_and_is_never_overwritten(place: Place) -> None:
    place.put("landing/coins/a.csv", rows(1))
    path = place.storage.landed("coins", "a.csv")
    seen = place.storage.identity(path)
    stored = place.storage.archive(path, "coins", DIGEST, keep=False, seen=seen)
    assert stored.name == f"{DIGEST}.csv"
    assert (place.waiting(), place.get(f"store/coins/{DIGEST}.csv")) == ([], rows(1))
    assert not place.storage.exists(path)
    with pytest.raises(FileNotFoundError):
        place.storage.archive(path, "coins", "cd" * 32, keep=False, seen=None)
    # The same batch in other bytes: what is stored stays, and the file leaves the landing folder.
    place.put("landing/coins/a.csv", rows(1) + b"\n")
    seen = place.storage.identity(path)
    assert place.storage.archive(path, "coins", DIGEST, keep=False, seen=seen) == stored
    assert (place.names("landing"), place.get(f"store/coins/{DIGEST}.csv")) == ([], rows(1))


def test_what_takes_the_name_of_what_was_read_stays(place: Place) -> None:
    place.put("landing/coins/a.csv", rows(1))
    path = place.storage.landed("coins", "a.csv")
    seen = place.storage.identity(path)
    place.put("landing/coins/a.csv", rows(100))
    with pytest.raises(Replaced):
        place.storage.archive(path, "coins", DIGEST, keep=False, seen=seen)
    with pytest.raises(Replaced):
        place.storage.reject(path, "coins", BatchRefused("no"), at="now", seen=seen)
    assert (place.names("store"), place.names("rejected")) == ([], [])
    assert (place.waiting(), place.get("landing/coins/a.csv")) == (["coins/a.csv"], rows(100))


def test_what_takes_the_name_in_the_moment_of_the_move_stays(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.put("landing/coins/a.csv", rows(1))
    path = place.storage.landed("coins", "a.csv")
    seen = place.storage.identity(path)

    def replace(name: str) -> None:
        if name in {"archive-linked", "object-stored"}:
            place.put("landing/coins/a.csv", rows(100))

    monkeypatch.setattr(failpoints, "reach", replace)
    place.storage.archive(path, "coins", DIGEST, keep=False, seen=seen)
    assert place.get(f"store/coins/{DIGEST}.csv") == rows(1)
    assert (place.waiting(), place.get("landing/coins/a.csv")) == (["coins/a.csv"], rows(100))


def test_rejected_ones_have_a_report_and_names_of_their_own(place: Place) -> None:
    for data in (b"one", b"two"):
        place.put("landing/coins/-b\\ad.csv", data)
        path = place.storage.landed("coins", "-b\\ad.csv")
        aside = place.storage.reject(
            path, "coins", BatchRefused("no"), at="now", seen=place.storage.identity(path)
        )
        assert place.get(f"rejected/coins/{aside.name}") == data
    assert place.names("rejected") == ["_b_ad-1.csv", "_b_ad-1.csv.reason.json", "_b_ad.csv",
                                       "_b_ad.csv.reason.json"]  # fmt: skip
    report = json.loads(place.get("rejected/coins/_b_ad.csv.reason.json"))
    assert (report["original_name"], report["happened"]) == ("-b\\ad.csv", "no")
    assert (place.waiting(), len(list(place.storage.rejections()))) == ([], 2)
    with pytest.raises(FileNotFoundError):
        place.storage.reject(path, "coins", BatchRefused("no"), at="now", seen=None)


def test_what_is_dropped_arrives_whole_and_takes_no_name(place: Place, tmp_path: Path) -> None:
    mine = tmp_path / "mine.csv"
    mine.write_bytes(rows(1))
    for _ in range(2):
        path = place.storage.drop(mine, "coins", "a")
        assert (path.name, place.waiting()) == ("a.csv", ["coins/a.csv"])
    mine.write_bytes(rows(9))
    with pytest.raises(BatchRefused, match="already in the landing folder"):
        place.storage.drop(mine, "coins", "a")
    place.storage.archive(path, "coins", DIGEST, keep=False, seen=place.storage.identity(path))
    place.storage.drop(mine, "coins", "a")  # the name is free again
    assert place.get("landing/coins/a.csv") == rows(9)


KILLED = """
import sys
from lindley import failpoints
from lindley.arrivals.storage import storage_of
from lindley.errors import BatchRefused
from lindley.workspace import Workspace

storage = storage_of(Workspace.from_environment())
path = storage.landed("coins", "a.csv")
failpoints.arm(sys.argv[2])
seen = storage.identity(path)
if sys.argv[1] == "archive":
    storage.archive(path, "coins", "ab" * 32, keep=False, seen=seen)
else:
    storage.reject(path, "coins", BatchRefused("no"), at="now", seen=seen)
"""
STEPS = {
    "folder": [("archive", "archive-linked"), ("archive", "archive-taken"), ("reject", "reason-written")],
    "bucket": [("archive", "object-stored"), ("archive", "object-taken"), ("reject", "object-reported"),
               ("reject", "object-copied"), ("reject", "object-taken")],
}  # fmt: skip


def test_a_kill_at_any_step_loses_and_doubles_nothing(place: Place) -> None:
    kind = "folder" if place.client is None else "bucket"
    for what, name in STEPS[kind]:
        place.put("landing/coins/a.csv", data := rows(hash(name) % 10**6))
        environment = os.environ | {"LINDLEY_HOME": str(place.workspace.root)}
        environment["LINDLEY_DATA"] = place.workspace.data
        done = subprocess.run([sys.executable, "-c", KILLED, what, name], env=environment, check=False)
        assert done.returncode == -signal.SIGKILL, name
        place.storage.restore()
        path = place.storage.landed("coins", "a.csv")
        if place.storage.exists(path):
            assert place.get("landing/coins/a.csv") == data
            seen = place.storage.identity(path)
            if what == "archive":
                place.storage.archive(path, "coins", DIGEST, keep=False, seen=seen)
            else:
                place.storage.reject(path, "coins", BatchRefused("no"), at="now", seen=seen)
        folder = "store" if what == "archive" else "rejected"
        kept = [each for each in place.names(folder) if not each.endswith(".json")]
        assert [place.get(f"{folder}/coins/{each}") for each in kept].count(data) == 1, name
        assert place.names("landing") == []
        _empty(place, folder)


def _empty(place: Place, folder: str) -> None:
    for name in place.names(folder):
        if place.client is None:
            (place.workspace.landing.parent / folder / "coins" / name).unlink()
        else:
            place.client.delete_object(Bucket=BUCKET, Key=f"{place.prefix}/{folder}/coins/{name}")


# -- updates ------------------------------------------------------------------------------------------


def test_a_chain_takes_what_arrived_and_records_which_object_it_was(place: Place) -> None:
    fakes.declare(place.workspace.models)
    ledger, fits, said = fakes.MemoryLedger(), Fits(), []
    steps = fake_steps(ledger, fits, said)
    place.put("landing/coins/a.csv", rows(1))
    place.put("landing/coins/az.csv", b"id,k\n1,2\n")
    place.put("landing/coins/b.csv", rows(10))
    tag = place.storage.identity(place.storage.landed("coins", "b.csv"))
    result = update(steps, place.workspace, "coins", "b.csv")
    assert (result.status, result.link) == ("accepted", 2)
    views = history(ledger, "coins")
    assert [view.origin for view in views] == ["a.csv", "b.csv"]
    assert place.names("store") == sorted(f"{view.batch_digest}.csv" for view in views)
    assert result.stored == place.storage.shown(
        PurePosixPath("store/coins", f"{views[1].batch_digest}.csv")
        if place.client is not None
        else place.workspace.store / "coins" / f"{views[1].batch_digest}.csv"
    )
    assert place.names("rejected") == ["az.csv", "az.csv.reason.json"]
    assert (place.names("landing"), place.waiting()) == ([], [])
    record = parse(ledger.runs[views[1].run_id].files["record.json"])
    assert record["batch"]["object"] == (tag.as_dict() if isinstance(tag, ObjectVersion) else None)
    assert update(steps, place.workspace, "coins", "b.csv").status == "gone"
    # A correction is read where corrections are, and stays there.
    place.put("corrections/coins/new.csv", rows(20))
    assert correct(steps, place.workspace, "coins", "1", "new.csv").status == "accepted"
    assert place.names("corrections") == ["new.csv"]
    place.put("landing/coins/c.csv", rows(30))
    with pytest.raises(NameRefused, match="cannot replace a batch from where it lies"):
        correct(steps, place.workspace, "coins", "2", "c.csv")


def test_what_is_replaced_during_a_fit_is_the_next_link(place: Place) -> None:
    fakes.declare(place.workspace.models)
    ledger, fits, said = fakes.MemoryLedger(), Fits(), []
    steps = fake_steps(ledger, fits, said)
    place.put("landing/coins/a.csv", rows(1))
    fits.during = lambda: place.put("landing/coins/a.csv", rows(50))
    path = place.storage.landed("coins", "a.csv")
    assert update_one(steps, place.workspace, "coins", path).link == 1
    assert place.get("landing/coins/a.csv") == rows(50)
    fits.during = lambda: None
    assert update_one(steps, place.workspace, "coins", path).link == 2
    assert (len(place.names("store")), place.names("landing")) == (2, [])
    assert "a.csv was replaced; the rows that were read of it are in the store" in said


def test_the_watcher_announces_an_arrival_once_and_what_replaces_it_again(place: Place) -> None:
    fakes.declare(place.workspace.models)
    announced: list[str] = []
    watcher = Watcher(
        workspace=place.workspace,
        announce=lambda arrival: announced.append(arrival.path.name),
        finished=lambda _: True,
        clock=lambda: 0.0,
        notify=lambda _: None,
    )
    place.put("landing/coins/a.csv", rows(1))
    watcher.look()
    watcher.look()
    place.put("landing/coins/a.csv", rows(2))
    watcher.look()
    assert announced == ["a.csv", "a.csv"]


# -- buckets alone ------------------------------------------------------------------------------------


@pytest.mark.e2e
def test_names_of_objects_are_hostile_text(in_bucket: Place) -> None:
    place, said = in_bucket, []
    fakes.declare(place.workspace.models)
    names = ["%2e%2e.csv", "#a?b=c&d.csv", "ü.csv", "u\u0308.csv", "back\\slash.csv", "\u202egpj.csv"]
    for index, name in enumerate(names):
        place.put(f"landing/coins/{name}", rows(10 * index + 1))
    place.put(f"landing/coins/{'l' * 400}.csv", rows(1))
    steps = fake_steps(fakes.MemoryLedger(), Fits(), said)
    assert len(files.waiting(place.workspace, "coins")) == len(names)  # the long one is set aside
    for name in names:
        assert update_one(steps, place.workspace, "coins", place.storage.landed("coins", name)).link
    assert (place.names("landing"), len(place.names("store"))) == ([], len(names))
    assert [len(name) for name in place.names("rejected")] == [200, 212]
    # A name that no request can hold stops its own chain, by name, and no other.
    for name in ("other/a//b.csv", "coins/x/../y.csv", "coins/../z.csv"):
        place.put(f"landing/{name}", b"1")
    place.put("landing/coins/..", b"1")
    place.put("landing/third/a.csv", b"1")
    assert place.waiting() == ["third/a.csv"]
    with pytest.raises(FileUnavailable, match="not valid"):
        files.waiting(place.workspace, "coins")
    place.put("landing//a.csv", b"1")  # hides chains that are not declared
    assert place.waiting() == []
    assert any(entry.error is not None for entry in place.storage.arrivals().ignored)


@pytest.mark.e2e
def test_an_object_that_is_too_big_is_set_aside_unread(
    in_bucket: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.declare(in_bucket.workspace.models)
    in_bucket.put("landing/coins/big.csv", rows(1) * 1000)
    monkeypatch.setattr(bucket, "Limits", lambda: Limits(file_bytes=1000))
    path = in_bucket.storage.landed("coins", "big.csv")
    steps = fake_steps(fakes.MemoryLedger(), Fits(), [])
    with pytest.raises(BatchRefused, match="too big"):
        update_one(steps, in_bucket.workspace, "coins", path)
    assert in_bucket.get("rejected/coins/big.csv") == rows(1) * 1000
    assert in_bucket.waiting() == []


@pytest.mark.e2e
def test_a_bucket_that_does_not_answer_changes_nothing_and_repeats_no_secret(
    in_bucket: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.declare(in_bucket.workspace.models)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    monkeypatch.setattr("lindley.arrivals.objects.RETRIES", 0)
    away = bucket.BucketStorage(in_bucket.workspace)
    with pytest.raises(FileUnavailable) as caught:
        away.arrivals()
    assert caught.value.transient
    assert "hush" not in str(caught.value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", in_bucket.client.meta.endpoint_url)
    nowhere = Workspace(**{**vars(in_bucket.workspace), "bucket": bucket_of("s3://no-such-bucket/x")})
    with pytest.raises(FileUnavailable, match=r"NoSuchBucket|NotFound|no such"):
        bucket.BucketStorage(nowhere).arrivals()


@pytest.mark.parametrize(
    "text",
    ["s3://key:hush@bucket/a", "s3://hush@bucket", "s3://bucket/a?token=hush", "s3://bucket/../a", "s3://b",
     "s3://bucket//a", "ftp://bucket/a", "s3://bucket/%2e", "s3://bucket/a\n", "abfss://hush@b.example.org/a",
     "az://key:hush@container"],
)  # fmt: skip
def test_addresses_that_hold_no_data_are_refused_without_repeating_secrets(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINDLEY_DATA", text)
    with pytest.raises(NameRefused) as caught:
        Workspace.from_environment()
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [("s3://my-bucket", ""), ("gs://bucket/a/b=c/", "gs://bucket/a/b=c"), ("az://container/x", ""),
     ("abfss://box@account.dfs.core.windows.net/x", "")],
)  # fmt: skip
def test_addresses_of_buckets_are_read(text: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINDLEY_DATA", text)
    workspace = Workspace.from_environment()
    assert workspace.data == (shown or text)
    assert workspace.drop_here == f"{shown or text}/landing"
    monkeypatch.setenv("LINDLEY_DATA", "file:///tmp/some%20data")
    assert Workspace.from_environment().landing == Path("/tmp/some data/landing")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("s3://my-bucket/x", r"cannot be listed \(s3://my-bucket/x\).*the store's credentials"),
        ("gs://my-bucket/x", r"cannot be listed \(gs://my-bucket/x\).*the store's credentials"),
        (
            "abfss://box@account.dfs.core.windows.net/x",
            r"cannot be listed \(abfss://box@account.*credentials",
        ),
        ("az://box/x", "set AZURE_STORAGE_ACCOUNT_NAME"),
    ],
)
def test_a_store_without_credentials_says_what_is_missing(
    text: str, match: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in list(os.environ):
        if name.startswith(("AWS_", "GOOGLE_", "AZURE_", "NO_PROXY", "no_proxy")):
            monkeypatch.delenv(name)
    for name in ("HTTP_PROXY", "HTTPS_PROXY"):  # no identity of this machine is asked for
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
        monkeypatch.setenv(name.lower(), f"http://127.0.0.1:{free_port()}")
    monkeypatch.setattr("lindley.arrivals.objects.RETRIES", 0)
    monkeypatch.setenv("LINDLEY_DATA", text)
    with pytest.raises(LindleyError, match=match):
        storage_of(Workspace.from_environment(tmp_path)).arrivals()
