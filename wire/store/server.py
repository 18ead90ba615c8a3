"""The connection to Redis: two clients, scripts by hash (EVALSHA), and redis-py's exceptions mapped to ours.

    redis://host:6379/0 | rediss://... | unix:///path | redis+sentinel://host:26379,host:26379/service/0
    --client_of--> a client, with TLS and an account (ACL), of the server or of the master that Sentinels name
    command or script -> _retrying (after a lost connection) or _once (never repeats) -> reply
                         or StoreRefused (mend it) | StoreUnavailable (try again)

redis-py repeats a command whose reply was lost: with its defaults one INCR had counted 11 times. So only idempotent
commands go through `_retrying`: reads, and scripts that detect their own repetition. Other commands go through `_once`,
and their caller tries again.

Rejected: Redis Cluster (the scripts that publish a version write several keys at once, which lie on several servers
there), hiredis (it holds the interpreter lock while it builds a large reply), RESP3 (more round trips at every connect,
and nothing that we use), `redis.lock.Lock` (no token that grows), and SET IFEQ (only since Redis 8.4).
"""

import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis
import structlog
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.client import PubSub
from redis.commands.core import Script
from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterCrossSlotError,
    ClusterDownError,
    NoPermissionError,
    RedisError,
    ResponseError,
)
from redis.retry import Retry
from redis.sentinel import Sentinel

from wire.config import StoreConfig
from wire.errors import StoreFull, StoreRefused, StoreUnavailable, UnsafePolicy
from wire.records import key_name
from wire.store.keys import DISK

DISK_WAIT_MS = 5_000
"""How long a publication may wait for the disk. `everysec` needs up to one second, and more under load."""

NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""
"""Lua that sets `now` to the server's clock in milliseconds."""

WHEN_FULL = """
redis.call('HDEL', KEYS[1], '')
"""
"""Lua that lets a script write on a server at `maxmemory`.

Such a server refuses only the first write of a script, and only one that could take memory (scriptVerifyOOM in Redis's
script.c). So the first write removes a field that never exists. KEYS[1] is a hash, or missing. The flag `allow-oom` has
the same effect since Redis 7, but 6.2 cannot read a script with a flag.
"""

_TOUCH = f"""{WHEN_FULL}
redis.call('HSET', KEYS[1], 'synced', 1)
"""

MOST_USED = 0.8
"""Share of `maxmemory` above which no blob is written: leases, plans and reports need the rest."""

WAITS_FOR_DISK = (7, 2)
"""The first version of Redis with WAITAOF."""

log = structlog.get_logger("store")

READ_BYTES = 1 << 18
"""Size of one read from the socket: with the client's default of 32 KiB a chunk of 4 MiB costs 128 calls."""

URL_FORMS = (
    "give redis://host:port/0, rediss://host:port/0, unix:///path, or redis+sentinel://host:port,host:port/service/0"
)

CLUSTER = (
    "is a Redis Cluster, which cannot be used: a version is published by one write to several keys. Give the address "
    "of a server, or of Sentinels: redis+sentinel://host:port,host:port/service/0"
)

_SENTINELS = re.compile(r"(rediss?)\+sentinel://([^/@?]+)/([^/@?]+)(?:/(\d+))?")


