"""The settings of serving: batches, queues, windows, bounds, addresses, and what each optional part is to do.

[serving] --> ServingConfig    [serving.precision, .refusal, .series, .scaling] --> a record of its own each
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from annotated_types import Ge, Gt, Le, Lt, MaxLen
from pydantic import BeforeValidator

from serving.scaling import ScalingConfig
from wire.backoff import Backoff
from wire.kinds import KINDS
from wire.records import MAX_EVENT_BYTES, MAX_TEXT_TOKENS
from wire.sections import INTERNAL, SECTION, OrNone, decoded, require


@dataclass(frozen=True, kw_only=True, slots=True)
class PrecisionConfig:
    """The choice of a precision: the fastest that is as accurate as allowed."""

    __pydantic_config__ = SECTION

    mode: Literal["auto", "fp32", "int8", "int4"] = "auto"
    """`auto` chooses for every batch by the latencies measured on this machine. A named precision is kept as far as the
    accuracy allows it."""
    max_accuracy_loss: Annotated[float, Ge(0), Le(1)] = 0.005
    """Largest accuracy that a precision may have lost against the version's best and still answer."""
    min_gain: Annotated[float, Ge(0), Le(1), INTERNAL] = 0.1
    """Share of the time that a precision must save to be preferred to the best; half of it keeps it preferred."""
    brown_out_load: Annotated[float, Gt(0), Le(1), INTERNAL] = 0.5
    """Share of `serving.max_queue_items` beyond which a replica is overloaded, until half of that is gone. 1: never."""
    brown_out_accuracy_loss: Annotated[float, Ge(0), Le(1), INTERNAL] = 0.03
    """`max_accuracy_loss` of an overloaded replica, where that is less: under `auto` it answers by the fastest before
    it refuses."""

    @property
    def overloaded_accuracy_loss(self) -> float:
        """The largest accuracy that a precision may have lost if the replica is overloaded."""
        return max(self.max_accuracy_loss, self.brown_out_accuracy_loss)


