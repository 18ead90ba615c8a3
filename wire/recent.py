"""A bounded set of recent names, kept as hashes."""

from collections import deque
from collections.abc import Iterable

import mmh3


class RecentHashes:
    """The last `capacity` different names, as 64-bit hashes under `seed`. The oldest is dropped first (FIFO)."""

    def __init__(self, capacity: int, hashes: Iterable[int] = (), *, seed: int = 0) -> None:
        self._capacity = capacity
        self._seed = seed
        self._order = deque(hashes)
        self._hashes = set(self._order)

    def add(self, name: bytes) -> None:
        hash_value = name_hash64(name, self._seed)
        if hash_value in self._hashes:
            return
        self._hashes.add(hash_value)
        self._order.append(hash_value)
        if len(self._order) > self._capacity:
            self._hashes.remove(self._order.popleft())

    def discard(self, names: Iterable[bytes]) -> None:
        """Removes these names, if they are in the set."""
        removed = self._hashes.intersection(name_hash64(name, self._seed) for name in names)
        if removed:
            self._hashes -= removed
            self._order = deque(hash_value for hash_value in self._order if hash_value not in removed)

    def __contains__(self, name: bytes) -> bool:
        return name_hash64(name, self._seed) in self._hashes

    def export(self) -> list[int]:
        return list(self._order)


def name_hash64(name: bytes, seed: int = 0) -> int:
    """Returns the signed 64-bit hash of a name (MurmurHash3)."""
    return mmh3.hash64(name, seed)[0]
