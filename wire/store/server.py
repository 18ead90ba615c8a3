"""The connection to Redis: two clients, scripts by hash, and every foreign exception turned into ours.

    command or script -> sure (repeats after a lost connection) or soon (never repeats) -> reply, or StoreUnavailable

redis-py repeats a command whose reply was lost: with its defaults one INCR had counted 11 times. So whatever goes
through `sure` is either a read or a script that notices its own repetition, and whatever cannot notice goes through
`soon`, whose caller tries again by itself.

Rejected: hiredis (holds the interpreter lock while it builds a large reply), RESP3 (more round trips at every
connect, nothing that we use), `redis.lock.Lock` (no token that grows), and SET IFEQ (only since Redis 8.4).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import redis
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.client import PubSub
from redis.commands.core import Script
from redis.exceptions import NoPermissionError, RedisError, ResponseError
from redis.retry import Retry

from wire.config import StoreConfig
from wire.errors import StoreUnavailable, UnsafePolicy
from wire.records import key_name

READ_BYTES = 1 << 18
"""Taken from the socket at once: the client's 32 KiB makes a chunk of 4 MiB cost 128 calls."""

DISK_WAIT_MS = 5_000
"""How long a publication may wait for the disk. `everysec` needs up to one second, more under load."""


NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""
"""Lua: `now`, the server's clock in milliseconds."""


class Server:
    """Commands to one Redis server, under one prefix. Safe to share between threads; close it when done."""

    def __init__(self, config: StoreConfig) -> None:
        self.config = config
        self.address = redacted(config.url)
        self._sure = self._client(config.timeout_ms, Retry(ExponentialWithJitterBackoff(base=0.01, cap=0.1), 2))
        self._soon = self._client(config.timeout_ms // 4, Retry(NoBackoff(), 0))
        self._scripts: dict[str, Script] = {}

    def key(self, *parts: str | int) -> str:
        return key_name(self.config.prefix, *parts)

    def ask(self, *command: Any) -> Any:
        """The reply to a command that may run twice without harm."""
        with self._mapped():
            return self._sure.execute_command(*command)

    def ask_many(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """The replies to commands that may run twice, sent together (not as a transaction)."""
        with self._mapped(), self._sure.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            replies: list[Any] = pipeline.execute()
            return replies

    def ask_soon(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """The replies to commands sent together as one transaction, in a quarter of the time and never repeated."""
        with self._mapped(), self._soon.pipeline(transaction=True) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            replies: list[Any] = pipeline.execute()
            return replies

    def run(self, script: str, keys: Sequence[str], args: Sequence[Any] = ()) -> Any:
        """The reply of a Lua script that may run twice without harm."""
        with self._mapped():
            if script not in self._scripts:
                self._scripts[script] = self._sure.register_script(script)
            return self._scripts[script](keys=list(keys), args=list(args))

    def now_ms(self) -> int:
        """The server's clock."""
        seconds, micros = self.ask("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    def sync(self) -> None:
        """Waits until all that was written so far is on the server's disk, where the server can tell (Redis 7.2, AOF).

        WAITAOF waits for the last write of its own connection, so we write on that connection first.
        """
        pool = self._sure.connection_pool
        with self._mapped():
            connection = pool.get_connection()
            try:
                connection.send_command("SET", self.key("synced"), 1)
                connection.read_response()
                connection.send_command("WAITAOF", 1, 0, DISK_WAIT_MS)
                synced = _synced(connection)
            finally:
                pool.release(connection)
        if not synced:
            raise StoreUnavailable(f"{self.address}: not written to disk within {DISK_WAIT_MS} ms")

    def check_policy(self) -> None:
        """Raises UnsafePolicy where the server may evict keys that have no expiry: weights would vanish silently."""
        policy = str(self.ask("INFO", "memory")["maxmemory_policy"])
        if policy.startswith("allkeys"):
            raise UnsafePolicy(f"{self.address}: maxmemory-policy {policy} evicts weights; set it to noeviction")

    def subscribe(self, channel: str) -> PubSub:
        """A subscription to `channel`, on a connection of its own. Its methods raise RedisError."""
        pubsub: PubSub = self._soon.pubsub(ignore_subscribe_messages=True)
        pubsub.subscribe(channel)
        return pubsub

    def close(self) -> None:
        self._sure.close()
        self._soon.close()

    def _client(self, timeout_ms: int, retry: Retry) -> Any:  # its own types are unions of plain and async replies
        try:
            return redis.Redis.from_url(
                self.config.url,
                socket_timeout=timeout_ms / 1000,
                socket_connect_timeout=timeout_ms / 1000,
                socket_read_size=READ_BYTES,
                retry=retry,
                protocol=2,
                driver_info=None,
            )
        except ValueError:
            raise ValueError(f"store url {self.address!r}: use redis://, rediss:// or unix://") from None

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except RedisError as error:
            raise StoreUnavailable(f"{self.address}: {error}") from error


def redacted(url: str) -> str:
    """`url` without user, password and query, fit for a message.

    >>> redacted("redis://me:secret@db.example:6379/0?password=secret")
    'redis://db.example:6379/0'
    """
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _synced(connection: Any) -> bool:
    try:
        local, _replicas = connection.read_response(timeout=DISK_WAIT_MS / 1000 + 1)
    except NoPermissionError:
        raise
    except ResponseError as error:
        if "unknown command" in str(error) or "appendonly" in str(error):
            return True  # nothing to wait for
        raise
    return int(local) > 0
