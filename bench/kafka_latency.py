"""From event to answer over Kafka at 200 events a second, one replica, nothing else to do."""

from collections.abc import Iterator, Sequence
from itertools import cycle, islice

from bench.row import Goal, Row
from bench.service import Service
from bench.supply import Supply
from services.demo.score import percentiles
from services.demo.stream import Item, Stage

RATE = 200.0
WARM_UP_S, MEASURE_S = 5, 30


def measure(supply: Supply) -> Iterator[Row]:
    service = supply.service()
    _latencies_ms(service, service.items, WARM_UP_S)
    found = percentiles(_latencies_ms(service, service.items, MEASURE_S), 50, 99)
    yield Row(name="kafka_latency.p99", value=found["p99"], unit="ms at 200 events/s", goal=Goal("<=", 60))
    yield Row(name="kafka_latency.p50", value=found["p50"], unit="ms at 200 events/s")


def _latencies_ms(service: Service, items: Sequence[Item], seconds: float) -> list[int]:
    stage = Stage("bench", tuple(islice(cycle(items), round(seconds * RATE))), ())
    with service.unlabelled(RATE) as cast:
        cast.player.play(0, stage, RATE)
        cast.player.await_answers(at_most=0)
        return cast.ledger.latencies_ms()
