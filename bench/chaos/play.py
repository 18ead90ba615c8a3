"""Plays one scene from its start to its verdict.

start -> load -> faults (injection.py) -> stop sending events -> settle -> read topics back -> stop the scene -> judge
"""

import math
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

from bench.chaos.faults import Family
from bench.chaos.injection import FaultLog, Injector, Say, draw_faults
from bench.chaos.judge import Interruption, TopicCounts, Verdict, judge, longest_silence_s, revision_regressions
from bench.chaos.ledger import HTTP, IDS, KAFKA
from bench.chaos.recomputed import differing_tensors
from bench.chaos.running import SOURCES, Running, running
from bench.chaos.scene import Missing, Scene, late_labels_kind, select_kinds
from bench.chaos.size import Arm, SceneSize
from evals.load.readback import TopicContents, read_back
from evals.streams.stream import StreamItem
from services.programs import open_store
from wire.bus import Bus
from wire.errors import WireError
from wire.records import Answer, DeadLetter, Event, Feedback, WeightManifest

SETTLE_S = 240.0
"""The time limit for the last answers and labels after the last fault, in seconds."""

QUIET_S = 20.0
"""After this long without an answer, an event in a lost tail is not expected to be answered any more."""

OUTAGES = ("power cut all", "restore of a backup", "change of code")
"""The faults during which no replica runs."""

STORE_LOSSES = ("power cut Redis", "power cut all", "FLUSHALL", "restore of a backup")
"""The faults after which the store may have an older plan."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneOutcome:
    """The result of a scene."""

    scene: str
    arm: Arm
    events: int
    kills: int = 0
    """The number of processes that were killed."""
    cuts: int
    """The number of power cuts."""
    faults: tuple[str, ...]
    """The names of the faults that were injected, in their order."""
    left_out: dict[Missing, str]
    """Missing facility -> the faults that are therefore not possible on this machine."""
    verdict: Verdict
    lost_tails: dict[str, int]
    """The number of events, answers and labels in the tails that power cuts took, and the number of bytes."""
    recoveries_s: dict[Family, tuple[float | None, ...]]
    """Family of faults -> the recovery times. None: the service did not recover. (JSON has no infinity.)"""
    silence_s: dict[str, float] = field(default_factory=dict)
    """Track (`http`, `kafka`) -> the longest time without an answer."""
    http_failures: dict[str, int]
    """Reason -> the number of requests that failed although they were repeated once."""
    ended_by_itself: int
    """How often the service had to be restarted from outside although it was not killed."""
    stuck: int
    """How often the service did not recover, and had to be restarted as a whole."""
    attributed: int
    """The number of sampled answers that equal, bit for bit, the answer of the version that they name."""
    misattributed: tuple[str, ...]
    """The sampled answers that differ from the answer of the version that they name."""
    breaches: tuple[str, ...]
    """The forbidden requests of the attacker that the service accepted."""
    revisions_back: int = 0
    """How often a client saw an older plan than before, although the store had lost nothing in between."""
    are_weights_comparable: bool
    """Whether the topics still have every record that the learner has read."""
    not_the_same: tuple[str, ...] = ()
    """The tensors of the last version that differ from an undisturbed learner's, or why they cannot be compared."""


def play(scene: Scene, items: list[StreamItem], size: SceneSize, say: Say) -> SceneOutcome:
    """Starts a scene, plays it, and closes it. If this raises, the caller closes the scene."""
    start_s = time.monotonic()

    def log(text: str) -> None:
        say(f"[{time.monotonic() - start_s:7.1f} s] {scene.name}, {size.arm}: {text}")

    for reason in scene.missing().values():
        log(f"left out: {reason}")
    scene.start()
    log("the service answers")
    with running(scene, items, size) as load:
        kinds = [
            *scene.kinds(),
            *select_kinds([late_labels_kind(load.labeller.hold, load.labeller.release)], size.only),
        ]
        faults = draw_faults(kinds, kills=size.kills, cuts=size.cuts, others=size.others, seed=size.seed)
        begun_s = time.monotonic()
        load.wait(lambda: load.ledger.recovery_s(begun_s) < math.inf, SETTLE_S)
        injector = Injector(load, size, log)
        injector.inject_all(faults)
        ended_s = time.monotonic()
        load.wait(lambda: load.ledger.num_sent >= size.events, math.inf)
        load.pacer.stop()
        log(f"all {load.ledger.num_sent} events are sent, and all faults are over")
        contents, published = _settle(load, log)
    scene.close()
    log(f"the learner's counters: {load.watch.counts}")
    regressions_s = revision_regressions(load.ledger.replies(), _store_losses_s(injector.log.spans))
    log(f"older plans were seen at {[round(at_s - start_s, 1) for at_s in regressions_s]}")
    outcome = replace(_outcome(scene, load, injector.log, contents), revisions_back=len(regressions_s))
    sent = load.ledger.as_sent()
    for number in outcome.verdict.twice_elsewhere:
        moments_s = (sent.sent_s[number], sent.answered_s[number], load.ledger.answered_again_s(number))
        sent_s, first_s, second_s = (moment_s - start_s for moment_s in moments_s)
        log(f"event {number} has two answers: sent at {sent_s:.1f} s, answered at {first_s:.1f} s and {second_s:.1f} s")
    silence_s = {track: longest_silence_s(load.ledger.heartbeats()[track], begun_s, ended_s) for track in (HTTP, KAFKA)}
    kills = sum(fault.num_kills for fault in faults)
    differing: list[str] = []
    if outcome.are_weights_comparable:
        differing = ["no version was published"]
        if published:
            differing = differing_tensors(scene.settings(), contents.topics, published)
    return replace(outcome, kills=kills, silence_s=silence_s, not_the_same=tuple(differing))


