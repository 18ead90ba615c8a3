"""The model's thread: answers, arms, swaps and failures."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch

from serving.batcher import BatchQueue
from serving.config import PrecisionConfig
from serving.counts import Counts
from serving.engine import Engine
from serving.errors import Unhealthy
from serving.item import Item, ItemFailure, Outcome, Unanswered
from serving.predict import predict_many
from serving.swap_stalls import StallReport
from serving.weights.active import ActiveVersions, Version
from serving.weights.latency import LatencyTable
from tests.serving.versions import PRECISIONS, RECEIPTS, label_of, live_of, model_of, plan_of, tokenizer
from wire.records import Answer, Event, PrecisionEvaluation
from wire.rollout import arm_for

POISON = [1 << 20]
"""A token id beyond the vocabulary: the forward raises."""


class Caller:
    """A caller of the engine: collects outcomes in order of delivery."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self._delivered = threading.Condition()

    def item(self, text: str, *, event_id: str = "e", key: str = "", token_ids: list[int] | None = None) -> Item:
        tokens = tokenizer().encode_many([text])[0] if token_ids is None else token_ids
        return Item(event=Event(id=event_id, text=text, key=key), token_ids=tokens, done=self._done)

    def wait(self, num: int) -> list[Outcome]:
        with self._delivered:
            assert self._delivered.wait_for(lambda: len(self.outcomes) >= num, 20)
        return self.outcomes

    def _done(self, outcome: Outcome) -> None:
        with self._delivered:
            self.outcomes.append(outcome)
            self._delivered.notify()


@pytest.fixture
def queue() -> BatchQueue[Item]:
    return BatchQueue(max_items=10_000, max_bytes=1 << 30, max_batch_items=16, max_batch_tokens=1_000, max_wait_ms=0)


@pytest.fixture
def counts() -> Counts:
    return Counts()


@pytest.fixture
def engine(queue: BatchQueue[Item], counts: Counts) -> Engine:
    return Engine(queue, counts, top_scores=2, precision=PrecisionConfig(), receipts=RECEIPTS, now_ms=lambda: 77)


@contextmanager
def running(engine: Engine, queue: BatchQueue[Item], live: ActiveVersions | None) -> Iterator[None]:
    engine.live = live
    engine.start()
    yield
    queue.close()
    engine.join(20)


def answered(outcomes: list[Outcome]) -> list[Answer]:
    answers = [outcome for outcome in outcomes if isinstance(outcome, Answer)]
    assert len(answers) == len(outcomes)
    return answers


def test_an_answer_names_its_event_its_weights_and_its_classes(engine: Engine, queue: BatchQueue[Item]) -> None:
    caller = Caller()
    with running(engine, queue, live_of([3])):
        queue.submit(caller.item("where is my card", event_id="e1", key="k"))
        (answer,) = answered(caller.wait(1))
    assert (answer.event_id, answer.key, answer.text, answer.time_ms) == ("e1", "k", "where is my card", 77)
    assert (answer.weights_version, answer.arm, answer.rollout_revision, answer.precision) == (3, "stable", 1, "int8")
    assert answer.label == label_of(3, "where is my card")
    assert answer.scores[0] == (answer.label, answer.score)
    assert len(answer.scores) == 2
    assert answer.scores[0][1] >= answer.scores[1][1]
    assert answer.scores[1][1] > 0


def test_each_entity_is_answered_by_its_arm(engine: Engine, queue: BatchQueue[Item]) -> None:
    caller = Caller()
    live = live_of([3, 4])
    with running(engine, queue, live):
        queue.submit_many([caller.item("hello there", key=f"k{index}") for index in range(40)])
        answers = answered(caller.wait(40))
    assert {answer.weights_version for answer in answers} == {3, 4}
    for answer in answers:
        arm = arm_for(answer.key, live.plan)
        assert (answer.arm, answer.weights_version) == (arm.name, arm.version)
        assert answer.label == label_of(arm.version, "hello there")


def test_versions_with_different_encoders_answer_side_by_side(engine: Engine, queue: BatchQueue[Item]) -> None:
    caller = Caller()
    versions = {
        number: Version(number=number, model=model_of(number, encoder_seed=number), precisions=PRECISIONS, num_bytes=1)
        for number in (3, 4)
    }
    with running(engine, queue, ActiveVersions(number=1, plan=plan_of(3, 4), versions=versions)):
        queue.submit_many([caller.item("hello there", key=f"k{index}") for index in range(20)])
        answers = answered(caller.wait(20))
    for answer in answers:
        number = answer.weights_version
        assert answer.label == label_of(number, "hello there", encoder_seed=number)


