"""The connection to Redis: two clients, scripts by hash (EVALSHA), and redis-py's exceptions mapped to ours.

    redis://host:6379/0 | rediss://... | unix:///path | redis+sentinel://host:26379,host:26379/service/0
    --open_client--> a client with TLS and an account (ACL), of the server or of the master that Sentinels name
    command or script -> _retrying (retries after a lost connection) or _once (never retries) -> reply
                         or StoreRefused (fix it) | StoreUnavailable (try again)

redis-py repeats a command if its reply was lost: with the default settings, one INCR was counted 11 times. So the
client `_retrying` gets only idempotent commands: reads, and scripts that detect that they are repeated. The client
`_once` gets all other commands. If one fails, the caller tries again.

Rejected:

- Redis Cluster: the script that publishes a version writes several keys at once, which may be on different servers of a
  cluster;
- hiredis: it holds the interpreter lock while it builds a large reply;
- RESP3: it needs more round trips for each connection, and we use none of its features;
- `redis.lock.Lock`: its token does not increase;
- SET IFEQ: it exists only since Redis 8.4.
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
"""Longest wait of a publication for the disk. `appendfsync everysec` needs up to one second, and more under load."""

NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""
"""Lua that sets `now` to the server's clock in milliseconds."""

WHEN_FULL = """
redis.call('HDEL', KEYS[1], '')
"""
"""Lua that lets a script write although the memory of the server is full (`maxmemory`).

A full server checks only the first write of a script, and refuses it only if it could take memory (scriptVerifyOOM in
Redis's script.c). So the first write removes a field that never exists. KEYS[1] must be a hash, or not exist. Since
Redis 7 the flag `allow-oom` has the same effect, but Redis 6.2 cannot parse a script with a flag.
"""

_TOUCH = f"""{WHEN_FULL}
redis.call('HSET', KEYS[1], 'synced', 1)
"""

MAX_USED_SHARE = 0.8
"""Fraction of `maxmemory` above which no blob is written. Leases, plans and reports need the rest."""

WAITAOF_VERSION = (7, 2)
"""The first version of Redis with WAITAOF."""

log = structlog.get_logger("store")

READ_BYTES = 1 << 18
"""Size of one read from the socket. With the client's default of 32 KiB, a chunk of 4 MiB takes 128 calls."""

URL_FORMS = (
    "give redis://host:port/0, rediss://host:port/0, unix:///path, or redis+sentinel://host:port,host:port/service/0"
)

CLUSTER = (
    "is a Redis Cluster, which cannot be used: one script must write several keys to publish a version. Give the "
    "address of a single server, or of Sentinels: redis+sentinel://host:port,host:port/service/0"
)

_SENTINELS = re.compile(r"(rediss?)\+sentinel://([^/@?]+)/([^/@?]+)(?:/(\d+))?")


