"""Notices of publications and plans: a counter and a channel with the same name.

    publication or plan -> INCR, PUBLISH -> Watch.wait returns True -> the caller reads the plan

The counter is authoritative, and a notice is only a hint: a watcher that lost its connection, or could not subscribe,
reads the counter at its next poll.
"""

import threading
import time

from redis.client import PubSub
from redis.exceptions import RedisError

from wire.errors import StoreUnavailable
from wire.store import keys
from wire.store.server import Server

NOTIFY = """
local function notify(history, notices, entry, limit)
  if entry ~= '' then
    redis.call('LPUSH', history, entry)
    redis.call('LTRIM', history, 0, limit - 1)
  end
  redis.call('PUBLISH', notices, redis.call('INCR', notices))
end
"""
"""Lua that defines `notify`: it adds an entry to the history, counts the notice and sends it to the watchers."""


class Watch:
    """Waits for the next publication or plan. One thread waits; any thread may close.

    It starts at the current state: earlier notices do not count.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._key = server.key(keys.NOTICES)
        self._poll_s = server.config.poll_interval_ms / 1000
        self._closed = threading.Event()
        self._waiting = threading.Lock()
        self._pubsub: PubSub | None = None
        self._seen: bytes | None = server.ask("GET", self._key)

    def wait(self, timeout_s: float) -> bool:
        """Waits for a notice. Returns True if there was one since this method last returned True.

        Returns False after `timeout_s` seconds, or when the watch is closed.

        consumes: notices of publications and plans, and their counter every `poll_interval_ms`
        produces: nothing; the caller reads the state that it needs
        waits for: a notice; while Redis is down, the next poll
        unblocked by: a notice, the timeout, and `close` at the next poll
        """
        with self._waiting:
            deadline = time.monotonic() + timeout_s
            while not self._closed.is_set():
                if self._has_notice():
                    return True
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    return False
                self._listen(min(left_s, self._poll_s))
            return False

    def close(self) -> None:
        """Ends the subscription, and the wait after at most the poll interval."""
        self._closed.set()
        with self._waiting:
            self._unsubscribe()

    def _has_notice(self) -> bool:
        try:
            (count,) = self._server.ask_once([("GET", self._key)])
        except StoreUnavailable:
            # The caller's own reads raise this error.
            return False
        changed = count != self._seen
        self._seen = count
        return bool(changed)

    def _listen(self, timeout_s: float) -> None:
        """Waits for a message of any kind, at most `timeout_s`. The first message confirms the subscription."""
        try:
            if self._pubsub is None:
                self._pubsub = self._server.subscribe(self._key)
            self._pubsub.get_message(timeout=timeout_s)
        except RedisError:
            self._unsubscribe()
            self._closed.wait(timeout_s)

    def _unsubscribe(self) -> None:
        if self._pubsub is not None:
            self._pubsub.close()
        self._pubsub = None
