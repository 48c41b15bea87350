"""Wrap the schema of a declaration in the interface that batches are checked with."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from lindley.batch.schema import ArrowSchema, BatchSchema
from lindley.errors import DeclarationRefused


def as_schema(schema: Any) -> BatchSchema:
    """Wrap a declared schema.

    Parameters
    ----------
    schema
        A `pyarrow.Schema`, a pandera `DataFrameSchema`, or a subclass of pandera's `DataFrameModel`.

    Raises
    ------
    DeclarationRefused
        If it is something else, or declares columns that batches cannot contain.
    """
    if isinstance(schema, pa.Schema):
        return ArrowSchema(schema)
    made_by = schema if isinstance(schema, type) else type(schema)
    if any(base.__module__.split(".")[0] == "pandera" for base in made_by.__mro__):
        # Imported here to save start-up time: pandera takes a second, and most commands do not use it.
        from lindley.batch.pandera_schema import PanderaSchema

        return PanderaSchema(schema)
    raise DeclarationRefused(
        "The declared schema was refused",
        expected="a pyarrow.Schema or a pandera DataFrameSchema or DataFrameModel",
        found=repr(schema)[:120],
        todo='declare schema=pa.schema([pa.field("day", pa.date32(), nullable=False), ...])',
    )
