"""Computes accuracy over time with a bounded number of points: buckets of one second, which widen in a long run."""

from dataclasses import dataclass

MAX_BUCKETS = 2_000


@dataclass(frozen=True, slots=True)
class Point:
    """The answered events in one bucket of time."""

    second: float
    """The start of the bucket, in seconds from the start of the run."""
    width_s: float
    answered: int
    """The number of answered events."""
    right: int
    """The number of right answers."""

    @property
    def accuracy(self) -> float:
        return 100.0 * self.right / self.answered


class Curve:
    """The accuracy over time: it counts right answers by the time of their event, in at most `max_buckets` buckets."""

    def __init__(self, max_buckets: int = MAX_BUCKETS) -> None:
        self._max = max_buckets
        self._width_ms = 1_000
        self._buckets: dict[int, tuple[int, int]] = {}

    def add(self, time_ms: int, *, right: bool) -> None:
        bucket = time_ms // self._width_ms
        answered, was_right = self._buckets.get(bucket, (0, 0))
        self._buckets[bucket] = (answered + 1, was_right + right)
        while len(self._buckets) > self._max:
            self._widen()

    def points(self, start_ms: int) -> list[Point]:
        """Returns the buckets in order of time, counted in seconds from `start_ms`."""
        width_ms = self._width_ms
        return [
            Point((bucket * width_ms - start_ms) / 1000, width_ms / 1000, answered, right)
            for bucket, (answered, right) in sorted(self._buckets.items())
        ]

    def _widen(self) -> None:
        self._width_ms *= 2
        merged: dict[int, tuple[int, int]] = {}
        for bucket, (answered, right) in self._buckets.items():
            before = merged.get(bucket // 2, (0, 0))
            merged[bucket // 2] = (before[0] + answered, before[1] + right)
        self._buckets = merged
