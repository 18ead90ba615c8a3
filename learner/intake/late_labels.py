"""Late labels: labels with a receipt whose answer has left the window, until the answer is found in its topic.

    a late label --there is room: add--> in memory --between, remove--> `learner.intake.answer_finder`
                 |                           ^
                 '--no room: its place in feedback.v1 (partition, offset) --oldest_places, admit: read again

So a label may come as late as the topic keeps answers, without a window of that length, and a backlog of late labels
delays no label in time. A label whose offset is in a checkpoint is not read again, so the checkpoint holds the late
labels in memory and the places of the others. Labels are bounded in bytes, places in number.

Labels whose answer was found are sent again to feedback.v1, which labels in time use, too. At most MAX_OUTSTANDING of
them are unread at a time, so a label in time waits for no more than these.
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
from wire.receipts import receipt_time_ms
from wire.records import Answer, Feedback

FULL_BYTES: Final = 16 << 20
"""The bytes of late labels in memory; beyond them only the places of labels are kept."""

MAX_PLACES: Final = 200_000
"""The most places, about 40 MB. Labels beyond them are given up."""

REFILL: Final = 10_000
"""The number of labels that are read again from their places at a time."""

OLDER_MS: Final = 60_000
"""An answer counts as gone if it is older than the oldest waiting one by this: clocks and partitions differ."""

MAX_OUTSTANDING: Final = 500
"""The most labels that were sent again and that the learner has not read yet."""


class LatePlace(NamedTuple):
    """The place of a late label in the topic of labels, and the time of its answer."""

    answer_ms: int
    partition: str
    offset: int


class LateState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of `LateLabels`."""

    labels: list[Feedback] = []
    places: list[LatePlace] = []


def is_before(feedback: Feedback, oldest: Waiting | None) -> bool:
    """Whether the label's answer, by the time in its receipt, is older than `oldest`, the oldest waiting answer."""
    return oldest is not None and has_receipt(feedback) and answer_ms(feedback) < oldest.time_ms - OLDER_MS


class LateLabels:
    """The labels whose answers are looked for, each with its receipt. Any thread may call."""

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
        """Adds a label, unless its answer was found before, or it has no receipt with the time of its answer."""
        if feedback.proof or not has_receipt(feedback):
            return
        with self._changed:
            if self._waiting.level.fill < 0.5:
                self._hold(feedback)
            else:
                self._unplaced.append(feedback)

    def settle(self, read: Sequence[Received[Answer | Feedback]]) -> None:
        """Takes the places of learnt records: a label without room in memory is kept by its place."""
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
        """Removes the labels about erased subjects; returns their number.

        A label that is kept by its place is removed when it is read.
        """
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
        """Waits at most `timeout_s` seconds for a label; returns whether there is one."""
        with self._changed:
            return self._changed.wait_for(lambda: bool(self._order or self._places), timeout_s)

    def take_turn(self, timeout_s: float) -> bool:
        """Waits at most `timeout_s` seconds until one more label may be sent again; returns whether it may.

        Then it counts as outstanding.
        """
        with self._changed:
            has_turn = self._changed.wait_for(lambda: self._num_outstanding < MAX_OUTSTANDING, timeout_s)
            self._num_outstanding += has_turn
            return has_turn

    def forget_outstanding(self) -> None:
        """Stops waiting for labels that were sent again: they may never come (refused, or the reader is away)."""
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
        """Returns the time of the oldest wanted answer after `after_ms`; None if there is none."""
        with self._changed:
            first = bisect_right(self._order, after_ms, key=itemgetter(0))
            return self._order[first][0] if first < len(self._order) else None

    def oldest_places(self) -> list[LatePlace]:
        """Returns the places of the labels to read again now, oldest answers first."""
        with self._changed:
            return nsmallest(REFILL, self._places) if self._waiting.level.fill < 0.25 else []

    def admit(self, place: LatePlace, label: Feedback) -> bool:
        """Replaces a place by the label that was read there; False if there is no room."""
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
        """Removes a label and counts it under `count`. A label that is gone already is ignored."""
        with self._changed:
            if feedback in self._waiting.of(feedback.event_id):
                self._drop(feedback)
                self._counts[count] += 1

    @property
    def counts(self) -> dict[str, int]:
        """The counters of a report: labels found, not found, given up, looked for, and waiting."""
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
        """Keeps the place of a label; the label itself if it was parked and its place is unknown."""
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
    """Returns the sort key of a label: the time of its answer, and its id."""
    return answer_ms(feedback), feedback.event_id


def answer_ms(feedback: Feedback) -> int:
    """Returns the time of the answer that the label's receipt names."""
    return receipt_time_ms(feedback.receipt)


def _name(record: Answer | Feedback) -> tuple[str, str, str]:
    """Returns a key of the labels of one poll. Labels with equal keys are interchangeable."""
    return (
        record.event_id,
        record.receipt,
        record.prediction or "" if isinstance(record, Answer) else record.label_string,
    )