def _outcome(scene: Scene, load: Running, fault_log: FaultLog, contents: TopicContents) -> SceneOutcome:
    sent = load.ledger.as_sent()
    lost = scene.lost
    spans = fault_log.spans
    topics = TopicCounts(
        answers=contents.answers,
        dead_letters=contents.refused,
        labels=contents.labels,
        num_other_labels=contents.num_other_labels,
    )
    return SceneOutcome(
        scene=scene.name,
        arm=load.size.arm,
        events=len(sent.sent_s),
        cuts=sum(span.name.startswith("power cut") for span in spans),
        faults=tuple(span.name for span in spans),
        left_out=scene.missing(),
        verdict=judge(sent, topics, load.watch.counts, spans, lost),
        lost_tails=lost.sizes,
        recoveries_s={family: tuple(times_s) for family, times_s in fault_log.recoveries_s.items()},
        http_failures=_failures(load.ledger.http_failures, spans),
        ended_by_itself=scene.num_unexpected_ends,
        stuck=fault_log.stuck,
        attributed=load.attribution.num_same,
        misattributed=tuple(load.attribution.differing),
        breaches=tuple(scene.api_keys.breaches),
        are_weights_comparable=load.size.arm == "durable" or not lost.numbers,
    )


def _failures(failures: Sequence[tuple[float, str]], spans: Sequence[Interruption]) -> dict[str, int]:
    """Counts the failed requests by reason, except requests during a fault in which no replica runs."""
    outages = [(span.begun_s, span.recovered_s) for span in spans if span.name in OUTAGES]
    counts: Counter[str] = Counter()
    for at_s, reason in failures:
        if not any(begun_s <= at_s <= ended_s for begun_s, ended_s in outages):
            counts[reason] += 1
    return dict(counts)


def _store_losses_s(spans: Sequence[Interruption]) -> list[float]:
    return [span.ended_s for span in spans if span.name.startswith(STORE_LOSSES)]


def _settle(load: Running, log: Say) -> tuple[TopicContents, WeightManifest | None]:
    """Waits until every event is answered and every label is sent and counted, or until the time limit.

    Returns the contents of the topics, and the current version if there is one.
    """
    ledger = load.ledger
    lost = load.scene.lost

    def is_sent() -> bool:
        is_quiet = not ledger.num_excused or ledger.answered_since_s() > QUIET_S
        num_open = ledger.num_unanswered + ledger.num_unlabelled + load.labeller.num_due + load.sender.num_open
        return is_quiet and not num_open

    if not load.wait(is_sent, SETTLE_S):
        log(f"{ledger.num_unanswered} events are not answered, {ledger.num_unlabelled} labels are not acknowledged")
    with closing(Bus(load.scene.settings().bus, "chaos-readback")) as bus:
        empty = TopicContents(IDS.number_of, sources=SOURCES, keeps=True)
        contents = read_back(bus, empty, (Event, Answer, Feedback, DeadLetter))
    num_answers = contents.num_records[Answer.TOPIC]
    num_labels = contents.num_records[Feedback.TOPIC]

    def is_counted() -> bool:
        """Returns whether the learner has counted every record. It may also have counted records of a lost tail."""
        counts = load.watch.counts
        answers = counts.get("answers", 0)
        labels = counts.get("labels", 0)
        if lost.numbers and load.size.arm == "shipped":
            return answers >= num_answers and labels >= num_labels
        return (answers, labels) == (num_answers, num_labels)

    if not load.wait(is_counted, SETTLE_S):
        log(f"the topics hold {num_answers} answers and {num_labels} labels, but the learner counts other numbers")
    return contents, _last_published(load)


def _last_published(load: Running) -> WeightManifest | None:
    """Waits until the current version no longer changes, and returns its manifest; None if the store has none."""
    settings = load.scene.settings()
    quiet_s = max(5.0, 5 * settings.learner.publish_interval_s)
    current = 0
    since_s = time.monotonic()

    def is_quiet() -> bool:
        nonlocal current, since_s
        version = load.watch.current
        if version != current:
            current = version
            since_s = time.monotonic()
        return time.monotonic() - since_s > quiet_s

    load.wait(is_quiet, SETTLE_S)
    try:
        with closing(open_store(load.scene.settings())) as store:
            return store.versions.manifest(current)
    except WireError:
        return None
