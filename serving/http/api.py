"""The endpoints for events, health and status, and the parts that all endpoints share.

    POST /v1/predict                          events in, answers out
    GET  /v1/health/live, /v1/health/ready    for probes and load balancers
    GET  /v1/status                           versions, state and counters of this replica

`serving/http/app.py` lists the endpoints of all files. Events by HTTP go into the same queue as events from Kafka.
Every error has a code and a message (`serving/http/problems.py`). Every response has an x-request-id, unless the
request was refused before it was complete (`serving/http/connection.py`). Bad input never causes a 500, and no message
reveals internals.

Rejected: FastAPI (it serves half as many requests a second as bare ASGI here, and its models would be a second set of
records).
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
from serving.http.problems import Problem, RequestRefused, unwrap
from serving.http.requests import Bodies, read_options
from serving.http.schemas import Entry, read_request, request_problem, write_replies
from serving.served_task import ReplicaStatus
from wire.label_set import LabelSet
from wire.receipts import Receipts

REF: Final = "#/components/schemas/{name}"
"""The reference to a record's schema in the OpenAPI document."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Api:
    """The endpoints that this file lists, and the parts that all endpoints share.

    - `receipts`: checks the receipts of labels, and signs corrections
    - `labels`: returns a task's set of labels
    - `check`: raises Unhealthy if the replica must be replaced
    """

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
        with self.bodies.reader() as reader:
            body = unwrap(await reader.read(request))
            parsed = read_request(body, max_events=self.max_events, now_ms=self.now_ms(), new_id=self.new_id)
            entries, is_list = unwrap(parsed)
            replies = await self.bridge.answer_many(self.admit(client, entries), read_options(request))
            problem = request_problem(replies, is_list=is_list)
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
        """Raises RequestRefused if this replica must be replaced."""
        try:
            self.check()
        except Unhealthy as error:
            raise RequestRefused(
                Problem(status=HTTPStatus.SERVICE_UNAVAILABLE, code="unhealthy", message=str(error))
            ) from error

    def require_ready(self) -> None:
        """Raises RequestRefused if this replica cannot answer now."""
        if problem := self.bridge.not_ready_problem():
            raise RequestRefused(problem)

    def client(self, request: Request, role: Role | None) -> ApiClient:
        """Returns the client of a request to an endpoint that needs `role` (None: any role).

        Raises RequestRefused if the client may not call the endpoint.
        """
        self.access.check_sender(request.headers, has_body=request.method == "POST")
        address = request.client.host if request.client else ""
        return self.access.client(address, request.headers, role)

    def admit(self, client: ApiClient, entries: Sequence[Entry]) -> list[Entry]:
        """Counts the entries against the client's rate limit. Returns them, with the client's name in the source of
        each event.

        Raises RequestRefused if the client exceeds its rate limit.
        """
        self.access.take(client, len(entries))
        return [client.with_source(entry) for entry in entries]

    def count_refused(self, code: str) -> None:
        """Counts a request or connection that was refused, by the code of its problem."""
        self.bridge.count_refused(code)


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """One method of one path.

    - `answer`: the record of the response
    - `body`: the records that a request may contain; empty if it has no body
    - `role`: the role that an API key needs, if keys are required; None if any key will do
    - `needs_key`: whether a key is needed if keys are required
    - `headers`: required headers of the request
    - `errors`: the statuses of possible errors
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
