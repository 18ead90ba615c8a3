"""Measures 200 swaps of a replica under load: how long each stalls the batches, and whether an answer mixes versions.

learner and controller stopped --> 200 times a new version (bench/version_faker.py) --> swap, at 200 events a second

A stall is the whole pause before the first batch after a swap. With each stall the replica reports the pause before the
last batch without a swap: a pair, which the same minute of the machine has made. What a swap adds is the mean of the
differences of the pairs, with its interval.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import cycle, islice
from statistics import mean
from time import monotonic, sleep

import numpy as np

from bench.fixtures import Fixtures
from bench.service import Service, is_followed
from bench.version_faker import VersionFaker, is_mixed, unversioned
from evals.load.score import percentiles
from evals.load.session import Participants, read_back
from evals.results.row import Goal, Row
from evals.streams.stream import Arrival, StreamItem
from wire.bus import every_record
from wire.records import Answer

NUM_SWAPS = 200
EVERY_S = 0.3
"""Least time between two versions: about what it takes to publish one and to see its swap, as the watcher polls."""
LOAD_S = 1.3 * EVERY_S * NUM_SWAPS
"""How long the load lasts: longer than the swaps, since one that no batch follows has no stall."""
RATE = 200.0
NUM_TEXTS = 400
TAKE_S = 30.0
RESAMPLES = 10_000

Pair = tuple[float, float]
"""The stall of a swap and the pause before it, in milliseconds."""


def measure(fixtures: Fixtures) -> Iterator[Row]:
    service = fixtures.service()
    service.stack.stop("learner", "rollout")  # versions and plans come from this process now
    faker = VersionFaker.of(service.store, service.settings.learner.lease_name)
    texts = service.items[:: max(1, len(service.items) // NUM_TEXTS)]
    before = _answers_before(service, faker, texts)
    with service.unlabelled(RATE) as participants, ThreadPoolExecutor(1) as threads:
        participants.watcher.wait(lambda snapshot: bool(snapshot.reports), TAKE_S)
        num_earlier = len(_pairs(participants))  # the first report has the last swaps before this session, too
        playing = threads.submit(participants.player.play, "bench", _load(texts), RATE)
        num_swaps = _swap(faker, participants, playing)
        participants.player.await_answers(at_most=0)
        sleep(2 * service.settings.serving.report_interval_s)  # the last stall comes with the next report
        pairs = _pairs(participants)[num_earlier:]
        audit = read_back(service.bus, participants.ledger).audit
        mixed = sum(is_mixed(answer, before[answer.text]) for answer in _answers(service, participants))
    fixtures.stop_service()  # it has no learner any more
    yield from stall_rows(pairs)
    yield Row.of(name="swap_stall.swaps", value=num_swaps, unit="swaps", goal=Goal(">=", NUM_SWAPS))
    yield Row.of(name="swap_stall.failed", value=audit.lost + audit.duplicates, unit="answers", goal=Goal("<=", 0))
    yield Row.of(name="swap_stall.mixed", value=mixed, unit="answers", goal=Goal("<=", 0))


def _pairs(participants: Participants) -> list[Pair]:
    snapshot = participants.watcher.snapshot()
    return list(zip(snapshot.stalls_ms, snapshot.pauses_ms, strict=True))


def stall_rows(pairs: Sequence[Pair]) -> Iterator[Row]:
    """Makes the rows of the pairs, which have no value unless there is a pair for each swap."""
    pairs = [pair for pair in pairs if any(pair)]  # a swap that no batch waited for is reported as 0 and 0
    is_whole = len(pairs) == NUM_SWAPS
    note = "" if is_whole else f"{len(pairs)} stalls were reported, {NUM_SWAPS} expected"
    stalls = percentiles([stall_ms for stall_ms, _ in pairs if is_whole], 50, 99)
    pauses = percentiles([pause_ms for _, pause_ms in pairs if is_whole], 50, 99)
    yield Row.of(name="swap_stall.p99", value=stalls["p99"], unit="ms", goal=Goal("<=", 1), note=note)
    yield Row.of(name="swap_stall.p50", value=stalls["p50"], unit="ms", note=note)
    yield Row.of(name="swap_stall.pause_p99", value=pauses["p99"], unit="ms without a swap", note=note)
    yield Row.of(name="swap_stall.pause_p50", value=pauses["p50"], unit="ms without a swap", note=note)
    most_ms = None
    if is_whole:
        added_ms = [stall_ms - pause_ms for stall_ms, pause_ms in pairs]
        least_ms, most_ms = mean_interval(added_ms)
        note = f"mean {mean(added_ms):.3f} ms, 95 % interval {least_ms:.3f} to {most_ms:.3f}"
    yield Row.of(name="swap_stall.added", value=most_ms, unit="ms a swap, at most", goal=Goal("<=", 1), note=note)


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Returns the 95 % interval of the mean, by the percentiles of a bootstrap (Efron and Tibshirani 1993, 13.3)."""
    rng = np.random.default_rng(0)
    means = rng.choice(values, (RESAMPLES, len(values))).mean(axis=1)
    least, most = np.percentile(means, (2.5, 97.5))
    return round(float(least), 3), round(float(most), 3)


def _load(texts: tuple[StreamItem, ...]) -> list[Arrival]:
    """Makes a stream that lasts longer than the swaps."""
    return _arrivals(islice(cycle(texts), round(RATE * LOAD_S)))


def _arrivals(texts: Iterable[StreamItem]) -> list[Arrival]:
    return [Arrival(item, 0) for item in texts]


def _answers_before(service: Service, faker: VersionFaker, texts: tuple[StreamItem, ...]) -> Mapping[str, str | None]:
    """Lets one version alone answer each text. Later versions must give the same answers, each in its own labels."""
    with service.unlabelled(RATE) as participants:
        participants.watcher.wait(is_followed(faker.publish()), TAKE_S)
        participants.player.play("bench", _arrivals(texts), RATE)
        participants.player.await_answers(at_most=0)
        return {answer.text: unversioned(answer) for answer in _answers(service, participants)}


def _answers(service: Service, participants: Participants) -> Iterator[Answer]:
    """Yields the answers to the events of this session."""
    for record in every_record(service.bus, [Answer]):
        if participants.ledger.number_of(record.event_id) is not None:
            yield record


def _swap(faker: VersionFaker, participants: Participants, playing: "Future[None]") -> int:
    """Publishes at a steady rate; returns how many versions every replica swapped in within TAKE_S."""
    num_swaps = 0
    next_s = monotonic()
    for _ in range(NUM_SWAPS):
        sleep(max(0.0, next_s - monotonic()))
        next_s = monotonic() + EVERY_S
        num_swaps += participants.watcher.wait(is_followed(faker.publish()), TAKE_S)
    playing.result()
    return num_swaps
