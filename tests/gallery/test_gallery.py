"""The gallery's models are chains with three batches each; two of the cheapest are fitted on request."""

from __future__ import annotations

import pytest

from lindley.batch.batch import batch_from_frame
from tests.gallery.run import Case, cases, run
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


def test_the_page_is_that_of_the_results():
    assert PAGE.read_text(encoding="utf-8") == page()
