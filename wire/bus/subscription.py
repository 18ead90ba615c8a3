"""Reading as a member of a group that shares the partitions of a topic.

    poll() -> Received, Refused -> (any thread) finish(position) -> commit of the finished prefix -> poll()

A rebalance takes nothing away from a partition that stays here: what is in flight goes on counting. What is finished
of a partition that went away changes nothing; whoever has it now reads it again from the committed prefix. A topic that
was made anew is read from its beginning.

All partitions are paused together or none is. Rejected: to pause only a full one. kafka-python 3.0.12 sets aside what
it has fetched of a paused partition, and forgets to take it up again where another partition was read meanwhile.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import structlog
from kafka import TopicPartition  # type: ignore[import-untyped]
from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener  # type: ignore[import-untyped]
from kafka.errors import KafkaError  # type: ignore[import-untyped]
from kafka.structs import MemberState, OffsetAndMetadata  # type: ignore[import-untyped]

from wire.bus.batches import Raw
from wire.bus.client_errors import mapped
from wire.bus.fetched import raw_polls
from wire.bus.reading import Received, Refused, read
from wire.bus.topic_logs import TopicLogs
from wire.config import BusConfig
from wire.finished import FinishedPrefix, Position
from wire.records import TopicRecord

R = TypeVar("R", bound=TopicRecord)

COMMIT_INTERVAL_S = 0.25  # what was finished in this time is done again after a crash
MAX_UNFINISHED = 10_000  # delivered records of one partition that wait for a commit; then no more are fetched
JOIN_PATIENCE_MS = 250
REVOKE_TIMEOUT_MS = 2_000  # the group waits for us meanwhile; what is not committed then is done again by others

log = structlog.get_logger("bus")


@dataclass(frozen=True, kw_only=True, slots=True)
class Poll(Generic[R]):
    """What one poll brought, in order within each partition."""

    received: list[Received[R]]
    refused: list[Refused]


class Subscription(Generic[R]):
    """One member of a group. `poll` and `close` belong to one thread; `finish`, `pause` and `resume` to any.

    consumes: the records of the partitions that the group gives us
    produces: Poll, and commits of the finished prefix: on a poll, at most every COMMIT_INTERVAL_S, and before a
              partition is given back
    waits for: the broker, at most the timeout of the poll; for `finish`, where MAX_UNFINISHED records of one partition
               wait: then polls bring nothing
    unblocked by: a record, or the end of the timeout
    """

    def __init__(self, consumer: Any, record_type: type[R], topic: str, config: BusConfig, *, refused_by: str) -> None:
        self._consumer = consumer
        self._logs = TopicLogs(consumer, known={})
        self._poll = raw_polls(consumer, self._logs)
        self._topic = topic
        self._record_type = record_type
        self._servers = config.bootstrap_servers
        self._max_poll_records = config.max_poll_records
        self._refused_by = refused_by
        self._lock = threading.Lock()
        self._finished = FinishedPrefix(limit=max(MAX_UNFINISHED, config.max_poll_records))
        self._is_paused = False
        self._committed: dict[Any, int] = {}
        self._is_committing = False
        self._has_failed = False  # the last commit: an outage is said once, not at every commit
        self._next_commit_s = 0.0
        self.num_failed_commits = 0
        self.is_closed = False
        consumer.subscribe([topic], listener=_Rebalance(self))
        with mapped(self._servers):
            consumer.topics()  # to join before the partitions are known would be to join twice

    def poll(self, timeout_ms: int) -> Poll[R]:
        """Waits at most `timeout_ms` for records, and at most JOIN_PATIENCE_MS while the group shares its partitions.

        To be called often, also while paused: it keeps us in the group. While no broker answers it brings nothing, or
        raises BusUnavailable; a later poll goes on.
        """
        self._apply_pauses()
        with mapped(self._servers):
            self._commit_when_due()
            batches = self._poll(self._patience_ms(timeout_ms))
        if self._logs.made_anew([self._topic]):
            self._start_over()
            batches = {}
        poll: Poll[R] = Poll(received=[], refused=[])
        for partition, raws in batches.items():
            for raw in raws:
                self._add(raw, partition, poll)
        return poll

    def finish(self, position: Position) -> None:
        """The effect of the record at `position` is there. Changes nothing where its partition was lost meanwhile."""
        with self._lock:
            self._finished.finish(position)

    def pause(self) -> None:
        """From the next poll on no records are delivered; go on polling to stay in the group."""
        with self._lock:
            self._is_paused = True

    def resume(self) -> None:
        with self._lock:
            self._is_paused = False

    @property
    def partitions(self) -> list[int]:
        """The partitions that the group has given us, as of the last poll."""
        with self._lock:
            return [number for _, number in self._finished.partitions]

    @property
    def num_unfinished(self) -> int:
        """Delivered records whose offset cannot be committed yet."""
        with self._lock:
            return self._finished.num_waiting

    def close(self) -> None:
        """Commits the finished prefix and leaves the group; does nothing the second time.

        Who joins for the first time does not say that it leaves. Tansu 0.6 would wait for it for ever, and nobody could
        join any more; a member that falls silent it forgets.
        """
        self.is_closed = True
        if self._is_joining() and not self.partitions:
            self._consumer._coordinator.reset_generation()
        with mapped(self._servers):
            self._consumer.close()
        with self._lock:
            self._finished.keep(())

    def _add(self, raw: Raw, partition: Any, poll: Poll[R]) -> None:
        with self._lock:
            position = self._finished.add(partition, raw.next_offset - 1)
            if raw.is_gap:
                self._finished.finish(position)
                return
        item = read(raw, self._record_type, position, log=self._logs.of(raw.topic), refused_by=self._refused_by)
        if isinstance(item, Refused):
            poll.refused.append(item)
        else:
            poll.received.append(item)

    def _apply_pauses(self) -> None:
        with self._lock:
            is_full = any(self._finished.room(of) < self._max_poll_records for of in self._finished.partitions)
            change = self._consumer.pause if self._is_paused or is_full else self._consumer.resume
            change(*self._consumer.assignment())

    def _patience_ms(self, timeout_ms: int) -> int:
        """How long to poll. While we join the group, longer, and the client must be told that it still has to.

        kafka-python 3.0.12 throws the answer away when it comes between two polls; and where new partitions were the
        reason to join, it then never asks again, nor sends a heartbeat.
        """
        if not self._is_joining():
            return timeout_ms
        self._consumer._coordinator.request_rejoin()
        return max(timeout_ms, JOIN_PATIENCE_MS)

    def _is_joining(self) -> bool:
        return bool(self._consumer.group_metadata().state == MemberState.REBALANCING)

    def _start_over(self) -> None:
        """The topic was made anew. What waits to be finished lies in a log that is gone, and so do our positions."""
        log.warning("log_replaced", topic=self._topic)
        self._logs.adopt(self._topic)
        partitions = self._consumer.assignment()
        self._own(set())
        self._own(partitions)
        if partitions:
            self._consumer.seek_to_beginning(*partitions)

    def _commit_when_due(self) -> None:
        now_s = time.monotonic()
        if self._is_committing or now_s < self._next_commit_s:
            return
        self._next_commit_s = now_s + COMMIT_INTERVAL_S
        if offsets := self._uncommitted():
            self._is_committing = True
            self._consumer.commit_async(offsets, callback=self._commit_ended)

    def _uncommitted(self) -> dict[Any, Any]:
        with self._lock:
            prefix = self._finished.prefix()
        return {
            TopicPartition(*partition): OffsetAndMetadata(end, "", -1)
            for partition, end in prefix.items()
            if self._committed.get(partition) != end
        }

    def _commit_ended(self, offsets: Mapping[Any, Any], answer: object) -> None:
        self._is_committing = False
        if isinstance(answer, Exception):  # the next commit says the same and more
            self.num_failed_commits += 1
            if not self._has_failed:
                log.warning("commits_fail", error=str(answer))
        else:
            self._committed |= {partition: offset.offset for partition, offset in offsets.items()}
            if self._has_failed:
                log.info("commits_work_again", failed=self.num_failed_commits)
        self._has_failed = isinstance(answer, Exception)

    async def _commit_before_revoke(self) -> None:
        """Commits what is finished of partitions that go away, where the broker answers within REVOKE_TIMEOUT_MS.

        The client's `commit_async` has no limit, and where the coordinator is not known it ends before the commit.
        """
        if not (offsets := self._uncommitted()):
            return
        try:
            await self._consumer._coordinator._commit_offsets_sync_async(offsets, timeout_ms=REVOKE_TIMEOUT_MS)
        except KafkaError as error:
            self._commit_ended(offsets, error)
        else:
            self._commit_ended(offsets, None)

    def _own(self, partitions: set[Any]) -> None:
        with self._lock:
            self._finished.keep(partitions)
            for partition in partitions:
                self._finished.open(partition)
        self._committed = {partition: end for partition, end in self._committed.items() if partition in partitions}
        self._apply_pauses()


class _Rebalance(AsyncConsumerRebalanceListener):  # type: ignore[misc]
    """Called by the client's thread, while ours waits in `poll` or `close`."""

    def __init__(self, subscription: Subscription[Any]) -> None:
        self._subscription = subscription

    async def on_partitions_revoked(self, revoked: set[Any]) -> None:
        await self._subscription._commit_before_revoke()

    async def on_partitions_assigned(self, assigned: set[Any]) -> None:
        self._subscription._own(assigned)

    async def on_partitions_lost(self, lost: set[Any]) -> None:
        self._subscription._own(set())  # others read them already: nothing is left to commit
