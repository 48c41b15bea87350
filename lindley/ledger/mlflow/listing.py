"""List the versions of a registered model: all of them, or those since this process listed them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from mlflow import MlflowClient
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from lindley.cache import Recent
from lindley.ledger.chain import Version, read_version
from lindley.ledger.mlflow.client import pages
from lindley.ledger.mlflow.failures import unless_refused

#: By server and model. A version takes some 2 kB.
_listed: Recent[tuple[Version, ...]] = Recent(2**27, lambda versions: 2048 * len(versions))


def versions_of(client: MlflowClient, where: str, model: str, *, fresh: bool) -> list[Version]:
    """Return the versions of a model in number order.

    Versions are never changed and never reused, so a long-lived process asks only for those since its last
    listing, as long as the newest one that it knows is unchanged. `fresh` listings, which `lindley verify`
    takes, also find changes below that one.

    Parameters
    ----------
    client, where, model
        Client, what identifies its server, and the name of the registered model.
    fresh
        Whether all of them are listed in any case.
    """
    key = (where, model)
    known = () if fresh else _listed.peek(key) or ()
    found = _since(client, model, known) if known else None
    if found is None:
        found = tuple(_search(client, f"name='{model}'"))
    _listed.put(key, found)
    return list(found)


def _since(client: MlflowClient, model: str, known: tuple[Version, ...]) -> tuple[Version, ...] | None:
    """Return what is known and what came since; None if all of them must be listed again."""
    last = known[-1]
    condition = f"name='{model}' and version_number >= {last.number}"
    # Some registries cannot search by number.
    newer = unless_refused(lambda: _search(client, condition), INVALID_PARAMETER_VALUE)
    return (*known[:-1], *newer) if newer and newer[0] == last else None


def _search(client: MlflowClient, condition: str) -> list[Version]:
    found = pages(lambda token: client.search_model_versions(condition, page_token=token))
    return sorted((_version(version) for version in found), key=lambda version: version.number)


def _version(found: Any) -> Version:
    """Read one registered version."""
    created = datetime.fromtimestamp(found.creation_timestamp / 1000, UTC).isoformat(timespec="seconds")
    version = read_version(int(found.version), found.run_id or "", created, found.tags)
    return replace(version, source=found.source or "", description=found.description or "")
