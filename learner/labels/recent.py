"""Remembers which names occurred recently, as hashes."""

from collections import deque
from collections.abc import Iterable

import mmh3


class RecentHashes:
    """Holds the last `capacity` names as 64-bit hashes; the oldest is dropped first.

    Rejected: a dict in order of insertion (to find its first key, Python walks over all that were deleted before it).
    """

    def __init__(self, capacity: int, hashes: Iterable[int] = ()) -> None:
        self._capacity = capacity
        self._order = deque(hashes)
        self._hashes = set(self._order)

    def add(self, name: bytes) -> None:
        hash_value = hash_of(name)
        if hash_value in self._hashes:
            return
        self._hashes.add(hash_value)
        self._order.append(hash_value)
        if len(self._order) > self._capacity:
            self._hashes.remove(self._order.popleft())

    def __contains__(self, name: bytes) -> bool:
        return hash_of(name) in self._hashes

    def export(self) -> list[int]:
        return list(self._order)


def hash_of(name: bytes) -> int:
    """Returns the signed 64-bit hash under which a name is remembered."""
    return mmh3.hash64(name)[0]
