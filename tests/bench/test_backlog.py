"""The backlog: labels that come long after their answers, and when a learner has caught up."""

from bench.backlog import _has_caught_up, make_answer, make_label
from evals.streams.stream import StreamItem
from wire.receipts import Receipts

ITEMS = [StreamItem(f"text {number}", f"class {number}") for number in range(9)]


def test_a_label_names_its_answer_and_has_its_receipt() -> None:
    receipts = Receipts(b"a key for tests")
    answer = make_answer(3, ITEMS[3], ITEMS, receipts)
    label = make_label(answer, ITEMS[3].label)
    assert (label.event_id, label.event_source, label.receipt) == (answer.event_id, answer.source, answer.receipt)
    assert label.time_ms > answer.time_ms
    assert len(answer.scores) == 5


def test_a_learner_has_caught_up_when_no_label_waits() -> None:
    assert not _has_caught_up({}, 10)
    assert not _has_caught_up({"labels": 10, "parked": 1}, 10)
    assert _has_caught_up({"labels": 10, "parked": 0}, 10)