def test_a_poison_item_fails_alone(engine: Engine, queue: BatchQueue[Item], counts: Counts) -> None:
    caller = Caller()
    items = [caller.item("good", event_id=f"g{index}") for index in range(4)]
    items.insert(2, caller.item("bad", event_id="bad", token_ids=POISON))
    with running(engine, queue, live_of([1])):
        queue.submit_many(items)
        outcomes = caller.wait(5)
    failed = [outcome for outcome in outcomes if isinstance(outcome, ItemFailure)]
    assert [(failure.event.id, failure.reason) for failure in failed] == [("bad", "model_failed")]
    assert counts.snapshot()["model_failed"] == 1
    assert counts.snapshot()["answers"] == 4


def test_the_engine_goes_on_after_a_failure(engine: Engine, queue: BatchQueue[Item]) -> None:
    caller = Caller()
    with running(engine, queue, live_of([1])):
        queue.submit(caller.item("bad", token_ids=POISON))
        caller.wait(1)
        queue.submit(caller.item("good"))
        outcomes = caller.wait(2)
    assert isinstance(outcomes[1], Answer)


def test_without_weights_every_item_fails_by_name(engine: Engine, queue: BatchQueue[Item]) -> None:
    caller = Caller()
    with running(engine, queue, None):
        queue.submit(caller.item("hello"))
        (outcome,) = caller.wait(1)
    assert isinstance(outcome, ItemFailure)
    assert outcome.reason == "no_weights"


def test_weights_without_classes_answer_nothing(engine: Engine, queue: BatchQueue[Item]) -> None:
    caller = Caller()
    model = model_of(1)
    empty = type(model)(model.encoder, model.head, ())
    versions = {1: Version(number=1, model=empty, precisions=PRECISIONS, num_bytes=1)}
    with running(engine, queue, ActiveVersions(number=1, plan=plan_of(1), versions=versions)):
        queue.submit(caller.item("hello"))
        (answer,) = answered(caller.wait(1))
    assert (answer.label, answer.score, answer.scores) == (None, 0.0, ())


def test_a_swap_is_counted_with_its_stall_once_a_batch_has_seen_it(engine: Engine, queue: BatchQueue[Item]) -> None:
    caller = Caller()
    with running(engine, queue, live_of([1], number=1)):
        queue.submit(caller.item("before"))
        caller.wait(1)
        queue.submit(caller.item("once more"))
        caller.wait(2)
        assert engine.swap_stalls.num == 0
        engine.live = live_of([2], number=2)
        queue.submit(caller.item("after"))
        (_, _, after) = answered(caller.wait(3))
    stalls = engine.swap_stalls
    assert after.weights_version == 2
    assert stalls.num == 1
    assert 0 <= stalls.stalls_ms[0] < 50
    assert 0 <= stalls.pauses_ms[0] < 50


def test_swaps_that_no_batch_waited_for_cost_nothing(engine: Engine, queue: BatchQueue[Item]) -> None:
    caller = Caller()
    with running(engine, queue, live_of([1], number=3)):
        queue.submit(caller.item("first"))
        caller.wait(1)
        before = engine.swap_stalls
        engine.live = live_of([2], number=5)
        queue.submit(caller.item("second"))
        caller.wait(2)
    after = engine.swap_stalls
    assert before == StallReport(2, (0.0, 0.0), (0.0, 0.0))
    assert after.num == 4
    assert after.stalls_ms[:3] == (0.0, 0.0, 0.0)
    assert after.pauses_ms[:3] == (0.0, 0.0, 0.0)


def test_200_flips_under_load_fail_nothing_and_mix_nothing(engine: Engine, queue: BatchQueue[Item]) -> None:
    caller = Caller()
    texts = [f"text number {index}" for index in range(8)]
    lives = [live_of([1 + index % 4, 5 + index % 4], number=1 + index) for index in range(200)]
    stop = threading.Event()
    num_asked = 0

    def ask() -> None:
        nonlocal num_asked
        while not stop.is_set():
            num_asked += queue.submit_many([caller.item(text, key=f"{num_asked}") for text in texts])
            caller.wait(num_asked)

    with running(engine, queue, lives[0]):
        load = threading.Thread(target=ask)
        load.start()
        for live in lives:
            engine.live = live
            caller.wait(len(caller.outcomes) + 1)
        stop.set()
        load.join()
        answers = answered(caller.wait(num_asked))
    for answer in answers:
        assert answer.label == label_of(answer.weights_version, answer.text)
    assert len({answer.rollout_revision for answer in answers}) > 100


