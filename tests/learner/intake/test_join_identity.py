"""B5: which answer a label is of, where several events have the same id."""

from collections.abc import Iterator
from itertools import permutations, product

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.samples import SAME_ID
from tests.learner.intake.joins import RECEIPTS, answer, label, label_of, make_join, make_trust, num_outcomes, pairs
from wire.records import Answer, Feedback


def orders(*records: Answer | Feedback) -> Iterator[tuple[Answer | Feedback, ...]]:
    return permutations(records)


def test_two_producers_that_both_count_teach_each_their_own() -> None:
    """B5, scenario a: the second answer is no repetition, and no label is learnt for the text of the other."""
    one = answer("1", "of the shop", source="shop", time_ms=5)
    other = answer("1", "of the desk", source="desk", time_ms=6)
    by_source = [label("1", "A", event_source="shop"), label("1", "B", event_source="desk")]
    by_receipt = [label_of(one, "A"), label_of(other, "B")]
    by_both = [label_of(one, "A", event_source="shop"), label_of(other, "B", event_source="desk")]
    for labels in (by_source, by_receipt, by_both):
        for records in orders(one, other, *labels):
            join = make_join(pending=9, parked=9)
            assert sorted(pairs(join.match(records))) == [("of the desk", "B"), ("of the shop", "A")]
            assert join.match(labels) == [] and join.counts["duplicate"] == 2
            assert join.counts["labels"] == 4
            assert num_outcomes(join) == 4
            assert (join.num_parked, join.num_pending) == (0, 0)


def test_who_reaches_http_teaches_nothing_under_the_id_of_another() -> None:
    """B5, scenario b: a valid receipt is good for its own answer alone."""
    evil = answer("ticket-1", "I love pizza", source="http", time_ms=1_000)
    twin = answer("ticket-1", "I love pizza", source="http", key="customer-7", time_ms=1_001)
    true = answer("ticket-1", "where is my refund", source="crm", key="customer-7", time_ms=2_000)
    for records in orders(evil, twin, true, label_of(true, "refund")):
        assert pairs(make_join(pending=9).match(records)) == [("where is my refund", "refund")]


def test_an_id_that_comes_back_for_another_text_is_another_event() -> None:
    """B5, scenario c: a broker that lost its log gives the ids of its places again."""
    old = answer("events.v1/0/0", "of the first run", time_ms=1)
    new = answer("events.v1/0/0", "of the second", time_ms=2)
    join = make_join()
    join.match([old])
    again = make_join(join.export())
    assert pairs(again.match([new, label_of(new, "L")])) == [("of the second", "L")]
    assert again.match([label(old.event_id, "L")]) == [] and again.counts["quarantined_ambiguous"] == 1
    assert pairs(again.match([label_of(old, "K")])) == [("of the first run", "K")]


@pytest.mark.parametrize("event_source", [None, "crm"])
def test_a_label_with_the_receipt_of_another_answer_waits_for_its_own(event_source: str | None) -> None:
    """B5: the receipt must be that of the answer, by its time and its entity."""
    here = answer("e", "here", source="crm", key="customer-7", time_ms=1_000)
    for own in (answer("e", "own", source="crm", key="customer-7", time_ms=2_000), answer("e", "own", source="crm")):
        join = make_join()
        assert join.match([here, label_of(own, event_source=event_source)]) == [] and join.num_parked == 1
        assert pairs(join.match([own])) == [("own", "yes")]
        assert join.num_pending == 1
        assert join.counts["labels"] == 1
        assert num_outcomes(join) == 1


def test_an_event_that_was_answered_twice_has_two_good_receipts() -> None:
    """B5: a redelivery changes neither the event nor what it is learnt for."""
    first = answer("e", source="crm", time_ms=1_000)
    second = answer("e", source="crm", time_ms=2_000)
    for records in orders(first, second, label_of(first, "A"), label_of(second, "A")):
        join = make_join()
        assert len(join.match(records)) == 1
        assert join.counts["answers_repeated"] == 1
        assert join.counts["duplicate"] == 1
        assert join.counts["labels"] == 2
        assert num_outcomes(join) == 2
        assert join.num_parked == 0


