"""The sender of an overload against a real port, and its figures; `make bench ONLY=overload` loads a service."""

import asyncio
from contextlib import closing

import pytest

from bench.http_load import post
from bench.overload import OverloadFigures, OverloadSize, overload, rows
from evals.results.row import NoResult
from serving.http.app import make_app
from serving.http.listener import Listener
from tests.serving.http.served_api import ServedApi

SIZE = OverloadSize(minutes=0.02, texts=4, sample_every_s=0.2)


def met(seen: OverloadFigures) -> dict[str, bool | None]:
    return {row.name.removeprefix("overload."): row.met for row in rows(10.0, seen, SIZE)}


def seen(*, answered: int = 95, refused_s: float = 0.01, memory: int = 100, failed: int = 0) -> OverloadFigures:
    """Returns the measurements of ten seconds."""
    bytes_of_replicas = [10, *[100] * 5, memory]
    return OverloadFigures(10.0, [1.0] * answered, [refused_s] * 200, failed, bytes_of_replicas)


def test_each_figure_has_its_goal() -> None:
    assert met(seen()) == dict.fromkeys(("goodput", "refused.p99", "failed", "memory"), True) | {"answered.p99": None}
    assert met(seen(answered=89))["goodput"] is False
    assert met(seen(refused_s=0.06))["refused.p99"] is False
    assert met(seen(failed=1))["failed"] is False
    assert met(seen(memory=111))["memory"] is False


def test_without_a_refusal_there_was_no_overload() -> None:
    with pytest.raises(NoResult, match="no overload"):
        met(OverloadFigures(10.0, [1.0], [], 0, [1]))


def test_the_load_does_not_depend_on_refusals() -> None:
    with ServedApi(max_queue_items=4).running() as served:
        listener = Listener(make_app(served.api), host="127.0.0.1", port=0, drain_timeout_s=1)
        with closing(listener):
            events = [{"text": "where is my card"}] * SIZE.texts
            request = post("/v1/predict", {"events": events}, port=listener.port)
            found = asyncio.run(overload(listener.port, request, rate=200.0, size=SIZE))
    num = len(found.answered_s) + len(found.refused_s)
    assert found.answered_s and 100 < num <= 240
    assert found.failed == 0 and found.lasted_s >= 1.2 and found.memory == [0] * len(found.memory)


def test_on_a_closed_port_every_request_fails() -> None:
    found = asyncio.run(overload(1, b"", rate=100.0, size=OverloadSize(minutes=0.005)))
    assert found.failed > 0 and found.answered_s == found.refused_s == []
