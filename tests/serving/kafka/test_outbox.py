"""The records that go at once or linger, and what happens in an outage or where a record is refused."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.counts import Counts
from serving.kafka.outbox import LINGER_S, Outbox
from serving.kafka.sending import OutboxBounds
from serving.kafka.spool import Spool
from tests.waiting import eventually
from wire.errors import BusUnavailable, SendFailed, WireError
from wire.message import Place
from wire.records import Answer, DeadLetter, TopicRecord

PLACE = Place(topic="events.v1", partition=2, offset=7)
BOUNDS = OutboxBounds(max_items=4, max_bytes=1 << 20, first_pause_s=0.01)


def answer(name: str, *, text: str = "hello") -> Answer:
    return Answer(
        event_id=name,
        text=text,
        label=None,
        score=0.0,
        weights_version=1,
        arm="stable",
        precision="int8",
        rollout_revision=1,
    )


def refusal(*, payload: bytes = b"") -> DeadLetter:
    return DeadLetter(reason="empty", detail="no value", topic="t", partition=0, offset=1, payload=payload)


OnAck = Callable[[Exception | None], None]


class Broker:
    """A fake publisher: `says` returns the error of a record, None where it is accepted.

    BusUnavailable is raised at once, as by a client that cannot accept the record. Other errors come late, in place of
    the acknowledgement, as those of a real client do.
    """

    def __init__(self) -> None:
        self.sent: list[tuple[TopicRecord, float]] = []
        self.num_tried = 0
        self.says: Callable[[TopicRecord], WireError | None] = lambda record: None
        self.hold: list[OnAck] | None = None  # acknowledgements that the test gives

    def open(self) -> "Broker":
        return self

    def send(self, record: TopicRecord, on_ack: OnAck) -> None:
        self.num_tried += 1
        error = self.says(record)
        if isinstance(error, BusUnavailable):
            raise error
        if error is None:
            self.sent.append((record, time.monotonic()))
        if self.hold is not None:
            self.hold.append(on_ack)
        elif error is None:
            on_ack(None)
        else:
            threading.Timer(0.02, on_ack, [error]).start()

    def close(self) -> None: ...

    @property
    def names(self) -> list[str]:
        return [record.message_id for record, _ in self.sent]


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def make(broker: Broker, counts: Counts) -> Iterator[Callable[..., Outbox]]:
    outboxes: list[Outbox] = []

    def make_one(bounds: OutboxBounds = BOUNDS, spool: Spool | None = None) -> Outbox:
        open_publisher: Callable[[], Any] = broker.open
        outboxes.append(Outbox(open_publisher, counts, bounds, name="r1", spool=spool))
        return outboxes[-1]

    yield make_one
    for outbox in outboxes:
        outbox.close(5)


@pytest.fixture
def outbox(make: Callable[..., Outbox]) -> Outbox:
    return make()


@pytest.fixture
def open_spool(tmp_path: Path) -> Callable[..., Spool]:
    def open_one(*, max_bytes: int = 1 << 20) -> Spool:
        return Spool(tmp_path / "spool", max_bytes=max_bytes)

    return open_one


def test_a_record_that_somebody_waits_for_goes_at_once(outbox: Outbox, broker: Broker) -> None:
    outbox.start()
    acknowledged = threading.Event()
    started_s = time.monotonic()
    outbox.send(answer("a"), acknowledged.set, PLACE)
    assert acknowledged.wait(5)
    assert broker.sent[0][1] - started_s < LINGER_S


def test_a_record_that_nobody_waits_for_waits_for_company(outbox: Outbox, broker: Broker) -> None:
    outbox.start()
    started_s = time.monotonic()
    for name in "ab":
        outbox.publish(answer(name))
    eventually(lambda: len(broker.sent) == 2)
    assert all(sent_s - started_s > 0.9 * LINGER_S for _, sent_s in broker.sent)


def test_a_record_does_not_wait_for_the_acknowledgement_of_another(outbox: Outbox, broker: Broker) -> None:
    held: list[OnAck] = []
    broker.hold = held
    outbox.start()
    for num in (1, 2, 3):
        outbox.send(answer(f"{num}"), lambda: None, PLACE)
        eventually(lambda num=num: len(held) == num, within_s=0.9)  # type: ignore[misc]
    for on_ack in held:
        on_ack(None)


def test_company_that_is_waited_for_takes_the_others_along(outbox: Outbox, broker: Broker) -> None:
    outbox.start()
    outbox.publish(answer("patient"))
    outbox.send(answer("urgent"), lambda: None, PLACE)
    eventually(lambda: len(broker.sent) == 2)
    assert broker.names == ["patient", "urgent"]


def test_what_waits_when_it_is_closed_is_sent(outbox: Outbox, broker: Broker) -> None:
    outbox.start()
    outbox.publish(answer("a"))
    outbox.close(5)
    assert broker.names == ["a"]


def test_a_broker_that_is_away_is_asked_again(outbox: Outbox, broker: Broker, counts: Counts) -> None:
    """B15: the client library gives up a record after its delivery timeout, and the record was dropped."""
    broker.says = lambda record: SendFailed("not in time")
    outbox.start()
    for name in "abc":
        outbox.send(answer(name), lambda: None, PLACE)
    eventually(lambda: broker.num_tried >= 9)
    assert outbox._queue.num_items == 3
    broker.says = lambda record: None
    eventually(lambda: len(broker.sent) == 3)
    assert broker.names == ["a", "b", "c"]
    assert counts.snapshot()["send_failed"] >= 9


def test_what_can_never_be_sent_becomes_a_letter_that_can(outbox: Outbox, broker: Broker, counts: Counts) -> None:
    """B3: such an answer was dropped, its partition stood still, and the group rebalanced every few seconds."""
    too_large = SendFailed("too large", is_permanent=True)
    broker.says = lambda record: too_large if isinstance(record, Answer) and record.event_id == "huge" else None
    acknowledged: list[str] = []
    outbox.start()
    for name in ("huge", "b"):
        outbox.send(answer(name), lambda name=name: acknowledged.append(name), PLACE)  # type: ignore[misc]
    eventually(lambda: len(acknowledged) == 2)
    (letter,) = (record for record, _ in broker.sent if isinstance(record, DeadLetter))
    assert (letter.reason, letter.source) == ("unsendable", "r1")
    assert letter.message_id == str(PLACE)
    assert counts.snapshot() == {"send_failed": 1, "unsendable": 1, "dead_letters": 1}


def test_a_letter_that_is_too_large_is_cut(outbox: Outbox, broker: Broker) -> None:
    """B3: a dead letter of 12 MiB stopped its partition."""
    too_large = SendFailed("too large", is_permanent=True)
    broker.says = lambda record: too_large if isinstance(record, DeadLetter) and len(record.payload) > 1e6 else None
    acknowledged: list[int] = []
    outbox.start()
    outbox.send(refusal(payload=b"x" * (2 << 20)), lambda: acknowledged.append(1), PLACE)
    eventually(lambda: acknowledged == [1])
    (letter,) = (record for record, _ in broker.sent if isinstance(record, DeadLetter))
    assert letter.reason == "empty"
    assert "of 2097152 bytes" in letter.detail


def test_a_record_that_always_fails_alone_becomes_a_letter(
    outbox: Outbox, broker: Broker, counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B4: attempts are counted, so that no record is tried for ever while others are accepted."""
    monkeypatch.setattr("serving.kafka.dead_letters.MAX_ATTEMPTS", 3)
    broker.says = lambda record: SendFailed("strange") if record.message_id == "strange" else None
    acknowledged: list[str] = []
    outbox.start()
    outbox.send(answer("strange"), lambda: acknowledged.append("strange"), PLACE)

    def is_settled() -> bool:
        outbox.send(answer("good"), lambda: None, PLACE)
        return bool(acknowledged)

    eventually(is_settled)
    assert counts.snapshot()["unsendable"] == 1
    assert any(isinstance(record, DeadLetter) and record.reason == "unsendable" for record, _ in broker.sent)


