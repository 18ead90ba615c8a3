"""One HTTP connection with bounds on time and bytes: a subclass of uvicorn's protocol, which has no such bounds.

    bytes -> head (deadline, size) -> body (deadline, size on the wire) -> response (deadline) -> idle, or the next head

If a process or an address has too many connections, a new connection gets 503 and is closed. A request above its bounds
gets 408, 413 or 431, and its connection is closed. If the response to an earlier request is still due on the
connection, it is closed without a response. The server checks the deadlines of all connections once a second.

Rejected: h11, which bounds heads (a request takes four times as much CPU time as with httptools), and a timer for each
request (a stored deadline costs nothing).
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.config import ServingConfig
from serving.http.origin import to_network
from serving.http.problems import Problem, write_problem
from serving.http.schemas import TOO_LARGE
from wire.inputs import MAX_EVENT_BYTES, max_event_bytes

MAX_WIRE_BYTES = 2 * MAX_EVENT_BYTES
"""Most bytes of a body on the wire. They include the framing of its chunks, which may be much larger than the content.

The limit is larger if an installed input allows larger events.
"""

MAX_PIPELINED = 64
"""Most pipelined requests of one connection that wait for an earlier response."""

HEADER_TIMEOUT = Problem(
    status=HTTPStatus.REQUEST_TIMEOUT, code="header_timeout", message="the head of the request took too long"
)
BODY_TIMEOUT = Problem(
    status=HTTPStatus.REQUEST_TIMEOUT, code="body_timeout", message="the body of the request took too long"
)
HEADERS_TOO_LARGE = Problem(
    status=HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    code="headers_too_large",
    message="the head of the request has too many bytes",
)
TOO_MANY_CONNECTIONS = Problem(
    status=HTTPStatus.SERVICE_UNAVAILABLE,
    code="too_many_connections",
    message="this replica, or this address, has too many connections: try again later",
    retry_after_s=1.0,
)
NOT_HTTP = Problem(status=HTTPStatus.BAD_REQUEST, code="not_http", message="the request is not HTTP/1.1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """The bounds of one connection, one address and one process; `ServingConfig` documents each."""

    header_timeout_s: float
    body_timeout_s: float
    keep_alive_s: int
    max_header_bytes: int
    max_connections: int
    max_connections_per_address: int


def connection_bounds(config: ServingConfig) -> Bounds:
    """Returns the bounds that the settings state."""
    return Bounds(
        header_timeout_s=config.http_timeout_s,
        body_timeout_s=config.http_timeout_s,
        keep_alive_s=config.keep_alive_s,
        max_header_bytes=config.max_header_bytes,
        max_connections=config.max_connections,
        max_connections_per_address=config.max_connections_per_address,
    )


class ConnectionLimit:
    """Counts the connections of one process. It belongs to one event loop.

    `note` is called with the code of the problem whenever a connection is ended because of its client's behaviour.
    """

    def __init__(self, bounds: Bounds, note: Callable[[str], None]) -> None:
        self.bounds = bounds
        self.note = note
        self._num = 0
        self._by_network: Counter[str] = Counter()

    def enter(self, network: str) -> bool:
        """Counts one more connection of `network`, which must `leave` later. Returns False if the limit is reached."""
        if self._num >= self.bounds.max_connections:
            return False
        if self._by_network[network] >= self.bounds.max_connections_per_address:
            return False
        self._num += 1
        self._by_network[network] += 1
        return True

    def leave(self, network: str) -> None:
        self._num -= 1
        self._by_network[network] -= 1
        if not self._by_network[network]:
            del self._by_network[network]


class _Phase(Enum):
    """The part of the current request that the client is sending."""

    NOTHING = "nothing"
    HEAD = "head"
    BODY = "body"


class Connection(HttpToolsProtocol):
    """The protocol object that uvicorn makes for each connection. The server calls `check_deadlines` once a second."""

    def __init__(self, *args: Any, limit: ConnectionLimit, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limit = limit
        self._network: str | None = None
        self._read_s = self.loop.time()
        self._num_read = 0
        self._expect(_Phase.HEAD)
        self._stuck_s: float | None = None
        self._is_refused = False

    def check_deadlines(self) -> None:
        """Ends the connection if the client takes too long to send a request, or to read a response."""
        now_s = self.loop.time()
        # A full write buffer means that the client does not read the response.
        if self.transport.get_write_buffer_size():
            if self._stuck_s is None:
                self._stuck_s = now_s
            if now_s - self._stuck_s > self._limit.bounds.body_timeout_s:
                self._abort("response_timeout")
            return
        self._stuck_s = None
        is_client_due = not self.flow.read_paused and self._phase is not _Phase.NOTHING
        if is_client_due and now_s - self._since_s > self._timeout_s:
            self._time_out()

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        network = to_network(self.client[0]) if self.client else ""
        if self._limit.enter(network):
            self._network = network
        else:
            self._refuse(TOO_MANY_CONNECTIONS)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._network is not None:
            self._limit.leave(self._network)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        self._read_s = self.loop.time()
        if self._phase is _Phase.NOTHING:
            self._expect(_Phase.HEAD)
        self._num_read = len(data)
        self._num_bytes += len(data)
        super().data_received(data)
        if self._num_bytes > self._limit.bounds.max_header_bytes:
            self._check_size()

    def on_message_begin(self) -> None:
        self._expect(_Phase.HEAD)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Refuses a head that is too large, or too many pipelined requests: ValueError ends the parsing."""
        # A head that came in fewer bytes cannot be too large, so most heads need not be counted.
        if self._num_read > self._limit.bounds.max_header_bytes:
            num_bytes = len(self.url) + sum(len(name) + len(value) + len(":\r\n") for name, value in self.headers)
            if num_bytes > self._limit.bounds.max_header_bytes:
                self._refuse(HEADERS_TOO_LARGE)
                raise ValueError("the head is too large")
        if len(self.pipeline) >= MAX_PIPELINED:
            self._abort("pipelined")
            raise ValueError("too many requests wait")
        super().on_headers_complete()
        self._expect(_Phase.BODY)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._expect(_Phase.NOTHING)

    def send_400_response(self, msg: str) -> None:
        """Uvicorn calls it if its parser has raised an error."""
        self._refuse(NOT_HTTP)

    def _expect(self, phase: _Phase) -> None:
        """Starts counting the bytes and the time of the next part of a request."""
        self._phase = phase
        self._since_s = self._read_s
        self._num_bytes = 0

    @property
    def _timeout_s(self) -> float:
        bounds = self._limit.bounds
        return bounds.body_timeout_s if self._phase is _Phase.BODY else bounds.header_timeout_s

    def _check_size(self) -> None:
        """Ends the connection if a head, or a body with its framing, has too many bytes."""
        if self._phase is _Phase.HEAD:
            self._refuse(HEADERS_TOO_LARGE)
        elif self._phase is _Phase.BODY:
            # `max_event_bytes` asks each input, so the constant is compared first.
            is_too_large = self._num_bytes > MAX_WIRE_BYTES and self._num_bytes > 2 * max_event_bytes()
            if is_too_large:
                self._refuse(TOO_LARGE)

    def _time_out(self) -> None:
        if self._phase is _Phase.BODY:
            self._refuse(BODY_TIMEOUT)
        elif self._num_read:
            self._refuse(HEADER_TIMEOUT)
        else:
            # The client never sent a byte.
            self._abort("silent")

    def _refuse(self, problem: Problem) -> None:
        """Responds with the problem and closes the connection. If an earlier response is still due, only closes the
        connection."""
        if self._is_refused:
            return
        if not self._is_next():
            self._abort(problem.code)
            return
        self._end(problem.code)
        self.transport.write(_response(problem))
        self.transport.close()

    def _is_next(self) -> bool:
        """Whether the next response belongs to the request that the client is sending, and not to an earlier one."""
        if self._phase is _Phase.BODY:
            return not self.pipeline and not self.cycle.response_started
        return self.cycle is None or self.cycle.response_complete

    def _abort(self, code: str) -> None:
        self._end(code)
        self.transport.abort()

    def _end(self, code: str) -> None:
        if not self._is_refused:
            self._limit.note(code)
        self._is_refused = True
        if self.cycle is not None and not self.cycle.response_complete:
            # Uvicorn discards the application's response from now on.
            self.cycle.disconnected = True
            self.cycle.message_event.set()


def _response(problem: Problem) -> bytes:
    body = write_problem(problem, "")
    head = (
        f"HTTP/1.1 {problem.status.value} {problem.status.phrase}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n"
    )
    if problem.retry_after_s is not None:
        head += f"retry-after: {problem.retry_after_s:.0f}\r\n"
    return f"{head}\r\n".encode() + body
