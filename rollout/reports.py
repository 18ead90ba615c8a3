"""What the controller measures for its report: no decision rests on it.

    Feedback, Answer --LabelToLive---> the time from a label to the first answer of a version that has learnt it
    ReplicaReport -----SwapSkews-----> how far apart replicas take the same plan
    JudgedLabel -------ArmAccuracies-> how accurate the arms are as answered, whatever the versions that they had

A label whose answer was traced ends in that trace: in a span from its own time to the first answer of the stable arm
under a version that has learnt it. `evals/load/score.py` computes the same times of a run that is over.
"""

from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from rollout.judged_events import JudgedLabel
from rollout.statistics import share_interval
from wire import traces
from wire.errors import WireError
from wire.records import LABEL_TO_LIVE_BOUNDS_MS, STABLE, Answer, ArmAccuracy, ArmName, Feedback, ReplicaReport
from wire.traces import LIVE, VERSION_NUMBER, TracedAnswers

MAX_WAITING: Final = 10_000
"""Labels that wait for a version; the oldest are forgotten first."""


class _WaitingLabel(NamedTuple):
    """The place and time of a label, and the trace of its answer ("": it has none)."""

    partition: str
    offset: int
    time_ms: int
    traceparent: str

    def is_in(self, trained_through: Mapping[str, int]) -> bool:
        return self.offset < trained_through.get(self.partition, 0)


class LabelToLive:
    """Counts the times. Verbs: add_label, add_answer, totals. `trained_through` says which offsets a version has
    learnt, by `topic/partition`, and may raise a WireError: such a version makes nothing live."""

    def __init__(self, trained_through: Callable[[int], Mapping[str, int]]) -> None:
        self._trained_through = trained_through
        self._waiting: deque[_WaitingLabel] = deque(maxlen=MAX_WAITING)
        self._traced = TracedAnswers()
        self._version = 0
        self._through: Mapping[str, int] = {}
        self._since_ms = 0
        self._counts = [0] * (len(LABEL_TO_LIVE_BOUNDS_MS) + 1)
        self._sum_ms = 0.0

    def add_label(self, label: Feedback, partition: str, offset: int) -> None:
        """Adds a label at its place in the topic. One without a time is not counted."""
        if label.time_ms <= 0:
            return
        waiting = _WaitingLabel(partition, offset, label.time_ms, self._traced.take(label.event_id, label.event_source))
        if waiting.is_in(self._through):
            self._end(waiting)  # the answers' topic was read before that of the labels
        else:
            self._waiting.append(waiting)

    def add_answer(self, answer: Answer) -> None:
        """Adds an answer. The first one of a later version of the stable arm makes labels live."""
        self._traced.add(answer)
        if answer.arm != STABLE or answer.weights_version <= self._version:
            return
        self._version = answer.weights_version
        try:
            self._through = self._trained_through(self._version)
        except WireError:
            return
        self._since_ms = answer.time_ms
        for _ in range(len(self._waiting)):
            waiting = self._waiting.popleft()
            if waiting.is_in(self._through):
                self._end(waiting)
            else:
                self._waiting.append(waiting)

    def totals(self) -> tuple[tuple[int, ...], float]:
        """Returns how many labels took how long, by LABEL_TO_LIVE_BOUNDS_MS, and the sum in milliseconds."""
        return tuple(self._counts), self._sum_ms

    def _end(self, label: _WaitingLabel) -> None:
        """Counts a label that is live since the first answer of the stable version."""
        delay_ms = max(self._since_ms - label.time_ms, 0)
        self._counts[bisect_left(LABEL_TO_LIVE_BOUNDS_MS, delay_ms)] += 1
        self._sum_ms += delay_ms
        if label.traceparent:
            traces.record(
                LIVE,
                label.traceparent,
                start_ms=label.time_ms,
                end_ms=self._since_ms,
                attributes={VERSION_NUMBER: self._version},
            )


RECENT_SWAPS: Final = 20
"""Swaps whose skews are kept."""


class SwapSkews:
    """The last skews in milliseconds, each from the first replica that follows a revision to the last one. Verbs: add,
    recent.

    Reports come once a second and at each swap, so of several swaps within a second only some are seen. The times are
    of the replicas' own clocks.
    """

    def __init__(self) -> None:
        self._first: dict[str, int] = {}  # by replica: the revision at which it was first seen
        self._revision = 0
        self._skews_ms: deque[float] = deque(maxlen=RECENT_SWAPS)

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


ACCURACY_BLOCK: Final = 1_000
"""Labels after which those before the last BLOCK are forgotten: between one and two blocks count."""


class ArmCounts(NamedTuple):
    """How many of the last labels of an arm were right."""

    arm: ArmName
    labels: int
    right: int


@dataclass(slots=True)
class _Block:
    labels: int = 0
    right: int = 0


class ArmAccuracies:
    """Counts of the last labels of each arm since the start of the controller. Verbs: add, counts.

    If an arm's accuracy changes, with its versions or with what is asked, the bounds are those of its average over
    these labels: the bets of `rollout.statistics` are fixed, so that the wealth is at most as large as under a constant
    share of that average (inequality of arithmetic and geometric means).
    """

    def __init__(self) -> None:
        self._blocks: defaultdict[ArmName, list[_Block]] = defaultdict(lambda: [_Block(), _Block()])

    def add(self, label: JudgedLabel) -> None:
        """Counts a label for the arm that answered. A label that corrects another one is not counted again."""
        if label.corrected is not None:
            return
        before, now = self._blocks[label.verdicts.arm]
        if now.labels == ACCURACY_BLOCK:
            before, now = now, _Block()
            self._blocks[label.verdicts.arm] = [before, now]
        now.labels += 1
        now.right += label.rights().get(label.verdicts.version, False)

    def counts(self) -> tuple[ArmCounts, ...]:
        """Returns the arms that got labels, by their names."""
        blocks = sorted(self._blocks.items())
        return tuple(ArmCounts(arm, old.labels + new.labels, old.right + new.right) for arm, (old, new) in blocks)


def with_bounds(counts: ArmCounts) -> ArmAccuracy:
    """Returns the counts with their confidence sequence, which takes 0.2 ms."""
    low, high = share_interval(counts.right, counts.labels)
    return ArmAccuracy(arm=counts.arm, labels=counts.labels, right=counts.right, low=low, high=high)
