"""Sends records: bounded, idempotent, acknowledged by every in-sync replica (acks=all).

    record -> message -> [in flight, bounded in number and bytes] -> the broker -> on_ack(None), or on_ack(SendFailed)

The client library sends a message again until it is acknowledged, or has failed after its delivery timeout. After some
errors its producer refuses every record for ever, for example if a broker that lost its memory does not know the
producer id any more. Then a new producer takes its place.

The library does not bound the memory of its send buffer: `InFlight` makes senders wait while too much is
unacknowledged.
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

from wire.bus.client_errors import RIGHTS_FIX, mapped, mapped_error, topic_missing
from wire.config import BusConfig
from wire.envelope import to_message
from wire.errors import BusRefused, BusUnavailable, SendFailed, WireError
from wire.letters import ENCODING_ERRORS
from wire.mapping import AnswerFields
from wire.message import Message, shown
from wire.records import TopicRecord

OnAck = Callable[[Exception | None], None]

PERMANENT_ERRORS = (InvalidRecordError, MessageSizeTooLargeError, RecordListTooLargeError, *ENCODING_ERRORS)
"""Errors that the record itself causes. Rights, missing topics and clocks can be corrected while it waits."""

MESSAGE_BYTES = 500  # memory of a message besides its key, its value and its headers
REPLACE_TIMEOUT_S = 1.0  # how long closing a producer in a fatal state may take

log = structlog.get_logger("bus")


class InFlight:
    """A counting semaphore over `max_records` records of together `max_bytes` bytes. Any thread may call.

    Where nothing is in flight, one record is always admitted, however large it is.
    """

    def __init__(self, *, max_records: int, max_bytes: int) -> None:
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._changed = threading.Condition()
        self._num_records = 0
        self._num_bytes = 0

    def enter(self, num_bytes: int, timeout_s: float) -> bool:
        """Waits until a record of `num_bytes` is admitted; False where it is not after `timeout_s`."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._has_room(num_bytes), timeout_s):
                return False
            self._num_records += 1
            self._num_bytes += num_bytes
            return True

    def leave(self, num_bytes: int) -> None:
        """Releases the room of a record of `num_bytes` that was acknowledged, has failed or was not accepted."""
        with self._changed:
            self._num_records -= 1
            self._num_bytes -= num_bytes
            self._changed.notify_all()

    def _has_room(self, num_bytes: int) -> bool:
        if self._num_records == 0:
            return True
        return self._num_records < self._max_records and self._num_bytes + num_bytes <= self._max_bytes


def end_producer(producer: Any, timeout_s: float) -> None:
    """Flushes and closes `producer`. Raises KafkaError where that took too long, and ends its thread all the same.

    kafka-python 3.0.12 leaves a flush that timed out before it closes anything: its thread would send for ever.
    """
    try:
        producer.close(timeout=timeout_s)
    except KafkaError:
        producer._sender.force_close()
        raise


