"""The way to Redis: a server by its address, or the master that Sentinels name, with TLS and an account (ACL).

    redis://host:6379/0 | rediss://... | unix:///path | redis+sentinel://host:26379,host:26379/service/0
    --client_of--> a client      its exceptions --mapped_error--> StoreRefused (mend it) | StoreUnavailable (try again)

Rejected: Redis Cluster (the scripts that publish a version write several keys at once, which lie on several servers
there), and the list of servers in a setting of its own (an address is one value everywhere else).
"""

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import redis
from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterCrossSlotError,
    ClusterDownError,
    NoPermissionError,
    RedisError,
)
from redis.retry import Retry
from redis.sentinel import Sentinel

from wire.config import StoreConfig
from wire.errors import StoreRefused, StoreUnavailable

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
