"""Names that were seen lately, as hashes."""

from collections.abc import Iterable

import mmh3


class RecentHashes:
    """The last `capacity` names, as 64-bit hashes, oldest out first."""

    def __init__(self, capacity: int, hashes: Iterable[int] = ()) -> None:
        self._capacity = capacity
        self._hashes = dict.fromkeys(hashes)

    def add(self, name: bytes) -> None:
        self._hashes[hash_of(name)] = None
        if len(self._hashes) > self._capacity:
            del self._hashes[next(iter(self._hashes))]

    def __contains__(self, name: bytes) -> bool:
        return hash_of(name) in self._hashes

    def export(self) -> list[int]:
        return list(self._hashes)


def hash_of(name: bytes) -> int:
    """The signed 64-bit hash under which a name is remembered."""
    return mmh3.hash64(name)[0]
