"""How far each topic is read, so that labels and answers meet: a topic that is far ahead waits. Pure: no clock, no bus.

    labels are ahead:   parked labels fill half of their window, many answers are unread     --> labels wait
    answers are ahead:  waiting answers fill half of their window, many labels are unread    --> answers wait

A learner that was away reads two long topics of unlike size. Read as they come, the one with the smaller records is
soon further ahead than its window is wide, and what falls out of it is never learnt. Half a window is the room for what
comes before the next look, and "many" is more than the half would hold: fewer can do little harm. A topic that waits
goes on when only a quarter is full or nothing is unread, so that the reader does not change its mind with every poll.

Labels wait only while they are later than the answers: labels older than the oldest answer (topics are kept for unlike
times) have none to wait for, and neither have those whose answers are lost. Answers that nobody labels fill their
window all the time, and that holds up nothing: while few labels are unread, the oldest answer goes.

Never do both wait, and one waits only for records of the other that are there and come. So there is always a topic that
may be read while anything is unread: were it the one that waits, then the other, which may be read, has unread records;
and if these do not come for STALLED_S, nobody waits for them any more.

Rejected: a common order by time (the time of a label is its sender's word), and one record of each in turn (most events
are never labelled).
"""

from collections.abc import Mapping
from typing import Final, NamedTuple, TypeAlias

from learner.labels.window import Level
from wire.records import Answer, Feedback

Topic: TypeAlias = type[Answer] | type[Feedback]

HIGH: Final = 0.5
"""The share of a window from which on its topic waits."""

LOW: Final = 0.25
"""The share below which it goes on."""

STALLED_S: Final = 5.0
"""How long unread records may stay away before nobody waits for them."""

OTHER: Final[Mapping[Topic, Topic]] = {Answer: Feedback, Feedback: Answer}


class Levels(NamedTuple):
    """How full the windows of the join are."""

    answers: Level
    labels: Level


class Unread(NamedTuple):
    """How many records of each topic are there and were not read."""

    answers: int
    labels: int

    def of(self, topic: Topic) -> int:
        return self.answers if topic is Answer else self.labels


def waits(levels: Levels, unread: Unread, *, waiting: Topic | None, is_label_later: bool) -> Topic | None:
    """The topic that is not to be read now. `waiting`: the one that was not until now.

    `is_label_later`: the labels that were read last were said after the answers that were read last.
    """
    if is_label_later and _is_ahead(levels.labels, unread.answers, is_waiting=waiting is Feedback):
        return Feedback
    if _is_ahead(levels.answers, unread.labels, is_waiting=waiting is Answer):
        return Answer
    return None


def _is_ahead(window: Level, num_unread: int, *, is_waiting: bool) -> bool:
    """Whether what fills `window` has to wait for `num_unread` records of the other topic."""
    if is_waiting:
        return window.fill > LOW and num_unread > 0
    return window.fill > HIGH and num_unread > window.room


class Flow:
    """Decides before every poll, and is told what came. Times are the caller's, in seconds."""

    def __init__(self) -> None:
        self._waiting: Topic | None = None
        self._since_s = 0.0
        self._stalled: set[Topic] = set()
        self._read_ms: dict[Topic, int] = {}

    def waits(self, levels: Levels, unread: Unread, now_s: float) -> Topic | None:
        """The topic that is not to be read at `now_s`."""
        if self._waiting is not None and now_s - self._since_s >= STALLED_S:
            self._stalled.add(OTHER[self._waiting])
        coming = Unread(*(0 if topic in self._stalled else unread.of(topic) for topic in (Answer, Feedback)))
        before = self._waiting
        self._waiting = waits(levels, coming, waiting=before, is_label_later=self._is_label_later)
        if self._waiting is not before:
            self._since_s = now_s
        return self._waiting

    def came(self, records: Mapping[Topic, int], now_s: float) -> None:
        """Records of these topics were read; the time in milliseconds is that of the last of each."""
        for topic, time_ms in records.items():
            self._stalled.discard(topic)
            self._read_ms[topic] = time_ms
            if topic is not self._waiting:
                self._since_s = now_s

    @property
    def _is_label_later(self) -> bool:
        """True where a time is not known, as a label may come without one."""
        answer_ms = self._read_ms.get(Answer, 0)
        label_ms = self._read_ms.get(Feedback, 0)
        return not answer_ms or not label_ms or label_ms >= answer_ms
