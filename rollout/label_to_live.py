"""The time from a label to the first answer of the stable arm under a version that has learnt it, as it happens.

    Feedback: its place and time --wait--> Answer of a version that is new: the offsets that it was trained through
                                             --> the labels below them are live

`evals/load/score.py` computes the same of a run that is over.

A label whose answer was traced ends in that trace: in a span from its own time to that answer of the stable arm.

Rejected: the learner's time from a label to a publication (a version that nobody answers with is not live), and the
replicas' swaps (they do not know the labels).
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from wire import traces
from wire.errors import WireError
from wire.records import LABEL_TO_LIVE_BOUNDS_MS, STABLE, Answer, Feedback
from wire.traces.answers import TracedAnswers
from wire.traces.catalogue import LIVE, VERSION_NUMBER

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
