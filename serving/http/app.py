"""The application: its paths, and how an exception becomes a response, once, here."""

import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from serving.http.api import Api, json_response
from serving.http.openapi import POLICY, document_of, page_of
from serving.http.operations import ELEMENTS, operations_of
from serving.http.problems import INTERNAL, Problem, RequestId, RequestRefused, problem_response


def make_app(api: Api) -> ASGIApp:
    """Returns the application."""
    operations = operations_of(api)
    document = document_of(operations, ELEMENTS)
    as_json = json.dumps(document).encode()
    as_page = page_of(document)

    async def openapi(request: Request) -> Response:
        return json_response(as_json)

    async def docs(request: Request) -> Response:
        return HTMLResponse(as_page, headers={"content-security-policy": POLICY})

    async def refused(request: Request, error: RequestRefused) -> Response:
        if error.problem.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            api.count_refused(error.problem.code)
        return problem_response(request, error.problem)

    handlers: dict[Any, Callable[[Request, Any], Awaitable[Response]]] = {
        RequestRefused: refused,
        HTTPException: _http_exception,
        Exception: _internal,
    }
    routes = [Route(each.path, each.endpoint, methods=[each.method]) for each in operations]
    routes += [Route("/openapi.json", openapi), Route("/docs", docs)]
    return RequestId(Starlette(routes=routes, exception_handlers=handlers), new_id=api.new_id)


async def _http_exception(request: Request, error: HTTPException) -> Response:
    status = HTTPStatus(error.status_code)
    problem = Problem(status=status, code=status.name.lower(), message=status.phrase)
    response = problem_response(request, problem)
    response.headers.update(error.headers or {})
    return response


async def _internal(request: Request, error: Exception) -> Response:
    return problem_response(request, INTERNAL)
