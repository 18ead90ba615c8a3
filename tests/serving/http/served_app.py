"""A real listener with short deadlines, and the sockets that its clients would open to it."""

import socket
import time
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from serving.http.listener import DEFAULTS, Listener

QUICK = replace(DEFAULTS, header_timeout_s=0.5, body_timeout_s=0.5, keep_alive_s=1, max_header_bytes=2_048)
CALM = replace(QUICK, header_timeout_s=30.0, body_timeout_s=30.0)
LARGE = b"x" * (16 << 20)


async def echo(request: Request) -> Response:
    return PlainTextResponse(f"{len(await request.body())} bytes")


async def large(_: Request) -> Response:
    return Response(LARGE)


def block(request: Request) -> Response:
    time.sleep(float(request.query_params["s"]))
    return PlainTextResponse("late")


async def stand_still(request: Request) -> Response:
    time.sleep(float(request.query_params["s"]))  # the whole loop waits
    return PlainTextResponse("late")


APP = Starlette(
    routes=[
        Route("/", echo, methods=["GET", "POST"]),
        Route("/large", large),
        Route("/block", block),
        Route("/stand-still", stand_still),
    ]
)


@dataclass
class ServedApp:
    listener: Listener
    ended: Counter[str] = field(default_factory=Counter)

    def connect(self) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.listener.port))
        client.settimeout(10)
        return client

    def ask(self, *parts: bytes) -> bytes:
        """Sends these bytes and returns everything that the server sends until it closes the connection."""
        with closing(self.connect()) as client:
            with suppress(OSError):  # closed while we send: the reason was sent before
                for part in parts:
                    client.sendall(part)
            return receive_rest(client)


def receive_rest(client: socket.socket) -> bytes:
    response = b""
    with suppress(ConnectionResetError):
        while data := client.recv(65_536):
            response += data
    return response


def head(*, length: int | None = None, path: bytes = b"/", more: bytes = b"") -> bytes:
    body = b"" if length is None else b"content-length: %d\r\n" % length
    return b"POST %s HTTP/1.1\r\nhost: x\r\n%s%s\r\n" % (path, body, more)
