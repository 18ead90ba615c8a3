"""Joins what was answered with what was right, by event id, in bounded memory. Pure: no clock, no bus.

    Answer --pending--.
                       >-- Sample        counted: matched
    Feedback --parked-'

The two topics have no common order, so either side may come first. An answer waits in `pending`; a label without an
answer is parked. Both windows are bounded by count (and bytes), oldest out first, so the state fits a checkpoint.
Each label meets exactly one end: matched, late (its answer has left the window), duplicate (its event was labelled
before), orphan (no answer came while it was parked), refused (by itself) or quarantined (held, beside its answer); the
rest is parked. `early` counts what was parked. A label that is held leaves its answer waiting for a better one.

Rejected: windows by time (a stalled stream would expire everything at once, and the counts would depend on clocks)
and a Bloom filter for the ids (a false positive would silently drop a label).
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

import mmh3
import msgspec

from learner.config import LearnerConfig
from learner.recent import RecentHashes
from wire.records import Answer, Feedback, Quarantined

if TYPE_CHECKING:
    from learner.guard import Guard

HELD_BACK_SEED: Final = 0x6865_6C64


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """An answered text with its true label. `subject`: the event's key. `is_held_back`: measure, never learn."""

    event_id: str
    text: str
    label: str
    predicted_label: str | None
    arm: str
    weights_version: int
    feedback_time_ms: int
    subject: str
    is_held_back: bool
    source: str = ""
    is_approved: bool = False
    answer_time_ms: int = 0

    @property
    def is_correct(self) -> bool:
        return self.predicted_label == self.label


class Waiting(msgspec.Struct, frozen=True, array_like=True):
    """What is kept of an answer until its label comes."""

    event_id: str
    text: str
    label: str | None
    arm: str
    weights_version: int
    subject: str = ""
    time_ms: int = 0

    @property
    def num_bytes(self) -> int:
        return len(self.text.encode()) + len(self.subject.encode())


