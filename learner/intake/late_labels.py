"""Late labels: the labels with a receipt whose answer has left the window, until it is found in its topic.

    a late label, while there is room --add--> in memory --between, remove--> `learner.intake.answer_finder`
                 |                                  ^
                 '--no room: where it lies in feedback.v1 (partition, offset) --oldest, admit (read again there)

So a label may come as late as the topic keeps answers, no window has to be as long, and no heap of late labels delays a
label that is in time. A label whose offset is in a checkpoint is not read again, so the labels that are looked for are
in the checkpoint, and so are the places of the others. Labels are bounded in bytes, places in number.

What was found comes again on feedback.v1, where labels in time lie, too: not more than MAX_OUTSTANDING are on their way
through it at a time, so that a label in time waits for no more than these.
"""

import threading
from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from heapq import nsmallest
from operator import itemgetter
from typing import Final, NamedTuple

import msgspec

from learner.samples import Waiting, Window
from wire.bus import Received, partition_name
from wire.events import has_receipt
from wire.receipts import time_of
from wire.records import Answer, Feedback

FULL_BYTES: Final = 16 << 20
"""Bytes of late labels from which on only the places of others are kept."""

MAX_PLACES: Final = 200_000
"""Most places that are kept, about 40 MB. A label beyond them is given up."""

REFILL: Final = 10_000
"""Number of labels that are read again from their places at a time."""

OLDER_MS: Final = 60_000
"""How much older than what waits an answer must be to have left: replicas have clocks, and partitions lags."""

MAX_OUTSTANDING: Final = 500
"""Most labels that were found and sent again, and that the learner has not read yet."""


class LatePlace(NamedTuple):
    """Where a late label lies in the topic of labels, and when its answer was given."""

    answer_ms: int
    partition: str
    offset: int


class LateState(msgspec.Struct, frozen=True, kw_only=True):
    """Holds everything that `LateLabels` knows."""

    labels: list[Feedback] = []
    places: list[LatePlace] = []


def is_before(feedback: Feedback, oldest: Waiting | None) -> bool:
    """Whether the label's answer, by the time in its receipt, came before `oldest`, which has waited longest."""
    return oldest is not None and has_receipt(feedback) and answer_ms(feedback) < oldest.time_ms - OLDER_MS


