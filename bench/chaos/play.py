"""Plays one scene from its start to its verdict.

start -> load -> fault, heal, recovered, fault, ... -> no more events -> settle -> read back -> stop -> judge
Rejected: faults at drawn moments. A second one before the first is over would hide how long recovery takes.
"""

import math
import queue
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace

from bench.chaos.draw import draw_faults
from bench.chaos.faults import Fault
from bench.chaos.ledger import HTTP, KAFKA, ChaosLedger
from bench.chaos.load import NUM_ASKERS, Asker, ChaosLabeller, Pacer, Reader, Texts
from bench.chaos.oracle import Verdict, judge
from bench.chaos.readback import TopicContents, read_back
from bench.chaos.retrying import RetryingPublisher
from bench.chaos.scene import Missing, Scene
from bench.chaos.size import SceneSize
from bench.chaos.timeline import Interruption, longest_silence_s
from bench.chaos.undisturbed import differing_tensors
from bench.chaos.watch import LearnerWatch
from evals.load.loops import Loops
from evals.streams.stream import StreamItem
from services.programs import open_store
from wire.bus import Bus
from wire.errors import WireError
from wire.records import WeightManifest

POLL_INTERVAL_S = 0.25
"""The time between two checks for recovery. At each check the scene also restarts what has ended."""

STUCK_S = 90.0
"""A service that has not recovered by itself after this long is started anew, as an operator would do, and counted."""

SETTLE_S = 240.0
"""The limit for the last answers and labels, after the last fault."""

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneOutcome:
    """The result of a scene."""

    scene: str
    events: int
    kills: int
    """The number of processes that were killed."""
    faults: tuple[str, ...]
    """The names of the faults that were injected, in their order."""
    left_out: dict[Missing, str]
    """The faults that are not possible here, and why, by what is missing."""
    verdict: Verdict
    recoveries_s: tuple[float, ...]
    silence_s: dict[str, float]
    """The longest time without an answer, by track: `http` and `kafka`."""
    http_failures: dict[str, int]
    """The requests that failed although they were repeated once, by the reason."""
    ended_by_itself: int
    """How often the service had to be restarted from outside although it was not killed."""
    stuck: int
    """How often the service did not recover, and was started anew."""
    not_the_same: tuple[str, ...]
    """The tensors of the last version that differ from those of an undisturbed learner, or why there are none."""


@dataclass(slots=True)
class _Load:
    """The parts of the load that a scene is played with."""

    ledger: ChaosLedger
    publisher: RetryingPublisher
    labeller: ChaosLabeller
    pacer: Pacer
    watch: LearnerWatch
    loops: Loops


@dataclass(slots=True)
class _FaultLog:
    """The faults that were injected, and the recovery from each."""

    spans: list[Interruption] = field(default_factory=list)
    recoveries_s: list[float] = field(default_factory=list)
    stuck: int = 0


def play(scene: Scene, items: list[StreamItem], size: SceneSize, say: Say) -> SceneOutcome:
    """Plays a scene, which is started here and closed at the end; the caller closes it where this fails."""
    start_s = time.monotonic()

    def log(text: str) -> None:
        say(f"[{time.monotonic() - start_s:7.1f} s] {scene.name}: {text}")

    for what in scene.missing().values():
        log(f"left out: {what}")
    scene.start()
    log("it answers")
    faults = draw_faults(scene.kinds(), kills=size.kills, others=size.others, seed=size.seed)
    with _running_load(scene, items, size) as load:
        begun_s = time.monotonic()
        _wait(scene, load, lambda: load.ledger.recovery_s(begun_s) < math.inf, SETTLE_S)
        fault_log = _inject_all(scene, load, faults, size, log)
        ended_s = time.monotonic()
        _wait(scene, load, lambda: load.ledger.num_sent >= size.events, math.inf)
        load.pacer.stop()
        log(f"{load.ledger.num_sent} events are sent, and nothing goes wrong any more")
        back, published = _settle(scene, load, log)
    scene.close()
    sent = load.ledger.as_sent()
    heartbeats = load.ledger.heartbeats()
    counts = load.watch.counts
    log(f"the learner counts {counts}")
    differing = ["no version was published"]
    if published:
        differing = differing_tensors(scene.settings(), back.topics, published)
    return SceneOutcome(
        scene=scene.name,
        events=len(sent.sent_s),
        kills=sum(fault.num_kills for fault in faults),
        faults=tuple(span.name for span in fault_log.spans),
        left_out=scene.missing(),
        verdict=judge(sent, back.counts, counts, fault_log.spans),
        recoveries_s=tuple(fault_log.recoveries_s),
        silence_s={track: longest_silence_s(heartbeats[track], begun_s, ended_s) for track in (HTTP, KAFKA)},
        http_failures=dict(Counter(why for _, why in load.ledger.http_failures)),
        ended_by_itself=scene.num_ended,
        stuck=fault_log.stuck,
        not_the_same=tuple(differing),
    )


