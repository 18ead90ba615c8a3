"""Late labels: their answer has left the window of the join. They wait here until the answer is found in its topic.

    a late label --there is room: add--> in memory --between, remove--> `learner.intake.answer_finder`
                 |                           ^
                 '--no room: its place in feedback.v1 (partition, offset) --oldest_places, admit: read again

So a label may come as late as the topic keeps answers, although the window is much shorter, and a backlog of late
labels does not delay labels in time. A label needs a receipt, which has the time of its answer.

A label below the offsets of a checkpoint is not read again. So the checkpoint contains the late labels that are in
memory, and the places of the others. Labels are bounded in bytes, and places in number.

A label whose answer was found is sent to feedback.v1 again, the topic of labels in time. At most MAX_OUTSTANDING of
these labels are unread at a time, so a label in time has to wait for no more than these.
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
"""The most bytes of late labels in memory. Of further labels only the places are kept."""

MAX_PLACES: Final = 200_000
"""The most places of labels, about 40 MB. Further labels are given up."""

REFILL: Final = 10_000
"""The number of labels that are read again from their places at a time."""

OLDER_MS: Final = 60_000
"""An answer must have left the window if it is older, by this margin, than the oldest answer in the window. The margin
allows for differences between clocks and between partitions."""

MAX_OUTSTANDING: Final = 500
"""The most labels that were sent again and that the learner has not read yet."""


class LatePlace(NamedTuple):
    """Where a late label is stored in the topic of labels, and the time of its answer."""

    answer_ms: int
    partition: str
    offset: int


class LateState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of `LateLabels`."""

    labels: list[Feedback] = []
    places: list[LatePlace] = []


def is_before(feedback: Feedback, oldest: Waiting | None) -> bool:
    """Returns whether a label's answer must have left the window: it is older than `oldest`, the oldest one there.

    The time of the answer is in the label's receipt. A label without a receipt gives False.
    """
    return oldest is not None and has_receipt(feedback) and answer_ms(feedback) < oldest.time_ms - OLDER_MS


class LateLabels:
    """The labels whose answers are looked for. Any thread may call its methods."""

    def __init__(self, state: LateState | None = None) -> None:
        state = state or LateState()
        self._changed = threading.Condition()
        self._waiting = Window(Feedback, 2 * FULL_BYTES, state.labels)
        # The time and id of each waiting label, in order.
        self._order = sorted(map(time_and_id, self._waiting))
        self._places = dict.fromkeys(state.places)
        # Labels without room in memory, whose places are not known until `settle`.
        self._unplaced: list[Feedback] = []
        self._num_outstanding = 0
        self._counts: Counter[str] = Counter()

    def add(self, feedback: Feedback) -> None:
        """Adds a label. Ignores a label without a receipt, and a label that was sent again with its answer before."""
        if feedback.proof or not has_receipt(feedback):
            return
        with self._changed:
            if self._waiting.level.fill < 0.5:
                self._keep(feedback)
            else:
                self._unplaced.append(feedback)

    def settle(self, read: Sequence[Received[Answer | Feedback]]) -> None:
        """Records the places of labels that did not fit into memory. `read` are the records that were just learnt."""
        with self._changed:
            for received in read:
                if isinstance(received.record, Feedback) and received.record.proof:
                    self._num_outstanding = max(0, self._num_outstanding - 1)
            if self._unplaced:
                by_key = {_key(each.record): each for each in read if isinstance(each.record, Feedback)}
                for label in self._unplaced:
                    self._keep_place(label, by_key.get(_key(label)))
                self._unplaced = []
            self._changed.notify_all()

    def erase(self, is_erased: Callable[[str], bool]) -> int:
        """Removes the labels about erased subjects from memory; returns their number.

        A label of which only the place is known is removed later, when it is read.
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

        If it may, the label counts as outstanding until the learner has read it.
        """
        with self._changed:
            has_turn = self._changed.wait_for(lambda: self._num_outstanding < MAX_OUTSTANDING, timeout_s)
            self._num_outstanding += has_turn
            return has_turn

    def forget_outstanding(self) -> None:
        """Stops waiting for the labels that were sent again. They may never come, for example if they were refused."""
        with self._changed:
            self._num_outstanding = 0

    def between(self, after_ms: int, last_ms: int) -> list[Feedback]:
        """Returns the labels whose answers have a time in (`after_ms`, `last_ms`]."""
        with self._changed:
            first = bisect_right(self._order, after_ms, key=itemgetter(0))
            end = bisect_right(self._order, last_ms, key=itemgetter(0))
            ids = dict.fromkeys(event_id for _, event_id in self._order[first:end])
            labels = [label for event_id in ids for label in self._waiting.of(event_id)]
        return [label for label in labels if after_ms < answer_ms(label) <= last_ms]

    def next_ms(self, after_ms: float) -> int | None:
        """Returns the time of the oldest wanted answer that is newer than `after_ms`; None if there is none."""
        with self._changed:
            first = bisect_right(self._order, after_ms, key=itemgetter(0))
            return self._order[first][0] if first < len(self._order) else None

    def oldest_places(self) -> list[LatePlace]:
        """Returns the places of the labels to read again now, oldest answers first."""
        with self._changed:
            return nsmallest(REFILL, self._places) if self._waiting.level.fill < 0.25 else []

    def admit(self, place: LatePlace, label: Feedback) -> bool:
        """Keeps a label that was read again at `place`, instead of the place.

        Returns False, and changes nothing, if there is no room for the label.
        """
        with self._changed:
            has_room = self._waiting.level.fill < 0.5
            if has_room:
                del self._places[place]
                self._keep(label)
            return has_room

    def give_up(self, places: Iterable[LatePlace]) -> None:
        """Removes places whose labels are no longer in the topic."""
        with self._changed:
            for place in places:
                del self._places[place]
                self._counts["late_given_up"] += 1

    def remove(self, feedback: Feedback, count: str) -> None:
        """Removes a label, and counts it under the name `count`. Ignores a label that was removed before."""
        with self._changed:
            if feedback in self._waiting.of(feedback.event_id):
                self._drop(feedback)
                self._counts[count] += 1

    @property
    def counts(self) -> dict[str, int]:
        """The counters of a report: labels found, not found, given up, looked for, and waiting."""
        with self._changed:
            return dict(self._counts) | {"late_searched": len(self._waiting), "late_waiting": len(self._places)}

    def _keep(self, feedback: Feedback) -> None:
        insort(self._order, time_and_id(feedback))
        evicted = self._waiting.add(feedback)
        for label in evicted:
            self._forget_order(label)
        self._counts["late_given_up"] += len(evicted)
        self._changed.notify_all()

    def _keep_place(self, label: Feedback, received: Received[Answer | Feedback] | None) -> None:
        """Keeps the place of a label. If the place is unknown, since the label was parked, keeps the label itself."""
        if received is None:
            self._keep(label)
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


def _key(record: Answer | Feedback) -> tuple[str, str, str]:
    """Returns a key that identifies a label among the records of a poll. Labels with equal keys are interchangeable."""
    return (
        record.event_id,
        record.receipt,
        record.prediction or "" if isinstance(record, Answer) else record.label_string,
    )
