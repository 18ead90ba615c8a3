"""Joins what was answered with what was right, by event, in bounded memory. Pure: no clock, no bus.

    Answer --pending--.
                       >-- fitting (wire.events) -- Sample        counted: matched
    Feedback --parked-'

The two topics have no common order, so either side may come first. An answer waits in `pending`; a label that fits no
answer is parked. Both windows are bounded in bytes, oldest out first, so the state fits a checkpoint. An event is a
source and an id, but a label may name less; `wire.events` says which answers it fits. Where several answers fit, or one
fits by its id alone while another event of that id was labelled before, the label is ambiguous.

Each label meets exactly one end: matched, late (its answer has left the window), duplicate (its event was labelled
before), orphan (no answer came while it was parked), refused (by itself) or quarantined (ambiguous, or held beside its
answer); the rest is parked. `early` counts what was parked. A label that is quarantined leaves its answer waiting for a
better one. An event that is answered again keeps its first answer, and every receipt is good.

Rejected: windows by time (a stalled stream would expire everything at once, and the counts would depend on clocks)
and a Bloom filter for the ids (a false positive would silently drop a label).
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from learner.config import LearnerConfig
from learner.labels.flow import Levels
from learner.labels.outcomes import Ends, Fate
from learner.labels.recent import RecentHashes
from learner.labels.sample import Sample, Waiting, is_held_back
from learner.labels.trust import LabelTrust
from learner.labels.window import Window
from wire.events import AMBIGUOUS, fitting, has_receipt, key_of, names_of, sought_as, text_of
from wire.records import Answer, Feedback, Quarantined

NAMES: Final = 3
"""Names under which most events are remembered: key, id, one receipt."""


class JoinState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a `Join` knows, in window order. `pending` is encoded as list[Waiting], `parked` as list[Feedback]."""

    pending: msgspec.Raw
    parked: msgspec.Raw
    labelled: list[int]
    expired: list[int]
    counts: dict[str, int]
    ends: list[str] = []

    @property
    def answers(self) -> list[Waiting]:
        """The answers that wait for their label."""
        return msgspec.msgpack.decode(self.pending, type=list[Waiting])

    @property
    def labels(self) -> list[Feedback]:
        """The labels that wait for their answer."""
        return msgspec.msgpack.decode(self.parked, type=list[Feedback])


