"""The answers of late labels are found in their topic, in one pass, and the labels come again with the text."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

import msgspec
import pytest

from learner.intake.answer_finder import DELAYED_MS, EARLY_MS, AnswerFinder, Search
from learner.intake.consumer import Consumer, ReadState
from learner.intake.join import Join
from learner.intake.late_labels import LateLabels, LatePlace, LateState
from learner.intake.outbox import Outbox
from tests.brokers import take
from tests.learner.intake.joins import answer, label_of, make_join, make_trust, pairs
from tests.waiting import eventually
from wire.bus import Bus, Followed, Position, Raw, Received
from wire.envelope import to_message
from wire.records import Answer, Feedback, LogMark
from wire.timestamps import now_ms

DAY_MS = 86_400_000


def at(time_ms: int) -> Feedback:
    """Returns the label of an answer that was given then."""
    return label_of(answer(f"event-{time_ms}", time_ms=time_ms))


def poll(*times_ms: int, offset: int, partition: int = 0) -> Followed:
    """Returns answers of one partition, logged when they were given, up to before `offset`."""
    received: list[Received[Answer]] = []
    for time_ms in times_ms:
        position = Position(topic="a", partition=partition, offset=0, generation=0)
        given = answer(f"event-{time_ms}", time_ms=time_ms)
        received.append(Received(record=given, position=position, log_ms=time_ms, mark=LogMark()))
    return Followed(received=received, refused=[], offsets={f"a/{partition}": offset}, marks={}, losses=[])


def make_raw(received: Received[Answer], *headers: tuple[str, bytes]) -> Raw:
    """Returns the record in the log, with these headers, or with the headers of its message."""
    at = received.position
    return Raw(
        topic=at.topic,
        partition=at.partition,
        offset=at.offset,
        next_offset=at.offset + 1,
        timestamp_ms=received.log_ms,
        headers=headers or to_message(received.record).headers,
    )


def wanted(search: Search, followed: Followed) -> list[Received[Answer]]:
    return [each for each in followed.received if search.wants(make_raw(each))]


def found(search: Search, followed: Followed) -> list[Feedback]:
    return [label for each in wanted(search, followed) for label in search.take(each.record)]


def gap_after(search: Search, followed: Followed) -> int | None:
    assert wanted(search, followed) == []
    assert search.missing(followed) == []
    return search.gap_ms


def test_a_pass_looks_for_the_labels_of_its_time_and_is_over_behind_the_last() -> None:
    late = LateLabels(LateState(labels=[at(100_000), at(500_000)]))
    search = Search(late, {"a/0": 9}, 90_000)
    first = poll(95_000, 100_000, offset=2)
    assert found(search, first) == [at(100_000)]
    late.remove(at(100_000), "late_found")
    assert search.missing(first) == [] and not search.is_over
    late.add(at(300_000))  # it joins, since its answer lies ahead
    second = poll(300_000, 500_000, offset=4)
    assert found(search, second) == [at(300_000), at(500_000)]
    for label in late.labels():
        late.remove(label, "late_found")
    assert search.missing(second) == [] and search.is_over


def test_an_answer_is_missing_when_every_partition_has_passed_its_time_or_ended() -> None:
    late = LateLabels(LateState(labels=[at(100_000)]))
    search = Search(late, {"a/0": 9, "a/1": 9}, 90_000)
    far = 100_000 + DELAYED_MS + 1
    ahead = poll(far, offset=2)
    assert found(search, ahead) == [] and search.missing(ahead) == [], "the other partition may have it"
    other = poll(far, offset=2, partition=1)
    other.offsets["a/0"] = 2
    assert wanted(search, other) == []
    assert search.missing(other) == [at(100_000)]
    ended = Search(LateLabels(LateState(labels=[at(100_000)])), {"a/0": 2}, 90_000)
    last = poll(100_001, offset=2)
    assert found(ended, last) == [] and ended.missing(last) == [at(100_000)] and ended.is_over


def test_only_answers_of_expected_labels_are_parsed_and_those_that_do_not_name_their_event() -> None:
    search = Search(LateLabels(LateState(labels=[at(100_000)])), {"a/0": 9}, 90_000)
    read = poll(99_000, 100_000, 101_000, offset=3)
    assert [each.record.event_id for each in wanted(search, read)] == ["event-100000"]
    foreign = read.received[0]
    assert search.wants(make_raw(foreign, ("content-type", b"application/json")))
    assert not search.wants(make_raw(foreign, ("ce_id", b"\xff")))


def test_a_label_that_came_since_waits_for_the_next_pass_if_its_answer_lies_before_this_one() -> None:
    late = LateLabels(LateState(labels=[at(100_000)]))
    search = Search(late, {"a/0": 2}, 90_000)
    late.add(at(50_000))
    last = poll(100_000, offset=2)
    assert found(search, last) == [at(100_000)]
    assert search.missing(last) == [] and search.is_over
    assert late.next_ms(-1) == 50_000


def test_a_gap_is_skipped_where_many_records_lie_in_it() -> None:
    late = LateLabels(LateState(labels=[at(10 * DAY_MS)]))
    search = Search(late, {"a/0": 10**9}, DAY_MS)
    sparse = poll(DAY_MS + 1, 2 * DAY_MS, offset=2)
    assert gap_after(search, sparse) is None
    dense = poll(*range(2 * DAY_MS, 2 * DAY_MS + 2_000), offset=2_002)
    assert gap_after(search, dense) == 10 * DAY_MS - EARLY_MS
    search.skip()
    near = poll(10 * DAY_MS, offset=3_000)
    assert found(search, near) == [at(10 * DAY_MS)]


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
    assert join.late.labels() == [label_of(mine, "yes")]
    with finding(bus, join):
        (received,) = take(bus.follow([Feedback], {}).poll, 1)
        eventually(lambda: join.late.counts.get("late_found") == 1)
    assert join.late.labels() == []
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
    state = ReadState(offsets={}, letters=Outbox(), counts=join.counts)
    consumer = Consumer(
        bus, state, levels=lambda: join.levels, wait=lambda: None, on_truncated=lambda: None, finder=finder
    )
    texts = set[str]()

    def has_all() -> bool:
        texts.update(sample.text for sample in join.match(consumer.poll(100)))
        join.late.settle(consumer.polled)
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
    assert join.late.labels() == []
    assert bus.end_offsets(Feedback) == dict.fromkeys(bus.end_offsets(Feedback), 0)


@pytest.mark.live
def test_a_label_that_a_cut_log_has_no_more_is_given_up(bus: Bus) -> None:
    """It was waited for until as many labels had come again."""
    partition = next(iter(bus.end_offsets(Feedback)))
    late = LateLabels(LateState(places=[LatePlace(1, partition, 7)]))
    finder = AnswerFinder(bus, late, make_trust(), is_erased=lambda subject: False)
    try:
        eventually(lambda: late.counts.get("late_given_up") == 1)
    finally:
        finder.close()


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


@pytest.mark.live
def test_a_heap_of_late_labels_delays_none_in_time_and_is_found_whole_in_bounded_memory(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """N12: while the late labels filled their memory, nothing was read."""
    monkeypatch.setattr("learner.intake.late_labels.FULL_BYTES", 20_000)  # some forty labels
    answers = [answer(f"e{number}", f"text {number}", time_ms=now_ms()) for number in range(300)]
    bus.publisher().send_all(answers, 60.0)
    heap = [label_of(each, "yes") for each in answers]
    random.Random(3).shuffle(heap)
    in_time = answer("now", "in time", time_ms=now_ms())
    bus.publisher().send_all([in_time], 60.0)
    join = make_join(pending=1, remembered=1_000)
    counts = Counter[str]()
    state = ReadState(offsets=bus.end_offsets(Answer), letters=Outbox(), counts=counts)
    consumer = Consumer(bus, state, levels=lambda: join.levels, wait=lambda: None, on_truncated=lambda: None)
    join.match([*answers, in_time])
    bus.publisher().send_all([*heap, label_of(in_time, "yes")], 60.0)
    texts: list[str] = []

    def turn() -> Sequence[str]:
        texts.extend(sample.text for sample in join.match(consumer.poll(100)))
        join.late.settle(consumer.polled)
        return texts

    with closing(consumer):
        eventually(lambda: "in time" in turn() and consumer.lag() == 0)
        assert texts == ["in time"] and counts["polls_behind_letters"] == 0
        assert join.late.counts["late_waiting"] > 200 and len(join.late.labels()) < 100
        restarted = make_join(join.export(), remembered=1_000)
        join = restarted  # the places are in the checkpoint
        with finding(bus, restarted):
            eventually(lambda: len(turn()) == 301, within_s=120.0)
    assert Counter(texts) == Counter(["in time", *(each.text for each in answers)])
    assert join.late.counts["late_found"] == 300 and join.late.labels() == []
