"""Measures what learning costs the traffic: events a second at full speed, with and without labels coming in.

a topic full of texts --> one replica, as fast as it can | beside it 200 labels a second --> learner --> versions, swaps

Rounds without and with labels take turns, on one service that knows all classes. The labels carry their texts, so that
they come at their rate however fast answers are given; each is approved, as those of an import are.
"""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import chain, cycle
from statistics import median

from bench.fixtures import Fixtures
from bench.kafka_throughput import full_speed
from bench.service import Service
from bench.texts import clinc150
from evals.results.row import Goal, NoResult, Peer, Row
from evals.streams.stream import StreamItem
from services.keys import ring_of
from wire.receipts import Receipts
from wire.records import Feedback, LearnerReport
from wire.threads import BackgroundThread
from wire.timestamps import now_ms

LABELS_PER_S = 200.0
ROUNDS = 3
FLUSH_S = 60.0

ALONE = "the same service without labels"


def measure(fixtures: Fixtures) -> Iterator[Row]:
    service = fixtures.service()
    items = tuple(chain.from_iterable(stage.train for stage in clinc150().stages))
    alone, beside, versions = list[float](), list[float](), 0
    for number in range(ROUNDS):
        alone.append(full_speed(service))
        before = _report(service)
        with labels(service, items, run=f"round-{number}"):
            beside.append(full_speed(service))
        versions += _report(service).version - before.version
    fixtures.stop_service()  # it has more to learn now
    yield Row.of(
        name="while_learning.throughput",
        value=median(beside),
        unit="events/s",
        goal=Goal(">=", 0.8, of_peer=True),
        peers=(Peer(ALONE, median(alone)),),
        note=f"{LABELS_PER_S:g} labels a second; {versions} versions in {ROUNDS} rounds",
    )


@contextmanager
def labels(service: Service, items: tuple[StreamItem, ...], *, run: str) -> Iterator[None]:
    """Sends labelled texts at LABELS_PER_S, from entering to leaving. Raises NoResult where none was sent."""
    receipts = Receipts(*ring_of(service.settings).receipts)
    num_sent = 0

    def send() -> None:
        """Sends labels.

        consumes: the items, again and again; produces: Feedback; waits for: the next label's time; unblocked by: close
        """
        nonlocal num_sent
        start_s = time.monotonic()
        with closing(service.bus.publisher()) as publisher:
            for item in cycle(items):
                if thread.closing.wait(max(0.0, start_s + num_sent / LABELS_PER_S - time.monotonic())):
                    break
                publisher.send(receipts.approved(_label(f"{run}-{num_sent}", item)))
                num_sent += 1
            publisher.flush(FLUSH_S)

    thread = BackgroundThread(send, name="bench-labels")
    thread.start()
    try:
        yield
    finally:
        thread.close()
    if not num_sent:
        raise NoResult("no label was sent")


def _label(event_id: str, item: StreamItem) -> Feedback:
    return Feedback(
        event_id=event_id, label=item.label, source="bench", time_ms=now_ms(), event_source="bench", text=item.text
    )


def _report(service: Service) -> LearnerReport:
    report = service.store.reports.learner()
    if report is None:
        raise NoResult("the learner does not report")
    return report
