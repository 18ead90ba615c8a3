"""What the learner reads: answers and labels of every partition, from the offsets in its own state.

A broker that is away is waited for. A partition that lost records is read again from what is left of it: labels that
were learnt before are duplicates then, by the ids that the join remembers. What cannot be read becomes a dead letter,
and what is not believed goes to the quarantine topic; after a crash some of either may be sent twice.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import structlog

from wire.bus import Bus, Followed, Follower, Publisher
from wire.errors import BusUnavailable, LogTruncated, SendFailed
from wire.records import Answer, DeadLetter, Feedback, Quarantined

log = structlog.get_logger("learner")


class Feed:
    """A follower that comes back. `offsets` is where it goes on from; the caller stores it with the effect."""

    def __init__(
        self,
        bus: Bus,
        offsets: Mapping[str, int],
        *,
        counts: Counter[str],
        wait: Callable[[], object],
        on_truncated: Callable[[], None],
    ) -> None:
        self._bus, self._counts, self._wait, self._on_truncated = bus, counts, wait, on_truncated
        self._follower: Follower | None = None
        self._publisher: Publisher | None = None
        self.offsets = dict(offsets)

    def poll(self, timeout_ms: int) -> list[Answer | Feedback]:
        """Records in the order of each partition; `offsets` is behind them. [] when the broker is away."""
        try:
            if self._follower is None:
                self._follower = self._bus.follow([Answer, Feedback], self.offsets, is_patient=True)
            followed = self._follower.poll(timeout_ms)
        except BusUnavailable as error:
            self._counts["failed_BusUnavailable"] += 1
            log.warning("bus_unavailable", reason=str(error))
            self._wait()
            return []
        except LogTruncated as error:
            self._restart(error)
            return []
        self._refuse(followed)
        self.offsets = dict(followed.offsets)
        return [received.record for received in followed.received]

    def quarantine(self, labels: Iterable[Quarantined]) -> None:
        """Send labels that are not believed where an operator finds them."""
        for label in labels:
            self._send(label, "quarantine_lost")

    def lag(self) -> int:
        """Records that were not read yet; 0 when the broker is away."""
        try:
            return self._follower.lag() if self._follower else 0
        except BusUnavailable:
            return 0

    def ends(self) -> dict[str, int]:
        """The next offset of every partition. Raises BusUnavailable."""
        return self._bus.end_offsets(Answer, Feedback)

    def _restart(self, error: LogTruncated) -> None:
        log.warning("log_truncated", partition=error.partition, position=error.position, end=error.end)
        self._counts["log_truncated"] += 1
        self._on_truncated()
        self.offsets = {name: offset for name, offset in self.offsets.items() if name != error.partition}
        if self._follower is not None:
            self._follower.close()
            self._follower = None

    def _refuse(self, followed: Followed) -> None:
        """Dead letters for what could not be read."""
        for refused in followed.refused:
            self._counts[f"unreadable_{refused.dead_letter.reason}"] += 1
            self._send(refused.dead_letter, "dead_letters_lost")

    def _send(self, record: DeadLetter | Quarantined, lost: str) -> None:
        """Hand over, or count as `lost`."""
        try:
            self._publisher = self._publisher or self._bus.publisher()
            self._publisher.send(record)
        except (BusUnavailable, SendFailed) as error:
            self._counts[lost] += 1
            log.warning(lost, message=record.message_id, reason=str(error))
