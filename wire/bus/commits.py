"""The commits of a subscription: when the next one is due, what it commits, and whether the last one failed.

    finished prefix --offsets--> what is not committed yet --(the client commits)--> ended

A commit has the leader epoch of the last record before it: by that the broker notices, when we go on from there, that
its log has been cut before that record.

Rejected: a commit for each record (Kafka would write as many records again).
"""

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import structlog
from kafka import TopicPartition  # type: ignore[import-untyped]
from kafka.errors import KafkaError  # type: ignore[import-untyped]
from kafka.structs import OffsetAndMetadata  # type: ignore[import-untyped]

from wire.finished import FinishedPrefix, Position

COMMIT_INTERVAL_S = 0.25
"""Records that were finished in this time are processed again after a crash."""

REVOKE_TIMEOUT_MS = 2_000
"""The group waits for us meanwhile. What is not committed in this time others process again."""

log = structlog.get_logger("bus")


class Transaction(NamedTuple):
    """What one transaction commits: offsets, the records whose effects it must have, and the member that commits."""

    offsets: Mapping[Any, Any]
    positions: Sequence[Position]
    member: Any


class Commits:
    """Belongs to a subscription, whose `lock` guards `finished`."""

    def __init__(self, finished: FinishedPrefix, lock: threading.Lock) -> None:
        self._finished = finished
        self._lock = lock
        self._committed: dict[Any, int] = {}
        self._epochs: dict[Any, list[tuple[int, int]]] = {}  # by partition: the first offset of each leader epoch
        self._has_failed = False  # whether the last one failed: an outage is logged once, not at every commit
        self._next_s = 0.0
        self._is_under_way = False
        self.num_failed = 0

    def note_epoch(self, partition: Any, offset: int, epoch: int) -> None:
        """Takes note that a record at `offset` was written by the leader `epoch`. The caller holds the lock."""
        epochs = self._epochs.setdefault(partition, [])
        while epochs and epochs[-1][0] >= offset:  # the log was rewound
            epochs.pop()
        if not epochs or epochs[-1][1] != epoch:
            epochs.append((offset, epoch))

    def due(self) -> dict[Any, Any]:
        """Returns what to commit now, where the interval is over and none is under way; `ended` must follow."""
        now_s = time.monotonic()
        if self._is_under_way or now_s < self._next_s:
            return {}
        self._next_s = now_s + COMMIT_INTERVAL_S
        offsets = self.offsets()
        self._is_under_way = bool(offsets)
        return offsets

    def offsets(self) -> dict[Any, Any]:
        """Returns what is finished and not committed."""
        with self._lock:
            return self._missing(self._finished.prefix())

    def through(self, is_done: Callable[[Position], bool]) -> tuple[dict[Any, Any], list[Position]]:
        """Returns what to commit with the effects of the records for which `is_done` is true, and these."""
        with self._lock:
            ends, done = self._finished.through(is_done)
            return self._missing(ends), done

    async def commit_now(self, consumer: Any) -> None:
        """Commits what is finished of partitions that may go, where the broker answers within REVOKE_TIMEOUT_MS.

        The client's `commit_async` has no timeout, and returns before the commit where the coordinator is unknown.
        """
        if not (offsets := self.offsets()):
            return
        try:
            await consumer._coordinator._commit_offsets_sync_async(offsets, timeout_ms=REVOKE_TIMEOUT_MS)
        except KafkaError as error:
            self.ended(offsets, error)
        else:
            self.ended(offsets, None)

    def ended(self, offsets: Mapping[Any, Any], answer: object) -> None:
        """Takes note of the client's answer, which is an exception where the commit failed."""
        self._is_under_way = False
        if isinstance(answer, Exception):  # the next commit includes these offsets
            self.num_failed += 1
            if not self._has_failed:
                log.warning("commits_fail", error=str(answer))
        else:
            with self._lock:
                self._committed |= {partition: offset.offset for partition, offset in offsets.items()}
            if self._has_failed:
                log.info("commits_work_again", failed=self.num_failed)
        self._has_failed = isinstance(answer, Exception)

    def retain(self, partitions: Collection[Any]) -> None:
        """Forgets the partitions that are not ours any more."""
        with self._lock:
            self._committed = {each: end for each, end in self._committed.items() if each in partitions}
            self._epochs = {each: epochs for each, epochs in self._epochs.items() if each in partitions}

    def lag(self, consumer: Any) -> int:
        """Returns how many records of our partitions are not finished, as of the last fetch of each.

        A partition that nothing was delivered of yet counts none.
        """
        with self._lock:
            prefix = self._finished.prefix()
        lag = 0
        for partition in consumer.assignment():
            end = consumer.highwater(partition)
            if end is not None and partition in prefix:
                lag += max(0, end - prefix[partition])
        return lag

    def _missing(self, ends: Mapping[Any, int]) -> dict[Any, Any]:
        return {
            TopicPartition(*partition): OffsetAndMetadata(end, "", self._epoch_before(partition, end))
            for partition, end in ends.items()
            if self._committed.get(partition) != end
        }

    def _epoch_before(self, partition: Any, end: int) -> int:
        """Returns the leader epoch of the last record before `end` (-1: unknown), and forgets those before that."""
        epochs = self._epochs.get(partition, [])
        while len(epochs) > 1 and epochs[1][0] < end:
            epochs.pop(0)
        return epochs[0][1] if epochs and epochs[0][0] < end else -1
