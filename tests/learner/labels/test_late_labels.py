"""Labels whose answers wait no longer: the answer is found in its topic, and the label comes again with the text."""

import random
from collections.abc import Iterator
from contextlib import closing, contextmanager

import msgspec
import pytest

from learner.labels.consumer import Consumer, ReadState
from learner.labels.join import Join
from learner.labels.late_labels import FULL_BYTES, OLDER_MS, SPAN_MS, AnswerFinder, LateLabels, answer_ms
from learner.labels.letters import Letters
from tests.brokers import take
from tests.learner.labels.joins import RECEIPTS, answer, label, label_of, make_join, make_trust, num_outcomes, pairs
from tests.waiting import eventually
from wire.bus import Bus
from wire.clock import now_ms
from wire.records import Answer, Feedback

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
    assert join.late.export() == [label_of(old)]


def test_a_label_is_looked_for_after_a_restart_too() -> None:
    join = make_join(pending=1)
    old = answer("old")
    join.match([old, answer("new"), label_of(old)])
    assert make_join(join.export()).late.export() == [label_of(old)]


def test_a_label_is_late_where_every_answer_that_waits_came_long_after_its_own() -> None:
    """The event itself may be forgotten by then."""
    join = make_join()
    now = DAY_MS
    join.match([answer("new", time_ms=now), at(now - OLDER_MS - 1), at(now - OLDER_MS)])
    assert (join.counts["late"], join.num_parked) == (1, 1)
    assert join.late.export() == [at(now - OLDER_MS - 1)]


def test_a_label_that_waited_for_its_answer_in_vain_is_looked_for() -> None:
    join = make_join(parked=2)
    join.match([at(1), at(2)])
    assert (join.counts["orphan"], join.late.export()) == (1, [at(1)])


def test_without_a_receipt_nobody_knows_where_to_look() -> None:
    join = make_join(pending=1)
    join.match([answer("old"), answer("new"), label("old")])
    assert (join.counts["late"], join.late.export()) == (1, [])


def test_a_label_that_was_found_is_not_looked_for_again() -> None:
    """It would come again and again where its text is of no use."""
    blank = RECEIPTS.with_answer(at(1), answer("event-1", text=" ", time_ms=1))
    assert late_labels(blank).export() == []


def test_labels_are_looked_for_together_whose_answers_lie_close() -> None:
    late = late_labels(at(SPAN_MS + 5), at(7), at(SPAN_MS + 8), at(5))
    assert late.next_span(0.0) == [at(5), at(7), at(SPAN_MS + 5)]
    for each in late.next_span(0.0):
        late.remove(each, "late_found")
        late.remove(each, "late_found")
    assert late.next_span(0.0) == [at(SPAN_MS + 8)]
    assert late.counts == {"late_given_up": 0, "late_found": 3, "late_searched": 1}
    assert LateLabels().next_span(0.0) == []


def test_what_is_looked_for_first_is_the_oldest_of_what_waits() -> None:
    """Also where labels share an id, or a time, come twice, are evicted, or are erased."""
    rng = random.Random(7)
    late = LateLabels()
    for _ in range(1_000):
        some = label_of(answer(f"event-{rng.randrange(4)}", time_ms=rng.randrange(3 * SPAN_MS, 4 * SPAN_MS, 500)))
        late.add(some)
        if rng.random() < 0.3:
            late.remove(rng.choice(late.export()), "late_found")
    late.add(at(1))
    assert late.erase(lambda subject: subject == "customer 7") == 0
    assert late.next_span(0.0) == [at(1)]
    late.remove(at(1), "late_found")
    first_ms = min(map(answer_ms, late.export()))
    within = [each for each in late.export() if answer_ms(each) <= first_ms + SPAN_MS]
    assert late.counts["late_given_up"] > 0
    assert [answer_ms(each) for each in late.next_span(0.0)] == sorted(map(answer_ms, within))
    for each in late.export():
        late.remove(each, "late_found")
    assert late.next_span(0.0) == []


