"""Joins each label with the predictions that it judges. Pure: no clock, no network.

    Feedback with a receipt --> the receipt's own verdicts ----------------+
    Feedback without one ----> waits for its answer, whose receipt has them +--> JudgedLabel
    Answer ------------------> waits for such a label --------------------+

A receipt contains the predictions (`Verdicts`) of all versions that were loaded when the event was answered. So a label
with a receipt is judged as soon as it comes, however late that is, and also after a restart. A label without a receipt
needs the answer. Whichever of the two comes first waits for the other one in a bounded window.

A label may come late, early, twice, or without an answer. Each case has a counter. An event is judged once. A label
that an operator has approved, or that comes from a mapped topic, replaces the event's earlier label. `wire.events`
decides which answer a label belongs to; a label that matches several answers counts for none. Clients reuse ids: if the
source and the id are the same, but the text or the entity differs, it is another event, whose answer has its own
receipt.

The number of waiting answers is bounded. Beyond the bound, a random sample of them is kept: of answers that are twice
as old, half as many. If the oldest answers were dropped instead, every label later than the window would be lost; so
even very late labels find some answers. The sample is drawn by a keyed hash of the event, which no client can predict.
It depends neither on the arm nor on the label, so it is unbiased.

Each source has a quota of labels that count (`make_source_quota`), so that a flood does not drown the other sources.
The quota is checked before a label is compared with any prediction, so the labels that count are as accurate as their
source's other labels. No source decides alone: see `rollout/tallies.py`.

Rejected: reading the learner's joined pairs. A faulty learner would then judge itself.
"""

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

import msgspec

from rollout.judged_events import JudgedEvent, JudgedEvents, JudgedLabel
from wire.config import TrustConfig
from wire.events import (
    AMBIGUOUS,
    EventKey,
    content,
    corrected_alias,
    encoded_key,
    has_receipt,
    list_aliases,
    lookup_alias,
    matching,
    with_later_time,
)
from wire.inputs import EMPTY_CONTENT
from wire.kinds import Fingerprint, event_uniform_hash, find_kind, name_hash
from wire.label_set import LabelSet
from wire.rate_limits import Rates, Shares
from wire.receipts import Verdicts, parse_verdicts, receipt_time_ms
from wire.recent import name_hash64
from wire.records import STAND_IN, Answer, Feedback


@dataclass(slots=True, eq=False)
class WaitingAnswer:
    """An answer that waits for its label.

    - `text_hash`: the hash of the event's content, which is not kept itself.
    - `times_ms`: the times of this answer and of later answers to the same event.
    - `verdicts`: the predictions in the receipt of the first answer.
    - `number`: the number of the answer among all answers that have waited so far.
    """

    source: str
    event_id: str
    entity: str
    text_hash: int
    times_ms: tuple[int, ...]
    verdicts: Verdicts
    number: int

    @classmethod
    def from_answer(cls, answer: Answer, verdicts: Verdicts, number: int, *, seed: int) -> "WaitingAnswer":
        """Keeps the parts of `answer` that a join needs. `verdicts` are from its receipt; `seed` keys its text hash."""
        return cls(
            source=answer.source,
            event_id=answer.event_id,
            entity=answer.entity,
            text_hash=name_hash64(content(answer).encode(), seed),
            times_ms=(answer.time_ms,),
            verdicts=verdicts,
            number=number,
        )

    @property
    def key(self) -> EventKey:
        return self.source, self.event_id

    def is_same_event(self, other: "WaitingAnswer") -> bool:
        """Whether `other` is another answer to this event. The content is compared, too, because clients reuse ids."""
        return (self.key, self.entity, self.text_hash) == (other.key, other.entity, other.text_hash)

    def add_repeat(self, other: "WaitingAnswer") -> None:
        """Adds the time of a later answer to the same event, because its receipt is valid, too."""
        self.times_ms = with_later_time(self.times_ms, other.times_ms[0])


MAX_EARLY_BYTES: Final = 64 << 20
"""Most bytes of all waiting labels. A label counts with the size of its encoding, plus EARLY_OVERHEAD."""

EARLY_OVERHEAD: Final = 600
"""Bytes of memory that a waiting label takes in addition to its encoding."""


