"""Sending: bounded, idempotent, acknowledged by every in-sync copy.

The client library has no bound on the memory of what it has not sent yet, so the bound is ours: a semaphore, released
by the acknowledgement.
"""

import threading
from collections.abc import Callable
from typing import Any

from kafka.errors import KafkaError, RetriableError  # type: ignore[import-untyped]

from wire.bus.foreign import mapped, ours
from wire.config import BusConfig
from wire.envelope import to_message
from wire.errors import BusUnavailable, SendFailed
from wire.records import TopicRecord, topic_name

OnAck = Callable[[Exception | None], None]


class Publisher:
    """Sends records, from any thread. A retry sends nothing twice; order is kept within a partition."""

    def __init__(self, producer: Any, config: BusConfig) -> None:
        self._producer = producer
        self._servers = config.bootstrap_servers
        self._prefix = config.prefix
        self._delivery_timeout_s = 1e-3 * config.delivery_timeout_ms
        self._slots = threading.BoundedSemaphore(config.max_in_flight)
        self._is_closed = False

    def send(self, record: TopicRecord, on_ack: OnAck | None = None) -> None:
        """Hands `record` to the client; waits while `max_in_flight` records are unacknowledged.

        Once this has returned, `on_ack` is called exactly once, from a thread of the client: with None when the copies
        have the record, with SendFailed otherwise. It must be quick and must not send. BusUnavailable or SendFailed
        raised here mean that the record was not taken, and `on_ack` will not be called.
        """
        message = to_message(record)
        if not self._slots.acquire(timeout=2 * self._delivery_timeout_s):
            raise BusUnavailable(f"{self._servers} acknowledges nothing any more")
        try:
            future = self._producer.send(
                topic_name(self._prefix, type(record)),
                key=message.key,
                value=message.value,
                headers=list(message.headers),
            )
        except KafkaError as error:
            self._slots.release()
            if isinstance(error, RetriableError):
                raise ours(self._servers, error) from error
            raise _send_failed(record, error) from error
        future.add_callback(lambda _: self._settle(on_ack, None))
        future.add_errback(lambda error: self._settle(on_ack, _send_failed(record, error)))

    def flush(self, timeout_s: float) -> None:
        """Returns once everything that was sent is settled; BusUnavailable after `timeout_s` seconds."""
        with mapped(self._servers):
            self._producer.flush(timeout_s)

    def close(self) -> None:
        """Sends what is left, for at most the delivery timeout; does nothing the second time."""
        if self._is_closed:
            return
        self._is_closed = True
        with mapped(self._servers):
            self._producer.close(timeout=self._delivery_timeout_s)

    def _settle(self, on_ack: OnAck | None, error: SendFailed | None) -> None:
        try:
            if on_ack is not None:
                on_ack(error)
        finally:
            self._slots.release()


def _send_failed(record: TopicRecord, error: Exception) -> SendFailed:
    failed = SendFailed(f"{type(record).__name__} {record.message_id}: {error}")
    failed.__cause__ = error
    return failed
