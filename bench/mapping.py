"""Measures what a map of foreign messages costs: events a second at full speed, by turns with messages of our own form.

    one service, whose settings map a foreign topic --> rounds through that topic, and through ours, by turns

Both topics carry plain JSON with the same texts and keys, and are filled before the first answer. Who begins changes
from round to round.
"""

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count, cycle, islice
from pathlib import Path
from typing import Any

from kafka import KafkaProducer  # type: ignore[import-untyped]
from kafka.admin import KafkaAdminClient  # type: ignore[import-untyped]

from bench.fixtures import Fixtures
from bench.kafka_throughput import NUM_EVENTS
from bench.service import Service, running_service
from bench.turns import by_turns, row
from evals.results.row import NoResult, Row
from services.local.kafka import start_broker
from wire.records import Answer, Event

TOPIC = "crm.messages"
SETTINGS = {
    "bus.map.events.topic": TOPIC,
    "bus.map.events.id": "{ticket_id}",
    "bus.map.events.text": "{subject?}{body}",
    "bus.map.events.key": "{customer.name}",
    "bus.map.events.source": "crm",
}
GOAL = 0.95
PATIENCE_S = 60.0
POLL_MS = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class MappingSize:
    """The size of the benchmark."""

    rounds: int = 5
    """Rounds through either topic."""


def measure(fixtures: Fixtures) -> Iterator[Row]:
    fixtures.stop_service()
    size = fixtures.sized(MappingSize())
    numbers = count()
    with _broker_with_topic() as servers, running_service({"bus.bootstrap_servers": servers} | SETTINGS) as service:
        with closing(KafkaProducer(bootstrap_servers=servers, linger_ms=5)) as producer:
            speed = partial(_full_speed, service, producer, numbers)
            ours, foreign = partial(speed, service.settings.bus.topic_of(Event)), partial(speed, TOPIC)
            measured = by_turns(ours, foreign, size.rounds)
        service.check()
    yield row("mapping.throughput", *measured, goal=GOAL, beside="messages of our own form")


def _full_speed(service: Service, producer: Any, numbers: Iterator[int], topic: str) -> float:
    """Returns events a second, from the first message sent to the last answer. Raises NoResult."""
    with closing(service.bus.follow([Answer], service.bus.end_offsets(Answer), is_patient=True)) as follower:
        follower.poll(POLL_MS)
        start_s = time.monotonic()
        waiting = set[str]()
        run = next(numbers)
        for number, item in enumerate(islice(cycle(service.items), NUM_EVENTS)):
            event_id = f"{topic}-{run}-{number}"
            waiting.add(event_id)
            producer.send(topic, _message(event_id, item.text, f"customer {number % 1_000}", is_ours=topic != TOPIC))
        last_s = time.monotonic()
        while waiting:
            received = follower.poll(POLL_MS).received
            waiting.difference_update(each.record.event_id for each in received)
            last_s = time.monotonic() if received else last_s
            if time.monotonic() - last_s > PATIENCE_S:
                raise NoResult(f"{len(waiting)} of {NUM_EVENTS} messages in {topic} have no answer")
        return NUM_EVENTS / (last_s - start_s)


def _message(event_id: str, text: str, customer: str, *, is_ours: bool) -> bytes:
    fields: dict[str, Any] = {"id": event_id, "text": text, "key": customer}
    if not is_ours:
        fields = {"ticket_id": event_id, "subject": None, "body": text, "customer": {"name": customer}}
    return json.dumps(fields).encode()


@contextmanager
def _broker_with_topic() -> Iterator[str]:
    """Starts a broker like that of the service, with the foreign topic; yields its address."""
    with tempfile.TemporaryDirectory() as folder:
        broker = start_broker(Path(folder))
        try:
            with closing(KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)) as admin:
                admin.create_topics({TOPIC: {"num_partitions": 4, "replication_factor": 1}})
            yield broker.bootstrap_servers
        finally:
            broker.stop()