class JoinState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a `Join` knows, in window order."""

    pending: list[Waiting]
    parked: list[Feedback]
    labelled: list[int]
    expired: list[int]
    counts: dict[str, int]


class Join:
    """The windows. `match` is the only way in; `export` and `Join(..., state=...)` carry them over a restart."""

    def __init__(self, config: LearnerConfig, guard: "Guard", *, state: JoinState | None = None) -> None:
        self._max_pending, self._max_bytes = config.pending_answers, config.pending_bytes
        self._max_parked, self._held_back_share = config.parked_feedback, config.held_back_share
        self._guard = guard
        self._pending = {answer.event_id: answer for answer in state.pending} if state else {}
        self._parked = {label.event_id: label for label in state.parked} if state else {}
        self._labelled = RecentHashes(config.remembered_ids, state.labelled if state else ())
        self._expired = RecentHashes(config.remembered_ids, state.expired if state else ())
        self._num_bytes = sum(answer.num_bytes for answer in self._pending.values())
        self._quarantined: list[Quarantined] = []
        self.counts: Counter[str] = Counter(state.counts if state else {})

    def match(self, records: Iterable[Answer | Feedback]) -> list[Sample]:
        """The samples that `records` complete, in the order of completion."""
        joined = (self._answer(record) if isinstance(record, Answer) else self._label(record) for record in records)
        return [sample for sample in joined if sample is not None]

    def take_quarantined(self) -> list[Quarantined]:
        """What was refused or held since this was asked last."""
        taken, self._quarantined = self._quarantined, []
        return taken

    def erase(self, is_erased: Callable[[str], bool]) -> int:
        """Remove the answers and labels about erased subjects that wait; a label that comes for one of them is late."""
        answers = [it.event_id for it in self._pending.values() if is_erased(it.subject)]
        labels = [it.event_id for it in self._parked.values() if is_erased(it.key)]
        for event_id in answers:
            self._num_bytes -= self._pending.pop(event_id).num_bytes
        for event_id in dict.fromkeys((*answers, *labels)):
            self.skip(event_id)
        return len(answers) + len(labels)

    def skip(self, event_id: str) -> None:
        """The answer to this event is not to be known: its label is late."""
        self.counts["answers_erased"] += 1
        self._expired.add(event_id)
        if self._parked.pop(event_id, None) is not None:
            self.counts["late"] += 1

    def unlabelled(self) -> list[str]:
        """The texts that wait for their label, oldest first, but for those that would be held back with it."""
        share = self._held_back_share
        return [it.text for it in self._pending.values() if not is_held_back(it.event_id, share)]

    @property
    def num_parked(self) -> int:
        return len(self._parked)

    @property
    def num_pending(self) -> int:
        return len(self._pending)

    def export(self) -> JoinState:
        return JoinState(
            pending=list(self._pending.values()),
            parked=list(self._parked.values()),
            labelled=self._labelled.export(),
            expired=self._expired.export(),
            counts=dict(self.counts),
        )

    def _answer(self, answer: Answer) -> Sample | None:
        self.counts["answers"] += 1
        event_id = answer.event_id
        if event_id in self._pending or event_id in self._labelled or event_id in self._expired:
            self.counts["answers_repeated"] += 1
            return None
        waiting = Waiting(
            event_id, answer.text, answer.label, answer.arm, answer.weights_version, answer.key, answer.time_ms
        )
        if (feedback := self._parked.pop(event_id, None)) and (sample := self._meet(waiting, feedback)):
            return sample
        self._pending[event_id] = waiting
        self._num_bytes += waiting.num_bytes
        while len(self._pending) > self._max_pending or self._num_bytes > self._max_bytes:
            oldest = self._pending.pop(next(iter(self._pending)))
            self._num_bytes -= oldest.num_bytes
            self._expired.add(oldest.event_id)
            self.counts["answers_expired"] += 1
        return None

    def _label(self, feedback: Feedback) -> Sample | None:
        self.counts["labels"] += 1
        event_id = feedback.event_id
        if reason := self._guard.refusal(feedback):
            self.counts[f"refused_{reason}"] += 1
            self._quarantine(reason, feedback)
        elif event_id in self._labelled or event_id in self._parked:
            self.counts["duplicate"] += 1
        elif (waiting := self._pending.get(event_id)) is not None:
            if sample := self._meet(waiting, feedback):
                del self._pending[event_id]
                self._num_bytes -= waiting.num_bytes
            return sample
        elif event_id in self._expired:
            self.counts["late"] += 1
        else:
            self._park(feedback)
        return None

    def _park(self, feedback: Feedback) -> None:
        self.counts["early"] += 1
        self._parked[feedback.event_id] = feedback
        if len(self._parked) > self._max_parked:
            del self._parked[next(iter(self._parked))]
            self.counts["orphan"] += 1

    def _meet(self, answer: Waiting, feedback: Feedback) -> Sample | None:
        sample = self._sample(answer, feedback)
        if reason := self._guard.hold(sample):
            self.counts[f"quarantined_{reason}"] += 1
            self._quarantine(reason, feedback, answer)
            return None
        self.counts["matched"] += 1
        self._labelled.add(answer.event_id)
        return sample

    def _quarantine(self, reason: str, feedback: Feedback, answer: Waiting | None = None) -> None:
        self._quarantined.append(
            Quarantined(
                reason=reason,
                event_id=feedback.event_id,
                label=feedback.label,
                key=feedback.key,
                source=feedback.source,
                time_ms=feedback.time_ms,
                receipt=feedback.receipt,
                text=answer.text if answer else "",
                answered=answer.label if answer else None,
            )
        )

    def _sample(self, answer: Waiting, feedback: Feedback) -> Sample:
        return Sample(
            event_id=answer.event_id,
            text=answer.text,
            label=feedback.label,
            predicted_label=answer.label,
            arm=answer.arm,
            weights_version=answer.weights_version,
            feedback_time_ms=feedback.time_ms,
            subject=answer.subject,
            is_held_back=is_held_back(answer.event_id, self._held_back_share),
            source=feedback.source,
            is_approved=bool(feedback.approval),
            answer_time_ms=answer.time_ms,
        )


def is_held_back(event_id: str, share: float) -> bool:
    """Whether the event belongs to the share that is never learnt: the same at every replay of the stream."""
    return mmh3.hash(event_id.encode(), HELD_BACK_SEED, signed=False) < share * 2.0**32
