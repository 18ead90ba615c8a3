"""Measures the time from event to answer over Kafka at 200 events a second, with one replica and nothing else to do.

The load is an open loop: an event's latency begins when it should be sent, and ends when its answer was read back.
Nothing else runs in this process, because a generator that is busy with other things measures itself.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from itertools import cycle, islice

from bench.fixtures import Fixtures
from bench.service import Service
from evals.load.score import percentiles
from evals.results.row import Goal, NoResult, Row
from wire.bus import Follower
from wire.records import Answer, Event
from wire.timestamps import now_ms

RATE = 200.0
WARM_UP_S = 5
MEASURE_S = 30
READ_WITHIN_S = 30.0
POLL_MS = 50


def measure(fixtures: Fixtures) -> Iterator[Row]:
    latencies = latency_ms(fixtures.service())
    yield Row.of(name="kafka_latency.p99", value=latencies["p99"], unit="ms at 200 events/s", goal=Goal("<=", 60))
    yield Row.of(name="kafka_latency.p50", value=latencies["p50"], unit="ms at 200 events/s")


def latency_ms(service: Service) -> Mapping[str, float | None]:
    """Measures p50 and p99 over MEASURE_S seconds."""
    latencies_s(service, "warm-up", WARM_UP_S)
    return percentiles([round(1e3 * latency_s) for latency_s in latencies_s(service, "measure", MEASURE_S)], 50, 99)


def latencies_s(service: Service, run: str, seconds: float) -> list[float]:
    """Measures the latency of every event of a run of `seconds`. Raises NoResult where an event has no answer."""
    texts = [item.text for item in islice(cycle(service.items), round(seconds * RATE))]
    ids = [f"{run}-{number}" for number in range(len(texts))]
    read_s: dict[str, float] = {}
    with (
        closing(service.bus.publisher()) as publisher,
        closing(service.bus.follow([Answer], service.bus.end_offsets(Answer))) as follower,
    ):
        reader = threading.Thread(target=collect_read_times, args=(follower, set(ids), read_s))
        reader.start()
        start_s = time.monotonic()
        due_s = {event_id: start_s + number / RATE for number, event_id in enumerate(ids)}
        for event_id, text in zip(ids, texts, strict=True):
            time.sleep(max(0.0, due_s[event_id] - time.monotonic()))
            publisher.send(Event(id=event_id, text=text, time_ms=now_ms()))
        reader.join()
    if lost := len(ids) - len(read_s):
        raise NoResult(f"{lost} of {len(ids)} events have no answer after {READ_WITHIN_S:g} s")
    service.check()
    return [read_s[event_id] - due_s[event_id] for event_id in ids]


def collect_read_times(follower: Follower, ids: set[str], read_s: dict[str, float]) -> None:
    """Records when the answer of each of `ids` was read, until all are or READ_WITHIN_S pass without one."""
    deadline_s = time.monotonic() + READ_WITHIN_S
    while len(read_s) < len(ids) and time.monotonic() < deadline_s:
        for received in follower.poll(POLL_MS).received:
            if isinstance(received.record, Answer) and received.record.event_id in ids:
                now_s = time.monotonic()
                deadline_s = now_s + READ_WITHIN_S
                read_s.setdefault(received.record.event_id, now_s)
