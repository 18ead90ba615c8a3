"""Finds the answers of late labels in their topic, and sends these labels again with the text of their event.

    LateLabels --a pass over answers.v1, oldest answer first--> the label with text and answer, signed by the learner
                                                                --> feedback.v1 --> the join

A pass reads answers.v1 forward in time. At each point in time it looks for the labels whose answers may be there. It
skips a gap in which no wanted answer can be, if reading the gap would take longer than a seek. A label that comes
during a pass is added to the pass if its answer is ahead; otherwise it waits for the next pass. So a backlog of late
labels costs at most one read of the time span of their answers, no matter how many labels there are.

A late label is not learnt at once but sent to its topic again. So the topic contains everything that was learnt, in the
order in which it was learnt, and versions can be rebuilt from it. If a label is sent twice, the join drops the
duplicate.
"""

import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from math import inf
from typing import Final

import structlog

from learner.errors import LearnerError
from learner.intake.late_labels import LateLabels, answer_ms
from learner.intake.trust import LabelTrust
from wire.bus import Bus, Followed, Publisher, Raw, partition_name
from wire.errors import SendFailed, WireError
from wire.records import Answer, Feedback
from wire.threads import BackgroundThread, lower_priority

EARLY_MS: Final = 10_000
"""The most milliseconds by which a replica's clock may be ahead of the broker's clock."""

DELAYED_MS: Final = 300_000
"""The most milliseconds between the time of an answer and its arrival in the log: the broker may have been away."""

AHEAD_MS: Final = 1_000
"""A pass looks for labels this many milliseconds ahead, so that it does not ask for more labels at each record."""

MIN_SKIPPED: Final = 2_000
"""Gaps with more than about this many records are skipped. Reading as many takes as long as a request for offsets and a
seek."""

FETCH_BYTES: Final = 4 << 20
"""Largest fetch of a pass, which reads far more answers than the join does."""

POLL_MS: Final = 200
FLUSH_S: Final = 60.0
RETRY_S: Final = 1.0
"""The pause after the broker failed, and the longest wait for a label."""

FORGOTTEN_S: Final = 30.0
"""The longest wait until the learner has read labels that were sent again. Then they are taken to be lost."""

NICENESS: Final = 5
"""The nice value of the thread: late labels have a lower priority than labels in time."""

log = structlog.get_logger("learner")