def test_a_record_that_fails_at_once_does_not_keep_others_from_being_tried(outbox: Outbox, broker: Broker) -> None:
    """B4: a missing topic, for example, stops only the records of that topic."""
    broker.says = lambda record: BusUnavailable("no such topic") if isinstance(record, DeadLetter) else None
    outbox.start()
    outbox.send(refusal(), lambda: None, PLACE)
    eventually(lambda: broker.num_tried > 2)
    outbox.send(answer("a"), lambda: None, PLACE)
    eventually(lambda: broker.names == ["a"])


def test_letters_that_nobody_takes_hold_up_no_answers(outbox: Outbox, broker: Broker) -> None:
    """Dead letters wait where the client has no rights on their topic, for example, and go once it has them."""
    broker.says = lambda record: SendFailed("no rights", is_permanent=True) if isinstance(record, DeadLetter) else None
    acknowledged: list[int] = []
    outbox.start()
    outbox.send(answer("first"), lambda: None, PLACE)
    outbox.send(refusal(), lambda: acknowledged.append(1), PLACE)
    eventually(lambda: broker.num_tried > 2)
    for number in range(50):
        outbox.send(answer(f"{number}"), lambda: None, PLACE)
    eventually(lambda: len(broker.sent) == 51, within_s=3)
    assert broker.num_tried < 100  # it is not tried as fast as it can be
    broker.says = lambda record: None
    eventually(lambda: acknowledged == [1])


