"""Polls the library's consumer with three additions: our own parser of batches, a bound on the bytes of a poll, and the
detection of recreated topics.

    raw_polls(consumer) --> poll: Fetcher: FetchedPartition(bytes) -> take(n) -> Raw, until the poll has MAX_POLL_BYTES
    IdleFetches: records arrive        --> a fetch waits some milliseconds for many records, as configured
                 none for IDLE_AFTER_S --> a fetch waits IDLE_WAIT_MS, and returns as soon as a record arrives
    TopicLogs: the topic id in the metadata has changed --> the topic was recreated, and its offsets begin at 0 again

The library bounds a poll only by the number of records. When the bound on bytes is reached, `take` raises PollFull, so
the library returns the records that the poll has so far. The library raises the same PollFull again at the beginning of
the next poll, so that poll is repeated.

If each fetch waits 5 ms, 200 fetches a second are sent even if there are no records. On a Zen 4 this took 0.2 of a core
in a replica without events, and nearly as much in the broker. With IdleFetches, each of the two takes 0.05 of a core.

Since version 2.8, Kafka assigns an id to every topic when it is created. Tansu stores nothing, and assigns new ids at
every start. A consumer has these ids in its metadata, which it refreshes every few seconds and after a lost connection.
If a refresh is pending when records were fetched, the poll waits for it before it returns them. So no record is
attributed to a log that does not exist any more.
"""

import base64
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

from kafka import TopicPartition  # type: ignore[import-untyped]
from kafka.errors import KafkaError  # type: ignore[import-untyped]
from kafka.protocol.consumer import IsolationLevel  # type: ignore[import-untyped]

from wire.bus.record_batches import Raw, flag_aborted, split_batches

REFRESH_TIMEOUT_MS = 2_000

IDLE_AFTER_S: Final = 1.0
"""A consumer that gets no record for this long is idle."""

IDLE_WAIT_MS: Final = 100
"""How long the broker waits for a record before it answers a fetch of an idle consumer."""

ENDS_TRANSACTIONS = {27, 66}
"""API keys of WriteTxnMarkers and ListTransactions: a broker that has one of them ends every open transaction.

On other brokers (Tansu 0.6) an abandoned transaction would block every reader of committed records, and aborted records
are not marked. On these brokers we read uncommitted records.
"""

MAX_POLL_BYTES = 16 << 20
"""Bytes after which a poll ends. A poll may exceed the bound by one record, and by the batch of that record."""


class TopicLogs:
    """The topic ids of the logs that one consumer reads, formatted as `kafka-topics.sh --describe` prints them."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._known: dict[str, str] = {}

    def log_id(self, topic: str) -> str:
        """Returns the id of the log that is being read; "" if the broker assigns no ids."""
        return self._known.get(topic, "")

    def adopt(self, topic: str) -> None:
        """Makes the current log of `topic` the log that is read."""
        self._known.pop(topic, None)
        self.find_recreated([topic])

    def find_recreated(self, topics: Iterable[str]) -> list[str]:
        """Returns the topics in `topics` whose log is not the one that is being read. Stores the log of a topic that is
        new."""
        recreated = []
        for topic in topics:
            log_id = self._current_log_id(topic)
            if log_id and self._known.setdefault(topic, log_id) != log_id:
                recreated.append(topic)
        return recreated

    def refresh(self) -> None:
        """Waits until the metadata is newer than the last lost connection. Raises the client's errors."""
        cluster = self._consumer._cluster
        if cluster.need_update:
            manager = self._consumer._manager
            self._consumer._net.run(manager.wait_for, cluster.request_update(), REFRESH_TIMEOUT_MS)

    def _current_log_id(self, topic: str) -> str:
        topic_id = self._consumer._cluster.topic_id(topic)
        if topic_id is None or topic_id.int == 0:
            return ""
        return base64.urlsafe_b64encode(topic_id.bytes).rstrip(b"=").decode()


class IdleFetches:
    """Sets how long the fetches of `consumer` wait. It belongs to the thread that polls."""

    def __init__(self, consumer: Any, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        # The library reads these options for each fetch.
        self._options: dict[str, Any] = consumer._fetcher.config
        self._busy = {name: self._options[name] for name in ("fetch_min_bytes", "fetch_max_wait_ms")}
        wait_ms = max(IDLE_WAIT_MS, self._busy["fetch_max_wait_ms"])
        self._idle = {"fetch_min_bytes": 1, "fetch_max_wait_ms": wait_ms}
        self._clock_s = clock_s
        self._busy_until_s = clock_s() + IDLE_AFTER_S

    def note(self, has_records: bool) -> None:
        """Notes that a poll has ended, with records or without."""
        now_s = self._clock_s()
        if has_records:
            self._busy_until_s = now_s + IDLE_AFTER_S
        is_idle = now_s >= self._busy_until_s
        self._options.update(self._idle if is_idle else self._busy)


class PollFull(KafkaError):  # type: ignore[misc]
    """The byte budget of the current poll is spent."""


class ByteBudget:
    """The bytes that the current poll may still return. All partitions of a consumer share one budget."""

    def __init__(self) -> None:
        self._left = MAX_POLL_BYTES

    @property
    def is_spent(self) -> bool:
        return self._left <= 0

    def spend(self, num_bytes: int) -> bool:
        """Takes `num_bytes` from the budget; returns whether the budget is spent now."""
        self._left -= num_bytes
        return self.is_spent

    def renew(self) -> None:
        self._left = MAX_POLL_BYTES


class FetchedPartition:
    """The data of one partition in one fetch. The library's `Fetcher` dictates the names of its members."""

    def __init__(
        self,
        fetch_offset: int,
        tp: TopicPartition,
        records: Any,
        *,
        budget: ByteBudget,
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
        """Returns the next records, at most `n`; fewer if the budget is spent or the data end.

        Raises PollFull if the budget was spent before the first record.
        """
        if self._raws is None:
            return []
        if self._budget.is_spent:
            raise PollFull
        raws: list[Raw] = []
        for raw in islice(self._raws, n):
            raws.append(raw)
            self.next_fetch_offset = raw.next_offset
            self.bytes_read += raw.num_bytes
            if self._budget.spend(raw.num_bytes):
                return raws
        if len(raws) < n:
            self.drain()
        return raws

    def drain(self) -> None:
        if self._raws is not None:
            self._raws = None
            self._on_drain(self)

    def _read(self, data: memoryview) -> Iterator[Raw]:
        """Yields the entries from our offset on. The first batch of a fetch may begin before this offset."""
        for batch, is_aborted in flag_aborted(split_batches(data, self.topic_partition), self._aborted):
            self.leader_epoch = batch.leader_epoch
            raws = [batch.gap(batch.base_offset)] if is_aborted else batch.raws()
            for raw in raws:
                if raw.next_offset > self.next_fetch_offset:
                    yield raw


def raw_polls(consumer: Any, logs: TopicLogs) -> Callable[[int], dict[TopicPartition, list[Raw]]]:
    """Makes `consumer` parse batches with our parser; returns a function that polls it. Its argument is a timeout in
    milliseconds.

    The records of a poll belong to the logs that `logs` has after the poll. If the logs cannot be determined, the poll
    raises the client's error, and the next poll begins at the same offsets.
    """
    budget = ByteBudget()
    idle_fetches = IdleFetches(consumer)

    def fetched_partition(fetch_offset: int, tp: TopicPartition, *args: Any, **options: Any) -> FetchedPartition:
        part = FetchedPartition(fetch_offset, tp, *args, budget=budget, **options)
        # A fetch without records must not change the leader epoch of the position.
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
            # The library raises the error of the poll before.
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