class Server:
    """The connections to one Redis server, with one key prefix. Thread-safe. Call `close` at the end."""

    def __init__(self, config: StoreConfig) -> None:
        self.config = config
        retry = Retry(ExponentialWithJitterBackoff(base=0.01, cap=0.1), 2)
        self._retrying = open_client(config, config.timeout_ms, retry)
        self._once = open_client(config, config.timeout_ms // 4, Retry(NoBackoff(), 0))
        self._scripts: dict[str, Script] = {}
        self._is_warned = False
        self.address = render_address(config, self._retrying)

    def key(self, *parts: str | int) -> str:
        """Returns the name of a Redis key: the prefix and `parts`, joined."""
        return key_name(self.config.prefix, *parts)

    def ask(self, *command: Any) -> Any:
        """Returns the reply to an idempotent command."""
        with self._mapped():
            return self._retrying.execute_command(*command)

    def ask_many(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Returns the replies to idempotent commands in one pipeline, which is not atomic."""
        return self._pipelined(self._retrying, commands)

    def ask_once(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Returns the replies to commands in one pipeline, with a quarter of the timeout. It never retries."""
        return self._pipelined(self._once, commands)

    def run(self, script: str, keys: Sequence[str], args: Sequence[Any] = ()) -> Any:
        """Returns the reply of an idempotent Lua script."""
        with self._mapped():
            if script not in self._scripts:
                self._scripts[script] = self._retrying.register_script(script)
            return self._scripts[script](keys=list(keys), args=list(args))

    def now_ms(self) -> int:
        """Returns the time of the server's clock in milliseconds."""
        seconds, micros = self.ask("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    def sync(self) -> None:
        """Waits until all earlier writes are on the server's disk. Raises StoreUnavailable after DISK_WAIT_MS.

        If the server cannot wait (see `why_not_durable`), it logs that once and returns.
        """
        pool = self._retrying.connection_pool
        with self._mapped():
            connection = pool.get_connection()
            try:
                # WAITAOF waits for the last write of its own connection, so this connection writes first.
                connection.send_command("EVAL", _TOUCH, 1, self.key(DISK))
                connection.read_response()
                connection.send_command("WAITAOF", 1, 0, DISK_WAIT_MS)
                is_synced = self._read_synced(connection)
            finally:
                pool.release(connection)
        if not is_synced:
            raise StoreUnavailable(
                f"{self.address}: the last writes are not on disk after {DISK_WAIT_MS} ms. Check the server's disk, "
                "and set appendfsync to everysec"
            )

    def why_not_durable(self) -> str:
        """Returns why a power failure may lose publications, with the fix; "" if `sync` waits for the disk."""
        if not self.ask("INFO", "persistence").get("aof_enabled"):
            return "A power failure may lose publications. Set appendonly to yes on the Redis server"
        version = str(self.ask("INFO", "server")["redis_version"])
        if tuple(map(int, version.split(".")[:2])) < WAITAOF_VERSION:
            return f"A power failure may lose the last publications. Use Redis 7.2 or newer: {version} has no WAITAOF"
        return ""

    def memory(self) -> tuple[int, int]:
        """Returns the used bytes, and `maxmemory` (0: no limit)."""
        memory = self.ask("INFO", "memory")
        return int(memory["used_memory"]), int(memory.get("maxmemory", 0))

    def check_room(self, num_bytes: int) -> None:
        """Raises StoreFull if `num_bytes` more would exceed MAX_USED_SHARE of the server's memory."""
        used, limit = self.memory()
        if limit and used + num_bytes > MAX_USED_SHARE * limit:
            raise StoreFull(
                f"{self.address}: {used} of {limit} bytes are used (maxmemory), and {num_bytes} more would be above "
                f"{MAX_USED_SHARE:.0%}: give the server more memory, or remove other data from it"
            )

    def check_policy(self) -> None:
        """Raises UnsafePolicy if the server may evict keys without an expiry: weights would be lost silently.

        Raises StoreRefused if the server is a Redis Cluster, which would accept commands with a single key.
        """
        if self.ask("INFO", "server").get("redis_mode") == "cluster":
            raise StoreRefused(f"{self.address} {CLUSTER}")
        policy = str(self.ask("INFO", "memory").get("maxmemory_policy", "unknown"))
        if policy != "noeviction" and not policy.startswith("volatile-"):
            raise UnsafePolicy(f"{self.address}: maxmemory-policy {policy} may evict weights; set it to noeviction")

    def subscribe(self, channel: str) -> PubSub:
        """Returns a subscription to `channel` on its own connection. The subscription's methods raise RedisError."""
        pubsub: PubSub = self._once.pubsub(ignore_subscribe_messages=True)
        pubsub.subscribe(channel)
        return pubsub

    def close(self) -> None:
        self._retrying.close()
        self._once.close()

    def _read_synced(self, connection: Any) -> bool:
        """Reads the reply of WAITAOF; returns whether all writes are on disk, or True if the server cannot wait."""
        try:
            local, _replicas = connection.read_response(timeout=DISK_WAIT_MS / 1000 + 1)
        except NoPermissionError:
            raise
        except ResponseError as error:
            if "unknown command" not in str(error) and "appendonly" not in str(error):
                raise
            if not self._is_warned:
                self._is_warned = True
                log.warning("write_not_durable", server=self.address, reason=str(error))
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
            raise to_wire_error(self.address, error) from error


@dataclass(frozen=True, kw_only=True, slots=True)
class _SentinelAddress:
    """The parts of an address of Sentinels."""

    servers: tuple[tuple[str, int], ...]
    service: str
    db: int
    uses_tls: bool

    @classmethod
    def parse(cls, url: str) -> "_SentinelAddress | None":
        """Parses an address of Sentinels; returns None for another address. Raises ValueError for a malformed one.

        >>> _SentinelAddress.parse("redis+sentinel://one:26379,two:26379/weights/1").servers
        (('one', 26379), ('two', 26379))
        """
        if "+sentinel://" not in url:
            return None
        match = _SENTINELS.fullmatch(url)
        if match is None:
            raise ValueError("malformed address of Sentinels")
        scheme, names, service, db = match.groups()
        pairs = [name.rpartition(":") for name in names.split(",")]
        servers = tuple((host, int(port)) for host, _, port in pairs)
        return cls(servers=servers, service=service, db=int(db or 0), uses_tls=scheme == "rediss")


def open_client(config: StoreConfig, timeout_ms: int, retry: Retry) -> Any:
    """Returns a client, which connects at its first command.

    Raises ValueError for a malformed address. The message does not contain the address, which may hold a password. The
    return type is Any, because redis-py types each reply as either plain or awaitable.
    """
    options: dict[str, Any] = {
        "socket_timeout": timeout_ms / 1000,
        "socket_connect_timeout": timeout_ms / 1000,
        "socket_read_size": READ_BYTES,
        "retry": retry,
        "protocol": 2,
        "driver_info": None,
    }
    account = _drop_empty(username=config.username, password=_reveal(config.password))
    try:
        sentinels = _SentinelAddress.parse(config.url)
        if sentinels is None:
            tls = _tls_options(config) if config.url.startswith("rediss:") else {}
            return redis.Redis.from_url(config.url, **options, **account, **tls)
    except ValueError:
        raise ValueError(f"store url: {URL_FORMS} (yours is not shown: it may hold a password)") from None
    if sentinels.uses_tls:
        options |= {"ssl": True, **_tls_options(config)}
    sentinel_account = _drop_empty(username=config.sentinel_username, password=_reveal(config.sentinel_password))
    sentinel = Sentinel(sentinels.servers, sentinel_kwargs=options | sentinel_account)  # type: ignore[no-untyped-call]
    return sentinel.master_for(sentinels.service, db=sentinels.db, **options, **account)  # type: ignore[no-untyped-call]


def render_address(config: StoreConfig, client: Any) -> str:
    """Returns the address of the server for messages, without the secrets that the URL may hold."""
    if "+sentinel://" in config.url:
        return config.url
    connection: Mapping[str, Any] = client.connection_pool.connection_kwargs
    if "path" in connection:
        return str(connection["path"])
    return f"{connection.get('host', 'localhost')}:{connection.get('port', 6379)}"


def to_wire_error(address: str, error: RedisError) -> StoreUnavailable:
    """Returns our error for an error of redis-py. The message names the server; for StoreRefused it has the fix."""
    if isinstance(error, AskError | ClusterDownError | ClusterCrossSlotError):
        return StoreRefused(f"{address} {CLUSTER}")
    if isinstance(error, NoPermissionError):
        fix = "grant this account the rights that docs/connect.md lists for its program"
        return StoreRefused(f"{address} denies us a right ({error}): {fix}")
    if isinstance(error, AuthenticationError):
        fix = "correct store.username and store.password, or user and password in store.url"
        return StoreRefused(f"{address} does not accept our credentials ({error}): {fix}")
    tls = [cause for cause in (error.__cause__, error.__context__) if isinstance(cause, ssl.SSLError)]
    if tls and not isinstance(tls[0], ssl.SSLEOFError | ssl.SSLZeroReturnError):
        fix = (
            "correct store.ssl_cafile (the authority that signs the server's certificate), store.ssl_certfile (our "
            "certificate), or store.url"
        )
        return StoreRefused(f"{address}: the TLS connection is not trusted ({tls[0]}): {fix}")
    return StoreUnavailable(f"{address}: {error}")


def _tls_options(config: StoreConfig) -> dict[str, Any]:
    return _drop_empty(
        ssl_ca_certs=config.ssl_cafile and str(config.ssl_cafile),
        ssl_certfile=config.ssl_certfile and str(config.ssl_certfile),
        ssl_keyfile=config.ssl_keyfile and str(config.ssl_keyfile),
        ssl_password=_reveal(config.ssl_password),
    )


def _drop_empty(**options: Any) -> dict[str, Any]:
    """Returns the options that have a value. The address may set the options that are left out."""
    return {name: value for name, value in options.items() if value}


def _reveal(secret: Any) -> str:
    return str(secret.get_secret_value()) if secret else ""
