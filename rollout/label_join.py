"""Finds the verdicts that a label is about. Pure: no clock, no network.

    Feedback with a receipt --> its own verdicts -------------------------+
    Feedback without one ----> waits for its answer, whose receipt has them +--> JudgedLabel
    Answer ------------------> waits for such a label --------------------+

A receipt holds what every version at hand named, so its label is judged the moment it comes, however late and after any
restart. Only a label without a receipt needs the answer, and waits or looks for it in a bounded window. Labels may come
late, early, twice or without an answer; each case has a counter, and an event is judged once, but that a label which an
operator has approved, or of a mapped topic, takes the place of the one before. `wire.events` decides which answer a
label belongs to; a label that matches several counts for none. Clients use an id twice: another text or entity under
the same source and id is another event, whose answer has a receipt of its own.

The waiting answers are bounded. Beyond the bound they are thinned, the more the older they are: each doubling of age
halves the share that is left, sampled by a hash of the event that nobody outside can predict. So labels find answers
however late they come, only fewer of them. Dropping the oldest would lose every label that comes later than the window
is long. The sample depends on neither arm nor label, so it is unbiased.

How many labels of one source count is bounded (`source_limits`), so that a flood does not drown the others. Whether a
label counts is decided before it is compared with any verdict, so the labels that count are as accurate as the others
of their sources. And what counts decides nothing alone: see `rollout/tallies.py`.

Rejected: reading the learner's own joined pairs. A learner that is wrong about itself would then judge itself.
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
    aliases_of,
    content,
    corrected_alias,
    encoded_key,
    has_receipt,
    lookup_alias,
    matching,
    with_later_time,
)
from wire.inputs import NOTHING_SAID
from wire.kinds import Fingerprint, draw_of, kind_of, name_hash
from wire.label_set import LabelSet
from wire.rate_limits import Rates, Shares
from wire.receipts import Verdicts, time_of, verdicts_of
from wire.recent import hash_of
from wire.records import STAND_IN, Answer, Feedback


@dataclass(slots=True, eq=False)
class WaitingAnswer:
    """An answer that waits for its label. `number` counts the answers up to it.

    `times_ms` has its time and those of later answers to the same event. The text is kept as its hash alone. `verdicts`
    are those of the first answer.
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
        """Keeps what is needed of `answer`, whose receipt has `verdicts`. `seed` keys the hash of the text."""
        return cls(
            source=answer.source,
            event_id=answer.event_id,
            entity=answer.entity,
            text_hash=hash_of(content(answer).encode(), seed),
            times_ms=(answer.time_ms,),
            verdicts=verdicts,
            number=number,
        )

    @property
    def key(self) -> EventKey:
        return self.source, self.event_id

    def is_same_event(self, other: "WaitingAnswer") -> bool:
        """Whether `other` is another answer to this event. The text counts too, since clients use an id twice."""
        return (self.key, self.entity, self.text_hash) == (other.key, other.entity, other.text_hash)

    def add_repeat(self, other: "WaitingAnswer") -> None:
        """Adds the time of a later answer to the same event: its receipt is valid, too."""
        self.times_ms = with_later_time(self.times_ms, other.times_ms[0])


MAX_EARLY_BYTES: Final = 64 << 20
"""Most bytes of waiting labels, by their encoding and EARLY_OVERHEAD."""

EARLY_OVERHEAD: Final = 600
"""Bytes of memory that a waiting label takes besides its encoding."""


class EarlyLabels(OrderedDict[bytes, Feedback]):
    """Holds the labels without receipts that wait for their answer, by alias and in their order. Labels come by `put`
    and leave by `take` alone.

    A label may carry a text of 128 KiB, and the judge needs none of it. What is left of a label is bounded by number
    and by bytes, since an id or a set of names may be long, too.
    """

    def __init__(self, max_labels: int, max_bytes: int = MAX_EARLY_BYTES) -> None:
        super().__init__()
        self._max_labels = max_labels
        self._max_bytes = max_bytes
        self._num_bytes = 0

    def put(self, alias: bytes, feedback: Feedback) -> int:
        """Lets the label wait, in the place of one under its alias; returns how many others were dropped for it, oldest
        first, so that the bounds hold."""
        if alias in self:
            self.take(alias)
        kept = msgspec.structs.replace(feedback, **NOTHING_SAID, proof="")
        self[alias] = kept
        self._num_bytes += _num_early_bytes(alias, kept)
        num_dropped = 0
        while len(self) > self._max_labels or self._num_bytes > self._max_bytes:
            self.take(next(iter(self)))
            num_dropped += 1
        return num_dropped

    def take(self, alias: bytes) -> Feedback:
        """Removes the label, which is here, and returns it."""
        feedback = self.pop(alias)
        self._num_bytes -= _num_early_bytes(alias, feedback)
        return feedback


