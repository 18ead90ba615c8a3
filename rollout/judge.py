"""Reads answers and labels, and lets the decider act on them.

    answers.v1, feedback.v1 --> Decider --> RolloutPlan
                                   +-----> RolloutState --> Controller

The tallies are stored at most once a second, and with each decision, together with the offsets up to which they contain
every record. A new judge continues from these offsets, even in the middle of a ramp, so each label is counted once. If
there are no tallies, it begins at the ends of the topics. If a log was truncated or recreated, the judge raises an
alarm, and does not count again the records that it has already read (`wire.bus`). Answers that wait for labels without
receipts are not stored.
"""

import time
from contextlib import closing

import structlog

from rollout.decider import Decider, RolloutState
from wire.bus import Bus, Followed, Received, partition_name
from wire.records import Answer, Feedback, LogMark
from wire.threads import BackgroundThread, lower_priority

POLL_MS = 100
DECIDE_INTERVAL_S = 1.0
"""Longest time between two decisions, whether or not labels come."""

SAVE_INTERVAL_S = 1.0
"""Shortest time between two writes of the tallies, except writes with a decision."""

RETRY_S = 1.0
"""Pause before a failed step is retried."""

log = structlog.get_logger("rollout")


class Judge:
    """A thread that reads answers and labels for its decider. Verbs: is_alive, close.

    Any thread may read `alarms`, and `state`, which is replaced as a whole. `niceness` lowers the priority of the
    thread, so that neither answers nor the controller's own steps wait for it.
    """

    def __init__(self, bus: Bus, decider: Decider, *, niceness: int = 0) -> None:
        self.state = RolloutState()
        self.alarms = decider.alarms
        self._bus = bus
        self._decider = decider
        self._niceness = niceness
        self._offsets: dict[str, int] = {}
        self._marks: dict[str, LogMark] = {}
        self._is_restored = False
        self._decide_at_s = 0.0
        self._save_at_s = 0.0
        self._saved: dict[str, int] = {}
        self._thread = BackgroundThread(self._run, name="judge")
        self._thread.start()

    def is_alive(self) -> bool:
        """Whether the thread runs. Without `close` it ends only because of a bug, whose traceback is in the log."""
        return self._thread.is_alive()

    def close(self) -> None:
        self._thread.close()

    def _run(self) -> None:
        """Judges until it is closed.

        consumes: Answer and Feedback, from where the tallies end
        produces: RolloutPlan (a decision), the tallies in the store, RolloutState
        waits for: a record, at most POLL_MS
        unblocked by: close, seen within the same time
        """
        lower_priority(self._niceness)
        while not self._thread.closing.is_set():
            with self.alarms.attempt("read"):
                self._read()
            self._thread.closing.wait(RETRY_S)

    def _read(self) -> None:
        """Reads until the judge is closed or the broker fails."""
        if not self._is_restored:
            self._offsets, self._marks = self._decider.restore()
            self._is_restored = True
        self._offsets = self._offsets or self._bus.end_offsets(Answer, Feedback)
        topics = (Answer, Feedback)
        with closing(self._bus.follow(topics, self._offsets, marks=self._marks, is_patient=True)) as follower:
            while not self._thread.closing.is_set():
                followed = follower.poll(POLL_MS)
                self.alarms.clear("read")
                self._note_losses(followed)
                self._offsets = followed.offsets
                self._marks = followed.marks
                self._judge(followed)

    def _note_losses(self, followed: Followed) -> None:
        """Counts records that the broker has lost; the alarm stays until the controller is restarted."""
        self.alarms.counts["read_again"] += followed.num_skipped
        self.alarms.counts["records_expired"] += followed.num_expired
        for loss in followed.losses:
            self.alarms.counts["log_truncated"] += 1
            self.alarms.raise_("log_truncated", str(loss))

    def _judge(self, followed: Followed) -> None:
        """Adds the records to the evidence, and decides if a label was judged or the decision interval has passed.

        While the plan cannot be read, labels count for the versions of the last plan that was read.
        """
        is_due = time.monotonic() >= self._decide_at_s
        is_followed = False
        if followed.received or is_due:
            with self.alarms.attempt("plan"):
                self._decider.follow_plan()
                if is_due:
                    self._decider.follow_health()
                is_followed = True
        if self._add(followed) or is_due:
            self._decide_at_s = time.monotonic() + DECIDE_INTERVAL_S
            if is_followed:
                self._decide()

    def _add(self, followed: Followed) -> bool:
        """Adds the records to the evidence; returns whether a label was judged."""
        if followed.refused:
            self.alarms.counts["unreadable"] += len(followed.refused)
            log.warning("records_refused", count=len(followed.refused), reason=followed.refused[0].dead_letter.reason)
        any_judged = False
        for received in followed.received:
            self._measure_label_to_live(received)
            is_judged = self._decider.add(received.record)
            any_judged = any_judged or is_judged
        if followed.received:
            self.state = self._decider.state()
        return any_judged

    def _measure_label_to_live(self, received: Received[Answer] | Received[Feedback]) -> None:
        """Passes an answer or a label to the measurement of the time from label to live."""
        live = self._decider.label_to_live
        position = received.position
        if isinstance(received.record, Answer):
            live.add_answer(received.record)
        else:
            live.add_label(received.record, partition_name(position), position.offset)

    def _decide(self) -> None:
        """Carries out the step that is due; the plan is read again in case an operator has changed it."""
        with self.alarms.attempt("judge"):
            is_decided = self._decider.decide()
            self.state = self._decider.state()
            if is_decided or time.monotonic() >= self._save_at_s:
                self._save()

    def _save(self) -> None:
        """Writes the tallies if something was read since the last write."""
        self._save_at_s = time.monotonic() + SAVE_INTERVAL_S
        if self._offsets != self._saved:
            self._decider.save(self._offsets, self._marks)
            self._saved = self._offsets
