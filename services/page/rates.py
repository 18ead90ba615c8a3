"""Answers a second and their latencies over the last seconds, from what replicas have counted since their start."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from wire.records import LATENCY_BOUNDS_MS, ReplicaReport

WINDOW_MS: Final = 10_000

MAX_REPORTS: Final = 64
"""Reports of one replica that are kept: those of the window."""

NUM_CLASSES: Final = len(LATENCY_BOUNDS_MS) + 1


@dataclass(frozen=True, slots=True)
class ReplicaTraffic:
    """Answers a second, and the classes of their latencies (LATENCY_BOUNDS_MS), over about ten seconds."""

    per_s: float = 0.0
    latency_counts: tuple[int, ...] = ()

    def latency_ms(self, share: float) -> float | None:
        """Returns the latency that a `share` of the answers did not exceed; None where there were none."""
        return quantile(self.latency_counts, LATENCY_BOUNDS_MS, share)


def quantile(counts: Sequence[int], bounds: Sequence[float], share: float) -> float | None:
    """Returns the value below which a `share` of what was counted lies: linear in its class, as Prometheus does it.

    `bounds` are the upper ends of the classes; the last count, of what is beyond, lies at the last bound.

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
        """Adds the reports of all replicas; returns what each does. One that is gone is forgotten."""
        present = {report.replica: report for report in reports}
        self._reports = {name: self._reports.get(name, deque(maxlen=MAX_REPORTS)) for name in present}
        return {name: self._traffic(self._reports[name], report) for name, report in present.items()}

    def _traffic(self, kept: deque[ReplicaReport], report: ReplicaReport) -> ReplicaTraffic:
        if not kept or kept[-1].time_ms != report.time_ms:
            kept.append(report)
        while len(kept) > 2 and report.time_ms - kept[1].time_ms >= WINDOW_MS:
            kept.popleft()
        before = kept[0]
        elapsed_ms = report.time_ms - before.time_ms
        if elapsed_ms <= 0 or not all(len(each.latency_counts) == NUM_CLASSES for each in (before, report)):
            return ReplicaTraffic()
        both = zip(report.latency_counts, before.latency_counts, strict=True)
        counts = tuple(max(now - then, 0) for now, then in both)
        return ReplicaTraffic(1_000 * sum(counts) / elapsed_ms, counts)


def total(traffic: Sequence[ReplicaTraffic]) -> ReplicaTraffic:
    """Returns what all replicas do together; one that has just started is left out."""
    return ReplicaTraffic(
        sum(each.per_s for each in traffic),
        tuple(map(sum, zip(*(each.latency_counts for each in traffic if each.latency_counts), strict=True))),
    )
