"""Fetches with the client library's consumer: by our reader of batches, bounded in bytes, and from logs that are known.

    raw_polls(consumer) --> poll: Fetcher: FetchedPartition(bytes) -> take(n) -> Raw, until the poll has MAX_POLL_BYTES
    IdleFetches: records come --> a fetch waits some milliseconds for many records, as configured
                 none for IDLE_AFTER_S --> it waits IDLE_WAIT_MS for the first record, which then comes at once
    TopicLogs: the topic id in the metadata --> whether the topic was made anew, with offsets from 0 on

The library bounds a poll only by the number of records. If our bound is reached, we raise PollFull: the library returns
the records of the poll so far, and raises PollFull at the beginning of the next poll, which is then repeated.

A fetch that waits 5 ms is sent 200 times a second, whether there are records or not: on a Zen 4 this took 0.2 of a core
from a replica without events, and nearly as much from the broker. With IdleFetches they take 0.05 each.

Kafka assigns an id to every topic at its creation, since 2.8; Tansu, which stores nothing, assigns new ids at every
start. The metadata of a consumer has these ids. It is refreshed every few seconds, and after a lost connection. Records
that were fetched meanwhile are held until then, so that no record is attributed to a log that is gone.
"""

import base64
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from kafka import TopicPartition  # type: ignore[import-untyped]
from kafka.errors import KafkaError  # type: ignore[import-untyped]
from kafka.protocol.consumer import IsolationLevel  # type: ignore[import-untyped]

from wire.bus.record_batches import Raw, batches_in, with_aborted

REFRESH_TIMEOUT_MS = 2_000

IDLE_AFTER_S: Final = 1.0
"""A consumer that gets no record for so long is idle."""

IDLE_WAIT_MS: Final = 100
"""How long the broker holds back a fetch of an idle consumer that has no record."""

ENDS_TRANSACTIONS = {27, 66}
"""WriteTxnMarkers and ListTransactions: API keys of brokers on which no transaction stays open for ever.

On other brokers (Tansu 0.6) an abandoned transaction would block every reader of committed records, and aborted records
are not marked. There we read uncommitted records.
"""

MAX_POLL_BYTES = 16 << 20
"""Bytes after which a poll ends. It may exceed them by one record, and by the batch of that record."""


class TopicLogs:
    """The ids of the topics that one consumer reads, as `kafka-topics.sh --describe` shows them."""

    def __init__(self, consumer: Any, known: Mapping[str, str]) -> None:
        self._consumer = consumer
        self._known = {topic: log for topic, log in known.items() if log}

    @property
    def known(self) -> dict[str, str]:
        """The id of the log that is read, by topic; absent where the broker does not tell."""
        return dict(self._known)

    def of(self, topic: str) -> str:
        return self._known.get(topic, "")

    def adopt(self, topic: str) -> None:
        """Makes the current log of `topic` the one that is read."""
        self._known.pop(topic, None)
        self.recreated([topic])

    def recreated(self, topics: Iterable[str]) -> list[str]:
        """Returns those of `topics` that have another log than before; remembers the logs of those that had none."""
        recreated = []
        for topic in topics:
            log = self._log(topic)
            if log and self._known.setdefault(topic, log) != log:
                recreated.append(topic)
        return recreated

    def refresh(self) -> None:
        """Waits until the metadata is newer than the last lost connection. Raises the client's errors."""
        cluster = self._consumer._cluster
        if cluster.need_update:
            manager = self._consumer._manager
            self._consumer._net.run(manager.wait_for, cluster.request_update(), REFRESH_TIMEOUT_MS)

    def _log(self, topic: str) -> str:
        topic_id = self._consumer._cluster.topic_id(topic)
        if topic_id is None or topic_id.int == 0:
            return ""
        return base64.urlsafe_b64encode(topic_id.bytes).rstrip(b"=").decode()


class IdleFetches:
    """Sets how long the fetches of `consumer` wait. Belongs to the thread that polls."""

    def __init__(self, consumer: Any, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._options: dict[str, Any] = consumer._fetcher.config  # the library reads it for each fetch
        self._busy = {name: self._options[name] for name in ("fetch_min_bytes", "fetch_max_wait_ms")}
        wait_ms = max(IDLE_WAIT_MS, self._busy["fetch_max_wait_ms"])
        self._idle = {"fetch_min_bytes": 1, "fetch_max_wait_ms": wait_ms}
        self._clock_s = clock_s
        self._busy_until_s = clock_s() + IDLE_AFTER_S

    def note(self, has_records: bool) -> None:
        """Takes note of a poll that has ended."""
        now_s = self._clock_s()
        if has_records:
            self._busy_until_s = now_s + IDLE_AFTER_S
        self._options.update(self._idle if now_s >= self._busy_until_s else self._busy)


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
