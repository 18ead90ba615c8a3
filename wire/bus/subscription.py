"""Reads as a member of a consumer group that shares the partitions of a topic.

    poll() -> Received, Refused -> (any thread) finish(position) -> commit of the finished prefix -> poll()
      '-- GroupReader: committed offset and epoch --> position --> batches
                       the log has no such position --> another position (`wire.bus.losses`), and a Loss

A rebalance does not affect a partition that stays here: its records in flight still count. A record of a lost
partition that is finished later has no effect; the new owner reads it again from the committed prefix. No partition
stays if a generation of the group was over before the client told us of it, since it may have been another member's in
between: we go on from what is committed, and not from our position, which may lie before it. If a transaction commits,
none ever stays. A recreated topic is read from its beginning.

All partitions are paused together or none is.
"""

import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any, Generic, TypeVar

import structlog
from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener  # type: ignore[import-untyped]
from kafka.errors import KafkaTimeoutError  # type: ignore[import-untyped]
from kafka.structs import MemberState  # type: ignore[import-untyped]

from wire.bus.client_errors import mapped, topic_missing
from wire.bus.fetching import TopicLogs, raw_polls
from wire.bus.losses import NOT_IN_LOG, returns, seek
from wire.bus.offsets import Commits, FinishedPrefix, Position, Transaction
from wire.bus.reading import Loss, Poll, Refused, TopicReading, partition_name, read
from wire.bus.record_batches import Raw
from wire.config import BusConfig
from wire.records import LogMark, TopicRecord

log = structlog.get_logger("bus")

R = TypeVar("R", bound=TopicRecord)

MAX_UNFINISHED = 10_000  # most delivered records of one partition that wait for a commit
JOIN_PATIENCE_MS = 250


