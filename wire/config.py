"""The settings of the Kafka and Redis clients, of metrics and traces, and of the trust in labels: addresses and bounds.

Each section is a frozen record whose fields have type, range, default and description in one place. That of Kafka has a
file of its own, `bus_config`, and that of labels, `label_config`; what all sections are made with is in `sections`.

Rejected: reading the environment where a value is needed (a wrong one would be found long after the start).
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Gt, Le
from pydantic import AfterValidator, SecretStr

from wire.bus_config import BusConfig
from wire.label_config import LabelConfig
from wire.sections import SECTION, OrNone, flat, nested, require

__all__ = [
    "SECTION",
    "BusConfig",
    "LabelConfig",
    "MetricsConfig",
    "OrNone",
    "StoreConfig",
    "TracesConfig",
    "TrustConfig",
    "flat",
    "nested",
    "require",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrustConfig:
    """Which labels are believed: by default all labels in the feedback topic, except those with a forged receipt."""

    __pydantic_config__ = SECTION

    require_receipts: bool = False
    """Whether a label without the receipt of its answer is refused."""
    receipt_max_age_s: Annotated[float, Gt(0), Le(3_153_600_000)] = 604_800.0
    """A receipt is good for labels up to this long after its answer. Default: as long as answers are kept."""
    source_labels_per_s: Annotated[float, Ge(0), Le(1_000_000)] = 0.0
    """Token bucket: labels a second from one source, by the time of the answers that it labels. 0: no limit."""
    source_burst: Annotated[int, Ge(1), Le(1_000_000)] = 1_000
    """Token bucket: labels that one source may send at once."""
    source_share: Annotated[float, Gt(0), Le(1)] = 1.0
    """Largest share of learnt labels from one source while it floods; useful with many sources. 1: no cap."""
    source_window: Annotated[int, Ge(1), Le(10_000_000)] = 2_000
    """Number of recent labels over which the shares of sources are counted."""
    max_sources: Annotated[int, Ge(1), Le(10_000_000)] = 1_000
    """Most sources whose rate is remembered; the least recently seen is forgotten first (LRU)."""
    flip_alarm: bool = True
    """Whether labels are held that pile up against one class, or from one source as one class."""
    change_sources: Annotated[int, Ge(1), Le(16)] = 3
    """Number of sources that have to agree before a class is believed to mean something else now, and their labels are
    no flip. A label that an operator approved counts like all of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreConfig:
    """Settings of the Redis client."""

    __pydantic_config__ = SECTION

    url: str = ""
    """`redis://`, `rediss://` or `unix://` address, or `redis+sentinel://host:port,host:port/service/0`. Empty: start a
    server on this machine."""
    username: str = ""
    """Account (ACL user) on the server, where the address has none."""
    password: OrNone[SecretStr] = None
    """Password of the account, or of the server where it has no accounts."""
    sentinel_username: str = ""
    """Account on the Sentinels, where they have accounts of their own."""
    sentinel_password: OrNone[SecretStr] = None
    """Password of the account on the Sentinels."""
    ssl_cafile: OrNone[Path] = None
    """Certificate authorities (PEM) for the server's certificate. Default: those that this machine trusts."""
    ssl_certfile: OrNone[Path] = None
    """Client certificate (PEM), for a server that asks for one."""
    ssl_keyfile: OrNone[Path] = None
    """Private key (PEM) of the client certificate, where it is not in the same file."""
    ssl_password: OrNone[SecretStr] = None
    """Password of the private key, where it is encrypted."""
    prefix: str = "lifelong:"
    """Prefix of every key, so that environments can share a server."""
    timeout_ms: Annotated[int, Ge(20), Le(60_000)] = 1_000
    """How long one command may take, including the connection."""
    chunk_bytes: Annotated[int, Ge(1 << 16), Le(256 << 20)] = 4 << 20
    """Largest value that one command writes or reads: a larger one would block all other clients."""
    max_blob_bytes: Annotated[int, Ge(1 << 20), Le(16 << 30)] = 1 << 30
    """Largest blob that is read. A manifest that names a larger one is refused before anything is fetched."""
    history: Annotated[int, Ge(1), Le(1_000_000)] = 1_000
    """Most entries of the history of versions."""
    poll_interval_ms: Annotated[int, Ge(10), Le(60_000)] = 1_000
    """How often a watcher reads the change counter; notifications only make it read sooner."""
    report_ttl_ms: Annotated[int, Ge(1_000), Le(3_600_000)] = 10_000
    """Expiry of a report: how long it is kept after it was last written."""

    def __post_init__(self) -> None:
        uses_tls = self.url.startswith("rediss")
        has_files = self.ssl_cafile or self.ssl_certfile or self.ssl_keyfile or self.ssl_password
        of_sentinels = self.sentinel_username or self.sentinel_password
        require(
            (
                uses_tls or not has_files,
                "store.ssl_cafile, ssl_certfile, ssl_keyfile and ssl_password belong to a store.url that begins with "
                "rediss:// or rediss+sentinel://",
            ),
            (
                self.ssl_certfile is not None or not (self.ssl_keyfile or self.ssl_password),
                "store.ssl_keyfile and store.ssl_password are of the key of store.ssl_certfile, which is not set",
            ),
            (
                "+sentinel://" in self.url or not of_sentinels,
                "store.sentinel_username and store.sentinel_password belong to a store.url that begins with "
                "redis+sentinel:// or rediss+sentinel://",
            ),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricsConfig:
    """Where a process tells Prometheus what it counts."""

    __pydantic_config__ = SECTION

    host: str = "127.0.0.1"
    """Address that /metrics listens on."""
    port: Annotated[int, Ge(0), Le(65_535)] = 0
    """Port of /metrics. Each process of a machine takes the first of 64 from here on that is free. 0: no metrics."""


def _is_endpoint(endpoint: str) -> str:
    if endpoint and not re.fullmatch(r"https?://[^/\s]+(/\S*)?", endpoint):
        raise ValueError("it is no address such as http://127.0.0.1:4318")
    return endpoint


@dataclass(frozen=True, kw_only=True, slots=True)
class TracesConfig:
    """Where a process sends the traces of events, answers and labels (OpenTelemetry)."""

    __pydantic_config__ = SECTION

    endpoint: Annotated[str, AfterValidator(_is_endpoint)] = ""
    """Address of a collector that takes OTLP over HTTP, such as `http://127.0.0.1:4318`. Empty: no traces."""
    share: Annotated[float, Ge(0), Le(1)] = 0.01
    """Share of the events that begin a trace, of those whose sender began none. One that the sender sampled goes on."""
    max_per_s: Annotated[float, Gt(0), Le(100_000)] = 20.0
    """Most spans that a process makes in a second, whoever began their traces."""
