"""Limits on the size of batch files, checked before anything is decoded where the format states the size."""

from __future__ import annotations

from dataclasses import dataclass

from lindley.errors import BatchRefused

_MEBIBYTE = 2**20


@dataclass(frozen=True)
class Limits:
    """Largest sizes of a file; the defaults suit a machine with 8 GB of memory.

    Parameters
    ----------
    file_bytes
        Size of the file, in bytes.
    rows, columns
        Size of the table.
    uncompressed_bytes
        Size of the table in memory, in bytes, both as the file states it and as measured.
    """

    file_bytes: int = 512 * _MEBIBYTE
    rows: int = 10_000_000
    columns: int = 1_000
    uncompressed_bytes: int = 1024 * _MEBIBYTE


#: Limits that every file meets, for files that were accepted earlier.
UNLIMITED = Limits(2**62, 2**62, 2**62, 2**62)


def too_big(name: str, what: str, limit: int, found: object) -> BatchRefused:
    """Return the refusal of a file that exceeds a limit."""
    return BatchRefused(
        f"{name} is too big",
        expected=f"at most {limit:,} {what}",
        found=f"{found:,}" if isinstance(found, int) else str(found),
        todo="cut it into smaller batches, or raise the limit (lindley.batch.limits.Limits)",
    )
