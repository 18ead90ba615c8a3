"""The service on a real port, and a channel to it."""

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from serving.grpc.listener import GrpcListener
from serving.grpc.proto import SERVICE, message
from serving.http.listener import DEFAULTS
from tests.serving.http.served_api import ServedApi


@pytest.fixture
def served() -> Iterator[ServedApi]:
    with ServedApi().running() as served:
        yield served


@pytest.fixture
def listener(served: ServedApi) -> Iterator[GrpcListener]:
    listener = GrpcListener(served.api, host="127.0.0.1", port=0, drain_timeout_s=1, bounds=DEFAULTS)
    yield listener
    listener.close()


@pytest.fixture
def channel(listener: GrpcListener) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{listener.port}") as channel:
        yield channel


@pytest.fixture
def call(channel: grpc.Channel) -> Callable[..., Any]:
    """Calls a method with a request of these fields."""

    def ask(method: str, *, timeout: float | None = 20.0, metadata: Any = (), **fields: Any) -> Any:
        request = message(f"{method}Request")(**fields)
        path = f"/{SERVICE}/{method}"
        stub = channel.unary_unary(
            path,
            request_serializer=lambda each: each.SerializeToString(),
            response_deserializer=message(f"{method}Response").FromString,
        )
        return stub(request, timeout=timeout, metadata=metadata)

    return ask
