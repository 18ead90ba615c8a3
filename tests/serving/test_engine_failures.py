"""The outcomes of a batch with several tasks: what fails in one of them is nothing to the others."""

from dataclasses import replace

import pytest

from model.quantized import QuantizedEncoder, QuantizedModel
from serving.engine import Engine
from serving.observers import Counts
from serving.queue import BatchQueue, Item, ItemFailure
from tests.serving.callers import Caller, running
from tests.serving.pipelines import make_engine
from tests.serving.test_engine_faults import BrokenForward
from tests.serving.versions import TINY, live_versions, make_model
from wire.records import Answer, VersionHealth


@pytest.fixture
def engine(queue: BatchQueue[Item], counts: Counts) -> Engine:
    return make_engine(queue, counts)


def test_a_task_without_weights_answers_nothing(engine: Engine, queue: BatchQueue[Item]) -> None:
    """Whoever asks for it by its name is told, and who asks for all gets the others."""
    caller = Caller()
    items = [caller.item("hi", event_id="all"), caller.item("hi", event_id="one", tasks=("urgency",))]
    with running(engine, queue, live_versions([1])):
        queue.submit_many(items)
        answer, failure = caller.wait(2)
    assert isinstance(answer, Answer) and (answer.task, answer.tasks) == ("", {})
    assert isinstance(failure, ItemFailure) and failure.reason == "no_weights"
    assert "'urgency'" in failure.detail


def test_each_task_is_counted_by_itself(engine: Engine, queue: BatchQueue[Item], counts: Counts) -> None:
    caller = Caller()
    engine.activate(replace(live_versions([3]), task="urgency"), "urgency")
    with running(engine, queue, live_versions([1])):
        queue.submit_many([caller.item("hi", event_id="a"), caller.item("hi", event_id="b", tasks=("urgency",))])
        caller.wait(2)
    found = counts.snapshot()
    assert (found["answers"], found["answers_int8"], found["urgency/answers_by_stable_int8"]) == (2, 1, 2)


def test_a_version_that_fails_is_counted_in_its_task_and_the_stable_ones_answer(
    engine: Engine, queue: BatchQueue[Item]
) -> None:
    caller = Caller()
    broken = QuantizedEncoder(TINY, dict.fromkeys(("int8", "int4"), BrokenForward()))
    sick = live_versions([3, 4], share=1.0)
    model = QuantizedModel(broken, make_model(4).head, make_model(4).labels)
    versions = {3: sick.versions[3], 4: replace(sick.versions[4], model=model)}
    sick = replace(sick, task="urgency", versions=versions)
    sick.health.follow({number: version.model.encoder for number, version in sick.versions.items()}, stable=3)
    live = live_versions([1])
    live.health.follow({1: live.versions[1].model.encoder}, stable=1)
    engine.activate(sick, "urgency")
    with running(engine, queue, live):
        queue.submit_many([caller.item("hi", event_id="e")])
        (answer,) = caller.wait(1)
    assert isinstance(answer, Answer)
    assert (answer.weights_version, answer.tasks["urgency"].weights_version) == (1, 3)
    assert live.health.report() == (VersionHealth(version=1, answers=1),)
    assert sick.health.report() == (VersionHealth(version=3, answers=1), VersionHealth(version=4, answers=1, errors=1))
