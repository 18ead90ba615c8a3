"""A service on its own port, and its fake broker."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.serving.http.served_api import served_at
from tests.serving.kafka.fake_broker import FakeBroker


@pytest.fixture
def fake_broker() -> FakeBroker:
    return FakeBroker()


@pytest.fixture
def listen(fake_broker: FakeBroker) -> Iterator[Callable[..., str]]:
    """A function that starts a service with some options and returns its URL. All services end after the test."""
    with ExitStack() as open_until_the_end:

        def listen_with(**options: Any) -> str:
            return open_until_the_end.enter_context(served_at(fake_broker, **options))

        yield listen_with


@pytest.fixture
def url(listen: Callable[..., str]) -> str:
    return listen()
