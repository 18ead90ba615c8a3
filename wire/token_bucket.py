"""A token bucket for each key, in bounded memory. Pure: no clock.

A bucket holds at most `burst` tokens, and is refilled at `rate` tokens in a unit of the time that its caller passes.

Rejected: the LRUCache of cachetools, which does not show the order of its keys. A checkpoint keeps that order.
"""

from collections import OrderedDict
from collections.abc import Mapping


class TokenBuckets:
    """Allows each key `burst` tokens at once and `rate` in a unit of time. Keeps `max_keys` buckets, evicted by LRU.

    `buckets` holds the tokens of each key and when they were counted, least recently used first, as `export` returns.
    """

    def __init__(
        self, *, rate: float, burst: int, max_keys: int, buckets: Mapping[str, tuple[float, float]] | None = None
    ) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._max_keys = max_keys
        self._buckets = OrderedDict(buckets or {})

    def take(self, key: str, num: int, *, now: float) -> float:
        """Takes `num` tokens and returns 0, or takes none and returns the time until there are enough.

        More than `burst` at once counts as `burst`, or they could never be taken. Time that goes back refills nothing.

        >>> buckets = TokenBuckets(rate=2, burst=2, max_keys=9)
        >>> [buckets.take("a", 1, now=0.0) for _ in range(3)]
        [0.0, 0.0, 0.5]
        """
        needed = min(float(num), self._burst)
        tokens, before = self._buckets.pop(key, (self._burst, now))
        now = max(before, now)
        tokens = min(tokens + self._rate * (now - before), self._burst)
        is_enough = tokens >= needed
        left = tokens - needed if is_enough else tokens
        self._buckets[key] = (left, now)
        if len(self._buckets) > self._max_keys:
            self._buckets.popitem(last=False)
        return 0.0 if is_enough else (needed - tokens) / self._rate

    def export(self) -> dict[str, tuple[float, float]]:
        return dict(self._buckets)