class GroupReader:
    """The positions of a member in the logs of its partitions. It belongs to a subscription, and to its thread.

    Since they were taken last, `num_expired` records had expired before they were read, `losses` were noticed, and what
    was delivered of the partitions in `void` stands for nothing any more.
    """

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self.logs = TopicLogs(consumer, known={})
        self._poll = raw_polls(consumer, self.logs)
        self._losses: list[Loss] = []
        self._num_expired = 0
        self._void = set[Any]()
        consumer._coordinator.refresh_committed_offsets_if_needed = self._go_to_commits

    def poll(self, timeout_ms: int, topics: Collection[str]) -> dict[Any, list[Raw]]:
        """Returns what is delivered; nothing where a position was moved. Raises the client's errors."""
        try:
            batches = self._poll(timeout_ms)
        except NOT_IN_LOG as error:
            self._return_into_log(error)
            return {}
        recreated = self.logs.recreated(topics)
        if not recreated:
            return batches
        for partition, raws in batches.items():  # those of other topics are fetched again
            seek(self._consumer, partition, raws[0].offset)
        self._start_over(recreated)
        return {}

    def take(self) -> tuple[int, list[Loss], set[Any]]:
        """Returns `num_expired`, `losses` and `void`, and begins them anew."""
        taken = self._num_expired, self._losses, self._void
        self._num_expired = 0
        self._losses = []
        self._void = set()
        return taken

    def _go_to_commits(self, timeout_ms: int | None = None) -> bool:
        """Goes to the committed offsets where there is no position; to the start where nothing is committed.

        It stands in for the method of the client library, which forgets the leader epochs of the commits.
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

    def _return_into_log(self, error: Exception) -> None:
        for partition, back in returns(self._consumer, error).items():
            seek(self._consumer, partition, back.offset, back.epoch)
            self._num_expired += back.num_expired
            if back.num_expired:
                log.warning("records_expired", partition=partition_name(partition), num=back.num_expired)
            if back.loss is not None:
                self._lose(partition, back.loss)

    def _start_over(self, topics: Collection[str]) -> None:
        """Starts at the beginning of recreated topics: our positions belong to the old logs."""
        for topic in topics:
            self.logs.adopt(topic)
        replaced = [partition for partition in self._consumer.assignment() if partition.topic in topics]
        for partition in replaced:
            position = self._consumer._subscription.assignment[partition].position
            offset = position.offset if position else 0
            self._lose(partition, Loss(partition_name(partition), offset, 0, is_replaced=True))
        if replaced:
            self._consumer.seek_to_beginning(*replaced)

    def _lose(self, partition: Any, loss: Loss) -> None:
        log.warning("log_truncated", reason=str(loss))
        self._losses.append(loss)
        self._void.add(partition)


class Subscription(Generic[R]):
    """One member of a group. `poll` and `close` belong to one thread, the others to any.

    With `commits_itself` false, a transaction commits (`wire.bus.transactions`), and nothing else does.

    consumes: the records of the partitions that the group assigns to us
    produces: Poll, and commits of the finished prefix: on a poll, now and then (`wire.bus.offsets`), and before a
              partition is revoked
    waits for: the broker, at most the timeout of the poll; for `finish`, where MAX_UNFINISHED records of one partition
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
        self._readings = readings
        self._servers = config.bootstrap_servers
        self._max_poll_records = config.client_number("max_poll_records")
        self._refused_by = refused_by
        self._lock = threading.Lock()
        self._finished = FinishedPrefix(limit=max(MAX_UNFINISHED, config.client_number("max_poll_records")))
        self._is_paused = False
        self._commits = Commits(self._finished, self._lock)
        self._member = consumer.group_metadata()  # as which our partitions were assigned
        self.is_closed = False
        consumer.subscribe(list(readings), listener=_Rebalance(self))
        with mapped(self._servers):
            known = consumer.topics()  # a join before the partitions are known would be followed by a second one
        if missing := readings.keys() - known:
            raise topic_missing(self._servers, missing)

    def poll(self, timeout_ms: int) -> Poll[R]:
        """Waits at most `timeout_ms` for records, or JOIN_PATIENCE_MS, if that is longer, during a rebalance.

        Call it often, also while paused: it keeps us in the group. While no broker answers it returns no records, or
        raises BusUnavailable; a later poll continues.
        """
        self._apply_pauses()
        with mapped(self._servers):
            self._commit_when_due()
            batches = self._reader.poll(self._patience_ms(timeout_ms), self._readings)
        num_expired, losses, void = self._reader.take()
        self._drop_in_flight(void)
        poll: Poll[R] = Poll(received=[], refused=[], num_expired=num_expired, losses=losses)
        for partition, raws in batches.items():
            for raw in raws:
                self._add(raw, partition, poll)
        return poll

    def finish(self, position: Position) -> None:
        """Notes that the effect of the record at `position` is done; ignored where its partition was lost meanwhile."""
        with self._lock:
            self._finished.finish(position)

    def transaction(self, is_done: Callable[[Position], bool]) -> Transaction:
        """Returns what a transaction can commit, where the effects of the records with `is_done` are part of it."""
        member = self._member  # first: the broker refuses the member of an assignment that is over
        return Transaction(*self._commits.through(is_done), member)

    def committed(self, offsets: Mapping[Any, Any]) -> None:
        """Takes note that a transaction has committed these."""
        self._commits.ended(offsets, None)

    def is_ours(self, position: Position) -> bool:
        """Whether the partition of `position` was not lost since."""
        with self._lock:
            return self._finished.tracks(position)

    def pause(self) -> None:
        """Stops the delivery of records from the next poll on. Go on polling to stay in the group."""
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
        """How many records of our partitions are not finished, as of the last fetches. Of the polling thread."""
        return self._commits.lag(self._consumer)

    def close(self) -> None:
        """Commits the finished prefix and leaves the group. Idempotent.

        A member that is joining for the first time sends no LeaveGroup: Tansu 0.6 would wait for it for ever, and
        nobody could join any more. It removes a member without heartbeats.
        """
        self.is_closed = True
        if self._is_joining() and not self.partitions:
            self._consumer._coordinator.reset_generation()
        with mapped(self._servers):
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
        mark = LogMark(log=self._reader.logs.of(raw.topic), epoch=raw.epoch)
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

    def _patience_ms(self, timeout_ms: int) -> int:
        """Returns how long to poll. During a join that is longer, and a rejoin is requested.

        kafka-python 3.0.12 discards a JoinGroup response that arrives between two polls. Where new partitions were the
        reason to join, it then neither joins again nor sends heartbeats.
        """
        if not self._is_joining():
            return timeout_ms
        self._consumer._coordinator.request_rejoin()
        return max(timeout_ms, JOIN_PATIENCE_MS)

    def _is_joining(self) -> bool:
        return bool(self._consumer.group_metadata().state == MemberState.REBALANCING)

    def _drop_in_flight(self, partitions: Collection[Any]) -> None:
        """Forgets what is in flight of `partitions`: their offsets stand for other records now."""
        if partitions:
            assigned = self._consumer.assignment()
            self._own(assigned - set(partitions))
            self._own(assigned)

    def _commit_when_due(self) -> None:
        if self._commits_itself and (offsets := self._commits.due()):
            self._consumer.commit_async(offsets, callback=self._commits.ended)

    async def _revoke(self) -> None:
        """Prepares for a rebalance, after which we begin at what is committed, where a transaction commits."""
        if self._commits_itself:
            await self._commits.commit_now(self._consumer)
        else:
            self._give_up()

    def _assign(self, partitions: set[Any]) -> None:
        """Goes on with the partitions of a new generation: from what is committed, where one before it was missed."""
        now = self._consumer.group_metadata()
        if (now.member_id, now.generation_id - 1) != (self._member.member_id, self._member.generation_id):
            self._give_up()
            self._consumer._subscription.assign_from_subscribed(list(partitions))
        self._member = now
        self._own(partitions)

    def _give_up(self) -> None:
        """Forgets all partitions, what is in flight of them, and our positions: the committed ones are asked for."""
        self._own(set())
        self._consumer._subscription.assign_from_subscribed([])

    def _own(self, partitions: set[Any]) -> None:
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
        self._subscription._own(set())  # others read them already: nothing is left to commit
