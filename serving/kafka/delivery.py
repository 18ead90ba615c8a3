"""How the result of an event from Kafka reaches its topic, and when the event's offset is committed: at least once.

    expect(position, key)       an event was delivered
    put(record, key, position)  its answer, or its dead letter --Outbox--> broker has it --> every delivery is finished
    put_letter(letter, position)  what could not be read

Exactly once is `serving.kafka.exactly_once`: `deliveries` chooses.
"""

from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeAlias

from serving.batcher import ItemFailure
from serving.kafka.dedupe import DedupeWindow
from serving.kafka.exactly_once import ExactlyOnce
from serving.kafka.outbox import Outbox
from wire.bus import Position, Subscription
from wire.bus.transactions import TransactionalPublisher
from wire.events import EventKey
from wire.letters import refuse_event
from wire.message import shown
from wire.records import Answer, DeadLetter, Event


class Delivery(Protocol):
    """The way of results while a subscription is open. The engine's thread calls `put`, the intake's the rest."""

    def expect(self, position: Position, key: EventKey) -> None: ...

    def put(self, record: Answer | DeadLetter, key: EventKey, position: Position) -> None: ...

    def put_letter(self, letter: DeadLetter, position: Position) -> None: ...

    def turn(self) -> None:
        """Does what is due. Raises BusUnavailable where another subscription must be opened."""

    def close(self) -> None: ...


Deliver: TypeAlias = Callable[[Subscription[Event]], Delivery]


def deliveries(
    outbox: Outbox, window: DedupeWindow, *, transactions: Callable[[], TransactionalPublisher] | None
) -> Deliver:
    """Returns what makes the way of the results of a subscription: by `transactions`, where they are given."""

    def of(subscription: Subscription[Event]) -> Delivery:
        if transactions is None:
            return AtLeastOnce(subscription, outbox=outbox, window=window)
        return ExactlyOnce(
            subscription, open_publisher=transactions, window=window, counts=outbox.counts, name=outbox.name
        )

    return of


class AtLeastOnce:
    """Sends results by the outbox, which finishes the deliveries of an event when the broker has its answer."""

    def __init__(self, subscription: Subscription[Event], *, outbox: Outbox, window: DedupeWindow) -> None:
        self._subscription = subscription
        self._outbox = outbox
        self._window = window

    def expect(self, position: Position, key: EventKey) -> None:
        """The window remembers what is open."""

    def put(self, record: Answer | DeadLetter, key: EventKey, position: Position) -> None:
        self._outbox.send(record, partial(self._window.acknowledge, key), position.place)

    def put_letter(self, letter: DeadLetter, position: Position) -> None:
        self._outbox.send(letter, partial(self._subscription.finish, position), position.place)

    def turn(self) -> None:
        """The subscription commits by itself."""

    def close(self) -> None:
        """The outbox outlives the subscription: what was accepted is sent all the same."""


def letter_of(failure: ItemFailure, position: Position) -> DeadLetter:
    """Returns the dead letter of an event that the model cannot answer."""
    event = failure.event
    detail = failure.detail or f"the model could not answer event {shown(event.id)}"
    return refuse_event(failure.reason, detail, event, position.place)
