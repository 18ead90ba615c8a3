"""Reads requests: what a client asks for besides its events, and bodies, which are bounded one by one and together.

x-request-timeout-ms, x-priority, traceparent --ask_of--> Ask: until when it waits, how urgent, of which trace
body --Bodies.room: held until it is answered--> bytes, or the problem: too large, or no room
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
"""Version 00 of a traceparent has 55; a later one may have more."""

HungUp: TypeAlias = Callable[[], Coroutine[Any, Any, object]]
"""Returns when the client has disconnected."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """What a request asks for besides its events. `timeout_s` is the client's own deadline (None: it has none).

    `version` and `is_embedding` are those of `serving.queue.Terms`. `traceparent` is the client's: the answers are
    part of that trace.
    """

    hung_up: HungUp
    timeout_s: float | None = None
    priority: Priority = Priority.NORMAL
    version: int = 0
    is_embedding: bool = False
    traceparent: str = ""


def ask_of(request: Request, *, version: int = 0, is_embedding: bool = False) -> Ask:
    """Returns how this request asks. Raises RequestRefused where a header has another value than it may."""
    return Ask(
        hung_up=partial(_hung_up, request),
        timeout_s=timeout_s_of(request.headers),
        priority=priority_of(request.headers.get(PRIORITY_HEADER, Priority.NORMAL.name)),
        version=version,
        is_embedding=is_embedding,
        traceparent=trace_of(request.headers),
    )


def trace_of(headers: Mapping[str, str]) -> str:
    """Returns the client's traceparent; "" where there is none that could be one."""
    text = headers.get(TRACEPARENT, "")
    return text if text.isascii() and len(text) <= MAX_TRACE_CHARS else ""


def timeout_s_of(headers: Mapping[str, str]) -> float | None:
    """Returns the time that the client waits, in seconds; None where it does not say. Raises RequestRefused.

    >>> timeout_s_of({"x-request-timeout-ms": "250"})
    0.25
    """
    text = headers.get(TIMEOUT_HEADER)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and 0 < int(text) <= MAX_TIMEOUT_MS):
        raise RequestRefused(wrong_header(f"`{TIMEOUT_HEADER}` is a number of milliseconds from 1 to {MAX_TIMEOUT_MS}"))
    return 1e-3 * int(text)


def priority_of(name: str) -> Priority:
    """Returns the priority of this name. Raises RequestRefused.

    >>> priority_of("High")
    <Priority.HIGH: 1.0>
    """
    found = Priority.__members__.get(name.upper())
    if found is None:
        raise RequestRefused(wrong_header(f"`{PRIORITY_HEADER}` is high, normal or low"))
    return found


def wrong_header(message: str) -> Problem:
    return Problem(status=HTTPStatus.BAD_REQUEST, code="wrong_header", message=message)


async def _hung_up(request: Request) -> None:
    """Returns when the client has disconnected. Must be called after the body was read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


TOO_MANY_BYTES = Problem(
    status=HTTPStatus.SERVICE_UNAVAILABLE,
    code="too_many_bytes",
    message="the requests that are not answered yet have as many bytes as they may",
    retry_after_s=1.0,
)
DISCONNECTED = Problem(status=HTTPStatus.BAD_REQUEST, code="disconnected", message="the body was not finished")


class Bodies:
    """The bytes of all bodies that are held now. One event loop uses it."""

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.num_bytes = 0

    def room(self) -> "Room":
        """Returns room for one body, as a context manager. Its bytes are released when the body is answered."""
        return Room(self)

    def reserve(self, num_bytes: int) -> bool:
        """Reserves `num_bytes`, to be released later, and returns True; returns False where they do not fit."""
        if self.num_bytes + num_bytes > self._max_bytes:
            return False
        self.num_bytes += num_bytes
        return True

    def release(self, num_bytes: int) -> None:
        self.num_bytes -= num_bytes


class Room:
    """The bytes that one body has reserved."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self._num_bytes = 0

    def __enter__(self) -> "Room":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bodies.release(self._num_bytes)

    async def read(self, request: Request) -> bytes | Problem:
        """Reads the body. Gives up as soon as it is too large, or does not fit."""
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
