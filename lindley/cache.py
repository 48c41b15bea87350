"""A cache of values that a process read and checked recently, by digest, with a bound on memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable


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
        self._most, self._size, self._held = most, size, 0
        self._values: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, read: Callable[[], T]) -> T:
        """Return the value of a key; read it when it is not held."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key][0]
        value = read()
        self.put(key, value)
        return value

    def peek(self, key: Hashable) -> T | None:
        """Return the value of a key if it is held."""
        with self._lock:
            return self._values[key][0] if key in self._values else None

    def put(self, key: Hashable, value: T) -> None:
        """Replace the value of a key; one that exceeds the bound by itself is not held."""
        size = self._size(value)
        with self._lock:
            if key in self._values:
                self._held -= self._values.pop(key)[1]
            if size <= self._most:
                self._values[key] = (value, size)
                self._held += size
            while self._held > self._most:
                self._held -= self._values.popitem(last=False)[1][1]

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._values.clear()
            self._held = 0
