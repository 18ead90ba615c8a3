"""The settings of the Kafka and Redis clients, of metrics, and of the trust in labels: addresses and bounds.

Each section is a frozen record whose fields have type, range, default and description in one place.

Rejected: reading the environment where a value is needed (a wrong one would be found long after the start), and
checking rules at their first breach (`require` says all that are broken at once).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from annotated_types import Ge, Gt, Le
from pydantic import BeforeValidator, ConfigDict, SecretStr

SECTION = ConfigDict(extra="forbid", use_attribute_docstrings=True)
"""How pydantic reads a section: unknown names are refused, and the docstring of a field is its description."""

Value = TypeVar("Value")
OrNone: TypeAlias = Annotated[Value | None, BeforeValidator(lambda value: None if value == "" else value)]
"""A setting that may have no value, written as an empty text in the environment."""


def require(*rules: tuple[bool, str]) -> None:
    """Raises ValueError with the sentence of every rule, a condition between settings, that does not hold."""
    broken = [sentence for holds, sentence in rules if not holds]
    if broken:
        raise ValueError("; ".join(broken))


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns values with dotted names as a tree. A value in the place of a section hides what the section has.

    >>> nested({"bus": {}, "bus.partitions": 8, "seed": 1})
    {'bus': {'partitions': 8}, 'seed': 1}
    """
    tree: dict[str, Any] = {}
    for name in sorted(values, key=lambda name: (values[name] == {}, name.count(".")), reverse=True):
        *sections, leaf = name.split(".")
        branch = tree
        for section in sections:
            branch = branch.setdefault(section, {})
        branch[leaf] = values[name]
    return tree


def flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values of a tree by dotted name. An empty section is a value, so that its name can be checked.

    >>> flat({"seed": 1, "bus": {"partitions": 8}, "store": {}})
    {'seed': 1, 'bus.partitions': 8, 'store': {}}
    """
    values: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            values |= {f"{name}.{below}": each for below, each in flat(value).items()}
        else:
            values[name] = value
    return values


@dataclass(frozen=True, kw_only=True, slots=True)
class BusConfig:
    """Settings of the Kafka client."""

    __pydantic_config__ = SECTION

    bootstrap_servers: str = ""
    """`host:port[,host:port]` of the brokers. Empty: start a broker on this machine."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """Protocol of the connections: encrypted (`SSL`, `SASL_SSL`), authenticated by name and password (`SASL_...`)."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    """How the client proves its password. `PLAIN` sends the password itself: use it only over `SASL_SSL`."""
    sasl_username: str = ""
    """User name for `SASL_...`."""
    sasl_password: OrNone[SecretStr] = None
    """Password of `sasl_username`."""
    ssl_cafile: OrNone[Path] = None
    """Certificate authorities (PEM) for the brokers' certificates. Default: those that this machine trusts."""
    ssl_certfile: OrNone[Path] = None
    """Client certificate (PEM), for brokers that ask for one."""
    ssl_keyfile: OrNone[Path] = None
    """Private key (PEM) of the client certificate, where it is not in the same file."""
    prefix: str = ""
    """Prefix of every topic and consumer group, so that environments can share a cluster."""
    partitions: Annotated[int, Ge(1), Le(10_000)] = 4
    """Partitions of each topic that we create."""
    replication_factor: Annotated[int, Ge(1), Le(100)] = 1
    """Copies of each partition of the topics that we create."""
    fetch_max_wait_ms: Annotated[int, Ge(1), Le(60_000)] = 5
    """How long the broker may hold back a fetch that has less than `fetch_min_bytes`: the records of this time come
    together, which spares broker and replicas more than the wait costs."""
    fetch_min_bytes: Annotated[int, Ge(1), Le(1 << 20)] = 64 << 10
    """Bytes for which a fetch does not wait any longer. 1: every record comes by itself, which at 200 events/s takes
    more of the processors, and is no sooner."""
    patient_max_wait_ms: Annotated[int, Ge(1), Le(60_000)] = 50
    """The same for readers that can wait a moment (learner, rollout): it spares the broker."""
    session_timeout_ms: Annotated[int, Ge(1_000), Le(60_000)] = 6_000
    """A replica that sends no heartbeat for this long loses its partitions."""
    heartbeat_interval_ms: Annotated[int, Ge(50), Le(20_000)] = 500
    """Interval of the heartbeats of a replica."""
    max_poll_records: Annotated[int, Ge(1), Le(100_000)] = 500
    """Most records that one poll of a consumer returns."""
    max_in_flight: Annotated[int, Ge(1), Le(1_000_000)] = 2_000
    """Most unacknowledged records; then senders wait. The client library itself has no bound on its memory."""
    max_in_flight_bytes: Annotated[int, Ge(16 << 20), Le(16 << 30)] = 64 << 20
    """Most unacknowledged bytes. The largest dead letter has 9 MiB."""
    linger_ms: Annotated[int, Ge(0), Le(10_000)] = 0
    """How long a record may wait for others to be sent in the same batch. 0: what comes while the client sends is the
    next batch, so that batches grow with the load by themselves."""
    delivery_timeout_ms: Annotated[int, Ge(100), Le(3_600_000)] = 30_000
    """A record that is not acknowledged for this long has failed."""
    request_timeout_ms: Annotated[int, Ge(100), Le(300_000)] = 10_000
    """How long one request to a broker may take."""
    retry_backoff_ms: Annotated[int, Ge(1), Le(60_000)] = 5
    """Back-off before a retry. The client library's default, 100, makes a transaction 20 times slower."""

    @property
    def uses_ssl(self) -> bool:
        return self.security_protocol.endswith("SSL")

    @property
    def uses_sasl(self) -> bool:
        return self.security_protocol.startswith("SASL")

    @property
    def password(self) -> str:
        return self.sasl_password.get_secret_value() if self.sasl_password else ""

    def __post_init__(self) -> None:
        longest_wait_ms = max(self.fetch_max_wait_ms, self.patient_max_wait_ms)
        require(
            (
                bool(self.sasl_username and self.password) or not self.uses_sasl,
                "bus.security_protocol SASL_PLAINTEXT and SASL_SSL need bus.sasl_username and bus.sasl_password",
            ),
            (
                self.uses_sasl or not (self.sasl_username or self.password),
                "bus.sasl_username and bus.sasl_password belong to bus.security_protocol SASL_PLAINTEXT or SASL_SSL",
            ),
            (
                self.uses_ssl or not (self.ssl_cafile or self.ssl_certfile or self.ssl_keyfile),
                "bus.ssl_cafile, ssl_certfile and ssl_keyfile belong to bus.security_protocol SSL or SASL_SSL",
            ),
            (
                self.ssl_certfile is not None or self.ssl_keyfile is None,
                "bus.ssl_keyfile is the key of bus.ssl_certfile, which is not set",
            ),
            (
                re.fullmatch(r"[A-Za-z0-9._-]{0,200}", self.prefix) is not None,
                "bus.prefix must be made of letters, digits, '.', '_' and '-', as names of topics are; 200 at most",
            ),
            (
                self.heartbeat_interval_ms < self.session_timeout_ms,
                "bus.heartbeat_interval_ms must be below bus.session_timeout_ms",
            ),
            (
                longest_wait_ms < self.request_timeout_ms,
                "bus.fetch_max_wait_ms and bus.patient_max_wait_ms must be below bus.request_timeout_ms",
            ),
            (
                self.linger_ms + self.request_timeout_ms <= self.delivery_timeout_ms,
                "bus.delivery_timeout_ms must be at least bus.linger_ms + bus.request_timeout_ms",
            ),
        )


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
    """`redis://`, `rediss://` or `unix://` address. Empty: start a server on this machine."""
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


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricsConfig:
    """Where a process tells Prometheus what it counts."""

    __pydantic_config__ = SECTION

    host: str = "127.0.0.1"
    """Address that /metrics listens on."""
    port: Annotated[int, Ge(0), Le(65_535)] = 0
    """Port of /metrics. Each process of a machine takes the first of 64 from here on that is free. 0: no metrics."""
