"""The model's thread where an event, the memory or the machine fails it."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from model.quantized import QuantizedEncoder, QuantizedModel
from model.ragged import RaggedBatch, RaggedLayout
from serving.engine import Engine
from serving.errors import Unhealthy
from serving.observers import Counts
from serving.queue import BatchQueue, Item, ItemFailure, ItemOptions, Outcome, Unanswered
from tests.serving.callers import Caller, answered, running
from tests.serving.pipelines import PREDICT, make_engine
from tests.serving.versions import TINY, live_versions, make_model
from wire.records import Answer, Event, VersionHealth

POISON = [1 << 20]
"""A token id beyond the vocabulary: the forward raises."""


class Machine:
    """A machine that predicts: `raises` returns the error for the texts of a batch, None where it answers."""

    def __init__(self) -> None:
        self.raises: Callable[[list[str]], Exception | None] = lambda texts: None

    def predict(self, events: Sequence[Event], *args: Any) -> list[Answer]:
        error = self.raises([event.text for event in events])
        if error is not None:
            raise error
        return PREDICT(events, *args)


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def engine(queue: BatchQueue[Item], counts: Counts, machine: Machine) -> Engine:
    return make_engine(queue, counts, machine.predict)


def test_a_poison_item_fails_alone(engine: Engine, queue: BatchQueue[Item], counts: Counts) -> None:
    caller = Caller()
    items = [caller.item("good", event_id=f"g{index}") for index in range(4)]
    items.insert(2, caller.item("bad", event_id="bad", token_ids=POISON))
    with running(engine, queue, live_versions([1])):
        queue.submit_many(items)
        outcomes = caller.wait(5)
    failed = [outcome for outcome in outcomes if isinstance(outcome, ItemFailure)]
    assert [(failure.event.id, failure.reason) for failure in failed] == [("bad", "model_failed")]
    assert counts.snapshot()["model_failed"] == 1
    assert counts.snapshot()["answers"] == 4


class BrokenForward:
    """The forward of an encoder that fails."""

    name = "broken"
    arithmetic = ""

    def encode(self, batch: RaggedBatch) -> Tensor:
        raise RuntimeError("device-side assert triggered")

    def tokens(self, batch: RaggedBatch, layers: int) -> Tensor:
        raise NotImplementedError

    def tokens_from(self, x_TD: Tensor, layout: RaggedLayout, layers: int) -> Tensor:
        raise NotImplementedError

    def encode_from(self, layer: int, x_TD: Tensor, layout: RaggedLayout) -> Tensor:
        raise NotImplementedError


def test_where_a_version_fails_the_stable_one_answers_and_the_failures_are_counted(
    engine: Engine, queue: BatchQueue[Item], counts: Counts
) -> None:
    live = live_versions([1, 2])
    broken = QuantizedEncoder(TINY, dict.fromkeys(("int8", "int4"), BrokenForward()))
    model = QuantizedModel(broken, make_model(2).head, make_model(2).labels)
    live = replace(live, versions={1: live.versions[1], 2: replace(live.versions[2], model=model)})
    live.health.follow({1: make_model(1).encoder, 2: broken}, stable=1)
    caller = Caller()
    with running(engine, queue, live):
        for number in range(12):
            queue.submit(caller.item("good", event_id=f"e{number}"))
        answers = answered(caller.wait(12))
    assert {answer.weights_version for answer in answers} == {1}
    stable, failing = live.health.report()
    assert stable == VersionHealth(version=1, answers=12)
    assert failing.errors == failing.answers == counts.snapshot()["answered_by_stable"] >= 3
    assert not {"model_failed", "machine_faults"} & counts.snapshot().keys()


def test_the_engine_goes_on_after_a_failure(engine: Engine, queue: BatchQueue[Item]) -> None:
    caller = Caller()
    with running(engine, queue, live_versions([1])):
        queue.submit(caller.item("bad", token_ids=POISON))
        caller.wait(1)
        queue.submit(caller.item("good"))
        outcomes = caller.wait(2)
    assert isinstance(outcomes[1], Answer)


def kinds(outcomes: Sequence[Outcome]) -> list[type]:
    return [type(outcome) for outcome in outcomes]


@pytest.mark.parametrize("error", [MemoryError(), OSError("no space"), torch.OutOfMemoryError("CUDA")])
def test_memory_that_runs_out_is_no_fault_of_an_event(
    engine: Engine, queue: BatchQueue[Item], counts: Counts, machine: Machine, error: Exception
) -> None:
    """B25 no. 9: events were blamed for a lack of memory."""
    caller = Caller()
    machine.raises = lambda texts: error if "bad luck" in texts else None
    queue.submit_many([caller.item(text) for text in ("good", "bad luck", "good")])
    with running(engine, queue, live_versions([1])):
        assert kinds(caller.wait(3)) == [Answer, Unanswered, Answer]
    assert counts.snapshot()["machine_faults"] == 1
    assert "model_failed" not in counts.snapshot()


def test_a_batch_that_is_too_large_for_the_memory_is_answered_in_parts(
    engine: Engine, queue: BatchQueue[Item], machine: Machine
) -> None:
    caller = Caller()
    machine.raises = lambda texts: MemoryError() if len(texts) > 1 else None
    queue.submit_many([caller.item("good") for _ in range(5)])
    with running(engine, queue, live_versions([1])):
        assert len(answered(caller.wait(5))) == 5


def test_where_nothing_can_be_answered_no_event_is_blamed(
    engine: Engine, queue: BatchQueue[Item], machine: Machine
) -> None:
    """B25 no. 9: a broken processor, for example, may raise any error."""
    caller = Caller()
    with running(engine, queue, live_versions([1])):
        queue.submit(caller.item("good"))
        caller.wait(1)
        machine.raises = lambda texts: RuntimeError("device-side assert triggered")
        queue.submit_many([caller.item("one"), caller.item("two")])
        caller.wait(3)
        machine.raises = lambda texts: RuntimeError("poison") if "poison" in texts else None
        queue.submit(caller.item("poison"))
        outcomes = caller.wait(4)
    assert kinds(outcomes) == [Answer, Unanswered, Unanswered, ItemFailure]


def test_faults_that_go_on_are_unhealthy(queue: BatchQueue[Item], machine: Machine) -> None:
    now_s = [0.0]
    engine = make_engine(queue, Counts(), machine.predict, clock=lambda: now_s[0])
    caller = Caller()
    with running(engine, queue, live_versions([1])):
        machine.raises = lambda texts: MemoryError()
        for number, now_s[0] in enumerate((10.0, 14.0, 16.0)):
            engine.check(batch_timeout_s=5)
            queue.submit(caller.item("hello"))
            caller.wait(number + 1)
            abandoned = replace(caller.item("hung up"), item_options=ItemOptions(is_wanted=lambda: False))
            queue.submit(abandoned)  # a batch that is never computed says nothing of the model
        with pytest.raises(Unhealthy, match="failed for more than 5 s"):
            engine.check(batch_timeout_s=5)
        machine.raises = lambda texts: None
        queue.submit(caller.item("hello"))
        caller.wait(4)
        engine.check(batch_timeout_s=5)


def test_a_dead_or_hanging_engine_is_unhealthy(queue: BatchQueue[Item], counts: Counts) -> None:
    now_s = [0.0]
    engine = make_engine(queue, counts, clock=lambda: now_s[0])
    engine.activate(live_versions([1]))
    with pytest.raises(Unhealthy, match="ended"):
        engine.check(batch_timeout_s=5)
    engine.start()
    engine.check(batch_timeout_s=5)
    held = threading.Event()
    release = threading.Event()

    def hold(_: Outcome) -> None:
        held.set()
        release.wait(20)

    queue.submit(Item(event=Event(id="e", text="hello"), token_ids=[101, 102], done=hold))
    held.wait(20)
    now_s[0] = 6.0
    with pytest.raises(Unhealthy, match="more than 5 s"):
        engine.check(batch_timeout_s=5)
    release.set()
    queue.close()
    engine.join(20)
