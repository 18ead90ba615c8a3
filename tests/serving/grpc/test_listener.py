"""The gRPC port: it is shared, and a listener that cannot open it says so."""

import socket
from contextlib import closing

import pytest

from serving.errors import Unhealthy
from serving.grpc.listener import GrpcListener
from serving.http.listener import DEFAULTS
from tests.serving.http.served_api import ServedApi


def listen(served: ServedApi, port: int) -> GrpcListener:
    return GrpcListener(served.api, host="127.0.0.1", port=port, drain_timeout_s=1, bounds=DEFAULTS)


def test_replicas_share_the_port(served: ServedApi) -> None:
    first = listen(served, 0)
    second = listen(served, first.port)
    assert second.port == first.port
    for listener in (first, second):
        listener.check(timeout_s=30)
        listener.close()


def test_a_taken_port_is_said(served: ServedApi) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken, pytest.raises(OSError, match="cannot listen"):
        listen(served, taken.getsockname()[1])


def test_a_listener_that_has_ended_is_unhealthy(served: ServedApi) -> None:
    listener = listen(served, 0)
    listener.close()
    with pytest.raises(Unhealthy):
        listener.check(timeout_s=30)
