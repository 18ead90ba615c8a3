"""A service that answers at a port of its own, and what its broker has."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from serving.http.app import make_app
from serving.http.listener import Listener
from tests.serving.http.served_api import ServedApi
from tests.serving.kafka.fake_broker import FakeBroker


@pytest.fixture
def fake_broker() -> FakeBroker:
    return FakeBroker()


@pytest.fixture
def listen(fake_broker: FakeBroker) -> Iterator[Callable[..., str]]:
    """Serves by HTTP with these options, and returns the URL; ends every service after the test."""
    with ExitStack() as open_until_the_end:

        def listen_with(**options: Any) -> str:
            served = ServedApi(open_publisher=fake_broker.open, **options)  # type: ignore[arg-type]
            open_until_the_end.enter_context(served.running())
            served.pipeline.outbox.start()
            open_until_the_end.callback(served.pipeline.outbox.close, 5)
            listener = Listener(make_app(served.api), host="127.0.0.1", port=0, drain_timeout_s=1)
            open_until_the_end.enter_context(closing(listener))
            return f"http://127.0.0.1:{listener.port}"

        yield listen_with


@pytest.fixture
def url(listen: Callable[..., str]) -> str:
    return listen()
