"""Sends records: bounded, idempotent, acknowledged by every in-sync replica (acks=all).

    record -> message -> [in flight, bounded in number and bytes] -> the broker -> on_ack(None), or on_ack(SendFailed)

The client library retries a message until it is acknowledged or its delivery timeout is over. After some errors its
producer is in a fatal state and refuses every record, for example if a broker has lost its data and does not know the
producer id any more. Then a new producer replaces it.

The library does not bound the memory of its send buffer, so `InFlight` makes senders wait while too many records or
bytes are unacknowledged.
"""

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import structlog
from kafka.errors import (  # type: ignore[import-untyped]
    AuthorizationError,
    InvalidRecordError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    RetriableError,
)

from wire.bus.client_errors import RIGHTS_FIX, map_errors, to_wire_error, topic_missing
from wire.config import BusConfig
from wire.dead_letters import ENCODING_ERRORS
from wire.envelope import to_message
from wire.errors import BusRefused, BusUnavailable, SendFailed, WireError
from wire.mapping import AnswerFields
from wire.message import Message, quote_text
from wire.records import TopicRecord

OnAck = Callable[[Exception | None], None]

PERMANENT_ERRORS = (InvalidRecordError, MessageSizeTooLargeError, RecordListTooLargeError, *ENCODING_ERRORS)
"""Errors that the record itself causes. Other causes, such as a missing topic, can be fixed while the record waits."""

MESSAGE_OVERHEAD_BYTES = 500
"""Memory of a message in addition to its key, its value and its headers."""

REPLACE_TIMEOUT_S = 1.0
"""Time to close a producer that is in a fatal state."""

log = structlog.get_logger("bus")


