"""The intake where the model, the queue, the broker or the machine fails it: nothing is lost, nothing stands still."""

import threading
import time
from collections import deque
from typing import Any

import msgspec
import pytest

from serving.queue import Item
from tests.serving.kafka.intake_rig import IntakeRig, committed, received, send
from tests.serving.pipelines import PREDICT
from tests.serving.versions import live_versions
from tests.waiting import eventually
from wire.bus import Bus, Poll, Publisher, Subscription
from wire.errors import BusUnavailable, SendFailed
from wire.records import Answer, DeadLetter, Event, TopicRecord

pytestmark = pytest.mark.live


def test_a_poison_event_becomes_a_dead_letter_and_its_neighbours_are_answered(rig: IntakeRig, bus: Bus) -> None:
    good = rig.encode
    rig.encode = lambda texts: [[1 << 20] if text == "poison" else good([text])[0] for text in texts]
    poison = Event(id="p", text="poison", key="k")
    send(bus, Event(id="a", text="good", key="k"), poison, Event(id="b", text="good", key="k"))
    rig.start()
    assert {answer.event_id for answer in received(bus, Answer, 2)} == {"a", "b"}
    (letter,) = received(bus, DeadLetter, 1)
    assert letter.reason == "model_failed"
    assert letter.topic.endswith(Event.TOPIC)
    assert msgspec.json.decode(letter.payload, type=Event) == poison
    rig.close()
    assert committed(bus) == 0


def test_before_the_first_weights_events_wait_in_the_broker(bus: Bus) -> None:
    rig = IntakeRig(bus)
    send(bus, Event(id="e", text="hello"))
    rig.start()
    eventually(lambda: rig.intake._is_paused)
    assert (len(rig.pipeline.queue), rig.window.num_open) == (0, 0)
    rig.pipeline.engine.activate(live_versions([1]))
    assert received(bus, Answer, 1)[0].event_id == "e"
    rig.close()


def test_a_full_queue_pauses_the_partitions_and_loses_nothing(bus: Bus) -> None:
    rig = IntakeRig(bus, max_queue_items=8, max_open=16)
    rig.pipeline.engine.activate(live_versions([1]))
    events = [Event(id=f"e{index}", text="hello", key=f"k{index}") for index in range(300)]
    send(bus, *events)
    rig.start()
    answers = received(bus, Answer, len(events))
    assert {answer.event_id for answer in answers} == {event.id for event in events}
    rig.close()
    assert committed(bus) == 0


class Troubled:
    """A publisher that fails for the first records: `troubles` has the error of each."""

    def __init__(self, real: Publisher, *troubles: SendFailed) -> None:
        self._real = real
        self._troubles = list(troubles)

    def prepare(self, record_type: type[TopicRecord]) -> None:
        self._real.prepare(record_type)

    def send(self, record: TopicRecord, on_ack: Any) -> None:
        if self._troubles:
            on_ack(self._troubles.pop(0))
        else:
            self._real.send(record, on_ack)

    def close(self) -> None:
        self._real.close()


def trouble(rig: IntakeRig, bus: Bus, *errors: SendFailed) -> None:
    troubled: Any = Troubled(bus.publisher(), *errors)
    rig.open_publisher = lambda: troubled


class Hanging:
    """A subscription whose client hangs: every poll fails."""

    lag = 0

    def __init__(self, real: Subscription[Event]) -> None:
        self._real = real
        self.polled_s: list[float] = []

    def poll(self, timeout_ms: int) -> Poll[Event]:
        self.polled_s.append(time.monotonic())
        raise BusUnavailable("the client hangs")

    def close(self) -> None:
        self._real.close()