def test_a_label_that_several_events_fit_is_ambiguous() -> None:
    """B5: it is quarantined, and every answer waits for a label that says more."""
    join = make_join()
    assert join.match([answer("1", "A", source="a"), answer("1", "B", source="b"), label("1", "x")]) == []
    (held,) = join.take_quarantined()
    assert (held.reason, held.event_source, held.text) == ("ambiguous", None, "")
    assert join.counts["quarantined_ambiguous"] == 1
    assert join.counts["labels"] == 1
    assert num_outcomes(join) == 1
    assert join.num_pending == 2
    approved = RECEIPTS.approved(msgspec.structs.replace(held.feedback, event_source="b"))
    assert pairs(join.match([approved])) == [("B", "x")]


def test_a_label_that_came_twice_is_not_learnt_for_another_event_of_that_id() -> None:
    """B5: it may be of the event that is labelled or of the one that waits, and nobody can tell which."""
    join = make_join()
    assert pairs(join.match([answer("1", "A", source="a"), label("1", "x")])) == [("A", "x")]
    assert join.match([answer("1", "B", source="b"), label("1", "x")]) == []
    assert join.counts["quarantined_ambiguous"] == 1 and join.num_pending == 1


def test_a_quarantined_label_keeps_the_source_of_its_event() -> None:
    """B5: an operator vouches for a label of one event."""
    join = make_join(trust=make_trust(source_labels_per_s=1, source_burst=1))
    join.match([answer("a"), label("a"), answer("b", "B", source="crm"), label("b")])
    (held,) = join.take_quarantined()
    assert (held.reason, held.event_source) == ("over_rate", "crm")
    released = RECEIPTS.approved(held.feedback)
    assert pairs(join.match([answer("b", "another", source="http"), released])) == [("B", "yes")]


def test_one_id_for_everything_costs_no_memory() -> None:
    join = make_join(pending=1_000, parked=1_000)
    true = answer("1", "mine", source="crm")
    join.match([true, *(answer("1", f"text {number}", source="http", time_ms=number) for number in range(50))])
    join.match([label_of(answer("2", time_ms=number)) for number in range(50)])
    assert join.num_pending == SAME_ID
    assert join.num_parked == SAME_ID
    assert join.counts["orphan"] == 50 - SAME_ID
    assert pairs(join.match([label_of(true)])) == [("mine", "yes")]


ANSWERED = [
    answer(event_id, text, source=source, key=key, time_ms=time_ms)
    for time_ms, (event_id, text, source, key) in enumerate(product(("1", "2"), ("A", "B"), ("crm", "http"), ("", "k")))
]
LABELLED = [
    *(label_of(answered, answered.text) for answered in ANSWERED),
    *(label_of(answered, answered.text, event_source=answered.source) for answered in ANSWERED),
]


@given(st.lists(st.sampled_from([*ANSWERED, *LABELLED])))
def test_a_receipt_is_learnt_for_the_text_that_it_is_of(records: list[Answer | Feedback]) -> None:
    """B5: this holds in any order, and whatever else has the id, or even the id and the source."""
    assert all(text == value for text, value in pairs(make_join(pending=99, parked=99).match(records)))


def test_a_good_receipt_proves_the_key_of_its_waiting_answer() -> None:
    """The receipt is of the answer's entity, which the label does not name: of several, it is the one that verifies."""
    keyed = answer("e", "mine", key="customer 7", time_ms=5)
    other = answer("e", "of another", source="b", key="customer 8", time_ms=5)
    join = make_join()
    assert pairs(join.match([other, keyed, msgspec.structs.replace(label_of(keyed), key="")])) == [("mine", "yes")]
    forged = msgspec.structs.replace(label_of(answer("e", key="customer 9", time_ms=5)), key="")
    of_another_time = msgspec.structs.replace(label_of(answer("e", key="customer 8", time_ms=6)), key="")
    assert join.match([forged, of_another_time]) == [] and join.num_pending == 1
    assert [refused.reason for refused in join.take_quarantined()] == ["forged", "forged"]


def test_a_good_receipt_without_its_key_is_refused_with_the_fix() -> None:
    """Its answer does not wait, so that nothing tells whose it is."""
    join = make_join()
    keyed = answer("e", key="customer 7")
    join.match([msgspec.structs.replace(label_of(keyed), key=""), keyed])
    (refused,) = join.take_quarantined()
    assert refused.reason == "forged" and "send the key of the answer" in refused.detail
    join.match([msgspec.structs.replace(label_of(keyed), key="customer 8")])
    (refused,) = join.take_quarantined()
    assert refused.reason == "forged" and not refused.detail
    assert len(join.match([label_of(keyed)])) == 1
