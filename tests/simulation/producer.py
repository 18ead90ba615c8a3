"""The simulated KafkaProducer: idempotent, in order, acknowledged by the broker's memory, tried until a timeout."""

import zlib
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any, Final

from kafka import TopicPartition  # type: ignore[import-untyped]
from kafka.errors import KafkaTimeoutError  # type: ignore[import-untyped]

from tests.simulation.broker import KAFKA, Broker
from tests.simulation.network import Unreachable
from tests.simulation.threads import Waiters
from wire.message import Message

RETRY_S: Final = 0.1
REQUEST_S: Final = 1.0
"""How long a request waits for its reply before it is sent again."""


class Sending:
    """A record on its way, and the future of its acknowledgement, with the names of kafka-python."""

    def __init__(self, partition: TopicPartition, message: Message, fails_at_s: float) -> None:
        self.partition = partition
        self.message = message
        self.fails_at_s = fails_at_s
        self.is_stored = False
        self._callbacks: list[Callable[[Any], None]] = []
        self._errbacks: list[Callable[[Exception], None]] = []

    def add_callback(self, callback: Callable[[Any], None]) -> None:
        self._callbacks.append(callback)

    def add_errback(self, errback: Callable[[Exception], None]) -> None:
        self._errbacks.append(errback)

    def end(self, error: Exception | None) -> None:
        for callback in self._callbacks if error is None else self._errbacks:
            callback(error)  # type: ignore[arg-type]


class SimProducer:
    """Sends from a task of its own, one batch after another."""

    def __init__(self, broker: Broker, *, delivery_timeout_ms: int, **_: Any) -> None:
        self._broker = broker
        self._scheduler = broker.scheduler
        self._timeout_s = 1e-3 * delivery_timeout_ms
        self._waiting: deque[Sending] = deque()
        self._is_at_work = False
        self._changed = Waiters()
        self._transaction_manager = SimpleNamespace(has_fatal_error=lambda: False)
        self._metadata = SimpleNamespace(partitions_for_topic=lambda topic: {0})
        self._sender = SimpleNamespace(force_close=self._waiting.clear)

    def send(self, topic: str, *, key: bytes | None, value: bytes | None, headers: Sequence[Any]) -> Sending:
        number = zlib.crc32(key) if key else self._scheduler.rng.getrandbits(16)
        partition = TopicPartition(topic, number % self._broker.partitions)
        sent_ms = self._broker.now_ms() - self._broker.skew_ms
        message = Message(key=key, value=value, headers=tuple(headers), timestamp_ms=sent_ms)
        sending = Sending(partition, message, self._scheduler.now_s + self._timeout_s)
        self._waiting.append(sending)
        if not self._is_at_work:
            self._is_at_work = True
            assert self._scheduler.current is not None
            self._scheduler.start(self._scheduler.current.process, "producer", self._work)
        return sending

    def flush(self, timeout: float) -> None:
        """Waits until nothing is on its way. Raises KafkaTimeoutError."""
        ends_s = self._scheduler.now_s + timeout
        while self._waiting:
            if self._scheduler.now_s >= ends_s:
                raise KafkaTimeoutError("not flushed")
            self._changed.wait(ends_s - self._scheduler.now_s)

    def close(self, timeout: float | None = None) -> None:
        self.flush(self._timeout_s if timeout is None else timeout)

    def _work(self) -> None:
        while self._waiting:
            batch = list(self._waiting)
            try:
                self._broker.network.request(KAFKA, partial(self._store, batch), timeout_s=REQUEST_S)
            except Unreachable:
                self._expire()
                self._scheduler.pause(RETRY_S)
                continue
            for sending in batch:
                self._waiting.popleft()
                sending.end(None)
            self._changed.wake_all()
        self._is_at_work = False

    def _store(self, batch: Sequence[Sending]) -> None:
        """Stores what the broker lacks: one whose reply was lost is recognised by its sequence number."""
        for sending in batch:
            if not sending.is_stored:
                sending.is_stored = True
                self._broker.append(sending.partition, sending.message)

    def _expire(self) -> None:
        while self._waiting and self._waiting[0].fails_at_s <= self._scheduler.now_s:
            self._waiting.popleft().end(KafkaTimeoutError("not delivered"))
        self._changed.wake_all()
