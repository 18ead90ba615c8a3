"""Three measurements for the controller's report. No decision depends on them.

    Feedback, Answer --LabelToLive---> the time from a label to the first answer of a version that has learnt it
    ReplicaReport -----SwapSkews-----> the time between the first and the last replica's swap to the same plan
    JudgedLabel -------ArmAccuracies-> the accuracy of each arm's answers, across its versions

A label is live when the stable arm answers with a version that has learnt it. If a label's answer was traced, the trace
gets a span from the time of the label to the first such answer. `evals/load/score.py` computes the same times after a
run.
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
"""Most labels that wait for a version. The oldest are dropped first."""


class _WaitingLabel(NamedTuple):
    """A label's position in the topic, its time, and the trace of its answer ("": it was not traced)."""

    partition: str
    offset: int
    time_ms: int
    traceparent: str

    def is_learnt(self, trained_through: Mapping[str, int]) -> bool:
        """Whether a version that was trained through these offsets has learnt the label."""
        return self.offset < trained_through.get(self.partition, 0)


class LabelToLive:
    """Measures the time from a label to the first stable answer that has learnt it. Verbs: add_label, add_answer,
    totals.

    `trained_through` returns, for a version, the offset of each `topic/partition` below which it has learnt all labels.
    If it raises a WireError, that version makes no label live.
    """

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
        """Adds a label at its position in the topic. A label without a time is not counted."""
        if label.time_ms <= 0:
            return
        waiting = _WaitingLabel(partition, offset, label.time_ms, self._traced.take(label.event_id, label.event_source))
        if waiting.is_learnt(self._through):
            # The answer by which the label is live was read before the label, because they are in different topics.
            self._count_live(waiting)
        else:
            self._waiting.append(waiting)

    def add_answer(self, answer: Answer) -> None:
        """Adds an answer. The first answer of the stable arm by a later version makes labels live."""
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
            if waiting.is_learnt(self._through):
                self._count_live(waiting)
            else:
                self._waiting.append(waiting)

    def totals(self) -> tuple[tuple[int, ...], float]:
        """Returns a histogram over LABEL_TO_LIVE_BOUNDS_MS, and the sum in milliseconds."""
        return tuple(self._counts), self._sum_ms

    def _count_live(self, label: _WaitingLabel) -> None:
        """Counts a label that went live when the stable version, which has learnt it, gave its first answer."""
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
"""Number of swaps whose skews are kept."""


class SwapSkews:
    """The skews of the last swaps. Verbs: add, recent.

    The skew is the time in milliseconds from the first to the last replica that swaps to a new revision of the plan.

    Replicas report once a second and at each swap, so some of several swaps within a second may be missed. The times
    are from the replicas' own clocks.
    """

    def __init__(self) -> None:
        # By replica, the revision at which it was first seen.
        self._first: dict[str, int] = {}
        self._revision = 0
        self._skews_ms: deque[float] = deque(maxlen=RECENT_SWAPS)

    def add(self, reports: Sequence[ReplicaReport]) -> None:
        """Adds the reports of all replicas. A replica that has just started took no part in the swap."""
        revision = max((report.revision for report in reports), default=0)
        self._first = {report.replica: self._first.get(report.replica, report.revision) for report in reports}
        swapped = [report.swapped_ms for report in reports if self._first[report.replica] < report.revision]
        is_whole = len(swapped) == len(reports) > 1 and all(report.revision == revision for report in reports)
        if is_whole and revision != self._revision and all(swapped):
            self._revision = revision
            self._skews_ms.append(float(max(swapped) - min(swapped)))

    def recent(self) -> tuple[float, ...]:
        """Returns the last skews in milliseconds, the newest last."""
        return tuple(self._skews_ms)


ACCURACY_BLOCK: Final = 1_000
"""Number of labels in a block. Each arm keeps its last two blocks, of which the newer one may be incomplete."""


class ArmCounts(NamedTuple):
    """The number of an arm's recent labels, and how many of their answers were right."""

    arm: ArmName
    labels: int
    right: int


@dataclass(slots=True)
class _Block:
    labels: int = 0
    right: int = 0


class ArmAccuracies:
    """Counts the recent labels of each arm since the start of the controller. Verbs: add, counts.

    An arm's accuracy may change, with its versions or with the events. Then the confidence bounds are bounds of its
    average over these labels. The bets of `rollout.statistics` are fixed, so the wealth is at most as large as if the
    accuracy had always been this average (inequality of arithmetic and geometric means).
    """

    def __init__(self) -> None:
        self._blocks: defaultdict[ArmName, list[_Block]] = defaultdict(lambda: [_Block(), _Block()])

    def add(self, label: JudgedLabel) -> None:
        """Counts a label for the arm that answered. A correction of a counted label is not counted."""
        if label.corrected is not None:
            return
        before, now = self._blocks[label.verdicts.arm]
        if now.labels == ACCURACY_BLOCK:
            before, now = now, _Block()
            self._blocks[label.verdicts.arm] = [before, now]
        now.labels += 1
        now.right += label.correctness().get(label.verdicts.version, False)

    def counts(self) -> tuple[ArmCounts, ...]:
        """Returns the counts of the arms that have labels, ordered by name."""
        blocks = sorted(self._blocks.items())
        return tuple(ArmCounts(arm, old.labels + new.labels, old.right + new.right) for arm, (old, new) in blocks)


def with_bounds(counts: ArmCounts) -> ArmAccuracy:
    """Returns the counts with a confidence interval that is valid at any time. The computation takes 0.2 ms."""
    low, high = share_interval(counts.right, counts.labels)
    return ArmAccuracy(arm=counts.arm, labels=counts.labels, right=counts.right, low=low, high=high)
