"""Cutting an upstream source into batches and dropping them into the landing folder."""

from __future__ import annotations

import itertools

from lindley.arrivals.storage import storage_of
from lindley.errors import BatchUnreadable, DeclarationRefused, LindleyError
from lindley.model.declaration import load_declaration
from lindley.workspace import Workspace


def drop_batches(workspace: Workspace, chain: str, source: str, limit: int | None = None) -> list[str]:
    """Cut a source as the chain's declaration says and drop the batches into the landing folder.

    Raises
    ------
    DeclarationRefused
        If the declaration has no `split`, or it fails.
    """
    declaration = load_declaration(chain, workspace.models)
    if declaration.split is None:
        raise DeclarationRefused(
            f"The chain {chain} does not say how its source is cut into batches",
            expected="a declaration with split=",
            found="none",
            todo="write one, or drop batches into the landing folder yourself",
        )
    try:
        batches = list(itertools.islice(declaration.split(source), limit))
    except LindleyError:
        raise
    except Exception as error:  # the user's code and data
        raise BatchUnreadable(
            f"The source cannot be cut into batches of {chain}",
            found=f"{type(error).__name__}: {error}",
            todo="correct the path or URL, or the model file's split",
        ) from error
    storage = storage_of(workspace)
    return [storage.shown(storage.drop(frame, chain, stem)) for stem, frame in batches]
