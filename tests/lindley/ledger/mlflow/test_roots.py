"""Whether artifacts go where the server itself puts them: a stranger may have created the experiment."""

from __future__ import annotations

from pathlib import Path

import pytest

from lindley.errors import HomeRefused
from lindley.ledger.mlflow import paths, roots
from lindley.ledger.mlflow.store import MlflowLedger
from lindley.ledger.protocol import Run
from lindley.model.declaration import Declaration
from lindley.operations.update import plan_update
from tests.support.fakes import append, coins

NAME = "coins"
S3 = "s3://bucket/artifacts"
OWN = [
    (f"{S3}/7", S3),
    (f"{S3}/coins", S3),
    (f"{S3}/workspaces/team/7", S3),
    ("mlflow-artifacts:/7", "mlflow-artifacts:/"),
    ("mlflow-artifacts:/workspaces/team/7", "mlflow-artifacts:/"),
    ("S3://bucket/artifacts/7", S3),
    ("file:///srv/mlartifacts/7", "/srv/mlartifacts"),
    ("/srv/ml artifacts/7", "file:///srv/ml%20artifacts"),
]
OTHERS = [
    ("s3://stranger/artifacts/7", S3),
    ("s3://bucket/artifacts-of-a-stranger/7", S3),
    (S3, S3),
    (f"{S3}/8", S3),
    (f"{S3}/8/7", S3),
    (f"{S3}/7/8", S3),
    (f"{S3}/../7", S3),
    (f"{S3}/x/../7", S3),
    (f"{S3}/%2e%2e/7", S3),
    (f"{S3}/%252e%252e/7", S3),
    (f"{S3}/7?endpoint=stranger", S3),
    (f"{S3}/7#x", S3),
    (f"{S3}\\..\\7", S3),
    ("https://bucket/artifacts/7", S3),
    ("ftp://user:word@stranger/7", S3),
    ("mlflow-artifacts://stranger:5000/7", "mlflow-artifacts:/"),
    ("file:///srv/mlartifacts/../7", "/srv/mlartifacts"),
    ("/home/stranger/7", "/srv/mlartifacts"),
    ("file://stranger/srv/mlartifacts/7", S3),
    ("", S3),
    ("7", S3),
]


@pytest.mark.parametrize(("location", "root"), OWN)
def test_what_the_server_would_choose_is_its_own(location: str, root: str) -> None:
    assert roots.is_own(location, ("7", NAME), [root])
    assert roots.is_own(location, ("7", NAME), [f"{root}/", "s3://another"])


@pytest.mark.parametrize(("location", "root"), OTHERS)
def test_anything_else_is_not(location: str, root: str) -> None:
    assert not roots.is_own(location, ("7", NAME), [root])
    assert not roots.is_own(location, ("7", NAME), [])


def test_the_operator_may_grant_an_address_and_what_lies_below_it() -> None:
    for location in ("s3://elsewhere/a", "s3://elsewhere/a/b/c"):
        assert roots.is_own(location, ("7",), [S3], granted="s3://elsewhere/a/")
    for location in ("s3://elsewhere", "s3://elsewhere/ab", "s3://elsewhere/a/../b", "s3://other/a"):
        assert not roots.is_own(location, ("7",), [S3], granted="s3://elsewhere/a")


@pytest.mark.parametrize(
    ("location", "root"),
    [
        (f"{S3}/0", S3),
        ("mlflow-artifacts:/0", "mlflow-artifacts:/"),
        ("/srv/x/0/", "/srv/x"),
        (f"{S3}/x", ""),
    ],
)
def test_the_root_is_read_from_the_default_experiment(location: str, root: str) -> None:
    assert roots.root_of(location, "0") == root


def test_a_stranger_s_experiment_gets_nothing(
    declaration: Declaration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused before the first fit, and by the ledger itself: it may have come during the fit."""
    place = tmp_path / "stranger"
    ledger = MlflowLedger(f"sqlite:///{tmp_path / 'home' / 'mlflow.db'}", tmp_path / "home")
    made = ledger.client.create_experiment(f"lindley/{NAME}", place.as_uri())
    with pytest.raises(HomeRefused, match="another place than its server does") as caught:
        plan_update(ledger, declaration, coins(declaration, 0))
    assert caught.value.found == place.as_uri()
    assert roots.VARIABLE in caught.value.todo
    with pytest.raises(HomeRefused):
        ledger.open_run(NAME, Run(name="run", origin="x.csv"))
    assert ledger.chains() == []
    assert not place.exists()
    # Renamed, or granted by the operator.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(roots.VARIABLE, tmp_path.as_uri())
        assert append(ledger, declaration, coins(declaration, 0)).link == 1
    with pytest.raises(HomeRefused):  # at each link
        plan_update(ledger, declaration, coins(declaration, 10))
    ledger.client.rename_experiment(made, "put away")
    assert ledger.home(NAME) is None


def test_experiments_of_the_server_and_of_a_working_folder_are_its_own(tmp_path: Path) -> None:
    ledger = MlflowLedger(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path)
    default = roots.root_of(ledger.client.get_experiment("0").artifact_location, "0")
    assert default
    chosen = {
        "by-the-server": None,
        "embedded": (tmp_path / paths.FOLDER / "embedded").as_uri(),
        "moved": f"/old/home/{paths.FOLDER}/moved",
    }
    for name, location in chosen.items():
        ledger.client.create_experiment(f"lindley/{name}", location)
        home = ledger.home(name)
        assert home is not None
        assert home.elsewhere == "", name
