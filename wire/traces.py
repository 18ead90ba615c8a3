"""Traces (OpenTelemetry): a trace follows an event to its answer, its label, and the first version that has learnt it.

    event's traceparent -> span of the answer, whose traceparent is sent with the answer      replica
                           -> span of the label -> span until a version with it is published  learner
                           -> span until a stable version with it answers                     rollout

    record(kind, parent, start, end) --finished span--> [queue of the SDK] --a thread of the SDK--> traces.endpoint
    Answer with a sampled traceparent --add--> TracedAnswers --take, when the label comes--> the traceparent

**Spans.** SPANS lists all spans with their names and attributes. A released name never changes; `tests/wire/spans.txt`
has all of them. No attribute has a text, a label, a key or the id of an event, because traces leave the service, and
subjects cannot be erased there.

**Recording.** A span is recorded after its end, so a killed process leaves no open span. Its parent is a `traceparent`
(W3C Trace Context). If the parent is not sampled, the span is not either; a span without a parent is sampled with the
rate `traces.share`. A process makes at most `max_per_s` spans a second, even if senders have sampled more. If the queue
is full, for example because the collector is unreachable, spans are dropped.

**SDK.** Only this module imports it, and only if an endpoint is set; otherwise all functions here do nothing. The SDK
also reads `OTEL_EXPORTER_OTLP_HEADERS` and `OTEL_RESOURCE_ATTRIBUTES` from the environment. There is one exporter in a
process; otherwise it would be a parameter of every constructor. TracedAnswers is bounded and only in memory, because
traces need not survive a restart.

Rejected:

- Spans that are opened and closed around the work: the context would have to pass through every queue and thread.
- The global provider of the SDK: Ray may have one in the same process.
- Ids from Python's global random generator: a strategy of Avalanche seeds it.
- A field of the label: senders of labels do not know our traces.
"""

import math
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit

import structlog

from wire.config import TracesConfig
from wire.errors import TracesUnavailable
from wire.rate_limits import TokenBuckets
from wire.recent import name_hash64
from wire.records import Answer

Program: TypeAlias = Literal["replica", "learner", "rollout"]
"""A process that makes spans: `lifelong-replica` is its `service.name`."""

VERSION_NUMBER: Final = "lifelong.weights_version"
ARM: Final = "lifelong.arm"
PRECISION: Final = "lifelong.precision"
QUEUE_MS: Final = "lifelong.queue_ms"
IN_HOLDOUT: Final = "lifelong.in_holdout"

MAX_QUEUED: Final = 1_024
MAX_BATCH: Final = 512
INTERVAL_MS: Final = 1_000
"""Longest time that a span waits for others in its batch."""

EXPORT_TIMEOUT_S: Final = 3.0
"""Longest time to send one batch, with retries. A process that ends waits for MAX_QUEUED / MAX_BATCH batches."""

TRACEPARENT: Final = "traceparent"
TRACES_PATH: Final = "/v1/traces"

SAMPLED: Final = tuple("13579bdf")
"""The possible last digits of a sampled traceparent: the lowest bit of its flags is set."""

log = structlog.get_logger("traces")

MAX_ANSWERS: Final = 10_000
"""Highest number of traced answers that wait for a label. The oldest is forgotten first."""


@dataclass(frozen=True, slots=True)
class SpanKind:
    """A kind of span: its name, the process that makes it, its beginning and end (`help`), and its attributes."""

    name: str
    made_by: Program
    help: str
    attributes: tuple[str, ...]


ANSWER: Final = SpanKind(
    "lifelong.answer", "replica", "An event, from the queue to its answer", (VERSION_NUMBER, ARM, PRECISION, QUEUE_MS)
)
LABEL: Final = SpanKind("lifelong.label", "learner", "A label, from its poll until it is learnt", (IN_HOLDOUT,))
VERSION: Final = SpanKind(
    "lifelong.version", "learner", "A learnt label, until a version that knows it is published", (VERSION_NUMBER,)
)
LIVE: Final = SpanKind(
    "lifelong.live", "rollout", "A label, until the first answer of a stable version that knows it", (VERSION_NUMBER,)
)

SPANS: Final = (ANSWER, LABEL, VERSION, LIVE)


class _Recorder:
    """The spans of this process. Any thread may call `record`."""

    def __init__(self, config: TracesConfig, program: Program) -> None:
        from opentelemetry.context import Context
        from opentelemetry.trace import set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = _provider(config, program)
        self._tracer = self._provider.get_tracer("lifelong")
        self._propagator = TraceContextTextMapPropagator()
        self._no_context = Context()
        self._in_context = set_span_in_context
        self._share = config.share
        self._lock = threading.Lock()
        self._buckets = TokenBuckets(rate=config.max_per_s, burst=math.ceil(config.max_per_s), max_keys=1)

    def record(self, kind: SpanKind, parent: str, start_ms: float, end_ms: float, attributes: Mapping[str, Any]) -> str:
        """Makes a finished span, and returns its traceparent; "" if it is not sampled or there are too many."""
        is_sampled = parent.endswith(SAMPLED) if parent else secrets.randbelow(1 << 32) < self._share * 2.0**32
        if not (is_sampled and self._take()):
            return ""
        context = self._propagator.extract({TRACEPARENT: parent}, self._no_context)
        span = self._tracer.start_span(
            kind.name, context, start_time=round(1e6 * start_ms), attributes=dict(attributes)
        )
        # The clocks of two machines may differ, and a span must not have a negative duration.
        span.end(round(1e6 * max(start_ms, end_ms)))
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, self._in_context(span, self._no_context))
        return carrier[TRACEPARENT]

    def close(self) -> None:
        """Sends the queued spans, and ends the SDK's thread."""
        self._provider.shutdown()

    def _take(self) -> bool:
        with self._lock:
            return not self._buckets.take("", 1, now=time.monotonic())


