"""The settings of the Kafka and Redis clients, of metrics and traces, and of the trust in labels: addresses and bounds.

Each section is a frozen record whose fields have type, range, default and description in one place. The set of labels
has its section beside it (`wire.label_set`), and so have maps and registries (`wire.mapping`, `wire.registry`). What
all sections are made with is in `wire.sections`.
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
"""Mechanisms of SASL by which the client proves a password."""

Option: TypeAlias = bool | int | float | str
"""A value of the client library's options that can be written in a file."""

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


def _options(given: Any) -> Any:
    """Returns a table of options. A variable of the environment is text: the whole table as JSON, or one value."""
    table = json.loads(given) if isinstance(given, str) else given
    if not isinstance(table, Mapping):
        return table
    return {name: _value_in(value) if isinstance(value, str) else value for name, value in table.items()}


def _value_in(text: str) -> Option:
    """Returns the number or truth value that a text stands for, else the text.

    >>> _value_in("64"), _value_in("True"), _value_in("lz4")
    (64, True, 'lz4')
    """
    try:
        value = json.loads(text.lower())
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float) else text


def _is_path(path: str) -> str:
    if path and not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", path):
        raise ValueError("it is no import path such as my.tokens:Provider")
    return path


def _is_begin(begin: str) -> str:
    try:
        begin in ("earliest", "latest") or from_rfc3339(begin)
    except BadMessage as error:
        raise ValueError("it is neither earliest, nor latest, nor a time such as 2026-01-31T00:00:00Z") from error
    return begin


@dataclass(frozen=True, slots=True)
class ClientNumber:
    """An option of the client library that is a number: our default, and its range."""

    default: int
    lowest: int
    highest: int


CLIENT_NUMBERS: Final[Mapping[str, ClientNumber]] = MappingProxyType(
    {
        # How long the broker may hold back a fetch that has less than `fetch_min_bytes`: the records of this time come
        # together, which spares broker and replicas more than the wait costs.
        "fetch_max_wait_ms": ClientNumber(5, 1, 60_000),
        # With 1 every record comes by itself, which at 200 events/s takes more of the processors, and is no sooner.
        "fetch_min_bytes": ClientNumber(64 << 10, 1, 1 << 20),
        "session_timeout_ms": ClientNumber(6_000, 1_000, 60_000),
        "heartbeat_interval_ms": ClientNumber(500, 50, 20_000),
        "max_poll_records": ClientNumber(500, 1, 100_000),
        # What comes while the client sends is the next batch, so that batches grow with the load by themselves.
        "linger_ms": ClientNumber(0, 0, 10_000),
        "delivery_timeout_ms": ClientNumber(30_000, 100, 3_600_000),
        "request_timeout_ms": ClientNumber(10_000, 100, 300_000),
        # The client library's default, 100, makes a transaction 20 times slower.
        "retry_backoff_ms": ClientNumber(5, 1, 60_000),
    }
)
"""The options that we have defaults of our own for, and reckon with."""

ClientOptions: TypeAlias = Annotated[Mapping[str, Option], BeforeValidator(_options)]


