"""The endpoints over an engine that answers, and over one that never does; listeners that end with their test."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from serving.http.listener import Listener
from tests.serving.http.served_api import ServedApi
from tests.serving.http.served_app import APP, QUICK, ServedApp
from tests.serving.versions import live_versions


@pytest.fixture
def served() -> Iterator[ServedApi]:
    with ServedApi().running() as served:
        yield served


@pytest.fixture
def idle() -> ServedApi:
    """An engine that has weights and never answers."""
    served = ServedApi(max_queue_items=2, timeout_s=0.05)
    served.pipeline.engine.activate(live_versions([1]))
    return served


@pytest.fixture
def serve() -> Iterator[Callable[..., ServedApp]]:
    """Serves with these bounds; closes every listener at the end."""
    all_served: list[ServedApp] = []

    def serve_one(bounds: Any = QUICK) -> ServedApp:
        ended: Counter[str] = Counter()
        listener = Listener(
            APP,
            host="127.0.0.1",
            port=0,
            drain_timeout_s=1,
            bounds=bounds,
            note=lambda code: ended.update([code]),
        )
        all_served.append(ServedApp(listener, ended))
        return all_served[-1]

    yield serve_one
    for served in all_served:
        served.listener.close()
