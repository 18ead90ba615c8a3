"""Finds which part of a service with many millions of events a day falls behind first, by costs and simulation.

    one thread of this machine --seconds of each part for an event, a label--> parts
    a day's load --arrivals--> events and labels of each second --work of a part, in order--> its delay in each second
    the load grows, by bisection, until the p99 of a part's delays exceeds its limit --> the capacity of that part

A part is a queue that its servers work off at a constant rate. The delay in a second is the time to work off the queue
at the end of that second (Lindley's recursion, over seconds instead of customers).

- Measured: the INT8 operations a second of the encoder, the learner's time to read and join an answer and a label from
  Apache Kafka, the time of a publication, and the bytes of an answer.
- Computed from the size: the encoder's operations (two for each parameter and token), the number of replicas, and the
  bytes that they fetch.
- Assumed: everything else, as documented in `ScaleSize`.
"""

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache
from itertools import cycle, islice

import numpy as np
from numpy.typing import NDArray

from bench.backlog import FLUSH_S, make_answer, make_label, own_servers
from bench.harness.case import Run
from bench.harness.process import run_module
from bench.harness.texts import clinc150
from evals.results.row import NoResult, Row
from learner.config import LearnerConfig
from learner.intake.consumer import Consumer, ReadState
from learner.intake.join import Join
from learner.intake.outbox import Outbox
from learner.learner import Learner
from model.bert import load_encoder
from services.keys import key_ring
from wire.bus import Bus
from wire.envelope import to_message
from wire.receipts import Receipts
from wire.records import Answer, Feedback

DAY_S = 86_400
MAX_FACTOR = 1e6
"""A part that can take this many times the load counts as unlimited."""

PRECISION = 0.01


@dataclass(frozen=True, kw_only=True, slots=True)
class Day:
    """The load of a day: the numbers of events and labels, and the shape of its wave."""

    events: float
    labels: float
    peak: float
    """The peak rate over the mean rate of the day, at least 1."""
    seed: int = 0

    def scaled(self, factor: float) -> "Day":
        return replace(self, events=self.events * factor, labels=self.labels * factor)


@dataclass(frozen=True, kw_only=True, slots=True)
class ServicePart:
    """A part of the service, and the seconds of work of one of its servers for an event and for a label."""

    name: str
    event_s: float = 0.0
    label_s: float = 0.0
    share: float = 0.0
    """The fraction of one server that is busy independently of the load."""
    servers: int = 1
    limit_s: float = 1.0
    """The p99 of the delay beyond which the part has fallen behind."""


def arrivals(day: Day) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the events and the labels of each second, Poisson distributed around the wave of the day."""
    wave_S = _wave(day.peak)
    rng = np.random.default_rng(day.seed)
    return rng.poisson(day.events * wave_S), rng.poisson(day.labels * wave_S)


@cache
def _wave(peak: float) -> NDArray[np.float64]:
    """Returns the fraction of the day's load that comes in each second, a von Mises density `exp(k cos t)`.

    It is positive for every peak. k is chosen by bisection so that the highest value is `peak` times the mean.
    """
    cosines_S = np.cos(np.linspace(-math.pi, math.pi, DAY_S, endpoint=False))
    low = 0.0
    high = 700.0
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        is_too_steep = 1.0 / np.exp(middle * (cosines_S - 1.0)).mean() > peak
        if is_too_steep:
            high = middle
        else:
            low = middle
    wave_S = np.exp(low * (cosines_S - 1.0))
    shares_S: NDArray[np.float64] = wave_S / wave_S.sum()
    return shares_S


def delays_s(part: ServicePart, events_S: NDArray[np.int64], labels_S: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns the time, in seconds, to work off the queue at the end of each second.

    >>> one = ServicePart(name="one", event_s=0.5)
    >>> [float(delay) for delay in delays_s(one, np.array([3, 1, 0]), np.zeros(3, np.int64))]
    [0.5, 0.0, 0.0]
    """
    surplus_S = np.cumsum(part.event_s * events_S + part.label_s * labels_S + part.share - part.servers)
    waiting_S = surplus_S - np.minimum(np.minimum.accumulate(surplus_S), 0.0)
    return waiting_S / part.servers


def max_load_factor(part: ServicePart, day: Day) -> float:
    """Returns the factor by which the day's load can grow until the part falls behind.

    It is below 1 if the part already falls behind, and infinity if the part counts as unlimited.
    """

    def falls_behind(factor: float) -> bool:
        return bool(np.quantile(delays_s(part, *arrivals(day.scaled(factor))), 0.99) > part.limit_s)

    low = 0.0
    high = 1.0
    while not falls_behind(high):
        low = high
        high = 2 * high
        if high > MAX_FACTOR:
            return math.inf
    while high - low > PRECISION * high:
        middle = (low + high) / 2
        if falls_behind(middle):
            high = middle
        else:
            low = middle
    return low


def load_limits(parts: Iterable[ServicePart], day: Day) -> Mapping[str, float]:
    """Returns part -> the factor by which the load can grow. The first part to fall behind comes first."""
    factors = {part.name: max_load_factor(part, day) for part in parts}
    return dict(sorted(factors.items(), key=lambda each: each[1]))


OWN_EVENT_S = 0.0004
"""A replica's time for an event besides the model, from row `kafka_throughput`. It includes the load generator's."""

