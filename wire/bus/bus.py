"""Makes the clients of one Kafka cluster, and says where its logs begin and end for us.

    Bus -> Publisher (any thread) | Subscription (a member of a group) | Follower (all partitions, from given offsets)
    every_record(bus, record_types): whole topics, from their start to their current end

The end offset of a partition, the one that its next record will get, has two sources, and the larger value is right.
The ListOffsets request is exact on Apache Kafka, but Tansu 0.6 answers with the start of the last batch plus one. The
high watermark in every fetch is right on both, but known only for partitions that were fetched, and as old as the last
fetch.

A consumer group that has committed nothing begins at the offsets that `bus.begin` stands for. They are committed before
the first member joins, so that all members, and those of a later start, go on from there.
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
from wire.bus.client_errors import mapped
from wire.bus.client_options import address_of
from wire.bus.fetching import TopicLogs, raw_polls
from wire.bus.follower import Follower
from wire.bus.publisher import Publisher
from wire.bus.reading import by_name, partition_name, partitions_of, readings
from wire.bus.subscription import Subscription
from wire.bus.topics import Finding, examine
from wire.bus.transactions import TRANSACTION_TIMEOUT_MS, TransactionalPublisher
from wire.config import BusConfig
from wire.errors import WireError
from wire.records import LogMarks, TopicRecord
from wire.tasks import TaskNames
from wire.timestamps import from_rfc3339

R = TypeVar("R", bound=TopicRecord)

Opened: TypeAlias = Publisher | TransactionalPublisher | Subscription[Any] | Follower

PING_TIMEOUT_MS = 2_000
SCAN_POLL_MS = 200
QUIET_S = 3.0
"""A topic with lag that returns nothing for this long has no more records for us: only gaps are left."""

MAX_POLL_INTERVAL_MS = 60_000  # a member that does not poll for this long loses its partitions
FOLLOWED_BYTES = 512 << 10  # largest fetch of a follower, so that it reads all partitions concurrently
PARTITION_BYTES = 128 << 10  # the same for one partition; Tansu fills a fetch from the first one alone


def fetched_ends(consumer: Any, partitions: Sequence[Any], *, timeout_s: float) -> dict[Any, int]:
    """Returns the end offsets of `partitions`. Uses up `consumer`: it fetches from each, for at most `timeout_s`."""
    poll = raw_polls(consumer, TopicLogs(consumer, known={}))
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


def offsets_at(consumer: Any, partitions: Sequence[Any], time_ms: int, *, timeout_s: float) -> dict[Any, int]:
    """Returns the offset of the first record logged at `time_ms` or later; the end of partitions that have none.

    Of these Kafka says that it has none, and Tansu answers with the first offset and a time that is too early. Uses up
    `consumer` like `fetched_ends`.
    """
    found = consumer.offsets_for_times(dict.fromkeys(partitions, max(time_ms, 0)))
    offsets = {each: at.offset for each, at in found.items() if at is not None and at.timestamp >= time_ms}
    missing = [each for each in partitions if each not in offsets]
    return offsets | (fetched_ends(consumer, missing, timeout_s=timeout_s) if missing else {})


def begin_group(consumer: Any, topics: Iterable[str], offsets: Callable[[], Mapping[str, int]]) -> None:
    """Commits `offsets` (`topic/partition` -> next offset) for the partitions for which the group has none."""
    found = offsets()
    new = [each for each in partitions_of(consumer, topics if found else ()) if consumer.committed(each) is None]
    if not new:
        return
    begin = {each: found[partition_name(each)] for each in new if partition_name(each) in found}
    with suppress(CommitFailedError):  # the group has members: they have done it
        consumer.commit({partition: OffsetAndMetadata(offset, "", -1) for partition, offset in begin.items()})


def beginning(bus: "Bus", begin: str, record_types: Sequence[type[TopicRecord]]) -> dict[str, int]:
    """Returns the offsets that `begin` stands for, by `topic/partition`; none where it is the start of each log."""
    if begin == "earliest":
        return {}
    if begin == "latest":
        return bus.end_offsets(*record_types)
    offsets: dict[str, int] = {}
    for record_type in record_types:
        offsets |= bus.offsets_at(record_type, from_rfc3339(begin))
    return offsets


class Bus:
    """One Kafka cluster, accessed under one client id. `close` closes every client that was made here.

    With `tasks`, what is for none of them is refused, and followers give the records of the reader's task alone.
    """

    def __init__(self, config: BusConfig, client_id: str, *, tasks: TaskNames | None = None) -> None:
        self._config = config
        self._request_timeout_s = 1e-3 * config.client_number("request_timeout_ms")
        self._tasks = tasks
        self._client_id = client_id
        self._address = address_of(config)
        self._clients = Clients(config, client_id)
        self._lock = threading.Lock()
        self._opened: list[Opened] = []

    def ping(self, timeout_ms: int = PING_TIMEOUT_MS) -> None:
        """Raises BusUnavailable, naming the address, where no broker answers within `timeout_ms`."""
        self._clients.admin(timeout_ms).close()

    def create_topics(self) -> list[str]:
        """Creates the topics that do not exist, and returns them; existing ones are left as they are. Idempotent."""
        with self._admin() as admin:
            return topics.create(admin, self._config)

    def grow_topics(self) -> dict[str, int]:
        """Adds partitions to our topics up to `bus.partitions`; returns how many each of them had."""
        with self._admin() as admin:
            return topics.grow(admin, self._config)

    def remove_topics(self, group: str, *, wait_ms: int | None = None) -> None:
        """Removes the topics of our prefix with all their records, and the consumer group `group` (see `remove`)."""
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
        """Returns what is wrong, or to note, about the topics of these records (see `examine`).

        What is found about `may_write`, which no program needs, is a note.
        """
        uses: dict[str, dict[str, bool]] = {name: {"read": True} for name in readings(self._config, reads)}
        for record in (*may_write, *writes):
            uses.setdefault(self._config.topic_of(record), {})["write"] = record in writes
        with self._admin(wait_ms) as admin:
            return examine(admin, self._config, uses)

    def publisher(self) -> Publisher:
        publisher = Publisher(self._clients.producer, self._config)
        self._register(publisher)
        return publisher

    def transactions(self) -> TransactionalPublisher:
        """Returns a publisher that commits offsets with what it sends. One of a client id ends that before it."""
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

        Where it does not commit itself, it begins at what transactions have committed, once they have ended.
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
            with mapped(self._address):
                begin_group(consumer, topics, partial(self.begin_offsets, cast("type[TopicRecord]", record_type)))
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
    ) -> Follower:
        """Reads all partitions of the topics of `record_types` from `offsets` (`topic/partition` -> next offset).

        A partition without an offset is read from its start. `marks` are those that an earlier poll returned with the
        offsets: by them a log that is another one now, or has lost records, is noticed, and what was read is known.

        Under load each fetch returns the records of `fetch_max_wait_ms`, and that of a patient reader those of
        `patient_max_wait_ms`: fewer fetches spare the broker and the reader more than the wait costs.
        """
        wait_ms = self._config.patient_max_wait_ms if is_patient else self._config.client_number("fetch_max_wait_ms")
        consumer = self._clients.consumer(
            group_id=None,
            auto_offset_reset="none",
            fetch_max_wait_ms=wait_ms,
            fetch_min_bytes=self._config.client_number("fetch_min_bytes"),
            max_partition_fetch_bytes=PARTITION_BYTES,
            fetch_max_bytes=FOLLOWED_BYTES,
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
        """Returns the offset of the next record of each partition by `topic/partition`, to `follow` from now on."""
        with self._open_consumer() as consumer:
            partitions = partitions_of(consumer, readings(self._config, record_types))
            return by_name(fetched_ends(consumer, partitions, timeout_s=self._request_timeout_s))

    def offsets_at(self, record_type: type[TopicRecord], time_ms: int) -> dict[str, int]:
        """Returns the offset of the first record logged at `time_ms` or later, else of the next one, by partition."""
        with self._open_consumer() as consumer:
            partitions = partitions_of(consumer, readings(self._config, [record_type]))
            return by_name(offsets_at(consumer, partitions, time_ms, timeout_s=self._request_timeout_s))

    def begin_offsets(self, *record_types: type[TopicRecord]) -> dict[str, int]:
        """Returns where `bus.begin` says to begin (see `beginning`)."""
        return beginning(self, self._config.begin, record_types)

    def close(self, *, flush_s: float | None = None) -> None:
        """Closes what is still open: flushes the publishers, leaves the groups. Call it when nobody polls any more.

        Each publisher may take `flush_s` (None: its delivery timeout).
        """
        with self._lock:
            opened = self._opened
            self._opened = []
        with ExitStack() as closing:  # an error of one does not keep the others from being closed
            for each in opened:
                close: Callable[[], None] = partial(each.close, flush_s) if isinstance(each, Publisher) else each.close
                closing.callback(close)

    @contextmanager
    def _open_consumer(self) -> Iterator[Any]:
        """Opens a consumer without a group, which is asked for offsets and closed."""
        consumer = self._clients.consumer(group_id=None, auto_offset_reset="none")
        try:
            with mapped(self._config.bootstrap_servers):
                yield consumer
        finally:
            consumer.close()

    @contextmanager
    def _admin(self, wait_ms: int | None = None) -> Iterator[Any]:
        admin = self._clients.admin(wait_ms)
        try:
            with mapped(self._config.bootstrap_servers):
                yield admin
        finally:
            admin.close()

    def _register(self, opened: Opened) -> None:
        with self._lock:
            self._opened = [*(each for each in self._opened if not each.is_closed), opened]


@contextmanager
def _closed_on_error(consumer: Any) -> Iterator[None]:
    try:
        yield
    except WireError:
        consumer.close()
        raise


def every_record(bus: Bus, record_types: Sequence[type[TopicRecord]]) -> Iterator[Any]:
    """Yields all records of the topics of `record_types`, in the order of each partition.

    consumes: the topics; produces: records; waits for: the broker; unblocked by: the end of the topics
    """
    with closing(bus.follow(record_types, {})) as follower:
        last_received_s = time.monotonic()
        while True:
            received = follower.poll(SCAN_POLL_MS).received
            yield from (each.record for each in received)
            if received:
                last_received_s = time.monotonic()
            elif not follower.lag() or time.monotonic() - last_received_s > QUIET_S:
                return
