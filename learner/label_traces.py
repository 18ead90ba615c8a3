"""The spans of labels: each is learnt, and then there is a version that knows it. And when labels were read.

    answers --> TracedAnswers --their samples are learnt--> span of the label --a version is published--> its span
    labels --are learnt--> the times of their reading --a version is published--> read_ms, that of its oldest label

Nothing of it is in a checkpoint, so a label that was learnt before a restart has no version in its trace.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from learner.samples import Learnable, Sample
from wire import traces
from wire.records import Answer, Feedback
from wire.traces import IN_HOLDOUT, LABEL, VERSION, VERSION_NUMBER, TracedAnswers

MAX_WAITING: Final = 1_000
"""Traced labels that wait for a version; the oldest are forgotten first."""

MAX_READS: Final = 10_000
"""Times of reading that wait for a version; the newest are forgotten first, since the oldest one counts."""


@dataclass(frozen=True, slots=True)
class _Learnt:
    """A label that was learnt at `time_ms`: `num_effects` is the learner's progress then."""

    traceparent: str
    num_effects: int
    time_ms: float


class LabelTraces:
    """Belongs to the learner's thread. Verbs: learnt, published.

    `read_ms`: when the oldest of the labels that came with the last version was read (0: it had none).
    """

    def __init__(self) -> None:
        self.read_ms = 0.0
        self._reads: deque[tuple[int, float]] = deque()
        self._answers = TracedAnswers()
        self._waiting: deque[_Learnt] = deque(maxlen=MAX_WAITING)
        self._version = 0

    def learnt(
        self,
        records: Iterable[Answer | Feedback],
        learnt: Sequence[Learnable],
        *,
        num_effects: int,
        begun_ms: float,
        now_ms: float,
    ) -> None:
        """Takes the records that were read, and what was learnt of them, or joined the holdout, between these times."""
        if learnt and len(self._reads) < MAX_READS:
            self._reads.append((num_effects, begun_ms))
        if not traces.is_on():
            return
        for record in records:
            if isinstance(record, Answer):
                self._answers.add(record)
        for sample in learnt:
            if isinstance(sample, Sample):
                self._learnt(sample, num_effects, begun_ms=begun_ms, now_ms=now_ms)

    def published(self, version: int, num_effects: int, *, now_ms: float) -> None:
        """Makes the spans of what `version`, which the learner goes on from and which has so many effects, is the
        first to know. After a way back, what waits is forgotten: it was set aside."""
        if version < self._version:
            self._waiting.clear()
            self._reads.clear()
        is_newer = version > self._version
        if is_newer:
            self._take_reads(num_effects)
        self._version = version
        while is_newer and self._waiting and self._waiting[0].num_effects <= num_effects:
            label = self._waiting.popleft()
            traces.record(
                VERSION, label.traceparent, start_ms=label.time_ms, end_ms=now_ms, attributes={VERSION_NUMBER: version}
            )

    def _take_reads(self, num_effects: int) -> None:
        """Takes out the times of reading of what has so many effects at most; the first of them is the oldest."""
        self.read_ms = self._reads[0][1] if self._reads and self._reads[0][0] <= num_effects else 0.0
        while self._reads and self._reads[0][0] <= num_effects:
            self._reads.popleft()

    def _learnt(self, sample: Sample, num_effects: int, *, begun_ms: float, now_ms: float) -> None:
        parent = self._answers.take(sample.event_id, sample.event_source)
        if not parent:
            return
        attributes = {IN_HOLDOUT: sample.is_in_holdout}
        made = traces.record(LABEL, parent, start_ms=begun_ms, end_ms=now_ms, attributes=attributes)
        if made and not sample.is_in_holdout:
            self._waiting.append(_Learnt(made, num_effects, now_ms))
