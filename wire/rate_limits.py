"""Rate limits: a token bucket for each key, and bounds on each source of labels. Pure: no clock, no bus.

    TokenBuckets.take(key, num, now) --> 0, or the time until there are enough tokens
    label --Rates.take--> over_rate                      a token bucket for each source
          --Shares.add--> over_share                     a cap on the source's share of the learnt labels

**Token buckets.** A bucket holds at most `burst` tokens, and gets `rate` new tokens in each unit of the caller's time.
For a source of labels, the caller's time is the time of the newest answer that the source has labelled. The service
sets these times, so a source cannot fill its bucket by claiming another time. Labels that arrive together, hours after
their answers, are treated as if each had arrived at the time of its answer.

**Shares.** A source is flooding if it sends more than `share` of the recent labels, and more than TOLERANCE times as
many as the other sources on average. While it is flooding, its labels are at most `share` of the accepted labels. The
other sources lose nothing. If there is only one source, or there are a few of about equal size, none of them is capped.

The number of buckets is bounded (LRU), and shares are counted over a window of recent labels. Both identify a source by
the name in its labels. The broker decides who may write under which name (an ACL of the topic, one producer for each
source).
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Mapping
from typing import Final

import msgspec

TOLERANCE: Final = 2
"""How many times as many labels as the average other source a flooding source sends at least."""

MAX_NAME_CHARS: Final = 100
"""Longest name of a source. A longer name is truncated."""


class TokenBuckets:
    """Allows each key `burst` tokens at once and `rate` in a unit of time. Keeps `max_keys` buckets, evicted by LRU.

    `buckets` restores a state that `export` returned: for each key its tokens and the time at which they were counted,
    least recently used first.
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

        If `num` is more than `burst`, `burst` tokens are taken, since there are never more. If `now` goes back, no
        tokens are added.

        >>> buckets = TokenBuckets(rate=2, burst=2, max_keys=9)
        >>> [buckets.take("a", 1, now=0.0) for _ in range(3)]
        [0.0, 0.0, 0.5]
        """
        needed = min(float(num), self._burst)
        # Removing the bucket and adding it again makes it the most recently used one.
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


class SourcesState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of `Rates` and `Shares` in a checkpoint.

    - `buckets`: the tokens and the time of each source, least recently used first.
    - `recent`: for each recent label, its source and whether it was accepted.
    """

    buckets: dict[str, tuple[float, int]]
    recent: list[tuple[str, bool]]


class Rates:
    """Allows each source `burst` labels at once and `per_s` labels a second (0: no limit), by the times of its
    answers."""

    def __init__(
        self, *, per_s: float, burst: int, max_sources: int, buckets: dict[str, tuple[float, int]] | None = None
    ) -> None:
        self._is_limited = per_s > 0
        self._buckets = TokenBuckets(rate=1e-3 * per_s, burst=burst, max_keys=max_sources, buckets=buckets)

    def take(self, source: str, time_ms: int) -> bool:
        """Takes a token for one more label of `source`, whose answer has the time `time_ms`; False if the bucket is
        empty."""
        return not self._is_limited or self._buckets.take(source[:MAX_NAME_CHARS], 1, now=time_ms) == 0.0

    def export(self) -> dict[str, tuple[float, int]]:
        return {name: (tokens, int(clock_ms)) for name, (tokens, clock_ms) in self._buckets.export().items()}


class Shares:
    """Counts the last `window` labels by source. A flooding source gets at most `share` of them (1: no cap)."""

    def __init__(self, *, share: float, window: int, recent: list[tuple[str, bool]] | None = None) -> None:
        self._share = share
        self._window = window
        self._recent = deque(recent or ())
        self._sent = Counter(name for name, _ in self._recent)
        self._accepted = Counter(name for name, is_accepted in self._recent if is_accepted)

    def add(self, source: str) -> bool:
        """Counts one more label of `source`, and returns whether it may be learnt."""
        if self._share >= 1.0:
            return True
        name = source[:MAX_NAME_CHARS]
        self._sent[name] += 1
        is_accepted = not self._is_flooding(name) or self._is_below_cap(name)
        self._accepted[name] += is_accepted
        self._recent.append((name, is_accepted))
        if len(self._recent) > self._window:
            self._expire(*self._recent.popleft())
        return is_accepted

    def export(self) -> list[tuple[str, bool]]:
        return list(self._recent)

    def _is_flooding(self, name: str) -> bool:
        own = self._sent[name]
        others = self._sent.total() - own
        # The second condition compares with the mean of the other sources, without a division by 0.
        num_others = len(self._sent) - 1
        return own > self._share * (own + others) and own * num_others > TOLERANCE * others

    def _is_below_cap(self, name: str) -> bool:
        return self._accepted[name] + 1 <= self._share * (self._accepted.total() + 1)

    def _expire(self, name: str, was_accepted: bool) -> None:
        self._sent[name] -= 1
        self._accepted[name] -= was_accepted
        if not self._sent[name]:
            del self._sent[name], self._accepted[name]
