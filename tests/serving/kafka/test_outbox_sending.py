"""The record that goes to the broker next: order, back-off, attempts. The test sets the clock."""

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.kafka.outbox import STALL_S, Sending, SendQueue
from wire.backoff import Backoff
from wire.message import Place
from wire.records import DeadLetter

PLACE = Place(topic="t", partition=0, offset=1)
FIRST_S = 0.5
LONGEST_S = 2.0


def letter(name: str, *, payload: bytes = b"") -> DeadLetter:
    return DeadLetter(reason=name, detail="", topic="t", partition=0, offset=1, payload=payload)


def sending(name: str) -> Sending:
    return Sending(letter(name), lambda: None, PLACE)


def new_queue() -> SendQueue:
    return SendQueue(Backoff(first_s=FIRST_S, longest_s=LONGEST_S, jitter=0.5, draw=Random(1).random))


@pytest.fixture
def queue() -> SendQueue:
    return new_queue()


def put(queue: SendQueue, *names: str) -> None:
    for name in names:
        queue.put(sending(name))


def handed_over(queue: SendQueue, now_s: float) -> list[Sending]:
    return list(iter(lambda: queue.next(now_s), None))


def names(sendings: list[Sending]) -> list[str]:
    return [each.record.reason for each in sendings if isinstance(each.record, DeadLetter)]


def test_records_go_in_the_order_in_which_they_were_put(queue: SendQueue) -> None:
    put(queue, "a", "b", "c")
    assert names(handed_over(queue, 0.0)) == ["a", "b", "c"]
    assert queue.wait_s(0.0) == math.inf


def test_after_an_outage_all_goes_again_in_order_before_anything_newer(queue: SendQueue) -> None:
    put(queue, "a", "b", "c")
    sent = handed_over(queue, 0.0)
    put(queue, "d")
    for each in reversed(sent):
        queue.failed(each, 30.0)
    assert queue.next(30.0) is None
    assert 0 < queue.wait_s(30.0) <= FIRST_S
    assert names(handed_over(queue, 31.0)) == ["a", "b", "c", "d"]
    assert [each.attempts for each in sent] == [0, 0, 0]


def test_while_nothing_is_acknowledged_nothing_more_is_handed_over(queue: SendQueue) -> None:
    put(queue, "a", "b")
    first = queue.next(0.0)
    assert first is not None
    late_s = 0.0 + 1.1 * STALL_S
    assert queue.next(late_s) is None
    assert queue.is_away(late_s)
    assert queue.wait_s(late_s) == math.inf  # until something happens
    queue.succeeded(first, late_s)
    assert not queue.is_away(late_s)
    assert names(handed_over(queue, late_s)) == ["b"]


def test_a_record_that_fails_alone_waits_alone(queue: SendQueue) -> None:
    put(queue, "bad", "good", "next")
    bad, good, _ = handed_over(queue, 0.0)
    queue.succeeded(good, 0.1)
    queue.failed(bad, 0.2)
    assert bad.attempts == 1
    assert not queue.is_away(0.2)
    put(queue, "newer")
    assert names(handed_over(queue, 0.2)) == ["newer"]
    assert names(handed_over(queue, 0.2 + FIRST_S)) == ["bad"]


def test_what_fails_at_once_lets_others_go_first_and_no_more_than_that(queue: SendQueue) -> None:
    put(queue, "a", "b", "c", "d")
    now_s = 0.0
    for expected in "ab":
        each = queue.next(now_s)
        assert each is not None
        assert names([each]) == [expected]
        queue.failed(each, now_s, is_immediate=True)
        now_s += LONGEST_S
    each = queue.next(now_s)
    assert each is not None
    queue.succeeded(each, now_s)
    assert names([each, *handed_over(queue, now_s)]) == ["c", "a", "b", "d"]


def test_those_that_fail_together_are_one_failure(queue: SendQueue) -> None:
    put(queue, *"abcdefgh")
    for number, each in enumerate(handed_over(queue, 0.0)):
        queue.failed(each, 30.0 + 1e-3 * number)
    assert queue.wait_s(30.0) <= FIRST_S
    (*_, last) = handed_over(queue, 31.0)
    assert queue.succeeded(last, 31.0) == 1


def test_a_success_ends_the_failures(queue: SendQueue) -> None:
    put(queue, "a")
    now_s = 0.0
    for _ in range(5):
        (each,) = handed_over(queue, now_s)
        now_s += 30.0
        queue.failed(each, now_s)
        now_s += LONGEST_S
    (each,) = handed_over(queue, now_s)
    assert queue.succeeded(each, now_s) == 5
    assert (queue.num_items, queue.num_bytes) == (0, 0)
    put(queue, "b")
    (each,) = handed_over(queue, now_s + 60.0)
    queue.failed(each, now_s + 90.0)
    assert queue.wait_s(now_s + 90.0) <= FIRST_S


def test_a_letter_goes_at_once_in_the_place_of_what_can_never_be_sent(queue: SendQueue) -> None:
    put(queue, "huge", "b")
    (huge, _) = handed_over(queue, 0.0)
    put(queue, "c")
    queue.replace(huge, letter("small"))
    assert names(handed_over(queue, 0.0)) == ["small", "c"]


def test_what_it_holds_is_counted_in_bytes(queue: SendQueue) -> None:
    """B22: the bound counted records, whatever their size."""
    queue.put(Sending(letter("a", payload=b"x" * 100_000), lambda: None, PLACE))
    assert 100_000 < queue.num_bytes < 101_000
    (each,) = handed_over(queue, 0.0)
    assert queue.num_bytes > 100_000  # in flight is not gone
    queue.replace(each, letter("a"))
    assert queue.num_bytes < 1_000


@given(data=st.data())
def test_every_record_is_acknowledged_once_whatever_fails(data: st.DataObject) -> None:
    """B4: no failure lasts for ever, and none loses a record: the queue holds exactly the unacknowledged ones."""
    queue = new_queue()
    now_s = 0.0
    num_put = 0
    in_flight: list[Sending] = []
    acknowledged: list[str] = []
    for action in data.draw(st.lists(st.sampled_from(["put", "next", "ok", "fail", "wait"]), max_size=60)):
        if action == "put":
            queue.put(sending(f"{num_put}"))
            num_put += 1
        elif action == "next" and (each := queue.next(now_s)) is not None:
            in_flight.append(each)
        elif action == "wait":
            now_s += data.draw(st.sampled_from([0.01, 0.6, 5.0, 40.0]))
        elif action in ("ok", "fail") and in_flight:
            each = in_flight.pop(data.draw(st.integers(0, len(in_flight) - 1)))
            if action == "fail":
                queue.failed(each, now_s, is_immediate=data.draw(st.booleans()))
            else:
                queue.succeeded(each, now_s)
                acknowledged += names([each])
        assert queue.num_items == num_put - len(acknowledged)
    while queue.num_items:
        for each in in_flight:
            queue.succeeded(each, now_s)
            acknowledged += names([each])
        now_s += LONGEST_S
        in_flight = handed_over(queue, now_s)
    assert sorted(acknowledged, key=int) == [f"{number}" for number in range(num_put)]
    assert queue.num_bytes == 0
