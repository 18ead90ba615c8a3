"""Records and helpers of the Kafka tests: they send, poll, and kill brokers."""

import itertools
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from services.local.children import free_port
from services.local.kafka import FindPort, LocalBroker
from tests.required import impossible
from tests.waiting import eventually
from wire.bus import Poll, Publisher, Received, Subscription
from wire.errors import BusUnavailable
from wire.records import Event


def events(num: int, *, start: int = 0, key: str = "") -> list[Event]:
    """Returns events `e0`, `e1`...; with a key they lie in one partition, in this order."""
    return [Event(id=f"e{number}", text="hello", key=key) for number in range(start, start + num)]


def send(publisher: Publisher, *records: Any) -> None:
    failures: list[Exception] = []
    for record in records:
        publisher.send(record, lambda error: failures.append(error) if error else None)
    publisher.flush(30)
    assert not failures


def note(acks: Counter[str], name: str, error: Exception | None) -> None:
    """Counts the outcome of a send: the name of the record, or its error."""
    acks[name if error is None else str(error)] += 1


def ids(received: list[Received[Event]]) -> list[str]:
    return [item.record.id for item in received]


def only_kafka(broker: LocalBroker) -> None:
    if broker.kind != "kafka":
        impossible(f"{broker.kind} cannot do this")


def kept_ports(num: int) -> FindPort:
    """Returns a function that finds the same `num` ports for every broker that is started with it."""
    ports = itertools.cycle([free_port() for _ in range(num)])
    return lambda: next(ports)


def kill(broker: LocalBroker) -> None:
    broker.process.kill()
    broker.process.wait()


def patient(poll: Callable[[int], Any]) -> Callable[[int], Any]:
    """Returns a poll that returns no records while the broker is down."""

    def polled(timeout_ms: int) -> Any:
        try:
            return poll(timeout_ms)
        except BusUnavailable:
            return Poll(received=[], refused=[])

    return polled


def settle(*members: Subscription[Event], partitions: int) -> list[list[Received[Event]]]:
    """Polls all members until each has `partitions` partitions; returns the records of each.

    It polls them concurrently, as real members do: a group waits for all its members before it answers any.
    """
    taken: list[list[Received[Event]]] = [[] for _ in members]

    def shared() -> bool:
        for got, poll in zip(taken, threads.map(lambda member: member.poll(20), members), strict=True):
            got.extend(poll.received)
        return all(len(member.partitions) == partitions for member in members)

    with ThreadPoolExecutor(len(members)) as threads:
        eventually(shared)
    return taken
