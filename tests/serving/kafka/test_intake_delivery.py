"""The way of a result at least once: its event is finished when the broker has it, and not before."""

import threading
from collections.abc import Callable
from contextlib import closing

import pytest

from serving.kafka.dedupe import DedupeWindow
from serving.kafka.exactly_once import ExactlyOnce
from serving.kafka.intake import AtLeastOnce, delivery_factory, to_dead_letter
from serving.kafka.outbox import Outbox
from serving.queue import ItemFailure
from tests.serving.kafka.fake_broker import FakeBroker, OnAck
from tests.waiting import eventually
from tests.wire.samples import answer_to
from wire.bus import Bus
from wire.bus.offsets import Position
from wire.events import key_of
from wire.records import Event

EVENT = Event(id="a", text="hello", source="shop")
POSITION = Position(topic="events.v1", partition=0, offset=7, generation=1)


@pytest.mark.live
def test_an_event_is_finished_when_the_broker_has_its_answer(
    bus: Bus, make_outbox: Callable[..., Outbox], fake_broker: FakeBroker
) -> None:
    held: list[OnAck] = []
    fake_broker.hold = held
    outbox = make_outbox()
    outbox.start()
    window = DedupeWindow(10)
    finished = threading.Event()
    window.admit(EVENT, finished.set)
    with closing(bus.subscribe(Event, "serving")) as subscription:
        delivery = delivery_factory(outbox, window, transactions=None)(subscription)
        assert isinstance(delivery, AtLeastOnce)
        delivery.expect(POSITION, key_of(EVENT))
        delivery.put(answer_to("a"), key_of(EVENT), POSITION)
        eventually(lambda: len(held) == 1)
        assert not finished.is_set()
        held[0](None)
        assert finished.wait(5) and window.num_open == 0
        delivery.poll()
        delivery.close()


@pytest.mark.live
@pytest.mark.parametrize("broker", ["kafka"], indirect=True)
def test_with_transactions_the_outbox_is_left_out(
    bus: Bus, make_outbox: Callable[..., Outbox], fake_broker: FakeBroker
) -> None:
    window = DedupeWindow(10)
    with closing(bus.subscribe(Event, "serving", commits_itself=False)) as subscription:
        made = delivery_factory(make_outbox(), window, transactions=bus.transactions)(subscription)
        assert isinstance(made, ExactlyOnce)
        made.close()
        window.admit(EVENT, lambda: None)
        made.put(answer_to("a"), key_of(EVENT), POSITION)
    assert window.num_open == 0, "a result that comes after the end is of an event that comes again"
    assert not fake_broker.sent


def test_what_the_model_cannot_answer_is_a_letter_of_its_place() -> None:
    letter = to_dead_letter(ItemFailure(event=EVENT, reason="model_failed"), POSITION)
    assert (letter.reason, letter.topic, letter.offset) == ("model_failed", "events.v1", 7)
    assert "event 'a'" in letter.detail
