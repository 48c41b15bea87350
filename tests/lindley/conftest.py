"""File systems with and without hard links."""

from __future__ import annotations

import errno

import pytest

from lindley import atomic


@pytest.fixture(params=["links", "no links"])
def linking(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run on a file system with hard links, and as if there were none."""
    if request.param == "no links":

        def refuse(source: object, target: object) -> None:
            raise OSError(errno.EXDEV, "another device")

        monkeypatch.setattr(atomic.os, "link", refuse)
    return request.param
