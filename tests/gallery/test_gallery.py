"""The gallery's models are chains with three batches each; two of the cheapest are fitted on request."""

from __future__ import annotations

import numpy as np
import pytest

from lindley.batch.batch import batch_from_frame
from tests.gallery.run import Case, cases, deviation, hardly_known, run
from tests.gallery.table import PAGE, page


def test_there_are_twenty_models_and_more():
    assert len(cases()) >= 20


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_every_model_has_three_batches_of_its_schema(case: Case):
    if case.name in ("marginalised", "state_space"):
        pytest.importorskip("pymc_extras")
    declaration = case.load()
    assert declaration.name == case.name.replace("_", "-")
    assert declaration.split is not None
    batches = [batch_from_frame(frame, declaration, stem) for stem, frame in declaration.split("1")]
    assert len(batches) == 3
    keys = [tuple(row) for batch in batches for row in batch.frame()[list(batch.key)].itertuples(index=False)]
    assert len(set(keys)) == len(keys)


@pytest.mark.faults
@pytest.mark.parametrize("name", ["hurdle", "imputed_outcome"])
def test_cheap_models_are_right(name: str):
    (case,) = (case for case in cases() if case.name == name)
    found = run(case, cheap=True)
    assert found["outcome"] == "right", found


def test_sds_that_heavy_tails_leave_unknown_are_not_compared():
    rng = np.random.default_rng(1)
    normal, cauchy = rng.normal(size=(4, 1500)), rng.standard_cauchy(size=(4, 1500))
    assert not hardly_known(normal)
    assert hardly_known(normal, cauchy)
    row = {"mean": 7.0, "sd": 40.0, "q05": -6.31, "q50": 0.0, "q95": 6.31}
    found = deviation(row, cauchy, by_quantiles=True)
    assert found is not None
    assert abs(found["error"]) < 0.05
    assert found["ratio"] == pytest.approx(1, abs=0.1)
    wrong = deviation(row, normal, by_quantiles=False)
    assert wrong is not None
    assert wrong["ratio"] == pytest.approx(40, rel=0.1)
    assert deviation(row, np.ones((4, 10)), by_quantiles=False) is None


def test_the_page_is_that_of_the_results():
    assert PAGE.read_text(encoding="utf-8") == page()
