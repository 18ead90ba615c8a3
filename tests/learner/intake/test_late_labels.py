"""Labels whose answers wait no longer: they are looked for, in memory or by their places."""

import math
import random

import msgspec
import pytest

from learner.intake.late_labels import FULL_BYTES, MAX_OUTSTANDING, OLDER_MS, LateLabels, LatePlace, answer_ms
from tests.learner.intake.joins import RECEIPTS, answer, label, label_of, make_join, make_trust, num_outcomes
from wire.bus import Position, Received
from wire.records import Answer, Feedback, LogMark

DAY_MS = 86_400_000


def late_labels(*feedbacks: Feedback) -> LateLabels:
    late = LateLabels()
    for feedback in feedbacks:
        late.add(feedback)
    return late


def at(time_ms: int) -> Feedback:
    """Returns the label of an answer that was given then."""
    return label_of(answer(f"event-{time_ms}", time_ms=time_ms))


def test_a_label_whose_answer_was_evicted_is_looked_for() -> None:
    join = make_join(pending=1)
    old = answer("old")
    assert join.match([old, answer("new"), label_of(old)]) == []
    assert (join.counts["late"], num_outcomes(join)) == (1, 1)
    assert join.late.labels() == [label_of(old)]


def test_a_label_is_looked_for_after_a_restart_too() -> None:
    join = make_join(pending=1)
    old = answer("old")
    join.match([old, answer("new"), label_of(old)])
    assert make_join(join.export()).late.labels() == [label_of(old)]


def test_a_label_is_late_where_every_answer_that_waits_came_long_after_its_own() -> None:
    """The event itself may be forgotten by then."""
    join = make_join()
    now = DAY_MS
    join.match([answer("new", time_ms=now), at(now - OLDER_MS - 1), at(now - OLDER_MS)])
    assert (join.counts["late"], join.num_parked) == (1, 1)
    assert join.late.labels() == [at(now - OLDER_MS - 1)]


def test_a_label_that_waited_for_its_answer_in_vain_is_looked_for() -> None:
    join = make_join(parked=2)
    join.match([at(1), at(2)])
    assert (join.counts["orphan"], join.late.labels()) == (1, [at(1)])


def test_without_a_receipt_nobody_knows_where_to_look() -> None:
    join = make_join(pending=1)
    join.match([answer("old"), answer("new"), label("old")])
    assert (join.counts["late"], join.late.labels()) == (1, [])


def test_a_label_that_was_found_is_not_looked_for_again() -> None:
    """It would come again and again where its text is of no use."""
    blank = RECEIPTS.with_answer(at(1), answer("event-1", text=" ", time_ms=1))
    assert late_labels(blank).labels() == []


def received(feedback: Feedback, offset: int) -> Received[Answer | Feedback]:
    position = Position(topic="feedback.v1", partition=0, offset=offset, generation=0)
    return Received(record=feedback, position=position, log_ms=0, mark=LogMark())


def test_labels_are_in_the_order_of_their_answers() -> None:
    """Also where labels share an id, or a time, come twice, are evicted, or are erased."""
    rng = random.Random(7)
    late = LateLabels()
    for _ in range(1_000):
        late.add(label_of(answer(f"event-{rng.randrange(4)}", time_ms=rng.randrange(30_000, 40_000, 500))))
        if rng.random() < 0.3:
            late.remove(rng.choice(late.labels()), "late_found")
    late.add(at(1))
    assert late.erase(lambda subject: subject == "customer 7") == 0
    assert late.next_ms(0) == 1 and late.between(0, 1) == [at(1)] and late.between(1, 29_000) == []
    late.remove(at(1), "late_found")
    late.remove(at(1), "late_found")
    first_ms = min(map(answer_ms, late.labels()))
    assert late.next_ms(0) == first_ms
    within = [each for each in late.labels() if answer_ms(each) <= first_ms + 2_000]
    assert sorted(map(answer_ms, late.between(0, first_ms + 2_000))) == sorted(map(answer_ms, within))
    assert late.counts["late_given_up"] > 0
    for each in late.labels():
        late.remove(each, "late_found")
    assert late.next_ms(0) is None and not late.wait(0.0)