class EarlyLabels(OrderedDict[bytes, Feedback]):
    """Labels without receipts that wait for their answers, by alias, oldest first.

    Labels are added only by `put` and removed only by `take`. The event's text in a label, up to 128 KiB, is not kept,
    because the judge does not need it. The labels are bounded both in number and in bytes, because ids and sets of
    names may be long, too.
    """

    def __init__(self, max_labels: int, max_bytes: int = MAX_EARLY_BYTES) -> None:
        super().__init__()
        self._max_labels = max_labels
        self._max_bytes = max_bytes
        self._num_bytes = 0

    def put(self, alias: bytes, feedback: Feedback) -> int:
        """Adds a label, or replaces the label with this alias. Drops the oldest labels beyond the bounds, and returns
        their number."""
        if alias in self:
            self.take(alias)
        kept = msgspec.structs.replace(feedback, **EMPTY_CONTENT, proof="")
        self[alias] = kept
        self._num_bytes += _num_early_bytes(alias, kept)
        num_dropped = 0
        while len(self) > self._max_labels or self._num_bytes > self._max_bytes:
            self.take(next(iter(self)))
            num_dropped += 1
        return num_dropped

    def take(self, alias: bytes) -> Feedback:
        """Removes and returns a label. Raises KeyError if no label has this alias."""
        feedback = self.pop(alias)
        self._num_bytes -= _num_early_bytes(alias, feedback)
        return feedback


def _num_early_bytes(alias: bytes, feedback: Feedback) -> int:
    return EARLY_OVERHEAD + len(alias) + len(msgspec.msgpack.encode(feedback))


SourceQuota: TypeAlias = Callable[[str, int], str]

SOURCE_WINDOW: Final = 1_000
"""Number of recent labels over which the sources' shares are computed."""


def make_source_quota(trust: TrustConfig, *, share: float) -> SourceQuota:
    """Returns a function that decides whether a label counts. It is called for each label in order.

    Its arguments are the label's source and its answer's time in ms. It returns the reason why the label does not
    count; "" if it counts. `share` is the setting `rollout.source_share`.
    """
    rates = Rates(per_s=trust.source_labels_per_s, burst=trust.source_burst, max_sources=trust.max_sources)
    learnt_shares = Shares(share=trust.source_share, window=trust.source_window)
    counted_shares = Shares(share=share, window=SOURCE_WINDOW)

    def quota_refusal(source: str, answer_ms: int) -> str:
        if not rates.take(source, answer_ms):
            return "over_rate"
        if not learnt_shares.add(source):
            return "over_share"
        return "" if counted_shares.add(source) else "beyond_share"

    return quota_refusal


LOAD_AFTER_THINNING = 0.75
"""Share of the bound on waiting answers that remains after thinning."""

MAX_WAITING_PER_KEY = 8
"""Most waiting answers with the same source and id. The oldest is dropped first."""


