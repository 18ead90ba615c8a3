"""Joins each answer with its label by event, in bounded memory. Pure: no clock, no bus.

    Answer --pending--.
                       >-- matching (wire.events) -- LabelNames -- Sample        counted: matched
    Feedback --parked-'
    Feedback with its event's text ----------------- LabelNames -- Sample        counted: matched, with_text
    Feedback of an event that has its label -- LabelledEvents -- duplicate | correction | ambiguous

The two topics have no common order, so either side may come first. An answer waits in `pending`; a label that matches
no answer is parked. Both windows are bounded in bytes and evict the oldest first, so the state fits a checkpoint. An
event is a source and an id, but a label may name less; `wire.events` defines which answers it matches. A label is
ambiguous in two cases: it matches several answers, or it matches one by its id alone although another event of this id
was labelled before.

Each label has exactly one outcome, or is parked:

    matched      it became a sample
    late         its answer has left the window; `learner.intake.answer_finder` looks for it in the topic
    duplicate    its event was labelled before
    correction   its event was labelled before, and this label replaces the first one
    orphan       no answer came while it was parked
    refused      for a reason in the label alone
    quarantined  it is ambiguous, or was held after it was joined

Two more counters: `early` counts parked labels, and `withdrawn` counts matched labels that are not trusted any more.
A quarantined label leaves its answer waiting for a better label. An event that is answered again keeps its first
answer, and the receipts of all its answers are valid. A label that carries the text of its event needs no answer,
unless the event was erased.

A label replaces the previous one if an operator has approved it, or if it comes from a mapped topic, which the
service's operator has configured (`bus.map.feedback.on_second_label`). The same label again is a duplicate. The labels
of MAX_SAID events are remembered; beyond these the same label counts as a correction, which changes nothing.

Labels and answers wait under their original class names, and are translated when they are joined. So a change of the
set of labels does not touch the windows, and a late label under an old name means what the name means by then.

Rejected: windows by time (a stalled stream would expire everything at once, and the counts would depend on clocks), a
Bloom filter for the ids (a false positive would silently drop a label), and looking for the label of an event in the
replay buffer (it is ordered by class, and a search takes milliseconds).
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
    aliases_of,
    corrected_alias,
    encoded_key,
    has_receipt,
    key_of,
    lookup_alias,
    matching,
    with_key,
)
from wire.label_set import LabelSet
from wire.receipts import FORGED
from wire.recent import RecentHashes, name_hash64
from wire.records import Answer, Feedback, Quarantined

RECENT: Final = 1_000
"""The number of last labels whose shares of late and orphaned labels are watched."""

MIN_LABELS: Final = 100
"""The fewest labels for an alarm."""

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
    Unmatched.LATE: "came when their answer waited no longer, and are looked for: raise learner.pending_bytes",
    Unmatched.ORPHAN: "waited for an answer that did not come: raise learner.parked_bytes, or look at who sends them",
}
"""The text of the alarm by outcome: the problem and its fix."""


class LabelOutcomes:
    """Counts labels by their outcome, and remembers the last RECENT outcomes."""

    def __init__(self, counts: Counter[str], recent: list[str]) -> None:
        self._counts = counts
        self._recent = deque(recent, maxlen=RECENT)

    def add(self, outcome: str) -> None:
        self._counts[outcome] += 1
        self._recent.append(outcome)

    def alarms(self) -> list[str]:
        """Returns the alarms about the windows, as sentences."""
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
    """The events that have a label, by the hashes of their aliases, and the hashes of their last labels."""

    def __init__(self, capacity: int, hashes: Iterable[int] = (), said: Mapping[int, int] | None = None) -> None:
        self.aliases = RecentHashes(capacity, hashes)
        self._said = OrderedDict(said or {})

    def add(self, answer: Waiting, feedback: Feedback) -> None:
        """Records the label of an event."""
        for alias in aliases_of(answer):
            self.aliases.add(alias)
        for alias in (encoded_key(answer.key), lookup_alias(feedback)):
            self._said[name_hash64(alias)] = name_hash64(feedback.label_string.encode())
            self._said.move_to_end(name_hash64(alias))
        while len(self._said) > 2 * MAX_SAID:
            self._said.popitem(last=False)

    def forget(self, answers: Iterable[Waiting]) -> None:
        """Forgets the labels of these events."""
        aliases = list(chain.from_iterable(map(aliases_of, answers)))
        self.aliases.discard(aliases)
        for alias in aliases:
            self._said.pop(name_hash64(alias), None)

    def repeated(self, feedback: Feedback, *, may_correct: bool) -> Unmatched:
        """Returns the outcome of a label whose event was labelled before."""
        if not may_correct:
            return Unmatched.DUPLICATE
        alias = corrected_alias(feedback)
        if alias is not None and alias in self.aliases:
            return Unmatched.DUPLICATE if self._is_said(alias, feedback) else Unmatched.CORRECTION
        is_same = feedback.replaces and self._is_said(lookup_alias(feedback), feedback)
        return Unmatched.DUPLICATE if is_same else Unmatched.AMBIGUOUS

    @property
    def said(self) -> dict[int, int]:
        """The hashes of labels by the hashes of aliases, oldest first."""
        return dict(self._said)

    def _is_said(self, alias: bytes, feedback: Feedback) -> bool:
        return self._said.get(name_hash64(alias)) == name_hash64(feedback.label_string.encode())


KEY_MISSING: Final = "the label has no `key`: send the key of the answer with its receipt, which is good for that alone"
"""The fix if a valid receipt may have been sent without its key, and its answer is not in the window."""

SOURCE_MISSING: Final = "the label replaces none without the source of its event: map bus.map.feedback.event_source"
"""The fix if a second label names an event that has a source by its id alone."""


class KnownNames(Protocol):
    """A set of known class names."""

    def __contains__(self, label: str, /) -> bool: ...


class KnownLabels(Protocol):
    """The part of `Knowledge` that names need: the set of labels, and the classes that have a row."""

    @property
    def labels(self) -> LabelSet: ...
    @property
    def classes(self) -> KnownNames: ...


class LabelNames:
    """Translates and checks class names. `known` returns the current knowledge; `is_in_holdout` draws the holdout."""

    def __init__(self, known: Callable[[], KnownLabels], is_in_holdout: HoldoutDraw) -> None:
        self._known = known
        self.is_in_holdout = is_in_holdout

    def draw_holdout_by(self, secret: bytes) -> None:
        """Draws the holdout by a hash with this secret from now on."""
        self.is_in_holdout = HoldoutDraw(self.is_in_holdout.share, secret)

    def refusal(self, feedback: Feedback) -> str:
        """Returns why the current set of labels refuses a label; "" if it does not."""
        known = self._known()
        return known.labels.refusal(feedback.label_string, known.classes.__contains__)

    def sample(self, answer: Waiting, feedback: Feedback) -> Sample:
        """Returns the sample of an answer and its label, both under the current names."""
        known = self._known()
        sample = make_sample(answer, feedback, self.is_in_holdout)
        name_of = known.labels.name_of
        predicted = None if sample.predicted_label is None else name_of(sample.predicted_label)
        return msgspec.structs.replace(sample, label=name_of(sample.label), predicted_label=predicted)

    def quarantined(self, reason: str, feedback: Feedback, answer: Waiting | None = None) -> Quarantined:
        """Returns the quarantine record of a label that is refused or held.

        It says how to fix a label that is not in the set, or that may lack the key of its answer: a receipt belongs to
        one key and looks forged without it.
        """
        record = make_quarantined(reason, feedback, answer)
        if reason == FORGED and feedback.receipt and not feedback.key:
            return msgspec.structs.replace(record, detail=KEY_MISSING)
        if reason == AMBIGUOUS and feedback.replaces and feedback.event_source is None:
            return msgspec.structs.replace(record, detail=SOURCE_MISSING)
        is_ours = reason == self.refusal(feedback)
        detail = self._known().labels.explain_refusal(reason, feedback.label_string) if is_ours else ""
        return msgspec.structs.replace(record, detail=detail)


class JoinState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a `Join`, in window order.

    `pending` is encoded as list[Waiting], `parked` as list[Feedback]. `labelled`, `expired` and `erased` are hashes of
    aliases, `said` the hashes of the last labels. `ends` has the last outcomes, and `late` the labels whose answers
    are looked for.
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
    """Owns the windows. `match` adds records; `export` and `Join(..., state=...)` carry the state over a restart."""

    def __init__(self, config: LearnerConfig, trust: LabelTrust, names: LabelNames, state: JoinState | None = None):
        num_aliases = ALIASES_PER_EVENT * config.remembered_ids
        self._trust = trust
        self._names = names
        self.late = LateLabels(state.late if state else None)
        self._pending = Window(Waiting, config.pending_bytes, state.answers if state else ())
        self._parked = Window(Feedback, config.parked_bytes, state.labels if state else ())
        self._labelled = LabelledEvents(num_aliases, state.labelled if state else (), state.said if state else None)
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

        A later label of one of these answers is late.
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
        """Drops an answer about an erased subject: its label is late."""
        self._remember_erased(Waiting.from_answer(answer))

    def unlabelled(self, limit: int) -> list[str]:
        """Returns the texts of the newest `limit` pending answers, oldest first, without holdout events."""
        is_in_holdout = self._names.is_in_holdout
        return [answer.text for answer in self._pending.newest(limit) if not is_in_holdout(answer.key)]

    def alarms(self) -> list[str]:
        """Returns the alarms about the windows, as sentences."""
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
            said=self._labelled.said,
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
        memory = self._memory_of(encoded_key(key_of(answer)))
        if first is not None:
            self._pending.replace(first, first.with_repeat(answer))
        elif memory is not None:
            _remember(waiting, memory)
        else:
            self._expire(self._pending.add(waiting))
        self.counts["answers_repeated"] += first is not None or memory is not None
        self._match_parked(answer.event_id)

    def _memory_of(self, alias: bytes) -> RecentHashes | None:
        """Returns the memory that holds `alias`: labelled, expired or erased events; None if none does."""
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
        """Returns the answer of the label, or the reason why there is none."""
        matches = matching(feedback, self._pending.of(feedback.event_id))
        alias = lookup_alias(feedback)
        is_labelled = alias in self._labelled.aliases
        if len(matches) == 1 and (has_receipt(feedback) or not is_labelled):
            return matches[0]
        if matches:
            return Unmatched.AMBIGUOUS
        if is_labelled:
            return self._labelled.repeated(feedback, may_correct=self._trust.may_correct(feedback))
        has_left = (
            alias in self._expired or alias in self._erased or is_before(feedback, next(iter(self._pending), None))
        )
        return Unmatched.LATE if has_left else Unmatched.WAIT

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
        """Withdraws labels that are not trusted any more: they go to quarantine, and their events have no label."""
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
    for alias in aliases_of(answer):
        memory.add(alias)
