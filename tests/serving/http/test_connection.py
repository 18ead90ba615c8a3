"""B12: attacks of one client on the server, and what ends them. Real sockets against a real listener."""

import resource
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import httpx
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from serving.errors import Unhealthy
from serving.http.connection import MAX_PIPELINED, MAX_WIRE_BYTES
from serving.http.listener import DEFAULTS, Listener, allowed_connections
from tests.waiting import eventually

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
class Served:
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
            return rest_of(client)


def rest_of(client: socket.socket) -> bytes:
    response = b""
    with suppress(ConnectionResetError):
        while data := client.recv(65_536):
            response += data
    return response


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """Serves with these bounds; closes every listener at the end."""
    all_served: list[Served] = []

    def serve_one(bounds: Any = QUICK) -> Served:
        ended: Counter[str] = Counter()
        listener = Listener(
            APP,
            host="127.0.0.1",
            port=0,
            drain_timeout_s=1,
            bounds=bounds,
            note=lambda code: ended.update([code]),
        )
        all_served.append(Served(listener, ended))
        return all_served[-1]

    yield serve_one
    for served in all_served:
        served.listener.close()


def head(*, length: int | None = None, path: bytes = b"/", more: bytes = b"") -> bytes:
    body = b"" if length is None else b"content-length: %d\r\n" % length
    return b"POST %s HTTP/1.1\r\nhost: x\r\n%s%s\r\n" % (path, body, more)


def test_a_connection_that_never_asks_is_closed_without_a_word(serve: Callable[..., Served]) -> None:
    served = serve()
    assert served.ask() == b""
    assert served.ended == {"silent": 1}


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ([b"POST / HTTP/1.1\r\nhost: x\r\n"], b"header_timeout"),
        ([b"P"], b"header_timeout"),
        ([b"\r\n"], b"header_timeout"),
        ([head(length=9)], b"body_timeout"),
        ([head(length=9), b"12345678"], b"body_timeout"),
        ([head(more=b"transfer-encoding: chunked\r\n"), b"5\r\n123"], b"body_timeout"),
        ([head(more=b"transfer-encoding: chunked\r\n"), b"1\r\n1\r\n0\r\nx-trailer: 1\r\n"], b"body_timeout"),
    ],
)
def test_half_a_request_is_a_408(serve: Callable[..., Served], parts: list[bytes], code: bytes) -> None:
    served = serve()
    response = served.ask(*parts)
    assert response.startswith(b"HTTP/1.1 408 ") and code in response
    assert served.ended == {code.decode(): 1}


def test_bytes_that_trickle_do_not_prolong_a_deadline(serve: Callable[..., Served]) -> None:
    """A slow-loris client sends a header now and then."""
    served = serve()
    with closing(served.connect()) as client:
        client.sendall(b"POST / HTTP/1.1\r\n")
        began_s = time.monotonic()
        with suppress(OSError):
            while time.monotonic() - began_s < 8:
                client.sendall(b"x-a: b\r\n")
                time.sleep(0.05)
        assert time.monotonic() - began_s < 4
    eventually(lambda: served.ended == {"header_timeout": 1})


def test_a_client_that_is_slow_and_in_time_is_answered(serve: Callable[..., Served]) -> None:
    served = serve(CALM)
    request = head(length=5, more=b"connection: close\r\n") + b"12345"
    with closing(served.connect()) as client:
        for start in range(0, len(request), 9):
            client.sendall(request[start : start + 9])
            time.sleep(0.01)
        assert rest_of(client).endswith(b"5 bytes")


@given(st.lists(st.integers(1, 90), max_size=12, unique=True))
@settings(max_examples=25)
def test_however_a_request_is_cut_the_answer_is_the_same(cuts: list[int]) -> None:
    listener = Listener(APP, host="127.0.0.1", port=0, drain_timeout_s=1, bounds=CALM)
    request = head(more=b"connection: close\r\ntransfer-encoding: chunked\r\n") + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    places = [0, *sorted(cut for cut in cuts if cut < len(request)), len(request)]
    parts = [request[start:end] for start, end in pairwise(places)]
    assert Served(listener).ask(*parts).endswith(b"5 bytes")
    listener.close()