class _Process:
    """Holds the recorder of this process; None while traces are off."""

    def __init__(self) -> None:
        self.recorder: _Recorder | None = None


_process = _Process()


def is_on() -> bool:
    """Whether this process exports traces."""
    return _process.recorder is not None


def record(kind: SpanKind, parent: str, *, start_ms: float, end_ms: float, attributes: Mapping[str, Any]) -> str:
    """Makes a finished span with this parent ("": a trace may begin here), and returns its traceparent.

    Returns "" if no span is made: traces are off, the span is not sampled, or there are too many. Times are Unix times
    in milliseconds. Any thread may call it.
    """
    recorder = _process.recorder
    return recorder.record(kind, parent, start_ms, end_ms, attributes) if recorder else ""


@contextmanager
def export(config: TracesConfig, program: Program) -> Iterator[None]:
    """Exports the traces of this process while the block runs, if an endpoint is set. Raises TracesUnavailable."""
    require(config)
    if not config.endpoint:
        yield
        return
    recorder = _Recorder(config, program)
    _process.recorder = recorder
    log.info("traces", endpoint=config.endpoint, share=config.share)
    try:
        yield
    finally:
        _process.recorder = None
        recorder.close()


def require(config: TracesConfig) -> None:
    """Raises TracesUnavailable, with the command to install it, if an endpoint is set and the exporter is missing."""
    if config.endpoint and find_spec("opentelemetry.exporter.otlp.proto.http") is None:
        raise TracesUnavailable("traces.endpoint needs: pip install 'lifelong[traces]' (in this folder: '.[traces]')")


def _provider(config: TracesConfig, program: Program) -> Any:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.id_generator import IdGenerator
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    class SecureIds(IdGenerator):
        """Draws ids from the system's random generator."""

        def generate_span_id(self) -> int:
            return secrets.randbelow((1 << 64) - 1) + 1

        def generate_trace_id(self) -> int:
            return secrets.randbelow((1 << 128) - 1) + 1

    # `_Recorder.record` has already decided which spans are sampled.
    provider = TracerProvider(
        sampler=ALWAYS_ON,
        resource=Resource.create({"service.name": f"lifelong-{program}"}),
        id_generator=SecureIds(),
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(endpoint=_traces_url(config.endpoint), timeout=EXPORT_TIMEOUT_S)
    provider.add_span_processor(
        BatchSpanProcessor(
            exporter, max_queue_size=MAX_QUEUED, schedule_delay_millis=INTERVAL_MS, max_export_batch_size=MAX_BATCH
        )
    )
    return provider


def _traces_url(endpoint: str) -> str:
    """Returns the address to which traces are posted. An address without a path gets the path of OTLP.

    >>> _traces_url("http://127.0.0.1:4318"), _traces_url("https://traces.example/otlp/v1/traces")
    ('http://127.0.0.1:4318/v1/traces', 'https://traces.example/otlp/v1/traces')
    """
    return endpoint if urlsplit(endpoint).path.strip("/") else f"{endpoint.rstrip('/')}{TRACES_PATH}"


def find_traceparent(headers: Iterable[tuple[str, str]]) -> str:
    """Returns the traceparent in the headers of a record; "" if there is none."""
    return next((text for name, text in headers if name == TRACEPARENT), "")


class TracedAnswers:
    """The traces of answers that wait for their labels, by a hash of the event's id. Verbs: add, take.

    If events of several sources have the same id, the last one replaces the others.
    """

    def __init__(self, max_answers: int = MAX_ANSWERS) -> None:
        self._max_answers = max_answers
        # Hash of the event's id -> (the event's source, the traceparent).
        self._by_event: OrderedDict[int, tuple[str, str]] = OrderedDict()

    def add(self, answer: Answer) -> None:
        """Adds the trace of an answer, if it is sampled."""
        parent = find_traceparent(answer.headers)
        if not parent.endswith(SAMPLED):
            return
        name = name_hash64(answer.event_id.encode())
        self._by_event[name] = (answer.source, parent)
        self._by_event.move_to_end(name)
        if len(self._by_event) > self._max_answers:
            self._by_event.popitem(last=False)

    def take(self, event_id: str, source: str | None) -> str:
        """Removes and returns the traceparent of the answer to an event; "" if there is none.

        `source` is None if the label does not name it.
        """
        name = name_hash64(event_id.encode())
        event_source, parent = self._by_event.get(name, ("", ""))
        if not parent or source not in (None, event_source):
            return ""
        del self._by_event[name]
        return parent
