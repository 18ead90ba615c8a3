"""The connections of the gRPC port: of an address, of the process, and those that are used."""

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import grpc
import pytest

from serving.grpc.listener import FILES, ConnectionGuard, GrpcListener, PeerAddress, sockets_at
from serving.http.connection import ConnectionLimit
from serving.http.listener import DEFAULTS
from tests.serving.http.served_api import ServedApi
from tests.waiting import eventually

BOUNDS = replace(DEFAULTS, max_connections=50, max_connections_per_address=10, body_timeout_s=1.0)
ATTACKER = "127.0.0.2"


@pytest.fixture
def listener(served: ServedApi) -> Iterator[GrpcListener]:
    listener = GrpcListener(served.api, host="127.0.0.1", port=0, drain_timeout_s=1, bounds=BOUNDS)
    yield listener
    listener.close()


@contextlib.contextmanager
def idle_connections(port: int, number: int) -> Iterator[list[socket.socket]]:
    """Yields so many connections of the attacker's address that send nothing."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), source_address=(ATTACKER, 0)))
            for _ in range(number)
        ]


def is_open(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        while connection.recv(4_096):
            pass
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def num_connections(port: int) -> int:
    found = sockets_at(port)
    for connection in found.values():
        connection.close()
    return len(found)


def test_three_hundred_idle_connections_of_one_address_keep_nobody_out(
    served: ServedApi, listener: GrpcListener, call: Callable[..., Any]
) -> None:
    """N11, F35: ten of them stay, and another address is answered, whatever they do."""
    with idle_connections(listener.port, 300) as idle:
        eventually(lambda: sum(map(is_open, idle)) == BOUNDS.max_connections_per_address)
        assert call("ServerReady").ready
        assert sum(map(is_open, idle)) == BOUNDS.max_connections_per_address
    assert served.pipeline.counts.snapshot()["http_too_many_connections"] > 0
    eventually(lambda: num_connections(listener.port) <= 1)  # those of the attacker are closed on our side, too


def test_a_message_that_does_not_come_ends_its_call(listener: GrpcListener, channel: grpc.Channel) -> None:
    """A call that is begun holds a place for its message no longer than a body of HTTP may take."""
    infer = channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")
    with pytest.raises(grpc.RpcError) as caught:
        infer(_never(), timeout=60)
    assert (caught.value.code(), caught.value.details()[:12]) == (grpc.StatusCode.DEADLINE_EXCEEDED, "body_timeout")


def test_a_call_without_a_message_is_the_clients_fault(channel: grpc.Channel) -> None:
    infer = channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")
    with pytest.raises(grpc.RpcError) as caught:
        infer(iter(()), timeout=60)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_the_newest_connections_of_an_address_are_ended_and_make_room_again() -> None:
    counts: list[str] = []
    limit = ConnectionLimit(replace(BOUNDS, max_connections_per_address=2), counts.append)
    with socket.create_server(("127.0.0.1", 0)) as server, contextlib.ExitStack() as stack:
        port = server.getsockname()[1]
        guard = ConnectionGuard(port, limit)

        def connect() -> tuple[socket.socket, socket.socket]:
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            accepted, _ = server.accept()
            return client, stack.enter_context(accepted)

        first, second = connect(), connect()
        guard.check()
        third = connect()
        guard.check()
        assert [is_open(client) for client, _ in (first, second, third)] == [True, True, False]
        assert counts == ["too_many_connections"]
        for each in (*first, *third):
            each.close()
        guard.check()
        fourth = connect()
        guard.check()
        assert is_open(fourth[0]) and is_open(second[0])


def test_a_look_leaves_no_file_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = server.accept()
            with accepted:
                before = len(os.listdir(FILES))
                found = sockets_at(port)
                assert list(found) == [PeerAddress(*client.getsockname())]
                for each in found.values():
                    each.close()
                assert len(os.listdir(FILES)) == before


def _never() -> Iterator[bytes]:
    """Yields nothing for longer than the test lasts: the call is ended before."""
    threading.Event().wait(90)
    yield b""
