"""The endpoints over an engine that answers, and over one that never does."""

from collections.abc import Iterator

import pytest

from tests.serving.http.served_api import ServedApi
from tests.serving.versions import live_of


@pytest.fixture
def served() -> Iterator[ServedApi]:
    with ServedApi().running() as served:
        yield served


@pytest.fixture
def idle() -> ServedApi:
    """An engine that has weights and never answers."""
    served = ServedApi(max_queue_items=2, timeout_s=0.05)
    served.pipeline.engine.live = live_of([1])
    return served
