"""Creates the clients of one Kafka cluster, and determines the offsets at which reading begins and ends.

    Bus -> Publisher (any thread) | Subscription (a member of a group) | Follower (all partitions, from given offsets)
    read_all_records(bus, record_types): whole topics, from their start to their current end

The end offset of a partition is the offset that its next record will get. There are two sources for it, and the larger
value is right:

- The ListOffsets request is exact on Apache Kafka. Tansu 0.6 answers it with the start of the last batch plus one.
- The high watermark in the reply to a fetch is right on both brokers, but it is known only for partitions that were
  fetched, and it is as old as the last fetch.

The setting `bus.begin` determines the offsets at which a consumer group begins that has not committed any. These
offsets are committed before the first member joins, so that all members continue from them, also after a restart.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from typing import Any, TypeAlias, TypeVar, cast

from kafka.errors import CommitFailedError  # type: ignore[import-untyped]
from kafka.structs import OffsetAndMetadata  # type: ignore[import-untyped]

from wire.bus import topics
from wire.bus.client import Clients
from wire.bus.client_errors import map_errors
from wire.bus.client_options import render_address
from wire.bus.fetching import TopicLogs, raw_polls
from wire.bus.follower import Follower
from wire.bus.publisher import Publisher
from wire.bus.reading import by_name, list_partitions, partition_name, readings
from wire.bus.subscription import Subscription
from wire.bus.topics import Finding, examine
from wire.bus.transactions import TRANSACTION_TIMEOUT_MS, TransactionalPublisher
from wire.config import BusConfig
from wire.errors import WireError
from wire.records import LogMarks, TopicRecord
from wire.tasks import TaskNames
from wire.timestamps import from_rfc3339

R = TypeVar("R", bound=TopicRecord)

OpenClient: TypeAlias = Publisher | TransactionalPublisher | Subscription[Any] | Follower

PING_TIMEOUT_MS = 2_000
SCAN_POLL_MS = 200
QUIET_S = 3.0
"""A scan of a topic ends if the topic returns no records for this long, although it has lag: only gaps are left."""

MAX_POLL_INTERVAL_MS = 60_000
"""A member that does not poll for this long loses its partitions."""

FOLLOWED_BYTES = 512 << 10
"""Largest fetch of a follower: small, so that it reads all partitions concurrently."""

FETCHED_PARTITIONS = 4
"""The fewest partitions from which a full fetch comes: Tansu would fill the whole fetch from the first partition."""


def fetch_end_offsets(consumer: Any, partitions: Sequence[Any], *, timeout_s: float) -> dict[Any, int]:
    """Returns the end offsets of `partitions`.

    It fetches from each partition with `consumer`, for at most `timeout_s`. The consumer must not be used afterwards.
    """
    poll = raw_polls(consumer, TopicLogs(consumer))
    consumer.assign(partitions)
    for partition, offset in consumer.end_offsets(partitions).items():
        consumer.seek(partition, offset)
    deadline_s = time.monotonic() + timeout_s
    while any(consumer.highwater(partition) is None for partition in partitions) and time.monotonic() < deadline_s:
        poll(100)
    ends: dict[Any, int] = consumer.end_offsets(partitions)
    for partition in partitions:
        high_watermark = consumer.highwater(partition)
        if high_watermark is not None:
            ends[partition] = max(high_watermark, ends[partition])
    return ends


def fetch_offsets_at(consumer: Any, partitions: Sequence[Any], time_ms: int, *, timeout_s: float) -> dict[Any, int]:
    """Returns for each partition the offset of the first record that was logged at `time_ms` or later.

    For a partition without such a record it returns the end offset. Kafka answers None for such a partition; Tansu
    answers with the first offset and a time that is too early. The consumer must not be used afterwards.
    """
    answers = consumer.offsets_for_times(dict.fromkeys(partitions, max(time_ms, 0)))
    offsets: dict[Any, int] = {}
    for partition, answer in answers.items():
        if answer is not None and answer.timestamp >= time_ms:
            offsets[partition] = answer.offset
    missing = [partition for partition in partitions if partition not in offsets]
    if missing:
        offsets |= fetch_end_offsets(consumer, missing, timeout_s=timeout_s)
    return offsets


def commit_start_offsets(consumer: Any, topics: Iterable[str], offsets: Callable[[], Mapping[str, int]]) -> None:
    """Commits the offsets that `offsets` returns, in the partitions in which the group has not committed any.

    `offsets` returns `topic/partition` -> next offset.
    """
    start = offsets()
    if not start:
        return
    new = [partition for partition in list_partitions(consumer, topics) if consumer.committed(partition) is None]
    if not new:
        return
    begin = {partition: start[partition_name(partition)] for partition in new if partition_name(partition) in start}
    # The commit fails if the group has members already: they have committed these offsets.
    with suppress(CommitFailedError):
        consumer.commit({partition: OffsetAndMetadata(offset, "", -1) for partition, offset in begin.items()})


def start_offsets(bus: "Bus", begin: str, record_types: Sequence[type[TopicRecord]]) -> dict[str, int]:
    """Returns `topic/partition` -> the offset at which to begin; {} means the start of each log.

    `begin` is "earliest", "latest" or an RFC 3339 time.
    """
    if begin == "earliest":
        return {}
    if begin == "latest":
        return bus.end_offsets(*record_types)
    offsets: dict[str, int] = {}
    for record_type in record_types:
        offsets |= bus.offsets_at(record_type, from_rfc3339(begin))
    return offsets


class Bus:
    """One Kafka cluster, accessed under one client id. `close` closes every client that it has created.

    If `tasks` is set, records for other tasks are refused, and followers return only records of the reader's task.
    """

    def __init__(self, config: BusConfig, client_id: str, *, tasks: TaskNames | None = None) -> None:
        self._config = config
        self._request_timeout_s = 1e-3 * config.client_number("request_timeout_ms")
        self._tasks = tasks
        self._client_id = client_id
        self._address = render_address(config)
        self._clients = Clients(config, client_id)
        self._lock = threading.Lock()
        self._opened: list[OpenClient] = []

    def ping(self, timeout_ms: int = PING_TIMEOUT_MS) -> None:
        """Raises BusUnavailable with the address if no broker answers within `timeout_ms`."""
        self._clients.admin(timeout_ms).close()

    def create_topics(self) -> list[str]:
        """Creates the topics that do not exist and returns their names. Existing topics are not changed. Idempotent."""
        with self._admin() as admin:
            return topics.create(admin, self._config)

    def grow_topics(self) -> dict[str, int]:
        """Adds partitions to our topics up to `bus.partitions`; returns the former number of each topic that grew."""
        with self._admin() as admin:
            return topics.grow(admin, self._config)

    def remove_topics(self, group: str, *, wait_ms: int | None = None) -> None:
        """Removes the topics of our prefix with all their records, and the consumer group `group` (`topics.remove`)."""
        with self._admin(wait_ms) as admin:
            topics.remove(admin, self._config, group)

    def check_topics(
        self,
        reads: Sequence[type[TopicRecord]],
        writes: Sequence[type[TopicRecord]],
        *,
        may_write: Sequence[type[TopicRecord]] = (),
        wait_ms: int | None = None,
    ) -> list[Finding]:
        """Returns the findings about the topics that a program reads and writes (see `examine`).

        Findings about topics that only `may_write` names are notes: no program needs these topics.
        """
        uses: dict[str, dict[str, bool]] = {name: {"read": True} for name in readings(self._config, reads)}
        for record in (*may_write, *writes):
            uses.setdefault(self._config.topic_for(record), {})["write"] = record in writes
        with self._admin(wait_ms) as admin:
            return examine(admin, self._config, uses)

    def publisher(self) -> Publisher:
        publisher = Publisher(self._clients.producer, self._config)
        self._register(publisher)
        return publisher

    def transactions(self) -> TransactionalPublisher:
        """Returns a publisher that commits records together with offsets.

        Only one of them is valid for a client id: when a new one is opened, the broker rejects the old one.
        """
        publisher = TransactionalPublisher(
            partial(
                self._clients.producer,
                transactional_id=f"{self._config.prefix}{self._client_id}",
                transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            ),
            self._config,
        )
        self._register(publisher)
        return publisher

    def subscribe(self, record_type: type[R], group: str, *, commits_itself: bool = True) -> Subscription[R]:
        """Joins `group`, whose members share the partitions of the topic of `record_type`.

        If `commits_itself` is false, transactions commit the offsets. The member then begins only after open
        transactions have ended.
        """
        consumer = self._clients.consumer(
            isolation_level="read_uncommitted" if commits_itself else "read_committed",
            group_id=f"{self._config.prefix}{group}",
            auto_offset_reset="none",
            fetch_max_wait_ms=self._config.client_number("fetch_max_wait_ms"),
            fetch_min_bytes=self._config.client_number("fetch_min_bytes"),
            session_timeout_ms=self._config.client_number("session_timeout_ms"),
            heartbeat_interval_ms=self._config.client_number("heartbeat_interval_ms"),
            max_poll_interval_ms=MAX_POLL_INTERVAL_MS,
        )
        with _closed_on_error(consumer):
            topics = readings(self._config, [record_type], self._tasks)
            with map_errors(self._address):
                commit_start_offsets(
                    consumer, topics, partial(self.begin_offsets, cast("type[TopicRecord]", record_type))
                )
            subscription = Subscription(
                consumer, topics, self._config, refused_by=self._client_id, commits_itself=commits_itself
            )
        self._register(subscription)
        return subscription

    def follow(
        self,
        record_types: Sequence[type[TopicRecord]],
        offsets: Mapping[str, int],
        *,
        marks: LogMarks | None = None,
        is_patient: bool = False,
        fetch_bytes: int = FOLLOWED_BYTES,
    ) -> Follower:
        """Reads all partitions of the topics of `record_types` from `offsets` (`topic/partition` -> next offset).

        A partition without an offset is read from its start. `marks` are the marks that an earlier poll returned with
        the offsets. The follower compares them with the logs, so that it notices a log that was recreated or has lost
        records, and knows which records it has read.

        Under load, a fetch waits for `fetch_max_wait_ms` and returns all records of that time. If `is_patient`, it
        waits for `patient_max_wait_ms`, so there are fewer fetches, which saves the broker and the reader work. A fetch
        has at most about `fetch_bytes`.
        """
        wait_ms = self._config.patient_max_wait_ms if is_patient else self._config.client_number("fetch_max_wait_ms")
        consumer = self._clients.consumer(
            group_id=None,
            auto_offset_reset="none",
            fetch_max_wait_ms=wait_ms,
            fetch_min_bytes=self._config.client_number("fetch_min_bytes"),
            max_partition_fetch_bytes=fetch_bytes // FETCHED_PARTITIONS,
            fetch_max_bytes=fetch_bytes,
        )
        servers = self._config.bootstrap_servers
        with _closed_on_error(consumer):
            follower = Follower(
                consumer,
                readings(self._config, record_types, self._tasks),
                offsets,
                marks=marks or {},
                servers=servers,
                refused_by=self._client_id,
                tasks=self._tasks,
            )
        self._register(follower)
        return follower

    def end_offsets(self, *record_types: type[TopicRecord]) -> dict[str, int]:
        """Returns `topic/partition` -> end offset. If `follow` begins at these offsets, it reads only new records."""
        with self._open_consumer() as consumer:
            partitions = list_partitions(consumer, readings(self._config, record_types))
            return by_name(fetch_end_offsets(consumer, partitions, timeout_s=self._request_timeout_s))

    def offsets_at(self, record_type: type[TopicRecord], time_ms: int) -> dict[str, int]:
        """Returns, by `topic/partition`, the offset of the first record that was logged at `time_ms` or later.

        For a partition without such a record it returns the end offset.
        """
        with self._open_consumer() as consumer:
            partitions = list_partitions(consumer, readings(self._config, [record_type]))
            return by_name(fetch_offsets_at(consumer, partitions, time_ms, timeout_s=self._request_timeout_s))

    def begin_offsets(self, *record_types: type[TopicRecord]) -> dict[str, int]:
        """Returns the offsets at which the setting `bus.begin` says to begin (see `start_offsets`)."""
        return start_offsets(self, self._config.begin, record_types)

    def close(self, *, flush_s: float | None = None) -> None:
        """Closes every open client: flushes the publishers and leaves the groups. No thread may poll any more.

        Flushing a publisher may take `flush_s` (None: its delivery timeout).
        """
        with self._lock:
            opened = self._opened
            self._opened = []
        # The stack closes all clients, even if closing one of them raises an error.
        with ExitStack() as stack:
            for client in opened:
                if isinstance(client, Publisher):
                    stack.callback(client.close, flush_s)
                else:
                    stack.callback(client.close)

    @contextmanager
    def _open_consumer(self) -> Iterator[Any]:
        """Opens a consumer without a group for requests about offsets, and closes it afterwards."""
        consumer = self._clients.consumer(group_id=None, auto_offset_reset="none")
        try:
            with map_errors(self._config.bootstrap_servers):
                yield consumer
        finally:
            consumer.close()

    @contextmanager
    def _admin(self, wait_ms: int | None = None) -> Iterator[Any]:
        admin = self._clients.admin(wait_ms)
        try:
            with map_errors(self._config.bootstrap_servers):
                yield admin
        finally:
            admin.close()

    def _register(self, client: OpenClient) -> None:
        with self._lock:
            self._opened = [opened for opened in self._opened if not opened.is_closed]
            self._opened.append(client)


@contextmanager
def _closed_on_error(consumer: Any) -> Iterator[None]:
    try:
        yield
    except WireError:
        consumer.close()
        raise


def read_all_records(
    bus: Bus, record_types: Sequence[type[TopicRecord]], *, until: Mapping[str, int] | None = None
) -> Iterator[Any]:
    """Yields all records of the topics of `record_types`, in the order of each partition.

    Of a partition in `until` (`topic/partition` -> offset), it yields only the records below the offset.

    consumes: records of the topics; produces: records; waits for: the broker; unblocked by: the end of the topics
    """
    ends = until or {}
    with closing(bus.follow(record_types, {})) as follower:
        last_received_s = time.monotonic()
        while True:
            received = follower.poll(SCAN_POLL_MS).received
            for message in received:
                end = ends.get(partition_name(message.position))
                if end is None or message.position.offset < end:
                    yield message.record
            if received:
                last_received_s = time.monotonic()
            elif not follower.lag() or time.monotonic() - last_received_s > QUIET_S:
                return
