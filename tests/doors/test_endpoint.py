"""A way in that the core does not know: a list in memory, asked with a deadline, a version and a hang-up."""

import threading
from collections.abc import Sequence
from functools import partial

import pytest

from serving.config import ServingConfig
from serving.endpoints import Core, Gateway, OpenEndpoints
from serving.errors import QueueClosed, Unhealthy
from serving.http.api import Api
from serving.pipeline import Pipeline, make_encode
from serving.queue import DEFAULT, ItemOptions, Outcome, Priority
from tests.serving.callers import running
from tests.serving.pipelines import make_pipeline
from tests.serving.versions import label_of, live_versions, tokenizer
from wire.records import Answer, Event

TEXT = "where is my card"


class OpenList:
    """Whoever has it puts texts in, and finds their outcomes by the texts."""

    def __init__(self, gateway: Gateway) -> None:
        self.outcomes: dict[str, Outcome] = {}
        self.is_closed = False
        self._gateway = gateway
        self._has_come = threading.Condition()

    def check(self, *, timeout_s: float) -> None:
        if self.is_closed:
            raise Unhealthy("the list is closed")

    def close(self) -> None:
        self.is_closed = True

    def put(self, texts: Sequence[str], item_options: ItemOptions = DEFAULT) -> int:
        events = [Event(id=text, text=text) for text in texts]
        return self._gateway.submit(events, [partial(self._done, text) for text in texts], item_options)

    def wait(self, num: int) -> dict[str, Outcome]:
        with self._has_come:
            assert self._has_come.wait_for(lambda: len(self.outcomes) >= num, 20)
        return self.outcomes

    def _done(self, text: str, outcome: Outcome) -> None:
        with self._has_come:
            self.outcomes[text] = outcome
            self._has_come.notify_all()


class ListInMemory:
    """The way in."""

    def __init__(self) -> None:
        self.opened: list[OpenList] = []

    def check(self, config: ServingConfig, stop: threading.Event) -> None: ...

    def open(self, core: Core, config: ServingConfig) -> OpenList:
        self.opened.append(OpenList(core.gateway))
        return self.opened[-1]


class SmallCore:
    """A core of a pipeline alone."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.gateway: Gateway = pipeline

    def api(self, *, listens: bool = True) -> Api:
        raise NotImplementedError


@pytest.fixture
def pipeline() -> Pipeline:
    return make_pipeline(make_encode(tokenizer(), lambda: 64), max_queue_items=4)


@pytest.fixture
def way(pipeline: Pipeline) -> OpenList:
    listed = ListInMemory()
    OpenEndpoints(SmallCore(pipeline), ServingConfig(), [listed])
    return listed.opened[0]


def test_events_come_in_and_outcomes_go_out(pipeline: Pipeline, way: OpenList) -> None:
    assert way.put([TEXT, "hello"]) == 2
    with running(pipeline.engine, pipeline.queue, live_versions([1])):
        found = way.wait(2)
    assert {type(outcome) for outcome in found.values()} == {Answer}


def test_a_version_is_asked_and_what_nobody_waits_for_is_dropped(pipeline: Pipeline, way: OpenList) -> None:
    """A deadline that is over, and a client that has hung up, are the same to the core: nobody waits."""
    way.put(["gone"], ItemOptions(is_wanted=lambda: False))
    way.put([TEXT], ItemOptions(version=2, priority=Priority.HIGH))
    with running(pipeline.engine, pipeline.queue, live_versions([1, 2], share=0.0)):
        found = way.wait(1)
    (answer,) = found.values()
    assert isinstance(answer, Answer)
    assert (answer.weights_version, answer.label) == (2, label_of(2, TEXT))
    assert pipeline.counts.snapshot()["abandoned"] == 1


def test_what_there_is_no_room_for_is_left_to_the_way_in(pipeline: Pipeline, way: OpenList) -> None:
    assert way.put([f"text {number}" for number in range(6)]) == 4
    pipeline.queue.close()
    with pytest.raises(QueueClosed):
        way.put(["late"])
