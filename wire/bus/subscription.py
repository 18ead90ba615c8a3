"""Reads as a member of a consumer group that shares the partitions of a topic.

    poll() -> Received, Refused -> (any thread) finish(position) -> commit of the finished prefix -> poll()
      '-- GroupReader: committed offset and epoch --> position --> batches
                       the log has no such position --> another position (`wire.bus.losses`), and a Loss

Effects of a rebalance on a partition:

- Before partitions go, the records in flight get some time to finish, and the finished prefix is committed.
- A partition that stays with this member is not affected: its records in flight still count.
- If the partition goes to another member, finishing one of its records has no effect any more. The new owner reads the
  records again from the committed prefix.
- If this member has missed a generation of the group, another member may have owned its partitions in between. This
  member then resumes at the committed offsets, because its own positions may be below these.
- If transactions commit the offsets, every partition counts as lost, and is then read from its committed offset.

A recreated topic is read from its beginning. Partitions are paused and resumed only all together.
"""

import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Generic, TypeVar

import structlog
from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener  # type: ignore[import-untyped]
from kafka.errors import KafkaTimeoutError  # type: ignore[import-untyped]
from kafka.structs import MemberState  # type: ignore[import-untyped]

from wire.bus.client_errors import map_errors, topic_missing
from wire.bus.fetching import TopicLogs, raw_polls
from wire.bus.losses import POSITION_ERRORS, find_resume_points, seek
from wire.bus.offsets import Commits, FinishedPrefix, Position, Transaction
from wire.bus.reading import Loss, Poll, Refused, TopicReading, partition_name, read
from wire.bus.record_batches import Raw
from wire.config import BusConfig
from wire.records import LogMark, TopicRecord

log = structlog.get_logger("bus")

R = TypeVar("R", bound=TopicRecord)

MAX_UNFINISHED = 10_000
"""Largest number of delivered records of one partition that wait for `finish`."""

REVOKE_DRAIN_S = 2.0
"""Longest time in seconds in which records in flight may finish before partitions are revoked. The group waits for it.

Records that take longer are processed again if another member gets their partition.
"""

REVOKE_IDLE_S = 0.5
"""The drain ends early if no record was finished for this many seconds."""

REVOKE_CHECK_S = 0.01
"""Interval in seconds at which the drain counts the records in flight."""


class GroupReader:
    """The positions of a member in the logs of its partitions. It belongs to the polling thread of a subscription."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self.logs = TopicLogs(consumer)
        self._poll = raw_polls(consumer, self.logs)
        self._losses: list[Loss] = []
        self._num_expired = 0
        self._invalidated = set[Any]()
        consumer._coordinator.refresh_committed_offsets_if_needed = self._seek_to_commits

    def poll(self, timeout_ms: int, topics: Collection[str]) -> dict[Any, list[Raw]]:
        """Returns the delivered batches; none if a position was moved. Raises the client's errors."""
        try:
            batches = self._poll(timeout_ms)
        except POSITION_ERRORS as error:
            self._recover(error)
            return {}
        recreated = self.logs.find_recreated(topics)
        if not recreated:
            return batches
        # Batches of the other topics are dropped, too, and fetched again.
        for partition, raws in batches.items():
            seek(self._consumer, partition, raws[0].offset)
        self._start_over(recreated)
        return {}

    def take_losses(self) -> tuple[int, list[Loss], set[Any]]:
        """Returns the events since the last call, and forgets them.

        These are the number of records that expired before they were read, the losses, and the partitions whose
        delivered records no longer count because of a loss.
        """
        num_expired = self._num_expired
        losses = self._losses
        invalidated = self._invalidated
        self._num_expired = 0
        self._losses = []
        self._invalidated = set()
        return num_expired, losses, invalidated

    def _seek_to_commits(self, timeout_ms: int | None = None) -> bool:
        """Moves partitions without a position to their committed offsets, or to the start if nothing is committed.

        It replaces a method of the client library, which drops the leader epochs of the commits.
        """
        subscription = self._consumer._subscription
        missing = subscription.missing_fetch_positions()
        try:
            commits = self._consumer._coordinator.fetch_committed_offsets(missing, timeout_ms=timeout_ms)
        except KafkaTimeoutError:
            return False
        for partition, commit in commits.items():
            subscription.seek(partition, commit)
        if new := missing - commits.keys():
            self._consumer.seek_to_beginning(*new)
        return True

    def _recover(self, error: Exception) -> None:
        for partition, point in find_resume_points(self._consumer, error).items():
            seek(self._consumer, partition, point.offset, point.epoch)
            self._num_expired += point.num_expired
            if point.num_expired:
                log.warning("records_expired", partition=partition_name(partition), num=point.num_expired)
            if point.loss is not None:
                self._record_loss(partition, point.loss)

    def _start_over(self, topics: Collection[str]) -> None:
        """Starts at the beginning of recreated topics: our positions belong to the old logs."""
        for topic in topics:
            self.logs.adopt(topic)
        replaced = [partition for partition in self._consumer.assignment() if partition.topic in topics]
        for partition in replaced:
            position = self._consumer._subscription.assignment[partition].position
            offset = position.offset if position else 0
            self._record_loss(partition, Loss(partition_name(partition), offset, 0, is_replaced=True))
        if replaced:
            self._consumer.seek_to_beginning(*replaced)

    def _record_loss(self, partition: Any, loss: Loss) -> None:
        log.warning("log_truncated", reason=str(loss))
        self._losses.append(loss)
        self._invalidated.add(partition)


