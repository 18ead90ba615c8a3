"""The endpoints over the same queue that Kafka feeds, and what all of them share.

    POST /v1/predict                          events in, answers out
    GET  /v1/health/live, /v1/health/ready    for probes and load balancers
    GET  /v1/status                           what this replica serves and has counted

`serving/http/app.py` lists those of the other files. Every error has a code and a message
(`serving/http/problems.py`), and every response has x-request-id; a request that is refused before it is complete
(`serving/http/connection.py`) has no id. Bad input is never a 500, and no message reveals internals.

Rejected: FastAPI (half the requests a second of bare ASGI here, and its models would be a second set of records).
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from serving.errors import Unhealthy
from serving.http.access import Access, ApiClient, Role
from serving.http.bridge import RequestBridge
from serving.http.problems import Problem, RequestRefused, accepted
from serving.http.requests import Bodies, ask_of
from serving.http.schemas import Entry, read_request, whole_problem, write_replies
from serving.served_task import ReplicaStatus
from wire.label_set import LabelSet
from wire.receipts import Receipts

REF: Final = "#/components/schemas/{name}"
"""Where the document has the schema of a record."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Api:
    """What the endpoints share, and those that this file lists. `receipts` checks and approves labels; `labels` returns
    the set of those of a task."""

    bridge: RequestBridge
    bodies: Bodies
    access: Access
    receipts: Receipts
    labels: Callable[[str], LabelSet]
    max_events: int
    check: Callable[[], None]
    status: Callable[[], ReplicaStatus]
    now_ms: Callable[[], int]
    new_id: Callable[[], str]

    async def predict(self, request: Request) -> Response:
        client = self.client(request, Role.PREDICT)
        with self.bodies.room() as room:
            body = accepted(await room.read(request))
            parsed = read_request(body, max_events=self.max_events, now_ms=self.now_ms(), new_id=self.new_id)
            entries, is_list = accepted(parsed)
            replies = await self.bridge.answer_many(self.admit(client, entries), ask_of(request))
            problem = whole_problem(replies, is_list=is_list)
            if problem:
                raise RequestRefused(problem)
            return json_response(write_replies(replies))

    async def live(self, request: Request) -> Response:
        self.require_live()
        return json_response(b'{"live":true}')

    async def ready(self, request: Request) -> Response:
        self.require_ready()
        return json_response(b'{"ready":true}')

    async def show_status(self, request: Request) -> Response:
        self.client(request, None)
        return json_response(msgspec.json.encode(self.status()))

    def require_live(self) -> None:
        """Raises RequestRefused where this replica should be replaced."""
        try:
            self.check()
        except Unhealthy as error:
            raise RequestRefused(
                Problem(status=HTTPStatus.SERVICE_UNAVAILABLE, code="unhealthy", message=str(error))
            ) from error

    def require_ready(self) -> None:
        """Raises RequestRefused where this replica cannot answer now."""
        if problem := self.bridge.why_not_ready():
            raise RequestRefused(problem)

    def client(self, request: Request, role: Role | None) -> ApiClient:
        """Returns who asks for what needs `role`. Raises RequestRefused."""
        self.access.check_sender(request.headers, has_body=request.method == "POST")
        address = request.client.host if request.client else ""
        return self.access.client(address, request.headers, role)

    def admit(self, client: ApiClient, entries: Sequence[Entry]) -> list[Entry]:
        """Returns what a client sends, each event under the client's name. Raises RequestRefused where it sends more
        than it may."""
        self.access.take(client, len(entries))
        return [client.named(entry) for entry in entries]

    def count_refused(self, code: str) -> None:
        """Counts a request, or a connection, that was refused because of what its client did."""
        self.bridge.count_refused(code)


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """One method of one path. `body` has the records that a request may be (none: it has no body).

    `role` is what an API key must have where keys are required, and None where none is needed even then.
    """

    path: str
    endpoint: Callable[[Request], Awaitable[Response]]
    summary: str
    answer: type
    body: tuple[type, ...] = ()
    role: Role | None = None
    needs_key: bool = True
    headers: tuple[str, ...] = ()
    errors: tuple[int, ...] = ()

    @property
    def method(self) -> str:
        return "POST" if self.body else "GET"


def json_response(body: bytes, *, headers: dict[str, str] | None = None) -> Response:
    return Response(body, headers=headers, media_type="application/json")
