"""Fit one shard of a panel: what crosses processes is the path of a folder and a number."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE


@task(name="fit shard", cache_policy=NO_CACHE, persist_result=False, task_run_name="shard {number}")
def fit_shard(folder: str, number: int) -> str:
    """Fit the members of a shard; return the file of their rows. See `lindley.panel.shards.fit_shard`."""
    from lindley.panel import shards  # the numerical stack, where the shard is fitted

    return str(shards.fit_shard(Path(folder), number))