MEASURED = (PrecisionEvaluation(name="int8", accuracy=0.9), PrecisionEvaluation(name="int4", accuracy=0.88))
FAST_INT4 = LatencyTable((1,), {"int8": (2.0,), "int4": (1.0,)})


def test_a_full_queue_browns_out_and_an_empty_one_does_not(
    engine: Engine, counts: Counts, queue: BatchQueue[Item]
) -> None:
    """More than half of the queue's room waits for the first batches; below a quarter the brown-out ends."""
    live = live_of([1])
    version = replace(live.versions[1], precisions=MEASURED, latency=FAST_INT4)
    caller = Caller()
    queue.submit_many([caller.item("hello", event_id=f"e{index}") for index in range(6_000)])
    with running(engine, queue, replace(live, versions={1: version})):
        answers = answered(caller.wait(6_000))
    precisions = [answer.precision for answer in answers]
    calm = precisions.index("int8")
    assert set(precisions[:calm]) == {"int4"}
    assert set(precisions[calm:]) == {"int8"}
    assert 2_500 <= len(answers) - calm < 2_500 + 2 * 16
    assert counts.snapshot() == {
        "batches": 375,
        "answers": 6_000,
        "answers_int4": calm,
        "answers_int8": 6_000 - calm,
        "brown_outs": 1,
        "browning_out": 0,
    }


class Machine:
    """The machine below `predict_many`: `raises` returns the error for the texts of a batch, None where it answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.raises: Callable[[list[str]], Exception | None] = lambda texts: None
        monkeypatch.setattr("serving.engine.predict_many", self.predict)

    def predict(self, events: Sequence[Event], *args: Any, **options: Any) -> list[Answer]:
        error = self.raises([event.text for event in events])
        if error is not None:
            raise error
        return predict_many(events, *args, **options)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


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
    with running(engine, queue, live_of([1])):
        assert kinds(caller.wait(3)) == [Answer, Unanswered, Answer]
    assert counts.snapshot()["machine_faults"] == 1
    assert "model_failed" not in counts.snapshot()


def test_a_batch_that_is_too_large_for_the_memory_is_answered_in_parts(
    engine: Engine, queue: BatchQueue[Item], machine: Machine
) -> None:
    caller = Caller()
    machine.raises = lambda texts: MemoryError() if len(texts) > 1 else None
    queue.submit_many([caller.item("good") for _ in range(5)])
    with running(engine, queue, live_of([1])):
        assert len(answered(caller.wait(5))) == 5


def test_where_nothing_can_be_answered_no_event_is_blamed(
    engine: Engine, queue: BatchQueue[Item], machine: Machine
) -> None:
    """B25 no. 9: a broken processor, for example, may raise any error."""
    caller = Caller()
    with running(engine, queue, live_of([1])):
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
    engine = Engine(
        queue,
        Counts(),
        top_scores=1,
        precision=PrecisionConfig(),
        receipts=RECEIPTS,
        now_ms=lambda: 0,
        clock=lambda: now_s[0],
    )
    caller = Caller()
    with running(engine, queue, live_of([1])):
        machine.raises = lambda texts: MemoryError()
        for number, now_s[0] in enumerate((10.0, 14.0, 16.0)):
            engine.check(batch_timeout_s=5)
            queue.submit(caller.item("hello"))
            caller.wait(number + 1)
        with pytest.raises(Unhealthy, match="failed for more than 5 s"):
            engine.check(batch_timeout_s=5)
        machine.raises = lambda texts: None
        queue.submit(caller.item("hello"))
        caller.wait(4)
        engine.check(batch_timeout_s=5)


def test_a_dead_or_hanging_engine_is_unhealthy(queue: BatchQueue[Item], counts: Counts) -> None:
    now_s = [0.0]
    engine = Engine(
        queue,
        counts,
        top_scores=1,
        precision=PrecisionConfig(),
        receipts=RECEIPTS,
        now_ms=lambda: 0,
        clock=lambda: now_s[0],
    )
    engine.live = live_of([1])
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
