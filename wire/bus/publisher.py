"""Sending: bounded, idempotent, acknowledged by every in-sync copy.

After some errors the client library's producer refuses everything for ever (a broker that lost its memory does not know
the producer any more): then a new one takes its place.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog
from kafka.errors import (  # type: ignore[import-untyped]
    InvalidRecordError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    RetriableError,
)
from kafka.producer.transaction_manager import TransactionState  # type: ignore[import-untyped]

from wire.bus.client_errors import mapped, ours
from wire.bus.inflight import InFlight
from wire.config import BusConfig
from wire.envelope import Message, shown, to_message
from wire.errors import BusRefused, BusUnavailable, SendFailed, WireError
from wire.letters import ENCODING_ERRORS
from wire.records import TopicRecord, topic_name

OnAck = Callable[[Exception | None], None]

PERMANENT_ERRORS = (InvalidRecordError, MessageSizeTooLargeError, RecordListTooLargeError, *ENCODING_ERRORS)
"""What the record itself is the reason of. Rights, missing topics and clocks can be mended while it waits."""

MESSAGE_BYTES = 500  # what a message takes in memory besides its key, its value and its headers
REPLACE_TIMEOUT_S = 1.0  # how long a producer that refuses everything may take to end

log = structlog.get_logger("bus")


def renewing_its_id(producer: Any) -> Any:
    """The client library's `producer`, able to send again after a record has expired on its way.

    kafka-python 3.0.12 forgets its producer id then, and asks for a new one in no state but the first, which it has
    left for good: it goes on taking records, and never sends one, nor gives one up.
    """
    manager = producer._transaction_manager
    forget = manager.reset_producer_id

    def forget_and_begin_again() -> None:
        with manager._lock:
            forget()
            manager._current_state = TransactionState.UNINITIALIZED

    manager.reset_producer_id = forget_and_begin_again
    return producer


class GivenUp(KafkaError):  # type: ignore[misc]
    """What a producer had when another record was refused for good. The record itself is not to blame."""


def blaming_no_other(producer: Any) -> Any:
    """The client library's `producer`, which tells the record that was refused from those that it gives up with it.

    kafka-python 3.0.12 ends all of them with the same error, so that thousands would seem to be too large for one.
    """
    sender = producer._sender
    give_up = sender._maybe_abort_batches

    def give_up_for(error: Exception) -> None:
        give_up(GivenUp(f"another record was refused: {error}"))

    sender._maybe_abort_batches = give_up_for
    return producer


class Publisher:
    """Sends records, from any thread. A retry sends nothing twice; order is kept within a partition."""

    def __init__(self, open_producer: Callable[[], Any], config: BusConfig) -> None:
        self._open_producer = open_producer
        self._producer = open_producer()
        self._lock = threading.Lock()  # around the replacement of the producer
        self._servers = config.bootstrap_servers
        self._prefix = config.prefix
        self._delivery_timeout_s = 1e-3 * config.delivery_timeout_ms
        self._in_flight = InFlight(max_records=config.max_in_flight, max_bytes=config.max_in_flight_bytes)
        self.is_closed = False

    def send(self, record: TopicRecord, on_ack: OnAck | None = None) -> None:
        """Hands `record` to the client; waits while as much is unacknowledged as the settings allow.

        Once this has returned, `on_ack` is called exactly once, from a thread of the client: with None when the copies
        have the record, with SendFailed otherwise. It must be quick and must not send. BusUnavailable or SendFailed
        raised here mean that the record was not taken, and `on_ack` will not be called. Nothing else is raised.
        """
        message = _encoded(record)
        num_bytes = _size_of(message)
        if not self._in_flight.enter(num_bytes, timeout_s=2 * self._delivery_timeout_s):
            raise BusUnavailable(f"{self._servers} acknowledges nothing any more")
        try:
            future = self._hand_over(record, message)
        except WireError:
            self._in_flight.leave(num_bytes)
            raise
        future.add_callback(lambda _: self._settle(num_bytes, on_ack, None))
        future.add_errback(lambda error: self._settle(num_bytes, on_ack, _send_failed(record, error)))

    def flush(self, timeout_s: float) -> None:
        """Returns once everything that was sent is settled; BusUnavailable after `timeout_s` seconds."""
        with mapped(self._servers):
            self._producer.flush(timeout_s)

    def close(self, timeout_s: float | None = None) -> None:
        """Sends what is left, for at most `timeout_s` (None: the delivery timeout); does nothing the second time."""
        if self.is_closed:
            return
        self.is_closed = True
        with mapped(self._servers):
            self._producer.close(timeout=self._delivery_timeout_s if timeout_s is None else timeout_s)

    def _hand_over(self, record: TopicRecord, message: Message) -> Any:
        try:
            producer = self._working_producer()
        except BusRefused as error:
            raise SendFailed(_said_of(record, error)) from error
        try:
            return producer.send(
                topic_name(self._prefix, type(record)),
                key=message.key,
                value=message.value,
                headers=list(message.headers),
            )
        except RetriableError as error:
            raise ours(self._servers, error) from error
        except KafkaError as error:
            raise _send_failed(record, error) from error
        except ValueError as error:  # the topic is gone
            raise SendFailed(_said_of(record, error)) from error

    def _working_producer(self) -> Any:
        with self._lock:
            if self._producer._transaction_manager.has_fatal_error():
                log.warning("producer_replaced")
                with suppress(KafkaError):
                    self._producer.close(timeout=REPLACE_TIMEOUT_S)
                self._producer = self._open_producer()
            return self._producer

    def _settle(self, num_bytes: int, on_ack: OnAck | None, error: SendFailed | None) -> None:
        try:
            if on_ack is not None:
                on_ack(error)
        finally:
            self._in_flight.leave(num_bytes)


def _encoded(record: TopicRecord) -> Message:
    try:
        return to_message(record)
    except ENCODING_ERRORS as error:
        raise _send_failed(record, error) from error


def _size_of(message: Message) -> int:
    """Bytes that the client keeps of it until it is acknowledged."""
    parts = (message.key, message.value, *(value for _, value in message.headers))
    return MESSAGE_BYTES + sum(len(part) for part in parts if part)


def _send_failed(record: TopicRecord, error: Exception) -> SendFailed:
    failed = SendFailed(_said_of(record, error), is_permanent=isinstance(error, PERMANENT_ERRORS))
    failed.__cause__ = error
    return failed


def _said_of(record: TopicRecord, error: Exception) -> str:
    return f"{type(record).__name__} {shown(str(record.message_id))}: {error}"
