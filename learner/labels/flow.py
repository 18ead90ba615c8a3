"""Flow control between the topics of answers and labels: the one that is far ahead is paused. Pure: no clock, no bus.

    labels are ahead:   parked labels fill half of their window, many answers are unread     --> labels are paused
    answers are ahead:  pending answers fill half of their window, many labels are unread    --> answers are paused

A learner that was away reads two long topics whose records differ in size. Read as they come, the topic with the
smaller records is soon further ahead than its window is wide, and what drops out of the window is never learnt. The
other half of the window is room for what comes before the next decision. "Many" unread records are more than half a
window holds: fewer can do little harm. A paused topic is resumed only when its window is a quarter full or nothing of
the other topic is unread: the hysteresis keeps the reader from changing its mind with every poll.

Labels that are older than the answers have no answer to wait for (topics have unlike retention), so nothing is paused
for them. They are older only where two clocks say so: that of the sender, which may be wrong or tell no more than the
day, and that of the log, which is the broker's. Answers that nobody labels fill their window all the time, and that
pauses nothing: while few labels are unread, the oldest answer is dropped.

There is no deadlock. The two topics are never paused at once, and one is paused only for unread records of the other
that keep coming. So while anything is unread, some topic with unread records may be read: if the unread records are
those of the paused topic, then the other topic has unread records, too. Where those do not come for STALLED_S, nothing
is paused for them any more.

Rejected: a common order by time (the time of a label is its sender's word), the log's clock alone (a topic that was
restored from a copy has the times of its restoration), and one record of each in turn (most events are never labelled).
"""

from collections.abc import Mapping
from typing import Final, NamedTuple, TypeAlias

from learner.labels.window import Level, Levels
from wire.records import Answer, Feedback

Topic: TypeAlias = type[Answer] | type[Feedback]

HIGH: Final = 0.5
"""High-water mark: the share of a window above which its topic may be paused."""

LOW: Final = 0.25
"""Low-water mark: the share up to which a paused topic is resumed."""

STALLED_S: Final = 5.0
"""Seconds that unread records may fail to come before nothing is paused for them any more."""

OTHER: Final[Mapping[Topic, Topic]] = {Answer: Feedback, Feedback: Answer}


class Times(NamedTuple):
    """The times of a record in milliseconds, by the clock of its sender and by that of its log; 0 where unknown."""

    sender_ms: int
    log_ms: int

    def is_before(self, other: "Times") -> bool:
        """Whether both clocks say that this record is older than `other`. A clock that does not know says no."""
        return 0 < self.sender_ms < other.sender_ms and 0 < self.log_ms < other.log_ms


class Unread(NamedTuple):
    """Counts the records of each topic that are there and were not read."""

    answers: int
    labels: int

    def of(self, topic: Topic) -> int:
        return self.answers if topic is Answer else self.labels


def choose_paused(levels: Levels, unread: Unread, *, paused: Topic | None, is_label_later: bool) -> Topic | None:
    """Returns the topic that is not to be read now. `paused` is the one that was not read until now.

    `is_label_later`: the labels that were read last are not older than the answers that were read last.
    """
    if is_label_later and _is_ahead(levels.labels, unread.answers, is_paused=paused is Feedback):
        return Feedback
    if _is_ahead(levels.answers, unread.labels, is_paused=paused is Answer):
        return Answer
    return None


def _is_ahead(window: Level, num_unread: int, *, is_paused: bool) -> bool:
    """Whether what fills `window` has to wait for `num_unread` records of the other topic."""
    if is_paused:
        return window.fill > LOW and num_unread > 0
    return window.fill > HIGH and num_unread > window.room


class FlowControl:
    """Chooses before every poll which topic is paused, and is told what was read. Times come from the caller."""

    def __init__(self) -> None:
        self._paused: Topic | None = None
        self._since_s = 0.0
        self._stalled: set[Topic] = set()
        self._last: dict[Topic, Times] = {}  # of the records that were read last

    def choose_paused(self, levels: Levels, unread: Unread, now_s: float) -> Topic | None:
        """Returns the topic that is not to be read at `now_s`; None where both may be read."""
        if self._paused is not None and now_s - self._since_s >= STALLED_S:
            self._stalled.add(OTHER[self._paused])
        coming = Unread(answers=self._num_coming(Answer, unread), labels=self._num_coming(Feedback, unread))
        before = self._paused
        self._paused = choose_paused(levels, coming, paused=before, is_label_later=self._is_label_later)
        if self._paused is not before:
            self._since_s = now_s
        return self._paused

    def on_read(self, records: Mapping[Topic, Times], now_s: float) -> None:
        """Notes which topics records were read of, each with the times of its last record."""
        for topic, times in records.items():
            self._stalled.discard(topic)
            self._last[topic] = times
            if topic is not self._paused:
                self._since_s = now_s

    def _num_coming(self, topic: Topic, unread: Unread) -> int:
        """Returns how many unread records of a topic are worth waiting for: none of a topic that is stalled."""
        return 0 if topic in self._stalled else unread.of(topic)

    @property
    def _is_label_later(self) -> bool:
        """Whether the last label is not older than the last answer; True where none of one topic was read."""
        if len(self._last) < len(OTHER):
            return True
        return not self._last[Feedback].is_before(self._last[Answer])
