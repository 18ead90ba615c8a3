"""The answers of the topic one after the other, as both clients iterate over them.

    answers.v1 --Follower, a poll at a time--> AnswerStream.read --> Client.answers, AsyncClient.answers

Nothing is read ahead of the one who iterates but the records of one poll (`max_poll_records`), so memory is bounded and
a slow reader delays nobody. While no broker answers it is asked again, with pauses, until the deadline of the client.
Unreadable messages of others are left out, counted, and logged.
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
"""Longest wait of a poll: so soon a stream ends after it was closed."""

BACKOFF: Final = Backoff(first_s=0.1, longest_s=5.0, jitter=0.5)

log = logging.getLogger("lifelong")


def bus_config(settings: Mapping[str, Any]) -> BusConfig:
    """Returns the settings of the section `bus` by their names. Raises ValueError, which names what is wrong."""
    try:
        config = TypeAdapter(BusConfig).validate_python(dict(settings))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'bus'}: {each['msg']}" for each in error.errors())
        raise ValueError(f"bus: {wrong}") from error
    if not config.bootstrap_servers:
        raise ValueError("bus: bootstrap_servers is required: it names the brokers, as host:port")
    return config


class AnswerStream:
    """Reads the topic of answers from where `begin` says. Any thread may close it; one at a time reads."""

    def __init__(self, config: BusConfig, begin: str, *, patience_s: float, idle_s: float | None) -> None:
        """Connects at once, so that `latest` is now. Raises ClientError, and ValueError where `begin` is none.

        It ends where no answer came for `idle_s` (None: never by itself).
        """
        self._bus = _opened(replace(config, begin=begin))
        self._patience_s = patience_s
        self._idle_s = idle_s
        self._closing = threading.Event()
        self._lock = threading.Lock()  # guards the follower, which belongs to one thread at a time
        self._answered_s = time.monotonic()
        self._num_failures = 0
        self._failing_since_s = 0.0
        self.num_unreadable = 0
        try:
            self._follower = self._followed()
        except WireError as error:
            self._bus.close()
            raise client_error_of(error) from error

    def read(self) -> list[Answer] | None:
        """Returns the answers of one poll, maybe none; None at the end. Raises ClientError after `patience_s`."""
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
                raise ClientError(f"{followed.losses[0]}: iterate anew", code="answers_lost")
            if followed.refused:
                self.num_unreadable += len(followed.refused)
                reasons = sorted({each.dead_letter.reason for each in followed.refused})
                log.warning("%d messages in the topic of answers are none: %s", len(followed.refused), reasons)
            if followed.received:
                self._answered_s = time.monotonic()
            return [each.record for each in followed.received]

    def close(self) -> None:
        """Ends the stream, and closes its connections; a read that is under way returns before. Idempotent."""
        self._closing.set()
        with self._lock:
            self._bus.close()

    def _followed(self) -> Follower:
        return self._bus.follow([Answer], self._bus.begin_offsets(Answer))

    def _is_idle(self) -> bool:
        return self._idle_s is not None and time.monotonic() - self._answered_s > self._idle_s

    def _fail(self, error: WireError) -> None:
        """Waits before the next attempt. Raises ClientError where there is none, or it has been tried long enough."""
        now_s = time.monotonic()
        self._failing_since_s = self._failing_since_s if self._num_failures else now_s
        self._num_failures += 1
        if not isinstance(error, BusUnavailable) or now_s - self._failing_since_s > self._patience_s:
            raise client_error_of(error) from error
        self._closing.wait(BACKOFF.pause_s(self._num_failures))


def client_error_of(error: WireError) -> ClientError:
    """Returns the error of the client for one of the broker."""
    if isinstance(error, TopicMissing):
        return ServiceUnavailable(str(error), code="topic_missing")
    if isinstance(error, BusRefused):
        return NotAuthorized(str(error), code="broker_refused")
    return ServiceUnavailable(str(error), code="broker_unreachable")


def _opened(config: BusConfig) -> Bus:
    try:
        return Bus(config, client_id="client")
    except WireError as error:
        raise client_error_of(error) from error
