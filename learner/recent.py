"""Ids that were seen lately, as hashes."""

from collections.abc import Iterable

import mmh3


class RecentHashes:
    """The last `capacity` ids, as 64-bit hashes, oldest out first."""

    def __init__(self, capacity: int, hashes: Iterable[int] = ()) -> None:
        self._capacity = capacity
        self._hashes = dict.fromkeys(hashes)

    def add(self, event_id: str) -> None:
        self._hashes[hash_of(event_id)] = None
        if len(self._hashes) > self._capacity:
            del self._hashes[next(iter(self._hashes))]

    def __contains__(self, event_id: str) -> bool:
        return hash_of(event_id) in self._hashes

    def export(self) -> list[int]:
        return list(self._hashes)


def hash_of(event_id: str) -> int:
    """The signed 64-bit hash under which an id is remembered."""
    return mmh3.hash64(event_id.encode())[0]
