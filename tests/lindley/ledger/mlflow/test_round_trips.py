"""How often one update asks MLflow: each call is a transaction on SQLite, and a request to a server."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from lindley.ledger.chain import Chain
from lindley.ledger.mlflow import artifacts
from lindley.ledger.mlflow.store import MlflowLedger
from lindley.ledger.reading import find_chain
from lindley.ledger.registration import register_link
from lindley.model.declaration import Declaration
from lindley.operations.log import log_plan
from lindley.operations.plots import draw_missing
from lindley.operations.profile import profile
from lindley.operations.update import plan_update
from lindley.verification.gather import verify_chain
from tests.support.fakes import append, coins
from tests.support.fits import fit

NAME = "coins"


class Counted:
    """A client that counts what it is asked."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls[name] += 1
            return found(*args, **kwargs)

        return call

    def since(self) -> dict[str, int]:
        """Return the calls since this was asked last."""
        calls, self.calls = dict(self.calls), Counter()
        return calls


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, declaration: Declaration) -> Path:
    """A folder with an embedded ledger and a chain of two links."""
    root = tmp_path_factory.mktemp("round-trips")
    ledger = MlflowLedger(f"sqlite:///{root / 'mlflow.db'}", root)
    for start in (0, 10):
        append(ledger, declaration, coins(declaration, start))
    return root


def opened(root: Path) -> tuple[MlflowLedger, Counted]:
    ledger = MlflowLedger(f"sqlite:///{root / 'mlflow.db'}", root)
    counted = Counted(ledger.client)
    artifacts._infos.clear()  # as a process that has seen nothing yet
    ledger.client = counted  # type: ignore[assignment]
    return ledger, counted


def head_of(chain: Chain) -> dict[str, str]:
    head = chain.links[-1].version
    return {head.run_id: head.record}


def test_a_warm_update_asks_for_nothing_twice(folder: Path, declaration: Declaration) -> None:
    ledger, counted = opened(folder)
    append(ledger, declaration, coins(declaration, 20))  # a process that has updated the chain before
    draw_missing(ledger, head_of(find_chain(ledger, NAME)))
    counted.since()

    plan = plan_update(ledger, declaration, coins(declaration, 30))
    # The genesis record's tags, the versions, the alias, runs that someone left open, and where artifacts go.
    assert counted.since() == {
        "get_registered_model": 2,
        "search_model_versions": 1,
        "search_runs": 1,
        "get_experiment_by_name": 1,
    }

    logged = log_plan(ledger, plan, fit(plan))
    assert counted.since() == {"get_experiment_by_name": 1, "create_run": 1, "log_batch": 1, "log_inputs": 1}

    registered = register_link(ledger, logged)
    # The chain is walked before the version is made and after it: who won is known only then.
    assert counted.since() == {
        "get_registered_model": 1,
        "search_model_versions": 2,
        "create_model_version": 1,
        "set_registered_model_alias": 2,  # `champion`, then `head`
        "search_logged_models": 1,  # a writer that was cut off may have made it
        "create_logged_model": 1,
        "log_outputs": 1,
        "finalize_logged_model": 1,
        "log_batch": 1,
        "set_terminated": 1,
    }

    assert registered.status == "accepted"
    draw_missing(ledger, {registered.run_id: registered.record_digest} | head_of(plan.chain))
    # Whether they have plots: the new link and the head before it.
    assert counted.since() == {"get_run": 2, "log_batch": 1}
    assert verify_chain(ledger, NAME).findings == ()


def test_a_first_plan_of_a_process_asks_where_each_run_is_once(
    folder: Path, declaration: Declaration
) -> None:
    ledger, counted = opened(folder)
    plan_update(ledger, declaration, coins(declaration, 990))
    # The runs of the genesis record and of the head, and where the next one's artifacts go.
    assert counted.since() == {
        "get_registered_model": 2,
        "search_model_versions": 1,
        "get_experiment_by_name": 2,
        "search_runs": 1,
        "get_run": 2,
    }


def test_a_profile_reads_all_runs_at_once(folder: Path) -> None:
    ledger, counted = opened(folder)
    assert len(profile(ledger, NAME).lines) >= 2
    assert counted.since() == {
        "get_registered_model": 1,
        "get_run": 1,
        "search_model_versions": 1,
        "get_experiment_by_name": 1,
        "search_runs": 1,
    }