class Publisher:
    """Sends records, from any thread. Retries are idempotent, and the order within a partition is kept."""

    def __init__(self, open_producer: Callable[[], Any], config: BusConfig) -> None:
        self._open_producer = open_producer
        self._producer = open_producer()
        self._lock = threading.Lock()  # guards the replacement of the producer
        self._servers = config.bootstrap_servers
        self._config = config
        self._answer_fields = AnswerFields(config.map.answers)
        self._delivery_timeout_s = 1e-3 * config.client_number("delivery_timeout_ms")
        self._in_flight = InFlight(max_records=config.max_in_flight, max_bytes=config.max_in_flight_bytes)
        self.is_closed = False

    def send(self, record: TopicRecord, on_ack: OnAck | None = None) -> None:
        """Passes `record` to the client; blocks while as much is unacknowledged as the settings allow.

        After it has returned, `on_ack` is called exactly once, from a thread of the client: with None when the replicas
        have the record, with SendFailed otherwise. It must be quick and must not send. BusUnavailable or SendFailed
        raised here mean that the record was not accepted, and `on_ack` will not be called. Nothing else is raised.
        """
        message = self._encoded(record)
        num_bytes = _size_of(message)
        if not self._in_flight.enter(num_bytes, timeout_s=2 * self._delivery_timeout_s):
            raise BusUnavailable(f"{self._servers} acknowledges nothing any more")
        try:
            future = self._enqueue(record, message)
        except WireError:
            self._in_flight.leave(num_bytes)
            raise
        future.add_callback(lambda _: self._complete(num_bytes, on_ack, None))
        future.add_errback(lambda error: self._complete(num_bytes, on_ack, _send_failed(record, error)))

    def prepare(self, record_type: type[TopicRecord]) -> None:
        """Asks which broker has the topic of these records, so that the first of them need not wait for it.

        Raises BusUnavailable.
        """
        with mapped(self._servers):
            self._producer.partitions_for(self._config.topic_of(record_type))

    def send_all(self, records: Iterable[TopicRecord], timeout_s: float) -> None:
        """Sends `records`; returns when the broker has all of them. Raises the first failure, once all have an end."""
        failures: list[Exception] = []
        for record in records:
            self.send(record, lambda error: failures.append(error) if error else None)
        self.flush(timeout_s)
        if failures:
            raise failures[0]

    def flush(self, timeout_s: float) -> None:
        """Returns once every record was acknowledged or has failed. Raises BusUnavailable after `timeout_s` seconds."""
        with mapped(self._servers):
            self._producer.flush(timeout_s)

    def close(self, timeout_s: float | None = None) -> None:
        """Flushes for at most `timeout_s` (None: the delivery timeout) and ends the producer. Idempotent.

        Raises BusUnavailable where the time was too short: what was not acknowledged by then has failed.
        """
        if self.is_closed:
            return
        self.is_closed = True
        with mapped(self._servers):
            end_producer(self._producer, self._delivery_timeout_s if timeout_s is None else timeout_s)

    def _enqueue(self, record: TopicRecord, message: Message) -> Any:
        topic = self._config.topic_of(type(record))
        try:
            producer = self._working_producer()
        except BusRefused as error:
            raise SendFailed(_failure_of(record, error)) from error
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
            raise mapped_error(self._servers, error) from error
        except KafkaError as error:
            raise _send_failed(record, error) from error
        except ValueError as error:  # the topic is gone
            raise SendFailed(_failure_of(record, error)) from error

    def _encoded(self, record: TopicRecord) -> Message:
        try:
            return to_message(record, self._answer_fields.of(record))
        except ENCODING_ERRORS as error:
            raise _send_failed(record, error) from error

    def _working_producer(self) -> Any:
        with self._lock:
            if self._producer._transaction_manager.has_fatal_error():
                log.warning("producer_replaced")
                with suppress(KafkaError):
                    end_producer(self._producer, REPLACE_TIMEOUT_S)
                self._producer = self._open_producer()
            return self._producer

    def _complete(self, num_bytes: int, on_ack: OnAck | None, error: SendFailed | None) -> None:
        try:
            if on_ack is not None:
                on_ack(error)
        finally:
            self._in_flight.leave(num_bytes)


def _size_of(message: Message) -> int:
    """Returns the bytes that the client holds for a message until it is acknowledged."""
    parts = (message.key, message.value, *(value for _, value in message.headers))
    return MESSAGE_BYTES + sum(len(part) for part in parts if part)


def _send_failed(record: TopicRecord, error: Exception) -> SendFailed:
    failed = SendFailed(_failure_of(record, error), is_permanent=isinstance(error, PERMANENT_ERRORS))
    failed.__cause__ = error
    return failed


def _failure_of(record: TopicRecord, error: Exception) -> str:
    fix = f" ({RIGHTS_FIX})" if isinstance(error, AuthorizationError) else ""
    return f"{type(record).__name__} {shown(str(record.message_id))}: {error}{fix}"
