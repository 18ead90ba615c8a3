"""Finds the version of each arm that answered at a moment of the past, from the answers in the topic.

answers.v1 --the time span before the moment--> arm, version --> number of answers, the first and the last
"""

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace

from wire.bus import Bus
from wire.records import Answer, ArmName

POLL_MS = 200
QUIET_S = 10.0
"""Reading ends after this time without a record, even if answers are missing: retention may have removed them."""


@dataclass(frozen=True, slots=True)
class ArmAnswers:
    """The answers of a version in an arm: their number, and the times of the first and the last, in milliseconds."""

    arm: ArmName
    version: int
    answers: int
    first_ms: int
    last_ms: int

    def with_answer(self, time_ms: int) -> "ArmAnswers":
        """Returns the counts with one more answer, which was given at `time_ms`."""
        first_ms = min(self.first_ms, time_ms)
        return replace(self, answers=self.answers + 1, first_ms=first_ms, last_ms=max(self.last_ms, time_ms))


def answered_at(bus: Bus, moment_ms: int, *, span_ms: int) -> list[ArmAnswers]:
    """Returns each arm and version that answered in the `span_ms` up to `moment_ms`, the one that answered last first.

    consumes: Answer, of the span; produces: the counts; waits for: the broker, at most QUIET_S; unblocked by: a record,
    or the end of that time
    """
    # The broker finds offsets by the time stamps of messages. Answers are then selected by their own times.
    starts = bus.offsets_at(Answer, moment_ms - span_ms)
    ends = bus.offsets_at(Answer, moment_ms + 1)
    counts: dict[tuple[ArmName, int], ArmAnswers] = {}
    read = dict(starts)
    with closing(bus.follow((Answer,), starts)) as follower:
        last_came_s = time.monotonic()
        while _is_missing(read, ends) and time.monotonic() - last_came_s < QUIET_S:
            followed = follower.poll(POLL_MS)
            if followed.offsets != read:
                last_came_s = time.monotonic()
            read = dict(followed.offsets)
            for received in followed.received:
                answer = received.record
                if moment_ms - span_ms < answer.time_ms <= moment_ms:
                    key = (answer.arm, answer.weights_version)
                    none = ArmAnswers(*key, 0, answer.time_ms, answer.time_ms)
                    counts[key] = counts.get(key, none).with_answer(answer.time_ms)
    return sorted(counts.values(), key=lambda arm_answers: -arm_answers.last_ms)


def _is_missing(read: Mapping[str, int], ends: Mapping[str, int]) -> bool:
    return any(read.get(name, 0) < end for name, end in ends.items())
