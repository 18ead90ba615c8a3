"""Late labels: the answer that no longer waits is found in its topic, and the label comes again with the text.

    a label with a receipt, whose answer has left the window --> LateLabels --AnswerFinder, in a thread of its own-->
    answers.v1, from the receipt's time on --> the label with text and answer, vouched for --> feedback.v1 --> the join

So a label may come as late as the topic keeps answers, and no window has to be as long. What is learnt lies in the
topic of labels, in the order in which it is learnt: a version is rebuilt from it, and whoever finds a label twice has
sent a duplicate. A label whose offset is in a checkpoint is not read again, so the labels that are looked for are in
the checkpoint, too. They are bounded in bytes; while they are full, the learner reads no more records.

Rejected: the offset of the answer in its receipt (the broker gives it after the answer was signed), an index from event
to offset (it would grow with the topic), and handing the answer to the join directly (whether a version has learnt it
would depend on when the search ended).
"""

import threading
from bisect import bisect_left, bisect_right, insort
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import Final

import structlog

from learner.errors import LearnerError
from learner.labels.sample import Waiting
from learner.labels.trust import LabelTrust
from learner.labels.window import Window
from wire.bus import Bus, Publisher
from wire.errors import SendFailed, WireError
from wire.events import has_receipt
from wire.receipts import time_of
from wire.records import Answer, Feedback
from wire.threads import BackgroundThread, lower_priority

FULL_BYTES: Final = 16 << 20
"""Bytes of late labels from which on they are full."""

OLDER_MS: Final = 60_000
"""How much older than what waits an answer must be to have left: replicas have clocks, and partitions lags."""

SPAN_MS: Final = 10_000
"""Labels are looked for together whose answers lie within this time."""

EARLY_MS: Final = 10_000
"""How far the clock of a replica may be ahead of that of the log."""

DELAYED_MS: Final = 300_000
"""How long after its time an answer may have reached the log: the broker may have been away."""

POLL_MS: Final = 200
FLUSH_S: Final = 60.0
RETRY_S: Final = 1.0
"""Pause after the broker failed, and longest wait for a label."""

NICENESS: Final = 5
"""A late label can wait for one that is in time."""

log = structlog.get_logger("learner")


def is_before(feedback: Feedback, oldest: Waiting | None) -> bool:
    """Whether the label's answer, by the time in its receipt, came before `oldest`, which has waited longest."""
    return oldest is not None and has_receipt(feedback) and answer_ms(feedback) < oldest.time_ms - OLDER_MS


