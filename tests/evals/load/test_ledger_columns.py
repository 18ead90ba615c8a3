"""The records of a run as columns of numbers."""

import math

from evals.load.ledger import RIGHT, UNSEEN, WRONG, Events, Interned, Labels
from evals.load.score import Label
from evals.streams.stream import StreamItem


def events(*labels: str) -> Events:
    table = Events()
    for number, label in enumerate(labels):
        table.add(StreamItem(f"text {number}", label), stage=0, round=number % 2, time_ms=100 * number)
    return table


def test_a_text_is_stored_once() -> None:
    texts = Interned()
    for text in ("a", "b", "a"):
        texts.append(text)
    assert [texts[number] for number in range(3)] == ["a", "b", "a"]
    assert texts._distinct == ["a", "b"]


def test_an_answer_is_right_or_wrong_and_none_is_wrong() -> None:
    table = events("x", "x", "x", "x")
    assert [table.judge(number, label, 150) for number, label in enumerate(("x", "y", None))] == [True, False, False]
    assert table.verdict.tolist() == [RIGHT, WRONG, WRONG, UNSEEN]


def test_latencies_are_of_the_answered_events_of_a_round_and_never_negative() -> None:
    table = events("x", "x", "x")
    table.judge(0, "x", 30)
    # The clock was set back, so the answer is earlier than its event.
    table.judge(2, "x", 150)
    assert list(table.latencies(0, 0, math.inf)) == [30, 0]
    assert list(table.latencies(0, 0, 200)) == [30]
    assert list(table.latencies(0, 1, math.inf)) == [0]
    assert list(table.latencies(1, 0, math.inf)) == []


def test_a_label_that_was_sent_twice_counts_at_its_first_position() -> None:
    labels = Labels()
    labels.add(7, Label(10, "feedback.v1/0", 3))
    labels.add(7, Label(20, "feedback.v1/0", 9))
    assert list(labels) == [Label(10, "feedback.v1/0", 3)]
    assert labels.ends == {"feedback.v1/0": 10}
    assert labels.first_ms == {7: 10}
