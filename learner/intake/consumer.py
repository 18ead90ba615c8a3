"""Consumes answers and labels from every partition, starting at the offsets in the learner's own state.

    broker --Follower, as FlowControl permits--> records --> the learner
                    '--unreadable records--> Outbox <--labels that are not trusted--'

**Failures.** While the broker is away or refuses requests, the learner waits for it. If a partition lost records,
reading continues after the loss. If a log was deleted and created again, it is read from its start, except for records
that are not newer than the last record that was learnt (`wire.bus.losses`). So nothing is learnt twice, and an alarm
reports the loss. A record that cannot be read becomes a dead letter. A label that is not trusted goes to the quarantine
topic. Both are sent at least once (`learner.intake.outbox`).

**Flow control.** A learner that was away reads two long topics whose records differ in size. Without flow control, the
topic with the smaller records would soon be further ahead than its window is wide, and records that drop out of the
window would never be learnt. So the topic that is far ahead is paused:

    labels are ahead:   parked labels fill half of their window, many answers are unread     --> labels are paused
    answers are ahead:  pending answers fill half of their window, many labels are unread    --> answers are paused

The other half of the window is room for the records until the next decision. "Many" unread records are more than fit
into half a window; fewer do little harm. A paused topic is resumed when its window is at most a quarter full, or when
no record of the other topic is unread. The hysteresis prevents that a topic is paused and resumed with every poll.

Labels that are older than all answers have no answer to wait for, since the topics may differ in retention. So no topic
is paused for them. They count as older only if two clocks say so: the broker's clock and the sender's clock, which may
be wrong or only name a day. Answers that nobody labels fill their window all the time, but nothing is paused because of
them: if few labels are unread, the oldest answer is dropped.

**There is no deadlock.** The two topics are never paused at the same time. A topic is paused only while the other topic
has unread records, so there always is a topic that can be read. If no record of the other topic comes for STALLED_S
seconds, the topic is no longer paused because of it.

Rejected:

- Offsets that are committed at the broker: after a kill they differ from the checkpoint, and labels would be lost or
  learnt twice.
- Ending at a record that cannot be read: anybody who may write to a topic could stop the learner for good.
- A common order of the topics by time: the sender of a label chooses its time.
"""

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

import structlog

from learner.intake.answer_finder import AnswerFinder
from learner.intake.outbox import Outbox, OutboxSender
from learner.samples import Level, Levels
from wire.bus import Bus, Followed, Follower, Loss, Received, partition_name
from wire.errors import BusUnavailable, WireError
from wire.records import Answer, Feedback, LogMarks, Quarantined

Topic: TypeAlias = type[Answer] | type[Feedback]

HIGH: Final = 0.5
"""High-water mark: the fill level of a window above which its topic may be paused."""

LOW: Final = 0.25
"""Low-water mark: the fill level up to which a paused topic is resumed."""

STALLED_S: Final = 5.0
"""A topic has stalled if it has unread records but none came for this many seconds. The other topic is then resumed."""

OTHER: Final[Mapping[Topic, Topic]] = {Answer: Feedback, Feedback: Answer}


class Times(NamedTuple):
    """The times of a record in milliseconds: by its sender's clock and by the broker's clock; 0 if unknown."""

    sender_ms: int
    log_ms: int

    def is_before(self, other: "Times") -> bool:
        """Returns whether both clocks say that this record is older than `other`. An unknown time says no."""
        return 0 < self.sender_ms < other.sender_ms and 0 < self.log_ms < other.log_ms


class Unread(NamedTuple):
    """The number of unread records of each topic."""

    answers: int
    labels: int

    def of(self, topic: Topic) -> int:
        return self.answers if topic is Answer else self.labels


def choose_paused(levels: Levels, unread: Unread, *, paused: Topic | None, is_label_later: bool) -> Topic | None:
    """Returns the topic to pause now; None to read both. `paused` is the topic that is paused until now.

    `is_label_later`: the last labels that were read are not older than the last answers.
    """
    if is_label_later and _is_ahead(levels.labels, unread.answers, is_paused=paused is Feedback):
        return Feedback
    if _is_ahead(levels.answers, unread.labels, is_paused=paused is Answer):
        return Answer
    return None


def _is_ahead(window: Level, num_unread: int, *, is_paused: bool) -> bool:
    """Returns whether the topic whose records are in `window` must wait for `num_unread` records of the other topic."""
    if is_paused:
        return window.fill > LOW and num_unread > 0
    return window.fill > HIGH and num_unread > window.room


