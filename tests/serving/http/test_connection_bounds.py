"""B12: how many connections, and how many bytes of each, the server takes. Real sockets, a real listener."""

import resource
import socket
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace

import httpx2
import psutil
import pytest

from serving.http.connection import MAX_PIPELINED, MAX_WIRE_BYTES
from serving.http.listener import allowed_connections
from tests.serving.http.served_app import CALM, QUICK, ServedApp, head, receive_rest
from tests.waiting import eventually


@pytest.mark.parametrize("size", [1 << 10, 1 << 20])
def test_a_head_that_never_ends_is_a_431_and_costs_no_memory(serve: Callable[..., ServedApp], size: int) -> None:
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
def test_a_head_that_is_too_large_and_whole_is_a_431(serve: Callable[..., ServedApp], request_head: bytes) -> None:
    response = serve(CALM).ask(request_head)
    assert response.startswith(b"HTTP/1.1 431 ") and b"headers_too_large" in response


@pytest.mark.parametrize(
    "piece",
    [b"1\r\nx\r\n", b"1;" + b"e" * 1_000 + b"\r\nx\r\n", b"1\r\nx\r\n0\r\n" + b"x-trailer: " + b"t" * 70_000],
    ids=["tiny chunks", "extensions", "trailers"],
)
def test_a_body_that_is_mostly_framing_is_a_413(serve: Callable[..., ServedApp], piece: bytes) -> None:
    served = serve(CALM)
    with closing(served.connect()) as client:
        client.sendall(head(more=b"transfer-encoding: chunked\r\n"))
        with suppress(OSError):
            client.sendall(piece * (2 * MAX_WIRE_BYTES // len(piece)))
    eventually(lambda: served.ended.total() == 1)
    assert set(served.ended) <= {"too_large", "not_http"}


def test_ten_thousand_tiny_chunks_are_a_body(serve: Callable[..., ServedApp]) -> None:
    request = head(more=b"connection: close\r\ntransfer-encoding: chunked\r\n")
    assert serve(CALM).ask(request, b"1\r\nx\r\n" * 10_000, b"0\r\n\r\n").endswith(b"10000 bytes")


def test_a_connection_too_many_is_a_503_until_there_is_room(serve: Callable[..., ServedApp]) -> None:
    served = serve(replace(CALM, max_connections=2))
    first = served.connect()
    second = served.connect()
    response = served.ask(head(length=0))
    assert response.startswith(b"HTTP/1.1 503 ") and b"retry-after: 1\r\n" in response
    assert served.ended == {"too_many_connections": 1}
    first.close()
    eventually(lambda: httpx2.get(f"http://127.0.0.1:{served.listener.port}/").status_code == 200, within_s=5)
    second.close()


def test_one_address_cannot_have_all_connections(serve: Callable[..., ServedApp]) -> None:
    served = serve(replace(CALM, max_connections=3, max_connections_per_address=1))
    with closing(served.connect()):
        assert served.ask(head(length=0)).startswith(b"HTTP/1.1 503 ")
        with closing(
            socket.create_connection(("127.0.0.1", served.listener.port), source_address=("127.0.0.2", 0))
        ) as c:
            c.sendall(head(length=0, more=b"connection: close\r\n"))
            assert receive_rest(c).endswith(b"0 bytes")


def test_too_many_requests_in_a_row_end_the_connection(serve: Callable[..., ServedApp]) -> None:
    served = serve(CALM)
    served.ask(head(length=0) * (MAX_PIPELINED + 2))
    assert served.ended == {"pipelined": 1}


@pytest.mark.alone
def test_many_bad_clients_do_not_keep_a_good_one_waiting(serve: Callable[..., ServedApp]) -> None:
    served = serve(replace(QUICK, header_timeout_s=2.0))
    bad = [served.connect() for _ in range(200)]
    for client in bad:
        client.sendall(b"POST / HTTP/1.1\r\n")
    began_s = time.monotonic()
    assert served.ask(head(length=2, more=b"connection: close\r\n"), b"ab").endswith(b"2 bytes")
    assert time.monotonic() - began_s < 1
    for client in bad:
        assert receive_rest(client).startswith(b"HTTP/1.1 408 ")
        client.close()


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