class LateLabels:
    """Holds the labels whose answers are looked for, each with its receipt. It may be called from any thread."""

    def __init__(self, labels: Iterable[Feedback] = ()) -> None:
        self._changed = threading.Condition()
        self._waiting = Window(Feedback, 2 * FULL_BYTES, labels)
        self._order = sorted(map(time_and_id, self._waiting))  # one entry for each label, so that no search sorts
        self._counts: Counter[str] = Counter()

    def add(self, feedback: Feedback) -> None:
        """Adds a label, unless it was found before, or has no receipt, which says when its answer was given."""
        if feedback.proof or not has_receipt(feedback):
            return
        with self._changed:
            insort(self._order, time_and_id(feedback))
            evicted = self._waiting.add(feedback)
            for label in evicted:
                self._forget_order(label)
            self._counts["late_given_up"] += len(evicted)
            self._changed.notify_all()

    def erase(self, is_erased: Callable[[str], bool]) -> int:
        """Removes the labels about erased subjects; returns how many there were."""
        with self._changed:
            labels = [label for label in self._waiting if is_erased(label.key)]
            for label in labels:
                self._waiting.remove(label)
                self._forget_order(label)
        return len(labels)

    def export(self) -> list[Feedback]:
        """Returns the labels, oldest first."""
        with self._changed:
            return list(self._waiting)

    def next_span(self, timeout_s: float) -> list[Feedback]:
        """Returns the label whose answer is oldest, and those whose answers came soon after it, in their order.

        Waits at most `timeout_s` seconds for a label; [] where none comes.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._order, timeout_s):
                return []
            end_ms = self._order[0][0] + SPAN_MS
            end = bisect_right(self._order, end_ms, key=itemgetter(0))
            ids = dict.fromkeys(event_id for _, event_id in self._order[:end])
            labels = chain.from_iterable(map(self._waiting.of, ids))
            return sorted((label for label in labels if answer_ms(label) <= end_ms), key=answer_ms)

    def remove(self, feedback: Feedback, count: str) -> None:
        """Removes a label, which is counted under `count`. A label that is gone already is ignored."""
        with self._changed:
            if feedback in self._waiting.of(feedback.event_id):
                self._waiting.remove(feedback)
                self._forget_order(feedback)
                self._counts[count] += 1

    @property
    def is_full(self) -> bool:
        """Whether no more labels should be read now. Those of one poll may come on top."""
        with self._changed:
            return self._waiting.level.fill >= 0.5

    @property
    def counts(self) -> dict[str, int]:
        """Counters of a report: labels that were found, not found, given up, and that are looked for."""
        with self._changed:
            return dict(self._counts) | {"late_searched": len(self._waiting)}

    def _forget_order(self, feedback: Feedback) -> None:
        del self._order[bisect_left(self._order, time_and_id(feedback))]


class AnswerFinder:
    """Finds the answers of late labels in a thread of its own.

    consumes: LateLabels; Answer, from the time in a label's receipt on
    produces: Feedback, with the text of its event
    waits for: a late label; the broker
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
        """Raises LearnerError where the thread has ended by itself, by a bug: late labels would wait for ever."""
        self._thread.check(LearnerError)

    @property
    def is_full(self) -> bool:
        """Whether no more labels should be read now."""
        return self._late.is_full

    def close(self) -> None:
        """Ends the search. The labels that are looked for stay where they are."""
        self._thread.close(RETRY_S)

    def _run(self) -> None:
        """Finds answers until it is closed.

        consumes: the late labels, oldest answer first; the answers of that time
        produces: Feedback, with the text of its event
        waits for: a label, at most RETRY_S; the broker; and as long after a failure
        unblocked by: a label, the broker's answer, close
        """
        lower_priority(NICENESS)
        while not self._thread.closing.is_set():
            span = self._late.next_span(RETRY_S)
            try:
                if span:
                    self._find(span)
                self._has_failed = False
            except WireError as error:
                if not self._has_failed:
                    log.warning("late_labels_wait", reason=str(error))
                self._has_failed = True
                self._thread.closing.wait(RETRY_S)

    def _find(self, span: list[Feedback]) -> None:
        """Reads the answers of the span's time, and sends the labels again whose answer is among them."""
        start = self._bus.offsets_at(Answer, answer_ms(span[0]) - EARLY_MS)
        end = self._bus.offsets_at(Answer, answer_ms(span[-1]) + DELAYED_MS)
        left = defaultdict[str, list[Feedback]](list)
        for label in span:
            left[label.event_id].append(label)
        follower = self._bus.follow([Answer], start, is_patient=True)
        try:
            while left and not self._thread.closing.is_set():
                followed = follower.poll(POLL_MS)
                for each in followed.received:
                    labels = left.pop(each.record.event_id, [])
                    if others := self._send(each.record, labels):
                        left[each.record.event_id] = others
                if all(followed.offsets.get(partition, 0) >= offset for partition, offset in end.items()):
                    break
        finally:
            with suppress(WireError):
                follower.close()
        self._sender().flush(FLUSH_S)
        if not self._thread.closing.is_set():
            for label in chain.from_iterable(left.values()):
                self._late.remove(label, "late_not_found")

    def _send(self, answer: Answer, labels: list[Feedback]) -> list[Feedback]:
        """Sends those of `labels` that are about `answer` again, with its text; returns the others."""
        found = [label for label in labels if is_of(label, answer)]
        for label in found:
            if self._is_erased(answer.key):
                self._late.remove(label, "late_not_found")
            else:
                self._sender().send(self._trust.with_answer(label, answer), partial(self._on_delivery, label))
        return [label for label in labels if label not in found]

    def _sender(self) -> Publisher:
        if self._publisher is None:
            self._publisher = self._bus.publisher()
        return self._publisher

    def _on_delivery(self, label: Feedback, error: Exception | None) -> None:
        """Lets a label go that the topic has, or can never have. Any other is looked for again."""
        if error is None:
            self._late.remove(label, "late_found")
        elif isinstance(error, SendFailed) and error.is_permanent:
            self._late.remove(label, "late_unsendable")


def is_of(feedback: Feedback, answer: Answer) -> bool:
    """Whether the label is about this very answer: it has its receipt, and no other source."""
    return feedback.receipt == answer.receipt and feedback.event_source in (None, answer.source)


def time_and_id(feedback: Feedback) -> tuple[int, str]:
    """Returns the time of the label's answer, by which labels are in order, and the id under which it waits."""
    return answer_ms(feedback), feedback.event_id


def answer_ms(feedback: Feedback) -> int:
    """Returns the time of the answer that the label's receipt names."""
    return time_of(feedback.receipt)
