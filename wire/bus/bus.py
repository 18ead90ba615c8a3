"""Makes everything that talks to one Kafka cluster, and sets the options of the client library."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, TypeVar, cast

from kafka import KafkaConsumer, KafkaProducer  # type: ignore[import-untyped]
from kafka.admin import KafkaAdminClient  # type: ignore[import-untyped]

from wire.bus import topics
from wire.bus.client import Client, ProducerClient
from wire.bus.client_errors import mapped
from wire.bus.end_offsets import fetched_ends
from wire.bus.follower import Follower
from wire.bus.publisher import Publisher, blaming_no_other, renewing_its_id
from wire.bus.reading import named, partitions_of
from wire.bus.security import address_of, security_options
from wire.bus.subscription import Subscription
from wire.config import BusConfig
from wire.errors import WireError
from wire.letters import MAX_LETTER_BYTES
from wire.records import TopicRecord, topic_name

R = TypeVar("R", bound=TopicRecord)

PING_TIMEOUT_MS = 2_000
MAX_POLL_INTERVAL_MS = 60_000  # a member that does not poll for this long holds up nobody any more
METADATA_AGE_MS = 5_000  # new partitions are seen after this long
PATIENT_BYTES = 64 << 10  # a patient reader's fetch that has as much does not wait any longer
FOLLOWED_BYTES = 512 << 10  # the most that a fetch of a follower brings, so that it reads all partitions side by side
PARTITION_BYTES = 128 << 10  # the same of one partition; Tansu gives the first of them all that a fetch may bring
RECONNECT_MS = (50, 1_000)  # first and longest pause between attempts; the client's own longest is 30 s


class Bus:
    """One Kafka cluster, under one client id. `close` closes everything that was made here."""

    def __init__(self, config: BusConfig, client_id: str) -> None:
        self._config = config
        self._client_id = client_id
        self._address = address_of(config)
        self._lock = threading.Lock()
        self._opened: list[Publisher | Subscription[Any] | Follower] = []

    def ping(self, timeout_ms: int = PING_TIMEOUT_MS) -> None:
        """BusUnavailable, naming the address, where no broker answers within `timeout_ms`."""
        self._open(KafkaAdminClient, wait_ms=timeout_ms).close()

    def create_topics(self) -> None:
        """Makes the topics that do not exist yet; those that do are left as they are."""
        admin = self._open(KafkaAdminClient)
        try:
            with mapped(self._config.bootstrap_servers):
                topics.create(admin, self._config)
        finally:
            admin.close()

    def publisher(self) -> Publisher:
        publisher = Publisher(self._producer, self._config)
        self._keep(publisher)
        return publisher

    def subscribe(self, record_type: type[R], group: str) -> Subscription[R]:
        """Joins `group`, whose members share the partitions of the topic of `record_type`."""
        consumer = self._consumer(
            group_id=f"{self._config.prefix}{group}",
            auto_offset_reset="earliest",
            fetch_max_wait_ms=self._config.fetch_max_wait_ms,
            session_timeout_ms=self._config.session_timeout_ms,
            heartbeat_interval_ms=self._config.heartbeat_interval_ms,
            max_poll_interval_ms=MAX_POLL_INTERVAL_MS,
        )
        topic = topic_name(self._config.prefix, cast(type[TopicRecord], record_type))
        with _closed_on_error(consumer):
            subscription = Subscription(consumer, record_type, topic, self._config, refused_by=self._client_id)
        self._keep(subscription)
        return subscription

    def follow(
        self,
        record_types: Sequence[type[TopicRecord]],
        offsets: Mapping[str, int],
        *,
        logs: Mapping[str, str] | None = None,
        is_patient: bool = False,
    ) -> Follower:
        """Reads all partitions of the topics of `record_types` from `offsets` (`topic/partition` -> next offset).

        A partition that is absent there is read from its start. `logs` are those that the offsets belong to, as a poll
        named them: LogReplaced where a topic has another one. Without them the log that is there is the one meant.

        A patient reader sees a record up to `patient_max_wait_ms` later and asks the broker less often, under load too:
        it takes a heap of them at a time.
        """
        types = {topic_name(self._config.prefix, record_type): record_type for record_type in record_types}
        wait_ms, num_bytes = (
            (self._config.patient_max_wait_ms, PATIENT_BYTES) if is_patient else (self._config.fetch_max_wait_ms, 1)
        )
        consumer = self._consumer(
            group_id=None,
            auto_offset_reset="none",
            fetch_max_wait_ms=wait_ms,
            fetch_min_bytes=num_bytes,
            max_partition_fetch_bytes=PARTITION_BYTES,
            fetch_max_bytes=FOLLOWED_BYTES,
        )
        servers = self._config.bootstrap_servers
        with _closed_on_error(consumer):
            known = logs if logs else {}
            follower = Follower(consumer, types, offsets, logs=known, servers=servers, refused_by=self._client_id)
        self._keep(follower)
        return follower

    def end_offsets(self, *record_types: type[TopicRecord]) -> dict[str, int]:
        """The offset that the next record of each partition will get, by `topic/partition`: `follow` from now."""
        consumer = self._consumer(group_id=None, auto_offset_reset="none")
        try:
            with mapped(self._config.bootstrap_servers):
                partitions = partitions_of(consumer, [topic_name(self._config.prefix, it) for it in record_types])
                return named(fetched_ends(consumer, partitions, timeout_s=1e-3 * self._config.request_timeout_ms))
        finally:
            consumer.close()

    def close(self, *, flush_s: float | None = None) -> None:
        """Closes what is still open: sends what is left, leaves the groups. When nobody polls any more.

        Each publisher has `flush_s` for that (None: its delivery timeout).
        """
        with self._lock:
            opened = self._opened
            self._opened = []
        with ExitStack() as closing:  # one that fails keeps no other from being closed
            for each in opened:
                closing.callback(partial(each.close, flush_s) if isinstance(each, Publisher) else each.close)

    def _keep(self, opened: Publisher | Subscription[Any] | Follower) -> None:
        with self._lock:
            self._opened = [*(each for each in self._opened if not each.is_closed), opened]

    def _producer(self) -> Any:
        producer = self._open(
            KafkaProducer,
            acks="all",
            enable_idempotence=True,
            linger_ms=self._config.linger_ms,
            delivery_timeout_ms=self._config.delivery_timeout_ms,
            max_block_ms=self._config.request_timeout_ms,
            max_request_size=MAX_LETTER_BYTES,
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )
        return blaming_no_other(renewing_its_id(producer))

    def _consumer(self, **options: Any) -> Any:
        return self._open(
            KafkaConsumer,
            enable_auto_commit=False,
            max_poll_records=self._config.max_poll_records,
            allow_auto_create_topics=False,
            metrics_enabled=False,
            **options,
        )

    def _open(self, client: Callable[..., Any], *, wait_ms: int | None = None, **options: Any) -> Any:
        nets: list[Any] = []

        def net(**configs: Any) -> Any:
            nets.append((ProducerClient if client is KafkaProducer else Client)(**configs))
            return nets[-1]

        try:
            security = security_options(self._config)
            with mapped(self._address):
                return client(
                    **security,
                    bootstrap_servers=self._config.bootstrap_servers.split(","),
                    client_id=self._client_id,
                    bootstrap_timeout_ms=self._config.request_timeout_ms if wait_ms is None else wait_ms,
                    request_timeout_ms=self._config.request_timeout_ms,
                    retry_backoff_ms=self._config.retry_backoff_ms,
                    reconnect_backoff_ms=RECONNECT_MS[0],
                    reconnect_backoff_max_ms=RECONNECT_MS[1],
                    metadata_max_age_ms=METADATA_AGE_MS,
                    kafka_client=net,
                    **options,
                )
        except WireError:
            for opened in nets:  # a client that found no broker leaves its thread running
                opened.close()
            raise


@contextmanager
def _closed_on_error(consumer: Any) -> Iterator[None]:
    try:
        yield
    except WireError:
        consumer.close()
        raise
