"""Where Kafka and Redis are, and the bounds under which we talk to them."""

from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, kw_only=True, slots=True)
class BusConfig:
    """The Kafka door."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    bootstrap_servers: str = ""
    """`host:port[,host:port]` of the brokers. Empty: start a broker on this machine."""
    prefix: str = ""
    """Put before every topic and consumer group, so that environments can share a cluster."""
    partitions: int = 4
    """Partitions of each topic that we create."""
    replication_factor: int = 1
    """Copies of each partition of the topics that we create."""
    fetch_max_wait_ms: int = 10
    """How long the broker may hold a fetch that has no data yet: 10 ms costs little and answers in 3.4 ms."""
    patient_max_wait_ms: int = 100
    """The same for readers whom a tenth of a second does not hurt (learner, rollout): it spares the broker."""
    session_timeout_ms: int = 6_000
    """A replica not heard of for this long loses its partitions."""
    heartbeat_interval_ms: int = 500
    """How often a replica says that it is alive."""
    max_poll_records: int = 500
    """Records taken from the consumer in one poll."""
    max_in_flight: int = 2_000
    """Unacknowledged sends before a sender waits: the client itself has no bound on its memory."""
    linger_ms: int = 2
    """How long a send may wait for company."""
    delivery_timeout_ms: int = 30_000
    """After this long without an acknowledgement a send has failed."""
    request_timeout_ms: int = 10_000
    """How long one request to a broker may take."""
    retry_backoff_ms: int = 5
    """Pause before a retry. The client's own default, 100, makes a transaction 20 times slower."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreConfig:
    """The Redis door."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    url: str = ""
    """`redis://`, `rediss://` or `unix://` address. Empty: start a server on this machine."""
    prefix: str = "lifelong:"
    """Put before every key, so that environments can share a server."""
    timeout_ms: int = 1_000
    """How long one command may take, connecting included."""
    chunk_bytes: int = 4 << 20
    """Largest value written or read in one command: larger ones hold up everybody else."""
    max_blob_bytes: int = 1 << 30
    """Largest blob that is read; a manifest that names a larger one is refused before anything is fetched."""
    history: int = 1_000
    """Entries of the history that are kept."""
    poll_interval_ms: int = 1_000
    """How often a watcher looks by itself; notifications only make it look sooner."""
    report_ttl_ms: int = 10_000
    """How long the report of a replica is kept after it was last heard of."""