class LateLabels:
    """Holds the labels whose answers are looked for, each with its receipt. It may be called from any thread."""

    def __init__(self, state: LateState | None = None) -> None:
        state = state or LateState()
        self._changed = threading.Condition()
        self._waiting = Window(Feedback, 2 * FULL_BYTES, state.labels)
        self._order = sorted(map(time_and_id, self._waiting))  # one entry for each label, so that no search sorts
        self._places = dict.fromkeys(state.places)
        self._unplaced: list[Feedback] = []  # of the records that are being learnt
        self._num_outstanding = 0
        self._counts: Counter[str] = Counter()

    def add(self, feedback: Feedback) -> None:
        """Adds a label, unless it was found before, or has no receipt, which says when its answer was given."""
        if feedback.proof or not has_receipt(feedback):
            return
        with self._changed:
            if self._waiting.level.fill < 0.5:
                self._hold(feedback)
            else:
                self._unplaced.append(feedback)

    def settle(self, read: Sequence[Received[Answer | Feedback]]) -> None:
        """Is told, after they were learnt, where the records lie: in the place of a label there is no room for."""
        with self._changed:
            for received in read:
                if isinstance(received.record, Feedback) and received.record.proof:
                    self._num_outstanding = max(0, self._num_outstanding - 1)
            if self._unplaced:
                places = {_name(each.record): each for each in read if isinstance(each.record, Feedback)}
                for label in self._unplaced:
                    self._place(label, places.get(_name(label)))
                self._unplaced = []
            self._changed.notify_all()

    def erase(self, is_erased: Callable[[str], bool]) -> int:
        """Removes the labels about erased subjects; returns how many there were. Those of places go when they are
        read."""
        with self._changed:
            labels = [label for label in self._waiting if is_erased(label.key)]
            for label in labels:
                self._drop(label)
        return len(labels)

    def labels(self) -> list[Feedback]:
        """Returns the labels in memory, oldest first."""
        with self._changed:
            return [*self._waiting, *self._unplaced]

    def export(self) -> LateState:
        with self._changed:
            return LateState(labels=[*self._waiting, *self._unplaced], places=list(self._places))

    def wait(self, timeout_s: float) -> bool:
        """Whether there is a label to look for, within `timeout_s` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: bool(self._order or self._places), timeout_s)

    def take_turn(self, timeout_s: float) -> bool:
        """Whether one more label may be sent again, within `timeout_s` seconds: then it counts as outstanding."""
        with self._changed:
            has_turn = self._changed.wait_for(lambda: self._num_outstanding < MAX_OUTSTANDING, timeout_s)
            self._num_outstanding += has_turn
            return has_turn

    def forget_outstanding(self) -> None:
        """Waits for no label any more that was sent again: none may come (a reader refused it, or is away)."""
        with self._changed:
            self._num_outstanding = 0

    def between(self, after_ms: int, last_ms: int) -> list[Feedback]:
        """Returns the labels whose answers were given after `after_ms`, up to `last_ms`."""
        with self._changed:
            first = bisect_right(self._order, after_ms, key=itemgetter(0))
            end = bisect_right(self._order, last_ms, key=itemgetter(0))
            ids = dict.fromkeys(event_id for _, event_id in self._order[first:end])
            labels = [label for event_id in ids for label in self._waiting.of(event_id)]
        return [label for label in labels if after_ms < answer_ms(label) <= last_ms]

    def next_ms(self, after_ms: float) -> int | None:
        """Returns the time of the oldest answer after `after_ms` that is looked for; None where there is none."""
        with self._changed:
            first = bisect_right(self._order, after_ms, key=itemgetter(0))
            return self._order[first][0] if first < len(self._order) else None

    def oldest_places(self) -> list[LatePlace]:
        """Returns the places of the labels that may be read again now, those of the oldest answers."""
        with self._changed:
            return nsmallest(REFILL, self._places) if self._waiting.level.fill < 0.25 else []

    def admit(self, place: LatePlace, label: Feedback) -> bool:
        """Holds a label that was read from its place, in the stead of that; False where there is no room."""
        with self._changed:
            has_room = self._waiting.level.fill < 0.5
            if has_room:
                del self._places[place]
                self._hold(label)
            return has_room

    def give_up(self, places: Iterable[LatePlace]) -> None:
        """Forgets places whose label is gone."""
        with self._changed:
            for place in places:
                del self._places[place]
                self._counts["late_given_up"] += 1

    def remove(self, feedback: Feedback, count: str) -> None:
        """Removes a label, which is counted under `count`. A label that is gone already is ignored."""
        with self._changed:
            if feedback in self._waiting.of(feedback.event_id):
                self._drop(feedback)
                self._counts[count] += 1

    @property
    def counts(self) -> dict[str, int]:
        """Counters of a report: labels that were found, not found, given up, and that are looked for or wait for it."""
        with self._changed:
            return dict(self._counts) | {"late_searched": len(self._waiting), "late_waiting": len(self._places)}

    def _hold(self, feedback: Feedback) -> None:
        insort(self._order, time_and_id(feedback))
        evicted = self._waiting.add(feedback)
        for label in evicted:
            self._forget_order(label)
        self._counts["late_given_up"] += len(evicted)
        self._changed.notify_all()

    def _place(self, label: Feedback, received: Received[Answer | Feedback] | None) -> None:
        """Keeps the place of a label; the label itself where it was read long ago, and waited for its answer."""
        if received is None:
            self._hold(label)
        elif len(self._places) < MAX_PLACES:
            position = received.position
            self._places[LatePlace(answer_ms(label), partition_name(position), position.offset)] = None
        else:
            self._counts["late_given_up"] += 1

    def _drop(self, feedback: Feedback) -> None:
        self._waiting.remove(feedback)
        self._forget_order(feedback)

    def _forget_order(self, feedback: Feedback) -> None:
        del self._order[bisect_left(self._order, time_and_id(feedback))]


def time_and_id(feedback: Feedback) -> tuple[int, str]:
    """Returns the time of the label's answer, by which labels are in order, and the id under which it waits."""
    return answer_ms(feedback), feedback.event_id


def answer_ms(feedback: Feedback) -> int:
    """Returns the time of the answer that the label's receipt names."""
    return time_of(feedback.receipt)


def _name(record: Answer | Feedback) -> tuple[str, str, str]:
    """Returns what tells the labels of one poll apart: two that are equal in it may stand for each other."""
    return record.event_id, record.receipt, record.named or "" if isinstance(record, Answer) else record.said
