"""Records two trace spans for each label: until the label is learnt, and until a published version contains it.

    answers --> TracedAnswers --a label is learnt--> LABEL span --a version is published--> VERSION span
    labels --are learnt--> the times at which they were read --a version is published--> read_ms of its oldest label

Checkpoints do not contain the traces. So the trace of a label that was learnt before a restart has no VERSION span.
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
"""The most traced labels that wait for a version; the oldest are dropped first."""

MAX_READS: Final = 10_000
"""The most reading times that wait for a version; the newest are dropped first, since the oldest one counts."""


@dataclass(frozen=True, slots=True)
class _Learnt:
    """A label that was learnt at `time_ms`; it was the learner's effect number `num_effects` (`LearnerProgress`)."""

    traceparent: str
    num_effects: int
    time_ms: float


class LabelTraces:
    """Records the trace spans of labels. Belongs to the learner's thread.

    `read_ms`: when the oldest new label of the last version was read; 0 if the version had no new label.
    """

    def __init__(self) -> None:
        self.read_ms = 0.0
        self._reads: deque[tuple[int, float]] = deque()
        self._answers = TracedAnswers()
        self._waiting: deque[_Learnt] = deque(maxlen=MAX_WAITING)
        self._version = 0

    def on_learnt(
        self,
        records: Iterable[Answer | Feedback],
        learnt: Sequence[Learnable],
        *,
        num_effects: int,
        begun_ms: float,
        now_ms: float,
    ) -> None:
        """Records the LABEL spans of samples that were learnt, or joined the holdout, from `begun_ms` to `now_ms`.

        `records` are the records of the poll, and `num_effects` the learner's progress after it.
        """
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

    def on_published(self, version: int, num_effects: int, *, now_ms: float) -> None:
        """Records the VERSION spans of the labels that `version` is the first to contain.

        The version contains the first `num_effects` effects. After a rollback the waiting labels are dropped, since the
        learner has set them aside.
        """
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
        """Removes the reading times up to `num_effects`, and keeps the oldest of them as `read_ms`."""
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
