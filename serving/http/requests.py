"""Reads requests: the options in their headers, and their bodies. The bytes of each body and of all bodies are bounded.

x-request-timeout-ms, x-priority, traceparent --read_options--> RequestOptions: deadline, priority, trace
body --Bodies.reader: its bytes are reserved until the request is answered--> bytes, or a problem
"""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, TypeAlias

from starlette.requests import ClientDisconnect, Request

from serving.http.problems import Problem, RequestRefused
from serving.http.schemas import TOO_LARGE
from serving.queue import Priority
from wire.inputs import max_event_bytes
from wire.traces import TRACEPARENT

TIMEOUT_HEADER: Final = "x-request-timeout-ms"
PRIORITY_HEADER: Final = "x-priority"

MAX_TIMEOUT_MS: Final = 3_600_000
MAX_TRACE_CHARS: Final = 128
"""A traceparent of version 00 has 55 characters; later versions may have more."""

Disconnected: TypeAlias = Callable[[], Coroutine[Any, Any, object]]
"""Returns when the client has disconnected."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestOptions:
    """The options of a request.

    - `disconnected`: returns when the client has disconnected
    - `timeout_s`: the client's own time-out in seconds; None if it has none
    - `version`, `is_embedding`: see `serving.queue.ItemOptions`
    - `traceparent`: the client's traceparent; the answers are part of its trace
    """

    disconnected: Disconnected
    timeout_s: float | None = None
    priority: Priority = Priority.NORMAL
    version: int = 0
    is_embedding: bool = False
    traceparent: str = ""


def read_options(request: Request, *, version: int = 0, is_embedding: bool = False) -> RequestOptions:
    """Returns the options of a request. Raises RequestRefused if a header has an invalid value."""
    return RequestOptions(
        disconnected=partial(_disconnected, request),
        timeout_s=read_timeout_s(request.headers),
        priority=parse_priority(request.headers.get(PRIORITY_HEADER, Priority.NORMAL.name)),
        version=version,
        is_embedding=is_embedding,
        traceparent=read_traceparent(request.headers),
    )


def read_traceparent(headers: Mapping[str, str]) -> str:
    """Returns the client's traceparent; "" if there is none, or if it cannot be valid."""
    text = headers.get(TRACEPARENT, "")
    return text if text.isascii() and len(text) <= MAX_TRACE_CHARS else ""


def read_timeout_s(headers: Mapping[str, str]) -> float | None:
    """Returns the client's time-out in seconds; None if the header is missing. Raises RequestRefused.

    >>> read_timeout_s({"x-request-timeout-ms": "250"})
    0.25
    """
    text = headers.get(TIMEOUT_HEADER)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and 0 < int(text) <= MAX_TIMEOUT_MS):
        raise RequestRefused(
            wrong_header(f"`{TIMEOUT_HEADER}` must be a number of milliseconds from 1 to {MAX_TIMEOUT_MS}")
        )
    return 1e-3 * int(text)


def parse_priority(name: str) -> Priority:
    """Returns the priority with this name, in upper or lower case. Raises RequestRefused.

    >>> parse_priority("High")
    <Priority.HIGH: 1.0>
    """
    priority = Priority.__members__.get(name.upper())
    if priority is None:
        raise RequestRefused(wrong_header(f"`{PRIORITY_HEADER}` must be high, normal or low"))
    return priority


def wrong_header(message: str) -> Problem:
    return Problem(status=HTTPStatus.BAD_REQUEST, code="wrong_header", message=message)


async def _disconnected(request: Request) -> None:
    """Returns when the client has disconnected. Must be called after the body was read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


TOO_MANY_BYTES = Problem(
    status=HTTPStatus.SERVICE_UNAVAILABLE,
    code="too_many_bytes",
    message="the requests without an answer have reached their limit of bytes: try again later",
    retry_after_s=1.0,
)
DISCONNECTED = Problem(
    status=HTTPStatus.BAD_REQUEST, code="disconnected", message="the client disconnected before the end of the body"
)


class Bodies:
    """Bounds the bytes of all request bodies in memory. It belongs to one event loop."""

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.num_bytes = 0

    def reader(self) -> "BodyReader":
        """Returns a context manager that reads one body, and releases its bytes at the end."""
        return BodyReader(self)

    def reserve(self, num_bytes: int) -> bool:
        """Reserves `num_bytes`, to be released later, and returns True. Returns False if they do not fit."""
        if self.num_bytes + num_bytes > self._max_bytes:
            return False
        self.num_bytes += num_bytes
        return True

    def release(self, num_bytes: int) -> None:
        self.num_bytes -= num_bytes


class BodyReader:
    """Reads one body, and reserves its bytes until the block ends."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self._num_bytes = 0

    def __enter__(self) -> "BodyReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bodies.release(self._num_bytes)

    async def read(self, request: Request) -> bytes | Problem:
        """Reads the body. Returns a problem as soon as the body is too large or does not fit."""
        declared = request.headers.get("content-length", "")
        at_most = max_event_bytes()
        if declared.isdecimal() and int(declared) > at_most:
            return TOO_LARGE
        chunks: list[bytes] = []
        try:
            async for chunk in request.stream():
                if self._num_bytes + len(chunk) > at_most:
                    return TOO_LARGE
                if not self._bodies.reserve(len(chunk)):
                    return TOO_MANY_BYTES
                self._num_bytes += len(chunk)
                chunks.append(chunk)
        except ClientDisconnect:
            return DISCONNECTED
        return b"".join(chunks)