@dataclass(frozen=True, kw_only=True, slots=True)
class BusConfig:
    """Settings of the Kafka client."""

    __pydantic_config__ = SECTION

    bootstrap_servers: str = ""
    """`host:port[,host:port]` of the brokers. Empty: start a broker on this machine."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """Protocol of the connections: encrypted (`SSL`, `SASL_SSL`), authenticated by name and password (`SASL_...`)."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "AWS_MSK_IAM", "GSSAPI"] = (
        "SCRAM-SHA-512"
    )
    """How the client proves who it is. `PLAIN` sends the password itself: use it only over `SASL_SSL`. `AWS_MSK_IAM`
    needs the package botocore, `GSSAPI` the package gssapi and `bus.client.sasl_kerberos_...`."""
    sasl_username: str = ""
    """User name for `SASL_...`."""
    sasl_password: OrNone[SecretStr] = None
    """Password of `sasl_username`."""
    sasl_oauth_token_provider: Annotated[str, AfterValidator(_is_path)] = ""
    """Import path of what makes the tokens of `OAUTHBEARER`, such as `my.tokens:Provider`: called without arguments,
    it returns an object whose method `token()` returns a valid token at each call."""
    ssl_cafile: OrNone[Path] = None
    """Certificate authorities (PEM) for the brokers' certificates. Default: those that this machine trusts."""
    ssl_certfile: OrNone[Path] = None
    """Client certificate (PEM), for brokers that ask for one."""
    ssl_keyfile: OrNone[Path] = None
    """Private key (PEM) of the client certificate, where it is not in the same file."""
    ssl_password: OrNone[SecretStr] = None
    """Password of the private key, where it is encrypted."""
    client: ClientOptions = field(default_factory=dict)
    """Options of the client library (kafka-python), by its own names, such as `compression_type = "lz4"`. We have
    defaults of our own for some: fetch_max_wait_ms 5, fetch_min_bytes 65536, session_timeout_ms 6000,
    heartbeat_interval_ms 500, retry_backoff_ms 5, delivery_timeout_ms 30000, request_timeout_ms 10000."""
    map: MapConfig = field(default_factory=MapConfig)
    registry: RegistryConfig = field(default_factory=RegistryConfig)
    begin: Annotated[str, AfterValidator(_is_begin)] = "earliest"
    """Where events, answers and labels are read from before anything was: `earliest`, `latest`, or a time such as
    `2026-01-31T00:00:00Z`."""
    topics_timeout_s: Annotated[float, Ge(0), Le(3_600), INTERNAL] = 30.0
    """How long a program waits, when it starts, for topics that are missing; then it ends."""
    prefix: str = ""
    """Prefix of every topic and consumer group, so that environments can share a cluster."""
    partitions: Annotated[int, Ge(1), Le(10_000)] = 4
    """Partitions of each topic that we create."""
    replication_factor: Annotated[int, Ge(1), Le(100)] = 1
    """Copies of each partition of the topics that we create."""
    max_message_bytes: Annotated[int, Ge(1 << 20), Le(8 << 20)] = 8 << 20
    """Largest message of the topics that we create; one of dead letters may be 1 MiB larger. Below 8 MiB, a larger
    dead letter is sent with the beginning of its payload."""
    patient_max_wait_ms: Annotated[int, Ge(1), Le(60_000), INTERNAL] = 50
    """The same for readers that can wait a moment (learner, rollout): it spares the broker."""
    max_in_flight: Annotated[int, Ge(1), Le(1_000_000), INTERNAL] = 2_000
    """Most unacknowledged records; then senders wait. The client library itself has no bound on its memory."""
    max_in_flight_bytes: Annotated[int, Ge(16 << 20), Le(16 << 30), INTERNAL] = 64 << 20
    """Most unacknowledged bytes. The largest dead letter has 9 MiB."""

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
        """Returns an option of CLIENT_NUMBERS: that of `client`, else our default."""
        value = self.client.get(name, CLIENT_NUMBERS[name].default)
        assert isinstance(value, int)  # `__post_init__` has checked it
        return value

    def with_client(self, **options: Option) -> "BusConfig":
        """Returns the settings with some options of the client library changed."""
        return replace(self, client={**self.client, **options})

    def topic_of(self, record: type[TopicRecord]) -> str:
        """Returns the topic that we send records of a type to, and that `lifelong topics create` makes."""
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
            (not mapped_ours, f"bus.map names {mapped_ours}, which is a topic of ours: name those of others alone"),
            (
                re.fullmatch(r"[A-Za-z0-9._-]{0,200}", self.prefix) is not None,
                "bus.prefix must be made of letters, digits, '.', '_' and '-', as names of topics are; 200 at most",
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
            meant = f"a whole number from {number.lowest} to {number.highest}, {number.default} by default"
            rules.append((is_in_range, f"bus.client.{name} is {value!r}, and must be {meant}"))
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
                "bus.sasl_oauth_token_provider makes the tokens of bus.sasl_mechanism OAUTHBEARER over "
                "bus.security_protocol SASL_PLAINTEXT or SASL_SSL: set all of them, or none",
            ),
            (
                self.uses_ssl or not has_files,
                "bus.ssl_cafile, ssl_certfile, ssl_keyfile and ssl_password belong to bus.security_protocol SSL or "
                "SASL_SSL",
            ),
            (
                self.ssl_certfile is not None or not (self.ssl_keyfile or self.ssl_password),
                "bus.ssl_keyfile and bus.ssl_password are of the key of bus.ssl_certfile, which is not set",
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
    source_burst: Annotated[int, Ge(1), Le(1_000_000), INTERNAL] = 1_000
    """Token bucket: labels that one source may send at once."""
    source_share: Annotated[float, Gt(0), Le(1)] = 1.0
    """Largest share of learnt labels from one source while it floods; useful with many sources. 1: no cap."""
    source_window: Annotated[int, Ge(1), Le(10_000_000), INTERNAL] = 2_000
    """Number of recent labels over which the shares of sources are counted."""
    max_sources: Annotated[int, Ge(1), Le(10_000_000), INTERNAL] = 1_000
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
    chunk_bytes: Annotated[int, Ge(1 << 16), Le(256 << 20), INTERNAL] = 4 << 20
    """Largest value that one command writes or reads: a larger one would block all other clients."""
    max_blob_bytes: Annotated[int, Ge(1 << 20), Le(16 << 30), INTERNAL] = 1 << 30
    """Largest blob that is read. A manifest that names a larger one is refused before anything is fetched."""
    history: Annotated[int, Ge(1), Le(1_000_000), INTERNAL] = 1_000
    """Most entries of the history of versions."""
    poll_interval_ms: Annotated[int, Ge(10), Le(60_000), INTERNAL] = 1_000
    """How often a watcher reads the change counter; notifications only make it read sooner."""
    report_ttl_ms: Annotated[int, Ge(1_000), Le(3_600_000), INTERNAL] = 10_000
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
    max_per_s: Annotated[float, Gt(0), Le(100_000), INTERNAL] = 20.0
    """Most spans that a process makes in a second, whoever began their traces."""
