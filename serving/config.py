"""The settings of serving: batches, queues, windows, bounds, addresses, and optional parts.

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
from wire.sections import INTERNAL, SECTION, OrNone, parse_json_setting, require


@dataclass(frozen=True, kw_only=True, slots=True)
class PrecisionConfig:
    """The choice of a precision: the fastest one that is accurate enough."""

    __pydantic_config__ = SECTION

    mode: Literal["auto", "fp32", "int8", "int4"] = "auto"
    """`auto` chooses for every batch by the latencies measured on this machine. A named precision is used while it is
    accurate enough."""
    max_accuracy_loss: Annotated[float, Ge(0), Le(1)] = 0.005
    """Largest loss of accuracy, compared with the version's best precision, at which a precision may answer."""
    min_gain: Annotated[float, Ge(0), Le(1), INTERNAL] = 0.1
    """Share of the time that a precision must save to replace the most accurate one; with half of it, it is kept."""
    brown_out_load: Annotated[float, Gt(0), Le(1), INTERNAL] = 0.5
    """Share of `serving.max_queue_items` beyond which a replica is overloaded, until the load has halved. 1: never."""
    brown_out_accuracy_loss: Annotated[float, Ge(0), Le(1), INTERNAL] = 0.03
    """Replaces `max_accuracy_loss` while the replica is overloaded, if it is larger: under `auto`, the replica answers
    in the fastest precision before it refuses events."""

    @property
    def overloaded_accuracy_loss(self) -> float:
        """The largest loss of accuracy at which a precision may answer while the replica is overloaded."""
        return max(self.max_accuracy_loss, self.brown_out_accuracy_loss)


