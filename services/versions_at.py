"""Which version answered at a moment of the past, by arm: as the answers themselves say.

answers.v1 --the span of time before the moment--> arm, version --> how many answers, the first and the last
"""

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace

from wire.bus import Bus
from wire.records import Answer, ArmName

POLL_MS = 200
QUIET_S = 10.0
"""Reading ends where nothing came for so long, though answers are missing: they may be too old, and gone."""


@dataclass(frozen=True, slots=True)
class ArmAnswers:
    """What a version answered in an arm: how many events, and the times of the first and the last answer, in ms."""

    arm: ArmName
    version: int
    answers: int
    first_ms: int
    last_ms: int

    def with_one(self, time_ms: int) -> "ArmAnswers":
        """Returns this with one answer more."""
        first_ms = min(self.first_ms, time_ms)
        return replace(self, answers=self.answers + 1, first_ms=first_ms, last_ms=max(self.last_ms, time_ms))


def answered_at(bus: Bus, moment_ms: int, *, span_ms: int) -> list[ArmAnswers]:
    """Returns who answered in the `span_ms` up to `moment_ms`, the last answer of each arm first.

    consumes: Answer, of the span; produces: the counts; waits for: the broker, at most QUIET_S; unblocked by: a record,
    or the end of that time
    """
    starts = bus.offsets_at(Answer, moment_ms - span_ms)
    ends = bus.offsets_at(Answer, moment_ms + 1)
    found: dict[tuple[ArmName, int], ArmAnswers] = {}
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
                    one = ArmAnswers(*key, 0, answer.time_ms, answer.time_ms)
                    found[key] = found.get(key, one).with_one(answer.time_ms)
    return sorted(found.values(), key=lambda each: -each.last_ms)


def _is_missing(read: Mapping[str, int], ends: Mapping[str, int]) -> bool:
    return any(read.get(name, 0) < end for name, end in ends.items())
