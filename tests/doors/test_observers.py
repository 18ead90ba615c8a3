"""What watches the batches of an engine: it is told of each, in order, and can neither fail nor change an answer."""

import threading
from collections.abc import Sequence

import pytest
import structlog

from serving.config import PrecisionConfig
from serving.engine import Engine
from serving.models import LiveVersions
from serving.observers import BatchObserver, Counts, Observers
from serving.pipeline import NOTHING_NOTED
from serving.queue import Batch, BatchQueue, Item, ItemFailure, Outcome
from tests.serving.callers import Caller, answered, running
from tests.serving.pipelines import PREDICT, make_queue
from tests.serving.test_engine_faults import POISON
from tests.serving.versions import live_versions


class Counting:
    """Notes each call under its name: the number of the items of a batch, and the types of its outcomes."""

    def __init__(self, name: str, calls: list[tuple[str, str, object]]) -> None:
        self.name = name
        self._calls = calls

    def batch_began(self, batch: Batch[Item], live: LiveVersions, began_s: float) -> None:
        self._calls.append((self.name, "began", len(batch.items)))

    def batch_ended(self, batch: Batch[Item], live: LiveVersions, outcomes: Sequence[Outcome], ended_s: float) -> None:
        self._calls.append((self.name, "ended", [type(outcome).__name__ for outcome in outcomes]))


class Silent:
    """Does nothing."""

    def batch_began(self, batch: Batch[Item], live: LiveVersions, began_s: float) -> None: ...

    def batch_ended(
        self, batch: Batch[Item], live: LiveVersions, outcomes: Sequence[Outcome], ended_s: float
    ) -> None: ...


class Slow(Silent):
    """Takes its time: until it is released."""

    def __init__(self) -> None:
        self.is_told = threading.Event()
        self.may_go_on = threading.Event()

    def batch_ended(self, batch: Batch[Item], live: LiveVersions, outcomes: Sequence[Outcome], ended_s: float) -> None:
        self.is_told.set()
        self.may_go_on.wait(20)


class Raising:
    """Is broken."""

    def batch_began(self, batch: Batch[Item], live: LiveVersions, began_s: float) -> None:
        raise RuntimeError("broken before")

    def batch_ended(self, batch: Batch[Item], live: LiveVersions, outcomes: Sequence[Outcome], ended_s: float) -> None:
        raise RuntimeError("broken behind")


@pytest.fixture
def calls() -> list[tuple[str, str, object]]:
    return []


@pytest.fixture
def queue() -> BatchQueue[Item]:
    return make_queue(64)


def engine_with(queue: BatchQueue[Item], *observers: BatchObserver) -> Engine:
    return Engine(queue, Counts(), PREDICT, precision=PrecisionConfig(), deaths=NOTHING_NOTED, observers=observers)


def test_each_is_told_of_a_batch_in_order_before_it_begins_and_when_all_have_their_answers(
    queue: BatchQueue[Item], calls: list[tuple[str, str, object]]
) -> None:
    engine = engine_with(queue, Counting("first", calls), Silent(), Counting("second", calls))
    caller = Caller()
    queue.submit_many([caller.item("hello"), caller.item("there")])
    with running(engine, queue, live_versions([1])):
        answered(caller.wait(2))
    both = ["Answer", "Answer"]
    assert calls == [
        ("first", "began", 2),
        ("second", "began", 2),
        ("first", "ended", both),
        ("second", "ended", both),
    ]


def test_a_batch_that_fails_is_told_with_its_outcomes(
    queue: BatchQueue[Item], calls: list[tuple[str, str, object]]
) -> None:
    caller = Caller()
    queue.submit_many([caller.item("good"), caller.item("bad", token_ids=POISON)])
    with running(engine_with(queue, Counting("one", calls)), queue, live_versions([1])):
        caller.wait(2)
    assert calls == [("one", "began", 2), ("one", "ended", ["Answer", "ItemFailure"])]


def test_a_batch_without_weights_is_told_too(queue: BatchQueue[Item], calls: list[tuple[str, str, object]]) -> None:
    caller = Caller()
    queue.submit(caller.item("hello"))
    with running(engine_with(queue, Counting("one", calls)), queue, None):
        (failure,) = caller.wait(1)
    assert isinstance(failure, ItemFailure)
    assert calls == [("one", "began", 1), ("one", "ended", ["ItemFailure"])]


def test_one_that_is_slow_keeps_no_answer_from_its_caller(queue: BatchQueue[Item]) -> None:
    slow = Slow()
    caller = Caller()
    with running(engine_with(queue, slow), queue, live_versions([1])):
        queue.submit(caller.item("hello"))
        assert slow.is_told.wait(20)
        answered(caller.wait(1))
        slow.may_go_on.set()


def test_one_that_raises_is_one_logged_error_and_never_the_end_of_the_loop(
    queue: BatchQueue[Item], calls: list[tuple[str, str, object]]
) -> None:
    caller = Caller()
    engine = engine_with(queue, Raising(), Counting("next", calls))
    with structlog.testing.capture_logs() as logs, running(engine, queue, live_versions([1])):
        for number in range(3):
            queue.submit(caller.item("hello", event_id=f"{number}"))
            caller.wait(number + 1)
    assert len(answered(caller.outcomes)) == 3
    assert [call[:2] for call in calls] == [("next", "began"), ("next", "ended")] * 3
    failed = [entry for entry in logs if entry["event"] == "observer_failed"]
    assert [(entry["observer"], entry["error"]) for entry in failed] == [("Raising", "broken before")]


def test_each_broken_observer_is_logged() -> None:
    observers = Observers([Raising(), Silent(), Raising()])
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            observers.batch_began(Batch([], 0.0, []), {}, 0.0)
    assert [entry["event"] for entry in logs] == ["observer_failed"] * 2
