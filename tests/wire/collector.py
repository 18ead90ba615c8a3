"""An OTLP collector over HTTP for tests, which keeps the spans that are posted to it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True, slots=True)
class Span:
    """A received span. `parent` is the id of its parent span ("": none)."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace}-{self.id}-01"


@dataclass(slots=True)
class Collector:
    """The received spans in order. Posts are answered with `status`."""

    endpoint: str = ""
    status: int = 200
    spans: list[Span] = field(default_factory=list)
    num_posts: int = 0
    headers: dict[str, str] = field(default_factory=dict)

    def of(self, trace: str, name: str = "") -> list[Span]:
        """Returns the spans of a trace; with `name`, only the spans of that name."""
        return [span for span in list(self.spans) if span.trace == trace and name in ("", span.name)]

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        for group in request.resource_spans:
            service = _values(group.resource.attributes)["service.name"]
            for scope in group.scope_spans:
                self.spans += [_span(each, service) for each in scope.spans]


def _span(each: Any, service: str) -> Span:
    return Span(
        service=service,
        name=each.name,
        trace=each.trace_id.hex(),
        id=each.span_id.hex(),
        parent=each.parent_span_id.hex(),
        start_ns=each.start_time_unix_nano,
        end_ns=each.end_time_unix_nano,
        attributes=_values(each.attributes),
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


@contextmanager
def collecting() -> Iterator[Collector]:
    """Runs a collector while the block runs."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.num_posts += 1
            collector.headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(self.headers["content-length"]))
            if collector.status == 200 and self.path == "/v1/traces":
                collector.take(body)
            self.send_response(collector.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Logs nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()
