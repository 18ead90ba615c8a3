"""A token bucket for each client, in bounded memory. It is pure: the time is an argument."""

from collections import OrderedDict
from dataclasses import dataclass


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_s: float


class RateLimit:
    """Allows each client `burst` events at once and `per_s` a second. Keeps `max_clients` buckets, evicted by LRU."""

    def __init__(self, *, per_s: float, burst: int, max_clients: int) -> None:
        self._per_s = per_s
        self._burst = burst
        self._max_clients = max_clients
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def wait_s(self, client: str, num: int, *, now_s: float) -> float:
        """Takes `num` tokens and returns 0, or takes none and returns the seconds until there are enough.

        More than `burst` at once counts as `burst`, or the request could never be allowed.

        >>> limit = RateLimit(per_s=2, burst=2, max_clients=9)
        >>> [limit.wait_s("a", 1, now_s=0.0) for _ in range(3)]
        [0.0, 0.0, 0.5]
        """
        num = min(num, self._burst)
        bucket = self._buckets.pop(client, None) or _Bucket(float(self._burst), now_s)
        tokens = min(float(self._burst), bucket.tokens + max(0.0, now_s - bucket.filled_s) * self._per_s)
        is_enough = tokens >= num
        if is_enough:
            tokens -= num
        self._buckets[client] = _Bucket(tokens, now_s)
        if len(self._buckets) > self._max_clients:
            self._buckets.popitem(last=False)
        return 0.0 if is_enough else (num - tokens) / self._per_s
