"""Predictions for rows of many members: routed by key, each from its own belief, read from few files."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from mlflow.pyfunc import load_model

from flows.live.following import Follower
from flows.live.prediction_files import predict_file
from flows.live.predictions import Predictions
from lindley.errors import BatchRefused
from lindley.ledger.history import Link
from lindley.ledger.mlflow.store import MlflowLedger
from lindley.ledger.record import Artifact, canonical
from lindley.model.declaration import Declaration
from lindley.panel.serving.predictor import MemberPredictor, by_model
from lindley.verification.loading import Brought, checked_link
from tests.support import panels
from tests.support.alone import ALONE, answer_alone
from tests.support.fakes import MemoryLedger
from tests.support.live import running

#: Rows of members whose newest rows are in three links, in no order.
ASKED = pd.DataFrame({"store": ["s4", "bad", "s1", "s4", "new"], "n": [10, 10, 1000, 20, 10]})


def loaded(ledger: Any, place: str = "head") -> Link:
    return checked_link(ledger, f"{panels.NAME}@{place}", Brought())


def test_each_row_is_predicted_by_its_member(panel: MemoryLedger) -> None:
    """4 of 10 trials three times beside Beta(2, 3): a mean of 14/35 a trial. In three links 17/95."""
    found = loaded(panel).predict(ASKED)
    assert list(found["store"]) == list(ASKED["store"])
    assert list(found["row"]) == [0, 1, 2, 3, 4]
    exact = np.array([14 / 35 * 10, 17 / 35 * 10, 17 / 95 * 1000, 14 / 35 * 20, 17 / 35 * 10])
    # Of 1,000 draws, and matches within 0.1 sds; a mean is within 4 of their standard errors.
    assert (np.abs(found["mean"] - exact) < found["sd"] * (4 / np.sqrt(1000) + 0.1)).all()
    assert found["q05"].le(found["q50"]).all()


def test_rows_of_other_members_change_no_number(panel: MemoryLedger) -> None:
    link = loaded(panel)
    whole = link.predict(ASKED, seed=3)
    for store in ("s4", "s1"):
        rows = ASKED[ASKED["store"] == store]
        alone, beside = link.predict(rows, seed=3), whole[whole["store"] == store]
        assert alone["mean"].tolist() == beside["mean"].tolist()
    assert link.predict(ASKED, seed=4)["mean"].tolist() != whole["mean"].tolist()


def test_three_files_are_read_for_one_member(panel: MemoryLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    read: Counter[str] = Counter()
    download = MemoryLedger.download

    def counting(self: MemoryLedger, run_id: str, folder: Path, path: str = "") -> Path:
        read[path] += 1
        return download(self, run_id, folder, path)

    monkeypatch.setattr(MemoryLedger, "download", counting)
    link = loaded(panel)
    link.predict(ASKED.iloc[:1])
    assert read[Artifact.MEMBERS] + read[Artifact.INDEX] <= 3
    assert read[Artifact.BATCH] == 0


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (pd.DataFrame({"n": [10]}), "which members"),
        (pd.DataFrame({"store": ["s4", "nowhere"], "n": [1, 1]}), r"Found: \[store=nowhere\]"),
        (pd.DataFrame({"store": ["s4", None], "n": [1, 1]}), "store"),
    ],
)
def test_rows_without_a_member_are_refused(panel: MemoryLedger, rows: pd.DataFrame, words: str) -> None:
    with pytest.raises(BatchRefused, match=words):
        loaded(panel).predict(rows)


def test_unknown_members_are_those_of_the_population(panel: MemoryLedger, tmp_path: Path) -> None:
    declared = panels.declare(
        tmp_path,
        **{
            'carried=("theta",),': 'carried=("theta",),\n    panel=PanelPolicy(new="population"),',
        },
    )
    source = loaded(panel).predictor._members  # type: ignore[attr-defined]
    found = MemberPredictor(declared, source).predict(
        pd.DataFrame({"store": ["nowhere", "s4"], "n": [100, 100]})
    )
    assert found["sd"][0] > found["sd"][1]
    assert 10 < found["mean"][0] < 60


def test_a_server_and_a_file_route_rows(panel: MemoryLedger, tmp_path: Path) -> None:
    follower = Follower(panel, panels.NAME)
    expected = loaded(panel).predict(ASKED)
    with running(Predictions({panels.NAME: follower}).app) as client:
        answer = client.post("/invocations", json={"dataframe_records": ASKED.to_dict("records")})
        assert answer.status_code == 200, answer.text
        rows, named = answer.json()["predictions"], answer.json()["lindley"]
        assert [row["mean"] for row in rows] == expected["mean"].tolist()
        assert [row["store"] for row in rows] == list(ASKED["store"])
        assert named["record"] == follower.snapshot.link.view.record_digest
        refused = client.post("/invocations", json={"dataframe_records": [{"store": "x", "n": 1}]})
        assert refused.status_code == 400
        assert "[store=x]" in refused.json()["message"]
        assert client.get("/belief").status_code == 200
    ASKED.to_csv(tmp_path / "rows.csv", index=False)
    predict_file(loaded(panel), tmp_path / "rows.csv", tmp_path / "out.parquet")
    written = pq.read_table(tmp_path / "out.parquet")
    assert written["mean"].to_pylist() == expected["mean"].tolist()
    assert json.loads(written.schema.metadata[b"lindley"])["link"] == 3


def test_a_models_own_transforms_are_used_where_elements_mix() -> None:
    import pymc as pm

    with pm.Model() as model:
        low = pm.Normal("low")
        pm.Dirichlet("share", np.ones(3))
        pm.Uniform("above", lower=low, upper=low + 2)
    u = {"low": np.array([0.5, -1.0]), "share": np.array([[0.1, 0.2], [1.0, -1.0]]), "above": np.zeros(2)}
    found = by_model(model, u)
    assert np.allclose(found["share"].sum(axis=1), 1)
    assert np.allclose(found["above"], u["low"] + 1)  # the middle of the interval
    exact = model.rvs_to_transforms[model["share"]].backward(u["share"]).eval()
    assert np.allclose(found["share"], exact)


@pytest.fixture(scope="module")
def registered(shops: Declaration, tmp_path_factory: pytest.TempPathFactory) -> MlflowLedger:
    """Three links in MLflow: all members, then one, then another."""
    root = tmp_path_factory.mktemp("registered")
    ledger = MlflowLedger(f"sqlite:///{root / 'mlflow.db'}", root)
    panels.append(ledger, shops, panels.batch(shops, {"s1": 1, "s4": 4, "s7": 7}, 0))
    panels.append(ledger, shops, panels.batch(shops, {"s1": 1}, 10))
    panels.append(ledger, shops, panels.batch(shops, {"s4": 8}, 20))
    return ledger


def test_the_registered_model_predicts_rows_of_many_members(
    registered: MlflowLedger, shops: Declaration, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import mlflow

    monkeypatch.setattr(mlflow.tracking._tracking_service.utils, "_tracking_uri", None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registered.client.tracking_uri)
    model = load_model(f"models:/{panels.NAME}@head")
    rows = pd.DataFrame({"store": ["s7", "s1", "s4"], "n": [10, 10, 10]})
    found: Any = model.predict(rows)
    # The same code and draws as from the ledger itself.
    assert found["mean"].tolist() == loaded(registered).predict(rows)["mean"].tolist()
    assert model.metadata.signature.inputs.to_dict()[0]["name"] == "store"
    with pytest.raises(Exception, match="store=nowhere"):
        model.predict(pd.DataFrame({"store": ["nowhere"], "n": [1]}))
    # Another place, another process, without Lindley: the other links' runs are asked of the server.
    folder = loaded(registered).download_belief(tmp_path)
    asked = ALONE.replace(
        "mlflow.pyfunc.load_model(sys.argv[1]).input_example", "__import__('pandas').DataFrame(ROWS)"
    )
    answer = answer_alone(folder, tmp_path, f"ROWS = {rows.to_dict('list')!r}\n{asked}")
    assert answer["mean"] == found["mean"].tolist()
    assert "lindley.zip" in answer["from"]
    # What comes from another run is checked: another row of the member is not taken.
    about = json.loads((folder / "artifacts" / "members.json").read_text())
    about["runs"] = {number: registered.versions(panels.NAME)[1].run_id for number in about["runs"]}
    (folder / "artifacts" / "members.json").write_bytes(canonical(about))
    with pytest.raises(Exception, match=r"index of link 1 is not|leaf of"):
        load_model(str(folder)).predict(rows)
