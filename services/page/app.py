"""The endpoints of the page. All its files are in this package: it loads nothing from another host.

    GET  /, /static/*                              the page of the default task, and its files
    GET  /tasks/NAME/                              the page of another task, with all endpoints below this path
    GET  /api/state, /api/stream                   the newest PageState, once or repeatedly (server-sent events)
    POST /api/ask, /api/label                      an event to the model, and its label to the learner
    GET  /api/quarantine, /api/deadletters, /api/actions     with the token
    POST /api/admin/ACTION                         with the token, each recorded in audit.v1

An error is {"error": "..."} with its status. The access rules (`PageAccess`):

    every request     on a loopback address, Host must be a loopback name; Origin, if there is one, must equal Host:
                      else a page of another site could send requests in the user's name
    to read           on a loopback address, no token, except for the lists of other users' texts; elsewhere, the token
    to change         the token; each network may send a limited number of requests with a token, right or wrong

A thread publishes the states to the coroutines of one event loop. A slow reader misses states, which loses nothing,
since each state is complete.

Rejected:

- A browser framework with a build step: two megabytes to show ten tables.
- Polling: a state a second for every reader, even if nothing has changed.
- A queue for each reader: old states are useless.
- A cookie: a browser would also send it with requests of other sites.
- A password in the address: it would be in the browser's history and in logs.
"""

import asyncio
import hmac
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from http import HTTPStatus
from importlib.resources import files
from typing import Any, Final, TypeVar

import msgspec
import structlog
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rollout.plans import NotPossible
from services.commands.ask import NoAnswer
from services.page.operations import AdminCall, PageLabel, PageOperations
from serving.http.access import bearer_token
from serving.http.origin import FOREIGN_HOST, FOREIGN_ORIGIN, is_loopback, media_type, sender_problem, to_network
from wire.errors import BadMessage, NotFound, WireError
from wire.inputs import Part
from wire.rate_limits import TokenBuckets
from wire.tasks import DEFAULT

ADMIN_PER_S = 1.0
ADMIN_BURST = 10
MAX_CLIENTS = 1_000

DENIALS = {
    FOREIGN_HOST: "this page answers only requests to an address of this machine",
    FOREIGN_ORIGIN: "this request comes from a page of another origin",
}

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
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' blob:; media-src blob:; "
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


class Denied(Exception):
    """The request is refused. The message is shown to the user."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class PageAccess:
    """The access rules of a page. `limit` bounds each network's requests with a token, right or wrong."""

    token: str
    is_local: bool
    limit: TokenBuckets

    @classmethod
    def of(cls, host: str, token: str, *, is_local: bool = False) -> "PageAccess":
        """Returns the rules of a page that listens on `host`; `is_local` is `page.is_local`."""
        return cls(
            token,
            is_local or is_loopback(host),
            TokenBuckets(rate=ADMIN_PER_S, burst=ADMIN_BURST, max_keys=MAX_CLIENTS),
        )

    def check_sender(self, request: HTTPConnection) -> None:
        """Raises Denied if the request is for another host, or comes from a page of another origin."""
        problem = sender_problem(request.headers, hosts="loopback" if self.is_local else "any")
        if problem:
            raise Denied(problem.status, DENIALS[problem])

    def check_reader(self, request: HTTPConnection) -> None:
        """Raises Denied if the reader needs the token and does not have it."""
        self.check_sender(request)
        if not self.is_local:
            self.check_token(request)

    def check_token(self, request: HTTPConnection) -> None:
        """Raises Denied if the token is missing or wrong, or the network has sent too many requests."""
        self.check_sender(request)
        if self.limit.take(client_network(request), 1, now=time.monotonic()):
            raise Denied(HTTPStatus.TOO_MANY_REQUESTS, "too many requests with a token; wait a moment")
        value = bearer_token(request.headers) or ""
        if not hmac.compare_digest(sha256(value.encode()).digest(), sha256(self.token.encode()).digest()):
            raise Denied(HTTPStatus.UNAUTHORIZED, "the token is missing or wrong; `lifelong up` prints its file")


def client_network(request: HTTPConnection) -> str:
    """Returns the network of the client, by which requests are limited and recorded."""
    return to_network(request.client.host) if request.client else ""


