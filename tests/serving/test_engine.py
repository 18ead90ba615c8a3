"""The model's thread: answers, arms and swaps."""

import threading
from dataclasses import replace

from serving.engine import Engine
from serving.models import ActiveVersions, LatencyTable, Version
from serving.observers import Counts, StallReport
from serving.queue import BatchQueue, Item, ItemFailure
from tests.serving.callers import Caller, answered, running
from tests.serving.versions import PRECISIONS, build_plan, label_of, live_versions, make_model
from wire.draws import arm_for
from wire.records import PrecisionEvaluation


def test_an_answer_names_its_event_its_weights_and_its_classes(engine: Engine, queue: BatchQueue[Item]) -> None:
    caller = Caller()
    with running(engine, queue, live_versions([3])):
        queue.submit(caller.item("where is my card", event_id="e1", key="k"))
        (answer,) = answered(caller.wait(1))
    assert (answer.event_id, answer.key, answer.text, answer.time_ms) == ("e1", "k", "where is my card", 9)
    assert (answer.weights_version, answer.arm, answer.rollout_revision, answer.precision) == (3, "stable", 1, "int8")
    assert answer.label == label_of(3, "where is my card")
    assert answer.scores[0] == (answer.label, answer.score)
    assert len(answer.scores) == 2
    assert answer.scores[0][1] >= answer.scores[1][1]
    assert answer.scores[1][1] > 0


def test_each_entity_is_answered_by_its_arm(engine: Engine, queue: BatchQueue[Item]) -> None:
    caller = Caller()
    live = live_versions([3, 4])
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
        number: Version(
            number=number, model=make_model(number, encoder_seed=number), precisions=PRECISIONS, num_bytes=1
        )
        for number in (3, 4)
    }
    with running(engine, queue, ActiveVersions(number=1, plan=build_plan(3, 4), versions=versions)):
        queue.submit_many([caller.item("hello there", key=f"k{index}") for index in range(20)])
        answers = answered(caller.wait(20))
    for answer in answers:
        number = answer.weights_version
        assert answer.label == label_of(number, "hello there", encoder_seed=number)


def test_without_weights_every_item_fails_by_name(engine: Engine, queue: BatchQueue[Item]) -> None:
    caller = Caller()
    with running(engine, queue, None):
        queue.submit(caller.item("hello"))
        (outcome,) = caller.wait(1)
    assert isinstance(outcome, ItemFailure)
    assert outcome.reason == "no_weights"


def test_weights_without_classes_answer_nothing(engine: Engine, queue: BatchQueue[Item]) -> None:
    caller = Caller()
    model = make_model(1)
    empty = type(model)(model.encoder, model.head, ())
    versions = {1: Version(number=1, model=empty, precisions=PRECISIONS, num_bytes=1)}
    with running(engine, queue, ActiveVersions(number=1, plan=build_plan(1), versions=versions)):
        queue.submit(caller.item("hello"))
        (answer,) = answered(caller.wait(1))
    assert (answer.label, answer.score, answer.scores) == (None, 0.0, ())


def test_a_swap_is_counted_with_its_stall_once_a_batch_has_seen_it(engine: Engine, queue: BatchQueue[Item]) -> None:
    caller = Caller()
    with running(engine, queue, live_versions([1], number=1)):
        queue.submit(caller.item("before"))
        caller.wait(1)
        queue.submit(caller.item("once more"))
        caller.wait(2)
        assert engine.swap_stalls.num == 0
        engine.activate(live_versions([2], number=2))
        queue.submit(caller.item("after"))
        (_, _, after) = answered(caller.wait(3))
    stalls = engine.swap_stalls
    assert after.weights_version == 2
    assert stalls.num == 1
    assert 0 <= stalls.stalls_ms[0] < 50
    assert 0 <= stalls.pauses_ms[0] < 50


def test_swaps_that_no_batch_waited_for_cost_nothing(engine: Engine, queue: BatchQueue[Item]) -> None:
    caller = Caller()
    with running(engine, queue, live_versions([1], number=3)):
        queue.submit(caller.item("first"))
        caller.wait(1)
        before = engine.swap_stalls
        engine.activate(live_versions([2], number=5))
        queue.submit(caller.item("second"))
        caller.wait(2)
    after = engine.swap_stalls
    assert before == StallReport(2, (0.0, 0.0), (0.0, 0.0))
    assert after.num == 4
    assert after.stalls_ms[:3] == (0.0, 0.0, 0.0)
    assert after.pauses_ms[:3] == (0.0, 0.0, 0.0)


def test_200_swaps_under_load_fail_nothing_and_mix_nothing(engine: Engine, queue: BatchQueue[Item]) -> None:
    caller = Caller()
    texts = [f"text number {index}" for index in range(8)]
    lives = [live_versions([1 + index % 4, 5 + index % 4], number=1 + index) for index in range(200)]
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
            engine.activate(live)
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
    live = live_versions([1])
    version = replace(live.versions[1], precisions=MEASURED, latency=FAST_INT4)
    caller = Caller()
    queue.submit_many([caller.item("hello", event_id=f"e{index}") for index in range(6_000)])
    with running(engine, queue, replace(live, versions={1: version})):
        answers = answered(caller.wait(6_000))
    precisions = [answer.precision for answer in answers]
    num_int4 = precisions.index("int8")
    num_int8 = 6_000 - num_int4
    assert set(precisions[:num_int4]) == {"int4"}
    assert set(precisions[num_int4:]) == {"int8"}
    assert 2_500 <= num_int8 < 2_532  # a quarter of the room, and at most two batches
    assert counts.snapshot() == {
        "batches": 375,
        "answers": 6_000,
        "answers_int4": num_int4,
        "answers_int8": num_int8,
        "answers_by_stable_int4": num_int4,
        "answers_by_stable_int8": num_int8,
        "brown_outs": 1,
        "browning_out": 0,
    }