def test_they_are_full_long_before_one_is_given_up() -> None:
    long = "x" * (FULL_BYTES // 8)
    late = LateLabels()
    for number in range(9):
        assert not late.is_full
        late.add(msgspec.structs.replace(at(number), label=long))
        if number == 7:
            break
    assert late.is_full and late.counts["late_given_up"] == 0
    for number in range(20, 40):
        late.add(msgspec.structs.replace(at(number), label=long))
    assert late.counts["late_given_up"] == 28 - late.counts["late_searched"] > 0


def test_labels_of_erased_subjects_are_dropped() -> None:
    join = make_join(pending=1)
    old = answer("old", key="customer 7")
    join.match([old, answer("new"), label_of(old)])
    assert join.erase(lambda subject: subject == "customer 7") == 1
    assert join.late.export() == []


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


@contextmanager
def finding(bus: Bus, join: Join, *, erased: str = "") -> Iterator[None]:
    finder = AnswerFinder(bus, join.late, make_trust(), is_erased=lambda subject: subject == erased != "")
    try:
        yield
        finder.check()
    finally:
        finder.close()


@pytest.mark.live
def test_a_late_label_comes_again_with_the_text_of_its_answer(bus: Bus) -> None:
    """Once, however many answers came since, and among answers that have its event's id or its time."""
    now = now_ms()
    mine = answer("e", "my text", "no", source="crm", time_ms=now)
    others = [answer(f"e{number}", source="crm", time_ms=now) for number in range(50)]
    bus.publisher().send_all([answer("e", "another", source="shop", time_ms=now - 1), *others, mine], 30.0)
    join = make_join(pending=4)
    join.match([mine, *others, label_of(mine, "yes")])
    assert join.late.export() == [label_of(mine, "yes")]
    with finding(bus, join):
        (received,) = take(bus.follow([Feedback], {}).poll, 1)
        eventually(lambda: join.late.counts.get("late_found") == 1)
    assert join.late.export() == []
    assert pairs(join.match([received.record])) == [("my text", "yes")]
    assert (join.counts["with_text"], join.match([received.record])) == (1, [])


@pytest.mark.live
def test_every_label_is_learnt_however_many_answers_came_since(bus: Bus) -> None:
    """The window holds the last four of them."""
    answers = [answer(f"e{number}", f"text {number}", source="crm", time_ms=now_ms()) for number in range(300)]
    labels = [
        label_of(each, "yes", event_source=random.Random(each.event_id).choice(("crm", None))) for each in answers
    ]
    bus.publisher().send_all([*answers, *labels], 60.0)
    join = make_join(remembered=1_000)
    finder = AnswerFinder(bus, join.late, make_trust(), is_erased=lambda subject: False)
    state = ReadState(offsets={}, letters=Letters(), counts=join.counts)
    consumer = Consumer(
        bus, state, levels=lambda: join.levels, wait=lambda: None, on_truncated=lambda: None, finder=finder
    )
    texts = set[str]()

    def has_all() -> bool:
        texts.update(sample.text for sample in join.match(consumer.poll(100)))
        return len(texts) == len(answers)

    with closing(consumer):
        eventually(has_all, within_s=120.0)
    assert texts == {each.text for each in answers}
    assert (join.counts["matched"], join.num_parked) == (len(answers), 0)


@pytest.mark.live
def test_an_answer_that_the_topic_has_no_more_is_given_up(bus: Bus) -> None:
    bus.publisher().send_all([answer("e", time_ms=now_ms())], 30.0)
    join = make_join(pending=1)
    gone = answer("gone", time_ms=now_ms() - DAY_MS)
    join.match([gone, answer("e", time_ms=now_ms()), label_of(gone)])
    with finding(bus, join):
        eventually(lambda: join.late.counts.get("late_not_found") == 1)
    assert join.late.export() == []
    assert bus.end_offsets(Feedback) == dict.fromkeys(bus.end_offsets(Feedback), 0)


@pytest.mark.live
def test_the_text_of_an_erased_subject_is_not_written_again(bus: Bus) -> None:
    mine = answer("e", key="customer 7", time_ms=now_ms())
    bus.publisher().send_all([mine], 30.0)
    join = make_join(pending=1)
    without_key = msgspec.structs.replace(label_of(mine), key="customer 7")
    join.match([mine, answer("new", time_ms=now_ms()), without_key])
    with finding(bus, join, erased="customer 7"):
        eventually(lambda: join.late.counts.get("late_not_found") == 1)
    assert bus.end_offsets(Feedback) == dict.fromkeys(bus.end_offsets(Feedback), 0)


@pytest.mark.live
def test_answers_are_found_by_their_time(bus: Bus) -> None:
    publisher = bus.publisher()
    publisher.send_all([answer(f"old-{number}", time_ms=1) for number in range(20)], 30.0)
    between_ms = now_ms() + 1
    eventually(lambda: now_ms() > between_ms)
    before = bus.end_offsets(Answer)
    publisher.send_all([answer(f"new-{number}", time_ms=2) for number in range(20)], 30.0)
    assert bus.offsets_at(Answer, between_ms) == before
    assert bus.offsets_at(Answer, 0) == dict.fromkeys(before, 0)
    assert bus.offsets_at(Answer, now_ms() + DAY_MS) == bus.end_offsets(Answer)