class Latest:
    """Holds the last published bytes. Verbs: publish, get, after, close. Any thread may publish and close."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._number = 0
        self._body = b""
        self._is_closed = False
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def publish(self, body: bytes) -> None:
        """Replaces the bytes, and wakes all waiting readers."""
        with self._lock:
            self._number += 1
            self._body = body
            self._wake()

    def close(self) -> None:
        """Ends the wait of every reader, now and later."""
        with self._lock:
            self._is_closed = True
            self._wake()

    def get(self) -> bytes:
        """Returns the bytes that were published last; b"" before the first publication."""
        with self._lock:
            return self._body

    async def after(self, number: int) -> tuple[int, bytes] | None:
        """Waits for bytes that are newer than the bytes of `number`; returns their number and the bytes.

        Returns None if this is closed.
        """
        while True:
            changed = asyncio.Event()
            with self._lock:
                if self._is_closed:
                    return None
                if self._number > number:
                    return self._number, self._body
                self._waiting.append((asyncio.get_running_loop(), changed))
            await changed.wait()

    def _wake(self) -> None:
        for loop, changed in self._waiting:
            if not loop.is_closed():
                loop.call_soon_threadsafe(changed.set)
        self._waiting = []


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A text for the model, or parts: a picture, a sound."""

    text: str
    parts: tuple[Part, ...] = ()


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
        """Yields each state. The connection of a reader that reads nothing for some seconds is closed."""
        number = 0
        while (published := await self.latest.after(number)) is not None:
            number, body = published
            yield b"data: " + body + b"\n\n"

    async def ask(self, request: Request) -> Response:
        self.access.check_reader(request)
        question = await _read(request, Question)
        return await _done(partial(self.operations.ask, question.text, question.parts))

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
        client = client_network(request)
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


@dataclass(frozen=True, slots=True)
class Board:
    """What the page of one task shows and does: its newest state, and its operations."""

    latest: Latest
    operations: PageOperations


def make_page(access: PageAccess, boards: Mapping[str, Board]) -> ASGIApp:
    """Returns the application. `boards` has the board of each task by its name; the first one is at "/"."""
    routes: list[BaseRoute] = []
    for task, board in boards.items():
        html = render_page(is_local=access.is_local, tasks=tuple(boards), task=task)
        own = _routes(PageApi(access=access, latest=board.latest, operations=board.operations, html=html))
        routes += [Mount(f"/tasks/{task}", routes=own)] if routes else own
    handlers: dict[Any, Callable[[Request, Any], Awaitable[Response]]] = {Denied: _denied}
    handlers |= dict.fromkeys(STATUSES, _failed)
    return WithHeaders(Starlette(routes=routes, exception_handlers=handlers))


def _routes(api: PageApi) -> list[Route]:
    return [
        Route("/", api.page),
        Route("/static/{name}", api.static),
        Route("/api/state", api.state),
        Route("/api/stream", api.stream),
        Route("/api/ask", api.ask, methods=["POST"]),
        Route("/api/label", api.label, methods=["POST"]),
        *(Route(f"/api/{name}", api.browse) for name in ("quarantine", "deadletters", "actions")),
        Route("/api/admin/{action}", api.admin, methods=["POST"]),
    ]


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


def render_page(*, is_local: bool, tasks: Sequence[str] = (DEFAULT,), task: str = DEFAULT) -> bytes:
    """Returns the HTML of the page of a task, with links to the other tasks. A script fills in its figures."""
    environment = Environment(loader=PackageLoader(__package__), autoescape=True, undefined=StrictUndefined)
    return environment.get_template("page.html").render(is_local=is_local, tasks=tasks, task=task).encode()


def static_file(name: str) -> bytes:
    """Returns the content of a file of STATIC."""
    return (files(__package__) / "static" / name).read_bytes()


async def _read(request: Request, kind: type[Body]) -> Body:
    """Returns the body of a request. Raises Denied if it is not JSON of that type.

    An HTML form of another site cannot send this content type.
    """
    if media_type(request.headers) != "application/json":
        raise Denied(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send application/json")
    try:
        return msgspec.json.decode(await request.body(), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Denied(HTTPStatus.BAD_REQUEST, str(error)) from None


async def _done(act: Callable[[], object]) -> Response:
    """Calls `act` in a thread; returns its result as JSON."""
    return _json({"result": await run_in_threadpool(act)})


def _json(body: object, status: int = HTTPStatus.OK) -> Response:
    return Response(msgspec.json.encode(body), status_code=status, media_type="application/json")


async def _denied(_: Request, error: Denied) -> Response:
    return _json({"error": str(error)}, error.status)


async def _failed(_: Request, error: Exception) -> Response:
    status = next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)
    return _json({"error": str(error)}, status)
