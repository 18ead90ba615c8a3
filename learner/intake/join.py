"""Joins each answer with the label of the same event, in bounded memory. Pure: it reads no clock and no topic.

    Answer --pending--.
                       >-- matching (wire.events) -- LabelNames -- Sample        counted: matched
    Feedback --parked-'
    Feedback with its event's text ----------------- LabelNames -- Sample        counted: matched, with_text
    Feedback of an event that has its label -- LabelledEvents -- duplicate | correction | ambiguous

The two topics have no common order, so the answer or the label may come first. An answer waits in the window `pending`.
A label that matches no answer is parked in a second window. Both windows are bounded in bytes and evict the oldest
first, so the state fits into a checkpoint. An event is identified by a source and an id, but a label may lack the
source; `wire.events` defines which answers it matches. A label is ambiguous if it matches several answers, or if it
matches an answer only by the id and another event with this id was labelled before.

Each label has exactly one outcome, or is parked:

    matched      it became a sample
    late         its answer has left the window; `learner.intake.answer_finder` looks for it in the topic
    duplicate    its event was labelled before
    correction   its event was labelled before, and this label replaces the first one
    orphan       no answer came while it was parked
    refused      for a reason in the label alone
    quarantined  it is ambiguous, or it was joined and then held, since it is not trusted

There are two more counters: `early` counts parked labels, and `withdrawn` counts matched labels that are not trusted
any more. If a label is quarantined, its answer goes on waiting for a better label. If an event is answered twice, the
first answer is kept, and the receipts of both are valid. A label that contains the text of its event needs no answer,
unless the event was erased.

A second label of an event replaces the first one if an operator has approved it, or if it comes from a mapped topic
that is configured so (`bus.map.feedback.on_second_label`). If both labels are equal, the second is a duplicate. Only
the last labels of MAX_SAID events are remembered. For older events an equal label counts as a correction, which changes
nothing.

Labels and answers wait in the windows under their original class names, which are translated when they are joined. So a
change of the set of labels does not change the windows. A label that uses an old name counts for the class to which the
name refers when the label is joined.

Rejected:

- Windows by time: if the stream stalls, everything would expire at once, and the counts would depend on clocks.
- A Bloom filter for the ids: a false positive would silently drop a label.
- Looking for an event's label in the replay buffer: the buffer is ordered by class, so a search takes milliseconds.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from itertools import chain
from typing import Final, Protocol

import msgspec

from learner.config import LearnerConfig
from learner.intake.late_labels import LateLabels, LateState, is_before
from learner.intake.trust import LabelTrust
from learner.samples import (
    HoldoutDraw,
    Levels,
    Sample,
    Waiting,
    Window,
    make_quarantined,
    make_sample,
    quarantined_sample,
)
from wire.events import (
    AMBIGUOUS,
    corrected_alias,
    encoded_key,
    has_receipt,
    key_of,
    list_aliases,
    lookup_alias,
    matching,
    with_key,
)
from wire.label_set import LabelSet
from wire.receipts import FORGED
from wire.recent import RecentHashes, name_hash64
from wire.records import Answer, Feedback, Quarantined

RECENT: Final = 1_000
"""The shares of late and of orphaned labels are measured over this many last labels."""

MIN_LABELS: Final = 100
"""The fewest labels that are needed for an alarm about these shares."""

MAX_UNMATCHED_SHARE: Final = 0.01
"""The share of late or orphaned labels above which an alarm is raised."""


class Unmatched(Enum):
    """The reason why a label is not joined with an answer now. The value is the name of its counter."""

    WAIT = "early"
    LATE = "late"
    ORPHAN = "orphan"
    DUPLICATE = "duplicate"
    AMBIGUOUS = f"quarantined_{AMBIGUOUS}"
    CORRECTION = "correction"


ADVICE: Final = {
    Unmatched.LATE: "came after their answer had left its window: raise learner.pending_bytes",
    Unmatched.ORPHAN: "waited for an answer that did not come: raise learner.parked_bytes, or look at who sends them",
}
"""The text of the alarm about an outcome: what happened to the labels, and the fix."""


class LabelOutcomes:
    """Counts labels by their outcome, and raises alarms if many of the last RECENT labels were late or orphaned."""

    def __init__(self, counts: Counter[str], recent: list[str]) -> None:
        self._counts = counts
        self._recent = deque(recent, maxlen=RECENT)

    def add(self, outcome: str) -> None:
        self._counts[outcome] += 1
        self._recent.append(outcome)

    def alarms(self) -> list[str]:
        """Returns a sentence if many labels are late, and one if many are orphaned: a window may be too small."""
        num = len(self._recent)
        if num < MIN_LABELS:
            return []
        shares = {reason: self._recent.count(reason.value) / num for reason in ADVICE}
        return [
            f"{share:.1%} of the last {num} labels {ADVICE[reason]}"
            for reason, share in shares.items()
            if share > MAX_UNMATCHED_SHARE
        ]

    def export(self) -> list[str]:
        return list(self._recent)


MAX_SAID: Final = 10_000
"""The number of events whose last label is remembered."""


class LabelledEvents:
    """The events that have a label, by the hashes of their aliases. An alias is any way in which a label may name them.

    The hashes of the last labels of MAX_SAID events are remembered, too.
    """

    def __init__(self, capacity: int, hashes: Iterable[int] = (), last_labels: Mapping[int, int] | None = None) -> None:
        self.aliases = RecentHashes(capacity, hashes)
        self._last_labels = OrderedDict(last_labels or {})

    def add(self, answer: Waiting, feedback: Feedback) -> None:
        """Records the label of an event."""
        for alias in list_aliases(answer):
            self.aliases.add(alias)
        for alias in (encoded_key(answer.key), lookup_alias(feedback)):
            self._last_labels[name_hash64(alias)] = name_hash64(feedback.label_string.encode())
            self._last_labels.move_to_end(name_hash64(alias))
        while len(self._last_labels) > 2 * MAX_SAID:
            self._last_labels.popitem(last=False)

    def forget(self, answers: Iterable[Waiting]) -> None:
        """Forgets the labels of these events."""
        aliases = list(chain.from_iterable(map(list_aliases, answers)))
        self.aliases.discard(aliases)
        for alias in aliases:
            self._last_labels.pop(name_hash64(alias), None)

    def repeated(self, feedback: Feedback, *, may_correct: bool) -> Unmatched:
        """Returns the outcome of a label whose event was labelled before.

        `may_correct`: whether the label may replace the earlier one.
        """
        if not may_correct:
            return Unmatched.DUPLICATE
        alias = corrected_alias(feedback)
        if alias is not None and alias in self.aliases:
            return Unmatched.DUPLICATE if self._is_last_label(alias, feedback) else Unmatched.CORRECTION
        is_same = feedback.replaces and self._is_last_label(lookup_alias(feedback), feedback)
        return Unmatched.DUPLICATE if is_same else Unmatched.AMBIGUOUS

    @property
    def last_labels(self) -> dict[int, int]:
        """The hash of the last label by the hash of an alias of the event, oldest first."""
        return dict(self._last_labels)

    def _is_last_label(self, alias: bytes, feedback: Feedback) -> bool:
        return self._last_labels.get(name_hash64(alias)) == name_hash64(feedback.label_string.encode())


KEY_MISSING: Final = "the label has no `key`: send the key of the answer, for which alone its receipt is valid"
"""The problem and fix of a label whose receipt looks forged, perhaps only because the label lacks the answer's key."""

