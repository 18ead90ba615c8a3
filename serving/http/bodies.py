"""The bodies of HTTP requests: each is bounded while it is read, and all together until they are answered."""

from http import HTTPStatus
from types import TracebackType

from starlette.requests import ClientDisconnect, Request

from serving.http.problems import Problem
from serving.http.schemas import TOO_LARGE
from wire.records import MAX_EVENT_BYTES

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
        if declared.isdecimal() and int(declared) > MAX_EVENT_BYTES:
            return TOO_LARGE
        chunks: list[bytes] = []
        try:
            async for chunk in request.stream():
                if self._num_bytes + len(chunk) > MAX_EVENT_BYTES:
                    return TOO_LARGE
                if not self._bodies.reserve(len(chunk)):
                    return TOO_MANY_BYTES
                self._num_bytes += len(chunk)
                chunks.append(chunk)
        except ClientDisconnect:
            return DISCONNECTED
        return b"".join(chunks)
