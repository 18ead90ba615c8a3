"""The HTTP endpoints of a replica: a Starlette application over the same queue that Kafka feeds.

    POST /v1/predict                          events in, answers out
    GET  /v1/health/live, /v1/health/ready    for probes and load balancers
    GET  /v1/status                           what this replica serves and has counted

Every error is {"error": {"code", "message", "request_id"}}, and every response has x-request-id; a request that is
refused before it is complete (`serving/http/connection.py`) has no id. Bad input is never a 500, and no message reveals
internals.

Rejected: FastAPI (half the requests a second of bare ASGI here, and its models would be a second set of records).
"""

import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from serving.errors import Unhealthy
from serving.http.bodies import Bodies
from serving.http.bridge import RequestBridge
from serving.http.clients import KeyNames, client_name
from serving.http.request_id import RequestId, request_id_of
from serving.http.schemas import Entry, Problem, Reply, read_request, write_problem, write_replies
from serving.status import ReplicaStatus
from wire.token_bucket import TokenBuckets

INTERNAL = Problem(
    status=HTTPStatus.INTERNAL_SERVER_ERROR, code="internal", message="something went wrong; the log has the request id"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Api:
    """The endpoints. `limit` is None where clients are not rate limited."""

    bridge: RequestBridge
    bodies: Bodies
    key_names: KeyNames
    limit: TokenBuckets | None
    max_events: int
    check: Callable[[], None]
    status: Callable[[], ReplicaStatus]
    now_ms: Callable[[], int]
    new_id: Callable[[], str]

    async def predict(self, request: Request) -> Response:
        with self.bodies.room() as room:
            body = await room.read(request)
            if isinstance(body, Problem):
                return self._problem(request, body)
            parsed = read_request(body, max_events=self.max_events, now_ms=self.now_ms(), new_id=self.new_id)
            if isinstance(parsed, Problem):
                return self._problem(request, parsed)
            entries, is_list = parsed
            return await self._answer(request, entries, is_list)

    async def live(self, request: Request) -> Response:
        try:
            self.check()
        except Unhealthy as error:
            problem = Problem(status=HTTPStatus.SERVICE_UNAVAILABLE, code="unhealthy", message=str(error))
            return self._problem(request, problem)
        return _json(b'{"live":true}')

    async def ready(self, request: Request) -> Response:
        problem = self.bridge.why_not_ready()
        return self._problem(request, problem) if problem else _json(b'{"ready":true}')

    async def show_status(self, request: Request) -> Response:
        return _json(msgspec.json.encode(self.status()))

    async def _answer(self, request: Request, entries: Sequence[Entry], is_list: bool) -> Response:
        if self.limit is not None and (wait_s := self._wait_s(request, len(entries))):
            return self._problem(request, _too_many(wait_s))
        replies = await self.bridge.answer_many(entries, hung_up=partial(_hung_up, request))
        problem = whole_problem(replies, is_list=is_list)
        return self._problem(request, problem) if problem else _json(write_replies(replies))

    def _wait_s(self, request: Request, num: int) -> float:
        assert self.limit is not None
        address = request.client.host if request.client else ""
        client = client_name(address, request.headers.get("x-api-key", ""), self.key_names)
        return self.limit.take(client, num, now=time.monotonic())

    def count_refused(self, code: str) -> None:
        """Counts a request, or a connection, that was refused because of what its client did."""
        self.bridge.count_refused(code)

    def _problem(self, request: Request, problem: Problem) -> Response:
        if problem.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            self.count_refused(problem.code)
        return problem_response(request, problem)


def make_app(api: Api) -> ASGIApp:
    """Returns the application."""
    routes = [
        Route("/v1/predict", api.predict, methods=["POST"]),
        Route("/v1/health/live", api.live),
        Route("/v1/health/ready", api.ready),
        Route("/v1/status", api.show_status),
    ]
    handlers: dict[Any, Callable[[Request, Any], Awaitable[Response]]] = {
        HTTPException: _http_exception,
        Exception: _internal,
    }
    return RequestId(Starlette(routes=routes, exception_handlers=handlers), new_id=api.new_id)


async def _hung_up(request: Request) -> None:
    """Returns when the client has disconnected. Must be called after the body was read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def whole_problem(replies: Sequence[Reply], *, is_list: bool) -> Problem | None:
    """Returns the problem of the response as a whole: that of its only event, or one that held back every answer."""
    first = replies[0]
    if not isinstance(first, Problem):
        return None
    if not is_list:
        return first
    is_shared = all(isinstance(reply, Problem) and reply.status == HTTPStatus.SERVICE_UNAVAILABLE for reply in replies)
    return first if is_shared else None


def problem_response(request: Request, problem: Problem) -> Response:
    response = _json(write_problem(problem, request_id_of(request.scope)), status=problem.status)
    if problem.retry_after_s is not None:
        response.headers["retry-after"] = str(math.ceil(problem.retry_after_s))
    return response


def _too_many(wait_s: float) -> Problem:
    return Problem(
        status=HTTPStatus.TOO_MANY_REQUESTS,
        code="rate_limited",
        message="this client asks for more events a second than it may",
        retry_after_s=wait_s,
    )


def _json(body: bytes, *, status: int = HTTPStatus.OK) -> Response:
    return Response(body, status_code=status, media_type="application/json")


async def _http_exception(request: Request, error: HTTPException) -> Response:
    status = HTTPStatus(error.status_code)
    problem = Problem(status=status, code=status.name.lower(), message=status.phrase)
    response = problem_response(request, problem)
    response.headers.update(error.headers or {})
    return response


async def _internal(request: Request, error: Exception) -> Response:
    return problem_response(request, INTERNAL)
