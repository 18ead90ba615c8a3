"""What goes at once, what waits for company, and what happens while the broker is away."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from serving.counts import Counts
from serving.outbox import PATIENCE_S, OnAck, Outbox
from tests.serving.waiting import eventually
from wire.errors import BusUnavailable, SendFailed
from wire.records import Answer, DeadLetter, TopicRecord


def answer(name: str) -> Answer:
    return Answer(
        event_id=name,
        text="hello",
        label=None,
        score=0.0,
        weights_version=1,
        arm="stable",
        precision="int8",
        rollout_revision=1,
    )


LETTER = DeadLetter(reason="empty", detail="no value", topic="t", partition=0, offset=1, payload=b"")


class Broker:
    """Stands for a publisher: acknowledges at once, unless `errors` has something else to say first."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, float]] = []
        self.errors: list[Exception] = []
        self.num_opened = 0

    def open(self) -> "Broker":
        self.num_opened += 1
        return self

    def send(self, record: TopicRecord, on_ack: OnAck) -> None:
        if self.errors:
            raise self.errors.pop()
        self.sent.append((record.message_id, time.monotonic()))
        on_ack(None)

    def close(self) -> None: ...


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def counts() -> Counts:
    return Counts()


@pytest.fixture
def outbox(broker: Broker, counts: Counts) -> Iterator[Outbox]:
    open_publisher: Callable[[], Any] = broker.open
    made = Outbox(open_publisher, counts, max_items=2, reconnect_s=0.01)
    yield made
    made.close(5)


def test_a_record_that_somebody_waits_for_goes_at_once(outbox: Outbox, broker: Broker) -> None:
    outbox.start()
    acknowledged = threading.Event()
    started_s = time.monotonic()
    outbox.send(answer("a"), lambda _: acknowledged.set())
    assert acknowledged.wait(5)
    assert broker.sent[0][1] - started_s < PATIENCE_S


def test_a_record_that_nobody_waits_for_waits_for_company(outbox: Outbox, broker: Broker) -> None:
    outbox.start()
    started_s = time.monotonic()
    for name in "ab":
        outbox.send(answer(name))
    eventually(lambda: len(broker.sent) == 2)
    assert all(sent_s - started_s > 0.9 * PATIENCE_S for _, sent_s in broker.sent)


def test_company_that_is_waited_for_takes_the_others_along_in_order(outbox: Outbox, broker: Broker) -> None:
    outbox.start()
    outbox.send(answer("patient"))
    outbox.send(answer("urgent"), lambda _: None)
    eventually(lambda: len(broker.sent) == 2)
    assert [name for name, _ in broker.sent] == ["patient", "urgent"]


def test_what_waits_when_it_is_closed_is_sent(outbox: Outbox, broker: Broker) -> None:
    outbox.start()
    outbox.send(answer("a"))
    outbox.close(5)
    assert [name for name, _ in broker.sent] == ["a"]


def test_a_broker_that_is_away_is_asked_again(outbox: Outbox, broker: Broker, counts: Counts) -> None:
    broker.errors = [BusUnavailable("away"), BusUnavailable("away")]
    outbox.start()
    outbox.send(answer("a"), lambda _: None)
    eventually(lambda: len(broker.sent) == 1)
    assert counts.snapshot()["bus_unavailable"] == 2


def test_a_record_that_the_broker_refuses_is_reported(outbox: Outbox, broker: Broker, counts: Counts) -> None:
    broker.errors = [SendFailed("no rights")]
    heard: list[Exception | None] = []
    outbox.start()
    outbox.send(answer("a"), heard.append)
    outbox.send(LETTER, heard.append)
    eventually(lambda: len(heard) == 2)
    assert isinstance(heard[0], SendFailed)
    assert heard[1] is None
    assert counts.snapshot() == {"send_failed": 1, "dead_letters": 1}


def test_it_says_when_it_is_full(outbox: Outbox) -> None:
    outbox.send(answer("a"))
    assert not outbox.is_full
    outbox.send(answer("b"))
    assert outbox.is_full