SOURCE_MISSING: Final = "without the source of its event a label replaces none: map bus.map.feedback.event_source"
"""The problem and fix of a second label that names the event by the id alone, although the event has a source."""


class KnownNames(Protocol):
    """A set of known class names."""

    def __contains__(self, label: str, /) -> bool: ...


class KnownLabels(Protocol):
    """The part of `Knowledge` that `LabelNames` needs: the set of labels, and the classes that have a row."""

    @property
    def labels(self) -> LabelSet: ...
    @property
    def classes(self) -> KnownNames: ...


class LabelNames:
    """Checks the class names in labels, and translates them to current names.

    `known` returns the current knowledge. `is_in_holdout` decides whether an event belongs to the holdout.
    """

    def __init__(self, known: Callable[[], KnownLabels], is_in_holdout: HoldoutDraw) -> None:
        self._known = known
        self.is_in_holdout = is_in_holdout

    def draw_holdout_by(self, secret: bytes) -> None:
        """From now on draws the holdout by a hash with this secret."""
        self.is_in_holdout = HoldoutDraw(self.is_in_holdout.share, secret)

    def refusal(self, feedback: Feedback) -> str:
        """Returns why the current set of labels refuses a label; "" if it does not."""
        known = self._known()
        return known.labels.refusal(feedback.label_string, known.classes.__contains__)

    def sample(self, answer: Waiting, feedback: Feedback) -> Sample:
        """Makes a sample of an answer and its label, with the current names of the classes."""
        known = self._known()
        sample = make_sample(answer, feedback, self.is_in_holdout)
        name_of = known.labels.name_of
        predicted = None if sample.predicted_label is None else name_of(sample.predicted_label)
        return msgspec.structs.replace(sample, label=name_of(sample.label), predicted_label=predicted)

    def quarantined(self, reason: str, feedback: Feedback, answer: Waiting | None = None) -> Quarantined:
        """Returns the quarantine record of a label that is refused or held.

        Its `detail` says how to fix a label that is not in the set of labels, or that may lack the key of its answer: a
        receipt belongs to one key, and looks forged without the key.
        """
        record = make_quarantined(reason, feedback, answer)
        if reason == FORGED and feedback.receipt and not feedback.key:
            return msgspec.structs.replace(record, detail=KEY_MISSING)
        if reason == AMBIGUOUS and feedback.replaces and feedback.event_source is None:
            return msgspec.structs.replace(record, detail=SOURCE_MISSING)
        is_about_name = reason == self.refusal(feedback)
        detail = self._known().labels.explain_refusal(reason, feedback.label_string) if is_about_name else ""
        return msgspec.structs.replace(record, detail=detail)