@given(st.binary(max_size=400), st.booleans())
@settings(max_examples=50)
def test_whatever_is_sent_the_server_goes_on(noise: bytes, begins_well: bool) -> None:
    served = Served(Listener(APP, host="127.0.0.1", port=0, drain_timeout_s=1, bounds=CALM))
    with closing(served.connect()) as client:
        with suppress(OSError):
            client.sendall(b"POST / HTTP/1.1\r\n" + noise if begins_well else noise)
            client.shutdown(socket.SHUT_WR)
        rest_of(client)
    assert served.ask(head(length=2, more=b"connection: close\r\n"), b"ab").endswith(b"2 bytes")
    served.listener.close()


@pytest.mark.parametrize("size", [1 << 10, 1 << 20])
def test_a_head_that_never_ends_is_a_431_and_costs_no_memory(serve: Callable[..., Served], size: int) -> None:
    served = serve(CALM)
    before = psutil.Process().memory_info().rss
    line = b"x-a: " + b"a" * size + b"\r\n"
    with closing(served.connect()) as client:
        client.sendall(b"POST / HTTP/1.1\r\n")
        with suppress(OSError):
            for _ in range((100 << 20) // size):
                client.sendall(line)
    eventually(lambda: served.ended == {"headers_too_large": 1})
    assert psutil.Process().memory_info().rss - before < 32 << 20


@pytest.mark.parametrize(
    "request_head",
    [head(more=b"x-a: " + b"a" * 2_048 + b"\r\n"), head(more=b"a:\r\n" * 700), head(path=b"/" + b"a" * 2_048)],
)
def test_a_head_that_is_too_large_and_whole_is_a_431(serve: Callable[..., Served], request_head: bytes) -> None:
    response = serve(CALM).ask(request_head)
    assert response.startswith(b"HTTP/1.1 431 ") and b"headers_too_large" in response


def test_what_is_no_http_is_a_400_of_our_form(serve: Callable[..., Served]) -> None:
    response = serve(CALM).ask(b"hello\r\n\r\n")
    assert response.startswith(b"HTTP/1.1 400 ") and b'{"error":{"code":"not_http"' in response


@pytest.mark.parametrize(
    "piece",
    [b"1\r\nx\r\n", b"1;" + b"e" * 1_000 + b"\r\nx\r\n", b"1\r\nx\r\n0\r\n" + b"x-trailer: " + b"t" * 70_000],
    ids=["tiny chunks", "extensions", "trailers"],
)
def test_a_body_that_is_mostly_framing_is_a_413(serve: Callable[..., Served], piece: bytes) -> None:
    served = serve(CALM)
    with closing(served.connect()) as client:
        client.sendall(head(more=b"transfer-encoding: chunked\r\n"))
        with suppress(OSError):
            client.sendall(piece * (2 * MAX_WIRE_BYTES // len(piece)))
    eventually(lambda: served.ended.total() == 1)
    assert set(served.ended) <= {"too_large", "not_http"}


def test_ten_thousand_tiny_chunks_are_a_body(serve: Callable[..., Served]) -> None:
    request = head(more=b"connection: close\r\ntransfer-encoding: chunked\r\n")
    assert serve(CALM).ask(request, b"1\r\nx\r\n" * 10_000, b"0\r\n\r\n").endswith(b"10000 bytes")


def test_a_connection_too_many_is_a_503_until_there_is_room(serve: Callable[..., Served]) -> None:
    served = serve(replace(CALM, max_connections=2))
    first = served.connect()
    second = served.connect()
    response = served.ask(head(length=0))
    assert response.startswith(b"HTTP/1.1 503 ") and b"retry-after: 1\r\n" in response
    assert served.ended == {"too_many_connections": 1}
    first.close()
    eventually(lambda: httpx.get(f"http://127.0.0.1:{served.listener.port}/").status_code == 200, within_s=5)
    second.close()


def test_one_address_cannot_have_all_connections(serve: Callable[..., Served]) -> None:
    served = serve(replace(CALM, max_connections=3, max_connections_per_address=1))
    with closing(served.connect()):
        assert served.ask(head(length=0)).startswith(b"HTTP/1.1 503 ")
        with closing(
            socket.create_connection(("127.0.0.1", served.listener.port), source_address=("127.0.0.2", 0))
        ) as c:
            c.sendall(head(length=0, more=b"connection: close\r\n"))
            assert rest_of(c).endswith(b"0 bytes")


def test_an_idle_connection_is_closed(serve: Callable[..., Served]) -> None:
    served = serve()
    assert served.ask(head(length=0)).endswith(b"0 bytes")


def test_an_answer_that_takes_long_is_waited_for(serve: Callable[..., Served]) -> None:
    """Neither deadline applies to the application."""
    served = serve()
    assert served.ask(b"GET /block?s=2.5 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").endswith(b"late")


def test_a_client_that_does_not_take_its_answer_is_ended(serve: Callable[..., Served]) -> None:
    served = serve()
    with closing(served.connect()) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n")
        eventually(lambda: served.ended == {"response_timeout": 1}, within_s=10)


def test_requests_in_a_row_are_answered_in_a_row(serve: Callable[..., Served]) -> None:
    served = serve(CALM)
    requests = [head(length=number) + b"x" * number for number in range(MAX_PIPELINED)]
    last = head(length=0, more=b"connection: close\r\n")
    response = served.ask(b"".join([*requests, last]))
    places = [response.index(b"\r\n\r\n%d bytes" % number) for number in range(MAX_PIPELINED)]
    assert places == sorted(places)


def test_a_bad_request_is_not_answered_before_an_earlier_one(serve: Callable[..., Served]) -> None:
    """The client would take the refusal for the answer to the earlier request."""
    served = serve(CALM)
    slow = b"GET /block?s=1 HTTP/1.1\r\nhost: x\r\n\r\n"
    chunked = head(more=b"transfer-encoding: chunked\r\n")
    assert served.ask(slow + chunked + b"no size\r\n") == b""
    assert served.ask(slow, b"no request\r\n\r\n") == b""
    assert served.ended == {"not_http": 2}


def test_too_many_requests_in_a_row_end_the_connection(serve: Callable[..., Served]) -> None:
    served = serve(CALM)
    served.ask(head(length=0) * (MAX_PIPELINED + 2))
    assert served.ended == {"pipelined": 1}


def test_many_bad_clients_do_not_keep_a_good_one_waiting(serve: Callable[..., Served]) -> None:
    served = serve(replace(QUICK, header_timeout_s=2.0))
    bad = [served.connect() for _ in range(200)]
    for client in bad:
        client.sendall(b"POST / HTTP/1.1\r\n")
    began_s = time.monotonic()
    assert served.ask(head(length=2, more=b"connection: close\r\n"), b"ab").endswith(b"2 bytes")
    assert time.monotonic() - began_s < 1
    for client in bad:
        assert rest_of(client).startswith(b"HTTP/1.1 408 ")
        client.close()


def test_a_loop_that_stands_still_is_unhealthy(serve: Callable[..., Served]) -> None:
    """B25: the health check covered neither a dead HTTP thread nor a hanging one."""
    served = serve(CALM)
    served.listener.check(timeout_s=1)
    asker = threading.Thread(target=served.ask, args=(b"GET /stand-still?s=3 HTTP/1.1\r\nhost: x\r\n\r\n",))
    asker.start()

    def is_sick() -> bool:
        try:
            served.listener.check(timeout_s=1)
        except Unhealthy as error:
            return "stood still" in str(error)
        return False

    eventually(is_sick, within_s=3)
    eventually(lambda: not is_sick(), within_s=5)
    asker.join()


def test_a_server_that_has_ended_is_unhealthy(serve: Callable[..., Served]) -> None:
    served = serve(CALM)
    served.listener.close()
    with pytest.raises(Unhealthy, match="the HTTP server has ended"):
        served.listener.check(timeout_s=1)


@pytest.mark.parametrize(
    ("wanted", "soft", "hard", "expected"),
    [
        (1_000, 4_096, 4_096, (1_000, 4_096)),
        (1_000, 1_024, 4_096, (1_000, 1_256)),
        (1_000, 1_024, resource.RLIM_INFINITY, (1_000, 1_256)),
        (1_000, 512, 1_024, (768, 1_024)),
        (1_000, 64, 128, (1, 128)),
    ],
)
def test_connections_leave_files_for_everything_else(
    wanted: int, soft: int, hard: int, expected: tuple[int, int]
) -> None:
    assert allowed_connections(wanted, soft=soft, hard=hard) == expected
