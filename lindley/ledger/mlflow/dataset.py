"""Batches as MLflow datasets."""

from __future__ import annotations

import warnings

import pandas as pd
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities import Dataset, DatasetInput

from lindley.ledger.protocol import Run

#: MLflow's limits: characters of a dataset's name and digest.
_NAME_CHARACTERS, _DIGEST_CHARACTERS = 480, 36


def describe(frame: pd.DataFrame, run: Run) -> DatasetInput:
    """Describe a batch as an MLflow dataset; the whole sha256 is in the record and a tag."""
    source = CodeDatasetSource(tags={"lindley.origin": run.origin})
    with warnings.catch_warnings():
        # MLflow warns that integer columns hold no missing values; the schema states that too.
        warnings.simplefilter("ignore")
        found = from_pandas(
            frame,
            source=source,
            name=run.origin[:_NAME_CHARACTERS],
            digest=run.batch_digest[:_DIGEST_CHARACTERS],
        )
        return DatasetInput(Dataset(**found.to_dict()), tags=[])
