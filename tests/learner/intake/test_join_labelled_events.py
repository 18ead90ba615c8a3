"""The second label of an event: a duplicate, or, of a mapped topic, a correction."""

import msgspec
import pytest

from learner.intake.join import MAX_SAID, LabelledEvents, Unmatched
from learner.samples import Waiting
from tests.learner.intake.joins import RECEIPTS, answer, label, make_join, make_trust, num_outcomes, pairs
from wire.events import encoded_key
from wire.records import Feedback


def desk(event_id: str, value: str, *, event_source: str | None = None, source: str = "desk") -> Feedback:
    """Returns a label as the reader of a mapped topic gives it."""
    return msgspec.structs.replace(label(event_id, value, source, event_source=event_source), replaces=True)


@pytest.mark.parametrize("source", ["", "crm"])
def test_a_desk_that_corrects_itself_replaces_its_label(source: str) -> None:
    named = source or None
    join = make_join()
    first = join.match([answer("1", source=source), desk("1", "a", event_source=named)])
    (second,) = join.match([desk("1", "b", event_source=named)])
    assert not first[0].is_correction
    assert second.is_correction
    assert (second.label, second.event) == ("b", first[0].event)
    assert join.match([desk("1", "b", event_source=named)]) == []
    assert [each.label for each in join.match([desk("1", "a", event_source=named)])] == ["a"]
    assert (join.counts["matched"], join.counts["correction"], join.counts["duplicate"]) == (1, 2, 1)
    assert num_outcomes(join) == join.counts["labels"] == 4


def test_anybody_else_replaces_no_label() -> None:
    join = make_join()
    join.match([answer("1"), desk("1", "a"), label("1", "b"), label("1", "c", event_source="")])
    assert join.counts["duplicate"] == 2


def test_what_was_said_survives_a_restart() -> None:
    """A checkpoint knows the labels, so that each is learnt once."""
    join = make_join()
    join.match([answer("1"), desk("1", "a")])
    again = make_join(join.export())
    assert again.match([desk("1", "a")]) == []
    assert [each.label for each in again.match([desk("1", "b")])] == ["b"]


def test_of_two_labels_before_the_answer_the_last_one_of_a_desk_counts() -> None:
    for second, wanted in ((desk("1", "b"), "b"), (label("1", "b"), "a")):
        join = make_join()
        join.match([desk("1", "a"), second])
        assert pairs(make_join(join.export()).match([answer("1")])) == [("a text", wanted)]
        assert join.counts["duplicate"] == 1


def test_a_label_and_its_correction_that_waited_together_are_both_learnt() -> None:
    join = make_join()
    join.match([label("1", "a"), desk("1", "b", event_source="")])
    assert [(each.label, each.is_correction) for each in join.match([answer("1")])] == [("a", False), ("b", True)]


def test_a_correction_names_the_source_of_its_event() -> None:
    """By its id alone it may be of several events: it waits for an operator, who is told which setting mends it."""
    join = make_join()
    join.match([answer("1", source="crm"), desk("1", "a"), desk("1", "a"), desk("1", "b")])
    (held,) = join.take_quarantined()
    assert (held.reason, held.label) == ("ambiguous", "b")
    assert "bus.map.feedback.event_source" in held.detail
    assert join.counts["duplicate"] == 1


def test_corrections_are_within_the_limits_of_their_source() -> None:
    join = make_join(trust=make_trust(source_labels_per_s=1, source_burst=2))
    join.match([answer("1"), *(desk("1", name) for name in "abc")])
    assert (join.counts["matched"], join.counts["correction"], join.counts["quarantined_over_rate"]) == (1, 1, 1)


def test_an_approved_label_replaces_that_of_a_desk_and_is_replaced_by_it() -> None:
    join = make_join()
    approved = RECEIPTS.approved(label("1", "b", event_source=""))
    samples = join.match([answer("1"), desk("1", "a"), approved, desk("1", "a")])
    assert [each.label for each in samples] == ["a", "b", "a"]


def test_what_was_said_is_bounded() -> None:
    """Of an event that is forgotten, the same label is a correction, which changes nothing."""
    events = LabelledEvents(100_000)
    for number in range(MAX_SAID + 1):
        events.add(Waiting(str(number), "text", None, "", 0), label(str(number), "a"))
    assert len(events.last_labels) == 2 * MAX_SAID
    assert events.repeated(desk("0", "a"), may_correct=True) is Unmatched.CORRECTION
    assert events.repeated(desk(str(MAX_SAID), "a"), may_correct=True) is Unmatched.DUPLICATE


def test_an_event_whose_label_was_withdrawn_has_none() -> None:
    known = LabelledEvents(50)
    one, other = (Waiting.from_answer(answer(event_id, source="crm")) for event_id in ("1", "2"))
    for waiting in (one, other):
        known.add(waiting, desk(waiting.event_id, "a", event_source="crm"))
    known.forget([one])
    assert [encoded_key(each.key) in known.aliases for each in (one, other)] == [False, True]
    assert len(known.last_labels) == 1
