"""One scene from its start to its verdict.

start -> load -> fault, heal, recovered, fault, ... -> no more events -> settle -> read back -> stop -> judge
"""

import math
import queue
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

from bench.chaos.draw import drawn
from bench.chaos.faults import Fault
from bench.chaos.ledger import HTTP, KAFKA, ChaosLedger
from bench.chaos.line import Line
from bench.chaos.load import NUM_ASKERS, Asker, ChaosLabeller, Pacer, Reader, Texts
from bench.chaos.oracle import Verdict, judge
from bench.chaos.readback import TopicReader, read_back
from bench.chaos.scene import Scene
from bench.chaos.size import SceneSize
from bench.chaos.timeline import Span, longest_silence_s
from bench.chaos.unkilled import not_the_same
from bench.chaos.watch import LearnerWatch
from evals.load.loops import Loops
from evals.streams.stream import StreamItem
from services.stack import open_store
from wire.bus import Bus
from wire.errors import WireError
from wire.records import WeightManifest

LOOK_S = 0.25
"""Between two looks at whether everything has recovered; the scene starts again what has ended at the same time."""

STUCK_S = 90.0
"""A service that has not recovered by itself after this long is started anew, as an operator would do; it counts."""

SETTLE_S = 240.0
"""For the last answers and labels, when nothing goes wrong any more."""

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneOutcome:
    """What came of a scene."""

    scene: str
    events: int
    labels: int
    kills: int
    faults: int
    verdict: Verdict
    recoveries_s: tuple[float, ...]
    silence_s: dict[str, float]
    """The longest, by track: `http` and `kafka`."""
    http_failures: dict[str, int]
    """Requests that failed although they were repeated once, by the reason."""
    ended_by_itself: int
    """How often the service had to be started again from outside, and nobody had killed it."""
    stuck: int
    """How often it did not recover, and was started anew."""
    dead_letters: int
    not_the_same: tuple[str, ...]
    """What of the last version an undisturbed learner does not come to."""


@dataclass(slots=True)
class _Cast:
    """Who takes part."""

    ledger: ChaosLedger
    line: Line
    labeller: ChaosLabeller
    pacer: Pacer
    watch: LearnerWatch
    loops: Loops


@dataclass(slots=True)
class _Disturbed:
    """What was done to the service, and how it bore it."""

    spans: list[Span] = field(default_factory=list)
    recoveries_s: list[float] = field(default_factory=list)
    stuck: int = 0


def play(scene: Scene, items: list[StreamItem], size: SceneSize, say: Say) -> SceneOutcome:
    """Plays it. The scene is started here, and closed by whoever made it."""
    start_s = time.monotonic()

    def told(text: str) -> None:
        say(f"[{time.monotonic() - start_s:7.1f} s] {scene.name}: {text}")

    for what in scene.missing():
        told(f"left out: {what}")
    scene.start()
    told("it answers")
    faults = drawn(scene.kinds(), kills=size.kills, others=size.others, seed=size.seed)
    with _cast(scene, items, size) as cast:
        begun_s = time.monotonic()
        _wait(scene, cast, lambda: cast.ledger.recovery_s(begun_s) < math.inf, SETTLE_S)
        done = _disturb(scene, cast, faults, size, told)
        ended_s = time.monotonic()
        _wait(scene, cast, lambda: cast.ledger.num_sent >= size.events, math.inf)
        cast.pacer.enough()
        told(f"{cast.ledger.num_sent} events are sent, and nothing goes wrong any more")
        back, published = _settled(scene, cast, told)
    scene.close()
    sent = cast.ledger.as_sent()
    signs = cast.ledger.signs()
    counts = cast.watch.report.counts if cast.watch.report else {}
    told(f"the learner counts {counts}")
    failures = Counter(why for _, why in cast.ledger.http_failures)
    same = not_the_same(scene.where(), back.topics, published) if published else ["no version was published"]
    return SceneOutcome(
        scene=scene.name,
        events=len(sent.sent_s),
        labels=sent.num_labels,
        kills=sum(fault.num_kills for fault in faults),
        faults=len(done.spans),
        verdict=judge(sent, back.found, counts, done.spans),
        recoveries_s=tuple(done.recoveries_s),
        silence_s={track: longest_silence_s(signs[track], begun_s, ended_s) for track in (HTTP, KAFKA)},
        http_failures=dict(failures),
        ended_by_itself=scene.num_ended,
        stuck=done.stuck,
        dead_letters=len(back.letters),
        not_the_same=tuple(same),
    )


