"""Where Kafka and Redis are, and the bounds under which we talk to them."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le
from pydantic import SecretStr


def require(*rules: tuple[bool, str]) -> None:
    """What settings must be to each other: raises ValueError with every sentence that does not hold."""
    broken = [sentence for holds, sentence in rules if not holds]
    if broken:
        raise ValueError("; ".join(broken))


@dataclass(frozen=True, kw_only=True, slots=True)
class BusConfig:
    """The Kafka door."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    bootstrap_servers: str = ""
    """`host:port[,host:port]` of the brokers. Empty: start a broker on this machine."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How the brokers are spoken to: encrypted (`SSL`, `SASL_SSL`), and with a name and password (`SASL_...`)."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    """How the password is proved. `PLAIN` sends it: use it over `SASL_SSL` alone."""
    sasl_username: str = ""
    """The name that the brokers know us by, for `SASL_...`."""
    sasl_password: SecretStr | None = None
    """Its password."""
    ssl_cafile: Path | None = None
    """Certificates (PEM) of who may vouch for the brokers. Default: those that this machine trusts."""
    ssl_certfile: Path | None = None
    """Our own certificate (PEM), for brokers that ask for one."""
    ssl_keyfile: Path | None = None
    """The key (PEM) of our certificate, where it is not in the same file."""
    prefix: str = ""
    """Put before every topic and consumer group, so that environments can share a cluster."""
    partitions: Annotated[int, Ge(1), Le(10_000)] = 4
    """Partitions of each topic that we create."""
    replication_factor: Annotated[int, Ge(1), Le(100)] = 1
    """Copies of each partition of the topics that we create."""
    fetch_max_wait_ms: Annotated[int, Ge(1), Le(60_000)] = 10
    """How long the broker may hold a fetch that has no data yet: 10 ms costs little and answers in 3.4 ms."""
    patient_max_wait_ms: Annotated[int, Ge(1), Le(60_000)] = 100
    """The same for readers whom a tenth of a second does not hurt (learner, rollout): it spares the broker."""
    session_timeout_ms: Annotated[int, Ge(1_000), Le(60_000)] = 6_000
    """A replica not heard of for this long loses its partitions."""
    heartbeat_interval_ms: Annotated[int, Ge(50), Le(20_000)] = 500
    """How often a replica says that it is alive."""
    max_poll_records: Annotated[int, Ge(1), Le(100_000)] = 500
    """Records taken from the consumer in one poll."""
    max_in_flight: Annotated[int, Ge(1), Le(1_000_000)] = 2_000
    """Unacknowledged sends before a sender waits: the client itself has no bound on its memory."""
    max_in_flight_bytes: Annotated[int, Ge(16 << 20), Le(16 << 30)] = 64 << 20
    """The same in bytes. The largest dead letter has 9 MiB."""
    linger_ms: Annotated[int, Ge(0), Le(10_000)] = 2
    """How long a send may wait for company."""
    delivery_timeout_ms: Annotated[int, Ge(100), Le(3_600_000)] = 30_000
    """After this long without an acknowledgement a send has failed."""
    request_timeout_ms: Annotated[int, Ge(100), Le(300_000)] = 10_000
    """How long one request to a broker may take."""
    retry_backoff_ms: Annotated[int, Ge(1), Le(60_000)] = 5
    """Pause before a retry. The client's own default, 100, makes a transaction 20 times slower."""

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
    """Which labels are believed. By default whoever can write to the feedback topic is; forged receipts never are."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    require_receipts: bool = False
    """Whether a label without the receipt of its answer is refused."""
    receipt_max_age_s: Annotated[float, Gt(0), Le(3_153_600_000)] = 604_800.0
    """How long after its answer a label with a receipt may be said; as long as answers are kept."""
    source_labels_per_s: Annotated[float, Ge(0), Le(1_000_000)] = 0.0
    """Labels a second that one source may say, by the time of the answers that it labels. 0: no limit."""
    source_burst: Annotated[int, Ge(1), Le(1_000_000)] = 1_000
    """Labels that a source may say at once under that limit."""
    source_share: Annotated[float, Gt(0), Le(1)] = 1.0
    """Largest share of what is learnt that a source gets while it floods: set it where labels come from many. 1: all"""
    source_window: Annotated[int, Ge(1), Le(10_000_000)] = 2_000
    """Labels over which shares are taken."""
    max_sources: Annotated[int, Ge(1), Le(10_000_000)] = 1_000
    """Sources whose rate is remembered; the longest silent is forgotten first."""
    flip_alarm: bool = True
    """Whether labels that pile up against one class, or from one source as one class, are held."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreConfig:
    """The Redis door."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    url: str = ""
    """`redis://`, `rediss://` or `unix://` address. Empty: start a server on this machine."""
    prefix: str = "lifelong:"
    """Put before every key, so that environments can share a server."""
    timeout_ms: Annotated[int, Ge(20), Le(60_000)] = 1_000
    """How long one command may take, connecting included."""
    chunk_bytes: Annotated[int, Ge(1 << 16), Le(256 << 20)] = 4 << 20
    """Largest value written or read in one command: larger ones hold up everybody else."""
    max_blob_bytes: Annotated[int, Ge(1 << 20), Le(16 << 30)] = 1 << 30
    """Largest blob that is read; a manifest that names a larger one is refused before anything is fetched."""
    history: Annotated[int, Ge(1), Le(1_000_000)] = 1_000
    """Entries of the history that are kept."""
    poll_interval_ms: Annotated[int, Ge(10), Le(60_000)] = 1_000
    """How often a watcher looks by itself; notifications only make it look sooner."""
    report_ttl_ms: Annotated[int, Ge(1_000), Le(3_600_000)] = 10_000
    """How long the report of a replica is kept after it was last heard of."""
