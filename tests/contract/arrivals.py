"""A folder and a bucket as data of a workspace, and a writer that puts files there from outside."""

from __future__ import annotations

import itertools
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.sequences.steps import Steps
from lindley.arrivals.bucket import MARK
from lindley.arrivals.storage import Storage, storage_of
from lindley.batch.reading import read_batch
from lindley.ledger.registration import register_link
from lindley.operations.log import log_plan
from lindley.workspace import Workspace
from tests.support.fakes import MemoryLedger
from tests.support.fits import Fits
from tests.support.servers import BUCKET

DIGEST = "ab" * 32
_numbers = itertools.count(1)


def rows(start: int) -> bytes:
    """Return a batch of the chain ``coins``, with ids from `start`."""
    return b"id,k,n\n" + b"".join(b"%d,3,10\n" % i for i in range(start, start + 4))


@dataclass
class Place:
    """A workspace, and what stands in its folders; `client` is that of its bucket, if it has one."""

    workspace: Workspace
    client: Any = None
    prefix: str = ""

    @property
    def storage(self) -> Storage:
        return storage_of(self.workspace)

    def put(self, key: str, data: bytes) -> None:
        """Write a file as someone else does: whole, in place of any of its name, some hours ago."""
        if self.client is not None:
            self.client.put_object(Bucket=BUCKET, Key=f"{self.prefix}/{key}", Body=data)
            return
        path = self.workspace.landing.parent / key
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.new")
        new.write_bytes(data)
        then = time.time() - 36_000 + next(_numbers)  # in the order of the calls
        os.utime(new, (then, then))
        new.replace(path)

    def later(self) -> None:
        """Wait until what is put has a later time: that of an object is in whole seconds."""
        if self.client is not None:
            time.sleep(1.1)

    def get(self, key: str) -> bytes:
        if self.client is not None:
            return self.client.get_object(Bucket=BUCKET, Key=f"{self.prefix}/{key}")["Body"].read()
        return (self.workspace.landing.parent / key).read_bytes()

    def names(self, folder: str) -> list[str]:
        """Return what is in a folder, without the marks of what was taken."""
        if self.client is not None:
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=BUCKET, Prefix=f"{self.prefix}/{folder}/"
            )
            found = [item["Key"] for page in pages for item in page.get("Contents", [])]
            keys = [key.removeprefix(f"{self.prefix}/") for key in found]
            if folder.startswith("landing"):
                keys = [key for key in keys if self.get(key) != MARK]
            return sorted(key.rpartition("/")[2] for key in keys)
        place = self.workspace.landing.parent / folder
        return sorted(p.name for p in place.rglob("*") if p.is_file() and not p.name.startswith("."))

    def waiting(self) -> list[str]:
        return [f"{arrival.chain}/{arrival.path.name}" for arrival in self.storage.arrivals()]


def folder_place(root: Path) -> Place:
    return Place(_workspace(root))


def bucket_place(root: Path, access: dict[str, str]) -> Place:
    import boto3

    client = boto3.client(
        "s3", endpoint_url=access["AWS_ENDPOINT_URL"], region_name="us-east-1",
        aws_access_key_id="testing", aws_secret_access_key="testing",
    )  # fmt: skip
    prefix = f"data-{os.getpid()}-{next(_numbers)}"
    return Place(_workspace(root, f"s3://{BUCKET}/{prefix}"), client, prefix)


def _workspace(root: Path, data: str = "") -> Workspace:
    (root / "models").mkdir(parents=True, exist_ok=True)
    before = {name: os.environ.pop(name, None) for name in ("LINDLEY_HOME", "LINDLEY_MODELS", "LINDLEY_DATA")}
    if data:
        os.environ["LINDLEY_DATA"] = data
    try:
        return Workspace.from_environment(root)
    finally:
        os.environ.pop("LINDLEY_DATA", None)
        os.environ.update({name: value for name, value in before.items() if value is not None})


def fake_steps(ledger: MemoryLedger, fits: Fits, said: list[str]) -> Steps:
    """Return the steps of an update with a ledger in memory and no sampler."""
    return Steps(
        open_ledger=lambda _: ledger,
        read=read_batch,
        plan=lambda planner, *given, **options: planner(*given, **options),
        fit=fits,
        log=log_plan,
        register=register_link,
        draw=lambda *_: None,
        publish=lambda *_: None,
        announce=lambda *_: None,
        notify=said.append,
    )