class Server:
    """The clients of one Redis server, under one key prefix. Thread-safe; close it when done."""

    def __init__(self, config: StoreConfig) -> None:
        self.config = config
        retry = Retry(ExponentialWithJitterBackoff(base=0.01, cap=0.1), 2)
        self._retrying = client_of(config, config.timeout_ms, retry)
        self._once = client_of(config, config.timeout_ms // 4, Retry(NoBackoff(), 0))
        self._scripts: dict[str, Script] = {}
        self._is_warned = False
        self.address = address_of(config, self._retrying)

    def key(self, *parts: str | int) -> str:
        return key_name(self.config.prefix, *parts)

    def ask(self, *command: Any) -> Any:
        """Returns the reply to an idempotent command."""
        with self._mapped():
            return self._retrying.execute_command(*command)

    def ask_many(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Returns the replies to idempotent commands in one pipeline, which is not atomic."""
        return self._pipelined(self._retrying, commands)

    def ask_once(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Returns the replies to commands in one pipeline, with a quarter of the timeout, and never repeats it."""
        return self._pipelined(self._once, commands)

    def run(self, script: str, keys: Sequence[str], args: Sequence[Any] = ()) -> Any:
        """Returns the reply of an idempotent Lua script."""
        with self._mapped():
            if script not in self._scripts:
                self._scripts[script] = self._retrying.register_script(script)
            return self._scripts[script](keys=list(keys), args=list(args))

    def now_ms(self) -> int:
        """Returns the server's clock."""
        seconds, micros = self.ask("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    def sync(self) -> None:
        """Waits until everything written so far is on the server's disk.

        The log says once that a server cannot wait (see `why_not_durable`). WAITAOF waits for the last write of its own
        connection, so we write on that connection first.
        """
        pool = self._retrying.connection_pool
        with self._mapped():
            connection = pool.get_connection()
            try:
                connection.send_command("EVAL", _TOUCH, 1, self.key(DISK))
                connection.read_response()
                connection.send_command("WAITAOF", 1, 0, DISK_WAIT_MS)
                is_synced = self._read_synced(connection)
            finally:
                pool.release(connection)
        if not is_synced:
            raise StoreUnavailable(
                f"{self.address}: not on disk after {DISK_WAIT_MS} ms; is appendfsync set to everysec?"
            )

    def why_not_durable(self) -> str:
        """Returns why a power cut may take what was published, and the fix; empty where `sync` waits for the disk."""
        if not self.ask("INFO", "persistence").get("aof_enabled"):
            return "A power cut may take what was published. Set appendonly to yes on the Redis server"
        version = str(self.ask("INFO", "server")["redis_version"])
        if tuple(map(int, version.split(".")[:2])) < WAITS_FOR_DISK:
            return f"A power cut may take what was published last. Use Redis 7.2 or newer: {version} has no WAITAOF"
        return ""

    def memory(self) -> tuple[int, int]:
        """Returns the used bytes, and `maxmemory` (0: no limit)."""
        memory = self.ask("INFO", "memory")
        return int(memory["used_memory"]), int(memory.get("maxmemory", 0))

    def check_room(self, num_bytes: int) -> None:
        """Raises StoreFull where `num_bytes` more would exceed MOST_USED of the server's memory."""
        used, limit = self.memory()
        if limit and used + num_bytes > MOST_USED * limit:
            raise StoreFull(
                f"{self.address}: {used} of {limit} bytes are used (maxmemory), and {num_bytes} more would be above "
                f"{MOST_USED:.0%}: give the server more memory, or see what else is in it"
            )

    def check_policy(self) -> None:
        """Raises UnsafePolicy where the server may evict keys without an expiry: weights would be lost silently.

        Raises StoreRefused where it is a Redis Cluster, which may accept single keys.
        """
        if self.ask("INFO", "server").get("redis_mode") == "cluster":
            raise StoreRefused(f"{self.address} {CLUSTER}")
        policy = str(self.ask("INFO", "memory").get("maxmemory_policy", "unknown"))
        if policy != "noeviction" and not policy.startswith("volatile-"):
            raise UnsafePolicy(f"{self.address}: maxmemory-policy {policy} may evict weights; set it to noeviction")

    def subscribe(self, channel: str) -> PubSub:
        """Returns a subscription to `channel`, on its own connection. Its methods raise RedisError."""
        pubsub: PubSub = self._once.pubsub(ignore_subscribe_messages=True)
        pubsub.subscribe(channel)
        return pubsub

    def close(self) -> None:
        self._retrying.close()
        self._once.close()

    def _read_synced(self, connection: Any) -> bool:
        """Reads the reply of WAITAOF: whether the disk has everything, or the server cannot wait for it."""
        try:
            local, _replicas = connection.read_response(timeout=DISK_WAIT_MS / 1000 + 1)
        except NoPermissionError:
            raise
        except ResponseError as error:
            if "unknown command" not in str(error) and "appendonly" not in str(error):
                raise
            if not self._is_warned:
                self._is_warned = True
                log.warning("not_durable", server=self.address, reason=str(error))
            return True
        return int(local) > 0

    def _pipelined(self, client: Any, commands: Sequence[Sequence[Any]]) -> list[Any]:
        with self._mapped(), client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            replies: list[Any] = pipeline.execute()
            return replies

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except RedisError as error:
            raise mapped_error(self.address, error) from error


@dataclass(frozen=True, kw_only=True, slots=True)
class _Watched:
    """What an address of Sentinels says."""

    servers: tuple[tuple[str, int], ...]
    service: str
    db: int
    uses_tls: bool

    @classmethod
    def of(cls, url: str) -> "_Watched | None":
        """Returns the parts of an address of Sentinels; None where it is another address. Raises ValueError.

        >>> _Watched.of("redis+sentinel://one:26379,two:26379/weights/1").servers
        (('one', 26379), ('two', 26379))
        """
        if "+sentinel://" not in url:
            return None
        match = _SENTINELS.fullmatch(url)
        if match is None:
            raise ValueError("no address of Sentinels")
        scheme, names, service, db = match.groups()
        pairs = [name.rpartition(":") for name in names.split(",")]
        servers = tuple((host, int(port)) for host, _, port in pairs)
        return cls(servers=servers, service=service, db=int(db or 0), uses_tls=scheme == "rediss")


def client_of(config: StoreConfig, timeout_ms: int, retry: Retry) -> Any:  # replies are typed plain or async
    """Returns a client; it connects at its first command. Raises ValueError, without the address, for a wrong one."""
    options = {
        "socket_timeout": timeout_ms / 1000,
        "socket_connect_timeout": timeout_ms / 1000,
        "socket_read_size": READ_BYTES,
        "retry": retry,
        "protocol": 2,
        "driver_info": None,
    }
    account = _given(username=config.username, password=_text(config.password))
    try:
        watched = _Watched.of(config.url)
        if watched is None:
            tls = _tls_options(config) if config.url.startswith("rediss:") else {}
            return redis.Redis.from_url(config.url, **options, **account, **tls)
    except ValueError:
        raise ValueError(f"store url: {URL_FORMS} (yours is not shown: it may hold a password)") from None
    shared = options | ({"ssl": True, **_tls_options(config)} if watched.uses_tls else {})
    of_sentinels = _given(username=config.sentinel_username, password=_text(config.sentinel_password))
    sentinel = Sentinel(watched.servers, sentinel_kwargs=shared | of_sentinels)  # type: ignore[no-untyped-call]
    return sentinel.master_for(watched.service, db=watched.db, **shared, **account)  # type: ignore[no-untyped-call]


def address_of(config: StoreConfig, client: Any) -> str:
    """Returns the address of the server, without the secrets that the URL may hold, for messages."""
    if "+sentinel://" in config.url:
        return config.url
    connection: Mapping[str, Any] = client.connection_pool.connection_kwargs
    if "path" in connection:
        return str(connection["path"])
    return f"{connection.get('host', 'localhost')}:{connection.get('port', 6379)}"


def mapped_error(address: str, error: RedisError) -> StoreUnavailable:
    """Returns our error for one of redis-py's; the message names the server, and the fix where time mends nothing."""
    if isinstance(error, AskError | ClusterDownError | ClusterCrossSlotError):
        return StoreRefused(f"{address} {CLUSTER}")
    if isinstance(error, NoPermissionError):
        fix = "give this account what docs/connect.md lists for its program"
        return StoreRefused(f"{address} refuses us for lack of rights ({error}): {fix}")
    if isinstance(error, AuthenticationError):
        fix = "correct store.username and store.password, or those in store.url"
        return StoreRefused(f"{address} does not accept who we are ({error}): {fix}")
    tls = [each for each in (error.__cause__, error.__context__) if isinstance(each, ssl.SSLError)]
    if tls and not isinstance(tls[0], ssl.SSLEOFError | ssl.SSLZeroReturnError):
        fix = "correct store.ssl_cafile (who signs the server), store.ssl_certfile (who we are), or store.url"
        return StoreRefused(f"{address}: no trusted connection by TLS ({tls[0]}): {fix}")
    return StoreUnavailable(f"{address}: {error}")


def _tls_options(config: StoreConfig) -> dict[str, Any]:
    return _given(
        ssl_ca_certs=config.ssl_cafile and str(config.ssl_cafile),
        ssl_certfile=config.ssl_certfile and str(config.ssl_certfile),
        ssl_keyfile=config.ssl_keyfile and str(config.ssl_keyfile),
        ssl_password=_text(config.ssl_password),
    )


def _given(**options: Any) -> dict[str, Any]:
    """Returns the options that have a value: an address may have those that are left out."""
    return {name: value for name, value in options.items() if value}


def _text(secret: Any) -> str:
    return str(secret.get_secret_value()) if secret else ""