def test_a_client_that_hangs_is_given_up_after_the_longest_outage(
    rig: IntakeRig, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B15: a subscription outlives an outage, but not one in which the client itself may be what hangs."""
    monkeypatch.setattr("serving.kafka.intake.MAX_OUTAGE_S", 1.0)
    hanging: Any = Hanging(bus.subscribe(Event, "serving"))
    opened = iter([lambda: hanging, rig.open_subscription])
    rig.open_subscription = lambda: next(opened)()
    send(bus, Event(id="e", text="hello"))
    rig.start()
    assert received(bus, Answer, 1)[0].event_id == "e"
    assert hanging.polled_s[-1] - hanging.polled_s[0] > 0.9, "it is kept as long as the outage may last"
    assert len(rig.subscriptions) == 2
    rig.close()
    assert committed(bus) == 0


def test_an_answer_that_was_not_acknowledged_in_time_is_sent_again(rig: IntakeRig, bus: Bus) -> None:
    """B3, B15: the subscription was opened anew for it, and the group rebalanced."""
    trouble(rig, bus, *3 * [SendFailed("not acknowledged in time")])
    send(bus, Event(id="e", text="hello"))
    rig.start()
    assert received(bus, Answer, 1)[0].event_id == "e"
    assert rig.pipeline.counts.snapshot()["send_failed"] == 3
    assert rig.pipeline.counts.snapshot()["answers"] == 1
    rig.close()
    assert len(rig.subscriptions) == 1
    assert committed(bus) == 0


def test_an_answer_that_can_never_be_sent_becomes_a_letter_and_the_partition_moves_on(rig: IntakeRig, bus: Bus) -> None:
    """B3: the partition stood still for ever, and the group rebalanced every few seconds."""
    trouble(rig, bus, SendFailed("larger than the maximum request size", is_permanent=True))
    send(bus, Event(id="huge", text="hello", key="k"), Event(id="good", text="hello", key="k"))
    rig.start()
    (letter,) = received(bus, DeadLetter, 1)
    assert received(bus, Answer, 1)[0].event_id == "good"
    assert (letter.reason, letter.offset) == ("unsendable", 0)
    assert letter.topic.endswith(Event.TOPIC)
    rig.close()
    assert len(rig.subscriptions) == 1
    assert committed(bus) == 0


def test_a_fault_of_the_machine_makes_no_dead_letters(rig: IntakeRig, bus: Bus) -> None:
    """B25 no. 9: a MemoryError made dead letters of good events."""
    has_memory = threading.Event()

    def short_of_memory(*batch: Any) -> list[Answer]:
        if not has_memory.is_set():
            raise MemoryError
        return PREDICT(*batch)

    rig.predict = short_of_memory
    send(bus, *(Event(id=f"e{index}", text="hello", key=f"k{index}") for index in range(40)))
    rig.start()
    eventually(lambda: rig.pipeline.counts.snapshot().get("machine_faults", 0) > 80)
    has_memory.set()
    answers = received(bus, Answer, 40)
    assert len({answer.event_id for answer in answers}) == 40
    rig.close()
    assert "dead_letters" not in rig.pipeline.counts.snapshot()
    assert committed(bus) == 0


def test_events_that_a_fault_left_unanswered_do_not_hold_up_the_end(rig: IntakeRig, bus: Bus) -> None:
    def broken(*_: object) -> list[Answer]:
        raise MemoryError

    rig.predict = broken
    send(bus, Event(id="e", text="hello"))
    rig.start()
    eventually(lambda: rig.pipeline.counts.snapshot().get("machine_faults", 0) > 0)
    rig.intake.close()
    assert rig.window.num_open == 0, "the drain did not wait for its timeout"
    rig.close()
    assert committed(bus) == 1


class LateAppend(deque[Item]):
    """Appends an item only after `closing` is set, and some time later: a drain that nothing holds up comes first."""

    def __init__(self, closing: threading.Event) -> None:
        super().__init__()
        self.has_begun = threading.Event()
        self._closing = closing

    def append(self, item: Item) -> None:
        self.has_begun.set()
        self._closing.wait(20)
        time.sleep(0.2)
        super().append(item)


def test_what_is_left_unanswered_while_the_drain_begins_does_not_hold_up_the_end(rig: IntakeRig, bus: Bus) -> None:
    """The drain dropped what was unanswered, and the model's thread put one more there, which stayed open."""

    def broken(*_: object) -> list[Answer]:
        raise MemoryError

    rig.predict = broken
    unanswered = LateAppend(rig.intake._thread.closing)
    rig.intake._unanswered = unanswered
    send(bus, Event(id="e", text="hello"))
    rig.start()
    assert unanswered.has_begun.wait(20)
    rig.intake.close()
    assert rig.window.num_open == 0
    rig.close()
    assert committed(bus) == 1