class JoinState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a `Join`.

    - `pending`, `parked`: the windows, oldest first, encoded as list[Waiting] and list[Feedback].
    - `labelled`, `expired`, `erased`: hashes of the aliases of labelled, expired and erased events.
    - `said`: the hashes of the last labels, by hashes of aliases.
    - `ends`: the last outcomes.
    - `late`: the labels whose answers are looked for.
    """

    pending: msgspec.Raw
    parked: msgspec.Raw
    labelled: list[int]
    said: dict[int, int] = {}
    expired: list[int]
    counts: dict[str, int]
    ends: list[str] = []
    erased: list[int] = []
    late: LateState = LateState()

    @property
    def answers(self) -> list[Waiting]:
        """The answers that wait for their label."""
        return msgspec.msgpack.decode(self.pending, type=list[Waiting])

    @property
    def labels(self) -> list[Feedback]:
        """The labels that wait for their answer."""
        return msgspec.msgpack.decode(self.parked, type=list[Feedback])


ALIASES_PER_EVENT: Final = 3
"""The number of aliases of most events: key, id, one receipt."""


class Join:
    """Joins answers and labels. It owns the two windows, and remembers labelled, expired and erased events."""

    def __init__(self, config: LearnerConfig, trust: LabelTrust, names: LabelNames, state: JoinState | None = None):
        num_aliases = ALIASES_PER_EVENT * config.remembered_ids
        self._trust = trust
        self._names = names
        self.late = LateLabels(state.late if state else None)
        self._pending = Window(Waiting, config.pending_bytes, state.answers if state else ())
        self._parked = Window(Feedback, config.parked_bytes, state.labels if state else ())
        last_labels = state.said if state else None
        self._labelled = LabelledEvents(num_aliases, state.labelled if state else (), last_labels)
        self._expired = RecentHashes(num_aliases, state.expired if state else ())
        self._erased = RecentHashes(num_aliases, state.erased if state else ())
        self._samples: list[Sample] = []
        self._quarantined: list[Quarantined] = []
        self.counts: Counter[str] = Counter(state.counts if state else {})
        self._outcomes = LabelOutcomes(self.counts, state.ends if state else [])

    def match(self, records: Iterable[Answer | Feedback]) -> list[Sample]:
        """Adds `records`; returns the samples that they completed, in the order of completion."""
        for record in records:
            if isinstance(record, Answer):
                self._add_answer(record)
            else:
                self._add_label(record)
        samples, self._samples = self._samples, []
        return samples

    def take_quarantined(self) -> list[Quarantined]:
        """Returns the labels that were refused or held since the last call."""
        labels, self._quarantined = self._quarantined, []
        return labels

    def erase(self, is_erased: Callable[[str], bool]) -> int:
        """Removes the waiting answers and labels about erased subjects; returns their number.

        If a label of such an answer comes later, it counts as late.
        """
        answers = [answer for answer in self._pending if is_erased(answer.subject)]
        labels = [label for label in self._parked if is_erased(label.key)]
        for label in labels:
            self._parked.remove(label)
            self._outcomes.add(Unmatched.LATE.value)
        for answer in answers:
            self._pending.remove(answer)
            self._remember_erased(answer)
        return len(answers) + len(labels) + self.late.erase(is_erased)

    def skip(self, answer: Answer) -> None:
        """Drops an answer about an erased subject. If its label comes, it counts as late."""
        self._remember_erased(Waiting.from_answer(answer))

    def unlabelled(self, limit: int) -> list[str]:
        """Returns the texts of the newest `limit` pending answers, oldest first, without holdout events."""
        is_in_holdout = self._names.is_in_holdout
        return [answer.text for answer in self._pending.newest(limit) if not is_in_holdout(answer.key)]

    def alarms(self) -> list[str]:
        """Returns a sentence if many labels are late, and one if many are orphaned: a window may be too small."""
        return self._outcomes.alarms()

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
            labelled=self._labelled.aliases.export(),
            said=self._labelled.last_labels,
            expired=self._expired.export(),
            erased=self._erased.export(),
            late=self.late.export(),
            counts=dict(self.counts),
            ends=self._outcomes.export(),
        )

    def _add_answer(self, answer: Answer) -> None:
        self.counts["answers"] += 1
        waiting = Waiting.from_answer(answer)
        first = next((each for each in self._pending.of(answer.event_id) if each.is_same_event(answer)), None)
        memory = self._find_memory(encoded_key(key_of(answer)))
        if first is not None:
            self._pending.replace(first, first.with_repeat(answer))
        elif memory is not None:
            _remember(waiting, memory)
        else:
            self._expire(self._pending.add(waiting))
        self.counts["answers_repeated"] += first is not None or memory is not None
        self._match_parked(answer.event_id)

    def _find_memory(self, alias: bytes) -> RecentHashes | None:
        """Returns the set that contains `alias`: of labelled, of expired, or of erased events; None if none does."""
        for memory in (self._labelled.aliases, self._expired, self._erased):
            if alias in memory:
                return memory
        return None

    def _add_label(self, feedback: Feedback) -> None:
        self.counts["labels"] += 1
        feedback = with_key(feedback, self._pending.of(feedback.event_id), self._trust.refusal)
        if reason := self._trust.refusal(feedback) or self._names.refusal(feedback):
            self._outcomes.add(f"refused_{reason}")
            self._quarantined.append(self._names.quarantined(reason, feedback))
            return
        answer_or_reason = self._find_answer(feedback)
        is_unanswered = (
            answer_or_reason in (Unmatched.WAIT, Unmatched.LATE) and lookup_alias(feedback) not in self._erased
        )
        if is_unanswered and self._trust.takes_text(feedback):
            self.counts["with_text"] += 1
            self._join(Waiting.from_label(feedback, is_proved=self._trust.has_answer(feedback)), feedback)
        elif answer_or_reason is Unmatched.WAIT:
            self._park(feedback)
        else:
            self._finish_label(feedback, answer_or_reason)

    def _find_answer(self, feedback: Feedback) -> Waiting | Unmatched:
        """Returns the answer that the label matches, or the reason why it matches none."""
        matches = matching(feedback, self._pending.of(feedback.event_id))
        alias = lookup_alias(feedback)
        is_labelled = alias in self._labelled.aliases
        if len(matches) == 1 and (has_receipt(feedback) or not is_labelled):
            return matches[0]
        if matches:
            return Unmatched.AMBIGUOUS
        if is_labelled:
            return self._labelled.repeated(feedback, may_correct=self._trust.may_correct(feedback))
        is_late = (
            alias in self._expired or alias in self._erased or is_before(feedback, next(iter(self._pending), None))
        )
        return Unmatched.LATE if is_late else Unmatched.WAIT

    def _finish_label(self, feedback: Feedback, answer_or_reason: Waiting | Unmatched) -> None:
        """Counts the outcome of a label. A label with an answer becomes a sample, unless it is held."""
        if isinstance(answer_or_reason, Waiting):
            self._join(answer_or_reason, feedback)
            return
        if answer_or_reason is Unmatched.CORRECTION:
            self._join(Waiting.from_label(feedback), feedback, is_correction=True)
            return
        self._outcomes.add(answer_or_reason.value)
        if answer_or_reason is Unmatched.LATE:
            self.late.add(feedback)
        if answer_or_reason is Unmatched.AMBIGUOUS:
            self._quarantined.append(self._names.quarantined(AMBIGUOUS, feedback))

    def _park(self, feedback: Feedback) -> None:
        """Parks a label. If a parked label has the same source and receipt, one of the two is a duplicate."""
        # The text of the event may be long, and is not trusted.
        feedback = feedback.bare
        for before in self._parked.of(feedback.event_id):
            if (before.event_source, before.receipt) == (feedback.event_source, feedback.receipt):
                self._outcomes.add(Unmatched.DUPLICATE.value)
                if feedback.replaces:
                    self._parked.replace(before, feedback)
                return
        self.counts[Unmatched.WAIT.value] += 1
        for orphan in self._parked.add(feedback):
            self._outcomes.add(Unmatched.ORPHAN.value)
            self.late.add(orphan)

    def _match_parked(self, event_id: str) -> None:
        """Tries to join the parked labels of an event again, after its answer came or was erased."""
        for feedback in self._parked.of(event_id):
            answer_or_reason = self._find_answer(feedback)
            if answer_or_reason is not Unmatched.WAIT:
                self._parked.remove(feedback)
                self._finish_label(feedback, answer_or_reason)

    def _join(self, answer: Waiting, feedback: Feedback, *, is_correction: bool = False) -> None:
        sample = self._names.sample(answer, feedback)
        sample = msgspec.structs.replace(sample, is_correction=is_correction)
        # The set of labels may have changed while the label was parked.
        reason = self._names.refusal(feedback) or self._trust.hold(sample)
        if withdrawn := self._trust.take_withdrawn():
            self._withdraw(withdrawn)
        if reason:
            self._outcomes.add(f"quarantined_{reason}")
            self._quarantined.append(self._names.quarantined(reason, feedback, answer))
            return
        self._outcomes.add(Unmatched.CORRECTION.value if is_correction else "matched")
        if sample.is_answered:
            self._pending.remove(answer)
        self._labelled.add(answer, feedback)
        self._samples.append(sample)

    def _withdraw(self, samples: list[Sample]) -> None:
        """Withdraws labels that are not trusted any more: they go to quarantine, and their events become unlabelled."""
        self.counts["withdrawn"] += len(samples)
        self._labelled.forget(map(Waiting.from_sample, samples))
        self._quarantined += map(quarantined_sample, samples)
        self._samples += [sample.withdrawn for sample in samples]

    def _expire(self, answers: Iterable[Waiting]) -> None:
        for answer in answers:
            _remember(answer, self._expired)
            self.counts["answers_expired"] += 1

    def _remember_erased(self, answer: Waiting) -> None:
        self.counts["answers_erased"] += 1
        _remember(answer, self._erased)
        self._match_parked(answer.event_id)


def _remember(answer: Waiting, memory: RecentHashes) -> None:
    for alias in list_aliases(answer):
        memory.add(alias)
