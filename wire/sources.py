"""How much one source of labels may say: so many a second, and no more than its share. Pure: no clock, no bus.

    label --Rates.take--> over_rate                      a token bucket for each source
          --Shares.take-> over_share                     a cap on its share of what is learnt

The clock of a bucket is the newest answer that its source has labelled. Those times are ours: a source that claims
times of its own fills no bucket with them, and labels that come in one heap, hours later, are as good as at once.

A source is flooding when it says more than `share` of the recent labels, and more than TOLERANCE times as many as the
others on average; while it is, it gets at most `share` of what is learnt, and the others lose nothing.
So a source alone is never capped, nor are a few that say about as much as each other.

Both remember a bounded number of sources, the longest silent out first. They go by the name that a label carries: who
may write under which name is for the broker to say (an ACL of the topic, one producer for each source).

Rejected: the clock of the wall (a replay would refuse other labels), the time in the label (its sender's word), and a
cap on what is learnt alone (two sources of unlike size would stop each other).
"""

from collections import Counter, OrderedDict, deque
from typing import Final

import msgspec

TOLERANCE: Final = 2
MAX_NAME_CHARS: Final = 100
"""Of a longer name only this much is looked at."""


class SourcesState(msgspec.Struct, frozen=True, kw_only=True):
    """`buckets`: tokens and clock of each source, longest silent first. `recent`: who said a label, was it taken."""

    buckets: dict[str, tuple[float, int]]
    recent: list[tuple[str, bool]]


class Rates:
    """A token bucket for each source: `per_s` labels a second (0: no limit), `burst` of them at once."""

    def __init__(
        self, *, per_s: float, burst: int, max_sources: int, buckets: dict[str, tuple[float, int]] | None = None
    ) -> None:
        self._per_ms = 1e-3 * per_s
        self._burst = float(burst)
        self._max_sources = max_sources
        self._buckets = OrderedDict(buckets or {})

    def take(self, source: str, time_ms: int) -> bool:
        """Whether `source` may say a label now, at `time_ms` of its clock."""
        if not self._per_ms:
            return True
        name = source[:MAX_NAME_CHARS]
        tokens, before_ms = self._buckets.pop(name, (self._burst, time_ms))
        now_ms = max(before_ms, time_ms)
        tokens = min(tokens + self._per_ms * (now_ms - before_ms), self._burst)
        is_taken = tokens >= 1.0
        self._buckets[name] = (tokens - is_taken, now_ms)
        if len(self._buckets) > self._max_sources:
            self._buckets.popitem(last=False)
        return is_taken

    def export(self) -> dict[str, tuple[float, int]]:
        return dict(self._buckets)


class Shares:
    """The last `window` labels by source; a source that floods gets at most `share` of those taken (1: no cap)."""

    def __init__(self, *, share: float, window: int, recent: list[tuple[str, bool]] | None = None) -> None:
        self._share = share
        self._window = window
        self._recent = deque(recent or ())
        self._said = Counter(name for name, _ in self._recent)
        self._taken = Counter(name for name, is_taken in self._recent if is_taken)

    def take(self, source: str) -> bool:
        """Whether one more label of `source` may be learnt."""
        if self._share >= 1.0:
            return True
        name = source[:MAX_NAME_CHARS]
        self._said[name] += 1
        is_taken = not self._is_flooding(name) or self._taken[name] + 1 <= self._share * (self._taken.total() + 1)
        self._taken[name] += is_taken
        self._recent.append((name, is_taken))
        if len(self._recent) > self._window:
            self._forget(*self._recent.popleft())
        return is_taken

    def export(self) -> list[tuple[str, bool]]:
        return list(self._recent)

    def _is_flooding(self, name: str) -> bool:
        said = self._said[name]
        others = self._said.total() - self._said[name]
        return said > self._share * (said + others) and said * (len(self._said) - 1) > TOLERANCE * others

    def _forget(self, name: str, was_taken: bool) -> None:
        self._said[name] -= 1
        self._taken[name] -= was_taken
        if not self._said[name]:
            del self._said[name], self._taken[name]
