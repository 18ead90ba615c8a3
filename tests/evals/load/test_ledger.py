"""The records of a run."""

import threading

from evals.load.ledger import Ledger
from evals.load.oracle import AskedEvent
from evals.load.score import Hits, Label
from evals.streams.stream import StreamItem
from wire.records import Answer, Feedback


def answer(event_id: str, label: str | None, *, version: int = 1, arm: str = "stable", time_ms: int = 1_040) -> Answer:
    return Answer(
        event_id=event_id,
        text="",
        label=label,
        score=0.5,
        weights_version=version,
        arm=arm,
        precision="int8",
        rollout_revision=1,
        time_ms=time_ms,
    )


def test_an_id_does_not_reveal_the_label() -> None:
    ledger = Ledger("run")
    ids = [ledger.record_event(StreamItem("", label), stage=0, time_ms=0) for label in ("secret", "secret", "other")]
    assert ids == ["run-0", "run-1", "run-2"]
    assert [ledger.number_of(each) for each in ids] == [0, 1, 2]
    assert [ledger.number_of(each) for each in ("run-3", "old-1", "run-", "run-x", "run--1", "")] == [None] * 6


def test_the_first_answer_counts_and_calls_for_the_label() -> None:
    ledger = Ledger("run")
    event_id = ledger.record_event(StreamItem("", "a"), stage=2, time_ms=1_000)
    assert ledger.record_answer(answer(event_id, "a"), read_ms=1_050) == 0
    assert ledger.record_answer(answer(event_id, "b", version=2), read_ms=1_060) is None
    progress = ledger.progress()
    assert progress.hits == {(-1, 2): Hits(1, 1, 1)}
    assert progress.arms == {"stable": Hits(1, 1, 1)}
    assert progress.first_ms == {("stable", 1): 1_040, ("stable", 2): 1_040}
    assert progress.precisions == {"int8": 1}
    assert ledger.latencies_ms() == [50]
    assert ledger.label_of(0) == "a"


def test_a_test_item_calls_for_no_label() -> None:
    ledger = Ledger("run")
    event_id = ledger.record_event(StreamItem("", "a"), stage=0, round=3, time_ms=1_000)
    assert ledger.record_answer(answer(event_id, None), read_ms=3_000) is None
    assert ledger.progress().hits == {(3, 0): Hits(1, 1, 0)}
    assert ledger.progress().arms == {}
    assert ledger.latencies_ms() == []
    assert [(each.answers, each.began_ms, each.ended_ms) for each in ledger.throughput()] == [(1, 1_000, 3_000)]


def test_answers_to_other_events_are_ignored() -> None:
    ledger = Ledger("run")
    assert ledger.record_answer(answer("older-0", "a"), read_ms=0) is None
    assert ledger.progress().counts == (0, 0, 0, 0)


def test_a_label_that_was_sent_twice_has_its_first_position() -> None:
    ledger = Ledger("run")
    feedback = Feedback(event_id=ledger.record_event(StreamItem("", "a"), stage=0, time_ms=0), label="a", time_ms=7)
    ledger.record_label(feedback, "feedback.v1/2", 40)
    ledger.record_label(feedback, "feedback.v1/2", 44)
    ledger.record_label(Feedback(event_id="older-0", label="a"), "feedback.v1/2", 50)
    assert ledger.labels() == [Label(7, "feedback.v1/2", 40)]
    assert ledger.label_ends() == {"feedback.v1/2": 45}


def test_a_wait_ends_with_the_answer() -> None:
    ledger = Ledger("run")
    event_id = ledger.record_event(StreamItem("", "a"), stage=0, time_ms=0)
    assert not ledger.wait(lambda counts: not counts.outstanding, timeout_s=0.01)
    threading.Timer(0.05, ledger.record_answer, [answer(event_id, "a")], {"read_ms": 0}).start()
    assert ledger.wait(lambda counts: not counts.outstanding, timeout_s=10)


def test_the_curve_is_of_training_events() -> None:
    ledger = Ledger("run")
    for round, label in ((-1, "a"), (-1, "b"), (0, "b")):
        event_id = ledger.record_event(StreamItem("", "a"), stage=0, round=round, time_ms=5_000)
        ledger.record_answer(answer(event_id, label), read_ms=5_020)
    assert [(point.answered, point.right) for point in ledger.curve()] == [(2, 1)]


def test_training_events_are_returned_with_their_answers_and_labels() -> None:
    ledger = Ledger("run")
    ids = [
        ledger.record_event(StreamItem(f"text {number}", "a"), stage=number, time_ms=1_000 + number, round=round)
        for number, round in enumerate((-1, -1, -2, 0, -1))
    ]
    ledger.record_answer(answer(ids[0], "a"), read_ms=1_050)
    ledger.record_answer(answer(ids[1], "b"), read_ms=1_050)
    for time_ms in (9, 3):
        ledger.record_label(Feedback(event_id=ids[0], label="a", time_ms=time_ms), "feedback.v1/0", time_ms)
    assert ledger.asked() == [
        AskedEvent("text 0", "a", 0, 1_000, 9, True),
        AskedEvent("text 1", "a", 1, 1_001, None, False),
        AskedEvent("text 4", "a", 4, 1_004, None, False),
    ]