class Join:
    """The windows. `match` is the only way in; `export` and `Join(..., state=...)` carry them over a restart."""

    def __init__(self, config: LearnerConfig, trust: LabelTrust, *, state: JoinState | None = None) -> None:
        num_names = NAMES * config.remembered_ids
        self._held_back_share = config.held_back_share
        self._trust = trust
        self._pending = Window(Waiting, config.pending_bytes, state.answers if state else ())
        self._parked = Window(Feedback, config.parked_bytes, state.labels if state else ())
        self._labelled = RecentHashes(num_names, state.labelled if state else ())
        self._expired = RecentHashes(num_names, state.expired if state else ())
        self._quarantined: list[Quarantined] = []
        self.counts: Counter[str] = Counter(state.counts if state else {})
        self._ends = Ends(self.counts, state.ends if state else [])

    def match(self, records: Iterable[Answer | Feedback]) -> list[Sample]:
        """The samples that `records` complete, in the order of completion."""
        joined = (self._answer(record) if isinstance(record, Answer) else self._label(record) for record in records)
        return [sample for sample in joined if sample is not None]

    def take_quarantined(self) -> list[Quarantined]:
        """What was refused or held since this was asked last."""
        taken = self._quarantined
        self._quarantined = []
        return taken

    def erase(self, is_erased: Callable[[str], bool]) -> int:
        """Remove the answers and labels about erased subjects that wait; a label that comes for one of them is late."""
        answers = [it for it in self._pending if is_erased(it.subject)]
        labels = [it for it in self._parked if is_erased(it.key)]
        for label in labels:
            self._parked.remove(label)
            self._ends.add(Fate.LATE.value)
        for answer in answers:
            self._pending.remove(answer)
            self._erased(answer)
        return len(answers) + len(labels)

    def skip(self, answer: Answer) -> None:
        """This answer is not to be known: its label is late."""
        self._erased(Waiting.of(answer))

    def unlabelled(self, limit: int) -> list[str]:
        """The newest `limit` texts that wait for their label, oldest first, but for those to be held back with it."""
        share = self._held_back_share
        return [it.text for it in self._pending.newest(limit) if not is_held_back(it.key, share)]

    def alarms(self) -> list[str]:
        """What is wrong with the windows, in words."""
        return self._ends.alarms()

    @property
    def levels(self) -> Levels:
        return Levels(answers=self._pending.level, labels=self._parked.level)

    @property
    def num_parked(self) -> int:
        return len(self._parked)

    @property
    def num_pending(self) -> int:
        return len(self._pending)

    def export(self) -> JoinState:
        return JoinState(
            pending=self._pending.export(),
            parked=self._parked.export(),
            labelled=self._labelled.export(),
            expired=self._expired.export(),
            counts=dict(self.counts),
            ends=self._ends.export(),
        )

    def _answer(self, answer: Answer) -> Sample | None:
        self.counts["answers"] += 1
        waiting = Waiting.of(answer)
        name = text_of(key_of(answer))
        same = next((it for it in self._pending.of(answer.event_id) if it.is_of(answer)), None)
        memory = next((it for it in (self._labelled, self._expired) if name in it), None)
        if same is not None:
            self._pending.replace(same, same.again(answer))
        elif memory is not None:
            _remember(waiting, memory)
        else:
            self._expire(self._pending.add(waiting))
            return self._take_parked(answer.event_id)
        self.counts["answers_repeated"] += 1
        return self._take_parked(answer.event_id)

    def _label(self, feedback: Feedback) -> Sample | None:
        self.counts["labels"] += 1
        if reason := self._trust.refusal(feedback):
            self._ends.add(f"refused_{reason}")
            self._quarantine(reason, feedback)
            return None
        fate = self._fate(feedback)
        if fate is Fate.WAIT:
            self._park(feedback)
            return None
        return self._end(feedback, fate)

    def _fate(self, feedback: Feedback) -> Waiting | Fate:
        """The answer that the label is joined with, or what becomes of it."""
        fits = fitting(feedback, self._pending.of(feedback.event_id))
        name = sought_as(feedback)
        is_labelled = name in self._labelled
        if len(fits) == 1 and (has_receipt(feedback) or not is_labelled):
            return fits[0]
        if fits:
            return Fate.AMBIGUOUS
        if is_labelled:
            return Fate.DUPLICATE
        return Fate.LATE if name in self._expired else Fate.WAIT

    def _end(self, feedback: Feedback, fate: Waiting | Fate) -> Sample | None:
        if isinstance(fate, Waiting):
            return self._meet(fate, feedback)
        self._ends.add(fate.value)
        if fate is Fate.AMBIGUOUS:
            self._quarantine(AMBIGUOUS, feedback)
        return None

    def _park(self, feedback: Feedback) -> None:
        """A label that says as much of its event as one that is parked is another one of that event."""
        said = (feedback.event_source, feedback.receipt)
        if any((it.event_source, it.receipt) == said for it in self._parked.of(feedback.event_id)):
            self._ends.add(Fate.DUPLICATE.value)
            return
        self.counts[Fate.WAIT.value] += 1
        for _ in self._parked.add(feedback):
            self._ends.add(Fate.ORPHAN.value)

    def _take_parked(self, event_id: str) -> Sample | None:
        """The sample that a parked label makes, after something has become known of its event."""
        found = None
        for feedback in self._parked.of(event_id):
            fate = self._fate(feedback)
            if fate is not Fate.WAIT:
                self._parked.remove(feedback)
                found = self._end(feedback, fate) or found
        return found

    def _meet(self, answer: Waiting, feedback: Feedback) -> Sample | None:
        sample = self._sample(answer, feedback)
        if reason := self._trust.hold(sample):
            self._ends.add(f"quarantined_{reason}")
            self._quarantine(reason, feedback, answer)
            return None
        self._ends.add("matched")
        self._pending.remove(answer)
        _remember(answer, self._labelled)
        return sample

    def _expire(self, answers: Iterable[Waiting]) -> None:
        for answer in answers:
            _remember(answer, self._expired)
            self.counts["answers_expired"] += 1

    def _erased(self, answer: Waiting) -> None:
        self.counts["answers_erased"] += 1
        _remember(answer, self._expired)
        self._take_parked(answer.event_id)

    def _quarantine(self, reason: str, feedback: Feedback, answer: Waiting | None = None) -> None:
        event_source = feedback.event_source
        if answer is not None and answer.source is not None:
            event_source = answer.source
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
                event_source=event_source,
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
            is_held_back=is_held_back(answer.key, self._held_back_share),
            source=feedback.source,
            is_approved=bool(feedback.approval),
            answer_time_ms=answer.time_ms,
            event_source=answer.key[0],
        )


def _remember(answer: Waiting, memory: RecentHashes) -> None:
    for name in names_of(answer):
        memory.add(name)
