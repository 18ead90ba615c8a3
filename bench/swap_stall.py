"""200 versions taken by a replica under load: how long each flip holds up the batches, and whether an answer is mixed.

learner and controller stopped --> 200 times a new version (bench/turned.py) --> flip, at 200 events a second

A stall is the whole pause before the first batch after a flip. Beside each stands the pause before the last batch
without one: what the longest stalls have more than the longest of as many pauses is what the flips add.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import cycle, islice
from time import monotonic, sleep

from bench.row import Goal, Row
from bench.service import Service
from bench.supply import Supply
from bench.turned import VersionFaker, is_mixed, plain
from evals.load.readback import read_back
from evals.load.score import percentiles
from evals.load.session import Participants
from evals.load.watcher import ServiceSnapshot
from evals.streams.stream import Stage, StreamItem
from wire.bus.scan import every_record
from wire.records import Answer

NUM_SWAPS = 200
EVERY_S = 0.2
RATE = 200.0
NUM_TEXTS = 400
TAKE_S = 30.0


def measure(supply: Supply) -> Iterator[Row]:
    service = supply.service()
    service.stack.stop("learner", "rollout")  # versions and plans come from here now
    turner = VersionFaker.of(service.store, service.settings.learner.lease_name)
    texts = service.items[:: max(1, len(service.items) // NUM_TEXTS)]
    before = _answers_before(service, turner, texts)
    with service.unlabelled(RATE) as cast, ThreadPoolExecutor(1) as threads:
        playing = threads.submit(cast.player.play, 0, _load(texts), RATE)
        taken = _swap(turner, cast, playing)
        cast.player.await_answers(at_most=0)
        sleep(2 * service.settings.serving.report_interval_s)  # the last stall comes with the next report
        sight = cast.watcher.sight()
        stalls = percentiles(sight.stalls_ms, 50, 99)
        pauses = percentiles(sight.pauses_ms, 50, 99)
        audit = read_back(service.bus, cast.ledger).found
        mixed = sum(is_mixed(answer, before[answer.text]) for answer in _answers(service, cast))
    supply.stop_service()  # it has no learner any more
    yield Row(name="swap_stall.p99", value=stalls["p99"], unit="ms", goal=Goal("<=", 1))
    yield Row(name="swap_stall.p50", value=stalls["p50"], unit="ms")
    yield Row(name="swap_stall.pause_p99", value=pauses["p99"], unit="ms without a flip")
    yield Row(name="swap_stall.pause_p50", value=pauses["p50"], unit="ms without a flip")
    stall_ms = stalls["p99"]
    pause_ms = pauses["p99"]
    added_ms = None if stall_ms is None or pause_ms is None else round(stall_ms - pause_ms, 3)
    yield Row(name="swap_stall.added", value=added_ms, unit="ms from pause_p99 to p99", goal=Goal("<=", 1))
    yield Row(name="swap_stall.swaps", value=taken, unit="swaps", goal=Goal(">=", NUM_SWAPS))
    yield Row(name="swap_stall.failed", value=audit.lost + audit.duplicates, unit="answers", goal=Goal("<=", 0))
    yield Row(name="swap_stall.mixed", value=mixed, unit="answers", goal=Goal("<=", 0))


def _load(texts: tuple[StreamItem, ...]) -> Stage:
    """Traffic for as long as the swaps take."""
    return Stage("bench", tuple(islice(cycle(texts), round(RATE * EVERY_S * NUM_SWAPS))), ())


def _answers_before(service: Service, turner: VersionFaker, texts: tuple[StreamItem, ...]) -> Mapping[str, str | None]:
    """What one version, alone, says of each text: those to come must say the same, each in its own labels."""
    with service.unlabelled(RATE) as cast:
        cast.watcher.wait(partial(_follows, turner.publish()), TAKE_S)
        cast.player.play(0, Stage("bench", texts, ()), RATE)
        cast.player.await_answers(at_most=0)
        return {answer.text: plain(answer) for answer in _answers(service, cast)}


def _answers(service: Service, cast: Participants) -> Iterator[Answer]:
    """The answers to the events of this cast."""
    for record in every_record(service.bus, [Answer]):
        if cast.ledger.number_of(record.event_id) is not None:
            yield record


def _swap(turner: VersionFaker, cast: Participants, playing: "Future[None]") -> int:
    """Publishes at a steady pace; how many versions were taken by every replica in time."""
    taken = 0
    next_s = monotonic()
    for _ in range(NUM_SWAPS):
        sleep(max(0.0, next_s - monotonic()))
        next_s = monotonic() + EVERY_S
        taken += cast.watcher.wait(partial(_follows, turner.publish()), TAKE_S)
    playing.result()
    return taken


def _follows(revision: int, sight: ServiceSnapshot) -> bool:
    return all(report.revision >= revision for report in sight.reports)
