"""B12: clients that are silent, slow, broken or many in a row, and what ends them. Real sockets, a real listener."""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.errors import Unhealthy
from serving.http.connection import MAX_PIPELINED
from serving.http.listener import Listener
from tests.serving.http.served_app import APP, CALM, ServedApp, head, receive_rest
from tests.waiting import eventually


def test_a_connection_that_never_asks_is_closed_without_a_word(serve: Callable[..., ServedApp]) -> None:
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
def test_half_a_request_is_a_408(serve: Callable[..., ServedApp], parts: list[bytes], code: bytes) -> None:
    served = serve()
    response = served.ask(*parts)
    assert response.startswith(b"HTTP/1.1 408 ") and code in response
    assert served.ended == {code.decode(): 1}


@pytest.mark.alone
def test_bytes_that_trickle_do_not_prolong_a_deadline(serve: Callable[..., ServedApp]) -> None:
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


def test_a_client_that_is_slow_and_in_time_is_answered(serve: Callable[..., ServedApp]) -> None:
    served = serve(CALM)
    request = head(length=5, more=b"connection: close\r\n") + b"12345"
    with closing(served.connect()) as client:
        for start in range(0, len(request), 9):
            client.sendall(request[start : start + 9])
            time.sleep(0.01)
        assert receive_rest(client).endswith(b"5 bytes")


@given(st.lists(st.integers(1, 90), max_size=12, unique=True))
@settings(max_examples=25)
def test_however_a_request_is_cut_the_answer_is_the_same(cuts: list[int]) -> None:
    listener = Listener(APP, host="127.0.0.1", port=0, drain_timeout_s=1, bounds=CALM)
    request = head(more=b"connection: close\r\ntransfer-encoding: chunked\r\n") + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    places = [0, *sorted(cut for cut in cuts if cut < len(request)), len(request)]
    parts = [request[start:end] for start, end in pairwise(places)]
    assert ServedApp(listener).ask(*parts).endswith(b"5 bytes")
    listener.close()


@given(st.binary(max_size=400), st.booleans())
@settings(max_examples=50)
def test_whatever_is_sent_the_server_goes_on(noise: bytes, begins_well: bool) -> None:
    served = ServedApp(Listener(APP, host="127.0.0.1", port=0, drain_timeout_s=1, bounds=CALM))
    with closing(served.connect()) as client:
        with suppress(OSError):
            client.sendall(b"POST / HTTP/1.1\r\n" + noise if begins_well else noise)
            client.shutdown(socket.SHUT_WR)
        receive_rest(client)
    assert served.ask(head(length=2, more=b"connection: close\r\n"), b"ab").endswith(b"2 bytes")
    served.listener.close()


def test_what_is_no_http_is_a_400_of_our_form(serve: Callable[..., ServedApp]) -> None:
    response = serve(CALM).ask(b"hello\r\n\r\n")
    assert response.startswith(b"HTTP/1.1 400 ") and b'{"error":{"code":"not_http"' in response


def test_an_idle_connection_is_closed(serve: Callable[..., ServedApp]) -> None:
    served = serve()
    assert served.ask(head(length=0)).endswith(b"0 bytes")


def test_an_answer_that_takes_long_is_waited_for(serve: Callable[..., ServedApp]) -> None:
    """Neither deadline applies to the application."""
    served = serve()
    assert served.ask(b"GET /block?s=2.5 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").endswith(b"late")


def test_a_client_that_does_not_take_its_answer_is_ended(serve: Callable[..., ServedApp]) -> None:
    served = serve()
    with closing(served.connect()) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n")
        eventually(lambda: served.ended == {"response_timeout": 1}, within_s=10)


def test_requests_in_a_row_are_answered_in_a_row(serve: Callable[..., ServedApp]) -> None:
    served = serve(CALM)
    requests = [head(length=number) + b"x" * number for number in range(MAX_PIPELINED)]
    last = head(length=0, more=b"connection: close\r\n")
    response = served.ask(b"".join([*requests, last]))
    places = [response.index(b"\r\n\r\n%d bytes" % number) for number in range(MAX_PIPELINED)]
    assert places == sorted(places)


def test_a_bad_request_is_not_answered_before_an_earlier_one(serve: Callable[..., ServedApp]) -> None:
    """The client would take the refusal for the answer to the earlier request."""
    served = serve(CALM)
    slow = b"GET /block?s=1 HTTP/1.1\r\nhost: x\r\n\r\n"
    chunked = head(more=b"transfer-encoding: chunked\r\n")
    assert served.ask(slow + chunked + b"no size\r\n") == b""
    assert served.ask(slow, b"no request\r\n\r\n") == b""
    assert served.ended == {"not_http": 2}


def test_a_loop_that_stands_still_is_unhealthy(serve: Callable[..., ServedApp]) -> None:
    """B25: the health check covered neither a dead HTTP thread nor a hanging one."""
    served = serve(CALM)
    served.listener.check(timeout_s=1)
    asker = threading.Thread(target=served.ask, args=(b"GET /stand-still?s=3 HTTP/1.1\r\nhost: x\r\n\r\n",))
    asker.start()

    def is_sick() -> bool:
        try:
            served.listener.check(timeout_s=1)
        except Unhealthy as error:
            return "has hung" in str(error)
        return False

    eventually(is_sick, within_s=3)
    eventually(lambda: not is_sick(), within_s=5)
    asker.join()


def test_a_server_that_has_ended_is_unhealthy(serve: Callable[..., ServedApp]) -> None:
    served = serve(CALM)
    served.listener.close()
    with pytest.raises(Unhealthy, match="the HTTP server has ended"):
        served.listener.check(timeout_s=1)
