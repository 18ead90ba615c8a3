"""Measures 200 swaps of a replica under load: how long each stalls the batches, and whether an answer mixes versions.

learner and controller stopped --> 200 times a new version (bench/version_faker.py) --> swap, at 200 events a second

A stall is the whole pause before the first batch after a swap. With each stall the replica reports the pause before the
last batch without a swap. What the swaps add is the difference of the p99 of the stalls and the p99 of as many pauses.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import cycle, islice
from time import monotonic, sleep

from bench.fixtures import Fixtures
from bench.row import Goal, Row
from bench.service import Service
from bench.version_faker import VersionFaker, is_mixed, unversioned
from evals.load.readback import read_back
from evals.load.score import percentiles
from evals.load.session import Participants
from evals.load.watcher import ServiceSnapshot
from evals.streams.stage import Stage
from evals.streams.stream import StreamItem, TextStage
from wire.bus.scan import every_record
from wire.records import Answer

NUM_SWAPS = 200
EVERY_S = 0.2
RATE = 200.0
NUM_TEXTS = 400
TAKE_S = 30.0


def measure(fixtures: Fixtures) -> Iterator[Row]:
    service = fixtures.service()
    service.stack.stop("learner", "rollout")  # versions and plans come from this process now
    faker = VersionFaker.of(service.store, service.settings.learner.lease_name)
    texts = service.items[:: max(1, len(service.items) // NUM_TEXTS)]
    before = _answers_before(service, faker, texts)
    with service.unlabelled(RATE) as participants, ThreadPoolExecutor(1) as threads:
        playing = threads.submit(participants.player.play, 0, _load(texts), RATE)
        num_swaps = _swap(faker, participants, playing)
        participants.player.await_answers(at_most=0)
        sleep(2 * service.settings.serving.report_interval_s)  # the last stall comes with the next report
        snapshot = participants.watcher.snapshot()
        stalls = percentiles(snapshot.stalls_ms, 50, 99)
        pauses = percentiles(snapshot.pauses_ms, 50, 99)
        audit = read_back(service.bus, participants.ledger).audit
        mixed = sum(is_mixed(answer, before[answer.text]) for answer in _answers(service, participants))
    fixtures.stop_service()  # it has no learner any more
    yield Row(name="swap_stall.p99", value=stalls["p99"], unit="ms", goal=Goal("<=", 1))
    yield Row(name="swap_stall.p50", value=stalls["p50"], unit="ms")
    yield Row(name="swap_stall.pause_p99", value=pauses["p99"], unit="ms without a flip")
    yield Row(name="swap_stall.pause_p50", value=pauses["p50"], unit="ms without a flip")
    stall_ms = stalls["p99"]
    pause_ms = pauses["p99"]
    added_ms = None if stall_ms is None or pause_ms is None else round(stall_ms - pause_ms, 3)
    yield Row(name="swap_stall.added", value=added_ms, unit="ms from pause_p99 to p99", goal=Goal("<=", 1))
    yield Row(name="swap_stall.swaps", value=num_swaps, unit="swaps", goal=Goal(">=", NUM_SWAPS))
    yield Row(name="swap_stall.failed", value=audit.lost + audit.duplicates, unit="answers", goal=Goal("<=", 0))
    yield Row(name="swap_stall.mixed", value=mixed, unit="answers", goal=Goal("<=", 0))


def _load(texts: tuple[StreamItem, ...]) -> TextStage:
    """Makes a stage that lasts as long as the swaps."""
    return Stage("bench", tuple(islice(cycle(texts), round(RATE * EVERY_S * NUM_SWAPS))), ())


def _answers_before(service: Service, faker: VersionFaker, texts: tuple[StreamItem, ...]) -> Mapping[str, str | None]:
    """Lets one version alone answer each text. Later versions must give the same answers, each in its own labels."""
    with service.unlabelled(RATE) as participants:
        participants.watcher.wait(partial(_follows, faker.publish()), TAKE_S)
        participants.player.play(0, Stage("bench", texts, ()), RATE)
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
        num_swaps += participants.watcher.wait(partial(_follows, faker.publish()), TAKE_S)
    playing.result()
    return num_swaps


def _follows(revision: int, snapshot: ServiceSnapshot) -> bool:
    return all(report.revision >= revision for report in snapshot.reports)
