"""The verdicts of a label with a receipt: they need no answer, and judge an event once."""

import pytest

from tests.rollout.joined import Judged, answer, feedback, with_receipt
from wire.kinds import name_hash
from wire.receipts import Verdicts
from wire.records import STAND_IN, Answer, Feedback

NAMES = ((1, name_hash("yes")), (2, name_hash("no")), (3, name_hash("yes")))


def with_verdicts(record: Answer) -> Answer:
    """Returns the answer with a receipt that has the verdicts of versions 1 to 3."""
    return with_receipt(record, Verdicts(record.arm, record.weights_version, NAMES))


def test_a_label_with_a_receipt_judges_all_versions_without_the_answer() -> None:
    join = Judged()
    label = join.add_label(feedback("a", receipt=with_verdicts(answer("a", time_ms=77)).receipt))
    assert label is not None
    assert (label.correctness(), label.answer_ms) == ({1: True, 2: False, 3: True}, 77)


def test_a_label_without_a_receipt_takes_that_of_its_answer() -> None:
    join = Judged()
    join.add_answer(with_verdicts(answer("a")))
    label = join.add_label(feedback("a", "no"))
    assert label is not None and label.correctness() == {1: False, 2: True, 3: False}


@pytest.mark.parametrize("event_source", [None, ""])
@pytest.mark.parametrize("is_answer_first", [False, True])
def test_an_event_is_judged_once_with_and_without_its_receipt(is_answer_first: bool, event_source: str | None) -> None:
    join = Judged()
    given = with_verdicts(answer("a", time_ms=77))
    labels = [feedback("a", receipt=given.receipt, event_source=event_source), feedback("a", event_source=event_source)]
    records: list[Answer | Feedback] = [given, *labels] if is_answer_first else [labels[0], given, labels[1]]
    for record in records:
        join.add(record)
        join.add(record)
    assert join.num_judged() == (1, 1)


def test_answers_of_one_event_that_was_asked_twice_have_receipts_of_their_own() -> None:
    """B22: a client that gives each event the same id."""
    join = Judged()
    for number in range(20):
        join.add(feedback("ping", event_source="http", receipt=with_verdicts(answer("ping", time_ms=number)).receipt))
    assert join.num_judged() == (20, 20)


def test_a_stand_in_is_judged_by_no_receipt() -> None:
    join = Judged()
    given = with_verdicts(answer("a", arm=STAND_IN, version=3))
    assert join.add_label(feedback("a", receipt=given.receipt)) is None
    assert join.counts["label_of_stand_in"] == 1