def test_it_says_when_it_is_full(outbox: Outbox) -> None:
    for name in "abcd":
        assert not outbox.is_full
        outbox.send(answer(name), lambda: None, PLACE)
    assert outbox.is_full


def test_it_is_full_in_bytes_too(outbox: Outbox) -> None:
    """B22: 4,000 dead letters of 8 MiB did not count as full."""
    outbox.send(refusal(payload=b"x" * (1 << 20)), lambda: None, PLACE)
    assert outbox.is_full


def test_without_a_folder_memory_has_to_do(outbox: Outbox, counts: Counts) -> None:
    assert [outbox.publish(answer(name)) for name in "abcde"] == [True, True, True, True, False]
    assert counts.snapshot() == {"answers_not_published": 1}


def test_answers_wait_on_disk_while_the_broker_is_away_and_go_in_order(
    make: Callable[..., Outbox], open_spool: Callable[..., Spool], broker: Broker
) -> None:
    """B15: answers were dropped after 30 s, and beyond 2,048 they were not published at all."""
    broker.says = lambda record: SendFailed("not in time")
    outbox = make(spool=open_spool())
    outbox.start()
    names = [f"{number}" for number in range(500)]
    assert all(outbox.publish(answer(name)) for name in names)
    eventually(lambda: broker.num_tried > 5)
    assert not outbox.is_full  # there is room for the intake
    broker.says = lambda record: None
    eventually(lambda: len(broker.sent) == 500)
    assert broker.names == names


def test_what_a_replica_has_left_is_sent_by_the_next(
    make: Callable[..., Outbox], open_spool: Callable[..., Spool], broker: Broker, tmp_path: Path
) -> None:
    """B15: after a restart, the answers on disk are published as well."""
    broker.says = lambda record: BusUnavailable("away")
    first = make(spool=open_spool())
    first.start()
    for number in range(20):
        first.publish(answer(f"{number}"))
    eventually(lambda: broker.num_tried > 1)
    first.close(0.1)
    assert not first.publish(answer("too late"))
    broker.says = lambda record: None
    second = make(spool=open_spool())
    second.start()
    eventually(lambda: len(broker.sent) == 20)
    assert broker.names == [f"{number}" for number in range(20)]
    second.close(5)
    assert list((tmp_path / "spool").iterdir()) == []


def test_an_answer_for_which_there_is_no_room_is_not_kept(
    make: Callable[..., Outbox], open_spool: Callable[..., Spool], counts: Counts
) -> None:
    """B15: the client could not know that its label would find no answer."""
    outbox = make(spool=open_spool(max_bytes=2_000))
    kept = [outbox.publish(answer(f"{number}")) for number in range(50)]
    assert kept == sorted(kept, reverse=True)
    assert 2 < sum(kept) < 20
    assert counts.snapshot() == {"answers_not_published": 50 - sum(kept)}


def test_a_disk_that_takes_nothing_matters_only_while_the_broker_is_away(
    make: Callable[..., Outbox], broker: Broker, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    outbox = make(spool=Spool(tmp_path / "file" / "spool", max_bytes=1 << 20))
    outbox.start()
    assert outbox.publish(answer("a"))
    eventually(lambda: broker.names == ["a"])
    broker.says = lambda record: BusUnavailable("away")
    outbox.send(answer("b"), lambda: None, PLACE)
    eventually(lambda: not outbox.publish(answer("c")))
    broker.says = lambda record: None
    eventually(lambda: "b" in broker.names)
    assert outbox.publish(answer("d"))


def test_what_another_release_has_left_and_nobody_can_read_is_given_up(
    make: Callable[..., Outbox], open_spool: Callable[..., Spool], broker: Broker, counts: Counts
) -> None:
    spool = open_spool()
    spool.append(b'{"event": "of another shape"}')
    spool.close()
    outbox = make(spool=open_spool())
    outbox.start()
    outbox.publish(answer("a"))
    eventually(lambda: broker.names == ["a"])
    assert counts.snapshot()["kept_unreadable"] == 1


def test_an_answer_that_can_never_be_sent_does_not_stay_on_disk(
    make: Callable[..., Outbox], open_spool: Callable[..., Spool], broker: Broker
) -> None:
    broker.says = lambda record: SendFailed("too large", is_permanent=True) if isinstance(record, Answer) else None
    spool = open_spool()
    outbox = make(spool=spool)
    outbox.start()
    outbox.publish(answer("a"))
    eventually(lambda: len(broker.sent) == 1)
    outbox.close(5)
    again = open_spool()
    assert again.adopt() == 0
