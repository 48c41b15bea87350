"""One ledger per backend for the contract suite."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from lindley.ledger.mlflow.store import MlflowLedger
from lindley.ledger.protocol import Ledger, Run
from tests.contract import processes
from tests.support import servers
from tests.support.fakes import MemoryLedger

_numbers = itertools.count(1)


@dataclass
class Backend:
    """A ledger, how another view of it and a killed writer come about, and whether it has pages to show."""

    name: str
    ledger: Ledger
    again: Callable[[], Ledger]
    killed_run: Callable[[str], str]
    pages: bool = False


#: Fixtures of servers; the last one, which takes another minute, is left to `make test-faults`.
SERVERS = {"server": "mlflow_server", "postgres-s3": "direct_s3", "postgres-s3-proxied": "proxied_s3"}


@pytest.fixture(
    scope="session",
    params=[
        "memory",
        "sqlite",
        pytest.param("server", marks=pytest.mark.e2e),
        pytest.param("postgres-s3", marks=pytest.mark.e2e),
        pytest.param("postgres-s3-proxied", marks=[pytest.mark.e2e, pytest.mark.faults]),
    ],
)
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Backend:
    if request.param == "memory":
        memory = MemoryLedger()
        return Backend("memory", memory, lambda: memory, lambda chain: _killed_in_memory(memory, chain))
    root = tmp_path_factory.mktemp("contract ü")  # addresses of such folders are percent-encoded
    uri = f"sqlite:///{root / 'mlflow.db'}"
    if request.param in SERVERS:
        uri = request.getfixturevalue(SERVERS[request.param])
    return Backend(
        request.param,
        MlflowLedger(uri, root),
        lambda: MlflowLedger(uri, root),
        lambda chain: processes.killed_run(uri, root, chain),
        pages=request.param in SERVERS,
    )


@pytest.fixture
def ledger(backend: Backend) -> Ledger:
    return backend.ledger


@pytest.fixture
def chain() -> str:
    """A chain name that no other test has."""
    return f"chain-{next(_numbers)}"


def _killed_in_memory(ledger: MemoryLedger, chain: str) -> str:
    run_id = ledger.open_run(chain, Run(name="killed"))
    ledger.kill(run_id)
    return run_id


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a real tracking server on loopback; yield its address; stop it with all its processes."""
    address, server = servers.mlflow_server(tmp_path_factory.mktemp("server"))
    with server.running():
        yield address


@pytest.fixture(scope="session")
def postgres() -> Iterator[Callable[[str], str]]:
    with servers.postgres() as database:
        yield database


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with servers.s3(tmp_path_factory.mktemp("s3")) as access:
        yield access


@pytest.fixture(scope="session")
def direct_s3(
    postgres: Callable[[str], str], s3: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A tracking server on PostgreSQL whose clients write to the bucket themselves."""
    address, server = servers.on_postgres(tmp_path_factory.mktemp("direct"), postgres, s3, proxied=False)
    with pytest.MonkeyPatch.context() as environment, server.running():
        for name, value in s3.items():
            environment.setenv(name, value)
        yield address


@pytest.fixture(scope="session")
def proxied_s3(
    postgres: Callable[[str], str], s3: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The same with the server between its clients, who know no key, and the bucket."""
    address, server = servers.on_postgres(tmp_path_factory.mktemp("proxied"), postgres, s3, proxied=True)
    with server.running():
        yield address