@dataclass(slots=True)
class LabelJoin:
    """Joins labels with predictions. Verbs: follow, add_answer, add_label; the last two may return a judged label.

    - `max_unlabelled`: the number of answers, and of labels without receipts, that may wait.
    - `judged`: the events that have a label already.
    - `quota_refusal`: returns the reason why a label of a source does not count; "" if it counts (see
      `make_source_quota`). If it does not count, another label may judge its event.
    - `is_audited`: whether the event with this id is in the random sample of events whose labels are always requested.

    Labels have the names that the learner uses (`LabelSet.name_of`).
    """

    max_unlabelled: int
    judged: JudgedEvents
    quota_refusal: SourceQuota = lambda source, answer_ms: ""
    is_audited: Callable[[str], bool] = lambda event_id: False
    counts: Counter[str] = field(default_factory=Counter)
    # The hash of a class's present name, by the hash of an earlier name.
    _renamed: Mapping[int, int] = field(default_factory=dict)
    _evidence_share: Callable[[str], float] = lambda label: 1.0
    _num_answers: int = 0
    # The waiting answers by number.
    _answers: dict[int, WaitingAnswer] = field(default_factory=dict)
    _by_id: defaultdict[str, list[WaitingAnswer]] = field(default_factory=lambda: defaultdict(list))
    _labels: EarlyLabels = field(init=False)

    def __post_init__(self) -> None:
        self._labels = EarlyLabels(self.max_unlabelled)

    def follow(self, labels: LabelSet) -> None:
        """Adopts a changed label set: the present names of its classes, and the shares of their labels that count."""
        self._renamed = labels.hashes
        self._evidence_share = labels.evidence_share

    def add_answer(self, answer: Answer) -> JudgedLabel | None:
        """Lets the answer wait for its label, or judges a label that came before the answer."""
        if answer.arm == STAND_IN:
            # A stand-in's answer is evidence for no arm.
            self.counts["answer_of_stand_in"] += 1
            return None
        verdicts = parse_verdicts(answer.receipt)
        if verdicts is None:
            self.counts["answer_without_verdicts"] += 1
            return None
        waiting = WaitingAnswer.from_answer(answer, verdicts, self._num_answers + 1, seed=self.judged.seed)
        first = next((other for other in self.waiting(answer.event_id) if other.is_same_event(waiting)), None)
        if first is not None:
            self.counts["answer_repeated"] += 1
            first.add_repeat(waiting)
            return None
        if any(alias in self.judged for alias in _own_aliases(waiting)):
            self.counts["answer_judged_before"] += 1
            return None
        self._num_answers += 1
        return self._join_or_wait(waiting)

    def add_label(self, feedback: Feedback) -> JudgedLabel | None:
        """Judges a label, or lets it wait for its answer. The caller must have refused labels with forged receipts."""
        matches = matching(feedback, self.waiting(feedback.event_id))
        corrected = corrected_alias(feedback)
        event = self.judged.find(corrected) if corrected is not None else None
        if event is not None and (feedback.approval or not matches):
            return self._correct(event, feedback)
        verdicts = parse_verdicts(feedback.receipt) if has_receipt(feedback) else None
        if verdicts is not None:
            return self._judge_by_receipt(feedback, verdicts, matches)
        alias = lookup_alias(feedback)
        if len(matches) == 1 and (has_receipt(feedback) or alias not in self.judged):
            return self._judge(matches[0], feedback, is_waiting=True)
        if matches:
            self.counts[f"label_{AMBIGUOUS}"] += 1
        elif alias in self.judged or (alias in self._labels and not feedback.replaces):
            self.counts["label_repeated"] += 1
        elif num_dropped := self._labels.put(alias, feedback):
            self.counts["label_dropped"] += num_dropped
        return None

    def waiting(self, event_id: str) -> Sequence[WaitingAnswer]:
        """Returns the waiting answers with this event id."""
        return self._by_id.get(event_id, ())

    def _join_or_wait(self, answer: WaitingAnswer) -> JudgedLabel | None:
        for alias in list_aliases(answer):
            # A label that came before its answer.
            early = self._labels.get(alias)
            if early is not None and matching(early, [answer]):
                self._labels.take(alias)
                judged = self._judge(answer, early, is_waiting=False)
                if judged is not None:
                    return judged
        self._answers[answer.number] = answer
        same_id = self._by_id[answer.event_id]
        same_id.append(answer)
        same_key = [other for other in same_id if other.key == answer.key]
        if len(same_key) > MAX_WAITING_PER_KEY:
            self._drop(same_key[:1])
        if len(self._answers) > self.max_unlabelled:
            self._thin()
        return None

    def _judge_by_receipt(
        self, feedback: Feedback, verdicts: Verdicts, matches: list[WaitingAnswer]
    ) -> JudgedLabel | None:
        """Judges a label by its receipt. The answer that made the receipt need not wait any longer."""
        alias = lookup_alias(msgspec.structs.replace(feedback, event_source=None))
        if alias in self.judged:
            self.counts["label_repeated"] += 1
            return None
        if verdicts.arm == STAND_IN:
            self.counts["label_of_stand_in"] += 1
            return None
        label = self._label_within_quota(
            feedback, verdicts, receipt_time_ms(feedback.receipt), feedback.answered_entity
        )
        if label is None:
            return None
        # By the receipt, and by the source if the label names it.
        aliases = {alias, lookup_alias(feedback)}
        self.judged.add(aliases.union(*map(list_aliases, matches)), label)
        for answer in matches:
            self._forget(answer)
        return label

    def _judge(self, answer: WaitingAnswer, feedback: Feedback, *, is_waiting: bool) -> JudgedLabel | None:
        label = self._label_within_quota(feedback, answer.verdicts, answer.times_ms[0], answer.entity)
        if label is None:
            return None
        self.judged.add(list_aliases(answer), label)
        if is_waiting:
            self._forget(answer)
        return label

    def _correct(self, event: JudgedEvent, feedback: Feedback) -> JudgedLabel | None:
        """Judges a label that replaces the event's earlier label."""
        before = event.label
        label = feedback.label_string
        name = name_hash(label)
        reason = "" if feedback.approval else self.quota_refusal(feedback.source, before.answer_ms)
        if name == before.name or reason:
            self.counts[f"label_{reason}" if reason else "label_repeated"] += 1
            return None
        number = self.judged.next_number()
        corrected = replace(
            before,
            name=name,
            labelled=find_kind(label).fingerprint(label),
            share=self._evidence_share(label),
            source=feedback.source,
            number=number,
            corrected=before,
        )
        self.judged.correct(event, corrected)
        self.counts["corrected"] += 1
        return corrected

    def _label_within_quota(
        self, feedback: Feedback, verdicts: Verdicts, answer_ms: int, entity: str
    ) -> JudgedLabel | None:
        """Returns the label if it is within its source's quota. The quota is checked before any prediction is read."""
        reason = self.quota_refusal(feedback.source, answer_ms)
        self.counts[f"label_{reason}" if reason else "judged"] += 1
        if reason:
            return None
        label = feedback.label_string
        kind = find_kind(label)
        return JudgedLabel(
            verdicts=self._with_current_names(verdicts),
            name=name_hash(label),
            kind=kind.name,
            labelled=kind.fingerprint(label),
            draw=event_uniform_hash(feedback.event_id.encode()),
            share=self._evidence_share(label),
            source=feedback.source,
            answer_ms=answer_ms,
            number=self.judged.next_number(),
            entity=name_hash64(entity.encode(), self.judged.seed),
            is_audited=self.is_audited(feedback.event_id),
        )

    def _with_current_names(self, verdicts: Verdicts) -> Verdicts:
        """Returns the verdicts under the present names of the classes."""
        if not self._renamed:
            return verdicts
        names = tuple((version, self._current_name(named)) for version, named in verdicts.names)
        return replace(verdicts, names=names)

    def _current_name(self, named: Fingerprint) -> Fingerprint:
        if isinstance(named, int):
            return self._renamed.get(named, named)
        return tuple(dict.fromkeys(self._renamed.get(name, name) for name in named))

    def _thin(self) -> None:
        """Drops waiting answers, more of the older ones, until LOAD_AFTER_THINNING of the bound is left."""
        room = int(LOAD_AFTER_THINNING * self.max_unlabelled)
        num_dense = self.max_unlabelled // 2
        while len(self._answers) > room and num_dense:
            self._drop([answer for answer in self._answers.values() if not self._is_sampled(answer, num_dense)])
            num_dense //= 2
        self._drop(list(self._answers.values())[: max(0, len(self._answers) - room)])

    def _is_sampled(self, answer: WaitingAnswer, num_dense: int) -> bool:
        """Whether thinning keeps an answer.

        It keeps the newest 2 * `num_dense` answers, half of the 2 * `num_dense` answers before them, a quarter of the 4
        * `num_dense` answers before those, and so on.
        """
        octaves = ((self._num_answers - answer.number) // num_dense).bit_length() - 1
        return octaves < 1 or name_hash64(encoded_key(answer.key), self.judged.seed) % (1 << octaves) == 0

    def _drop(self, answers: list[WaitingAnswer]) -> None:
        for answer in answers:
            self._forget(answer)
        self.counts["answer_dropped"] += len(answers)

    def _forget(self, answer: WaitingAnswer) -> None:
        """Removes an answer from the waiting ones."""
        del self._answers[answer.number]
        self._by_id[answer.event_id].remove(answer)
        if not self._by_id[answer.event_id]:
            del self._by_id[answer.event_id]


def _own_aliases(answer: WaitingAnswer) -> list[bytes]:
    """Returns the aliases of an answer that no other answer shares: all except the id of its event."""
    by_key, _by_id, *by_receipt = list_aliases(answer)
    return [by_key, *by_receipt]
