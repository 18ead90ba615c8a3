"""Polls for a member of a group, and goes on in the log when its position is not in it.

    committed offset and epoch --> position --poll--> batches
    the log has no such position --> another position (`wire.bus.losses`), losses, partitions whose records are void

Rejected: `auto_offset_reset` of the client library. A member whose log has lost its tail would read all of it again.
"""

from collections.abc import Collection
from typing import Any

import structlog
from kafka.errors import KafkaTimeoutError  # type: ignore[import-untyped]

from wire.bus.batches import Raw
from wire.bus.fetched import raw_polls
from wire.bus.losses import NOT_IN_LOG, returns, seek
from wire.bus.reading import Loss, partition_name
from wire.bus.topic_logs import TopicLogs

log = structlog.get_logger("bus")


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