class AnswerFinder:
    """Finds the answers of late labels in a thread of its own.

    consumes: LateLabels; Answer, from the time in a label's receipt on; the labels of places, from feedback.v1
    produces: Feedback, with the text of its event
    waits for: a late label; the broker; the learner, if it has not read enough of the labels that were sent again
    unblocked by: a label, the broker's answer, `close`
    """

    def __init__(self, bus: Bus, late: LateLabels, trust: LabelTrust, *, is_erased: Callable[[str], bool]) -> None:
        self._bus = bus
        self._late = late
        self._trust = trust
        self._is_erased = is_erased
        self._publisher: Publisher | None = None
        self._has_failed = False
        self._thread = BackgroundThread(self._run, name="answer finder")
        self._thread.start()

    def check(self) -> None:
        """Raises LearnerError if a bug has ended the search's thread, since late labels would then wait for ever."""
        self._thread.check(LearnerError)

    def close(self) -> None:
        """Ends the search. Labels whose answers were not found stay in `LateLabels`."""
        self._thread.close(RETRY_S)

    def _run(self) -> None:
        """Finds answers until it is closed.

        consumes: the late labels, oldest answer first; the answers of their times
        produces: Feedback, with the text of its event
        waits for: a label, at most RETRY_S; the broker; and as long after a failure
        unblocked by: a label, the broker's answer, close
        """
        lower_priority(NICENESS)
        while not self._thread.closing.is_set():
            try:
                if self._late.wait(RETRY_S):
                    self._read_places()
                    self._pass_over_answers()
                self._has_failed = False
            except WireError as error:
                if not self._has_failed:
                    log.warning("late_labels_wait", reason=str(error))
                self._has_failed = True
                self._thread.closing.wait(RETRY_S)

    def _read_places(self) -> None:
        """Reads labels from their topic again, which did not fit into memory before, if there is room now."""
        places = {(place.partition, place.offset): place for place in self._late.oldest_places()}
        if not places:
            return
        log_ends = self._bus.end_offsets(Feedback)
        offsets = dict(log_ends)
        ends = dict.fromkeys(log_ends, 0)
        for partition, offset in places:
            offsets[partition] = min(offset, offsets[partition])
            # If the log was truncated before this offset, the label is gone, and waiting for it would never end.
            ends[partition] = min(max(offset + 1, ends[partition]), log_ends[partition])
        with closing(self._bus.follow([Feedback], offsets, is_patient=True)) as follower:
            while any(offsets[name] < end for name, end in ends.items()):
                followed = follower.poll(POLL_MS)
                offsets = followed.offsets
                for received in followed.received:
                    place = places.pop((partition_name(received.position), received.position.offset), None)
                    if place is not None and not self._late.admit(place, received.record):
                        # There is no room for more labels. The remaining ones stay in their topic.
                        return
                if self._thread.closing.is_set():
                    return
                if followed.losses:
                    break
        self._late.give_up(places.values())

    def _pass_over_answers(self) -> None:
        """Reads the answers, from the oldest wanted one on, and sends each label again whose answer it finds."""
        # A replica whose clock is before 1970 gives its answers negative times.
        first_ms = self._late.next_ms(-math.inf)
        if first_ms is None:
            return
        begun_s = time.monotonic()
        ends = self._bus.end_offsets(Answer)
        start = self._bus.offsets_at(Answer, max(0, first_ms - EARLY_MS))
        search = Search(self._late, ends, first_ms - EARLY_MS)
        log.info("late_labels_pass", **self._late.counts)
        with closing(self._bus.follow([Answer], start, is_patient=True, fetch_bytes=FETCH_BYTES)) as follower:
            while not self._thread.closing.is_set():
                followed = follower.poll(POLL_MS, wants=search.wants)
                for received in followed.received:
                    for label in search.take(received.record):
                        self._send(received.record, label)
                for label in search.missing(followed):
                    self._late.remove(label, "late_not_found")
                if search.is_over:
                    break
                if search.gap_ms is not None:
                    follower.skip_to(search.gap_ms)
                    search.skip()
            self._sender().flush(FLUSH_S)
        log.info("late_labels_passed", seconds=round(time.monotonic() - begun_s, 1), **self._late.counts)

    def _send(self, answer: Answer, label: Feedback) -> None:
        """Sends `label` again, with the text of the `answer` that it labels."""
        if self._is_erased(answer.key):
            self._late.remove(label, "late_not_found")
            return
        waited_s = 0.0
        while not self._late.take_turn(RETRY_S):
            if self._thread.closing.is_set():
                return
            waited_s += RETRY_S
            if waited_s >= FORGOTTEN_S:
                self._late.forget_outstanding()
        self._sender().send(self._trust.with_answer(label, answer), partial(self._on_delivery, label))

    def _sender(self) -> Publisher:
        if self._publisher is None:
            self._publisher = self._bus.publisher()
        return self._publisher

    def _on_delivery(self, label: Feedback, error: Exception | None) -> None:
        """Removes a label that is in the topic now, or that the broker refuses for good. Others are tried again."""
        if error is None:
            self._late.remove(label, "late_found")
        elif isinstance(error, SendFailed) and error.is_permanent:
            self._late.remove(label, "late_unsendable")