Promised: TypeAlias = Literal["p99_ms", "answers_per_s", "tokens_per_s", "accuracy", "model_mb"]
Promises: TypeAlias = Annotated[
    Mapping[Promised, Annotated[float, Ge(0), Le(1_000_000_000)]], BeforeValidator(parse_json_setting)
]
"""Service-level objectives: a limit by name, which a replica checks while it runs (`ServiceLevel`)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RefusalConfig:
    """Refusal of uncertain answers: they get the fallback label instead of a class (docs/labels.md). All 0: none."""

    __pydantic_config__ = SECTION

    label: str = "none of these"
    """Fallback label: the label of a refused answer."""
    min_score: Annotated[float, Ge(0), Le(1)] = 0.0
    """Refuse answers whose `score`, the probability of the best class, is below this value."""
    known_share: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Refuse this share of the texts of known classes, the least certain ones, and with them most texts of no class."""
    max_risk: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Target error rate among the answers that are not refused, kept with 95 % confidence."""

    def __post_init__(self) -> None:
        require((bool(self.label.strip()), "serving.refusal.label must have a name"))

    @property
    def is_on(self) -> bool:
        """Whether anything may be refused."""
        return bool(self.min_score or self.known_share or self.max_risk)

    def problems(self, kind: str) -> list[str]:
        """Returns the mistakes in these settings for labels of this kind."""
        if not self.is_on or KINDS.get(kind).is_exclusive:
            return []
        return [f"serving.refusal is for labels of one class, but labels.kind is {kind}: leave serving.refusal unset"]


MAX_LOOKBACK = 1_000
"""Largest number of events that a lag or a mean may reach back."""


Lookbacks: TypeAlias = Annotated[
    tuple[Annotated[int, Ge(1), Le(MAX_LOOKBACK)], ...], MaxLen(MAX_LOOKBACK), BeforeValidator(parse_json_setting)
]


@dataclass(frozen=True, kw_only=True, slots=True)
class SeriesConfig:
    """Features that an event receives from earlier events of the same key (docs/features.md). All unset: none."""

    __pydantic_config__ = SECTION

    lags: Lookbacks = ()
    """Lags: an event receives the features of the event this many events before it, of the same key. 1 is the previous
    event."""
    means: Lookbacks = ()
    """Windows: an event receives the means of the numbers of this many events before it, of the same key."""
    labels: Annotated[int, Ge(0), Le(MAX_LOOKBACK)] = 0
    """Number of latest labels of the same key that an event receives as categories."""
    max_values: Annotated[int, Ge(1_000), Le(1_000_000_000), INTERNAL] = 1_000_000
    """Features of past events that a replica keeps for all keys, about 100 bytes each. Beyond it, the key whose last
    event is the oldest is forgotten."""

    def __post_init__(self) -> None:
        require(
            (len(set(self.lags)) == len(self.lags), "serving.series.lags must not name a lag twice"),
            (len(set(self.means)) == len(self.means), "serving.series.means must not name a number of events twice"),
        )

    @property
    def is_used(self) -> bool:
        """Whether events receive any features of earlier events."""
        return bool(self.lookback or self.labels)

    @property
    def lookback(self) -> int:
        """The largest number of events that any lag or window reaches back."""
        return max((*self.lags, *self.means, 0))


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingConfig:
    """The replicas. Everything that grows with the traffic has its bound here."""

    __pydantic_config__ = SECTION

    replicas: Annotated[int, Ge(1), Le(1_024)] = 1
    """Processes that answer events. They share the partitions of the events, and the HTTP port of their machine."""
    max_replicas_per_node: Annotated[int, Ge(0), Le(1_024)] = 0
    """Most replicas on one node of a Ray cluster. Further replicas wait for another node. 0: as many as fit."""
    threads: Annotated[int, Ge(1), Le(1_024)] = 1
    """CPU threads of the tensor library in each replica."""
    group: Annotated[str, INTERNAL] = "serving"
    """Consumer group of the replicas."""

    max_tokens: OrNone[Annotated[int, Ge(3), Le(MAX_TEXT_TOKENS)]] = None
    """Length limit in tokens, for learner and replicas. Each version answers with the limit under which it was trained.
    At most the positions of the encoder. Unset: the limit for which the encoder was published."""
    max_batch_tokens: Annotated[int, Ge(1), Le(1 << 20)] = 1_024
    """Most tokens in a batch. Larger batches do not raise the throughput, but later events wait for them."""
    max_batch_items: Annotated[int, Ge(1), Le(65_536), INTERNAL] = 64
    """Most texts in a batch."""
    max_wait_ms: Annotated[float, Ge(0), Le(10_000), INTERNAL] = 0.0
    """Longest time that the first text of a batch waits for more texts while the model is idle; it never waits while
    the model is busy. Measured with 32 and 64 clients: 1.5 ms gain nothing, and cost a single client 2 ms."""
    max_queue_items: Annotated[int, Ge(1), Le(1_000_000)] = 2_048
    """Most texts that wait for the model. Beyond it, HTTP answers 503."""
    max_queue_bytes: Annotated[int, Ge(1 << 20), Le(1 << 40), INTERNAL] = 64 << 20
    """Most memory of the waiting texts. Beyond it, HTTP answers 503."""
    exactly_once: bool = False
    """Whether answers and offsets are committed in one Kafka transaction, so that each answer is committed exactly
    once, even if processes are killed."""
    max_open_events: Annotated[int, Ge(1), Le(1_000_000), INTERNAL] = 512
    """Most events from Kafka without an acknowledged answer. Further events wait in Kafka, where they do not delay
    HTTP."""
    dedupe_window: Annotated[int, Ge(1), Le(100_000_000), INTERNAL] = 100_000
    """Answered events that are remembered, so that an event delivered twice is answered once. About 250 bytes each."""
    outbox_bytes: Annotated[int, Ge(1 << 20), Le(1 << 40), INTERNAL] = 64 << 20
    """Most memory of answers and dead letters that the broker has not acknowledged. Beyond it, events wait in Kafka."""
    spool_dir: str = ""
    """Folder that the replicas of this machine share. It keeps answers by HTTP until the broker has acknowledged them,
    so that an outage of Kafka or a killed replica loses none. It also keeps the plan, the notes of killed processes,
    and a copy of the weights, so that a replica can start without the store.
    Empty: `spool` in `state_dir`; a folder in the user's state home for `serve run`."""
    spool_bytes: Annotated[int, Ge(0), Le(1 << 40)] = 256 << 20
    """Most bytes of one replica's answers in the spool. Beyond it, HTTP answers say that they cannot be labelled."""
    spool_sync: bool = False
    """Whether an answer by HTTP is written to the disk (fsync) before it is sent, so that a power cut loses no answer
    that a client has received. Each request then waits for the disk."""
    top_scores: Annotated[int, Ge(1), Le(1_000)] = 5
    """Number of best classes that an answer lists with their probabilities."""
    audit_share: Annotated[float, Ge(0), Le(1)] = 0.0
    """Share of the events, drawn by their ids, whose answers ask for a label (`audit`). If people otherwise label only
    answers that they found wrong, only the labels of the audit are unbiased. A candidate that is worse by the audit's
    labels is not promoted."""
    answer_vectors: bool = True
    """Whether answers in Kafka contain the vector of their text, 2 KB, so that the learner need not encode the text."""

    http_host: str = "127.0.0.1"
    """Address on which HTTP listens."""
    http_port: Annotated[int, Ge(1), Le(65_535)] = 8_000
    """Port on which HTTP listens."""
    grpc_port: Annotated[int, Ge(0), Le(65_535)] = 0
    """Port on which gRPC (the Open Inference Protocol) listens, at the address of HTTP. 0: gRPC is off."""
    grpc_ssl_certfile: OrNone[Path] = None
    """Certificate (PEM) of gRPC. If it is set, gRPC accepts only TLS. The file is read again when it changes."""
    grpc_ssl_keyfile: OrNone[Path] = None
    """Private key (PEM, without a password) of the certificate, if it is not in the certificate's file."""
    grpc_ssl_cafile: OrNone[Path] = None
    """Certificate authorities (PEM) of clients. If it is set, every gRPC client needs a certificate signed by one."""
    request_timeout_s: Annotated[float, Gt(0), Le(3_600)] = 10.0
    """A request without an answer after this time gets 503."""
    max_events_per_request: Annotated[int, Ge(1), Le(65_536), INTERNAL] = 256
    """Most events in one HTTP request."""
    http_timeout_s: Annotated[float, Ge(1), Le(3_600)] = 10.0
    """Longest time that a client may take for each of three steps: to send the head of an HTTP request, counted from
    the connection or its first byte; to send the body; and to read the response."""
    keep_alive_s: Annotated[int, Ge(1), Le(3_600), INTERNAL] = 75
    """Longest time that an HTTP connection may be idle between two requests."""
    max_header_bytes: Annotated[int, Ge(1_024), Le(1 << 20), INTERNAL] = 16_384
    """Most bytes in the head of an HTTP request."""
    max_connections: Annotated[int, Ge(1), Le(1_000_000)] = 1_024
    """Most HTTP connections of one replica. Further connections get 503 and are closed."""
    max_connections_per_address: Annotated[int, Ge(1), Le(1_000_000)] = 512
    """Most HTTP connections of one address (in IPv6: one /64). Raise it if a proxy is in front of the replicas."""
    max_request_bytes: Annotated[int, Ge(MAX_EVENT_BYTES), Le(1 << 36), INTERNAL] = 64 << 20
    """Most bytes of all HTTP bodies without an answer. Beyond it, a request gets 503."""
    rate_limit_per_s: Annotated[float, Ge(0), Le(1_000_000)] = 0.0
    """Events a second that one client may send by HTTP. 0: no limit. A client is an address (in IPv6: one /64)."""
    keys_file: str = ""
    """File of API keys (`lifelong keys create`). If it is set, every request except health checks needs a key, and each
    key counts as one client, whatever its address. Empty: no key is needed."""
    rate_limit_burst: Annotated[int, Ge(1), Le(1_000_000), INTERNAL] = 100
    """Events that a client may send at once under a rate limit."""
    rate_limit_clients: Annotated[int, Ge(1), Le(10_000_000), INTERNAL] = 10_000
    """Clients whose token buckets are kept; the least recently seen client is evicted first."""

    probe_tolerance: Annotated[float, Gt(0), Le(1), INTERNAL] = 0.05
    """Largest difference between a replica's and the learner's logits of a probe, as a share of the largest logit."""
    refusal_retry_s: Annotated[float, Gt(0), Le(86_400), INTERNAL] = 30.0
    """Time after which a refused version is tried again."""
    report_interval_s: Annotated[float, Ge(0.05), Le(3_600), INTERNAL] = 1.0
    """Interval at which a replica reports its state."""
    reconnect_s: Annotated[float, Ge(0.01), Le(60), INTERNAL] = 0.5
    """First back-off after a server did not answer. It doubles up to 2 s, less a random part."""
    batch_timeout_s: Annotated[float, Ge(1), Le(3_600)] = 8.0
    """A replica is replaced if one batch has run for this long, if every batch has failed for this long, or if its HTTP
    server has hung for this long. For a batch of more than 1,024 tokens the time grows in proportion."""
    drain_timeout_s: Annotated[float, Ge(0), Le(3_600)] = 10.0
    """Longest time that a stopping replica takes to answer the events that it has accepted."""
    object_store_mb: Annotated[int, Ge(75), Le(1 << 20), INTERNAL] = 128
    """Shared memory of a Ray that we start, in MiB. The service sends nothing through it."""
    refusal: RefusalConfig = RefusalConfig()
    """Refusal of uncertain answers."""
    precision: PrecisionConfig = PrecisionConfig()
    """The choice between INT8 and INT4."""
    series: SeriesConfig = SeriesConfig()
    """Features that an event receives from earlier events of the same key."""
    promises: Promises = field(default_factory=dict)
    """Service-level objectives, which a replica checks while it runs. `p99_ms`: 99 of 100 texts are answered within
    this time after they entered the queue. `answers_per_s`, `tokens_per_s`: texts or tokens for each second in which
    the model computes. `accuracy`: accuracy on the holdout, in [0, 1], of the version and the precision that answer.
    `model_mb`: largest size in megabytes of the weights that answer. A profile sets them. Unset or 0: no objective."""
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
            (self.promises.get("accuracy", 0) <= 1, "serving.promises.accuracy must be a share: at most 1"),
            (self.group != "", "serving.group must have a name"),
            (self.http_host != "", "serving.http_host must be an address; 0.0.0.0 is every address of this machine"),
            (
                self.max_queue_items >= self.max_batch_items,
                f"serving.max_queue_items must be at least {self.max_batch_items}, or no batch could be full",
            ),
            (
                self.max_queue_items >= self.max_events_per_request,
                f"serving.max_queue_items must be at least {self.max_events_per_request}, which is "
                "serving.max_events_per_request, or the largest request could never be answered",
            ),
            (
                self.grpc_ssl_certfile is not None or not (self.grpc_ssl_keyfile or self.grpc_ssl_cafile),
                "serving.grpc_ssl_keyfile and serving.grpc_ssl_cafile need serving.grpc_ssl_certfile, which is not set",
            ),
            (
                self.grpc_port > 0 or self.grpc_ssl_certfile is None,
                "serving.grpc_ssl_certfile needs serving.grpc_port, which is not set",
            ),
        )
