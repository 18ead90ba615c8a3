"""Consumes answers and labels from every partition, starting at the offsets in the learner's own state.

    broker --Follower, as FlowControl permits--> records --> the learner
                    '--what cannot be read--> Letters <--what is not trusted--'

While the broker is away or refuses, the learner waits for it. A partition that lost records is read on behind what is
left of it, and one that was made anew from its start, but for the records that are not newer than the last one that had
its effect (`wire.bus.losses`): nothing is learnt twice, and an alarm says what was lost. A record that cannot be read
becomes a dead letter, and a label that is not trusted goes to the quarantine topic, both at least once
(`learner.labels.letters`).

Rejected: offsets committed at the broker (after a kill they would be ahead of what the checkpoint knows, or behind it,
and labels would be lost or learnt twice), and ending at a record that cannot be read (whoever may write to a topic
could stop the learner for good).
"""

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from learner.labels.answer_finder import AnswerFinder
from learner.labels.flow import FlowControl, Times, Topic, Unread
from learner.labels.letters import Letters, LetterSender
from learner.labels.window import Levels
from wire.bus import Bus, Followed, Follower, Loss, Received, partition_name
from wire.errors import BusUnavailable, WireError
from wire.records import Answer, Feedback, LogMarks, Quarantined

CLOSE_S = 2.0
"""Seconds that a learner waits for its letters before it ends. The letters that are left are in its checkpoint."""

log = structlog.get_logger("learner")


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadState:
    """What a consumer goes on from, as it is in a checkpoint. Its owner keeps the letters and the counts."""

    offsets: Mapping[str, int]
    """The offsets to resume from, stored with the effect of the records before them."""
    marks: LogMarks = field(default_factory=dict)
    """What is known of the logs before the offsets: by that a log that was cut, or made anew, is noticed."""
    letters: Letters
    counts: Counter[str]


class Consumer:
    """Follows the topics, and follows them anew after an error.

    `levels` says how full the windows are that the records go to; `wait` pauses after a failure. `finder` looks for the
    answers of late labels; without one nobody does.
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
        self._sender = LetterSender(bus, state.letters)
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
        self._ends: Mapping[str, int] = {}  # the offsets behind what was fetched
        self._label_s = clock_s()  # when the last label was read
        self.taken: list[Received[Answer | Feedback]] = []  # by the last poll
        self.offsets = dict(state.offsets)
        self.marks = dict(state.marks)
        self._end_marks: LogMarks = {}
        self._lost: dict[str, Loss] = {}  # by partition: the last loss of this process

    def poll(self, timeout_ms: int, *, max_labels: float = math.inf) -> list[Answer | Feedback]:
        """Returns records in the order of each partition, with at most `max_labels` labels, and advances `offsets`.

        Returns [] while the broker is away, and while the letters are full. `taken` has their places. Raises
        LearnerError where nobody sends the letters, or looks for the answers.
        """
        self._sender.check()
        if self._finder is not None:
            self._finder.check()
        if not self._fetched:
            self._fetch(timeout_ms)
        self.taken = []
        num_labels = 0
        while self._fetched and num_labels < max_labels:
            received = self._fetched.popleft()
            self.taken.append(received)
            num_labels += isinstance(received.record, Feedback)
            name = partition_name(received.position)
            self.offsets[name] = received.position.offset + 1
            self.marks[name] = received.mark
        if not self._fetched:
            self.offsets |= self._ends
            self.marks |= self._end_marks
        if num_labels:
            self._label_s = self._clock_s()
        return [received.record for received in self.taken]

    @property
    def idle_s(self) -> float:
        """Seconds since the last label was read, or since the start."""
        return self._clock_s() - self._label_s

    def quarantine(self, labels: Iterable[Quarantined]) -> None:
        """Sends labels that are not trusted to the quarantine topic, where an operator finds them."""
        self._letters.add(labels)

    def alarms(self) -> list[str]:
        """Describes what the broker has lost since this process began, in words."""
        return [f"log_truncated: {loss}; labels that nobody had read are lost" for loss in self._lost.values()]

    def lag(self) -> int:
        """Returns how many records were not read yet, as far as is known. It does not wait for the broker."""
        return len(self._fetched) + (self._follower.lag() if self._follower else 0)

    @property
    def num_unread_labels(self) -> int:
        """Labels that were not read yet, as of the last fetches."""
        num_fetched = sum(isinstance(each.record, Feedback) for each in self._fetched)
        return num_fetched + (self._follower.lag(Feedback) if self._follower else 0)

    def ends(self) -> dict[str, int]:
        """Returns the next offset of every partition. Raises BusUnavailable."""
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
        """Counts the failed poll and waits. It is logged once until a poll succeeds.

        After a refusal the topics are followed anew.
        """
        self._counts["polls_failed"] += 1
        if not self._has_failed:
            log.warning("bus_unavailable", reason=str(error))
        self._has_failed = True
        if not isinstance(error, BusUnavailable):
            self._close_follower()
        self._wait()

    def _note_losses(self, followed: Followed) -> None:
        """Counts what the broker has lost, and waits for nothing more that was in it."""
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
    return {type(each.record): Times(each.record.time_ms, each.log_ms) for each in received}