class Search:
    """The state of one pass over the answers: the labels whose answers may be at its current point in time.

    The pass ends at the offsets `ends`. Pure: it reads no topic itself.
    """

    def __init__(self, late: LateLabels, ends: Mapping[str, int], from_ms: int) -> None:
        self._late = late
        self._ends = ends
        # The log time of the last record that was read, by partition.
        self._at_ms: dict[str, float] = dict.fromkeys(ends, from_ms)
        # The labels whose answers may come now, by event id.
        self._expected = defaultdict[str, list[Feedback]](list)
        # The same labels, and labels whose answers were found, in the order of the answers' times.
        self._by_time = deque[Feedback]()
        # The pass has looked for the labels of answers up to this time. A label of an older answer that comes later
        # has to wait for the next pass.
        self._joined_ms = from_ms + EARLY_MS - 1
        self._num_read = 0
        # The time span of the records that were read, without the skipped gaps.
        self._read_ms = 1.0
        self._before_ms: float = from_ms
        self.is_over = False
        self.gap_ms: int | None = None
        """The end of the gap in time that should be skipped; None if there is none."""

    def wants(self, raw: Raw) -> bool:
        """Advances to the time of a record, and returns whether it may be the answer of an expected label.

        From now on the pass expects the answers that may be at this time.
        """
        name = partition_name(raw)
        self._at_ms[name] = max(self._at_ms.get(name, -inf), raw.timestamp_ms)
        self._num_read += 1
        if raw.timestamp_ms + EARLY_MS > self._joined_ms:
            last_ms = raw.timestamp_ms + EARLY_MS + AHEAD_MS
            for label in sorted(self._late.between(self._joined_ms, last_ms), key=answer_ms):
                self._expected[label.event_id].append(label)
                self._by_time.append(label)
            self._joined_ms = last_ms
        event_id = next((value for name, value in raw.headers if name == "ce_id"), None)
        # Another program may send answers without this header. They have to be parsed.
        return event_id is None or event_id.decode(errors="replace") in self._expected

    def take(self, answer: Answer) -> list[Feedback]:
        """Returns the labels for this answer. The pass no longer expects their answer."""
        labels = self._expected.pop(answer.event_id, [])
        others = [label for label in labels if not is_label_for(label, answer)]
        if others:
            self._expected[answer.event_id] = others
        return [label for label in labels if is_label_for(label, answer)]

    def missing(self, followed: Followed) -> list[Feedback]:
        """Returns the labels whose answers should have come by now, and no longer expects these answers.

        Also updates `is_over` and `gap_ms`.
        """
        unfinished = [name for name, end in self._ends.items() if followed.offsets.get(name, 0) < end]
        passed_ms = min((self._at_ms[name] for name in unfinished), default=inf)
        gone: list[Feedback] = []
        while self._by_time and answer_ms(self._by_time[0]) + DELAYED_MS < passed_ms:
            label = self._by_time.popleft()
            others = self._expected.get(label.event_id, [])
            if label in others:
                gone.append(label)
                others.remove(label)
                if not others:
                    del self._expected[label.event_id]
        next_ms = self._late.next_ms(self._joined_ms)
        self.is_over = not unfinished or (not self._expected and next_ms is None)
        self.gap_ms = None
        if unfinished:
            self._read_ms += max(0.0, passed_ms - self._before_ms)
            self._before_ms = max(passed_ms, self._before_ms)
        if not self.is_over and not self._expected and next_ms is not None:
            gap_ms = next_ms - EARLY_MS - passed_ms
            if gap_ms * self._num_read / self._read_ms > MIN_SKIPPED:
                self.gap_ms = next_ms - EARLY_MS
        return gone

    def skip(self) -> None:
        """Advances to the end of the gap `gap_ms`, which the caller has skipped."""
        assert self.gap_ms is not None, "there is a gap"
        self._at_ms = {name: max(at_ms, self.gap_ms) for name, at_ms in self._at_ms.items()}
        self._before_ms = self.gap_ms
        self.gap_ms = None


def is_label_for(feedback: Feedback, answer: Answer) -> bool:
    """Returns whether a label is for exactly this answer: it has the answer's receipt, and names no other source."""
    return feedback.receipt == answer.receipt and feedback.event_source in (None, answer.source)