def test_an_answer_of_before_1970_is_looked_for_too() -> None:
    """A replica's clock may be wrong: the search had a label to look for, found no time to begin at, and span."""
    late = LateLabels()
    late.add(at(-5_000))
    assert late.wait(0.0)
    assert late.next_ms(-math.inf) == -5_000


def test_of_labels_that_find_no_room_their_places_are_kept_and_the_oldest_comes_first() -> None:
    """N12: the learner read no more until there was room."""
    late = LateLabels()
    long = "x" * (FULL_BYTES // 8)
    labels = [msgspec.structs.replace(at(100 - number), label=long) for number in range(20)]
    for each in labels:
        late.add(each)
    assert len(late.labels()) == 20, "nothing is lost before it is settled"
    late.settle([received(label, offset) for offset, label in enumerate(labels)])
    held = late.labels()
    assert held == labels[: len(held)] and late.counts["late_waiting"] == 20 - len(held) > 0
    assert late.counts["late_given_up"] == 0 and late.oldest_places() == [], "there is no room yet"
    restarted = LateLabels(late.export())
    assert restarted.counts == {"late_searched": len(held), "late_waiting": 20 - len(held)}
    for each in held:
        restarted.remove(each, "late_found")
    places = restarted.oldest_places()
    assert places == [LatePlace(100 - offset, "feedback.v1/0", offset) for offset in range(19, len(held) - 1, -1)]
    restarted.give_up(places[:1])
    admitted = [restarted.admit(place, labels[place.offset]) for place in places[1:]]
    num_left = admitted.count(False)
    assert admitted == [True] * len(held) + [False] * num_left
    assert restarted.counts["late_given_up"] == 1 and restarted.next_ms(0) == places[1].answer_ms
    assert restarted.counts["late_waiting"] == num_left


def test_places_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("learner.intake.late_labels.MAX_PLACES", 3)
    monkeypatch.setattr("learner.intake.late_labels.FULL_BYTES", 2_000)
    late = LateLabels()
    for number in range(10):
        late.add(at(number))
        late.settle([received(at(number), number)])
    assert (late.counts["late_waiting"], late.counts["late_given_up"]) == (3, 10 - 3 - len(late.labels()))


def test_only_so_many_labels_that_were_found_are_on_their_way() -> None:
    """A label in time waits behind them in the topic."""
    late = LateLabels()
    assert all(late.take_turn(0.0) for _ in range(MAX_OUTSTANDING))
    assert not late.take_turn(0.0)
    found = RECEIPTS.with_answer(at(1), answer("event-1", time_ms=1))
    late.settle([received(found, 0), received(at(2), 1)])
    assert late.take_turn(0.0) and not late.take_turn(0.0)
    late.forget_outstanding()
    assert late.take_turn(0.0)


def test_labels_of_erased_subjects_are_dropped() -> None:
    join = make_join(pending=1)
    old = answer("old", key="customer 7")
    join.match([old, answer("new"), label_of(old)])
    assert join.erase(lambda subject: subject == "customer 7") == 1
    assert join.late.labels() == []


def test_what_was_found_is_believed_where_receipts_are_required() -> None:
    old = answer("old", "its text", "no", source="crm", key="customer 7")
    found = RECEIPTS.with_answer(label_of(old), old)
    (sample,) = make_join(trust=make_trust(require_receipts=True)).match([found])
    assert (sample.text, sample.predicted_label, sample.key) == ("its text", "no", ("crm", "old"))
    assert (sample.subject, sample.is_answered) == ("customer 7", False)


@pytest.mark.parametrize("change", [{"text": "other"}, {"answered": "yes"}, {"answered": None}, {"event_source": ""}])
def test_what_was_found_may_not_be_changed(change: dict[str, str | None]) -> None:
    old = answer("old", "its text", "no", source="crm")
    found = RECEIPTS.with_answer(label_of(old), old)
    join = make_join(trust=make_trust(require_receipts=True))
    assert join.match([msgspec.structs.replace(found, **change)]) == []
