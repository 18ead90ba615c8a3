"""The records that go at once or linger, and what happens in an outage or where a record is refused."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace

from serving.kafka.outbox import LINGER_S, Outbox
from serving.observers import Counts
from tests.serving.kafka.fake_broker import BOUNDS, PLACE, FakeBroker, OnAck, refusal
from tests.waiting import eventually
from tests.wire.samples import answer_to
from wire.errors import BusUnavailable, SendFailed
from wire.records import Answer, DeadLetter


def test_a_record_that_somebody_waits_for_goes_at_once(outbox: Outbox, fake_broker: FakeBroker) -> None:
    outbox.start()
    acknowledged = threading.Event()
    started_s = time.monotonic()
    outbox.send(answer_to("a"), acknowledged.set, PLACE)
    assert acknowledged.wait(5)
    assert fake_broker.sent[0][1] - started_s < LINGER_S


def test_a_record_that_nobody_waits_for_waits_for_company(outbox: Outbox, fake_broker: FakeBroker) -> None:
    outbox.start()
    started_s = time.monotonic()
    for name in "ab":
        outbox.publish(answer_to(name))
    eventually(lambda: len(fake_broker.sent) == 2)
    assert all(sent_s - started_s > 0.9 * LINGER_S for _, sent_s in fake_broker.sent)


def test_a_record_does_not_wait_for_the_acknowledgement_of_another(outbox: Outbox, fake_broker: FakeBroker) -> None:
    held: list[OnAck] = []
    fake_broker.hold = held
    outbox.start()
    for num in (1, 2, 3):
        outbox.send(answer_to(f"{num}"), lambda: None, PLACE)
        eventually(lambda num=num: len(held) == num, within_s=0.9)  # type: ignore[misc]
    for on_ack in held:
        on_ack(None)


def test_company_that_is_waited_for_takes_the_others_along(outbox: Outbox, fake_broker: FakeBroker) -> None:
    outbox.start()
    outbox.publish(answer_to("patient"))
    outbox.send(answer_to("urgent"), lambda: None, PLACE)
    eventually(lambda: len(fake_broker.sent) == 2)
    assert fake_broker.names == ["patient", "urgent"]


def test_what_waits_when_it_is_closed_is_sent(outbox: Outbox, fake_broker: FakeBroker) -> None:
    outbox.start()
    outbox.publish(answer_to("a"))
    outbox.close(5)
    assert fake_broker.names == ["a"]


def test_a_broker_that_is_away_is_asked_again(outbox: Outbox, fake_broker: FakeBroker, counts: Counts) -> None:
    """B15: the client library gives up a record after its delivery timeout, and the record was dropped."""
    fake_broker.says = lambda record: SendFailed("not in time")
    outbox.start()
    for name in "abc":
        outbox.send(answer_to(name), lambda: None, PLACE)
    eventually(lambda: fake_broker.num_tried >= 9)
    assert outbox._queue.num_items == 3
    fake_broker.says = lambda record: None
    eventually(lambda: len(fake_broker.sent) == 3)
    assert fake_broker.names == ["a", "b", "c"]
    assert counts.snapshot()["send_failed"] >= 9


def test_what_can_never_be_sent_becomes_a_letter_that_can(
    outbox: Outbox, fake_broker: FakeBroker, counts: Counts
) -> None:
    """B3: such an answer was dropped, its partition stood still, and the group rebalanced every few seconds."""
    too_large = SendFailed("too large", is_permanent=True)
    fake_broker.says = lambda record: too_large if isinstance(record, Answer) and record.event_id == "huge" else None
    acknowledged: list[str] = []
    outbox.start()
    for name in ("huge", "b"):
        outbox.send(answer_to(name), lambda name=name: acknowledged.append(name), PLACE)  # type: ignore[misc]
    eventually(lambda: len(acknowledged) == 2)
    (letter,) = (record for record, _ in fake_broker.sent if isinstance(record, DeadLetter))
    assert (letter.reason, letter.source) == ("unsendable", "r1")
    assert letter.message_id == str(PLACE)
    assert counts.snapshot() == {"send_failed": 1, "unsendable": 1, "dead_letters": 1}


def test_a_letter_that_is_too_large_is_cut(outbox: Outbox, fake_broker: FakeBroker) -> None:
    """B3: a dead letter of 12 MiB stopped its partition."""
    too_large = SendFailed("too large", is_permanent=True)
    fake_broker.says = lambda record: (
        too_large if isinstance(record, DeadLetter) and len(record.payload) > 1e6 else None
    )
    acknowledged: list[int] = []
    outbox.start()
    outbox.send(refusal(payload=b"x" * (2 << 20)), lambda: acknowledged.append(1), PLACE)
    eventually(lambda: acknowledged == [1])
    (letter,) = (record for record, _ in fake_broker.sent if isinstance(record, DeadLetter))
    assert letter.reason == "empty"
    assert "of 2097152 bytes" in letter.detail


def test_a_record_that_always_fails_alone_becomes_a_letter(
    make_outbox: Callable[..., Outbox], fake_broker: FakeBroker, counts: Counts
) -> None:
    """B4: attempts are counted, so that no record is tried for ever while others are accepted."""
    outbox = make_outbox(replace(BOUNDS, max_attempts=3))
    fake_broker.says = lambda record: SendFailed("strange") if record.message_id == "strange" else None
    acknowledged: list[str] = []
    outbox.start()
    outbox.send(answer_to("strange"), lambda: acknowledged.append("strange"), PLACE)

    def is_settled() -> bool:
        outbox.send(answer_to("good"), lambda: None, PLACE)
        return bool(acknowledged)

    eventually(is_settled)
    assert counts.snapshot()["unsendable"] == 1
    assert any(isinstance(record, DeadLetter) and record.reason == "unsendable" for record, _ in fake_broker.sent)


def test_a_record_that_fails_at_once_does_not_keep_others_from_being_tried(
    outbox: Outbox, fake_broker: FakeBroker
) -> None:
    """B4: a missing topic, for example, stops only the records of that topic."""
    fake_broker.says = lambda record: BusUnavailable("no such topic") if isinstance(record, DeadLetter) else None
    outbox.start()
    outbox.send(refusal(), lambda: None, PLACE)
    eventually(lambda: fake_broker.num_tried > 2)
    outbox.send(answer_to("a"), lambda: None, PLACE)
    eventually(lambda: fake_broker.names == ["a"])


def test_letters_that_nobody_takes_hold_up_no_answers(outbox: Outbox, fake_broker: FakeBroker) -> None:
    """Dead letters wait where the client has no rights on their topic, for example, and go once it has them."""
    fake_broker.says = lambda record: (
        SendFailed("no rights", is_permanent=True) if isinstance(record, DeadLetter) else None
    )
    acknowledged: list[int] = []
    outbox.start()
    outbox.send(answer_to("first"), lambda: None, PLACE)
    outbox.send(refusal(), lambda: acknowledged.append(1), PLACE)
    eventually(lambda: fake_broker.num_tried > 2)
    for number in range(50):
        outbox.send(answer_to(f"{number}"), lambda: None, PLACE)
    eventually(lambda: len(fake_broker.sent) == 51, within_s=3)
    assert fake_broker.num_tried < 100  # it is not tried as fast as it can be
    fake_broker.says = lambda record: None
    eventually(lambda: acknowledged == [1])


def test_it_says_when_it_is_full(outbox: Outbox) -> None:
    for name in "abcd":
        assert not outbox.is_full
        outbox.send(answer_to(name), lambda: None, PLACE)
    assert outbox.is_full


def test_it_is_full_in_bytes_too(outbox: Outbox) -> None:
    """B22: 4,000 dead letters of 8 MiB did not count as full."""
    outbox.send(refusal(payload=b"x" * (1 << 20)), lambda: None, PLACE)
    assert outbox.is_full


def test_without_a_folder_memory_has_to_do(outbox: Outbox, counts: Counts) -> None:
    assert [outbox.publish(answer_to(name)) for name in "abcde"] == [True, True, True, True, False]
    assert counts.snapshot() == {"answers_not_published": 1}