def _num_early_bytes(alias: bytes, feedback: Feedback) -> int:
    return EARLY_OVERHEAD + len(alias) + len(msgspec.msgpack.encode(feedback))


Excess: TypeAlias = Callable[[str, int], str]

SOURCE_WINDOW: Final = 1_000
"""The window, in labels, over which the shares of the sources are computed."""


def source_limits(trust: TrustConfig, *, share: float) -> Excess:
    """Returns what says, label by label in their order, why one of a source does not count, "" where it does.

    It is asked with the source, and the time of the answer in ms. `share` is that of `rollout.source_share`.
    """
    rates = Rates(per_s=trust.source_labels_per_s, burst=trust.source_burst, max_sources=trust.max_sources)
    learnt = Shares(share=trust.source_share, window=trust.source_window)
    counted = Shares(share=share, window=SOURCE_WINDOW)

    def excess(source: str, answer_ms: int) -> str:
        if not rates.take(source, answer_ms):
            return "over_rate"
        if not learnt.add(source):
            return "over_share"
        return "" if counted.add(source) else "beyond_share"

    return excess


LOAD_AFTER_THINNING = 0.75
"""Share of the bound on waiting answers that is left after thinning."""

SAME_KEY = 8
"""Number of events of one source and id whose answers wait at a time. The oldest is dropped first."""


