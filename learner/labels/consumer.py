"""What the learner reads: answers and labels of every partition, from the offsets in its own state.

    broker --Follower, as far as Flow says--> records --> the learner
                    '--what cannot be read--> Letters <--what is not believed--'

A broker that is away, or refuses, is waited for. A partition that lost records is read again from what is left of it:
labels that were learnt before are duplicates then, by the events that the join remembers. What cannot be read becomes a
dead letter, and what is not believed goes to the quarantine topic, both at least once (`learner.labels.letters`).
"""

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

import structlog

from learner.labels.flow import Flow, Levels, Unread
from learner.labels.letters import Letters, LetterSender
from wire.bus import Bus, Followed, Follower, Received, partition_name
from wire.errors import BusUnavailable, LogTruncated, WireError
from wire.records import Answer, Feedback, Quarantined

CLOSE_S = 2.0
"""How long a learner that ends waits for its letters. What is left is in its checkpoint."""

log = structlog.get_logger("learner")


class Feed:
    """A follower that comes back. `offsets` is where it goes on from; the caller stores it with the effect.

    `logs` are those that the offsets belong to: where a topic was made anew meanwhile, it is read from its start.
    `levels` are those of the windows that the records go to.
    """

    def __init__(
        self,
        bus: Bus,
        offsets: Mapping[str, int],
        letters: Letters,
        *,
        logs: Mapping[str, str] | None = None,
        levels: Callable[[], Levels],
        counts: Counter[str],
        wait: Callable[[], object],
        on_truncated: Callable[[], None],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bus = bus
        self._letters = letters
        self._sender = LetterSender(bus, letters)
        self._levels = levels
        self._counts = counts
        self._wait = wait
        self._on_truncated = on_truncated
        self._clock_s = clock_s
        self._follower: Follower | None = None
        self._flow = Flow()
        self._has_failed = False
        self._fetched: deque[Received[Answer | Feedback]] = deque()
        self._ends: Mapping[str, int] = {}  # behind what was fetched
        self.offsets = dict(offsets)
        self.logs = dict(logs) if logs else {}

    def poll(self, timeout_ms: int, *, max_labels: float = math.inf) -> list[Answer | Feedback]:
        """Records in the order of each partition, at most `max_labels` labels; `offsets` is behind them.

        [] while the broker is away, and while it does not take the letters that wait.
        """
        if not self._fetched:
            self._fetch(timeout_ms)
        records: list[Answer | Feedback] = []
        num_labels = 0
        while self._fetched and num_labels < max_labels:
            received = self._fetched.popleft()
            records.append(received.record)
            num_labels += isinstance(received.record, Feedback)
            self.offsets[partition_name(received.position)] = received.position.offset + 1
        if not self._fetched:
            self.offsets |= self._ends
        return records

    def quarantine(self, labels: Iterable[Quarantined]) -> None:
        """Send labels that are not believed where an operator finds them."""
        self._letters.add(labels)

    def lag(self) -> int:
        """Records that were not read yet, as far as is known; it does not wait for the broker."""
        return len(self._fetched) + (self._follower.lag() if self._follower else 0)

    def ends(self) -> dict[str, int]:
        """The next offset of every partition. Raises BusUnavailable."""
        return self._bus.end_offsets(Answer, Feedback)

    def close(self) -> None:
        """Wait a moment for the letters on their way."""
        self._sender.close(CLOSE_S)

    def _fetch(self, timeout_ms: int) -> None:
        if self._letters.is_full:
            self._counts["polls_behind_letters"] += 1
            self._wait()
            return
        try:
            followed = self._poll(timeout_ms)
        except LogTruncated as error:
            self._restart(error)
            return
        except WireError as error:
            self._fail(error)
            return
        self._has_failed = False
        self._refuse(followed)
        self._fetched.extend(followed.received)
        self._ends = followed.offsets
        self.logs = dict(followed.logs)
        self._flow.came({type(it.record): it.record.time_ms for it in followed.received}, self._clock_s())

    def _poll(self, timeout_ms: int) -> Followed:
        if self._follower is None:
            self._follower = self._bus.follow([Answer, Feedback], self.offsets, logs=self.logs, is_patient=True)
        unread = Unread(answers=self._follower.lag(Answer), labels=self._follower.lag(Feedback))
        waiting = self._flow.waits(self._levels(), unread, self._clock_s())
        self._follower.resume([topic for topic in (Answer, Feedback) if topic is not waiting])
        if waiting is not None:
            self._follower.pause([waiting])
            self._counts[f"polls_{waiting.TOPIC}_waits"] += 1
        return self._follower.poll(timeout_ms)

    def _fail(self, error: WireError) -> None:
        """Says once that the broker is away; one that refuses what it was asked is asked anew."""
        self._counts[f"failed_{type(error).__name__}"] += 1
        if not self._has_failed:
            log.warning("bus_unavailable", reason=str(error))
        self._has_failed = True
        if not isinstance(error, BusUnavailable):
            self._close_follower()
        self._wait()

    def _restart(self, error: LogTruncated) -> None:
        log.warning("log_truncated", reason=str(error))
        self._counts["log_truncated"] += 1
        self._on_truncated()
        self.offsets = {name: offset for name, offset in self.offsets.items() if name not in error.partitions}
        self._ends = {}
        lost = {name.rpartition("/")[0] for name in error.partitions}
        self.logs = {topic: name for topic, name in self.logs.items() if topic not in lost}
        self._close_follower()

    def _close_follower(self) -> None:
        follower = self._follower
        self._follower = None
        if follower is not None:
            with suppress(WireError):
                follower.close()

    def _refuse(self, followed: Followed) -> None:
        """Dead letters for what could not be read."""
        for refused in followed.refused:
            self._counts[f"unreadable_{refused.dead_letter.reason}"] += 1
        self._letters.add(refused.dead_letter for refused in followed.refused)
