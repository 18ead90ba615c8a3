"""The endpoints of the page. Everything that it shows lies in this package: it asks no other host for anything.

    GET  /, /static/*                              the page, for everybody who may ask
    GET  /api/state, /api/stream                   the newest PageState, once or again and again (server-sent events)
    POST /api/ask, /api/label                      a text to the model, and its label to the learner
    GET  /api/quarantine, /api/deadletters, /api/actions     with the token
    POST /api/admin/ACTION                         with the token, each recorded in audit.v1

An error is {"error": "..."} with its status.

Rejected: a framework for the browser and a build (two megabytes to show ten tables), and polling (a state a second for
every reader, whether it has changed or not).
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from importlib.resources import files
from typing import Any, Final, TypeVar

import msgspec
import structlog
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rollout.plans import NotPossible
from services.commands.ask import NoAnswer
from services.page.access import Denied, PageAccess, client_of
from services.page.latest import Latest
from services.page.operations import AdminCall, PageLabel, PageOperations
from serving.http.origin import media_type
from wire.errors import BadMessage, NotFound, WireError

STATIC: Final = {
    "icon.svg": "image/svg+xml",
    "page.css": "text/css",
    "page.js": "text/javascript",
    "uplot.css": "text/css",
    "uplot.js": "text/javascript",
    "uplot.LICENSE": "text/plain",
}

HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}

STATUSES: Final[Mapping[type[Exception], HTTPStatus]] = {
    NotPossible: HTTPStatus.CONFLICT,
    NotFound: HTTPStatus.CONFLICT,
    BadMessage: HTTPStatus.BAD_REQUEST,
    NoAnswer: HTTPStatus.BAD_GATEWAY,
    WireError: HTTPStatus.SERVICE_UNAVAILABLE,
}

Body = TypeVar("Body", bound=msgspec.Struct)

log = structlog.get_logger("page")


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A text to the model."""

    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PageApi:
    """The endpoints of one page."""

    access: PageAccess
    latest: Latest
    operations: PageOperations
    html: bytes

    async def page(self, request: Request) -> Response:
        self.access.check_sender(request)
        return Response(self.html, media_type="text/html")

    async def static(self, request: Request) -> Response:
        self.access.check_sender(request)
        name = request.path_params["name"]
        if name not in STATIC:
            raise Denied(HTTPStatus.NOT_FOUND, "there is no such file")
        return Response(static_file(name), media_type=STATIC[name])

    async def state(self, request: Request) -> Response:
        self.access.check_reader(request)
        return Response(self.latest.get(), media_type="application/json")

    async def stream(self, request: Request) -> Response:
        self.access.check_reader(request)
        return StreamingResponse(self._events(), media_type="text/event-stream")

    async def _events(self) -> AsyncIterator[bytes]:
        """Yields each state. A reader that takes none for some seconds is cut off by its connection."""
        number = 0
        while (published := await self.latest.after(number)) is not None:
            number, body = published
            yield b"data: " + body + b"\n\n"

    async def ask(self, request: Request) -> Response:
        self.access.check_reader(request)
        question = await _read(request, Question)
        return await _done(partial(self.operations.ask, question.text))

    async def label(self, request: Request) -> Response:
        self.access.check_reader(request)
        label = await _read(request, PageLabel)
        return await _done(partial(self.operations.label, label))

    async def browse(self, request: Request) -> Response:
        self.access.check_token(request)
        shown = {
            "quarantine": self.operations.quarantined,
            "deadletters": self.operations.dead_letters,
            "actions": self.operations.actions,
        }
        return await _done(shown[request.url.path.rpartition("/")[2]])

    async def admin(self, request: Request) -> Response:
        action = request.path_params["action"]
        if not self.operations.knows(action):
            raise Denied(HTTPStatus.NOT_FOUND, "there is no such action")
        client = client_of(request)
        try:
            self.access.check_token(request)
        except Denied as error:
            if error.status == HTTPStatus.UNAUTHORIZED:
                await run_in_threadpool(self._note_denied, action, client, str(error))
            raise
        call = await _read(request, AdminCall)
        return await _done(partial(self.operations.change, action, call, client))

    def _note_denied(self, action: str, client: str, reason: str) -> None:
        try:
            self.operations.note_denied(action, client, reason)
        except WireError as error:
            log.warning("denied", action=action, client=client, reason=reason, not_recorded=str(error))


def make_page(access: PageAccess, latest: Latest, operations: PageOperations) -> ASGIApp:
    """Returns the application."""
    api = PageApi(access=access, latest=latest, operations=operations, html=rendered(is_local=access.is_local))
    routes = [
        Route("/", api.page),
        Route("/static/{name}", api.static),
        Route("/api/state", api.state),
        Route("/api/stream", api.stream),
        Route("/api/ask", api.ask, methods=["POST"]),
        Route("/api/label", api.label, methods=["POST"]),
        *(Route(f"/api/{name}", api.browse) for name in ("quarantine", "deadletters", "actions")),
        Route("/api/admin/{action}", api.admin, methods=["POST"]),
    ]
    handlers: dict[Any, Callable[[Request, Any], Awaitable[Response]]] = {Denied: _denied}
    handlers |= dict.fromkeys(STATUSES, _failed)
    return WithHeaders(Starlette(routes=routes, exception_handlers=handlers))


class WithHeaders:
    """Adds HEADERS to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *added]
            await send(message)

        await self._app(scope, receive, send_with_headers)


def rendered(*, is_local: bool) -> bytes:
    """Returns the page, of which a script fills in the rest."""
    environment = Environment(loader=PackageLoader(__package__), autoescape=True, undefined=StrictUndefined)
    return environment.get_template("page.html").render(is_local=is_local).encode()


def static_file(name: str) -> bytes:
    """Returns a file of STATIC."""
    return (files(__package__) / "static" / name).read_bytes()


async def _read(request: Request, kind: type[Body]) -> Body:
    """Returns the body of a request. Raises Denied where it is no JSON of that kind, which no form can send."""
    if media_type(request.headers) != "application/json":
        raise Denied(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send application/json")
    try:
        return msgspec.json.decode(await request.body(), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Denied(HTTPStatus.BAD_REQUEST, str(error)) from None


async def _done(act: Callable[[], object]) -> Response:
    """Does it in a thread; returns what it returned."""
    return _json({"result": await run_in_threadpool(act)})


def _json(body: object, status: int = HTTPStatus.OK) -> Response:
    return Response(msgspec.json.encode(body), status_code=status, media_type="application/json")


async def _denied(_: Request, error: Denied) -> Response:
    return _json({"error": str(error)}, error.status)


async def _failed(_: Request, error: Exception) -> Response:
    status = next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)
    return _json({"error": str(error)}, status)
