"""Turn what the operating system refuses into `FileUnavailable`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import PurePath

from lindley.errors import FileUnavailable
from lindley.names import shown_name


def looking(path: PurePath) -> AbstractContextManager[None]:
    """Turn what the operating system refuses while a file is inspected into a `FileUnavailable`."""
    return asking(f"{shown_name(path)} cannot be inspected", todo="check its permissions and its disk")


@contextmanager
def asking(happened: str, *, todo: str) -> Iterator[None]:
    """Turn what the operating system refuses in the block into a `FileUnavailable`.

    Raises
    ------
    FileUnavailable
        For any `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise FileUnavailable(happened, error, todo=todo) from error