Promised: TypeAlias = Literal["p99_ms", "answers_per_s", "tokens_per_s", "accuracy", "model_mb"]
Promises: TypeAlias = Annotated[Mapping[Promised, Annotated[float, Ge(0), Le(1_000_000_000)]], BeforeValidator(decoded)]
"""What a replica promises, and checks while it runs (`ServiceLevel`): a limit by name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RefusalConfig:
    """When an answer names no class but the fallback label (docs/labels.md). All 0: never."""

    __pydantic_config__ = SECTION

    label: str = "none of these"
    """Fallback label: that of an answer that is refused."""
    min_score: Annotated[float, Ge(0), Le(1)] = 0.0
    """Refuse answers whose `score`, the probability of the best class, is below."""
    known_share: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Refuse as many of the texts of known classes, the least certain ones. With 0.05, mostly texts of no class."""
    max_risk: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Refuse so many that of the answers that are left at most this share is wrong, with 95 % confidence."""

    def __post_init__(self) -> None:
        require((bool(self.label.strip()), "serving.refusal.label must have a name"))

    @property
    def is_on(self) -> bool:
        """Whether anything may be refused."""
        return bool(self.min_score or self.known_share or self.max_risk)

    def problems(self, kind: str) -> list[str]:
        """Returns what is wrong with it for labels of this kind."""
        if not self.is_on or KINDS.get(kind).is_exclusive:
            return []
        return [f"serving.refusal refuses to name one class, and labels.kind is {kind}: leave it unset"]


MAX_DEPTH = 1_000
"""Most events back that a lag or a mean may reach."""


Depths: TypeAlias = Annotated[
    tuple[Annotated[int, Ge(1), Le(MAX_DEPTH)], ...], MaxLen(MAX_DEPTH), BeforeValidator(decoded)
]


@dataclass(frozen=True, kw_only=True, slots=True)
class SeriesConfig:
    """What an event takes over from those of its key before it (docs/features.md). Without any: nothing."""

    __pydantic_config__ = SECTION

    lags: Depths = ()
    """So many events before an event of the same key, whose features it gets: 1 is the event before it."""
    means: Depths = ()
    """So many events before an event of the same key, of whose numbers it gets the means."""
    labels: Annotated[int, Ge(0), Le(MAX_DEPTH)] = 0
    """Labels of the same key that an event gets as categories: the newest ones that have come by then."""
    max_values: Annotated[int, Ge(1_000), Le(1_000_000_000), INTERNAL] = 1_000_000
    """Features of past events that a replica holds, of all keys, some 100 bytes each. Beyond it the key whose last
    event is the oldest is forgotten."""

    def __post_init__(self) -> None:
        require(
            (len(set(self.lags)) == len(self.lags), "serving.series.lags must not name a lag twice"),
            (len(set(self.means)) == len(self.means), "serving.series.means must not name a number of events twice"),
        )

    @property
    def is_used(self) -> bool:
        """Whether events take over anything."""
        return bool(self.depth or self.labels)

    @property
    def depth(self) -> int:
        """How many events back the features of an event matter to a later one."""
        return max((*self.lags, *self.means, 0))


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingConfig:
    """The replicas. Everything that grows with the traffic has its bound here."""

    __pydantic_config__ = SECTION

    replicas: Annotated[int, Ge(1), Le(1_024)] = 1
    """Processes that answer. They share the partitions of the events, and the HTTP port of their machine."""
    max_replicas_per_node: Annotated[int, Ge(0), Le(1_024)] = 0
    """Most replicas on one node of a Ray cluster; what has no room waits for another node. 0: as many as fit."""
    threads: Annotated[int, Ge(1), Le(1_024)] = 1
    """CPU threads of the tensor library in each replica."""
    group: Annotated[str, INTERNAL] = "serving"
    """Consumer group of the replicas."""

    max_tokens: OrNone[Annotated[int, Ge(3), Le(MAX_TEXT_TOKENS)]] = None
    """Tokens of a text that are read, in learner and replicas: each version answers with the length it was trained
    with. At most the positions of the encoder. Without it: what the encoder was published for."""
    max_batch_tokens: Annotated[int, Ge(1), Le(1 << 20)] = 1_024
    """Tokens of a batch: a larger batch does not answer faster, and the next event waits for it."""
    max_batch_items: Annotated[int, Ge(1), Le(65_536), INTERNAL] = 64
    """Texts of a batch."""
    max_wait_ms: Annotated[float, Ge(0), Le(10_000), INTERNAL] = 0.0
    """Longest time that the first text of a batch waits for more while the model is idle; never while it is busy.
    Measured with 32 and 64 clients: 1.5 ms gain nothing, and cost a single client 2 ms."""
    max_queue_items: Annotated[int, Ge(1), Le(1_000_000)] = 2_048
    """Texts that wait for the model. Beyond it HTTP answers 503."""
    max_queue_bytes: Annotated[int, Ge(1 << 20), Le(1 << 40), INTERNAL] = 64 << 20
    """Memory of these texts. Beyond it HTTP answers 503, too."""
    exactly_once: bool = False
    """Whether answers and offsets are one transaction of Kafka: each answer is committed once, whatever is killed."""
    max_open_events: Annotated[int, Ge(1), Le(1_000_000), INTERNAL] = 512
    """Events from Kafka that have no acknowledged answer. Others wait in Kafka, where HTTP does not wait for them."""
    dedupe_window: Annotated[int, Ge(1), Le(100_000_000), INTERNAL] = 100_000
    """Answered events that are remembered, so that one delivered twice is answered once. Each takes some 250 bytes."""
    outbox_bytes: Annotated[int, Ge(1 << 20), Le(1 << 40), INTERNAL] = 64 << 20
    """Memory of answers and dead letters that the broker has not acknowledged. Beyond it events wait in Kafka."""
    spool_dir: str = ""
    """Folder of the answers by HTTP that the broker has not acknowledged, so that an outage of Kafka or a killed
    replica loses none, and of what the replicas of this machine, which share it, know of plans and of killed processes,
    with a copy of the weights that answer, for a start without the store.
    Empty: `spool` in `state_dir`; a folder in the user's state home for `serve run`."""
    spool_bytes: Annotated[int, Ge(0), Le(1 << 40)] = 256 << 20
    """Bytes that one replica may keep there. Beyond it, HTTP says of an answer that it cannot be labelled."""
    spool_sync: bool = False
    """Whether an answer by HTTP is on the disk before it is sent, so that a power cut loses none that somebody has.
    Each request waits for the disk then."""
    top_scores: Annotated[int, Ge(1), Le(1_000)] = 5
    """Best classes of an answer that are listed with their probabilities."""
    audit_share: Annotated[float, Ge(0), Le(1)] = 0.0
    """Share of the events, drawn by their ids, whose answers ask for a label (`audit`). Where people label only what
    they found wrong, the labels of these are the ones that do not depend on the answer, and a candidate that is worse
    by them is not promoted."""
    answer_vectors: bool = True
    """Whether an answer in its topic has the vector of its text, 2 KB, so that the learner need not encode it again."""

    http_host: str = "127.0.0.1"
    """Address that HTTP listens on."""
    http_port: Annotated[int, Ge(1), Le(65_535)] = 8_000
    """Port that HTTP listens on."""
    grpc_port: Annotated[int, Ge(0), Le(65_535)] = 0
    """Port that gRPC (the Open Inference Protocol) listens on, at the address of HTTP. 0: it does not."""
    grpc_ssl_certfile: OrNone[Path] = None
    """Certificate (PEM) by which gRPC speaks TLS, and nothing else. It is read again when the file changes."""
    grpc_ssl_keyfile: OrNone[Path] = None
    """Private key (PEM, without a password) of the certificate, where it is not in the same file."""
    grpc_ssl_cafile: OrNone[Path] = None
    """Certificate authorities (PEM) of clients: every client of gRPC must have a certificate by one of them."""
    request_timeout_s: Annotated[float, Gt(0), Le(3_600)] = 10.0
    """A request that has no answer after this time gets 503."""
    max_events_per_request: Annotated[int, Ge(1), Le(65_536), INTERNAL] = 256
    """Events in one HTTP request."""
    http_timeout_s: Annotated[float, Ge(1), Le(3_600)] = 10.0
    """Longest time that a client takes to send the head of an HTTP request, from connection or first byte on; to send
    its body; and to read the response."""
    keep_alive_s: Annotated[int, Ge(1), Le(3_600), INTERNAL] = 75
    """Longest time that an HTTP connection is idle between two requests."""
    max_header_bytes: Annotated[int, Ge(1_024), Le(1 << 20), INTERNAL] = 16_384
    """Bytes of the head of an HTTP request."""
    max_connections: Annotated[int, Ge(1), Le(1_000_000)] = 1_024
    """HTTP connections of one replica. Beyond it a connection is answered 503 and closed."""
    max_connections_per_address: Annotated[int, Ge(1), Le(1_000_000)] = 512
    """HTTP connections of one address (in IPv6: one /64). Raise it where a proxy stands in front of the replicas."""
    max_request_bytes: Annotated[int, Ge(MAX_EVENT_BYTES), Le(1 << 36), INTERNAL] = 64 << 20
    """Bytes of all HTTP bodies that are not answered yet. Beyond it a request gets 503."""
    rate_limit_per_s: Annotated[float, Ge(0), Le(1_000_000)] = 0.0
    """Events a second that one client may ask for by HTTP. 0: no limit. A client is an address (in IPv6: one /64)."""
    keys_file: str = ""
    """File of API keys (`lifelong keys create`). Where it is set, every request but those of health needs one, and each
    key is a client of its own, whatever its address. Empty: none is needed."""
    rate_limit_burst: Annotated[int, Ge(1), Le(1_000_000), INTERNAL] = 100
    """Events that a client may ask for at once under a rate limit."""
    rate_limit_clients: Annotated[int, Ge(1), Le(10_000_000), INTERNAL] = 10_000
    """Clients whose token bucket is kept; the least recently seen is evicted first."""

    probe_tolerance: Annotated[float, Gt(0), Le(1), INTERNAL] = 0.05
    """Largest difference between the logits of a probe and the learner's, as a share of the largest of them."""
    refusal_retry_s: Annotated[float, Gt(0), Le(86_400), INTERNAL] = 30.0
    """Time for which a refused version is not tried again."""
    report_interval_s: Annotated[float, Ge(0.05), Le(3_600), INTERNAL] = 1.0
    """Interval at which a replica reports what it serves."""
    reconnect_s: Annotated[float, Ge(0.01), Le(60), INTERNAL] = 0.5
    """First back-off before a server that did not answer is asked again. It doubles up to 2 s, less a random part."""
    batch_timeout_s: Annotated[float, Ge(1), Le(3_600)] = 8.0
    """A replica is replaced when for this long its model has computed one batch, or failed at every batch, or its HTTP
    server has hung. A batch of more than 1,024 tokens may take as many times longer."""
    drain_timeout_s: Annotated[float, Ge(0), Le(3_600)] = 10.0
    """Longest time that a stopped replica takes to answer the events that it has accepted."""
    object_store_mb: Annotated[int, Ge(75), Le(1 << 20), INTERNAL] = 128
    """Shared memory of a Ray that we start, in MiB. Nothing of ours is sent through it."""
    refusal: RefusalConfig = RefusalConfig()
    """Which answers are refused."""
    precision: PrecisionConfig = PrecisionConfig()
    """The choice between INT8 and INT4."""
    series: SeriesConfig = SeriesConfig()
    """What an event takes over from the events of its key before it."""
    promises: Promises = field(default_factory=dict)
    """What a replica promises, and checks while it runs, by name. `p99_ms`: time within which 99 of 100 texts are
    answered, from the queue on. `answers_per_s`, `tokens_per_s`: texts, and their tokens, that are answered in a second
    in which the model computes. `accuracy`: on the holdout, of the version and the precision that answer, in [0, 1].
    `model_mb`: megabytes of the weights that answer, at most. A profile fills them in. Without one, or 0: nothing."""
    scaling: ScalingConfig = field(default_factory=ScalingConfig)

    @property
    def reconnect_backoff(self) -> Backoff:
        return Backoff(first_s=self.reconnect_s, longest_s=2.0, jitter=0.5)

    def __post_init__(self) -> None:
        require(
            (
                self.scaling.max_replicas == 0 or self.scaling.max_replicas >= self.replicas,
                "serving.scaling.max_replicas must not be below serving.replicas",
            ),
            (self.promises.get("accuracy", 0) <= 1, "serving.promises.accuracy must be a share, at most 1"),
            (self.group != "", "serving.group must have a name"),
            (self.http_host != "", "serving.http_host must be an address; 0.0.0.0 is every one of this machine"),
            (
                self.max_queue_items >= self.max_batch_items,
                f"serving.max_queue_items must be at least {self.max_batch_items}, or no batch could be full",
            ),
            (
                self.max_queue_items >= self.max_events_per_request,
                f"serving.max_queue_items must be at least {self.max_events_per_request}, the events of the largest "
                "request, or such a request could never be answered",
            ),
            (
                self.grpc_ssl_certfile is not None or not (self.grpc_ssl_keyfile or self.grpc_ssl_cafile),
                "serving.grpc_ssl_keyfile and serving.grpc_ssl_cafile need serving.grpc_ssl_certfile, which is not set",
            ),
            (
                self.grpc_port > 0 or self.grpc_ssl_certfile is None,
                "serving.grpc_ssl_certfile is of serving.grpc_port, which is not set",
            ),
        )
