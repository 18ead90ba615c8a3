"""Installs our reader of batches in the client library's consumer, and bounds the bytes of one poll.

    Fetcher: FetchedPartition(bytes) -> take(n) -> Raw, until the poll has MAX_POLL_BYTES of them

The library bounds a poll only by the number of records. Where our bound is reached we raise PollFull: the library
returns the records of the poll so far, and raises PollFull at the beginning of the next poll, which is then repeated.

Rejected: polls of few records (each costs about as much as reading twenty of them).
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

from kafka import TopicPartition  # type: ignore[import-untyped]
from kafka.errors import KafkaError  # type: ignore[import-untyped]
from kafka.protocol.consumer import IsolationLevel  # type: ignore[import-untyped]

from wire.bus.batches import Raw, batches_in, with_aborted
from wire.bus.idle_fetches import IdleFetches
from wire.bus.topic_logs import TopicLogs

ENDS_TRANSACTIONS = {27, 66}
"""WriteTxnMarkers and ListTransactions: API keys of brokers on which no transaction stays open for ever.

On other brokers (Tansu 0.6) an abandoned transaction would block every reader of committed records, and aborted records
are not marked. There we read uncommitted records.
"""

MAX_POLL_BYTES = 16 << 20
"""Bytes after which a poll ends. It may exceed them by one record, and by the batch of that record."""


class PollFull(KafkaError):  # type: ignore[misc]
    """The byte budget of the current poll is spent."""


class Budget:
    """The bytes that the current poll may still take: one budget for all partitions of a consumer."""

    def __init__(self) -> None:
        self._left = MAX_POLL_BYTES

    @property
    def is_spent(self) -> bool:
        return self._left <= 0

    def spend(self, num_bytes: int) -> bool:
        """Takes `num_bytes` from the budget; True where it is spent now."""
        self._left -= num_bytes
        return self.is_spent

    def renew(self) -> None:
        self._left = MAX_POLL_BYTES


class FetchedPartition:
    """The data of one partition in one fetch. The names are those that the library's `Fetcher` uses."""

    def __init__(
        self,
        fetch_offset: int,
        tp: TopicPartition,
        records: Any,
        *,
        budget: Budget,
        isolation_level: int,
        aborted_transactions: Sequence[Any] | None,
        on_drain: Callable[[Any], None],
        **_: Any,
    ) -> None:
        self.topic_partition = tp
        self.next_fetch_offset = fetch_offset
        self.leader_epoch = -1
        self.bytes_read = 0
        self._budget = budget
        self._on_drain = on_drain
        reads_committed = isolation_level == IsolationLevel.READ_COMMITTED
        self._aborted = aborted_transactions if reads_committed and aborted_transactions else ()
        self._raws: Iterator[Raw] | None = self._read(memoryview(records._buffer))

    def __bool__(self) -> bool:
        return self._raws is not None

    def take(self, n: int) -> list[Raw]:
        """Returns the next records, at most `n`; fewer where the budget is spent or the fetch is exhausted."""
        if self._raws is None:
            return []
        if self._budget.is_spent:
            raise PollFull
        taken: list[Raw] = []
        for raw in islice(self._raws, n):
            taken.append(raw)
            self.next_fetch_offset = raw.next_offset
            self.bytes_read += raw.num_bytes
            if self._budget.spend(raw.num_bytes):
                return taken
        if len(taken) < n:
            self.drain()
        return taken

    def drain(self) -> None:
        if self._raws is not None:
            self._raws = None
            self._on_drain(self)

    def _read(self, data: memoryview) -> Iterator[Raw]:
        """Yields what lies from our offset on: a fetch begins with the whole batch that holds the offset."""
        for batch, is_aborted in with_aborted(batches_in(data, self.topic_partition), self._aborted):
            self.leader_epoch = batch.leader_epoch
            raws = [batch.gap(batch.base_offset)] if is_aborted else batch.raws()
            for raw in raws:
                if raw.next_offset > self.next_fetch_offset:
                    yield raw


def raw_polls(consumer: Any, logs: TopicLogs) -> Callable[[int], dict[TopicPartition, list[Raw]]]:
    """Makes `consumer` read with our reader; returns its poll function, which takes a timeout in milliseconds.

    The records of a poll lie in the logs that `logs` names then. Where the logs cannot be determined the poll returns
    no records and raises the client's error; the next poll begins at the same offsets.
    """
    budget = Budget()
    idle_fetches = IdleFetches(consumer)

    def fetched_partition(fetch_offset: int, tp: TopicPartition, *args: Any, **options: Any) -> FetchedPartition:
        part = FetchedPartition(fetch_offset, tp, *args, budget=budget, **options)
        # a fetch without records must leave the epoch of the position as it is
        part.leader_epoch = consumer._subscription.assignment[tp].position.leader_epoch
        return part

    consumer._fetcher.PartitionRecords = fetched_partition
    if ENDS_TRANSACTIONS & set(consumer._manager.broker_version_data.api_versions):
        consumer._fetcher._isolation_level = IsolationLevel.READ_COMMITTED

    def poll(timeout_ms: int) -> dict[TopicPartition, list[Raw]]:
        budget.renew()
        try:
            fetched: dict[TopicPartition, list[Raw]] = consumer.poll(timeout_ms)
        except PollFull:
            fetched = consumer.poll(timeout_ms)
        idle_fetches.note(bool(fetched))
        try:
            if fetched:
                logs.refresh()
        except KafkaError:
            for partition in consumer.assignment() & set(fetched):
                consumer.seek(partition, fetched[partition][0].offset)
            raise
        return fetched

    return poll