class FlowControl:
    """Chooses before each poll which topic is paused, if one is far ahead of the other. It reads no clock itself."""

    def __init__(self) -> None:
        self._paused: Topic | None = None
        self._since_s = 0.0
        self._stalled: set[Topic] = set()
        # The times of the last record that was read of each topic.
        self._last: dict[Topic, Times] = {}

    def choose_paused(self, levels: Levels, unread: Unread, now_s: float) -> Topic | None:
        """Returns the topic to pause at `now_s`; None if both may be read."""
        if self._paused is not None and now_s - self._since_s >= STALLED_S:
            self._stalled.add(OTHER[self._paused])
        coming = Unread(answers=self._num_coming(Answer, unread), labels=self._num_coming(Feedback, unread))
        before = self._paused
        self._paused = choose_paused(levels, coming, paused=before, is_label_later=self._is_label_later)
        if self._paused is not before:
            self._since_s = now_s
        return self._paused

    def on_read(self, records: Mapping[Topic, Times], now_s: float) -> None:
        """Records that topics were read. `records` has the times of the last record of each."""
        for topic, times in records.items():
            self._stalled.discard(topic)
            self._last[topic] = times
            if topic is not self._paused:
                self._since_s = now_s

    def _num_coming(self, topic: Topic, unread: Unread) -> int:
        """Returns the number of unread records of a topic; 0 if the topic has stalled, since none may come."""
        return 0 if topic in self._stalled else unread.of(topic)

    @property
    def _is_label_later(self) -> bool:
        """Whether the last label is not older than the last answer; True if one of the topics was never read."""
        if len(self._last) < len(OTHER):
            return True
        return not self._last[Feedback].is_before(self._last[Answer])


CLOSE_S = 2.0
"""The most seconds that a learner waits at its end until its letters are sent. Unsent letters are in its checkpoint."""

log = structlog.get_logger("learner")


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadState:
    """The state in a checkpoint from which a consumer continues. The learner owns the letters and the counts."""

    offsets: Mapping[str, int]
    """The offsets to resume from, stored with the effect of the records before them."""
    marks: LogMarks = field(default_factory=dict)
    """Marks of the last records before the offsets. They show whether a log was truncated, or created again."""
    letters: Outbox
    counts: Counter[str]


