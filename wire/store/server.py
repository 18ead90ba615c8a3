"""The connection to Redis: two clients, scripts by hash, and every foreign exception turned into ours.

    command or script -> _retrying (after a lost connection) or _once (never repeats) -> reply, or StoreUnavailable

redis-py repeats a command whose reply was lost: with its defaults one INCR had counted 11 times. So only idempotent
commands go through `_retrying`: reads, and scripts that notice their own repetition. Whatever is not idempotent goes
through `_once`, whose caller tries again by itself.

Rejected: hiredis (holds the interpreter lock while it builds a large reply), RESP3 (more round trips at every
connect, nothing that we use), `redis.lock.Lock` (no token that grows), and SET IFEQ (only since Redis 8.4).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import redis
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.client import PubSub
from redis.commands.core import Script
from redis.exceptions import NoPermissionError, RedisError, ResponseError
from redis.retry import Retry

from wire.config import StoreConfig
from wire.errors import StoreFull, StoreUnavailable, UnsafePolicy
from wire.records import key_name

READ_BYTES = 1 << 18
"""Taken from the socket at once: the client's 32 KiB makes a chunk of 4 MiB cost 128 calls."""

DISK_WAIT_MS = 5_000
"""How long a publication may wait for the disk. `everysec` needs up to one second, more under load."""

URL_FORMS = "give redis://host:port/0, rediss://host:port/0 or unix:///path"

NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""
"""Lua: `now`, the server's clock in milliseconds."""

WHEN_FULL = """
redis.call('HDEL', KEYS[1], '')
"""
"""Lua: what the script writes from here on is written by a server at `maxmemory`, too.

Such a server refuses only the first write of a script, and only one that could take memory (scriptVerifyOOM in Redis's
script.c); so the first one removes a field that is never there. KEYS[1] is a hash, or nothing. The flag `allow-oom`
says the same since Redis 7, but 6.2 cannot read a script with a flag.
"""

_TOUCH = f"""{WHEN_FULL}
redis.call('HSET', KEYS[1], 'synced', 1)
"""

MOST_USED = 0.8
"""Share of `maxmemory` above which nothing large is written: leases, plans and reports need the rest."""


class Server:
    """Commands to one Redis server, under one prefix. Safe to share between threads; close it when done."""

    def __init__(self, config: StoreConfig) -> None:
        self.config = config
        self._retrying = self._client(config.timeout_ms, Retry(ExponentialWithJitterBackoff(base=0.01, cap=0.1), 2))
        self._once = self._client(config.timeout_ms // 4, Retry(NoBackoff(), 0))
        self._scripts: dict[str, Script] = {}
        self.address = _address(self._retrying.connection_pool.connection_kwargs)

    def key(self, *parts: str | int) -> str:
        return key_name(self.config.prefix, *parts)

    def ask(self, *command: Any) -> Any:
        """The reply to a command that may run twice without harm."""
        with self._mapped():
            return self._retrying.execute_command(*command)

    def ask_many(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """The replies to commands that may run twice without harm, sent together. Others may come between them."""
        return self._together(self._retrying, commands)

    def ask_once(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Like `ask_many`, but in a quarter of the time and never repeated."""
        return self._together(self._once, commands)

    def run(self, script: str, keys: Sequence[str], args: Sequence[Any] = ()) -> Any:
        """The reply of a Lua script that may run twice without harm."""
        with self._mapped():
            if script not in self._scripts:
                self._scripts[script] = self._retrying.register_script(script)
            return self._scripts[script](keys=list(keys), args=list(args))

    def now_ms(self) -> int:
        """The server's clock."""
        seconds, micros = self.ask("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    def sync(self) -> None:
        """Waits until all that was written so far is on the server's disk, where the server can tell (Redis 7.2, AOF).

        WAITAOF waits for the last write of its own connection, so we write on that connection first.
        """
        pool = self._retrying.connection_pool
        with self._mapped():
            connection = pool.get_connection()
            try:
                connection.send_command("EVAL", _TOUCH, 1, self.key("disk"))
                connection.read_response()
                connection.send_command("WAITAOF", 1, 0, DISK_WAIT_MS)
                synced = _synced(connection)
            finally:
                pool.release(connection)
        if not synced:
            raise StoreUnavailable(
                f"{self.address}: not on disk after {DISK_WAIT_MS} ms; is appendfsync set to everysec?"
            )

    def memory(self) -> tuple[int, int]:
        """Bytes that are used, and `maxmemory` (0: no limit)."""
        memory = self.ask("INFO", "memory")
        return int(memory["used_memory"]), int(memory.get("maxmemory", 0))

    def check_room(self, num_bytes: int) -> None:
        """Raises StoreFull where `num_bytes` more would take the server above MOST_USED of its memory."""
        used, limit = self.memory()
        if limit and used + num_bytes > MOST_USED * limit:
            raise StoreFull(
                f"{self.address}: {used} of {limit} bytes are used (maxmemory), and {num_bytes} more would be above "
                f"{MOST_USED:.0%}: give the server more memory, or see what else is in it"
            )

    def check_policy(self) -> None:
        """Raises UnsafePolicy where the server may evict keys that have no expiry: weights would vanish silently."""
        policy = str(self.ask("INFO", "memory").get("maxmemory_policy", "unknown"))
        if policy != "noeviction" and not policy.startswith("volatile-"):
            raise UnsafePolicy(f"{self.address}: maxmemory-policy {policy} may evict weights; set it to noeviction")

    def subscribe(self, channel: str) -> PubSub:
        """A subscription to `channel`, on a connection of its own. Its methods raise RedisError."""
        pubsub: PubSub = self._once.pubsub(ignore_subscribe_messages=True)
        pubsub.subscribe(channel)
        return pubsub

    def close(self) -> None:
        self._retrying.close()
        self._once.close()

    def _together(self, client: Any, commands: Sequence[Sequence[Any]]) -> list[Any]:
        with self._mapped(), client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            replies: list[Any] = pipeline.execute()
            return replies

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
            raise ValueError(f"store url: {URL_FORMS} (yours is not shown: it may hold a password)") from None

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except RedisError as error:
            raise StoreUnavailable(f"{self.address}: {error}") from error


def _address(connection: Mapping[str, Any]) -> str:
    """Where the server is, without what the URL may hold besides."""
    if "path" in connection:
        return str(connection["path"])
    return f"{connection.get('host', 'localhost')}:{connection.get('port', 6379)}"


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