class InFlight:
    """A semaphore that admits `max_records` records with a total of `max_bytes` bytes. Any thread may call.

    If nothing is in flight, one record of any size is admitted.
    """

    def __init__(self, *, max_records: int, max_bytes: int) -> None:
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._changed = threading.Condition()
        self._num_records = 0
        self._num_bytes = 0

    def acquire(self, num_bytes: int, timeout_s: float) -> bool:
        """Waits until a record of `num_bytes` is admitted; returns False after `timeout_s`."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._has_room(num_bytes), timeout_s):
                return False
            self._num_records += 1
            self._num_bytes += num_bytes
            return True

    def release(self, num_bytes: int) -> None:
        """Releases the space of a record of `num_bytes` that was acknowledged, has failed or was not accepted."""
        with self._changed:
            self._num_records -= 1
            self._num_bytes -= num_bytes
            self._changed.notify_all()

    def _has_room(self, num_bytes: int) -> bool:
        if self._num_records == 0:
            return True
        return self._num_records < self._max_records and self._num_bytes + num_bytes <= self._max_bytes


def close_producer(producer: Any, timeout_s: float) -> None:
    """Flushes and closes `producer`, and always ends its thread. Raises KafkaError after `timeout_s`.

    If the flush times out, `close` of kafka-python 3.0.12 raises before it closes anything: the thread would run for
    ever, and the finalizer would flush once more.
    """
    try:
        producer.close(timeout=timeout_s)
    except KafkaError:
        producer._sender.force_close()
        producer._closed = True
        raise


class Publisher:
    """Sends records from any thread. Retries are idempotent, and the order within a partition is kept.

    `open_producer` opens a producer of kafka-python.
    """

    def __init__(self, open_producer: Callable[[], Any], config: BusConfig) -> None:
        self._open_producer = open_producer
        self._producer = open_producer()
        # Guards the replacement of the producer.
        self._lock = threading.Lock()
        self._servers = config.bootstrap_servers
        self._config = config
        self._answer_fields = AnswerFields(config.map.answers)
        self._delivery_timeout_s = 1e-3 * config.client_number("delivery_timeout_ms")
        self._in_flight = InFlight(max_records=config.max_in_flight, max_bytes=config.max_in_flight_bytes)
        self.is_closed = False

    def send(self, record: TopicRecord, on_ack: OnAck | None = None) -> None:
        """Passes `record` to the client; blocks while the bounds `max_in_flight` or `max_in_flight_bytes` are reached.

        After `send` has returned, `on_ack` is called exactly once, from a thread of the client: with None when all
        in-sync replicas have the record, with SendFailed otherwise. It must return quickly and must not send.

        `send` raises only BusUnavailable or SendFailed. Then the record was not accepted, and `on_ack` is not called.
        """
        message = self._encode(record)
        num_bytes = _message_bytes(message)
        if not self._in_flight.acquire(num_bytes, timeout_s=2 * self._delivery_timeout_s):
            raise BusUnavailable(f"Kafka at {self._servers} does not acknowledge records any more: check the brokers")
        try:
            future = self._enqueue(record, message)
        except WireError:
            self._in_flight.release(num_bytes)
            raise
        future.add_callback(lambda _: self._complete(num_bytes, on_ack, None))
        future.add_errback(lambda error: self._complete(num_bytes, on_ack, _send_failed(record, error)))

    def prepare(self, record_type: type[TopicRecord]) -> None:
        """Fetches the metadata of the topic of `record_type`, so that the first record need not wait for them.

        Raises BusUnavailable.
        """
        with map_errors(self._servers):
            self._producer.partitions_for(self._config.topic_for(record_type))

    def send_all(self, records: Iterable[TopicRecord], timeout_s: float) -> None:
        """Sends `records` and returns when the broker has all of them.

        If some fail, it raises the first error after every record was acknowledged or has failed.
        """
        failures: list[Exception] = []
        for record in records:
            self.send(record, lambda error: failures.append(error) if error else None)
        self.flush(timeout_s)
        if failures:
            raise failures[0]

    def flush(self, timeout_s: float) -> None:
        """Returns when every record was acknowledged or has failed. Raises BusUnavailable after `timeout_s` seconds."""
        with map_errors(self._servers):
            self._producer.flush(timeout_s)

    def close(self, timeout_s: float | None = None) -> None:
        """Flushes for at most `timeout_s` (None: the delivery timeout) and closes the producer. Idempotent.

        Raises BusUnavailable if the flush times out: records that were not acknowledged by then have failed.
        """
        if self.is_closed:
            return
        self.is_closed = True
        if timeout_s is None:
            timeout_s = self._delivery_timeout_s
        with map_errors(self._servers):
            close_producer(self._producer, timeout_s)

    def _enqueue(self, record: TopicRecord, message: Message) -> Any:
        topic = self._config.topic_for(type(record))
        try:
            producer = self._working_producer()
        except BusRefused as error:
            raise SendFailed(_render_failure(record, error)) from error
        try:
            return producer.send(
                topic,
                key=message.key,
                value=message.value,
                headers=list(message.headers),
            )
        except RetriableError as error:
            if producer._metadata.partitions_for_topic(topic) is None:
                raise topic_missing(self._servers, [topic]) from error
            raise to_wire_error(self._servers, error) from error
        except KafkaError as error:
            raise _send_failed(record, error) from error
        except ValueError as error:
            # The topic was deleted.
            raise SendFailed(_render_failure(record, error)) from error

    def _encode(self, record: TopicRecord) -> Message:
        try:
            return to_message(record, self._answer_fields.of(record))
        except ENCODING_ERRORS as error:
            raise _send_failed(record, error) from error

    def _working_producer(self) -> Any:
        with self._lock:
            if self._producer._transaction_manager.has_fatal_error():
                log.warning("producer_replaced")
                with suppress(KafkaError):
                    close_producer(self._producer, REPLACE_TIMEOUT_S)
                self._producer = self._open_producer()
            return self._producer

    def _complete(self, num_bytes: int, on_ack: OnAck | None, error: SendFailed | None) -> None:
        try:
            if on_ack is not None:
                on_ack(error)
        finally:
            self._in_flight.release(num_bytes)


def _message_bytes(message: Message) -> int:
    """Returns the bytes that the client keeps for a message until it is acknowledged."""
    parts = (message.key, message.value, *(value for _, value in message.headers))
    return MESSAGE_OVERHEAD_BYTES + sum(len(part) for part in parts if part)


def _send_failed(record: TopicRecord, error: Exception) -> SendFailed:
    failed = SendFailed(_render_failure(record, error), is_permanent=isinstance(error, PERMANENT_ERRORS))
    failed.__cause__ = error
    return failed


def _render_failure(record: TopicRecord, error: Exception) -> str:
    fix = f" ({RIGHTS_FIX})" if isinstance(error, AuthorizationError) else ""
    return f"{type(record).__name__} {quote_text(str(record.message_id))}: {error}{fix}"