@dataclass(slots=True)
class LabelJoin:
    """Joins labels with verdicts. Verbs: follow, add_answer, add_label; the last two return what can be judged now.

    `judged` knows the events that have their label. `excess` returns why a label of a source may not count, "" where it
    may (`source_limits`); its event is then left to other labels. `is_audited` says of the
    id of an event whether its label is asked for. Labels are given as they are learnt (`LabelSet.name_of`).
    """

    max_unlabelled: int
    judged: JudgedEvents
    excess: Excess = lambda source, answer_ms: ""
    is_audited: Callable[[str], bool] = lambda event_id: False
    counts: Counter[str] = field(default_factory=Counter)
    _renamed: Mapping[int, int] = field(default_factory=dict)  # the hash of what a name means now, by its own
    _evidence_share: Callable[[str], float] = lambda label: 1.0
    _num_answers: int = 0
    _answers: dict[int, WaitingAnswer] = field(default_factory=dict)  # by their number
    _by_id: defaultdict[str, list[WaitingAnswer]] = field(default_factory=lambda: defaultdict(list))
    _labels: EarlyLabels = field(init=False)

    def __post_init__(self) -> None:
        self._labels = EarlyLabels(self.max_unlabelled)

    def follow(self, labels: LabelSet) -> None:
        """Goes over to these names of the classes, and to the shares of their labels that count as evidence."""
        self._renamed = labels.hashes
        self._evidence_share = labels.evidence_share

    def add_answer(self, answer: Answer) -> JudgedLabel | None:
        """Lets the answer wait for its label, or judges a label that came before it."""
        if answer.arm == STAND_IN:
            self.counts["answer_of_stand_in"] += 1  # it is evidence for no arm
            return None
        verdicts = verdicts_of(answer.receipt)
        if verdicts is None:
            self.counts["answer_without_verdicts"] += 1
            return None
        waiting = WaitingAnswer.from_answer(answer, verdicts, self._num_answers + 1, seed=self.judged.seed)
        first = next((each for each in self.waiting(answer.event_id) if each.is_same_event(waiting)), None)
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
        """Judges a label that is believed: the caller has refused forged receipts."""
        matches = matching(feedback, self.waiting(feedback.event_id))
        corrected = corrected_alias(feedback)
        event = self.judged.find(corrected) if corrected is not None else None
        if event is not None and (feedback.approval or not matches):
            return self._correct(event, feedback)
        verdicts = verdicts_of(feedback.receipt) if has_receipt(feedback) else None
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
        """Returns the answers of an event id that wait."""
        return self._by_id.get(event_id, ())

    def _join_or_wait(self, answer: WaitingAnswer) -> JudgedLabel | None:
        for alias in aliases_of(answer):
            early = self._labels.get(alias)  # the label came before its answer
            if early is not None and matching(early, [answer]):
                self._labels.take(alias)
                judged = self._judge(answer, early, is_waiting=False)
                if judged is not None:
                    return judged
        self._answers[answer.number] = answer
        same_id = self._by_id[answer.event_id]
        same_id.append(answer)
        same_key = [each for each in same_id if each.key == answer.key]
        if len(same_key) > SAME_KEY:
            self._drop(same_key[:1])
        if len(self._answers) > self.max_unlabelled:
            self._thin()
        return None

    def _judge_by_receipt(
        self, feedback: Feedback, verdicts: Verdicts, matches: list[WaitingAnswer]
    ) -> JudgedLabel | None:
        """Judges by the receipt alone, which is of one answer; where that waits, it is not needed any more."""
        alias = lookup_alias(msgspec.structs.replace(feedback, event_source=None))
        if alias in self.judged:
            self.counts["label_repeated"] += 1
            return None
        if verdicts.arm == STAND_IN:
            self.counts["label_of_stand_in"] += 1
            return None
        label = self._counted(feedback, verdicts, time_of(feedback.receipt), feedback.answered_entity)
        if label is None:
            return None
        own = {alias, lookup_alias(feedback)}  # by its receipt, and by its source where the label names that
        self.judged.add(own.union(*map(aliases_of, matches)), label)
        for answer in matches:
            self._forget(answer)
        return label

    def _judge(self, answer: WaitingAnswer, feedback: Feedback, *, is_waiting: bool) -> JudgedLabel | None:
        label = self._counted(feedback, answer.verdicts, answer.times_ms[0], answer.entity)
        if label is None:
            return None
        self.judged.add(aliases_of(answer), label)
        if is_waiting:
            self._forget(answer)
        return label

    def _correct(self, event: JudgedEvent, feedback: Feedback) -> JudgedLabel | None:
        """Judges a label in the place of the one before."""
        before = event.label
        label = feedback.said
        name = name_hash(label)
        excess = "" if feedback.approval else self.excess(feedback.source, before.answer_ms)
        if name == before.name or excess:
            self.counts[f"label_{excess}" if excess else "label_repeated"] += 1
            return None
        number = self.judged.number()
        corrected = replace(
            before,
            name=name,
            labelled=kind_of(label).fingerprint(label),
            share=self._evidence_share(label),
            source=feedback.source,
            number=number,
            corrected=before,
        )
        self.judged.correct(event, corrected)
        self.counts["corrected"] += 1
        return corrected

    def _counted(self, feedback: Feedback, verdicts: Verdicts, answer_ms: int, entity: str) -> JudgedLabel | None:
        """Returns the label where it counts, which is decided before it is compared with any verdict."""
        excess = self.excess(feedback.source, answer_ms)
        self.counts[f"label_{excess}" if excess else "judged"] += 1
        if excess:
            return None
        label = feedback.said
        kind = kind_of(label)
        return JudgedLabel(
            verdicts=self._by_names_of_now(verdicts),
            name=name_hash(label),
            kind=kind.name,
            labelled=kind.fingerprint(label),
            draw=draw_of(feedback.event_id.encode()),
            share=self._evidence_share(label),
            source=feedback.source,
            answer_ms=answer_ms,
            number=self.judged.number(),
            entity=hash_of(entity.encode(), self.judged.seed),
            is_audited=self.is_audited(feedback.event_id),
        )

    def _by_names_of_now(self, verdicts: Verdicts) -> Verdicts:
        """Returns verdicts of which each names the label that its name means now."""
        if not self._renamed:
            return verdicts
        names = tuple((version, self._by_name_of_now(named)) for version, named in verdicts.names)
        return replace(verdicts, names=names)

    def _by_name_of_now(self, named: Fingerprint) -> Fingerprint:
        if isinstance(named, int):
            return self._renamed.get(named, named)
        return tuple(dict.fromkeys(self._renamed.get(name, name) for name in named))

    def _thin(self) -> None:
        """Drops waiting answers, until a share of the window is free."""
        room = int(LOAD_AFTER_THINNING * self.max_unlabelled)
        num_dense = self.max_unlabelled // 2
        while len(self._answers) > room and num_dense:
            self._drop([answer for answer in self._answers.values() if not self._is_sampled(answer, num_dense)])
            num_dense //= 2
        self._drop(list(self._answers.values())[: max(0, len(self._answers) - room)])

    def _is_sampled(self, answer: WaitingAnswer, num_dense: int) -> bool:
        """Samples the newest 2 x `num_dense` answers in full, the 2 x before by half, the 4 x before by a quarter,
        ..."""
        octaves = ((self._num_answers - answer.number) // num_dense).bit_length() - 1
        return octaves < 1 or hash_of(encoded_key(answer.key), self.judged.seed) % (1 << octaves) == 0

    def _drop(self, answers: list[WaitingAnswer]) -> None:
        for answer in answers:
            self._forget(answer)
        self.counts["answer_dropped"] += len(answers)

    def _forget(self, answer: WaitingAnswer) -> None:
        """Removes a waiting answer."""
        del self._answers[answer.number]
        self._by_id[answer.event_id].remove(answer)
        if not self._by_id[answer.event_id]:
            del self._by_id[answer.event_id]


def _own_aliases(answer: WaitingAnswer) -> list[bytes]:
    """Returns the aliases that this answer alone has: by key, and by its receipt."""
    by_key, _by_id, *by_receipt = aliases_of(answer)
    return [by_key, *by_receipt]