class Consumer:
    """Reads answers and labels from the broker. After an error it starts again.

    - `levels`: returns the fill levels of the windows of the join.
    - `wait`: pauses after a failure.
    - `on_truncated`: is called if the broker has lost records.
    - `finder`: finds the answers of late labels. Without it late labels are not learnt.
    """

    def __init__(
        self,
        bus: Bus,
        state: ReadState,
        *,
        levels: Callable[[], Levels],
        wait: Callable[[], object],
        on_truncated: Callable[[], None],
        finder: AnswerFinder | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bus = bus
        self._letters = state.letters
        self._sender = OutboxSender(bus, state.letters)
        self._levels = levels
        self._counts = state.counts
        self._wait = wait
        self._on_truncated = on_truncated
        self._finder = finder
        self._clock_s = clock_s
        self._follower: Follower | None = None
        self._flow = FlowControl()
        self._has_failed = False
        self._fetched: deque[Received[Answer | Feedback]] = deque()
        # The offsets after the records that were fetched.
        self._ends: Mapping[str, int] = {}
        # When the last label was read.
        self._label_s = clock_s()
        # The records that the last poll returned.
        self.polled: list[Received[Answer | Feedback]] = []
        self.offsets = dict(state.offsets)
        self.marks = dict(state.marks)
        self._end_marks: LogMarks = {}
        # The last loss of each partition since this process started.
        self._lost: dict[str, Loss] = {}

    def poll(self, timeout_ms: int, *, max_labels: float = math.inf) -> list[Answer | Feedback]:
        """Returns the next records, at most `max_labels` labels among them, and advances `offsets`.

        The records of each partition are in its order. Returns [] while the broker is away, and while the queue of
        dead letters is full. `polled` has the positions of the records. Raises LearnerError if the thread that sends
        letters or the thread that finds answers has ended.
        """
        self._sender.check()
        if self._finder is not None:
            self._finder.check()
        if not self._fetched:
            self._fetch(timeout_ms)
        self.polled = []
        num_labels = 0
        while self._fetched and num_labels < max_labels:
            received = self._fetched.popleft()
            self.polled.append(received)
            num_labels += isinstance(received.record, Feedback)
            name = partition_name(received.position)
            self.offsets[name] = received.position.offset + 1
            self.marks[name] = received.mark
        if not self._fetched:
            self.offsets |= self._ends
            self.marks |= self._end_marks
        if num_labels:
            self._label_s = self._clock_s()
        return [received.record for received in self.polled]

    @property
    def idle_s(self) -> float:
        """Seconds since the last label was read, or since the start."""
        return self._clock_s() - self._label_s

    def quarantine(self, labels: Iterable[Quarantined]) -> None:
        """Queues labels that are not trusted for the quarantine topic, where an operator finds them."""
        self._letters.add(labels)

    def alarms(self) -> list[str]:
        """Returns a sentence for each partition whose records the broker has lost since this process started."""
        return [f"log_truncated: {loss}; labels that nobody had read are lost" for loss in self._lost.values()]

    def lag(self) -> int:
        """Returns the number of unread records, as far as the last fetches have shown. Does not ask the broker."""
        return len(self._fetched) + (self._follower.lag() if self._follower else 0)

    @property
    def num_unread_labels(self) -> int:
        """The number of unread labels, as far as the last fetches have shown."""
        num_fetched = sum(isinstance(received.record, Feedback) for received in self._fetched)
        return num_fetched + (self._follower.lag(Feedback) if self._follower else 0)

    def ends(self) -> dict[str, int]:
        """Returns the offset after the last record of each partition. Raises BusUnavailable."""
        return self._bus.end_offsets(Answer, Feedback)

    def close(self) -> None:
        """Ends the search for answers, and waits at most CLOSE_S seconds for the letters to be acknowledged."""
        if self._finder is not None:
            self._finder.close()
        self._sender.close(CLOSE_S)

    def _fetch(self, timeout_ms: int) -> None:
        if self._letters.is_full:
            self._counts["polls_behind_letters"] += 1
            self._wait()
            return
        try:
            followed = self._poll(timeout_ms)
        except WireError as error:
            self._fail(error)
            return
        self._has_failed = False
        self._refuse(followed)
        self._fetched.extend(followed.received)
        self._ends = followed.offsets
        self._end_marks = followed.marks
        self._note_losses(followed)
        self._flow.on_read(_last_times(followed.received), self._clock_s())

    def _poll(self, timeout_ms: int) -> Followed:
        if self._follower is None:
            self._follower = self._bus.follow([Answer, Feedback], self.offsets, marks=self.marks, is_patient=True)
        unread = Unread(answers=self._follower.lag(Answer), labels=self._follower.lag(Feedback))
        paused = self._flow.choose_paused(self._levels(), unread, self._clock_s())
        self._follower.resume([topic for topic in (Answer, Feedback) if topic is not paused])
        if paused is not None:
            self._follower.pause([paused])
            self._counts[f"polls_{paused.TOPIC}_waits"] += 1
        return self._follower.poll(timeout_ms)

    def _fail(self, error: WireError) -> None:
        """Counts a failed poll, and waits. The failure is logged once, until a poll succeeds.

        If the broker has refused the request, the follower is closed, and the next poll starts a new one.
        """
        self._counts["polls_failed"] += 1
        if not self._has_failed:
            log.warning("bus_unavailable", reason=str(error))
        self._has_failed = True
        if not isinstance(error, BusUnavailable):
            self._close_follower()
        self._wait()

    def _note_losses(self, followed: Followed) -> None:
        """Counts the records that the broker has lost, and tells the learner not to wait for them."""
        self._counts["read_again"] += followed.num_skipped
        self._counts["records_expired"] += followed.num_expired
        for loss in followed.losses:
            self._counts["log_truncated"] += 1
            self._lost[loss.partition] = loss
            self._on_truncated()

    def _close_follower(self) -> None:
        follower = self._follower
        self._follower = None
        if follower is not None:
            with suppress(WireError):
                follower.close()

    def _refuse(self, followed: Followed) -> None:
        """Queues dead letters for the records that could not be read."""
        for refused in followed.refused:
            self._counts[f"unreadable_{refused.dead_letter.reason}"] += 1
        self._letters.add(refused.dead_letter for refused in followed.refused)


def _last_times(received: Iterable[Received[Answer | Feedback]]) -> dict[Topic, Times]:
    """Returns the times of the last record of each topic."""
    return {type(last.record): Times(last.record.time_ms, last.log_ms) for last in received}
