"""Reads the topic of answers for the iterators of both clients.

    answers.v1 --Follower, a poll at a time--> AnswerStream.read --> Client.answers, AsyncClient.answers

A stream buffers the records of one poll at most (`max_poll_records`), so its memory is bounded and a slow reader delays
nobody else. While no broker is reachable, polls are retried with a back-off until the timeout of the client. Unreadable
messages are skipped, counted and logged.
"""

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from lifelong.errors import ClientError, NotAuthorized, ServiceUnavailable
from wire.backoff import Backoff
from wire.bus import Bus, Follower
from wire.config import BusConfig
from wire.errors import BusRefused, BusUnavailable, TopicMissing, WireError
from wire.records import Answer

POLL_MS: Final = 200
"""The longest wait of a poll, and so the longest time until a closed stream ends."""

BACKOFF: Final = Backoff(first_s=0.1, longest_s=5.0, jitter=0.5)

log = logging.getLogger("lifelong")


def bus_config(settings: Mapping[str, Any]) -> BusConfig:
    """Returns the settings of the section `bus`, validated. Raises ValueError, which names each invalid setting."""
    try:
        config = TypeAdapter(BusConfig).validate_python(dict(settings))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'bus'}: {each['msg']}" for each in error.errors())
        raise ValueError(f"bus: {problems}") from error
    if not config.bootstrap_servers:
        raise ValueError("bus: bootstrap_servers is required: it names the brokers, as host:port")
    return config


class AnswerStream:
    """A reader of the topic of answers. Any thread may close it; one thread at a time may read."""

    def __init__(self, config: BusConfig, begin: str, *, retry_timeout_s: float, idle_s: float | None) -> None:
        """Connects at once, so that "latest" means now. Raises ClientError, and ValueError for an invalid `begin`.

        - `begin`: where to start: "latest", "earliest", or a time
        - `retry_timeout_s`: how long polls are retried while no broker is reachable
        - `idle_s`: the stream ends after this time without an answer (None: it does not)
        """
        self._bus = _open_bus(replace(config, begin=begin))
        self._retry_timeout_s = retry_timeout_s
        self._idle_s = idle_s
        self._closing = threading.Event()
        # Guards the follower, which belongs to one thread at a time.
        self._lock = threading.Lock()
        self._answered_s = time.monotonic()
        self._num_failures = 0
        self._failing_since_s = 0.0
        self.num_unreadable = 0
        try:
            self._follower = self._follow()
        except WireError as error:
            self._bus.close()
            raise to_client_error(error) from error

    def read(self) -> list[Answer] | None:
        """Returns the answers of one poll, which may be none, or None if the stream has ended.

        Raises ClientError if answers were lost, if the broker refuses access, or after `retry_timeout_s` without a
        broker.
        """
        with self._lock:
            if self._closing.is_set() or self._is_idle():
                return None
            try:
                followed = self._follower.poll(POLL_MS)
            except WireError as error:
                self._fail(error)
                return []
            self._num_failures = 0
            if followed.losses:
                raise ClientError(f"{followed.losses[0]}: start a new iteration", code="answers_lost")
            if followed.refused:
                self.num_unreadable += len(followed.refused)
                reasons = sorted({each.dead_letter.reason for each in followed.refused})
                log.warning("%d messages in the topic of answers are unreadable: %s", len(followed.refused), reasons)
            if followed.received:
                self._answered_s = time.monotonic()
            return [each.record for each in followed.received]

    def close(self) -> None:
        """Ends the stream and closes its connections, after a read in progress has returned. Idempotent."""
        self._closing.set()
        with self._lock:
            self._bus.close()

    def _follow(self) -> Follower:
        return self._bus.follow([Answer], self._bus.begin_offsets(Answer))

    def _is_idle(self) -> bool:
        return self._idle_s is not None and time.monotonic() - self._answered_s > self._idle_s

    def _fail(self, error: WireError) -> None:
        """Waits before the next attempt. Raises ClientError if the error is permanent or the timeout has passed."""
        now_s = time.monotonic()
        if self._num_failures == 0:
            self._failing_since_s = now_s
        self._num_failures += 1
        if not isinstance(error, BusUnavailable) or now_s - self._failing_since_s > self._retry_timeout_s:
            raise to_client_error(error) from error
        self._closing.wait(BACKOFF.pause_s(self._num_failures))


def to_client_error(error: WireError) -> ClientError:
    """Returns the client's error for an error of the broker."""
    if isinstance(error, TopicMissing):
        return ServiceUnavailable(str(error), code="topic_missing")
    if isinstance(error, BusRefused):
        return NotAuthorized(str(error), code="broker_refused")
    return ServiceUnavailable(str(error), code="broker_unreachable")


def _open_bus(config: BusConfig) -> Bus:
    try:
        return Bus(config, client_id="client")
    except WireError as error:
        raise to_client_error(error) from error
