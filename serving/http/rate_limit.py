"""A token bucket for each client, in bounded memory. Pure: the time is an argument."""

from collections import OrderedDict
from dataclasses import dataclass


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_s: float


class RateLimit:
    """Lets each client have `burst` at once and `per_s` a second. Of `max_clients`, the longest unseen goes first."""

    def __init__(self, *, per_s: float, burst: int, max_clients: int) -> None:
        self._per_s = per_s
        self._burst = burst
        self._max_clients = max_clients
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def wait_s(self, client: str, num: int, *, now_s: float) -> float:
        """Takes `num` and returns 0, or takes nothing and returns after how many seconds there will be enough.

        More than `burst` at once counts as `burst`, or it could never be had.

        >>> limit = RateLimit(per_s=2, burst=2, max_clients=9)
        >>> [limit.wait_s("a", 1, now_s=0.0) for _ in range(3)]
        [0.0, 0.0, 0.5]
        """
        num = min(num, self._burst)
        bucket = self._buckets.pop(client, None) or _Bucket(float(self._burst), now_s)
        tokens = min(float(self._burst), bucket.tokens + max(0.0, now_s - bucket.filled_s) * self._per_s)
        is_enough = tokens >= num
        self._buckets[client] = _Bucket(tokens - num if is_enough else tokens, now_s)
        if len(self._buckets) > self._max_clients:
            self._buckets.popitem(last=False)
        return 0.0 if is_enough else (num - tokens) / self._per_s
