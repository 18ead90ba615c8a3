"""Gives every request an id: the client's own `x-request-id` where it is well formed, else a new one. Pure ASGI."""

import re
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "x-request-id"
_WELL_FORMED = re.compile(r"[\w.:/=+-]{1,128}", re.ASCII)


class RequestId:
    """Puts the id into the scope, and into the headers of the response."""

    def __init__(self, app: ASGIApp, *, new_id: Callable[[], str]) -> None:
        self._app = app
        self._new_id = new_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client_id = Headers(scope=scope).get(HEADER, "")
        request_id = client_id if _WELL_FORMED.fullmatch(client_id) else self._new_id()
        scope["lifelong.request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        await self._app(scope, receive, send_with_id)


def request_id_of(scope: Scope) -> str:
    """Returns the id of the request; empty outside of RequestId."""
    return str(scope.get("lifelong.request_id", ""))