class JoinKeeper:
    """Keeps the response to a JoinGroup until a poll has taken it.

    kafka-python 3.0.12 discards a response that arrives between two polls and joins again, so that all members of the
    group rebalance once more.
    """

    def __init__(self, coordinator: Any) -> None:
        self._join = coordinator._do_join_and_sync_async
        self._response: Any = None
        coordinator._do_join_and_sync_async = self._join_once

    def forget(self) -> None:
        """Drops the response: it has been taken, or another rebalance begins."""
        self._response = None

    async def _join_once(self) -> Any:
        if self._response is None:
            self._response = await self._join()
        return self._response


class Subscription(Generic[R]):
    """One member of a consumer group. Only one thread may call `poll` and `close`; any thread may call the other
    methods.

    If `commits_itself` is false, only transactions commit the offsets (`wire.bus.transactions`).

    consumes: the records of the partitions that the group assigns to us
    produces: Poll, and commits of the finished prefix: on a poll if the interval is over (`wire.bus.offsets`), and
              before a partition is revoked
    waits for: the broker, at most the timeout of the poll; for `finish`, if MAX_UNFINISHED records of one partition
               wait: then polls return no records
    unblocked by: a record, or the end of the timeout
    """

    def __init__(
        self,
        consumer: Any,
        readings: Mapping[str, TopicReading[R]],
        config: BusConfig,
        *,
        refused_by: str,
        commits_itself: bool = True,
    ) -> None:
        self._consumer = consumer
        self._commits_itself = commits_itself
        self._reader = GroupReader(consumer)
        self._joins = JoinKeeper(consumer._coordinator)
        self._readings = readings
        self._servers = config.bootstrap_servers
        self._max_poll_records = config.client_number("max_poll_records")
        self._refused_by = refused_by
        self._lock = threading.Lock()
        self._finished = FinishedPrefix(limit=max(MAX_UNFINISHED, config.client_number("max_poll_records")))
        self._is_paused = False
        self._commits = Commits(self._finished, self._lock)
        # The member id and generation under which our partitions were assigned.
        self._member = consumer.group_metadata()
        self.is_closed = False
        consumer.subscribe(list(readings), listener=_Rebalance(self))
        # If the member joined before it knows the partitions, it would have to join a second time.
        with map_errors(self._servers):
            known = consumer.topics()
        if missing := readings.keys() - known:
            raise topic_missing(self._servers, missing)

    def poll(self, timeout_ms: int) -> Poll[R]:
        """Waits at most `timeout_ms` for records; before a rebalance REVOKE_DRAIN_S more.

        Call it often, also while paused: polling keeps the member in the group. While no broker answers, it returns no
        records or raises BusUnavailable. Later polls continue.
        """
        self._apply_pauses()
        with map_errors(self._servers):
            self._commit_when_due()
            self._join_again()
            batches = self._reader.poll(timeout_ms, self._readings)
        num_expired, losses, invalidated = self._reader.take_losses()
        self._drop_in_flight(invalidated)
        poll: Poll[R] = Poll(received=[], refused=[], num_expired=num_expired, losses=losses)
        for partition, raws in batches.items():
            for raw in raws:
                self._add(raw, partition, poll)
        return poll

    def finish(self, position: Position) -> None:
        """Notes that the effect of the record at `position` is done. Has no effect if its partition was lost."""
        with self._lock:
            self._finished.finish(position)

    def transaction(self, is_done: Callable[[Position], bool]) -> Transaction:
        """Returns the input of a transaction that contains the effects of the records for which `is_done` is true."""
        # The member is read before the offsets: if a rebalance comes in between, the broker refuses the old member.
        member = self._member
        offsets, positions = self._commits.offsets_with(is_done)
        return Transaction(offsets, positions, member)

    def committed(self, offsets: Mapping[Any, Any]) -> None:
        """Notes that a transaction has committed `offsets`."""
        self._commits.end_commit(offsets, None)

    def is_ours(self, position: Position) -> bool:
        """Whether the partition of `position` was not lost since the record was delivered."""
        with self._lock:
            return self._finished.is_current(position)

    def pause(self) -> None:
        """Stops the delivery of records from the next poll on. Continue to poll to stay in the group."""
        with self._lock:
            self._is_paused = True

    def resume(self) -> None:
        with self._lock:
            self._is_paused = False

    @property
    def partitions(self) -> list[int]:
        """The partitions that the group has assigned to us, as of the last poll."""
        with self._lock:
            return [number for _, number in self._finished.partitions]

    @property
    def num_failed_commits(self) -> int:
        return self._commits.num_failed

    @property
    def lag(self) -> int:
        """The number of unfinished records in our partitions, as of the last fetches. Only the polling thread may read
        it."""
        return self._commits.lag(self._consumer)

    def close(self) -> None:
        """Commits the finished prefix and leaves the group. Idempotent.

        A member that is joining for the first time sends no LeaveGroup: Tansu 0.6 would then wait for this member for
        ever, and no member could join any more. Without heartbeats Tansu removes the member.
        """
        self.is_closed = True
        if self._is_joining() and not self.partitions:
            self._consumer._coordinator.reset_generation()
        with map_errors(self._servers):
            self._consumer.close()
        with self._lock:
            self._finished.retain(())

    def _add(self, raw: Raw, partition: Any, poll: Poll[R]) -> None:
        with self._lock:
            self._commits.note_epoch(partition, raw.offset, raw.epoch)
            position = self._finished.add(partition, raw.next_offset - 1)
            if raw.is_gap:
                self._finished.finish(position)
                return
        reading = self._readings[raw.topic]
        mark = LogMark(log=self._reader.logs.log_id(raw.topic), epoch=raw.epoch)
        item = read(raw, reading, position, mark=mark, refused_by=self._refused_by)
        if isinstance(item, Refused):
            poll.refused.append(item)
        else:
            poll.received.append(item)

    def _apply_pauses(self) -> None:
        with self._lock:
            least_room = min(map(self._finished.room, self._finished.partitions), default=self._max_poll_records)
            assignment = self._consumer.assignment()
            if self._is_paused or least_room < self._max_poll_records:
                self._consumer.pause(*assignment)
            else:
                self._consumer.resume(*assignment)

    def _join_again(self) -> None:
        """Requests a rejoin while this member joins the group.

        The reason is a bug of kafka-python 3.0.12: if new partitions are the reason to join and the response arrives
        between two polls, it neither takes the response nor sends heartbeats.
        """
        if self._is_joining():
            self._consumer._coordinator.request_rejoin()

    def _is_joining(self) -> bool:
        return bool(self._consumer.group_metadata().state == MemberState.REBALANCING)

    def _drop_in_flight(self, partitions: Collection[Any]) -> None:
        """Drops the records in flight of `partitions`, whose offsets now belong to other records."""
        if partitions:
            assigned = self._consumer.assignment()
            self._set_partitions(assigned - set(partitions))
            self._set_partitions(assigned)

    def _commit_when_due(self) -> None:
        if self._commits_itself and (offsets := self._commits.begin_commit()):
            self._consumer.commit_async(offsets, callback=self._commits.end_commit)

    async def _revoke(self) -> None:
        """Prepares for a rebalance. If transactions commit the offsets, we resume at the committed offsets after it."""
        self._joins.forget()
        if self._commits_itself:
            await self._drain()
            await self._commits.commit_now(self._consumer)
        else:
            self._release_partitions()

    async def _drain(self) -> None:
        """Waits until other threads have finished the records in flight; at most REVOKE_DRAIN_S.

        A member that closes does not wait: its owner has finished what it will finish.
        """
        now_s = time.monotonic()
        end_s = now_s + REVOKE_DRAIN_S
        idle_end_s = now_s + REVOKE_IDLE_S
        num_left = self._num_unfinished()
        while num_left and not self.is_closed and now_s < min(end_s, idle_end_s):
            await self._consumer._coordinator._net.sleep(REVOKE_CHECK_S)
            now_s = time.monotonic()
            num_before, num_left = num_left, self._num_unfinished()
            if num_left < num_before:
                idle_end_s = now_s + REVOKE_IDLE_S

    def _num_unfinished(self) -> int:
        with self._lock:
            return self._finished.num_unfinished()

    def _assign(self, partitions: set[Any]) -> None:
        """Takes over the partitions of a new generation; at the committed offsets if a generation was missed."""
        self._joins.forget()
        now = self._consumer.group_metadata()
        if (now.member_id, now.generation_id - 1) != (self._member.member_id, self._member.generation_id):
            self._release_partitions()
            self._consumer._subscription.assign_from_subscribed(list(partitions))
        self._member = now
        self._set_partitions(partitions)

    def _release_partitions(self) -> None:
        """Drops all partitions, their records in flight and our positions; the next poll fetches committed offsets."""
        self._set_partitions(set())
        self._consumer._subscription.assign_from_subscribed([])

    def _set_partitions(self, partitions: set[Any]) -> None:
        with self._lock:
            self._finished.retain(partitions)
            for partition in partitions:
                self._finished.open(partition)
        self._commits.retain(partitions)
        self._apply_pauses()


class _Rebalance(AsyncConsumerRebalanceListener):  # type: ignore[misc]
    """The rebalance listener. The client's thread calls it while ours waits in `poll` or `close`."""

    def __init__(self, subscription: Subscription[Any]) -> None:
        self._subscription = subscription

    async def on_partitions_revoked(self, revoked: set[Any]) -> None:
        await self._subscription._revoke()

    async def on_partitions_assigned(self, assigned: set[Any]) -> None:
        self._subscription._assign(assigned)

    async def on_partitions_lost(self, lost: set[Any]) -> None:
        # Other members read these partitions already, so nothing is left to commit.
        self._subscription._joins.forget()
        self._subscription._set_partitions(set())