@contextmanager
def _cast(scene: Scene, items: list[StreamItem], size: SceneSize) -> Iterator[_Cast]:
    """Everybody at work."""
    texts = Texts(items)
    numbers = queue.Queue[int]()
    ledger = ChaosLedger(http_every=size.http_every, clock_s=time.monotonic)
    line = Line(lambda: scene.where().bus, client_id="chaos")
    labeller = ChaosLabeller(texts, ledger, line, size)
    reader = Reader(scene.where, ledger, labeller)
    watch = LearnerWatch(scene.where, ledger)
    askers = [Asker(scene.where, ledger, labeller, texts, numbers) for _ in range(NUM_ASKERS)]
    pacer = Pacer(ledger, texts, line, numbers, rate=size.rate)
    with Loops(line, labeller, reader, watch, *askers, pacer) as loops:
        yield _Cast(ledger, line, labeller, pacer, watch, loops)


def _disturb(scene: Scene, cast: _Cast, faults: list[Fault], size: SceneSize, told: Say) -> _Disturbed:
    """Lets the faults happen, spread evenly over the events; the next one waits until everything has recovered."""
    done = _Disturbed()
    begun_s = time.monotonic()
    every_s = size.events / size.rate / max(len(faults), 1)
    for place, fault in enumerate(faults):
        _wait_until(scene, cast, begun_s + place * every_s)
        done.spans.append(_happen(scene, cast, fault, told))
        if _recovers(scene, cast, fault, done, told):
            continue
        done.stuck += 1
        told("everything is started anew")
        scene.restart()
        if not _recovers(scene, cast, fault, done, told):
            break
    return done


def _recovers(scene: Scene, cast: _Cast, fault: Fault, done: _Disturbed, told: Say) -> bool:
    """Whether in time what was killed is there again, and then everything lives."""
    ended_s = done.spans[-1].ended_s
    if _wait(scene, cast, fault.is_over, STUCK_S):
        back_s = max(ended_s, time.monotonic() - LOOK_S)
        if _wait(scene, cast, lambda: cast.ledger.recovery_s(back_s) < math.inf, STUCK_S):
            done.recoveries_s.append(back_s - ended_s + cast.ledger.recovery_s(back_s))
            told(f"recovered after {done.recoveries_s[-1]:.1f} s, {cast.ledger.last(back_s)} last")
            return True
    done.recoveries_s.append(math.inf)
    silent = ", ".join(cast.ledger.silent(ended_s)) or "what was killed"
    told(f"NOT RECOVERED after {STUCK_S:g} s: silent: {silent}")
    return False


def _happen(scene: Scene, cast: _Cast, fault: Fault, told: Say) -> Span:
    begun_s = time.monotonic()
    told(f"{fault.name}: {fault.inject() or 'begins'}")
    _wait_until(scene, cast, begun_s + fault.lasts_s)
    fault.heal()
    if fault.lasts_s:
        told(f"{fault.name}: over")
    return Span(fault.name, begun_s, time.monotonic())


def _wait_until(scene: Scene, cast: _Cast, moment_s: float) -> None:
    _wait(scene, cast, lambda: time.monotonic() >= moment_s, math.inf)


def _wait(scene: Scene, cast: _Cast, holds: Callable[[], bool], limit_s: float) -> bool:
    """Whether it holds within the time. Meanwhile the scene and the load are looked after."""
    deadline_s = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > deadline_s:
            return False
        scene.check()
        cast.loops.check()
        time.sleep(LOOK_S)  # signs of life come from several threads: a look is simpler than a wake-up from each
    return True


def _settled(scene: Scene, cast: _Cast, told: Say) -> tuple[TopicReader, WeightManifest | None]:
    """What the topics hold when all is answered, said and counted, or when patience is at its end."""
    ledger = cast.ledger

    def is_said() -> bool:
        return not (ledger.num_unanswered or ledger.num_unlabelled or cast.labeller.num_due or cast.line.num_open)

    if not _wait(scene, cast, is_said, SETTLE_S):
        told(f"{ledger.num_unanswered} events are not answered, {ledger.num_unlabelled} labels not acknowledged")
    with closing(Bus(scene.where().bus, "chaos-readback")) as bus:
        back = read_back(bus)
    num_answers = back.answers.total()
    num_labels = back.labels.total()

    def is_counted() -> bool:
        counts = cast.watch.report.counts if cast.watch.report else {}
        return (counts.get("answers"), counts.get("labels")) == (num_answers, num_labels)

    if not _wait(scene, cast, is_counted, SETTLE_S):
        told(f"{num_answers} answers and {num_labels} labels lie in the topics, and the learner counts others")
    return back, _last_published(scene, cast)


def _last_published(scene: Scene, cast: _Cast) -> WeightManifest | None:
    """The newest version, once there has been no newer one for a while."""
    quiet_s = 5 * scene.where().learner.publish_interval_s
    newest = 0
    since_s = time.monotonic()

    def is_quiet() -> bool:
        nonlocal newest, since_s
        found = cast.watch.newest
        if found != newest:
            newest = found
            since_s = time.monotonic()
        return time.monotonic() - since_s > quiet_s

    _wait(scene, cast, is_quiet, SETTLE_S)
    try:
        with closing(open_store(scene.where())) as store:
            return store.manifest(newest)
    except WireError:
        return None
