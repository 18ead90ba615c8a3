"""How far apart replicas take the same plan: from the first one to the last one of them.

    ReplicaReport: its revision, and since when --> all follow one revision --> skew

Reports come once a second and at each swap, so of several swaps within a second only some are seen. The times are of
the replicas' own clocks.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final

from wire.records import ReplicaReport

RECENT: Final = 20
"""Swaps whose skews are kept."""


class SwapSkews:
    """The last skews in milliseconds. Verbs: add, recent."""

    def __init__(self) -> None:
        self._first: dict[str, int] = {}  # by replica: the revision at which it was first seen
        self._revision = 0
        self._skews_ms: deque[float] = deque(maxlen=RECENT)

    def add(self, reports: Sequence[ReplicaReport]) -> None:
        """Adds the reports of all replicas. One that has just started took no part in the swap."""
        revision = max((report.revision for report in reports), default=0)
        self._first = {report.replica: self._first.get(report.replica, report.revision) for report in reports}
        swapped = [report.swapped_ms for report in reports if self._first[report.replica] < report.revision]
        is_whole = len(swapped) == len(reports) > 1 and all(report.revision == revision for report in reports)
        if is_whole and revision != self._revision and all(swapped):
            self._revision = revision
            self._skews_ms.append(float(max(swapped) - min(swapped)))

    def recent(self) -> tuple[float, ...]:
        """Returns the last skews, the newest last."""
        return tuple(self._skews_ms)
