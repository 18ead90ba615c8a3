"""Errors of requests, in three formats: our own, RFC 9457, and the Open Inference Protocol's. Also request ids.

    request --RequestId--> its id: in the scope, in the headers of the response, and in the error
    Problem --> {"error": {"code", "message", "request_id"}}
            --> application/problem+json, if the client accepts it            {"type", "title", "status", "detail", ...}
            --> {"error": "message"}, on the paths of the Open Inference Protocol

A problem of one event is returned. A problem of a whole request is raised, as RequestRefused.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, TypeVar

import msgspec
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID_HEADER = "x-request-id"
_WELL_FORMED = re.compile(r"[\w.:/=+-]{1,128}", re.ASCII)


class RequestId:
    """ASGI middleware: puts the request's id into the scope and into the response's headers.

    The id is the one in the client's header if it is well-formed, else a new one.
    """

    def __init__(self, app: ASGIApp, *, new_id: Callable[[], str]) -> None:
        self._app = app
        self._new_id = new_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client_id = Headers(scope=scope).get(REQUEST_ID_HEADER, "")
        request_id = client_id if _WELL_FORMED.fullmatch(client_id) else self._new_id()
        scope["lifelong.request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
            await send(message)

        await self._app(scope, receive, send_with_id)


def get_request_id(scope: Scope) -> str:
    """Returns the request's id; "" if RequestId did not handle the request."""
    return str(scope.get("lifelong.request_id", ""))


V2_PATH: Final = "/v2"
PROBLEM_JSON: Final = "application/problem+json"

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """The reason why there is no answer. `code` is stable; `message` is for people, and names the field."""

    status: HTTPStatus
    code: str
    message: str
    retry_after_s: float | None = None


class RequestRefused(Exception):
    """Ends a request with a problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def unwrap(result: T | Problem) -> T:
    """Returns the result. Raises RequestRefused if it is a problem."""
    if isinstance(result, Problem):
        raise RequestRefused(result)
    return result


class ProblemBody(msgspec.Struct, frozen=True, omit_defaults=True):
    code: str
    message: str
    request_id: str = ""


class ErrorBody(msgspec.Struct, frozen=True):
    error: ProblemBody


class ProblemDetails(msgspec.Struct, frozen=True, kw_only=True):
    """A problem in the format of RFC 9457, section 3, with our code and the request's id as extensions."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str


class V2ErrorBody(msgspec.Struct, frozen=True):
    error: str


INTERNAL = Problem(
    status=HTTPStatus.INTERNAL_SERVER_ERROR,
    code="internal",
    message="internal error: see the replica's log for this request id",
)


def write_problem(problem: Problem, request_id: str) -> bytes:
    return msgspec.json.encode(ErrorBody(ProblemBody(problem.code, problem.message, request_id)))


def problem_response(request: Request, problem: Problem) -> Response:
    """Returns the error response, in the format that the path or the Accept header requires."""
    media_type = "application/json"
    if is_v2(request.url.path):
        body = msgspec.json.encode(V2ErrorBody(f"{problem.code}: {problem.message}"))
    elif PROBLEM_JSON in request.headers.get("accept", ""):
        media_type = PROBLEM_JSON
        body = msgspec.json.encode(_details(problem, get_request_id(request.scope)))
    else:
        body = write_problem(problem, get_request_id(request.scope))
    response = Response(body, status_code=problem.status, media_type=media_type)
    if problem.retry_after_s is not None:
        response.headers["retry-after"] = str(math.ceil(problem.retry_after_s))
    return response


def is_v2(path: str) -> bool:
    """Whether a path belongs to the Open Inference Protocol.

    >>> is_v2("/v2/models/lifelong/infer"), is_v2("/v2x")
    (True, False)
    """
    return path == V2_PATH or path.startswith(f"{V2_PATH}/")


def _details(problem: Problem, request_id: str) -> ProblemDetails:
    return ProblemDetails(
        type=f"urn:lifelong:problem:{problem.code}",
        title=problem.status.phrase,
        status=problem.status,
        detail=problem.message,
        code=problem.code,
        request_id=request_id,
    )
