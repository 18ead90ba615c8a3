"""Computes recent answers per second and latencies from the counts that replicas keep since their start."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from wire.records import LATENCY_BOUNDS_MS, ReplicaReport

WINDOW_MS: Final = 10_000

MAX_REPORTS: Final = 64
"""Largest number of reports that are kept of a replica, more than a window has."""

NUM_BUCKETS: Final = len(LATENCY_BOUNDS_MS) + 1


@dataclass(frozen=True, slots=True)
class ReplicaTraffic:
    """Answers per second, and their latency histogram (buckets: LATENCY_BOUNDS_MS), over about ten seconds."""

    per_s: float = 0.0
    latency_counts: tuple[int, ...] = ()

    def latency_ms(self, share: float) -> float | None:
        """Returns the quantile of the latency at `share`; None if there were no answers."""
        return quantile(self.latency_counts, LATENCY_BOUNDS_MS, share)


def quantile(counts: Sequence[int], bounds: Sequence[float], share: float) -> float | None:
    """Returns the quantile of a histogram at `share`, interpolated linearly within a bucket, as Prometheus does.

    `bounds` are the upper ends of the buckets. The last count, beyond all bounds, counts as the last bound. None for an
    empty histogram.

    >>> quantile([0, 10, 0], [10, 20], 0.5), quantile([0, 0, 1], [10, 20], 0.5), quantile([], [], 0.5)
    (15.0, 20.0, None)
    """
    rank = share * sum(counts)
    if not rank:
        return None
    below = 0
    for number, count in enumerate(counts[:-1]):
        if count and below + count >= rank:
            low = bounds[number - 1] if number else 0.0
            return low + (bounds[number] - low) * (rank - below) / count
        below += count
    return float(bounds[-1])


class ReplicaRates:
    """The last reports of each replica. Verbs: add."""

    def __init__(self) -> None:
        self._reports: dict[str, deque[ReplicaReport]] = {}

    def add(self, reports: Sequence[ReplicaReport]) -> dict[str, ReplicaTraffic]:
        """Adds the reports of all present replicas; returns the traffic of each. Reports of others are dropped."""
        present = {report.replica: report for report in reports}
        self._reports = {name: self._reports.get(name, deque(maxlen=MAX_REPORTS)) for name in present}
        return {name: self._traffic(self._reports[name], report) for name, report in present.items()}

    def _traffic(self, reports: deque[ReplicaReport], report: ReplicaReport) -> ReplicaTraffic:
        if not reports or reports[-1].time_ms != report.time_ms:
            reports.append(report)
        while len(reports) > 2 and report.time_ms - reports[1].time_ms >= WINDOW_MS:
            reports.popleft()
        before = reports[0]
        elapsed_ms = report.time_ms - before.time_ms
        if elapsed_ms <= 0 or not all(len(end.latency_counts) == NUM_BUCKETS for end in (before, report)):
            return ReplicaTraffic()
        both = zip(report.latency_counts, before.latency_counts, strict=True)
        counts = tuple(max(now - then, 0) for now, then in both)
        return ReplicaTraffic(1_000 * sum(counts) / elapsed_ms, counts)


def sum_traffic(traffic: Sequence[ReplicaTraffic]) -> ReplicaTraffic:
    """Returns the traffic of all replicas together. A replica that has just started does not count."""
    return ReplicaTraffic(
        sum(replica.per_s for replica in traffic),
        tuple(map(sum, zip(*(replica.latency_counts for replica in traffic if replica.latency_counts), strict=True))),
    )
