"""The settings of the Kafka and Redis clients, of metrics and traces, and of the trust in labels.

Each section is a frozen dataclass. Each field has its type, range, default and description in one place. The sections
of labels, maps and schema registries are in `wire.label_set`, `wire.mapping` and `wire.registry`, and the helpers for
all sections in `wire.sections`.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, TypeAlias

from annotated_types import Ge, Gt, Le
from pydantic import AfterValidator, BeforeValidator, SecretStr

from wire.errors import BadMessage
from wire.label_set import LabelConfig
from wire.mapping import MapConfig
from wire.records import TOPIC_RECORDS, Answer, TopicRecord, topic_name
from wire.registry import RegistryConfig
from wire.sections import INTERNAL, SECTION, OrNone, flat, nested, require
from wire.timestamps import from_rfc3339

PASSWORD_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
"""The SASL mechanisms that use a password."""

Option: TypeAlias = bool | int | float | str
"""A value of an option of the client library."""

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


def _parse_options(setting: Any) -> Any:
    """Parses a table of options. In the environment, the whole table is JSON, and a single value is a text."""
    table = json.loads(setting) if isinstance(setting, str) else setting
    if not isinstance(table, Mapping):
        return table
    return {name: _parse_option(value) if isinstance(value, str) else value for name, value in table.items()}


def _parse_option(text: str) -> Option:
    """Parses a number or a boolean; returns any other text unchanged.

    >>> _parse_option("64"), _parse_option("True"), _parse_option("lz4")
    (64, True, 'lz4')
    """
    try:
        value = json.loads(text.lower())
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float) else text


def _check_import_path(path: str) -> str:
    if path and not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", path):
        raise ValueError("it must be an import path such as my.tokens:Provider")
    return path


def _check_begin(begin: str) -> str:
    if begin in ("earliest", "latest"):
        return begin
    try:
        from_rfc3339(begin)
    except BadMessage as error:
        raise ValueError("it must be earliest, latest, or a time such as 2026-01-31T00:00:00Z") from error
    return begin


@dataclass(frozen=True, slots=True)
class ClientNumber:
    """Our default and the range of a numeric option of the client library."""

    default: int
    lowest: int
    highest: int


CLIENT_NUMBERS: Final[Mapping[str, ClientNumber]] = MappingProxyType(
    {
        # How long the broker may hold back a fetch with less than `fetch_min_bytes`. Fetching the records of this time
        # together saves the broker and the replicas more than the wait costs.
        "fetch_max_wait_ms": ClientNumber(5, 1, 60_000),
        # With 1, each record is fetched alone. At 200 events/s that takes more processor time and is not faster.
        "fetch_min_bytes": ClientNumber(64 << 10, 1, 1 << 20),
        "session_timeout_ms": ClientNumber(6_000, 1_000, 60_000),
        "heartbeat_interval_ms": ClientNumber(500, 50, 20_000),
        "max_poll_records": ClientNumber(500, 1, 100_000),
        # Records that arrive while the client sends form the next batch, so batches grow with the load without a wait.
        "linger_ms": ClientNumber(0, 0, 10_000),
        "delivery_timeout_ms": ClientNumber(30_000, 100, 3_600_000),
        "request_timeout_ms": ClientNumber(10_000, 100, 300_000),
        # With the client library's default of 100, a transaction is 20 times slower.
        "retry_backoff_ms": ClientNumber(5, 1, 60_000),
    }
)
"""The numeric options whose values this program uses, with its own defaults."""

ClientOptions: TypeAlias = Annotated[Mapping[str, Option], BeforeValidator(_parse_options)]


@dataclass(frozen=True, kw_only=True, slots=True)
class BusConfig:
    """Settings of the Kafka client."""

    __pydantic_config__ = SECTION

    bootstrap_servers: str = ""
    """`host:port[,host:port]` of the brokers. Empty: start a broker on this machine."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """Protocol of the connections: encrypted (`SSL`, `SASL_SSL`), and authenticated by SASL (`SASL_...`)."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "AWS_MSK_IAM", "GSSAPI"] = (
        "SCRAM-SHA-512"
    )
    """How the client authenticates. `PLAIN` sends the password itself: use it only with `SASL_SSL`. `AWS_MSK_IAM` needs
    the package botocore, and `GSSAPI` needs the package gssapi and `bus.client.sasl_kerberos_...`."""
    sasl_username: str = ""
    """User name for `SASL_...`."""
    sasl_password: OrNone[SecretStr] = None
    """Password of `sasl_username`."""
    sasl_oauth_token_provider: Annotated[str, AfterValidator(_check_import_path)] = ""
    """Import path of the token provider for `OAUTHBEARER`, such as `my.tokens:Provider`. A call without arguments
    returns an object whose method `token()` returns a valid token at each call."""
    ssl_cafile: OrNone[Path] = None
    """Certificate authorities (PEM) for the brokers' certificates. Default: the authorities that this machine
    trusts."""
    ssl_certfile: OrNone[Path] = None
    """Client certificate (PEM), for brokers that require one."""
    ssl_keyfile: OrNone[Path] = None
    """Private key (PEM) of the client certificate, if it is in another file."""
    ssl_password: OrNone[SecretStr] = None
    """Password of the private key, if it is encrypted."""
    client: ClientOptions = field(default_factory=dict)
    """Options of the client library (kafka-python), by its own names, such as `compression_type = "lz4"`. Some have
    other defaults than in the library: fetch_max_wait_ms 5, fetch_min_bytes 65536, session_timeout_ms 6000,
    heartbeat_interval_ms 500, retry_backoff_ms 5, delivery_timeout_ms 30000, request_timeout_ms 10000."""
    map: MapConfig = field(default_factory=MapConfig)
    registry: RegistryConfig = field(default_factory=RegistryConfig)
    begin: Annotated[str, AfterValidator(_check_begin)] = "earliest"
    """Where the very first read of events, answers and labels begins: `earliest`, `latest`, or a time such as
    `2026-01-31T00:00:00Z`."""
    topics_timeout_s: Annotated[float, Ge(0), Le(3_600), INTERNAL] = 30.0
    """How long a program waits for missing topics at its start before it ends."""
    prefix: str = ""
    """Prefix of every topic and consumer group, so that environments can share a cluster."""
    partitions: Annotated[int, Ge(1), Le(10_000)] = 4
    """Number of partitions of each topic that the service creates."""
    replication_factor: Annotated[int, Ge(1), Le(100)] = 1
    """Number of copies of each partition of the topics that the service creates."""
    max_message_bytes: Annotated[int, Ge(1 << 20), Le(8 << 20)] = 8 << 20
    """Size of the largest message in the topics that the service creates. A dead letter may be 1 MiB larger. If this is
    below 8 MiB, the payload of a larger dead letter is truncated."""
    patient_max_wait_ms: Annotated[int, Ge(1), Le(60_000), INTERNAL] = 50
    """`fetch_max_wait_ms` of the readers that can wait longer (learner, rollout), to reduce the load of the broker."""
    max_in_flight: Annotated[int, Ge(1), Le(1_000_000), INTERNAL] = 2_000
    """Highest number of unacknowledged records. Then senders wait. The client library does not bound its memory."""
    max_in_flight_bytes: Annotated[int, Ge(16 << 20), Le(16 << 30), INTERNAL] = 64 << 20
    """Highest number of unacknowledged bytes. The largest dead letter has 9 MiB."""

    @property
    def uses_ssl(self) -> bool:
        return self.security_protocol.endswith("SSL")

    @property
    def uses_sasl(self) -> bool:
        return self.security_protocol.startswith("SASL")

    @property
    def uses_password(self) -> bool:
        return self.uses_sasl and self.sasl_mechanism in PASSWORD_MECHANISMS

    @property
    def password(self) -> str:
        return self.sasl_password.get_secret_value() if self.sasl_password else ""

    def client_number(self, name: str) -> int:
        """Returns a numeric option: its value in `client`, or else our default."""
        value = self.client.get(name, CLIENT_NUMBERS[name].default)
        # `__post_init__` has checked the type.
        assert isinstance(value, int)
        return value

    def with_client(self, **options: Option) -> "BusConfig":
        """Returns the settings with these options of the client library."""
        return replace(self, client={**self.client, **options})

    def topic_for(self, record: type[TopicRecord]) -> str:
        """Returns the topic to which records of a type are sent, and which `lifelong topics create` makes."""
        if record is Answer and self.map.answers.topic:
            return self.map.answers.topic
        return topic_name(self.prefix, record)

    def __post_init__(self) -> None:
        require(*self._rules_of_client_numbers())
        longest_wait_ms = max(self.client_number("fetch_max_wait_ms"), self.patient_max_wait_ms)
        request_timeout_ms = self.client_number("request_timeout_ms")
        ours = {topic_name(self.prefix, record) for record in TOPIC_RECORDS}
        mapped_ours = ", ".join(sorted(ours.intersection((*self.map.events.topic, *self.map.feedback.topic))))
        require(
            *self._rules_of_security(),
            (not mapped_ours, f"bus.map names {mapped_ours}, which is a topic of ours: name only other topics"),
            (
                re.fullmatch(r"[A-Za-z0-9._-]{0,200}", self.prefix) is not None,
                "bus.prefix must be made of letters, digits, '.', '_' and '-', like the name of a topic; 200 at most",
            ),
            (
                self.client_number("heartbeat_interval_ms") < self.client_number("session_timeout_ms"),
                "bus.client.heartbeat_interval_ms must be below bus.client.session_timeout_ms",
            ),
            (
                longest_wait_ms < request_timeout_ms,
                f"bus.client.request_timeout_ms must be above {self.patient_max_wait_ms} and above "
                "bus.client.fetch_max_wait_ms",
            ),
            (
                self.client_number("linger_ms") + request_timeout_ms <= self.client_number("delivery_timeout_ms"),
                "bus.client.delivery_timeout_ms must be at least bus.client.linger_ms + bus.client.request_timeout_ms",
            ),
        )

    def _rules_of_client_numbers(self) -> list[tuple[bool, str]]:
        rules = []
        for name, number in CLIENT_NUMBERS.items():
            value = self.client.get(name, number.default)
            is_in_range = type(value) is int and number.lowest <= value <= number.highest
            wanted = f"a whole number from {number.lowest} to {number.highest}, {number.default} by default"
            rules.append((is_in_range, f"bus.client.{name} is {value!r}, and must be {wanted}"))
        return rules

    def _rules_of_security(self) -> tuple[tuple[bool, str], ...]:
        has_files = self.ssl_cafile or self.ssl_certfile or self.ssl_keyfile or self.ssl_password
        return (
            (
                bool(self.sasl_username and self.password) or not self.uses_password,
                "bus.security_protocol SASL_PLAINTEXT and SASL_SSL need bus.sasl_username and bus.sasl_password",
            ),
            (
                self.uses_password or not (self.sasl_username or self.password),
                "bus.sasl_username and bus.sasl_password belong to bus.security_protocol SASL_PLAINTEXT or SASL_SSL, "
                f"and to bus.sasl_mechanism {', '.join(PASSWORD_MECHANISMS)}",
            ),
            (
                (self.uses_sasl and self.sasl_mechanism == "OAUTHBEARER") == bool(self.sasl_oauth_token_provider),
                "bus.sasl_oauth_token_provider provides the tokens for bus.sasl_mechanism OAUTHBEARER over "
                "bus.security_protocol SASL_PLAINTEXT or SASL_SSL: set all of them, or none",
            ),
            (
                self.uses_ssl or not has_files,
                "bus.ssl_cafile, ssl_certfile, ssl_keyfile and ssl_password belong to bus.security_protocol SSL or "
                "SASL_SSL",
            ),
            (
                self.ssl_certfile is not None or not (self.ssl_keyfile or self.ssl_password),
                "bus.ssl_keyfile and bus.ssl_password belong to the key of bus.ssl_certfile, which is not set",
            ),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class TrustConfig:
    """Which labels are accepted. By default, all labels in the feedback topic except labels with a forged receipt."""

    __pydantic_config__ = SECTION

    require_receipts: bool = False
    """Whether a label without the receipt of its answer is refused."""
    receipt_max_age_s: Annotated[float, Gt(0), Le(3_153_600_000)] = 604_800.0
    """How long after its answer a receipt is valid. Default: as long as answers are kept."""
    source_labels_per_s: Annotated[float, Ge(0), Le(1_000_000)] = 0.0
    """Token bucket: labels per second from one source, in the time of the answers that it labels. 0: no limit."""
    source_burst: Annotated[int, Ge(1), Le(1_000_000), INTERNAL] = 1_000
    """Token bucket: number of labels that one source may send at once."""
    source_share: Annotated[float, Gt(0), Le(1)] = 1.0
    """Largest share of one source among the learnt labels while it is flooding. It is useful with many sources. 1: no
    cap."""
    source_window: Annotated[int, Ge(1), Le(10_000_000), INTERNAL] = 2_000
    """Number of recent labels over which the shares of sources are counted."""
    max_sources: Annotated[int, Ge(1), Le(10_000_000), INTERNAL] = 1_000
    """Highest number of sources whose rates are kept. The least recently seen source is evicted first (LRU)."""
    flip_alarm: bool = True
    """Whether suspicious labels are held: many labels that contradict one class, or many of one source for one
    class."""
    change_sources: Annotated[int, Ge(1), Le(16)] = 3
    """Number of sources that must agree before their labels count as a change of a class's meaning and not as flips. A
    label that an operator has approved counts as if all of them agreed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreConfig:
    """Settings of the Redis client."""

    __pydantic_config__ = SECTION

    url: str = ""
    """`redis://`, `rediss://` or `unix://` address, or `redis+sentinel://host:port,host:port/service/0`. Empty: start a
    server on this machine."""
    username: str = ""
    """Account (ACL user) on the server, if the address has none."""
    password: OrNone[SecretStr] = None
    """Password of the account, or of the server if it has no accounts."""
    sentinel_username: str = ""
    """Account on the Sentinels, if they have accounts of their own."""
    sentinel_password: OrNone[SecretStr] = None
    """Password of the account on the Sentinels."""
    ssl_cafile: OrNone[Path] = None
    """Certificate authorities (PEM) for the server's certificate. Default: the authorities that this machine trusts."""
    ssl_certfile: OrNone[Path] = None
    """Client certificate (PEM), for a server that requires one."""
    ssl_keyfile: OrNone[Path] = None
    """Private key (PEM) of the client certificate, if it is in another file."""
    ssl_password: OrNone[SecretStr] = None
    """Password of the private key, if it is encrypted."""
    prefix: str = "lifelong:"
    """Prefix of every key, so that environments can share a server."""
    timeout_ms: Annotated[int, Ge(20), Le(60_000)] = 1_000
    """How long one command may take, including the connection."""
    chunk_bytes: Annotated[int, Ge(1 << 16), Le(256 << 20), INTERNAL] = 4 << 20
    """Size of the largest value that one command writes or reads. A larger one would block all other clients."""
    max_blob_bytes: Annotated[int, Ge(1 << 20), Le(16 << 30), INTERNAL] = 1 << 30
    """Size of the largest blob that is read. If a manifest names a larger blob, it is refused before any blob is
    fetched."""
    history: Annotated[int, Ge(1), Le(1_000_000), INTERNAL] = 1_000
    """Highest number of entries in the history of versions."""
    poll_interval_ms: Annotated[int, Ge(10), Le(60_000), INTERNAL] = 1_000
    """How often a watcher reads the change counter. Notifications only make it read earlier."""
    report_ttl_ms: Annotated[int, Ge(1_000), Le(3_600_000), INTERNAL] = 10_000
    """Expiry of a report: how long it is kept after it was last written."""

    def __post_init__(self) -> None:
        uses_tls = self.url.startswith("rediss")
        has_files = self.ssl_cafile or self.ssl_certfile or self.ssl_keyfile or self.ssl_password
        has_sentinel_account = self.sentinel_username or self.sentinel_password
        require(
            (
                uses_tls or not has_files,
                "store.ssl_cafile, ssl_certfile, ssl_keyfile and ssl_password belong to a store.url that begins with "
                "rediss:// or rediss+sentinel://",
            ),
            (
                self.ssl_certfile is not None or not (self.ssl_keyfile or self.ssl_password),
                "store.ssl_keyfile and store.ssl_password belong to the key of store.ssl_certfile, which is not set",
            ),
            (
                "+sentinel://" in self.url or not has_sentinel_account,
                "store.sentinel_username and store.sentinel_password belong to a store.url that begins with "
                "redis+sentinel:// or rediss+sentinel://",
            ),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricsConfig:
    """Where a process serves its metrics to Prometheus."""

    __pydantic_config__ = SECTION

    host: str = "127.0.0.1"
    """Address that /metrics listens on."""
    port: Annotated[int, Ge(0), Le(65_535)] = 0
    """First port of /metrics. Each process of a machine takes the first free port of the 64 from here. 0: no
    metrics."""


def _check_endpoint(endpoint: str) -> str:
    if endpoint and not re.fullmatch(r"https?://[^/\s]+(/\S*)?", endpoint):
        raise ValueError("it must be an address such as http://127.0.0.1:4318")
    return endpoint


@dataclass(frozen=True, kw_only=True, slots=True)
class TracesConfig:
    """Where a process sends the traces of events, answers and labels (OpenTelemetry)."""

    __pydantic_config__ = SECTION

    endpoint: Annotated[str, AfterValidator(_check_endpoint)] = ""
    """Address of a collector that accepts OTLP over HTTP, such as `http://127.0.0.1:4318`. Empty: no traces."""
    share: Annotated[float, Ge(0), Le(1)] = 0.01
    """Sampling rate: the share of events without a trace that begin one. A trace that the sender has sampled is
    continued."""
    max_per_s: Annotated[float, Gt(0), Le(100_000), INTERNAL] = 20.0
    """Highest number of spans per second of a process, including spans of traces that senders have begun."""