@contextmanager
def _running_load(scene: Scene, items: list[StreamItem], size: SceneSize) -> Iterator[_Load]:
    """Runs all parts of the load."""
    texts = Texts(items)
    numbers = queue.Queue[int]()
    ledger = ChaosLedger(http_every=size.http_every, clock_s=time.monotonic)
    publisher = RetryingPublisher(lambda: scene.settings().bus, client_id="chaos")
    labeller = ChaosLabeller(texts, ledger, publisher, size)
    reader = Reader(scene.settings, ledger, labeller)
    watch = LearnerWatch(scene.settings, ledger)
    askers = [Asker(scene.settings, ledger, labeller, texts, numbers) for _ in range(NUM_ASKERS)]
    pacer = Pacer(ledger, texts, publisher, numbers, rate=size.rate)
    with Loops(publisher, labeller, reader, watch, *askers, pacer) as loops:
        yield _Load(ledger, publisher, labeller, pacer, watch, loops)


def _inject_all(scene: Scene, load: _Load, faults: list[Fault], size: SceneSize, log: Say) -> _FaultLog:
    """Injects the faults, spread evenly over the events. Each waits until everything has recovered from the last."""
    fault_log = _FaultLog()
    begun_s = time.monotonic()
    every_s = size.events / size.rate / max(len(faults), 1)
    for place, fault in enumerate(faults):
        _wait_until(scene, load, begun_s + place * every_s)
        fault_log.spans.append(_inject(scene, load, fault, log))
        if _recovers(scene, load, fault, fault_log, log):
            continue
        fault_log.stuck += 1
        log("everything is started anew")
        scene.restart()
        if not _recovers(scene, load, fault, fault_log, log):
            break
    return fault_log


def _recovers(scene: Scene, load: _Load, fault: Fault, fault_log: _FaultLog, log: Say) -> bool:
    """Waits for recovery; returns whether what was killed came back in time, and then every track had a heartbeat."""
    ended_s = fault_log.spans[-1].ended_s
    if _wait(scene, load, fault.is_over, STUCK_S):
        back_s = max(ended_s, time.monotonic() - POLL_INTERVAL_S)
        if _wait(scene, load, lambda: load.ledger.recovery_s(back_s) < math.inf, STUCK_S):
            recovery_s = back_s - ended_s + load.ledger.recovery_s(back_s)
            fault_log.recoveries_s.append(recovery_s)
            fault_log.spans[-1] = replace(fault_log.spans[-1], recovered_s=ended_s + recovery_s)
            log(f"recovered after {recovery_s:.1f} s, {load.ledger.last_recovered(back_s)} last")
            return True
    fault_log.recoveries_s.append(math.inf)
    silent = ", ".join(load.ledger.silent(ended_s)) or "what was killed"
    log(f"NOT RECOVERED after {STUCK_S:g} s: silent: {silent}")
    return False


def _inject(scene: Scene, load: _Load, fault: Fault, log: Say) -> Interruption:
    begun_s = time.monotonic()
    log(f"{fault.name}: {fault.inject() or 'begins'}")
    _wait_until(scene, load, begun_s + fault.lasts_s)
    fault.heal()
    if fault.lasts_s:
        log(f"{fault.name}: over")
    return Interruption(fault.name, begun_s, time.monotonic())


def _wait_until(scene: Scene, load: _Load, moment_s: float) -> None:
    _wait(scene, load, lambda: time.monotonic() >= moment_s, math.inf)


def _wait(scene: Scene, load: _Load, holds: Callable[[], bool], limit_s: float) -> bool:
    """Waits until the condition holds; returns whether it did in time. Meanwhile the scene and the load are checked."""
    deadline_s = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > deadline_s:
            return False
        scene.check()
        load.loops.check()
        time.sleep(POLL_INTERVAL_S)  # heartbeats come from several threads: polling is simpler than a notice from each
    return True


def _settle(scene: Scene, load: _Load, log: Say) -> tuple[TopicContents, WeightManifest | None]:
    """Waits until all is answered, sent and counted, or the limit is over; returns what the topics hold then."""
    ledger = load.ledger

    def is_sent() -> bool:
        return not (ledger.num_unanswered or ledger.num_unlabelled or load.labeller.num_due or load.publisher.num_open)

    if not _wait(scene, load, is_sent, SETTLE_S):
        log(f"{ledger.num_unanswered} events are not answered, {ledger.num_unlabelled} labels not acknowledged")
    with closing(Bus(scene.settings().bus, "chaos-readback")) as bus:
        back = read_back(bus)
    num_answers = back.answers.total()
    num_labels = back.labels.total()

    def is_counted() -> bool:
        counts = load.watch.counts
        return (counts.get("answers"), counts.get("labels")) == (num_answers, num_labels)

    if not _wait(scene, load, is_counted, SETTLE_S):
        log(f"{num_answers} answers and {num_labels} labels lie in the topics, and the learner counts others")
    return back, _last_published(scene, load)


def _last_published(scene: Scene, load: _Load) -> WeightManifest | None:
    """The current version, once it has been current for a while."""
    quiet_s = max(5.0, 5 * scene.settings().learner.publish_interval_s)
    current = 0
    since_s = time.monotonic()

    def is_quiet() -> bool:
        nonlocal current, since_s
        version = load.watch.current
        if version != current:
            current = version
            since_s = time.monotonic()
        return time.monotonic() - since_s > quiet_s

    _wait(scene, load, is_quiet, SETTLE_S)
    try:
        with closing(open_store(scene.settings())) as store:
            return store.versions.manifest(current)
    except WireError:
        return None