GIGABIT_BYTES = 1e9 / 8
"""Bytes a second at one gigabit a second."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScaleSize:
    """The planned load, and the machines."""

    events: float = 100e6
    """Events a day."""
    labels: float = 1e6
    """Labels a day."""
    peak: float = 3.0
    """The peak rate over the mean rate."""
    parameters: float = 302e6
    """The number of parameters in the encoder's layers."""
    tokens: int = 32
    """The mean number of tokens of a text."""
    replicas: int = 81
    publish_interval_s: float = 1.0
    version_bytes: float = 0.3e6
    """The bytes that a replica fetches of a new version."""
    copies: int = 3
    """The number of copies of each record in Kafka."""
    brokers: int = 3
    gigabits: float = 10.0
    """The network bandwidth of Redis and of each broker, in gigabits a second."""
    measured: int = 40_000
    """The number of answers, and of labels, with which the learner's costs are measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Costs:
    """The costs that were measured on this machine."""

    operations_per_s: float
    answer_s: float
    label_s: float
    publication_s: float
    answer_bytes: int


def measure(run: Run) -> Iterator[Row]:
    size = run.sized(ScaleSize(), quick=ScaleSize(measured=2_000))
    costs = _costs(size)
    yield Row.of("scale.answer", round(1e6 * costs.answer_s, 1), "us to read and join an answer")
    yield Row.of("scale.label", round(1e6 * costs.label_s, 1), "us to read and join a label")
    yield Row.of("scale.peak", round(costs.operations_per_s / 1e9), "INT8 GOP/s of the encoder")
    planned = {part.name: part for part in parts(size, costs)}
    busiest_per_s = size.peak * size.events / DAY_S
    needed = math.ceil(busiest_per_s * planned["replicas"].event_s)
    yield Row.of("scale.replicas_needed", needed, "replicas like this thread in the busiest moment")
    limits = load_limits(planned.values(), Day(events=size.events, labels=size.labels, peak=size.peak))
    for place, (name, factor) in enumerate(limits.items(), start=1):
        if math.isinf(factor):
            share = round(100 * planned[name].share, 2)
            yield Row.of(f"scale.{name}", share, "% of it is taken, whatever the load")
        else:
            millions = round(factor * size.events / 1e6, 1)
            note = f"{place} of {len(limits)} to fall behind"
            yield Row.of(f"scale.{name}", millions, "million events a day", note=note)


def parts(size: ScaleSize, costs: Costs) -> tuple[ServicePart, ...]:
    """Returns the parts of a service of that size. Every replica fetches every version, independently of the load."""
    encode_s = 2 * size.parameters * size.tokens / costs.operations_per_s
    fetched_s = size.version_bytes * size.replicas / size.publish_interval_s / (size.gigabits * GIGABIT_BYTES)
    written_s = costs.answer_bytes * size.copies / (size.gigabits * GIGABIT_BYTES)
    return (
        ServicePart(name="replicas", event_s=encode_s + OWN_EVENT_S, servers=size.replicas),
        ServicePart(
            name="learner",
            event_s=costs.answer_s,
            label_s=costs.label_s,
            share=costs.publication_s / size.publish_interval_s,
        ),
        ServicePart(name="learner_vectors", label_s=encode_s),
        ServicePart(name="kafka_line", event_s=written_s, servers=size.brokers),
        ServicePart(name="redis_line", share=fetched_s),
    )


def _costs(size: ScaleSize) -> Costs:
    """Measures the costs on one thread of this machine.

    Raises Skip without data or Apache Kafka, and NoResult if a label does not meet its answer.
    """
    items = clinc150().train_items
    encoder = run_module("bench.peers.ours", "rate", str(size.tokens))
    head = run_module("bench.head_update", "150")
    join = Learner(LearnerConfig(), *load_encoder("minilm-l6")).join
    with own_servers() as settings, closing(Bus(settings.bus, "scale")) as bus:
        bus.create_topics()
        receipts = Receipts(*key_ring(settings).receipts)
        chosen = islice(cycle(items), size.measured)
        answers = [make_answer(number, item, items, receipts) for number, item in enumerate(chosen)]
        with closing(_consumer(bus, join)) as consumer:
            answer_s = _seconds_per_record(bus, consumer, join, answers)
            labels = [make_label(answer, answer.label or "") for answer in answers]
            label_s = _seconds_per_record(bus, consumer, join, labels)
    if join.counts["matched"] < size.measured:
        raise NoResult(f"{size.measured} labels were sent, but only {join.counts['matched']} met their answer")
    message = to_message(answers[0])
    header_bytes = sum(len(name) + len(value or b"") for name, value in message.headers)
    return Costs(
        operations_per_s=encoder["operations_per_s"],
        answer_s=answer_s,
        label_s=label_s,
        publication_s=1e-3 * head["update_ms"],
        answer_bytes=len(message.value or b"") + header_bytes,
    )


def _consumer(bus: Bus, join: Join) -> Consumer:
    return Consumer(
        bus,
        ReadState(offsets={}, letters=Outbox(), counts=join.counts),
        levels=lambda: join.levels,
        wait=lambda: time.sleep(0.1),
        on_truncated=lambda: None,
    )


def _seconds_per_record(bus: Bus, consumer: Consumer, join: Join, records: Sequence[Answer | Feedback]) -> float:
    """Writes the records; returns the processor time of this process to read and join one record."""
    publisher = bus.publisher()
    for record in records:
        publisher.send(record)
    publisher.flush(FLUSH_S)
    began_s = time.process_time()
    num_read = 0
    while num_read < len(records):
        polled = consumer.poll(LearnerConfig().poll_timeout_ms)
        join.match(polled)
        num_read += len(polled)
    return (time.process_time() - began_s) / len(records)
