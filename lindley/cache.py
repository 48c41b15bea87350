"""A cache of values that a process read and checked recently, by digest, with a bound on memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from contextlib import suppress

from cachetools import LRUCache


class Recent[T]:
    """A least-recently-used cache whose keys identify the content of its values.

    A process that handles many batches reads the same links again and again. Equal digests mean equal
    content, so a value never goes stale.

    Parameters
    ----------
    most
        Bytes held at most.
    size
        Bytes of a value.
    """

    def __init__(self, most: int, size: Callable[[T], int]) -> None:
        self._values: LRUCache[Hashable, T] = LRUCache(most, getsizeof=size)
        self._lock = threading.Lock()

    def get(self, key: Hashable, read: Callable[[], T]) -> T:
        """Return the value of a key; read it when it is not held."""
        with self._lock:
            if key in self._values:
                return self._values[key]
        value = read()
        self.put(key, value)
        return value

    def peek(self, key: Hashable) -> T | None:
        """Return the value of a key if it is held."""
        with self._lock:
            return self._values.get(key)

    def put(self, key: Hashable, value: T) -> None:
        """Replace the value of a key; one that exceeds the bound by itself is not held."""
        with self._lock, suppress(ValueError):
            self._values.pop(key, None)
            self._values[key] = value

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._values.clear()
